//! What is true of a credential at this moment: it, its user, a tenant and the user's membership there, read in one statement.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, FromQueryResult, IdenStatic,
    Iterable, QueryFilter, QueryOrder, QueryResult, QuerySelect, QueryTrait, Select,
    sea_query::{Condition, Expr, ExprTrait, IntoColumnRef, UnionType},
};
use uuid::Uuid;

use super::{api_key, group_member, membership, session, tenant, user};
use crate::{
    ApiKeyId, GroupId, MembershipId, Permissions, Role, SessionId, SystemScope, TenantId, UserId,
};

/// The groups that somebody is a member of himself, and as what.
pub type Groups = Arc<[(GroupId, Role)]>;

/// The groups of a user in a tenant as one text, in an order, within a statement that has `users` and `memberships`.
fn groups_of_user(db: DbBackend) -> Expr {
    Expr::cust(match db {
        DbBackend::Postgres => {
            "(select string_agg(replace(gm.group_id::text, '-', '') || gm.role, ' ' order by gm.group_id) from group_members gm \
             where gm.tenant_id = memberships.tenant_id and gm.user_id = users.id)"
        }
        _ => {
            "(select group_concat(one, ' ') from (select lower(hex(gm.group_id)) || gm.role as one from group_members gm \
             where gm.tenant_id = memberships.tenant_id and gm.user_id = users.id order by gm.group_id))"
        }
    })
}

/// Reads what [`groups_of_user`] wrote.
fn read_groups(text: Option<&str>) -> Groups {
    use sea_orm::ActiveEnum;
    let one = |text: &str| {
        let (id, role) = text.split_at_checked(32)?;
        let role = Role::try_from_value(&role.to_owned()).ok()?;
        Some((GroupId(Uuid::try_parse(id).ok()?), role))
    };
    text.unwrap_or_default()
        .split(' ')
        .filter_map(one)
        .collect()
}

/// How a tenant is named.
#[derive(Debug, Clone, Copy)]
pub enum InTenant<'a> {
    /// By its id.
    Id(TenantId),
    /// By its slug.
    Slug(&'a str),
}

impl InTenant<'_> {
    fn condition(self) -> Condition {
        Condition::all().add(match self {
            Self::Id(id) => tenant::Column::Id.eq(id),
            Self::Slug(slug) => tenant::Column::Slug.eq(slug),
        })
    }
}

/// A user, as he stands in a tenant, and the session or key that he was asked for by.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The account.
    pub user: user::Model,
    /// Where it was asked for by one.
    pub session: Option<session::Model>,
    /// Where it was asked for by one.
    pub key: Option<api_key::Model>,
    /// Absent where there is no such tenant.
    pub tenant: Option<tenant::Model>,
    /// Absent where the user was never a member of it.
    pub membership: Option<membership::Model>,
    /// The groups there that he is a member of himself.
    pub groups: Groups,
}

impl Standing {
    /// The tenant and the membership, where both and the account may be used.
    #[must_use]
    pub fn member(&self) -> Option<(&tenant::Model, &membership::Model)> {
        let (tenant, membership) = (self.tenant.as_ref()?, self.membership.as_ref()?);
        let good = self.user.is_active
            && tenant.is_active
            && membership.is_active
            && membership.ended_at.is_none();
        good.then_some((tenant, membership))
    }

    /// The tenant, where the user is no member whose membership may be used, and may look at it all the same: as an
    /// administrator of the platform, who came by a session.
    #[must_use]
    pub fn visited(&self) -> Option<&tenant::Model> {
        let may = self.session.is_some()
            && self.user.is_active
            && self.user.is_platform_administrator
            && self.member().is_none();
        self.tenant.as_ref().filter(|_| may)
    }

