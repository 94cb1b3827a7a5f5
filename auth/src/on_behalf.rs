//! A service key that acts for a user of its tenant: with no more than both may do, and never for whoever administers.

use adapters::{clock::BootInstant, sealing::digest};
use chrono::TimeDelta;
use entities::{
    CommandError, MembershipId, Role, SystemScope, UserId, UserKind, api_key,
    db::{Failure, failure},
    ids, input, membership,
    query::*,
    standing::{OnBehalfOf, of_key_on_behalf},
    user,
};

use crate::{
    Authority, Identity,
    set_up::{email, email_key},
};

const SCOPE: SystemScope = SystemScope::of("whom a service key acts for");
const REFUSED: CommandError = CommandError::Forbidden(None);

/// Accounts that one key makes within an hour, at most.
const PER_HOUR: u64 = 100;

impl Authority {
    /// Whom the service key `text`, which is `by_itself`, acts for.
    ///
    /// # Errors
    /// [`CommandError::Forbidden`] where the key may not, or not for this one; [`CommandError::RateLimited`] where it made too
    /// many accounts within the hour.
    pub(crate) async fn on_behalf(
        &self,
        text: &str,
        by_itself: &Identity,
        whom: &str,
        read_at: BootInstant,
    ) -> Result<Identity, CommandError> {
        let key = by_itself.api_key().filter(|key| key.may_impersonate);
        let key = key.ok_or(REFUSED)?.clone();
        let address;
        let whom = match ids::parse(whom) {
            Some((UserId::PREFIX, id)) => OnBehalfOf::User(UserId(id)),
            _ if email(&[], whom).is_ok() => {
                address = email_key(whom);
                OnBehalfOf::Email(&address)
            }
            _ => return Err(REFUSED),
        };
        let digest = digest(text.as_bytes());
        let find = || of_key_on_behalf(SCOPE, self.0.db.reader(SCOPE), &digest, whom);
        let mut found = find().await?;
        if let (None, OnBehalfOf::Email(address), true) = (&found, whom, key.may_create_users) {
            self.make(&key, address).await?;
            found = find().await?;
        }
        let standing = found.ok_or(REFUSED)?;
        let is_below = standing
            .member()
            .is_some_and(|(_, membership)| membership.role <= Role::Editor);
        if !is_below {
            return Err(REFUSED);
        }
        Identity::of(standing, key.expires_at, read_at).ok_or(REFUSED)
    }

    /// Makes an account that the key's tenant manages, as MEMBER. Where two requests do so at once, the second finds the first's.
    async fn make(&self, key: &api_key::Model, address: &str) -> Result<(), CommandError> {
        let (key, address) = (key.clone(), address.to_owned());
        let (id, membership) = (
            UserId(self.0.clock.uuid()),
            MembershipId(self.0.clock.uuid()),
        );
        let made = self
            .command(move |tx, now| {
                Box::pin(async move {
                    // Those of one key make accounts one after the other, so that they are counted.
                    api_key::Entity::anywhere(SCOPE)
                        .filter(api_key::Column::Id.eq(key.id))
                        .lock_exclusive()
                        .one(&**tx)
                        .await?;
                    let lately = user::Entity::anywhere(SCOPE)
                        .filter(user::Column::CreatedByKeyId.eq(key.id))
                        .filter(user::Column::CreatedAt.gt(now - TimeDelta::hours(1)))
                        .count(&**tx)
                        .await?;
                    if lately >= PER_HOUR {
                        let retry_after = std::time::Duration::from_secs(3600);
                        return Err(CommandError::RateLimited { retry_after });
                    }
                    let name = address.split('@').next().unwrap_or(&address);
                    let row = user::Model {
                        id,
                        kind: UserKind::Person,
                        name: name.chars().take(input::NAME).collect(),
                        email: Some(address.clone()),
                        email_key: Some(address.clone()),
                        password_hash: None,
                        managed_tenant_id: Some(key.tenant_id),
                        is_email_proven: false,
                        created_by_key_id: Some(key.id),
                        is_active: true,
                        is_platform_administrator: false,
                        last_seen_at: None,
                        created_at: now,
                        updated_at: now,
                    };
                    user::Entity::add(&**tx, row).await?;
                    let row = membership::Model {
                        id: membership,
                        tenant_id: key.tenant_id,
                        user_id: id,
                        role: Role::Member,
                        is_active: true,
                        last_used_at: None,
                        last_seen_at: None,
                        ended_at: None,
                        created_at: now,
                        updated_at: now,
                    };
                    membership::Entity::add(&**tx, row).await?;
                    Ok(())
                })
            })
            .await;
        match made {
            Err(CommandError::Database(error)) if failure(&error) == Failure::Taken => Ok(()),
            made => made,
        }
    }
}
