//! The next pair of tokens for a session, by its refresh token.
//!
//! Two tabs of a browser refresh at once, and answers get lost: so the last token gets the same pair again, for half a minute, and
//! for as long as nobody has used the new pair. Whoever comes with an older one has what was exchanged long ago: he or the other
//! one is a thief, nobody can tell which, and the session ends.

use std::net::IpAddr;

use adapters::{clock::SharedClock, sealing::Secret};
use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    AuditOutcome, CommandError, SessionId, SystemScope, TenantId, Tx, UserId, input, membership,
    query::*,
    session,
    standing::{InTenant, Standing, of_session},
};

use events::audit::Entry;

use crate::{
    Authority, RequestContext, SESSION_IDLE, SignedIn, attempts, audit, identity::CredentialId,
    sessions, tokens,
};

const SCOPE: SystemScope = SystemScope::of("refreshing a session");
const WRONG: CommandError =
    CommandError::Unauthenticated("the refresh token is not valid, or no longer");

/// For how long the last token gets the same pair again, whether or not that was used.
const FORGIVEN: TimeDelta = TimeDelta::seconds(30);

/// What a session is refreshed with.
#[derive(Debug, Clone)]
pub struct Refresh {
    /// The refresh token of the pair in use.
    pub refresh_token: Secret,
    /// The slug of a tenant of the user's, to go on in; left out: the session's.
    pub tenant: Option<String>,
}

/// What came of a token that we made.
enum Presented {
    /// The pair in use from here on is that of the session in it.
    Good(Box<Standing>),
    /// Not good, or not good there.
    Bad,
    /// One that was exchanged before; the session has ended by it.
    Again(UserId, TenantId),
}

impl Authority {
    /// Exchanges a refresh token for the session's next pair of tokens. The session goes on for another thirty days, within the
    /// ninety that it has.
    ///
    /// # Errors
    /// [`CommandError::Unauthenticated`] for whatever is wrong, a tenant that is not the user's included;
    /// [`CommandError::RateLimited`] for that after ten failures of an address within a minute; a refusal of what can be no slug.
    pub async fn refresh_session(
        &self,
        input: Refresh,
        context: RequestContext,
    ) -> Result<SignedIn, CommandError> {
        if let Some(slug) = &input.tenant {
            input::slug(&["input", "tenant"], slug)?;
        }
        self.signing_key().await?;
        let address = context.address;
        let ours = tokens::read_refresh(&self.0.keyring, input.refresh_token.expose());
        if let Some((id, rotation)) = ours {
            let clock = self.0.clock.clone();
            let presented = self.command(move |tx, now| {
                Box::pin(async move {
                    let presented = present(tx, id, rotation, input.tenant, context, now).await?;
                    note(tx, &clock, now, id, &presented, address).await?;
                    Ok(presented)
                })
            });
            match presented.await? {
                Presented::Good(standing) => return self.issue(*standing).await,
                Presented::Again(user, _) => {
                    self.forget(CredentialId::Session(id));
                    tracing::warn!(
                        target: "audit",
                        session = %id, %user, rotation,
                        "a session ended: a refresh token was presented that had been exchanged before"
                    );
                }
                Presented::Bad => {}
            }
        }
        // Only now: a token that is good can't have been guessed, and no neighbour's failures hold it up.
        if let Some(address) = address {
            let address = attempts::address_key(&self.0.keyring, address);
            self.command(move |tx, now| {
                Box::pin(async move { attempts::count(tx, None, Some(&address), false, now).await })
            })
            .await?;
        }
        Err(WRONG)
    }
}

