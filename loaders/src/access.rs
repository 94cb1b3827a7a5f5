//! How far whoever asks may go with what belongs to somebody and is shown to some.

use chrono::{DateTime, Utc};
use entities::{Access, Role, Scope, UserId, Visibility, query::*};

/// [`Scope::access`] to what may be deleted by now: then it is USE, for what used it shows its name.
pub(crate) fn access(
    scope: &Scope,
    owner: UserId,
    visibility: Visibility,
    deleted_at: Option<DateTime<Utc>>,
) -> Option<Access> {
    let access = scope.access(owner, visibility)?;
    Some(if deleted_at.is_none() {
        access
    } else {
        Access::Use
    })
}

/// [`Scope::access`] as a condition on rows, which lists and counts need.
pub(crate) fn covered<S: QueryFilter, C: ColumnTrait>(
    select: S,
    scope: &Scope,
    owner: C,
    visibility: C,
) -> S {
    if scope.role() >= Role::Admin {
        return select;
    }
    let is_covered = Condition::any()
        .add(owner.eq(scope.user()))
        .add(visibility.eq(Visibility::Tenant));
    select.filter(is_covered)
}