    /// Whether the session or key may be used at `now`; true where there is none.
    #[must_use]
    pub fn credential_is_good(&self, now: DateTime<Utc>) -> bool {
        let session = self
            .session
            .as_ref()
            .is_none_or(|session| session.is_good(now));
        let key = self
            .key
            .as_ref()
            .is_none_or(|k| k.revoked_at.is_none() && k.expires_at.is_none_or(|at| at > now));
        session && key
    }
}

impl FromQueryResult for Standing {
    fn from_query_result(row: &QueryResult, _: &str) -> Result<Self, DbErr> {
        Ok(Self {
            user: user::Model::from_query_result(row, "u_")?,
            session: part(row, "s_")?,
            key: part(row, "k_")?,
            tenant: part(row, "t_")?,
            membership: part(row, "m_")?,
            groups: read_groups(row.try_get::<Option<String>>("", "groups")?.as_deref()),
        })
    }
}

/// A part of the row that the statement may not have asked for, or that the join did not find.
fn part<M: FromQueryResult>(row: &QueryResult, prefix: &str) -> Result<Option<M>, DbErr> {
    match row.try_get::<Option<Uuid>>(prefix, "id") {
        Ok(Some(_)) => M::from_query_result(row, prefix).map(Some),
        Ok(None) | Err(_) => Ok(None),
    }
}

fn columns<F: EntityTrait>(select: Select<user::Entity>, prefix: &str) -> Select<user::Entity> {
    F::Column::iter().fold(select, |select, column| {
        select.column_as(column, format!("{prefix}{}", column.as_str()))
    })
}

fn same(left: impl IntoColumnRef, right: impl IntoColumnRef) -> Expr {
    Expr::col(left).equals(right)
}

/// Users with a tenant and their membership there.
fn users(db: DbBackend, tenant: Condition) -> Select<user::Entity> {
    let mut select = user::Entity::find().select_only();
    select = columns::<user::Entity>(select, "u_");
    select = columns::<tenant::Entity>(select, "t_");
    select = columns::<membership::Entity>(select, "m_");
    select = select.column_as(groups_of_user(db), "groups");
    let member = Condition::all()
        .add(same(
            (membership::Entity, membership::Column::UserId),
            (user::Entity, user::Column::Id),
        ))
        .add(same(
            (membership::Entity, membership::Column::TenantId),
            (tenant::Entity, tenant::Column::Id),
        ));
    QueryTrait::query(&mut select)
        .left_join(tenant::Entity, tenant)
        .left_join(membership::Entity, member);
    select
}

/// By a session. The tenant is the one named, whichever the session began in.
///
/// # Errors
/// What the database says.
pub async fn of_session(
    _: SystemScope,
    db: &impl ConnectionTrait,
    id: SessionId,
    tenant: InTenant<'_>,
) -> Result<Option<Standing>, DbErr> {
    let mut select =
        columns::<session::Entity>(users(db.get_database_backend(), tenant.condition()), "s_")
            .filter(session::Column::Id.eq(id));
    QueryTrait::query(&mut select).inner_join(
        session::Entity,
        same(
            (session::Entity, session::Column::UserId),
            (user::Entity, user::Column::Id),
        ),
    );
    select.into_model::<Standing>().one(db).await
}

/// By the SHA-256 of an API key, in the key's tenant.
///
/// # Errors
/// What the database says.
pub async fn of_key(
    _: SystemScope,
    db: &impl ConnectionTrait,
    digest: &[u8],
) -> Result<Option<Standing>, DbErr> {
    let is_it = api_key::Column::Digest.eq(digest.to_vec());
    keyed(db, own_key(), Condition::all().add(is_it)).await
}

/// Whom a service key is to act for, in its tenant.
#[derive(Debug, Clone, Copy)]
pub enum OnBehalfOf<'a> {
    /// A user of the tenant.
    User(UserId),
    /// By the address of an account that the tenant manages, in lower case: others' is nobody's word but their own.
    Email(&'a str),
}

