//! [`Scope::access`] as conditions on rows, which lists and counts need, and what it follows from written beside them.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait,
    sea_query::{Condition, Expr, SelectStatement},
};

use uuid::Uuid;

use crate::{
    Access, Audience, Grantee, GroupId, Reach, ResourceKind, Role, Scope, Shared, TenantId,
    Visibility, agent, conversation, group_ancestor, llm_model, share,
};

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

/// A resource whose reach was made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// What it is.
    pub kind: ResourceKind,
    /// Which one.
    pub id: Uuid,
    /// Who saw it before.
    pub before: Audience,
    /// Who sees it now.
    pub after: Audience,
}

/// The groups around each of these, itself first: what [`Scope::role_in`] asks for. One statement.
///
/// # Errors
/// What the database says.
pub async fn chains(
    tx: &impl ConnectionTrait,
    tenant: TenantId,
    groups: Vec<GroupId>,
) -> Result<HashMap<GroupId, Vec<GroupId>>, DbErr> {
    if groups.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = group_ancestor::Entity::of_tenant(tenant)
        .filter(group_ancestor::Column::GroupId.is_in(groups))
        .order_by_asc(group_ancestor::Column::GroupId)
        .order_by_asc(group_ancestor::Column::Distance)
        .all(tx)
        .await?;
    let mut chains: HashMap<GroupId, Vec<GroupId>> = HashMap::new();
    for row in rows {
        chains
            .entry(row.group_id)
            .or_default()
            .push(row.ancestor_id);
    }
    Ok(chains)
}

/// Writes beside these resources of a kind, which must be locked or new, what `groups` and `shares` say of them, and answers those
/// for which that is another than stood there. Conversations live in no group.
///
/// # Errors
/// What the database says.
pub async fn renew(
    tx: &impl ConnectionTrait,
    tenant: TenantId,
    kind: ResourceKind,
    ids: &[Uuid],
) -> Result<Vec<Reached>, DbErr> {
    macro_rules! renewed {
        ($table:ident, $group:expr) => {{
            let rows = $table::Entity::of_tenant(tenant)
                .filter($table::Column::Id.is_in(ids.iter().copied()))
                .all(tx)
                .await?;
            let rows = rows
                .into_iter()
                .map(|row| (row.id.0, $group(&row), row.audience()));
            let renewed = reaches(tx, tenant, kind, rows.collect()).await?;
            for (reached, reach) in &renewed {
                $table::Entity::update_many()
                    .filter($table::Column::Id.eq(reached.id))
                    .col_expr($table::Column::Reach, Expr::value(json(reach)))
                    .exec(tx)
                    .await?;
            }
            Ok(renewed.into_iter().map(|(reached, _)| reached).collect())
        }};
    }
    match kind {
        ResourceKind::Agent => renewed!(agent, |row: &agent::Model| row.group_id),
        ResourceKind::Model => renewed!(llm_model, |row: &llm_model::Model| row.group_id),
        ResourceKind::Conversation => renewed!(conversation, |_: &conversation::Model| None),
        _ => Ok(Vec::new()),
    }
}

fn json(reach: &Reach) -> Option<Reach> {
    (!reach.is_empty()).then(|| reach.clone())
}

/// Of resources with the group that they live in, and who sees them as their rows say, those whose reach is another by now.
async fn reaches(
    tx: &impl ConnectionTrait,
    tenant: TenantId,
    kind: ResourceKind,
    rows: Vec<(Uuid, Option<GroupId>, Audience)>,
) -> Result<Vec<(Reached, Reach)>, DbErr> {
    let shares = share::Entity::of_tenant(tenant)
        .filter(share::Column::Kind.eq(kind))
        .filter(share::Column::ResourceId.is_in(rows.iter().map(|(id, ..)| *id)))
        .order_by_asc(share::Column::CreatedAt)
        .order_by_asc(share::Column::Id)
        .all(tx)
        .await?;
    let lived_in = rows.iter().filter_map(|(_, group, _)| *group);
    let groups = lived_in.chain(shares.iter().filter_map(|share| share.group_id));
    let chains = chains(tx, tenant, groups.collect()).await?;
    let chain = |group: GroupId| chains.get(&group).cloned().unwrap_or_default();
    let mut of: HashMap<Uuid, Vec<Shared>> = HashMap::new();
    for share in shares {
        let with = match (share.user_id, share.group_id) {
            (Some(user), _) => Grantee::User(user),
            (None, Some(group)) => Grantee::Group(chain(group)),
            (None, None) => Grantee::Tenant,
        };
        of.entry(share.resource_id).or_default().push(Shared {
            with,
            access: share.access,
        });
    }
    let renewed = rows.into_iter().filter_map(|(id, group, before)| {
        let reach = Reach {
            group: group.map(chain).unwrap_or_default(),
            shares: of.remove(&id).unwrap_or_default(),
        };
        let after = before.clone().reaching(Some(&reach));
        let reached = Reached {
            kind,
            id,
            before,
            after,
        };
        (reached.before != reached.after).then_some((reached, reach))
    });
    Ok(renewed.collect())
}
