//! The two tokens of a session: the access token, which names the session and is good for an hour, and the refresh token, which
//! will be exchanged for the next pair.

use adapters::sealing::{Keyring, Secret};
use chrono::{DateTime, TimeDelta, Utc};
use entities::{SessionId, TenantId, UserId, session};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base62;

/// For how long an access token is good.
pub const ACCESS_TOKEN_LASTS: TimeDelta = TimeDelta::hours(1);
/// The `aud` of access tokens.
pub const AUDIENCE: &str = "weft";
/// What refresh tokens begin with.
pub const REFRESH_PREFIX: &str = "weft_rt_";

/// The `typ` of access tokens (RFC 9068, 2.1).
const TYPE: &str = "at+jwt";
/// Clocks of replicas may differ by this much.
const LEEWAY: TimeDelta = TimeDelta::seconds(5);
/// Bytes of the longest access token that is looked at; ours have about 600.
const MOST_BYTES: usize = 2048;
/// The label of the key that refresh tokens are authenticated with.
const REFRESH_LABEL: &str = "refresh token";

/// The claims of an access token (RFC 7519). No role and no permission: these are read at each request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    /// The user's id, as clients write it.
    pub(crate) sub: String,
    /// The session's id.
    pub(crate) sid: String,
    /// The tenant's id.
    pub(crate) ten: String,
    /// Which pair of tokens it belongs to.
    pub(crate) rot: i64,
    /// Seconds since 1970.
    pub(crate) iat: i64,
    pub(crate) exp: i64,
    pub(crate) jti: String,
}

/// What an access token says, once it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) session: SessionId,
    pub(crate) user: UserId,
    pub(crate) tenant: TenantId,
    pub(crate) rotation: i64,
    pub(crate) expires_at: DateTime<Utc>,
}

/// Why an access token is not believed. For traces: clients get one answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("token is longer than {MOST_BYTES} bytes")]
    Long,
    #[error("token names no key")]
    NoKey,
    #[error("token is not of the type {TYPE}")]
    Type,
    #[error("token is malformed, wrongly signed, or meant for others")]
    Wrong(#[from] jsonwebtoken::errors::Error),
    #[error("token ran out")]
    Expired,
    #[error("token is from the future, or lasts too long")]
    Times,
    #[error("token names something that is no id")]
    Ids,
}

/// When an access token for `session` runs out that is issued at `now`: no later than the session itself.
pub(crate) fn runs_out(session: &session::Model, now: DateTime<Utc>) -> DateTime<Utc> {
    (now + ACCESS_TOKEN_LASTS).min(session.ends_at)
}

/// The claims of an access token for `session` in `tenant`, issued at `now`.
pub(crate) fn claims(
    issuer: &str,
    session: &session::Model,
    tenant: TenantId,
    now: DateTime<Utc>,
    jti: Uuid,
) -> Claims {
    Claims {
        iss: issuer.to_owned(),
        aud: AUDIENCE.to_owned(),
        sub: session.user_id.to_string(),
        sid: session.id.to_string(),
        ten: tenant.to_string(),
        rot: session.rotation,
        iat: now.timestamp(),
        exp: runs_out(session, now).timestamp(),
        jti: jti.to_string(),
    }
}

/// Signs with Ed25519 (RFC 8037).
///
/// # Errors
/// The key is none.
pub(crate) fn sign(
    claims: &Claims,
    kid: &str,
    key: &EncodingKey,
) -> Result<Secret, jsonwebtoken::errors::Error> {
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some(TYPE.to_owned());
    header.kid = Some(kid.to_owned());
    jsonwebtoken::encode(&header, claims, key).map(Secret::new)
}

/// The `kid` of a token that may be one of ours. Nothing of it is believed yet.
///
/// # Errors
/// It can't be one of ours.
pub(crate) fn kid(token: &str) -> Result<Uuid, TokenError> {
    if token.len() > MOST_BYTES {
        return Err(TokenError::Long);
    }
    let header = jsonwebtoken::decode_header(token)?;
    header
        .kid
        .as_deref()
        .and_then(|kid| Uuid::try_parse(kid).ok())
        .ok_or(TokenError::NoKey)
}