/// The user whom a service key, by the SHA-256 of it, acts for. The account of the key itself is looked at apart.
///
/// # Errors
/// What the database says.
pub async fn of_key_on_behalf(
    _: SystemScope,
    db: &impl ConnectionTrait,
    digest: &[u8],
    whom: OnBehalfOf<'_>,
) -> Result<Option<Standing>, DbErr> {
    let whom = match whom {
        OnBehalfOf::User(id) => Condition::all().add(user::Column::Id.eq(id)),
        OnBehalfOf::Email(key) => Condition::all()
            .add(user::Column::EmailKey.eq(key))
            .add(same(
                (user::Entity, user::Column::ManagedTenantId),
                (api_key::Entity, api_key::Column::TenantId),
            )),
    };
    let is_it = whom.add(api_key::Column::Digest.eq(digest.to_vec()));
    keyed(db, any_key(), is_it).await
}

/// By a user, and by a key of his, or one that acts for him, where the rights came from one.
///
/// # Errors
/// What the database says.
pub async fn of_user(
    _: SystemScope,
    db: &impl ConnectionTrait,
    user: UserId,
    tenant: TenantId,
    key: Option<ApiKeyId>,
) -> Result<Option<Standing>, DbErr> {
    match key {
        Some(key) => {
            let condition = Condition::all()
                .add(api_key::Column::Id.eq(key))
                .add(user::Column::Id.eq(user))
                .add(api_key::Column::TenantId.eq(tenant))
                .add(may_act());
            keyed(db, any_key(), condition).await
        }
        None => {
            users(db.get_database_backend(), InTenant::Id(tenant).condition())
                .filter(user::Column::Id.eq(user))
                .into_model::<Standing>()
                .one(db)
                .await
        }
    }
}

/// That a key is its user's.
fn own_key() -> Expr {
    same(
        (api_key::Entity, api_key::Column::UserId),
        (user::Entity, user::Column::Id),
    )
}

/// Whoever's a key is; what it is of a user is said elsewhere.
fn any_key() -> Expr {
    Expr::val(1).eq(1)
}

/// That a key is its user's, or acts for him: then it may, its own account may be used, and he is nobody who administers.
fn may_act() -> Condition {
    let acts = Expr::cust(
        "api_keys.may_impersonate and memberships.role in ('EDITOR', 'MEMBER') and exists (\
           select 1 from memberships am join users au on au.id = am.user_id \
           where am.tenant_id = api_keys.tenant_id and am.user_id = api_keys.user_id \
             and am.is_active and am.ended_at is null and au.is_active)",
    );
    Condition::any().add(own_key()).add(acts)
}

async fn keyed(
    db: &impl ConnectionTrait,
    whose: Expr,
    condition: Condition,
) -> Result<Option<Standing>, DbErr> {
    // The key's table is joined first, so that the tenant's condition may name it.
    let mut select = user::Entity::find().select_only();
    select = columns::<user::Entity>(select, "u_");
    select = columns::<api_key::Entity>(select, "k_");
    select = columns::<tenant::Entity>(select, "t_");
    select = columns::<membership::Entity>(select, "m_");
    select = select.column_as(groups_of_user(db.get_database_backend()), "groups");
    let member = Condition::all()
        .add(same(
            (membership::Entity, membership::Column::UserId),
            (user::Entity, user::Column::Id),
        ))
        .add(same(
            (membership::Entity, membership::Column::TenantId),
            (api_key::Entity, api_key::Column::TenantId),
        ));
    QueryTrait::query(&mut select)
        .inner_join(api_key::Entity, whose)
        .left_join(
            tenant::Entity,
            same(
                (tenant::Entity, tenant::Column::Id),
                (api_key::Entity, api_key::Column::TenantId),
            ),
        )
        .left_join(membership::Entity, member);
    select
        .filter(condition)
        .into_model::<Standing>()
        .one(db)
        .await
}

