//! Tokens that are signed here, by a clock that is moved: the library would ask the machine's.

use adapters::clock::{Clock, ManualClock};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine, prelude::BASE64_STANDARD};
use openidconnect::{
    AccessToken, AuthUrl, EmptyExtraTokenFields, IdToken, IdTokenClaims, IdTokenFields,
    JsonWebKeyId, JsonWebKeySet, JsonWebKeySetUrl, LogoutProviderMetadata, PrivateSigningKey,
    StandardClaims, SubjectIdentifier,
    core::{
        CoreEdDsaPrivateSigningKey, CoreResponseType, CoreSubjectIdentifierType, CoreTokenType,
    },
    {Audience, ResponseTypes},
};

use super::*;
use crate::oidc::provider::{Metadata, More};

const ISSUER: &str = "https://id.example.com";
const NONCE: &str = "a-nonce";

fn url<T>(make: impl Fn(String) -> Result<T, url::ParseError>, path: &str) -> T {
    make(format!("{ISSUER}{path}")).unwrap()
}

struct Signer {
    key: CoreEdDsaPrivateSigningKey,
    now: DateTime<Utc>,
}

impl Signer {
    fn new(now: DateTime<Utc>) -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let der = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key);
        let der = BASE64_STANDARD.encode(der.unwrap().as_ref());
        let kind = ["PRIVATE", "KEY"].join(" ");
        let pem = format!("-----BEGIN {kind}-----\n{der}\n-----END {kind}-----\n");
        let id = JsonWebKeyId::new("one".into());
        Self {
            key: CoreEdDsaPrivateSigningKey::from_ed25519_pem(&pem, Some(id)).unwrap(),
            now,
        }
    }

    fn known(&self, clock: &ManualClock) -> Known {
        let metadata = Metadata::new(
            url(IssuerUrl::new, ""),
            url(AuthUrl::new, "/auth"),
            url(JsonWebKeySetUrl::new, "/jwks"),
            vec![ResponseTypes::new(vec![CoreResponseType::Code])],
            vec![CoreSubjectIdentifierType::Public],
            vec![CoreJwsSigningAlgorithm::EdDsa],
            LogoutProviderMetadata {
                end_session_endpoint: None,
                additional_metadata: More::default(),
            },
        );
        let keys = JsonWebKeySet::new(vec![self.key.as_verification_key()]);
        Known::new(metadata, keys, clock.instant())
    }

    /// An answer whose token was issued so many seconds from now, and runs out so many from now.
    fn answer(&self, issued: i64, runs_out: i64, of: &str) -> TokenAnswer {
        let at = |seconds| self.now + TimeDelta::seconds(seconds);
        let claims = IdTokenClaims::new(
            url(IssuerUrl::new, ""),
            vec![Audience::new("weft".into())],
            at(runs_out),
            at(issued),
            StandardClaims::new(SubjectIdentifier::new("ada".into())),
            Session { sid: None },
        )
        .set_nonce(Some(Nonce::new(NONCE.into())));
        let token = IdToken::new(
            claims,
            &self.key,
            CoreJwsSigningAlgorithm::EdDsa,
            Some(&AccessToken::new(of.into())),
            None,
        );
        TokenAnswer::new(
            AccessToken::new("opaque".into()),
            CoreTokenType::Bearer,
            IdTokenFields::new(Some(token.unwrap()), EmptyExtraTokenFields {}),
        )
    }
}

#[test]
fn a_minute_either_way_by_our_clock() {
    let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    let clock = ManualClock::new(now);
    let signer = Signer::new(now);
    let known = signer.known(&clock);
    let config = ProviderConfig {
        name: "corp".into(),
        issuer: ISSUER.into(),
        client_id: "weft".into(),
        client_secret: None,
        label: "Corp".into(),
        scopes: vec![],
        email_domains: vec![],
    };
    let check = |answer: &TokenAnswer, nonce: &str| {
        verify(&config, &known, answer, nonce, clock.now()).map(|person| person.subject)
    };
    for (issued, runs_out, good) in [
        (0, 300, true),
        (60, 300, true),
        (61, 300, false),
        (-60, 300, true),
        (-61, 300, false),
        (-30, -59, true),
        (-30, -60, false),
    ] {
        let checked = check(&signer.answer(issued, runs_out, "opaque"), NONCE);
        assert_eq!(checked.is_ok(), good, "{issued} {runs_out}: {checked:?}");
    }
    let good = signer.answer(0, 300, "opaque");
    assert_eq!(check(&good, NONCE).unwrap(), "ada");
    assert!(matches!(
        check(&good, "another"),
        Err(Untrusted::Claims(ClaimsVerificationError::InvalidNonce(_)))
    ));
    let of_another = signer.answer(0, 300, "of-another");
    assert!(matches!(
        check(&of_another, NONCE),
        Err(Untrusted::AccessToken)
    ));
    // signed by a key of the same name that is not the provider's
    let forged = Signer::new(now).answer(0, 300, "opaque");
    assert!(matches!(check(&forged, NONCE), Err(Untrusted::Key)));
}
