//! Users and tenants as somebody in a tenant may see them: reads that join what has no tenant to what has. Those that look into
//! other tenants do so past PostgreSQL's wall, each in one statement that says what of it the asker may see.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select, SelectTwoRequired,
    sea_query::{Condition, Expr, ExprTrait, IntoColumnRef, Query, SelectStatement},
};

use super::{identity, invitation, membership, session, tenant, user};
use crate::{
    IdentityId, MembershipId, Permission, Scope, SessionId, SystemScope, TenantId, Tx, UserId,
    page::{self, Page, paged, paged_by},
};

const SYSTEM: SystemScope = SystemScope::of("what is of a person, in whichever tenant");

fn same(left: impl IntoColumnRef, right: impl IntoColumnRef) -> Expr {
    Expr::col(left).equals(right)
}

fn joined_to_users(mut select: Select<membership::Entity>) -> Select<membership::Entity> {
    let on = same(
        (user::Entity, user::Column::Id),
        (membership::Entity, membership::Column::UserId),
    );
    QueryTrait::query(&mut select).inner_join(user::Entity, on);
    select
}

fn with_users(
    select: Select<membership::Entity>,
) -> SelectTwoRequired<membership::Entity, user::Entity> {
    joined_to_users(select).select_two_required(user::Entity)
}

/// The members of the scope's tenant with these ids, those included whose membership ended or is suspended.
///
/// # Errors
/// What the database says.
pub async fn members(
    scope: &Scope,
    db: &impl ConnectionTrait,
    users: Vec<UserId>,
) -> Result<Vec<(membership::Model, user::Model)>, DbErr> {
    let select =
        membership::Entity::in_tenant(scope).filter(membership::Column::UserId.is_in(users));
    with_users(select).all(db).await
}

/// Those who belong to the scope's tenant, suspended ones included, as far as their accounts fit.
fn belonging(scope: &Scope, narrowed: Condition) -> Select<membership::Entity> {
    membership::Entity::in_tenant(scope)
        .filter(membership::Column::EndedAt.is_null())
        .filter(narrowed)
}

/// A page of those who belong to the scope's tenant, suspended ones included: the name of the user and the id of the membership
/// are the order. `narrowed` is about columns of users.
///
/// # Errors
/// What the database says.
pub async fn members_by_name(
    scope: &Scope,
    db: &impl ConnectionTrait,
    narrowed: Condition,
    page: &Page,
) -> Result<Vec<(membership::Model, user::Model)>, DbErr> {
    let order = [
        Expr::col((user::Entity, user::Column::Name)),
        Expr::col((membership::Entity, membership::Column::Id)),
    ];
    let select = paged_by(belonging(scope, narrowed), &order, false, page);
    with_users(select).all(db).await
}

/// How many those are; `None` for more than [`page::COUNTED`].
///
/// # Errors
/// What the database says.
pub async fn count_members(
    scope: &Scope,
    db: &impl ConnectionTrait,
    narrowed: Condition,
) -> Result<Option<u64>, DbErr> {
    page::count(joined_to_users(belonging(scope, narrowed)), db).await
}

/// The accounts of those of these who invited somebody into the scope's tenant as administrators of the platform.
///
/// # Errors
/// What the database says.
pub async fn inviters(
    scope: &Scope,
    tx: &Tx,
    users: Vec<UserId>,
) -> Result<Vec<user::Model>, DbErr> {
    let invited = invitation::Entity::in_tenant(scope)
        .filter(invitation::Column::ByPlatform.eq(true))
        .filter(invitation::Column::InvitedBy.is_in(users))
        .select_only()
        .column(invitation::Column::InvitedBy)
        .into_query();
    user::Entity::find()
        .filter(user::Column::Id.in_subquery(invited))
        .all(&tx.system(SYSTEM))
        .await
}

/// Memberships by id with user and tenant: the asker's own, in any tenant, and with `others` everybody's in the scope's tenant.
///
/// # Errors
/// What the database says.
pub async fn memberships(
    scope: &Scope,
    tx: &Tx,
    ids: Vec<MembershipId>,
    others: bool,
) -> Result<Vec<(membership::Model, user::Model, tenant::Model)>, DbErr> {
    let mut whose = Condition::any().add(own(scope));
    if others {
        whose = whose.add(membership::Column::TenantId.eq(scope.tenant()));
    }
    let select = membership::Entity::find()
        .filter(membership::Column::Id.is_in(ids))
        .filter(whose);
    with_tenants(scope, tx, select).await
}

/// The tenants that the asker may act in, with his membership there, the one that he joined first before the others.
///
/// # Errors
/// What the database says.
pub async fn memberships_of_asker(
    scope: &Scope,
    tx: &Tx,
) -> Result<Vec<(membership::Model, user::Model, tenant::Model)>, DbErr> {
    let mut found = with_tenants(scope, tx, membership::Entity::find().filter(own(scope))).await?;
    found.retain(|(_, _, tenant)| tenant.is_active);
    found.sort_by_key(|(membership, _, _)| (membership.created_at, membership.id));
    Ok(found)
}

/// Memberships of the asker that may be used.
fn own(scope: &Scope) -> Condition {
    Condition::all()
        .add(membership::Column::UserId.eq(scope.user()))
        .add(membership::Column::IsActive.eq(true))
        .add(membership::Column::EndedAt.is_null())
}