/// The tenants that a user may act in, with his membership there: the one last used first, then the oldest.
///
/// # Errors
/// What the database says.
pub async fn memberships_of(
    _: SystemScope,
    db: &impl ConnectionTrait,
    user: UserId,
) -> Result<Vec<(membership::Model, tenant::Model)>, DbErr> {
    let mut select = membership::Entity::find();
    QueryTrait::query(&mut select).inner_join(
        tenant::Entity,
        same(
            (tenant::Entity, tenant::Column::Id),
            (membership::Entity, membership::Column::TenantId),
        ),
    );
    let mut found = select
        .select_two_required(tenant::Entity)
        .filter(membership::Column::UserId.eq(user))
        .filter(membership::Column::IsActive.eq(true))
        .filter(membership::Column::EndedAt.is_null())
        .filter(tenant::Column::IsActive.eq(true))
        .all(db)
        .await?;
    // Not in the statement: where nothing stands in `last_used_at`, the two databases order differently.
    found.sort_by_key(|(membership, _)| {
        (
            std::cmp::Reverse(membership.last_used_at),
            membership.created_at,
            membership.id,
        )
    });
    Ok(found)
}

/// The groups that whoever a membership is of is a member of himself.
///
/// # Errors
/// What the database says.
pub async fn groups_of(
    db: &impl ConnectionTrait,
    membership: &membership::Model,
) -> Result<Groups, DbErr> {
    let rows = group_member::Entity::of_tenant(membership.tenant_id)
        .filter(group_member::Column::UserId.eq(membership.user_id))
        .order_by_asc(group_member::Column::GroupId)
        .all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.group_id, row.role))
        .collect())
}

/// A session or key that is still good, and what its rights follow from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillGood {
    /// The id of the session or key.
    pub credential: Uuid,
    /// The membership that it acts by; [`VISITING`] without one.
    pub membership: MembershipId,
    /// The role that this gives; absent without a membership.
    pub role: Option<Role>,
    /// The groups that the user is a member of himself.
    pub groups: Groups,
    /// Whether the user looks after the whole installation.
    pub is_platform_administrator: bool,
    /// The most that a key may do; `None` for a session.
    pub of_key: Option<Permissions>,
}

/// In place of a membership: an administrator of the platform in a tenant that is not his.
pub const VISITING: MembershipId = MembershipId(Uuid::nil());

/// Of the sessions and keys, each with the membership that it acts by, those that are still good at `now`; in one statement for
/// up to 2,000 of each, in no order.
///
/// # Errors
/// What the database says.
pub async fn still_good(
    _: SystemScope,
    db: &impl ConnectionTrait,
    sessions: &[(SessionId, MembershipId)],
    keys: &[(ApiKeyId, MembershipId)],
    now: DateTime<Utc>,
) -> Result<Vec<StillGood>, DbErr> {
    const AT_ONCE: usize = 2_000;
    let mut good = Vec::new();
    let mut at = 0;
    while at < sessions.len().max(keys.len()) {
        let some_sessions = sessions
            .get(at..sessions.len().min(at + AT_ONCE))
            .unwrap_or_default();
        let some_keys = keys
            .get(at..keys.len().min(at + AT_ONCE))
            .unwrap_or_default();
        let backend = db.get_database_backend();
        let mut of_sessions = active(
            backend,
            some_sessions.iter().map(|(_, membership)| *membership),
        )
        .column_as(session::Column::Id, "credential")
        .column_as(Expr::cust("null"), "of_key")
        .filter(session::Column::Id.is_in(some_sessions.iter().map(|(id, _)| *id)))
        .filter(session::Column::EndedAt.is_null())
        .filter(session::Column::ExpiresAt.gt(now))
        .filter(session::Column::EndsAt.gt(now));
        QueryTrait::query(&mut of_sessions).inner_join(
            session::Entity,
            same(
                (session::Entity, session::Column::UserId),
                (user::Entity, user::Column::Id),
            ),
        );
        let mut of_keys = active(backend, some_keys.iter().map(|(_, membership)| *membership))
            .column_as(api_key::Column::Id, "credential")
            .column_as(api_key::Column::Permissions, "of_key")
            .filter(api_key::Column::Id.is_in(some_keys.iter().map(|(id, _)| *id)))
            .filter(api_key::Column::RevokedAt.is_null())
            .filter(
                Condition::any()
                    .add(api_key::Column::ExpiresAt.is_null())
                    .add(api_key::Column::ExpiresAt.gt(now)),
            );
        let of_tenant = same(
            (api_key::Entity, api_key::Column::TenantId),
            (membership::Entity, membership::Column::TenantId),
        );
        QueryTrait::query(&mut of_keys).inner_join(api_key::Entity, of_tenant);
        let of_keys = of_keys.filter(may_act());
        let visiting = some_sessions
            .iter()
            .filter(|(_, membership)| *membership == VISITING);
        let of_visitors = visitors(visiting.map(|(id, _)| *id).collect(), now);
        let mut all = of_sessions.into_query();
        all.union(UnionType::All, of_keys.into_query());
        all.union(UnionType::All, of_visitors.into_query());
        for row in db.query_all(&all).await? {
            good.push(StillGood {
                credential: row.try_get("", "credential")?,
                membership: row.try_get("", "membership")?,
                role: row.try_get("", "role")?,
                groups: read_groups(row.try_get::<Option<String>>("", "groups")?.as_deref()),
                is_platform_administrator: row.try_get("", "is_platform_administrator")?,
                of_key: row.try_get("", "of_key")?,
            });
        }
        at += AT_ONCE;
    }
    Ok(good)
}

