//! [`Scope::access`] as conditions on rows, which lists and counts need.

use sea_orm::{
    ColumnTrait, QueryFilter, QuerySelect, QueryTrait,
    sea_query::{Condition, SelectStatement},
};

use crate::{Access, GroupId, ResourceKind, Role, Scope, Visibility, group_ancestor, share};

/// The groups that stand within one of these, these included.
pub(crate) fn within(scope: &Scope, groups: Vec<GroupId>) -> SelectStatement {
    group_ancestor::Entity::in_tenant(scope)
        .filter(group_ancestor::Column::AncestorId.is_in(groups))
        .select_only()
        .column(group_ancestor::Column::GroupId)
        .into_query()
}

/// The groups that the scope's user is a member of himself, as `least` or more.
pub(crate) fn own_groups(scope: &Scope, least: Role) -> Vec<GroupId> {
    let groups = scope.groups().iter();
    groups
        .filter(|(_, role)| *role >= least)
        .map(|(group, _)| *group)
        .collect()
}

/// The resources of a kind that shares let the scope's user go so far with.
#[must_use]
pub fn reaching(scope: &Scope, kind: ResourceKind, least: Access) -> SelectStatement {
    use share::Column as It;
    let mut reached = Condition::any()
        .add(It::UserId.eq(scope.user()))
        .add(It::WithTenant.eq(true));
    let groups = own_groups(scope, Role::Member);
    if !groups.is_empty() {
        reached = reached.add(It::GroupId.in_subquery(within(scope, groups)));
    }
    let far_enough = [Access::Use, Access::Read, Access::Edit, Access::Manage]
        .into_iter()
        .filter(|access| *access >= least);
    share::Entity::in_tenant(scope)
        .filter(It::Kind.eq(kind))
        .filter(It::Access.is_in(far_enough))
        .filter(reached)
        .select_only()
        .column(It::ResourceId)
        .into_query()
}

/// Where the rows of a kind say whose they are, who sees them and where they live.
#[derive(Debug, Clone, Copy)]
pub struct Whose<C> {
    /// The id.
    pub id: C,
    /// Whose it is.
    pub owner: C,
    /// Who sees it.
    pub visibility: C,
    /// The group that it lives in.
    pub group: C,
}

/// Narrows rows to those that the scope gives any access to.
#[must_use]
pub fn covered<S: QueryFilter, C: ColumnTrait>(
    select: S,
    scope: &Scope,
    kind: ResourceKind,
    whose: Whose<C>,
) -> S {
    let Some(role) = scope.role() else {
        return select.filter(Condition::any().add(whose.id.is_null()));
    };
    if role >= Role::Admin && kind.is_administered() {
        return select;
    }
    let mut covered = Condition::any()
        .add(whose.owner.eq(scope.user()))
        .add(whose.visibility.eq(Visibility::Tenant))
        .add(whose.id.in_subquery(reaching(scope, kind, Access::Use)));
    let (shown, edited) = (
        own_groups(scope, Role::Member),
        own_groups(scope, Role::Editor),
    );
    if !shown.is_empty() {
        let lives_there = whose.group.in_subquery(within(scope, shown));
        let shows = Condition::all()
            .add(whose.visibility.eq(Visibility::Group))
            .add(lives_there);
        covered = covered.add(shows);
    }
    if !edited.is_empty() {
        covered = covered.add(whose.group.in_subquery(within(scope, edited)));
    }
    select.filter(covered)
}
