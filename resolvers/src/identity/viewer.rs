//! Whoever asks.

use std::sync::Arc;

use async_graphql::{Context, Object, Result};
use auth::Identity;
use chrono::Utc;
use loaders::identity::Member;
use uuid::Uuid;

use super::{
    allowance::RateLimit,
    enums::{CredentialKind, Permission, Role},
    objects::{ApiKey, Membership, User},
    oidc::Identity as OidcIdentity,
    sessions::Session,
};
use crate::{
    asking::ContextExt,
    connection::{Connection, Paging},
    scalars::Cursor,
    tenant::Tenant,
};

/// Name of the list in its cursors.
const API_KEYS: &str = "viewer.apiKeys";
/// The most sessions that are listed.
const SESSIONS: u64 = 100;
/// The most identities that are listed.
const IDENTITIES: u64 = 100;

/// Whoever asks: a user, in a tenant, by a credential.
pub struct Viewer(pub Identity);

/// Whoever asks: a user, in a tenant, by a credential.
#[Object]
impl Viewer {
    /// A person, or the account of a service key.
    async fn user(&self) -> User {
        User(Arc::new(Member {
            user: self.0.user().clone(),
            membership: self.0.membership().cloned(),
        }))
    }

    /// The tenant that is asked in.
    async fn tenant(&self) -> Tenant {
        Tenant(Arc::new(self.0.tenant().clone()))
    }

    /// As what the user belongs to it. Null for a platform administrator in a tenant that is not his.
    async fn role(&self) -> Option<Role> {
        self.0.scope().role().map(Into::into)
    }

    /// What this credential may do in this tenant.
    async fn permissions(&self) -> Vec<Permission> {
        self.0
            .scope()
            .permissions()
            .iter()
            .map(Permission::from)
            .collect()
    }

    /// Whether this credential may look after the whole installation: the session of an administrator of the platform. No key can.
    async fn is_platform_administrator(&self) -> bool {
        self.0.scope().may(entities::Permission::PlatformManage)
    }

    /// What showed who asks.
    async fn credential(&self) -> CredentialKind {
        self.0.credential().into()
    }

    /// Every tenant that this user can act in, the one joined first before the others.
    async fn memberships(&self, ctx: &Context<'_>) -> Result<Vec<Membership>> {
        let found = ctx.reader().memberships_of_asker().await?;
        Ok(found
            .into_iter()
            .map(|found| Membership(Arc::new(found)))
            .collect())
    }

    /// Cost units that this credential has left, and how fast they come back.
    async fn rate_limit(&self, ctx: &Context<'_>) -> RateLimit {
        (ctx.allowances().0)(&self.0)
    }

    /// Where the log of changes in the tenant stands: read lists with it, then subscribe to `changes` after it, and nothing is
    /// missed.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<Cursor> {
        let tenant = ctx.scope()?.tenant();
        let head = ctx.reader().head_of_changes().await?;
        Ok(Cursor(ctx.engine().log().cursor(tenant.0, head).encode()))
    }

    /// The user's sessions that can be used, in whichever tenant they are, most recently seen first: the last hundred at most.
    async fn sessions(&self, ctx: &Context<'_>) -> Result<Vec<Session>> {
        let now = ctx.clock().now();
        let found = ctx.reader().sessions_of_asker(now, SESSIONS).await?;
        Ok(found
            .into_iter()
            .map(|row| Session(Arc::new(row)))
            .collect())
    }

    /// The accounts at OpenID providers that the user signs in by, the one bound first before the others: a hundred at most.
    async fn identities(&self, ctx: &Context<'_>) -> Result<Vec<OidcIdentity>> {
        let found = ctx.reader().identities_of_asker(IDENTITIES).await?;
        Ok(found
            .into_iter()
            .map(|row| OidcIdentity(Arc::new(row)))
            .collect())
    }

    /// The user's API keys in this tenant, newest first.
    async fn api_keys(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "How many at most, from the beginning of the list or from `after` on: 20 where neither this nor `last` is \
                    given. From 0 to `ServiceLimits.maxPageSize`, which is 100 unless set otherwise."
        )]
        first: Option<i32>,
        #[graphql(
            desc = "Only what stands after this place: a cursor of this list in this order, such as the `endCursor` of the \
                    page before."
        )]
        after: Option<Cursor>,
        #[graphql(
            desc = "How many at most, from the end of the list or from `before` back; they come in the list's order all the \
                    same. As many as `first` may be, and not together with it."
        )]
        last: Option<i32>,
        #[graphql(
            desc = "Only what stands before this place: a cursor of this list in this order, such as the `startCursor` of the \
                    page after."
        )]
        before: Option<Cursor>,
    ) -> Result<Connection<ApiKey>> {
        let page = Paging {
            first,
            after,
            last,
            before,
        }
        .read::<(chrono::DateTime<Utc>, Uuid)>(ctx, API_KEYS)?;
        let rows = ctx.reader().api_keys_of_asker(page).await?;
        let reader = ctx.reader().clone();
        let keys = Connection::new(
            API_KEYS,
            rows,
            |row| (row.created_at, row.id.0),
            |row| ApiKey(Arc::new(row)),
        );
        Ok(keys.counted(move || {
            let reader = reader.clone();
            async move { reader.count_api_keys_of_asker().await }
        }))
    }
}

/// Who asks.
#[derive(Default)]
pub struct IdentityQuery;

#[Object]
impl IdentityQuery {
    /// Who is asking; null without a credential. A bad or ended one is an UNAUTHENTICATED error.
    async fn viewer(&self, ctx: &Context<'_>) -> Option<Viewer> {
        ctx.identity().map(Viewer)
    }
}