/// Believes a token, or says why not. By RFC 8725 the algorithm, type, issuer and audience are the ones expected, not the ones
/// it names.
///
/// # Errors
/// It is not an access token of ours that is good at `now`.
pub(crate) fn verify(
    token: &str,
    key: &DecodingKey,
    issuer: &str,
    now: DateTime<Utc>,
) -> Result<Access, TokenError> {
    if token.len() > MOST_BYTES {
        return Err(TokenError::Long);
    }
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    // By our clock, below: the library asks the machine's.
    validation.validate_exp = false;
    let token = jsonwebtoken::decode::<Claims>(token, key, &validation)?;
    if token.header.typ.as_deref() != Some(TYPE) || token.header.crit.is_some() {
        return Err(TokenError::Type);
    }
    let claims = token.claims;
    let (Some(issued), Some(expires_at)) = (
        DateTime::from_timestamp(claims.iat, 0),
        DateTime::from_timestamp(claims.exp, 0),
    ) else {
        return Err(TokenError::Times);
    };
    if now - expires_at > LEEWAY {
        return Err(TokenError::Expired);
    }
    if issued - now > LEEWAY || expires_at - issued > ACCESS_TOKEN_LASTS {
        return Err(TokenError::Times);
    }
    let (Ok(session), Ok(user), Ok(tenant)) =
        (claims.sid.parse(), claims.sub.parse(), claims.ten.parse())
    else {
        return Err(TokenError::Ids);
    };
    Ok(Access {
        session,
        user,
        tenant,
        rotation: claims.rot,
        expires_at: expires_at + LEEWAY,
    })
}

/// The refresh token of a pair: `weft_rt_` and 76 characters of base 62, which are the session's id, the rotation number and an
/// HMAC of both. It is the same whenever it is made, and stored nowhere.
pub(crate) fn refresh(keyring: &Keyring, session: SessionId, rotation: i64) -> Secret {
    let mut bytes = [0; 56];
    bytes[..16].copy_from_slice(session.0.as_bytes());
    bytes[16..24].copy_from_slice(&rotation.to_be_bytes());
    let mac = keyring.mac(REFRESH_LABEL, &bytes[..24]);
    bytes[24..].copy_from_slice(&mac);
    Secret::new(format!("{REFRESH_PREFIX}{}", base62::encode(&bytes)))
}

