//! Binding an identity to whoever is signed in, and letting go of one. Both change how one can sign in, so a session does it,
//! never a key.

use adapters::sealing::Secret;
use chrono::{DateTime, Utc};
use entities::{
    CommandError, IdentityId, Refusal, Scope, SessionId, Tx, UserId, identity, query::*, session,
    user,
};
use serde::{Deserialize, Serialize};

use super::{SCOPE, code};
use crate::{Authority, RequestContext, api_keys::by_session, audit, identify::BAD, sign_out::end};

/// With what an identity is bound.
#[derive(Debug, Clone)]
pub struct LinkIdentity {
    /// As it came with the browser, of a sign-in that was begun with `link=true`.
    pub code: Secret,
    /// What the challenge at the start was made of.
    pub verifier: Secret,
}

/// What came of a code.
enum Linked {
    Bad,
    Anothers,
    Done,
}

/// What was let go of.
#[derive(Serialize, Deserialize)]
struct Unlinked {
    user: UserId,
    /// Not of interest the second time.
    #[serde(skip)]
    ended: Vec<SessionId>,
}

impl Authority {
    /// Binds the identity that a code stands for to whoever asks. One that is his already stays so.
    ///
    /// # Errors
    /// A Conflict where it is somebody else's; [`CommandError::Unauthenticated`] for whatever is wrong with the code, and
    /// [`CommandError::RateLimited`] as for redeeming one; [`CommandError::Forbidden`] where he came by a key.
    pub async fn link_identity(
        &self,
        scope: &Scope,
        input: LinkIdentity,
        context: &RequestContext,
    ) -> Result<UserId, CommandError> {
        by_session(scope)?;
        code::check(&input.code, &input.verifier)?;
        let user = scope.user();
        let id = IdentityId(self.0.clock.uuid());
        let (by, clock, address) = (scope.clone(), self.0.clock.clone(), context.address);
        let linked = self
            .command(move |tx, now| {
                Box::pin(async move {
                    let linked = link(tx, input, user, id, now).await?;
                    if matches!(linked, Linked::Done) {
                        audit::acted(tx, &clock, now, &by, "linkIdentity", address).await?;
                    }
                    Ok(linked)
                })
            })
            .await?;
        match linked {
            Linked::Done => Ok(user),
            Linked::Anothers => Err(Refusal::conflict(
                &["input", "code"],
                "this identity is bound to another user",
                None,
            )
            .into()),
            Linked::Bad => Err(self.failed_code(context.address).await),
        }
    }

    /// Lets go of an identity of whoever asks. What was signed in by it ends, but for the session that asks.
    ///
    /// # Errors
    /// NotFound where it is not his; a Conflict where he could not sign in any more; [`CommandError::Forbidden`] where he came by
    /// a key.
    pub async fn unlink_identity(
        &self,
        scope: &Scope,
        id: IdentityId,
    ) -> Result<UserId, CommandError> {
        let (current, user) = (by_session(scope)?, scope.user());
        let unlinked = self
            .command_for(move |c| {
                Box::pin(async move { unlink(c.tx(), user, id, current, c.now()).await })
            })
            .await?;
        self.forget_sessions(&unlinked.ended);
        Ok(unlinked.user)
    }
}

async fn link(
    tx: &Tx,
    input: LinkIdentity,
    user: UserId,
    id: IdentityId,
    now: DateTime<Utc>,
) -> Result<Linked, CommandError> {
    let Some(taken) = code::take(tx, &input.code, &input.verifier, true, now).await? else {
        return Ok(Linked::Bad);
    };
    locked(tx, user).await?;
    let there = identity::Entity::anywhere(SCOPE)
        .filter(identity::Column::Issuer.eq(taken.issuer.as_str()))
        .filter(identity::Column::Subject.eq(taken.subject.as_str()))
        .one(&**tx)
        .await?;
    match there {
        Some(there) if there.user_id == user => Ok(Linked::Done),
        Some(_) => Ok(Linked::Anothers),
        None => {
            let row = identity::Model {
                id,
                user_id: user,
                issuer: taken.issuer,
                subject: taken.subject,
                linked_at: now,
            };
            identity::Entity::add(&**tx, row).await?;
            Ok(Linked::Done)
        }
    }
}

async fn unlink(
    tx: &Tx,
    user: UserId,
    id: IdentityId,
    current: SessionId,
    now: DateTime<Utc>,
) -> Result<Unlinked, CommandError> {
    let path = &["input", "id"];
    // Sessions before the account, in the order in which whoever else holds both takes them.
    by_identity(user, id).lock_exclusive().all(&**tx).await?;
    // Locked, so that of two that are let go of at once one stays.
    let account = locked(tx, user).await?;
    let own = identity::Entity::anywhere(SCOPE)
        .filter(identity::Column::UserId.eq(user))
        .all(&**tx)
        .await?;
    if own.iter().all(|row| row.id != id) {
        return Err(Refusal::not_found(path, id).into());
    }
    if own.len() == 1 && account.password_hash.is_none() {
        let why =
            "it is the only way to sign in: link another identity, or have a password set, first";
        return Err(Refusal::conflict(path, why, None).into());
    }
    identity::Entity::delete_anywhere(SCOPE)
        .filter(identity::Column::Id.eq(id))
        .exec(&**tx)
        .await?;
    // Read again: one may have begun until the account was locked.
    let sessions = by_identity(user, id).all(&**tx).await?;
    let ended: Vec<_> = sessions
        .into_iter()
        .map(|row| row.id)
        .filter(|&id| id != current)
        .collect();
    end(tx, &ended, now).await?;
    Ok(Unlinked { user, ended })
}

/// The sessions of a user that began by this identity and have not ended, by id.
fn by_identity(user: UserId, id: IdentityId) -> Select<session::Entity> {
    session::Entity::anywhere(SCOPE)
        .filter(session::Column::IdentityId.eq(id))
        .filter(session::Column::UserId.eq(user))
        .filter(session::Column::EndedAt.is_null())
        .order_by_asc(session::Column::Id)
}

/// The account, locked.
async fn locked(tx: &Tx, id: UserId) -> Result<user::Model, CommandError> {
    let row = user::Entity::anywhere(SCOPE)
        .filter(user::Column::Id.eq(id))
        .lock_exclusive()
        .one(&**tx)
        .await?;
    row.filter(|row| row.is_active).ok_or(BAD)
}
