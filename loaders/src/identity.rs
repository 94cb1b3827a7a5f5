//! Users, memberships, tenants, sessions and API keys, as whoever asks may see them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use entities::{
    ApiKeyId, IdentityId, MembershipId, Permission, Scope, SessionId, TenantId, UserId, api_key,
    identity, membership,
    page::{Page, Rows, paged},
    people,
    query::*,
    session, tenant, user,
};

use crate::{
    Found, LoadError, Reader, Relation, Source, reader::rows_by, tenancy::may_see_members,
};

/// A user as a tenant sees him: the account, and his membership there.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The account.
    pub user: user::Model,
    /// That it belongs to the tenant, or once did. `None` of an administrator of the platform who looks at another's tenant.
    pub membership: Option<membership::Model>,
}

/// A membership with both its ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Belonging {
    /// That the user belongs to the tenant, or once did.
    pub membership: membership::Model,
    /// The user.
    pub member: Arc<Member>,
    /// The tenant.
    pub tenant: Arc<tenant::Model>,
}

/// The user of this id in the tenant; those whose membership has ended are there, too, for what they wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemberOf(pub UserId);

impl Relation for MemberOf {
    type Value = Arc<Member>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let users = keys.iter().map(|key| key.0).collect();
        let rows = people::members(scope, &**source.tx().await?, users).await?;
        let found = rows.into_iter().map(|(membership, user)| {
            (
                Self(user.id),
                Arc::new(Member {
                    user,
                    membership: Some(membership),
                }),
            )
        });
        Ok(found.collect())
    }
}

/// The membership of this id: one's own, wherever it is; those of others in this tenant with MEMBERS_MANAGE, and for
/// administrators of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BelongingOf(pub MembershipId);

impl Relation for BelongingOf {
    type Value = Arc<Belonging>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let ids = keys.iter().map(|key| key.0).collect();
        let others = may_see_members(scope);
        let rows = people::memberships(scope, source.tx().await?, ids, others).await?;
        Ok(rows
            .into_iter()
            .map(|found| (Self(found.0.id), Arc::new(Belonging::of(found))))
            .collect())
    }
}

impl Belonging {
    /// Of a tenant that several are of.
    pub(crate) fn in_one(
        membership: membership::Model,
        user: user::Model,
        tenant: &Arc<tenant::Model>,
    ) -> Self {
        Self {
            membership: membership.clone(),
            member: Arc::new(Member {
                user,
                membership: Some(membership),
            }),
            tenant: tenant.clone(),
        }
    }

    fn of((membership, user, tenant): (membership::Model, user::Model, tenant::Model)) -> Self {
        Self::in_one(membership, user, &Arc::new(tenant))
    }
}

/// The tenant of this id: the one that is asked in, or another that the user belongs to; any for an administrator of the
/// platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TenantOf(pub TenantId);

impl Relation for TenantOf {
    type Value = Arc<tenant::Model>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let ids = keys.iter().map(|key| key.0).collect();
        let rows = people::tenants(scope, source.tx().await?, ids).await?;
        Ok(rows_by(rows, |row| Self(row.id)))
    }
}

/// The API key of this id in the tenant: one's own, or anybody's with MEMBERS_MANAGE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApiKeyOf(pub ApiKeyId);

impl Relation for ApiKeyOf {
    type Value = Arc<api_key::Model>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let mut select = api_key::Entity::in_tenant(scope)
            .filter(api_key::Column::Id.is_in(keys.iter().map(|key| key.0)));
        if !scope.may(Permission::MembersManage) {
            select = select.filter(api_key::Column::UserId.eq(scope.user()));
        }
        let rows = select.all(&**source.tx().await?).await?;
        Ok(rows_by(rows, |row| Self(row.id)))
    }
}

/// The session of this id: one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionOf(pub SessionId);

impl Relation for SessionOf {
    type Value = Arc<session::Model>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let ids = keys.iter().map(|key| key.0).collect();
        let rows = people::sessions(scope, source.tx().await?, ids).await?;
        Ok(rows_by(rows, |row| Self(row.id)))
    }
}

/// The account at a provider of this id: one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdentityOf(pub IdentityId);

impl Relation for IdentityOf {
    type Value = Arc<identity::Model>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let ids = keys.iter().map(|key| key.0).collect();
        let rows = people::identities(scope, source.tx().await?, ids).await?;
        Ok(rows_by(rows, |row| Self(row.id)))
    }
}

impl Reader {
    /// The accounts at providers of whoever asks: the one that was bound first comes first, and `most` are answered. Empty without
    /// a credential.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn identities_of_asker(&self, most: u64) -> Result<Vec<identity::Model>, LoadError> {
        self.run(move |source| async move {
            let Some(scope) = source.scope() else {
                return Ok(Vec::new());
            };
            Ok(people::identities_of_asker(scope, source.tx().await?, most).await?)
        })
        .await
    }

    /// The sessions of whoever asks that can be used at `now`, in any tenant: the one that was seen last comes first, and `most`
    /// are answered. Empty without a credential.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn sessions_of_asker(
        &self,
        now: DateTime<Utc>,
        most: u64,
    ) -> Result<Vec<session::Model>, LoadError> {
        self.run(move |source| async move {
            let Some(scope) = source.scope() else {
                return Ok(Vec::new());
            };
            Ok(people::sessions_of_asker(scope, source.tx().await?, now, most).await?)
        })
        .await
    }

    /// Every tenant that the user may act in, with his membership there: the one that was joined first comes first. Empty
    /// without a credential.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn memberships_of_asker(&self) -> Result<Vec<Belonging>, LoadError> {
        self.run(|source| async move {
            let Some(scope) = source.scope() else {
                return Ok(Vec::new());
            };
            let rows = people::memberships_of_asker(scope, source.tx().await?).await?;
            Ok(rows.into_iter().map(Belonging::of).collect())
        })
        .await
    }

    /// The API keys of whoever asks, in this tenant, newest first: `created_at, id` is the order.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn api_keys_of_asker(&self, page: Page) -> Result<Rows<api_key::Model>, LoadError> {
        self.run(|source| async move {
            let Some(select) = own_keys(&source) else {
                return Ok(page.cut(Vec::new()));
            };
            let select = paged(
                select,
                &[api_key::Column::CreatedAt, api_key::Column::Id],
                true,
                &page,
            );
            Ok(page.cut(select.all(&**source.tx().await?).await?))
        })
        .await
    }

    /// How many those are; `None` for more than [`entities::page::COUNTED`].
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn count_api_keys_of_asker(&self) -> Result<Option<u64>, LoadError> {
        self.run(|source| async move {
            let Some(select) = own_keys(&source) else {
                return Ok(Some(0));
            };
            Ok(entities::page::count(select, &**source.tx().await?).await?)
        })
        .await
    }
}

fn own_keys(source: &Source) -> Option<Select<api_key::Entity>> {
    let scope = source.scope()?;
    Some(api_key::Entity::in_tenant(scope).filter(api_key::Column::UserId.eq(scope.user())))
}
