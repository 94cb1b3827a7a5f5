//! Signing out at both ends: ours tells the browser where to sign out of the provider, and a provider tells us that somebody has
//! signed out there (OpenID Connect Back-Channel Logout 1.0).

use adapters::sealing::digest;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use entities::{
    CommandError, SessionId, Tx,
    db::{self, failure},
    identity, logout_token,
    query::*,
    session, sign_in_code,
};
use openidconnect::{
    JsonWebKey, JsonWebKeyAlgorithm, JsonWebKeyUse, JwsSigningAlgorithm,
    core::{CoreJsonWebKeySet, CoreJwsSigningAlgorithm},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    ProviderConfig, SCOPE,
    callback::token_place,
    claims::{ALGORITHMS, LEEWAY, may_be_kept},
};
use crate::{Authority, sign_out::end};

/// Bytes of a token of logout.
const TOKEN: usize = 16 * 1024;
/// What such a token tells.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Why nobody was signed out.
#[derive(Debug, thiserror::Error)]
pub enum LogoutError {
    /// There is no provider of this name.
    #[error("there is no sign-in provider of this name")]
    NoProvider,
    /// The token is not good; the text says why.
    #[error("{0}")]
    Invalid(&'static str),
    /// The provider's keys can't be read, so nobody knows whether it is.
    #[error("the provider's keys can't be read")]
    Unavailable,
    /// The database.
    #[error(transparent)]
    Failed(#[from] CommandError),
}

#[derive(Deserialize)]
struct Header {
    alg: CoreJwsSigningAlgorithm,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    iat: i64,
    exp: Option<i64>,
    jti: String,
    sub: Option<String>,
    sid: Option<String>,
    events: Map<String, Value>,
    nonce: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// A token of logout, taken apart.
struct Token<'a> {
    header: Header,
    claims: Claims,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    fn read(text: &'a str) -> Option<Self> {
        if text.len() > TOKEN {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let bytes = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
        Some(Self {
            header: serde_json::from_slice(&bytes(header)?).ok()?,
            claims: serde_json::from_slice(&bytes(claims)?).ok()?,
            signed,
            signature: bytes(signature)?,
        })
    }

    /// Whether one of the keys has signed it; `None` where none is of that name.
    fn is_signed(&self, keys: &CoreJsonWebKeySet) -> Option<bool> {
        let algorithm = &self.header.alg;
        let fits = |key: &&openidconnect::core::CoreJsonWebKey| {
            let named = self.header.kid.as_deref();
            let of_key = match key.signing_alg() {
                JsonWebKeyAlgorithm::Unspecified => true,
                JsonWebKeyAlgorithm::Algorithm(of_key) => of_key == algorithm,
                JsonWebKeyAlgorithm::Unsupported => false,
            };
            named.is_none_or(|named| key.key_id().is_some_and(|id| id.as_str() == named))
                && key.key_use().is_none_or(JsonWebKeyUse::allows_signature)
                && algorithm.key_type().as_ref() == Some(key.key_type())
                && of_key
        };
        let mut fitting = keys.keys().iter().filter(fits).peekable();
        fitting.peek()?;
        let signed = self.signed.as_bytes();
        Some(fitting.any(|key| {
            key.verify_signature(algorithm, signed, &self.signature)
                .is_ok()
        }))
    }

    /// What is wrong with it, whoever has signed it.
    fn check(&self, config: &ProviderConfig, now: DateTime<Utc>) -> Result<(), &'static str> {
        let Self { header, claims, .. } = self;
        let kind = header.typ.as_deref().map(str::to_ascii_lowercase);
        let kind = kind
            .as_deref()
            .map(|kind| kind.trim_start_matches("application/"));
        if !matches!(kind, None | Some("jwt" | "logout+jwt")) || header.crit.is_some() {
            return Err("the token is of another kind");
        }
        if !ALGORITHMS.contains(&header.alg) {
            return Err("the token's algorithm is not allowed");
        }
        if claims.iss != config.issuer {
            return Err("`iss` is another provider");
        }
        let is_ours = match &claims.aud {
            Audience::One(one) => *one == config.client_id,
            Audience::Several(all) => {
                !all.is_empty() && all.iter().all(|one| *one == config.client_id)
            }
        };
        if !is_ours {
            return Err("`aud` is not this client alone");
        }
        let (now, leeway) = (now.timestamp(), LEEWAY.num_seconds());
        if claims.iat.abs_diff(now) > leeway.unsigned_abs() {
            return Err("`iat` is not of this moment");
        }
        if claims.exp.is_some_and(|exp| exp <= now - leeway) {
            return Err("the token has run out");
        }
        if !claims.events.get(EVENT).is_some_and(Value::is_object) {
            return Err("`events` tells of no logout");
        }
        if claims.nonce.is_some() {
            return Err("`nonce` must not be there");
        }
        let named = [&claims.sub, &claims.sid].into_iter().flatten();
        if claims.sub.is_none() && claims.sid.is_none()
            || !named.chain([&claims.jti]).all(|text| may_be_kept(text))
        {
            return Err("`jti`, and `sub` or `sid`, must be there");
        }
        Ok(())
    }
}

impl Authority {
    /// Ends the sessions that a provider says are over: here at once, everywhere within five seconds.
    ///
    /// # Errors
    /// See [`LogoutError`].
    pub async fn logout_by_provider(&self, name: &str, token: &str) -> Result<(), LogoutError> {
        let provider = self.0.oidc.provider(name).ok_or(LogoutError::NoProvider)?;
        let token = Token::read(token)
            .ok_or(LogoutError::Invalid("`logout_token` is no token of logout"))?;
        // Before keys are read for its sake.
        token
            .check(provider.config(), self.0.clock.now())
            .map_err(LogoutError::Invalid)?;
        let unavailable = |_| LogoutError::Unavailable;
        let known = provider.known_or_before().await.map_err(unavailable)?;
        let is_signed = match token.is_signed(&known.keys) {
            Some(true) => Some(true),
            Some(false) | None => {
                let known = provider.with_new_keys(known).await.map_err(unavailable)?;
                token.is_signed(&known.keys)
            }
        };
        if is_signed != Some(true) {
            return Err(LogoutError::Invalid(
                "the token is not signed by the provider",
            ));
        }
        let (name, claims) = (name.to_owned(), token.claims);
        let ended = self
            .command(move |tx, now| Box::pin(ended_by(tx, name, claims, now)))
            .await;
        match ended {
            Ok(ended) => {
                self.forget_sessions(&ended);
                Ok(())
            }
            Err(CommandError::Database(error)) if failure(&error) == db::Failure::Taken => {
                Err(LogoutError::Invalid("the token was presented before"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Where a browser signs out of the provider that `session` began at; `None` where it began at none, or that can't be asked or
    /// has no such address.
    pub(crate) async fn provider_logout_url(&self, session: &session::Model) -> Option<String> {
        let provider = self.0.oidc.provider(session.provider.as_deref()?)?;
        let known = provider.known_or_before().await.ok()?;
        let endpoint = &known.metadata.additional_metadata().end_session_endpoint;
        let mut url = endpoint.as_ref()?.url().clone();
        let token = session.sealed_id_token.as_ref().zip(session.identity_id);
        let token = token.and_then(|(sealed, identity)| {
            let place = token_place(identity);
            let opened = self.0.keyring.open_system(&place, sealed).ok()?;
            String::from_utf8(opened.to_vec()).ok()
        });
        let mut query = url.query_pairs_mut();
        if let Some(token) = &token {
            query.append_pair("id_token_hint", token);
        }
        query.append_pair("client_id", &provider.config().client_id);
        drop(query);
        Some(url.into())
    }
}

/// Ends what a token of logout names, and remembers the token.
async fn ended_by(
    tx: &Tx,
    provider: String,
    claims: Claims,
    now: DateTime<Utc>,
) -> Result<Vec<SessionId>, CommandError> {
    let named = serde_json::json!([claims.iss, claims.jti]).to_string();
    let row = logout_token::Model {
        digest: digest(named.as_bytes()).to_vec(),
        // It is refused by its age before that.
        expires_at: now + LEEWAY * 3,
    };
    // First, so that the second of two that are presented at once fails here.
    logout_token::Entity::add(&**tx, row).await?;
    let of_subject = match &claims.sub {
        Some(subject) => {
            identity::Entity::anywhere(SCOPE)
                .filter(identity::Column::Issuer.eq(claims.iss.as_str()))
                .filter(identity::Column::Subject.eq(subject.as_str()))
                .one(&**tx)
                .await?
        }
        None => None,
    };
    // A session of which the provider has told no name is known by its subject alone.
    let mut which = Condition::any();
    if let Some(sid) = &claims.sid {
        which = which.add(session::Column::ProviderSid.eq(sid.as_str()));
    }
    if let Some(identity) = of_subject {
        let mut by_subject = Condition::all().add(session::Column::IdentityId.eq(identity.id));
        if claims.sid.is_some() {
            by_subject = by_subject.add(session::Column::ProviderSid.is_null());
        }
        which = which.add(by_subject);
    }
    let mut codes = sign_in_code::Entity::delete_anywhere(SCOPE)
        .filter(sign_in_code::Column::Issuer.eq(claims.iss.as_str()));
    codes = match (&claims.sid, &claims.sub) {
        (Some(sid), _) => codes.filter(
            Condition::any()
                .add(sign_in_code::Column::ProviderSid.eq(sid.as_str()))
                .add(sign_in_code::Column::ProviderSid.is_null()),
        ),
        (None, subject) => codes.filter(sign_in_code::Column::Subject.eq(subject.as_deref())),
    };
    codes.exec(&**tx).await?;
    if which.is_empty() {
        return Ok(Vec::new());
    }
    let rows = session::Entity::anywhere(SCOPE)
        .filter(session::Column::Provider.eq(provider))
        .filter(which)
        .filter(session::Column::EndedAt.is_null())
        .order_by_asc(session::Column::Id)
        .lock_exclusive()
        .all(&**tx)
        .await?;
    let those: Vec<_> = rows.into_iter().map(|row| row.id).collect();
    end(tx, &those, now).await?;
    Ok(those)
}
