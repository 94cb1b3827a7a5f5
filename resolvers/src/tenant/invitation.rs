//! Invitations into a tenant.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, Object, Result, SimpleObject, json_enum};
use auth::InvitedTo;
use entities::{Refusal, invitation};
use loaders::{groups::GroupsOfInvitation, identity::TenantOf, tenancy::InviterOf};

use super::object::Tenant;
use crate::{
    asking::ContextExt,
    group::Group,
    identity::{Role, User},
    scalars::DateTime,
};

/// Whether an invitation can be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::InvitationStatus")]
pub enum InvitationStatus {
    /// It can.
    Open,
    /// Not any more: it was, as often as it could be.
    Accepted,
    /// Not any more: it was taken back, or too many wrong passwords came with it.
    Revoked,
    /// Not any more: it ran out.
    Expired,
}
json_enum!(InvitationStatus);

/// An invitation into the tenant. Its token is shown once, when it is made.
#[derive(Clone)]
pub struct Invitation(pub Arc<invitation::Model>);

/// An invitation into the tenant. Its token is shown once, when it is made.
#[Object]
impl Invitation {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The tenant that it leads into.
    async fn tenant(&self, ctx: &Context<'_>) -> Result<Tenant> {
        let id = self.0.tenant_id;
        let row = ctx.reader().load(TenantOf(id)).await?;
        Ok(Tenant(row.ok_or_else(|| Refusal::not_found(&[], id))?))
    }

    /// The only e-mail address that may accept it; null: whoever has the token may.
    async fn email(&self) -> Option<&str> {
        self.0.email.as_deref()
    }

    /// What whoever accepts it becomes.
    async fn role(&self) -> Role {
        self.0.role.into()
    }

    /// The groups that whoever accepts it becomes a member of, by path; those that the viewer may not see are left out.
    async fn groups(&self, ctx: &Context<'_>) -> Result<Vec<Group>> {
        let found = ctx.reader().load(GroupsOfInvitation(self.0.id)).await?;
        Ok(found
            .iter()
            .flat_map(|list| list.iter())
            .map(|group| Group(group.clone()))
            .collect())
    }

    /// Whether it can be accepted.
    async fn status(&self, ctx: &Context<'_>) -> InvitationStatus {
        self.0.status(ctx.clock().now()).into()
    }

    /// How often it can still be accepted, if it is OPEN.
    async fn uses_left(&self) -> i32 {
        self.0.uses_left
    }

    /// When it runs out.
    async fn expires_at(&self) -> DateTime {
        self.0.expires_at.into()
    }

    /// Who made it: a member, or an administrator of the platform, of whom no more than the name is shown.
    async fn invited_by(&self, ctx: &Context<'_>) -> Result<User> {
        let id = self.0.invited_by;
        let found = ctx.reader().load(InviterOf(id)).await?;
        Ok(User(found.ok_or_else(|| Refusal::not_found(&[], id))?))
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        self.0.created_at.into()
    }
}

/// What an invitation offers, for whoever has its token and nothing else.
#[derive(SimpleObject)]
pub struct InvitationPreview {
    /// Name of the tenant that it leads into.
    tenant_name: String,
    /// What whoever accepts it becomes.
    role: Role,
    /// The only e-mail address that may accept it; null: whoever has the token may.
    email: Option<String>,
    /// Whether it can be accepted.
    status: InvitationStatus,
    /// When it runs out.
    expires_at: DateTime,
}

impl From<InvitedTo> for InvitationPreview {
    fn from(invited: InvitedTo) -> Self {
        Self {
            tenant_name: invited.tenant_name,
            role: invited.role.into(),
            email: invited.email,
            status: invited.status.into(),
            expires_at: invited.expires_at.into(),
        }
    }
}