async fn with_tenants(
    scope: &Scope,
    tx: &Tx,
    select: Select<membership::Entity>,
) -> Result<Vec<(membership::Model, user::Model, tenant::Model)>, DbErr> {
    let rows = with_users(select).all(&tx.system(SYSTEM)).await?;
    let ids: Vec<TenantId> = rows
        .iter()
        .map(|(membership, _)| membership.tenant_id)
        .collect();
    let tenants = tenants(scope, tx, ids).await?;
    let of = |id: TenantId| tenants.iter().find(|tenant| tenant.id == id).cloned();
    Ok(rows
        .into_iter()
        .filter_map(|(membership, user)| {
            of(membership.tenant_id).map(|tenant| (membership, user, tenant))
        })
        .collect())
}

/// Tenants by id: the scope's own, and others that the asker belongs to; any of them for an administrator of the platform.
///
/// # Errors
/// What the database says.
pub async fn tenants(
    scope: &Scope,
    tx: &Tx,
    ids: Vec<TenantId>,
) -> Result<Vec<tenant::Model>, DbErr> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let here = tenant::Column::Id.eq(scope.tenant());
    if ids.iter().all(|id| *id == scope.tenant()) {
        return tenant::Entity::find().filter(here).all(&**tx).await;
    }
    let mut seen = Condition::any().add(here);
    seen = if scope.may(Permission::PlatformManage) {
        seen.add(tenant::Column::Id.is_not_null())
    } else {
        seen.add(tenant::Column::Id.in_subquery(belonged_to(scope)))
    };
    tenant::Entity::find()
        .filter(tenant::Column::Id.is_in(ids))
        .filter(seen)
        .all(&tx.system(SYSTEM))
        .await
}

/// The tenants that the asker belongs to.
fn belonged_to(scope: &Scope) -> SelectStatement {
    Query::select()
        .column(membership::Column::TenantId)
        .from(membership::Entity)
        .cond_where(own(scope))
        .to_owned()
}

/// The tenants that the asker belongs to, or all there are for an administrator of the platform.
fn seen_tenants(scope: &Scope) -> Select<tenant::Entity> {
    if scope.may(Permission::PlatformManage) {
        return tenant::Entity::find();
    }
    tenant::Entity::find().filter(tenant::Column::Id.in_subquery(belonged_to(scope)))
}

/// A page of the tenants that the asker belongs to, or of all there are for an administrator of the platform: `slug, id` is the
/// order.
///
/// # Errors
/// What the database says.
pub async fn tenants_by_slug(
    scope: &Scope,
    tx: &Tx,
    page: &Page,
) -> Result<Vec<tenant::Model>, DbErr> {
    let order = [tenant::Column::Slug, tenant::Column::Id];
    paged(seen_tenants(scope), &order, false, page)
        .all(&tx.system(SYSTEM))
        .await
}

/// How many those are; `None` for more than [`page::COUNTED`].
///
/// # Errors
/// What the database says.
pub async fn count_tenants(scope: &Scope, tx: &Tx) -> Result<Option<u64>, DbErr> {
    page::count(seen_tenants(scope), &tx.system(SYSTEM)).await
}

/// The asker's own sessions with these ids, those included that are over.
///
/// # Errors
/// What the database says.
pub async fn sessions(
    scope: &Scope,
    tx: &Tx,
    ids: Vec<SessionId>,
) -> Result<Vec<session::Model>, DbErr> {
    own_sessions(scope)
        .filter(session::Column::Id.is_in(ids))
        .all(&tx.system(SYSTEM))
        .await
}

/// The asker's sessions that can be used at `now`, the one seen last before the others, `most` at most.
///
/// # Errors
/// What the database says.
pub async fn sessions_of_asker(
    scope: &Scope,
    tx: &Tx,
    now: DateTime<Utc>,
    most: u64,
) -> Result<Vec<session::Model>, DbErr> {
    own_sessions(scope)
        .filter(session::Column::EndedAt.is_null())
        .filter(session::Column::ExpiresAt.gt(now))
        .filter(session::Column::EndsAt.gt(now))
        .order_by_desc(session::Column::LastSeenAt)
        .order_by_desc(session::Column::Id)
        .limit(most)
        .all(&tx.system(SYSTEM))
        .await
}

/// Accounts at providers by id, of the asker's own.
///
/// # Errors
/// What the database says.
pub async fn identities(
    scope: &Scope,
    tx: &Tx,
    ids: Vec<IdentityId>,
) -> Result<Vec<identity::Model>, DbErr> {
    own_identities(scope)
        .filter(identity::Column::Id.is_in(ids))
        .all(&tx.system(SYSTEM))
        .await
}

/// The asker's accounts at providers, the one bound first before the others, `most` at most.
///
/// # Errors
/// What the database says.
pub async fn identities_of_asker(
    scope: &Scope,
    tx: &Tx,
    most: u64,
) -> Result<Vec<identity::Model>, DbErr> {
    own_identities(scope)
        .order_by_asc(identity::Column::LinkedAt)
        .order_by_asc(identity::Column::Id)
        .limit(most)
        .all(&tx.system(SYSTEM))
        .await
}

/// How a person signs in is his own affair, in whichever tenant.
fn own_identities(scope: &Scope) -> Select<identity::Entity> {
    identity::Entity::find().filter(identity::Column::UserId.eq(scope.user()))
}

/// A person has them, not a tenant: whichever tenant is asked in, they are all his.
fn own_sessions(scope: &Scope) -> Select<session::Entity> {
    session::Entity::find().filter(session::Column::UserId.eq(scope.user()))
}