/// What a token of this session and rotation is good for.
async fn present(
    tx: &Tx,
    id: SessionId,
    presented: i64,
    slug: Option<String>,
    context: RequestContext,
    now: DateTime<Utc>,
) -> Result<Presented, CommandError> {
    let row = session::Entity::anywhere(SCOPE)
        .filter(session::Column::Id.eq(id))
        .lock_exclusive()
        .one(&**tx)
        .await?;
    // One of a rotation that the row has not reached was made before the database was restored.
    let Some(row) = row.filter(|row| row.is_good(now) && presented <= row.rotation) else {
        return Ok(Presented::Bad);
    };
    let is_last = presented == row.rotation - 1;
    let is_lately = row.rotated_at.is_some_and(|at| now - at <= FORGIVEN);
    if presented < row.rotation && !(is_last && (is_lately || row.used_rotation < row.rotation)) {
        end(tx, id, now).await?;
        return Ok(Presented::Again(row.user_id, row.tenant_id));
    }
    let named = match &slug {
        Some(slug) => InTenant::Slug(slug),
        None => InTenant::Id(row.tenant_id),
    };
    // A statement of its own after the lock: it sees what the one before us did.
    let standing = of_session(SCOPE, &**tx, id, named).await?;
    let Some(mut standing) = standing else {
        return Ok(Presented::Bad);
    };
    let Some((tenant, membership)) = standing.member() else {
        return Ok(Presented::Bad);
    };
    let rotation = row.rotation;
    let mut next = session::Model {
        tenant_id: tenant.id,
        user_agent: context.user_agent.as_deref().map(sessions::shown),
        address: context
            .address
            .map(|address| address.to_canonical().to_string()),
        last_seen_at: now,
        expires_at: (now + SESSION_IDLE).min(row.ends_at),
        ..row
    };
    if presented == rotation {
        next.rotation += 1;
        next.rotated_at = Some(now);
        next.used_rotation = presented;
    }
    let changed = session::Entity::change_anywhere(SCOPE)
        .set(session::ActiveModel {
            tenant_id: Set(next.tenant_id),
            rotation: Set(next.rotation),
            rotated_at: Set(next.rotated_at),
            used_rotation: Set(next.used_rotation),
            user_agent: Set(next.user_agent.clone()),
            address: Set(next.address.clone()),
            last_seen_at: Set(next.last_seen_at),
            expires_at: Set(next.expires_at),
            ..Default::default()
        })
        .filter(session::Column::Id.eq(id))
        .filter(session::Column::EndedAt.is_null())
        .filter(session::Column::Rotation.eq(rotation))
        .exec(&**tx)
        .await?;
    if changed.rows_affected != 1 {
        return Ok(Presented::Bad);
    }
    membership::Entity::change_anywhere(SCOPE)
        .col_expr(membership::Column::LastUsedAt, Expr::value(now))
        .col_expr(membership::Column::LastSeenAt, Expr::value(now))
        .filter(membership::Column::Id.eq(membership.id))
        .exec(&**tx)
        .await?;
    standing.session = Some(next);
    Ok(Presented::Good(Box::new(standing)))
}

/// Adds to the audit log what came of a token.
async fn note(
    tx: &Tx,
    clock: &SharedClock,
    now: DateTime<Utc>,
    id: SessionId,
    presented: &Presented,
    address: Option<IpAddr>,
) -> Result<(), CommandError> {
    match presented {
        Presented::Good(standing) => {
            audit::signed_in(tx, clock, now, standing, "refreshSession", address).await
        }
        Presented::Again(user, tenant) => {
            let entry = Entry {
                tenant: *tenant,
                actor: Some(*user),
                api_key: None,
                on_behalf_of: None,
                action: "refreshSession".into(),
                target: Some(id.to_string()),
                outcome: AuditOutcome::Refused,
                address: audit::shown(address),
                details: serde_json::json!({ "errors": ["REPLAYED"], "ended": true }),
            };
            Ok(events::audit::write(tx, clock, now, entry).await?)
        }
        Presented::Bad => Ok(()),
    }
}

async fn end(tx: &Tx, id: SessionId, now: DateTime<Utc>) -> Result<(), CommandError> {
    session::Entity::change_anywhere(SCOPE)
        .col_expr(session::Column::EndedAt, Expr::value(now))
        .filter(session::Column::Id.eq(id))
        .exec(&**tx)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
