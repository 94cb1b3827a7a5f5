//! Ending sessions, one's own.

use chrono::{DateTime, Utc};
use entities::{
    AuditOutcome, CommandError, Refusal, Scope, SessionId, SystemScope, Tx, UserId, query::*,
    session,
};

use events::audit;

use crate::{Authority, api_keys::by_session, identity::CredentialId};

const SCOPE: SystemScope = SystemScope::of("a user's own sessions");

/// How many are ended by one statement.
const AT_ONCE: usize = 1_000;

/// What a sign-out did, and what is left to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedOut {
    /// How many sessions ended.
    pub ended: usize,
    /// Where a browser signs out of the provider that the session began at.
    pub provider_logout_url: Option<String>,
}

impl Authority {
    /// Ends the session that asks, or with `everywhere` all that its user has, and answers how many that were. Refused everywhere
    /// within five seconds, here at once.
    ///
    /// # Errors
    /// [`CommandError::Forbidden`] where the caller came by a key.
    pub async fn sign_out(
        &self,
        scope: &Scope,
        everywhere: bool,
    ) -> Result<SignedOut, CommandError> {
        let (current, user) = (by_session(scope)?, scope.user());
        let (asked, clock) = (self.1.clone(), self.0.clock.clone());
        let (ended, own) = self
            .command(move |tx, now| {
                Box::pin(async move {
                    let mut those = live(tx, user, now).await?;
                    those.retain(|&id| everywhere || id == current);
                    let own = session::Entity::anywhere(SCOPE)
                        .filter(session::Column::Id.eq(current))
                        .one(&**tx)
                        .await?;
                    end(tx, &those, now).await?;
                    if let Some(asked) = asked {
                        let about = Some(current.to_string());
                        let entry = asked.entry(about, AuditOutcome::Allowed, &[]);
                        audit::write(tx, &clock, now, entry).await?;
                    }
                    Ok((those, own))
                })
            })
            .await?;
        self.forget_sessions(&ended);
        let provider_logout_url = match &own {
            Some(own) => self.provider_logout_url(own).await,
            None => None,
        };
        Ok(SignedOut {
            ended: ended.len(),
            provider_logout_url,
        })
    }

    /// Ends a session of the caller's; one that is over already stays as it is. Refused everywhere within five seconds, here at
    /// once.
    ///
    /// # Errors
    /// NotFound where it is not his; [`CommandError::Forbidden`] where he came by a key.
    pub async fn revoke_session(&self, scope: &Scope, id: SessionId) -> Result<(), CommandError> {
        by_session(scope)?;
        let user = scope.user();
        self.command_for(move |c| {
            Box::pin(async move {
                let (tx, now) = (c.tx(), c.now());
                let own = session::Entity::anywhere(SCOPE)
                    .filter(session::Column::Id.eq(id))
                    .filter(session::Column::UserId.eq(user))
                    .lock_exclusive()
                    .one(&**tx)
                    .await?;
                own.ok_or_else(|| Refusal::not_found(&["input", "id"], id))?;
                end(tx, &[id], now).await
            })
        })
        .await?;
        self.forget_sessions(&[id]);
        Ok(())
    }

    /// Drops what is kept of sessions that just ended, and ends what lives by them here.
    pub(crate) fn forget_sessions(&self, ended: &[SessionId]) {
        for &id in ended {
            self.forget(CredentialId::Session(id));
        }
    }
}

/// The sessions of a user that can be used, by id, locked until the transaction ends.
pub(crate) async fn live(
    tx: &Tx,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<Vec<SessionId>, CommandError> {
    let rows = session::Entity::anywhere(SCOPE)
        .filter(session::Column::UserId.eq(user))
        .filter(session::Column::EndedAt.is_null())
        .filter(session::Column::ExpiresAt.gt(now))
        .filter(session::Column::EndsAt.gt(now))
        .order_by_asc(session::Column::Id)
        .lock_exclusive()
        .all(&**tx)
        .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Ends sessions that have not ended yet.
pub(crate) async fn end(
    tx: &Tx,
    those: &[SessionId],
    now: DateTime<Utc>,
) -> Result<(), CommandError> {
    for some in those.chunks(AT_ONCE) {
        session::Entity::change_anywhere(SCOPE)
            .col_expr(session::Column::EndedAt, Expr::value(now))
            .filter(session::Column::Id.is_in(some.iter().copied()))
            .filter(session::Column::EndedAt.is_null())
            .exec(&**tx)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{House, a_key};

    #[tokio::test]
    async fn one_or_all_of_ones_own() {
        let house = House::new().await;
        let here = house.set_up().await;
        let (there, third) = (house.sign_in().await, house.sign_in().await);
        let scope = here.identity.scope();
        let good = async |token: &crate::SignedIn| {
            house.identify(token.access_token.expose()).await.is_ok()
        };

        assert_eq!(
            house
                .auth
                .sign_out(third.identity.scope(), false)
                .await
                .unwrap()
                .ended,
            1
        );
        assert!(good(&here).await && good(&there).await && !good(&third).await);
        assert_eq!(
            house
                .auth
                .sign_out(third.identity.scope(), false)
                .await
                .unwrap()
                .ended,
            0,
            "it is over"
        );

        let of_there = there.identity.session().unwrap();
        house.auth.revoke_session(scope, of_there).await.unwrap();
        assert!(good(&here).await && !good(&there).await);
        house
            .auth
            .revoke_session(scope, of_there)
            .await
            .expect("again is nothing new");

        let again = house.sign_in().await;
        let mut ended = house.auth.ended(&again.identity);
        assert!(futures_util::FutureExt::now_or_never(&mut ended).is_none());
        assert_eq!(house.auth.sign_out(scope, true).await.unwrap().ended, 2);
        assert!(!good(&here).await && !good(&again).await);
        ended.await;
    }

    #[tokio::test]
    async fn nobody_elses_and_not_by_a_key() {
        let house = House::new().await;
        let owner = house.set_up().await;
        let (_, key) = a_key(&house, owner.identity.scope()).await;
        let by_key = house.identify(key.expose()).await.unwrap();
        let own = owner.identity.session().unwrap();
        for refused in [
            house.auth.sign_out(by_key.scope(), true).await.map(drop),
            house.auth.revoke_session(by_key.scope(), own).await,
        ] {
            assert!(
                matches!(refused, Err(CommandError::Forbidden(None))),
                "{refused:?}"
            );
        }
        let somebody = Scope::new(
            owner.identity.scope().tenant(),
            UserId(uuid::Uuid::nil()),
            entities::Role::Owner,
            owner.identity.scope().permissions(),
            owner.identity.scope().principal(),
        );
        for (who, id) in [
            (&somebody, own),
            (owner.identity.scope(), SessionId(uuid::Uuid::nil())),
        ] {
            let refused = house.auth.revoke_session(who, id).await;
            assert!(
                matches!(&refused, Err(CommandError::Refused(refusals)) if matches!(refusals[..], [Refusal::NotFound { .. }])),
                "{refused:?}"
            );
        }
        assert!(house.identify(owner.access_token.expose()).await.is_ok());
    }
}
