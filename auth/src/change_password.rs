//! Another password in place of one's own.

use adapters::sealing::Secret;
use chrono::{DateTime, Utc};
use entities::{CommandError, Refusal, Scope, SessionId, SystemScope, Tx, UserId, query::*, user};
use serde::{Deserialize, Serialize};

use crate::{
    Authority, RequestContext,
    api_keys::by_session,
    attempts,
    identify::BAD,
    passwords,
    sign_in::knows,
    sign_out::{end, live},
};

const SCOPE: SystemScope = SystemScope::of("a user's own password");

/// What a password is changed by.
#[derive(Debug, Clone)]
pub struct ChangePassword {
    /// The one in use.
    pub current: Secret,
    /// The one from here on: at least 10 characters.
    pub new: Secret,
}

/// What was done.
#[derive(Serialize, Deserialize)]
struct Changed {
    user: UserId,
    /// Not of interest the second time.
    #[serde(skip)]
    ended: Vec<SessionId>,
}

/// A change that is ready to be made.
struct Change {
    user: UserId,
    session: SessionId,
    /// What was compared.
    before: Option<String>,
    /// `None` where the current password was wrong.
    after: Option<String>,
    account: Vec<u8>,
    address: Option<Vec<u8>>,
}

impl Authority {
    /// Changes the password of whoever asks, and ends all his other sessions. A wrong current password is counted as a failed
    /// sign-in is.
    ///
    /// # Errors
    /// Refusals of the input, a wrong current password among them; [`CommandError::Forbidden`] where the caller came by a key;
    /// [`CommandError::RateLimited`] as for signing in.
    pub async fn change_password(
        &self,
        scope: &Scope,
        input: ChangePassword,
        context: &RequestContext,
    ) -> Result<UserId, CommandError> {
        let (session, id) = (by_session(scope)?, scope.user());
        let refusals: Vec<_> = [
            passwords::possible(&["input", "currentPassword"], &input.current).err(),
            passwords::acceptable(&["input", "newPassword"], &input.new).err(),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !refusals.is_empty() {
            return Err(CommandError::Refused(refusals));
        }
        let (keyring, address) = (self.0.keyring.clone(), context.address);
        let mut change = self
            .command(move |tx, now| {
                Box::pin(async move {
                    let user = user::Entity::anywhere(SCOPE)
                        .filter(user::Column::Id.eq(id))
                        .one(&**tx)
                        .await?
                        .ok_or(BAD)?;
                    let named = user.email_key.clone().unwrap_or_else(|| id.to_string());
                    let account = attempts::account_key(&keyring, &named);
                    let address = address.map(|address| attempts::address_key(&keyring, address));
                    let exempt = knows(tx, Some(&user), address.as_deref()).await?;
                    attempts::count(tx, Some(&account), address.as_deref(), exempt, now).await?;
                    Ok(Change {
                        user: id,
                        session,
                        before: user.password_hash,
                        after: None,
                        account,
                        address,
                    })
                })
            })
            .await?;
        let before = change.before.clone();
        let is_right = self.0.passwords.verify(input.current, before).await?;
        if is_right {
            change.after = Some(self.0.passwords.hash(input.new).await?);
        }
        let (account, address) = (change.account.clone(), change.address.clone());
        // Also with a wrong one: where this is the second time, the password has been changed by the first.
        let changed = self
            .command_for(move |c| Box::pin(async move { change.make(c.tx(), c.now()).await }))
            .await?;
        if !is_right {
            self.command(move |tx, now| {
                Box::pin(
                    async move { attempts::forgive(tx, &account, address.as_deref(), now).await },
                )
            })
            .await?;
        }
        self.forget_sessions(&changed.ended);
        Ok(changed.user)
    }
}

impl Change {
    async fn make(self, tx: &Tx, now: DateTime<Utc>) -> Result<Changed, CommandError> {
        let path = &["input", "currentPassword"];
        let wrong = || Refusal::invalid(path, "the current password is another");
        let after = self.after.ok_or_else(wrong)?;
        attempts::forgive(tx, &self.account, self.address.as_deref(), now).await?;
        // It may have been ended while the passwords were hashed.
        let mut others = live(tx, self.user, now).await?;
        if !others.contains(&self.session) {
            return Err(BAD);
        }
        others.retain(|&id| id != self.session);
        let user = user::Entity::anywhere(SCOPE)
            .filter(user::Column::Id.eq(self.user))
            .lock_exclusive()
            .one(&**tx)
            .await?;
        user.filter(|user| user.is_active && user.password_hash == self.before)
            .ok_or_else(wrong)?;
        user::Entity::change_anywhere(SCOPE)
            .col_expr(user::Column::PasswordHash, Expr::value(after))
            .col_expr(user::Column::UpdatedAt, Expr::value(now))
            .filter(user::Column::Id.eq(self.user))
            .exec(&**tx)
            .await?;
        end(tx, &others, now).await?;
        Ok(Changed {
            user: self.user,
            ended: others,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{House, PASSWORD, a_key, at_the_machine};

    const NEW: &str = "weaving-by-daylight";

    fn from_to(current: &str, new: &str) -> ChangePassword {
        ChangePassword {
            current: Secret::new(current),
            new: Secret::new(new),
        }
    }

    fn is_refused_at(answer: &Result<UserId, CommandError>, field: &str) -> bool {
        matches!(answer, Err(CommandError::Refused(refusals)) if refusals.iter().any(
            |refusal| matches!(refusal, Refusal::InvalidInput { path, .. } if path.last().is_some_and(|last| last == field))))
    }

    #[tokio::test]
    async fn it_counts_from_here_on_and_ends_the_other_sessions() {
        let house = House::new().await;
        let here = house.set_up().await;
        let there = house.sign_in().await;
        let scope = here.identity.scope();
        let change = async |current: &str, new: &str| {
            house
                .auth
                .change_password(scope, from_to(current, new), &at_the_machine())
                .await
        };
        assert!(is_refused_at(
            &change("wrong", NEW).await,
            "currentPassword"
        ));
        assert!(is_refused_at(
            &change("nul\0", NEW).await,
            "currentPassword"
        ));
        for bad in ["short", "password123"] {
            assert!(is_refused_at(&change(PASSWORD, bad).await, "newPassword"));
        }
        assert!(house.identify(there.access_token.expose()).await.is_ok());

        assert_eq!(change(PASSWORD, NEW).await.unwrap(), scope.user());
        assert!(house.identify(here.access_token.expose()).await.is_ok());
        assert!(house.identify(there.access_token.expose()).await.is_err());
        assert!(house.try_sign_in(PASSWORD).await.is_err());
        house.try_sign_in(NEW).await.unwrap();
        assert!(is_refused_at(
            &change(PASSWORD, NEW).await,
            "currentPassword"
        ));
    }

    #[tokio::test]
    async fn not_by_a_key_and_not_by_what_has_ended() {
        let house = House::new().await;
        let owner = house.set_up().await;
        let (_, key) = a_key(&house, owner.identity.scope()).await;
        let by_key = house.identify(key.expose()).await.unwrap();
        let change = async |scope: &Scope| {
            house
                .auth
                .change_password(scope, from_to(PASSWORD, NEW), &at_the_machine())
                .await
        };
        assert!(matches!(
            change(by_key.scope()).await,
            Err(CommandError::Forbidden(None))
        ));
        house
            .auth
            .sign_out(owner.identity.scope(), true)
            .await
            .unwrap();
        assert!(matches!(
            change(owner.identity.scope()).await,
            Err(CommandError::Unauthenticated(_))
        ));
        house.try_sign_in(PASSWORD).await.unwrap();
    }

    #[tokio::test]
    async fn guesses_are_counted_with_those_of_signing_in() {
        let house = House::new().await;
        let owner = house.set_up().await;
        for _ in 0..10 {
            let wrong = house
                .auth
                .change_password(
                    owner.identity.scope(),
                    from_to("wrong", NEW),
                    &at_the_machine(),
                )
                .await;
            assert!(is_refused_at(&wrong, "currentPassword"), "{wrong:?}");
        }
        let locked = house
            .auth
            .change_password(
                owner.identity.scope(),
                from_to(PASSWORD, NEW),
                &at_the_machine(),
            )
            .await;
        assert!(
            matches!(locked, Err(CommandError::RateLimited { .. })),
            "{locked:?}"
        );
        assert!(matches!(
            house.try_sign_in(PASSWORD).await,
            Err(CommandError::RateLimited { .. })
        ));
    }
}
