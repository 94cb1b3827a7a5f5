//! What a provider's token of identity must be before it is believed (OpenID Connect Core 1.0, 3.1.3.7, and more strictly).

use adapters::sealing::{Secret, equal};
use chrono::{DateTime, TimeDelta, Utc};
use openidconnect::{
    AccessTokenHash, AdditionalClaims, ClaimsVerificationError, ClientId, EmptyAdditionalClaims,
    IdTokenVerifier, IssuerUrl, Nonce, OAuth2TokenResponse, SignatureVerificationError,
    TokenResponse, UserInfoClaims,
    core::{CoreGenderClaim, CoreJsonWebKey, CoreJwsSigningAlgorithm},
};
use serde::{Deserialize, Serialize};

use super::{
    ProviderConfig,
    provider::{Known, TokenAnswer},
};
use crate::sessions;

/// How far a provider's clock may be off.
pub(super) const LEEWAY: TimeDelta = TimeDelta::seconds(60);

/// By what tokens may be signed: never by a secret that both sides know, never by nothing.
pub(super) const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Characters of a subject (OpenID Connect Core 1.0, 2) and of a session's name that are taken.
const SUBJECT: usize = 255;
/// Characters of a name.
const NAME: usize = 200;
/// Bytes of a token that are kept to sign out by.
const KEPT: usize = 16 * 1024;

/// The provider's session, in its token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Session {
    sid: Option<String>,
}

impl AdditionalClaims for Session {}

/// What a provider says of somebody where it is asked.
pub(super) type Told = UserInfoClaims<EmptyAdditionalClaims, CoreGenderClaim>;

/// Whom a provider vouches for.
#[derive(Debug, Clone)]
pub(super) struct Person {
    /// The provider, as it names itself.
    pub(super) issuer: String,
    /// The account there.
    pub(super) subject: String,
    /// Whether the token tells an address at all: many leave it to be asked for.
    pub(super) is_email_said: bool,
    /// An address that the provider says it has proved.
    pub(super) email: Option<String>,
    /// A name for people.
    pub(super) name: Option<String>,
    /// The provider's session.
    pub(super) sid: Option<String>,
    /// The token itself.
    pub(super) token: Secret,
}

/// Why a token is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untrusted {
    /// The answer holds none.
    #[error("the answer has no token of identity")]
    Missing,
    /// Signed by a key that is not known, or no longer.
    #[error("the token is signed by a key that is not known")]
    Key,
    /// A claim or the signature is not what it must be.
    #[error("{0}")]
    Claims(ClaimsVerificationError),
    /// It was given to another client.
    #[error("`azp` is another client")]
    Party,
    /// It belongs to another access token.
    #[error("`at_hash` is of another access token")]
    AccessToken,
    /// The account's name can't be stored.
    #[error("`sub` is empty, too long or has control characters")]
    Subject,
}

impl From<ClaimsVerificationError> for Untrusted {
    fn from(error: ClaimsVerificationError) -> Self {
        match error {
            ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey
                | SignatureVerificationError::CryptoError(_),
            ) => Self::Key,
            error => Self::Claims(error),
        }
    }
}

/// Whom the token in an answer is about, where it is good at `now`.
pub(super) fn verify(
    config: &ProviderConfig,
    known: &Known,
    answer: &TokenAnswer,
    nonce: &str,
    now: DateTime<Utc>,
) -> Result<Person, Untrusted> {
    let token = answer.id_token().ok_or(Untrusted::Missing)?;
    let client = ClientId::new(config.client_id.clone());
    let issuer = known.metadata.issuer().clone();
    let verifier = verifier(client.clone(), issuer, known, now);
    let claims = token.claims(&verifier, &Nonce::new(nonce.to_owned()))?;
    if claims
        .authorized_party()
        .is_some_and(|party| *party != client)
    {
        return Err(Untrusted::Party);
    }
    if let Some(hash) = claims.access_token_hash() {
        let ours = token.signing_alg().and_then(|algorithm| {
            let key = token.signing_key(&verifier)?;
            AccessTokenHash::from_token(answer.access_token(), algorithm, key)
                .map_err(|error| SignatureVerificationError::Other(error.to_string()))
        });
        let is_ours = ours.is_ok_and(|ours| equal(ours.as_bytes(), hash.as_bytes()));
        if !is_ours {
            return Err(Untrusted::AccessToken);
        }
    }
    let subject = claims.subject().as_str();
    if !may_be_kept(subject) {
        return Err(Untrusted::Subject);
    }
    let email = claims.email().map(|email| email.as_str());
    let named = claims.name().and_then(|name| name.get(None));
    let named = named.map(|name| name.as_str());
    let other = claims.preferred_username().map(|name| name.as_str());
    let sid = claims.additional_claims().sid.clone();
    Ok(Person {
        issuer: claims.issuer().as_str().to_owned(),
        subject: subject.to_owned(),
        is_email_said: email.is_some(),
        email: proven(email, claims.email_verified()),
        name: named.or(other).and_then(name),
        sid: sid.filter(|sid| may_be_kept(sid)),
        token: Secret::new(token.to_string()),
    })
}

impl Person {
    /// Adds what the provider says of the same person where it is asked.
    pub(super) fn add(&mut self, told: &Told) {
        let email = told.email().map(|email| email.as_str());
        self.email = proven(email, told.email_verified());
        let named = told.name().and_then(|name| name.get(None));
        let named = named.and_then(|told| name(told.as_str()));
        self.name = self.name.take().or(named);
    }

    /// The token, where it is short enough to be kept.
    pub(super) fn token_to_keep(&self) -> Option<&str> {
        Some(self.token.expose()).filter(|token| token.len() <= KEPT)
    }
}

fn verifier(
    client: ClientId,
    issuer: IssuerUrl,
    known: &Known,
    now: DateTime<Utc>,
) -> IdTokenVerifier<'static, CoreJsonWebKey> {
    // No other audience is trusted: that is the library's default.
    IdTokenVerifier::new_public_client(client, issuer, known.keys.clone())
        .set_allowed_algs(ALGORITHMS)
        .set_time_fn(move || now - LEEWAY)
        .set_issue_time_verifier_fn(move |at| match (at - now).abs() <= LEEWAY {
            true => Ok(()),
            false => Err(format!("issued at {at}, by a clock that says {now} here")),
        })
}

/// Whether a provider's name for something can be stored and compared.
pub(super) fn may_be_kept(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= SUBJECT && !text.chars().any(char::is_control)
}

/// The address, if it can be one and the provider says that it has proved it.
fn proven(email: Option<&str>, is_verified: Option<bool>) -> Option<String> {
    let email = email.filter(|_| is_verified == Some(true))?.trim();
    let fits = crate::set_up::email(&[], email).is_ok();
    fits.then(|| email.to_owned())
}

/// A name as people may be shown it.
fn name(text: &str) -> Option<String> {
    let text = sessions::shown(text);
    let text: String = text.trim().chars().take(NAME).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
