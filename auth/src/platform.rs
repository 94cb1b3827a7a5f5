//! Who administers the platform. The last one can't be removed.

use chrono::{DateTime, Utc};
use entities::{CommandError, SystemScope, Tx, UserId, meta, query::*, user};

const SCOPE: SystemScope = SystemScope::of("administrators of the platform");

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
