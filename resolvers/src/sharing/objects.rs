//! Who sees a thing, and how far they may go with it.

use async_graphql::{Context, Enum, ID, Interface, Object, Result, json_enum, plain_abstract};
use entities::{GroupId, share};
use loaders::{
    groups::GroupOf,
    identity::{MemberOf, TenantOf},
    shares::SharesOf,
};
use uuid::Uuid;

use crate::{
    agent::Agent, asking::ContextExt, conversation::Conversation, group::Group, identity::User,
    model::Model, scalars::DateTime, tenant::Tenant,
};

/// Who sees a thing besides its owner, the people it is shared with and the tenant's administrators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::Visibility")]
pub enum Visibility {
    /// Nobody.
    Private,
    /// The members of its group.
    Group,
    /// Everybody in the tenant.
    Tenant,
}
json_enum!(Visibility);

/// How far somebody may go with a thing; each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::Access")]
pub enum Access {
    /// Use it, through an agent or by choosing it, without seeing what it is made of.
    Use,
    /// See its content.
    Read,
    /// Change it.
    Edit,
    /// Share and delete it.
    Manage,
}
json_enum!(Access);

/// A thing that has an owner and that others may see or change, too.
#[derive(Interface)]
#[graphql(
    crate = "shareable_gql",
    field(name = "id", ty = "ID", desc = "Its id."),
    field(name = "visibility", ty = "Visibility", desc = "Who sees it."),
    field(
        name = "viewer_access",
        ty = "Access",
        desc = "How far the viewer may go with it."
    ),
    field(
        name = "group",
        ty = "Result<Option<Group>>",
        desc = "Where it lives; null: it is its owner's own, or lives in a group that the viewer may not see."
    ),
    field(
        name = "shares",
        ty = "Result<Option<Vec<Share>>>",
        desc = "With whom it is shared, the first share first; null for those who may not share it."
    )
)]
pub enum Shareable {
    /// A model.
    Model(Model),
    /// An agent.
    Agent(Agent),
    /// A conversation.
    Conversation(Conversation),
}

plain_abstract!(Shareable as shareable_gql { Model, Agent, Conversation });

/// That a thing is shared with a user, with the members of a group, or with everybody in the tenant, and how far they may go.
#[derive(Clone)]
pub struct Share(pub share::Model);

/// That a thing is shared with a user, with the members of a group, or with everybody in the tenant, and how far they may go.
#[Object]
impl Share {
    /// With whom, where it is a user.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let Some(id) = self.0.user_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(MemberOf(id)).await?.map(User))
    }

    /// With whose members, where it is a group; null, too, for a group that the viewer may not see.
    async fn group(&self, ctx: &Context<'_>) -> Result<Option<Group>> {
        lives_in(ctx, self.0.group_id).await
    }

    /// The tenant, where it is everybody in it.
    async fn tenant(&self, ctx: &Context<'_>) -> Result<Option<Tenant>> {
        if !self.0.with_tenant {
            return Ok(None);
        }
        let id = self.0.tenant_id;
        Ok(ctx.reader().load(TenantOf(id)).await?.map(Tenant))
    }

    /// How far they may go.
    async fn access(&self) -> Access {
        self.0.access.into()
    }

    /// When it was shared with them.
    async fn created_at(&self) -> DateTime {
        self.0.created_at.into()
    }
}

/// The group of this id as the viewer may see it.
pub(crate) async fn lives_in(ctx: &Context<'_>, id: Option<GroupId>) -> Result<Option<Group>> {
    let Some(id) = id else {
        return Ok(None);
    };
    Ok(ctx.reader().load(GroupOf(id)).await?.map(Group))
}

/// With whom a thing is shared that the viewer has this access to.
pub(crate) async fn shares_of(
    ctx: &Context<'_>,
    resource: Uuid,
    access: entities::Access,
) -> Result<Option<Vec<Share>>> {
    if access < entities::Access::Manage {
        return Ok(None);
    }
    let found = ctx.reader().load(SharesOf(resource)).await?;
    Ok(Some(found.map_or_else(Vec::new, |rows| {
        rows.iter().cloned().map(Share).collect()
    })))
}
