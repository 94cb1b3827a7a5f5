//! What is true of a credential at this moment: it, its user, a tenant and the user's membership there, read in one statement.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, IdenStatic, Iterable,
    QueryFilter, QueryResult, QuerySelect, QueryTrait, Select,
    sea_query::{Condition, Expr, ExprTrait, IntoColumnRef, UnionType},
};
use uuid::Uuid;

use super::{api_key, membership, session, tenant, user};
use crate::{ApiKeyId, MembershipId, Permissions, Role, SessionId, SystemScope, TenantId, UserId};

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
fn users(tenant: Condition) -> Select<user::Entity> {
    let mut select = user::Entity::find().select_only();
    select = columns::<user::Entity>(select, "u_");
    select = columns::<tenant::Entity>(select, "t_");
    select = columns::<membership::Entity>(select, "m_");
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
    let mut select = columns::<session::Entity>(users(tenant.condition()), "s_")
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
    keyed(
        db,
        Condition::all().add(api_key::Column::Digest.eq(digest.to_vec())),
    )
    .await
}

/// By a user, and by a key of his where the rights came from one.
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
                .add(api_key::Column::UserId.eq(user))
                .add(api_key::Column::TenantId.eq(tenant));
            keyed(db, condition).await
        }
        None => {
            users(InTenant::Id(tenant).condition())
                .filter(user::Column::Id.eq(user))
                .into_model::<Standing>()
                .one(db)
                .await
        }
    }
}

async fn keyed(db: &impl ConnectionTrait, condition: Condition) -> Result<Option<Standing>, DbErr> {
    // The key's table is joined first, so that the tenant's condition may name it.
    let mut select = user::Entity::find().select_only();
    select = columns::<user::Entity>(select, "u_");
    select = columns::<api_key::Entity>(select, "k_");
    select = columns::<tenant::Entity>(select, "t_");
    select = columns::<membership::Entity>(select, "m_");
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
        .inner_join(
            api_key::Entity,
            same(
                (api_key::Entity, api_key::Column::UserId),
                (user::Entity, user::Column::Id),
            ),
        )
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

/// A session or key that is still good, and what its rights follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StillGood {
    /// The id of the session or key.
    pub credential: Uuid,
    /// The membership that it acts by.
    pub membership: MembershipId,
    /// The role that this gives.
    pub role: Role,
    /// Whether the user looks after the whole installation.
    pub is_platform_administrator: bool,
    /// The most that a key may do; `None` for a session.
    pub of_key: Option<Permissions>,
}

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
        let mut of_sessions = active(some_sessions.iter().map(|(_, membership)| *membership))
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
        let mut of_keys = active(some_keys.iter().map(|(_, membership)| *membership))
            .column_as(api_key::Column::Id, "credential")
            .column_as(api_key::Column::Permissions, "of_key")
            .filter(api_key::Column::Id.is_in(some_keys.iter().map(|(id, _)| *id)))
            .filter(api_key::Column::RevokedAt.is_null())
            .filter(
                Condition::any()
                    .add(api_key::Column::ExpiresAt.is_null())
                    .add(api_key::Column::ExpiresAt.gt(now)),
            );
        QueryTrait::query(&mut of_keys).inner_join(
            api_key::Entity,
            same(
                (api_key::Entity, api_key::Column::UserId),
                (user::Entity, user::Column::Id),
            ),
        );
        let mut both = of_sessions.into_query();
        both.union(UnionType::All, of_keys.into_query());
        for row in db.query_all(&both).await? {
            good.push(StillGood {
                credential: row.try_get("", "credential")?,
                membership: row.try_get("", "membership")?,
                role: row.try_get("", "role")?,
                is_platform_administrator: row.try_get("", "is_platform_administrator")?,
                of_key: row.try_get("", "of_key")?,
            });
        }
        at += AT_ONCE;
    }
    Ok(good)
}

/// Of these memberships the ones that may be used, with user and tenant joined.
fn active(memberships: impl Iterator<Item = MembershipId>) -> Select<user::Entity> {
    let mut select = user::Entity::find()
        .select_only()
        .column_as(membership::Column::Id, "membership")
        .column_as(membership::Column::Role, "role")
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
