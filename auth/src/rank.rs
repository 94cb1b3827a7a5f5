//! Who may act on whom: nobody on a role that is his own or above, but OWNER on OWNER; so ADMIN and OWNER are granted by an OWNER
//! alone. In a group the same holds of the role there.

use entities::{
    CommandError, Permission, Refusal, Role, Scope, SystemScope, Tx, UserId, membership, query::*,
    tenant, user,
};

const SCOPE: SystemScope = SystemScope::of("the owners of a tenant");

/// What managing people asks for.
pub(crate) const NEEDS: Permission = Permission::MembersManage;

/// Whether somebody of the rank `own` acts on one of `role`, or grants it.
pub(crate) fn outranks(own: Option<Role>, role: Role) -> bool {
    own == Some(Role::Owner) || own > Some(role)
}

/// Whoever manages people.
pub(crate) fn manages(scope: &Scope) -> Result<(), CommandError> {
    if scope.may(NEEDS) {
        Ok(())
    } else {
        Err(CommandError::Forbidden(Some(NEEDS)))
    }
}

/// That the caller grants `role`.
pub(crate) fn grants(scope: &Scope, role: Role, path: &[&str]) -> Result<(), Refusal> {
    if outranks(scope.role(), role) {
        Ok(())
    } else {
        Err(Refusal::forbidden(path, None))
    }
}

/// Locks the tenant's row: what could take away the last active OWNER, or makes what must be one of its kind, goes one after the
/// other.
pub(crate) async fn lock_tenant(tx: &Tx, scope: &Scope) -> Result<tenant::Model, CommandError> {
    let row = tenant::Entity::anywhere(SCOPE)
        .filter(tenant::Column::Id.eq(scope.tenant()))
        .lock_exclusive()
        .one(&**tx)
        .await?;
    row.ok_or_else(|| CommandError::Internal(format!("{} is not there", scope.tenant())))
}

/// That an OWNER other than `user` can act in the tenant, whose row is locked.
///
/// # Errors
/// A Conflict at `path`.
pub(crate) async fn another_owner(
    tx: &Tx,
    scope: &Scope,
    user: UserId,
    path: &[&str],
) -> Result<(), CommandError> {
    let owners = membership::Entity::in_tenant(scope)
        .filter(membership::Column::Role.eq(Role::Owner))
        .filter(membership::Column::IsActive.eq(true))
        .filter(membership::Column::EndedAt.is_null())
        .filter(membership::Column::UserId.ne(user))
        .all(&**tx)
        .await?;
    let active = user::Entity::anywhere(SCOPE)
        .filter(user::Column::Id.is_in(owners.iter().map(|owner| owner.user_id)))
        .filter(user::Column::IsActive.eq(true))
        .one(&**tx)
        .await?;
    if active.is_some() {
        return Ok(());
    }
    let message = "the tenant must keep an OWNER who can act; make another one first";
    Err(Refusal::conflict(path, message, None).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        use Role::{Admin, Editor, Member, Owner};
        for (own, role, may) in [
            (Some(Owner), Owner, true),
            (Some(Owner), Admin, true),
            (Some(Admin), Owner, false),
            (Some(Admin), Admin, false),
            (Some(Admin), Editor, true),
            (Some(Editor), Member, true),
            (Some(Member), Member, false),
            (None, Member, false),
        ] {
            assert_eq!(outranks(own, role), may, "{own:?} {role:?}");
        }
    }
}
