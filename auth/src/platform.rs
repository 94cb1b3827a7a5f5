//! Who looks after the whole installation: a flag of an account, in no role and on no key.

use chrono::{DateTime, Utc};
use entities::{
    CommandError, Permission, Refusal, Scope, SystemScope, Tx, UserId, UserKind, meta, query::*,
    user,
};

use crate::{Authority, api_keys::by_session};

const SCOPE: SystemScope = SystemScope::of("administrators of the platform");

impl Authority {
    /// Makes a person an administrator of the platform, or takes that back.
    ///
    /// # Errors
    /// [`CommandError::Forbidden`] where the caller is none, or came by a key; NotFound; a Conflict where none would be left, and
    /// for an account that a tenant manages.
    pub async fn set_platform_administrator(
        &self,
        scope: &Scope,
        id: UserId,
        is_one: bool,
    ) -> Result<UserId, CommandError> {
        by_session(scope)?;
        let needs = Permission::PlatformManage;
        if !scope.may(needs) {
            return Err(CommandError::Forbidden(Some(needs)));
        }
        self.command_for(move |c| {
            Box::pin(async move {
                let path = &["input", "id"];
                let account = user::Entity::anywhere(SCOPE)
                    .filter(user::Column::Id.eq(id))
                    .filter(user::Column::Kind.eq(UserKind::Person))
                    .one(&**c.tx())
                    .await?
                    .ok_or_else(|| Refusal::not_found(path, id))?;
                if is_one && account.managed_tenant_id.is_some() {
                    // Whoever administers the tenant could act by it.
                    let message =
                        "an account that a tenant manages can't look after the installation";
                    return Err(Refusal::conflict(path, message, None).into());
                }
                if set(c.tx(), id, is_one, c.now()).await? == Outcome::Last {
                    let message =
                        "the installation must keep an administrator; name another one first";
                    return Err(Refusal::conflict(path, message, None).into());
                }
                Ok(())
            })
        })
        .await?;
        self.forget_user(id);
        Ok(id)
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is so from now on.
    Done,
    /// It was so before.
    WasSo,
    /// Nobody would be left.
    Last,
}

/// Makes `user` an administrator of the platform, or no longer one. Takes the installation's row first, so that two can't remove
/// each other.
pub(crate) async fn set(
    tx: &Tx,
    user: UserId,
    is_administrator: bool,
    now: DateTime<Utc>,
) -> Result<Outcome, CommandError> {
    meta::Entity::anywhere(SCOPE)
        .lock_exclusive()
        .one(&**tx)
        .await?;
    let administrators = user::Entity::anywhere(SCOPE)
        .filter(user::Column::IsPlatformAdministrator.eq(true))
        .all(&**tx)
        .await?;
    let is_one = administrators.iter().any(|one| one.id == user);
    if is_one == is_administrator {
        return Ok(Outcome::WasSo);
    }
    let is_left = |one: &user::Model| one.id != user && one.is_active;
    if !is_administrator && !administrators.iter().any(is_left) {
        return Ok(Outcome::Last);
    }
    user::Entity::change_anywhere(SCOPE)
        .col_expr(
            user::Column::IsPlatformAdministrator,
            Expr::value(is_administrator),
        )
        .col_expr(user::Column::UpdatedAt, Expr::value(now))
        .filter(user::Column::Id.eq(user))
        .exec(&**tx)
        .await?;
    Ok(Outcome::Done)
}
