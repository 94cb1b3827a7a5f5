//! Sessions: how one begins, and the pair of tokens that it is used by.

use adapters::sealing::Secret;
use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    CommandError, CredentialKind, SessionId, TenantId, Tx, UserId, session, standing::Standing,
};

use crate::{Authority, Identity, RequestContext, tokens};

/// A session that is not used for this long ends.
pub const SESSION_IDLE: TimeDelta = TimeDelta::days(30);
/// It ends after this long in any case.
pub const SESSION_LASTS: TimeDelta = TimeDelta::days(90);

/// Characters of a `User-Agent` that are kept.
const USER_AGENT: usize = 400;

/// What whoever signed in gets.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// For `Authorization: Bearer`.
    pub access_token: Secret,
    /// For the next pair of tokens.
    pub refresh_token: Secret,
    /// When the access token runs out.
    pub expires_at: DateTime<Utc>,
    /// For how long it is good from now on.
    pub lasts: TimeDelta,
    /// Who it is, as the next request will see it.
    pub identity: Identity,
}

/// Adds a session of `user` in `tenant`.
pub(crate) async fn begin(
    tx: &Tx,
    id: SessionId,
    user: UserId,
    tenant: TenantId,
    credential: CredentialKind,
    context: &RequestContext,
    now: DateTime<Utc>,
) -> Result<session::Model, CommandError> {
    let row = row(id, user, tenant, credential, context, now);
    session::Entity::add(&**tx, row.clone()).await?;
    Ok(row)
}

/// A session that is to begin.
pub(crate) fn row(
    id: SessionId,
    user: UserId,
    tenant: TenantId,
    credential: CredentialKind,
    context: &RequestContext,
    now: DateTime<Utc>,
) -> session::Model {
    session::Model {
        id,
        user_id: user,
        tenant_id: tenant,
        credential,
        rotation: 0,
        rotated_at: None,
        used_rotation: 0,
        user_agent: context.user_agent.as_deref().map(shown),
        address: context
            .address
            .map(|address| address.to_canonical().to_string()),
        provider: None,
        identity_id: None,
        provider_sid: None,
        sealed_id_token: None,
        created_at: now,
        last_seen_at: now,
        expires_at: now + SESSION_IDLE,
        ends_at: now + SESSION_LASTS,
        ended_at: None,
    }
}

/// A foreign text as it may be shown: without controls, of bounded length.
pub(crate) fn shown(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(USER_AGENT)
        .collect()
}

impl Authority {
    /// The pair of tokens in use for the session of `standing`.
    pub(crate) async fn issue(&self, standing: Standing) -> Result<SignedIn, CommandError> {
        let now = self.0.clock.now();
        let (Some(session), Some(tenant)) = (&standing.session, &standing.tenant) else {
            return Err(CommandError::Internal(
                "tokens were asked for without a session".into(),
            ));
        };
        let claims = tokens::claims(
            &self.0.config.issuer,
            session,
            tenant.id,
            now,
            self.0.clock.uuid(),
        );
        let expires_at = tokens::runs_out(session, now);
        let key = self.signing_key().await?;
        let (kid, signer) = key.signer()?;
        let access_token = tokens::sign(&claims, &kid, signer).map_err(|error| {
            CommandError::Internal(format!("an access token was not signed: {error}"))
        })?;
        let refresh_token = tokens::refresh(&self.0.keyring, session.id, session.rotation);
        let read_at = self.0.clock.instant();
        let identity = Identity::of(standing, Some(expires_at), read_at).ok_or_else(|| {
            CommandError::Internal("a session began for somebody who may not use it".into())
        })?;
        Ok(SignedIn {
            access_token,
            refresh_token,
            expires_at,
            lasts: expires_at - now,
            identity,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_agents_are_bounded() {
        assert_eq!(shown("Mozilla\0/5.0\u{1b}[31m\n(é)"), "Mozilla/5.0[31m(é)");
        assert_eq!(shown(&"x".repeat(5000)).len(), USER_AGENT);
    }
}
