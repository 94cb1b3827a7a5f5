//! Who sees a thing, and how far they may go with it.

use async_graphql::{Enum, ID, Interface, json_enum, plain_abstract};

use crate::{agent::Agent, conversation::Conversation, model::Model};

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
