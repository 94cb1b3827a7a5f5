//! Finding tenants, and what invitations into one offer.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result};
use entities::{TenantId, UserId};
use loaders::identity::{MemberOf, TenantOf};
use uuid::Uuid;

use super::{invitation::InvitationPreview, object::Tenant};
use crate::{
    asking::{ContextExt, GivenId},
    connection::{Connection, Paging},
    identity::User,
    scalars::Cursor,
};

/// Name of the list in its cursors.
const TENANTS: &str = "tenants";

/// Finding tenants, and what invitations into one offer.
#[derive(Default)]
pub struct TenantQuery;

#[Object]
impl TenantQuery {
    /// The viewer's tenant, unless another is named that he belongs to, or that he may see as an administrator of the platform.
    async fn tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The id of a tenant that the viewer belongs to, or of any for administrators of the platform; left out: the \
                    one that is asked in."
        )]
        id: Option<ID>,
    ) -> Result<Option<Tenant>> {
        let here = ctx.scope()?.tenant();
        let named = match id {
            None => Some(here),
            Some(id) => id.typed::<TenantId>(),
        };
        match named {
            Some(id) => Ok(ctx.reader().load(TenantOf(id)).await?.map(Tenant)),
            None => Ok(None),
        }
    }

    /// The tenants that the viewer belongs to, by slug; for administrators of the platform all there are.
    async fn tenants(
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
    ) -> Result<Connection<Tenant>> {
        ctx.scope()?;
        let page = Paging {
            first,
            after,
            last,
            before,
        }
        .read::<(String, Uuid)>(ctx, TENANTS)?;
        let rows = ctx.reader().tenants(page).await?;
        let tenants = Connection::new(
            TENANTS,
            rows,
            |row| (row.slug.clone(), row.id.0),
            |row| Tenant(Arc::new(row)),
        );
        let reader = ctx.reader().clone();
        Ok(tenants.counted(move || {
            let reader = reader.clone();
            async move { reader.count_tenants().await }
        }))
    }

    /// The user of this id; null where none such belongs to the tenant that is asked in, or ever did.
    async fn user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of a user.")] id: ID,
    ) -> Result<Option<User>> {
        ctx.scope()?;
        let Some(id) = id.typed::<UserId>() else {
            return Ok(None);
        };
        Ok(ctx.reader().load(MemberOf(id)).await?.map(User))
    }

    /// What an invitation offers; null where there is none with this token. Needs no credential.
    async fn invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token of an invitation, as it came in the link.")] token: String,
    ) -> Result<Option<InvitationPreview>> {
        Ok(ctx
            .authority()
            .invited_to(&token)
            .await?
            .map(InvitationPreview::from))
    }
}