/// The session and rotation number of a refresh token that we made, under the current or the previous secret key.
pub(crate) fn read_refresh(keyring: &Keyring, token: &str) -> Option<(SessionId, i64)> {
    let bytes: [u8; 56] = base62::decode(token.strip_prefix(REFRESH_PREFIX)?)?;
    let (named, mac) = bytes.split_at(24);
    if !keyring.verify_mac(REFRESH_LABEL, named, mac) {
        return None;
    }
    let (session, rotation) = named.split_first_chunk::<16>()?;
    Some((
        SessionId(Uuid::from_bytes(*session)),
        i64::from_be_bytes(rotation.try_into().ok()?),
    ))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{Ed25519KeyPair, KeyPair},
    };
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use entities::CredentialKind;
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://weft.example";

    fn keys() -> (EncodingKey, DecodingKey, Vec<u8>) {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let public = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref())
            .unwrap()
            .public_key()
            .as_ref()
            .to_vec();
        (
            EncodingKey::from_ed_der(pkcs8.as_ref()),
            DecodingKey::from_ed_der(&public),
            public,
        )
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap()
    }

    fn good() -> Claims {
        let session = session::Model {
            provider: None,
            identity_id: None,
            provider_sid: None,
            sealed_id_token: None,
            id: SessionId(Uuid::from_u128(1)),
            user_id: UserId(Uuid::from_u128(2)),
            tenant_id: TenantId(Uuid::from_u128(3)),
            credential: CredentialKind::PasswordSession,
            rotation: 4,
            rotated_at: None,
            used_rotation: 0,
            user_agent: None,
            address: None,
            created_at: now(),
            last_seen_at: now(),
            expires_at: now(),
            ends_at: now() + TimeDelta::days(1),
            ended_at: None,
        };
        claims(
            ISSUER,
            &session,
            session.tenant_id,
            now(),
            Uuid::from_u128(5),
        )
    }

    #[test]
    fn a_good_one_is_believed() {
        let (private, public, _) = keys();
        let kid_of = Uuid::from_u128(9);
        let token = sign(&good(), &kid_of.to_string(), &private).unwrap();
        assert_eq!(kid(token.expose()).unwrap(), kid_of);
        let access = verify(token.expose(), &public, ISSUER, now()).unwrap();
        assert_eq!(
            (
                access.session.0.as_u128(),
                access.user.0.as_u128(),
                access.tenant.0.as_u128()
            ),
            (1, 2, 3)
        );
        assert!(
            verify(
                token.expose(),
                &public,
                ISSUER,
                now() + TimeDelta::seconds(3605)
            )
            .is_ok()
        );
        let late = verify(
            token.expose(),
            &public,
            ISSUER,
            now() + TimeDelta::seconds(3606),
        );
        assert!(matches!(late, Err(TokenError::Expired)), "{late:?}");
        assert!(
            verify(
                token.expose(),
                &public,
                ISSUER,
                now() - TimeDelta::seconds(5)
            )
            .is_ok()
        );
        let early = verify(
            token.expose(),
            &public,
            ISSUER,
            now() - TimeDelta::seconds(6),
        );
        assert!(matches!(early, Err(TokenError::Times)), "{early:?}");
    }

    #[test]
    fn forgeries_are_not() {
        let (private, public, public_bytes) = keys();
        let (strangers, _, _) = keys();
        let with = |change: fn(&mut Claims)| {
            let mut claims = good();
            change(&mut claims);
            sign(&claims, "k", &private).unwrap().expose().to_owned()
        };
        let typed = |typ: Option<&str>, crit: Option<Vec<String>>| {
            let mut header = Header::new(Algorithm::EdDSA);
            header.typ = typ.map(str::to_owned);
            header.crit = crit;
            jsonwebtoken::encode(&header, &good(), &private).unwrap()
        };
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let body = part(serde_json::to_value(good()).unwrap());
        let signed = with(|_| ());
        let (rest, signature) = signed.rsplit_once('.').unwrap();
        let mut hs = Header::new(Algorithm::HS256);
        hs.typ = Some(TYPE.into());
        let missing = {
            let mut claims = serde_json::to_value(good()).unwrap();
            claims.as_object_mut().unwrap().remove("aud");
            let mut header = Header::new(Algorithm::EdDSA);
            header.typ = Some(TYPE.into());
            jsonwebtoken::encode(&header, &claims, &private).unwrap()
        };
        let forgeries = [
            (
                "alg none",
                format!("{}.{body}.", part(json!({"alg": "none", "typ": TYPE}))),
            ),
            (
                "alg none, capital",
                format!(
                    "{}.{body}.{signature}",
                    part(json!({"alg": "None", "typ": TYPE}))
                ),
            ),
            ("no signature", format!("{rest}.")),
            (
                "HS256 with the public key",
                jsonwebtoken::encode(&hs, &good(), &EncodingKey::from_secret(&public_bytes))
                    .unwrap(),
            ),
            (
                "another's key",
                sign(&good(), "k", &strangers).unwrap().expose().to_owned(),
            ),
            (
                "wrong issuer",
                with(|claims| claims.iss = "https://weft.example.evil".into()),
            ),
            ("wrong audience", with(|claims| claims.aud = "other".into())),
            ("no audience", missing),
            ("wrong type", typed(Some("JWT"), None)),
            ("no type", typed(None, None)),
            (
                "critical extension",
                typed(Some(TYPE), Some(vec!["exp".into()])),
            ),
            (
                "expired",
                with(|claims| (claims.iat, claims.exp) = (claims.iat - 7200, claims.iat - 3600)),
            ),
            ("for ever", with(|claims| claims.exp += 1)),
            (
                "from the future",
                with(|claims| (claims.iat, claims.exp) = (claims.iat + 60, claims.exp + 60)),
            ),
            ("end of time", with(|claims| claims.exp = i64::MAX)),
            ("before time", with(|claims| claims.iat = i64::MIN)),
            ("no id", with(|claims| claims.sid = "session_1".into())),
            (
                "another's id",
                with(|claims| claims.sub = claims.sid.clone()),
            ),
            ("long", with(|claims| claims.jti = "x".repeat(2048))),
            ("changed", signed.replacen('.', ".e", 1)),
            ("nothing", String::new()),
            ("dots", "..".into()),
            ("text", "é.é.é".into()),
        ];
        for (what, token) in &forgeries {
            assert!(verify(token, &public, ISSUER, now()).is_err(), "{what}");
        }
        assert!(
            verify(&signed, &public, ISSUER, now()).is_ok(),
            "the measure of all these"
        );
    }

    #[test]
    fn which_key_signed() {
        let (private, _, _) = keys();
        assert!(matches!(
            kid(sign(&good(), "no uuid", &private).unwrap().expose()),
            Err(TokenError::NoKey)
        ));
        assert!(matches!(kid(&"x".repeat(5000)), Err(TokenError::Long)));
        assert!(kid("a.b.c").is_err() && kid("").is_err());
    }

    #[test]
    fn refresh_tokens_are_ours_alone() {
        let ring = Keyring::new([1; 32], None);
        let id = SessionId(Uuid::from_u128(77));
        let token = refresh(&ring, id, 3);
        assert_eq!(token.expose().len(), REFRESH_PREFIX.len() + 76);
        assert_eq!(read_refresh(&ring, token.expose()), Some((id, 3)));
        assert_eq!(token, refresh(&ring, id, 3), "two tabs get the same");
        assert_eq!(
            read_refresh(&Keyring::new([2; 32], None), token.expose()),
            None
        );
        let other = refresh(&ring, id, 4);
        let mixed = format!("{}{}", &token.expose()[..60], &other.expose()[60..]);
        assert_eq!(read_refresh(&ring, &mixed), None);
        assert_eq!(read_refresh(&ring, "weft_rt_"), None);
    }
}