/// The sessions among these of administrators of the platform, in the shape of [`active`].
fn visitors(sessions: Vec<SessionId>, now: DateTime<Utc>) -> Select<user::Entity> {
    let mut select = user::Entity::find()
        .select_only()
        .column_as(Expr::val(VISITING.0), "membership")
        .column_as(Expr::cust("null"), "role")
        .column_as(Expr::cust("null"), "groups")
        .column_as(
            user::Column::IsPlatformAdministrator,
            "is_platform_administrator",
        )
        .column_as(session::Column::Id, "credential")
        .column_as(Expr::cust("null"), "of_key");
    QueryTrait::query(&mut select).inner_join(
        session::Entity,
        same(
            (session::Entity, session::Column::UserId),
            (user::Entity, user::Column::Id),
        ),
    );
    select
        .filter(session::Column::Id.is_in(sessions))
        .filter(session::Column::EndedAt.is_null())
        .filter(session::Column::ExpiresAt.gt(now))
        .filter(session::Column::EndsAt.gt(now))
        .filter(user::Column::IsActive.eq(true))
        .filter(user::Column::IsPlatformAdministrator.eq(true))
}

/// Of these memberships the ones that may be used, with user and tenant joined.
fn active(db: DbBackend, memberships: impl Iterator<Item = MembershipId>) -> Select<user::Entity> {
    let mut select = user::Entity::find()
        .select_only()
        .column_as(membership::Column::Id, "membership")
        .column_as(membership::Column::Role, "role")
        .column_as(groups_of_user(db), "groups")
        .column_as(
            user::Column::IsPlatformAdministrator,
            "is_platform_administrator",
        );
    QueryTrait::query(&mut select)
        .inner_join(
            membership::Entity,
            same(
                (membership::Entity, membership::Column::UserId),
                (user::Entity, user::Column::Id),
            ),
        )
        .inner_join(
            tenant::Entity,
            same(
                (tenant::Entity, tenant::Column::Id),
                (membership::Entity, membership::Column::TenantId),
            ),
        );
    select
        .filter(membership::Column::Id.is_in(memberships))
        .filter(membership::Column::IsActive.eq(true))
        .filter(membership::Column::EndedAt.is_null())
        .filter(tenant::Column::IsActive.eq(true))
        .filter(user::Column::IsActive.eq(true))
}
