//! Enums of changes, as clients see them.

use async_graphql::{Enum, json_enum};

/// What changed. Not all of them are there yet, and more may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::ResourceKind")]
pub enum ResourceKind {
    /// An agent.
    Agent,
    /// A model.
    Model,
    /// A conversation: its title, its agent, what runs in it, when something was last said.
    Conversation,
    /// A run: where it stands.
    Run,
    /// That a person is asked to allow something. Not served yet.
    Approval,
    /// A knowledge base. Not served yet.
    KnowledgeBase,
    /// A document of a knowledge base. Not served yet.
    Document,
    /// A tool. Not served yet.
    Tool,
    /// A server of tools. Not served yet.
    McpServer,
    /// A skill. Not served yet.
    Skill,
    /// A file. Not served yet.
    File,
    /// A group of people: its name, its description, its members.
    Group,
    /// That a user belongs to the tenant, as what, and whether it can be used.
    Membership,
}
json_enum!(ResourceKind);

/// How it changed, for the viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::ChangeAction")]
pub enum ChangeAction {
    /// It was made, or the viewer may see it from now on.
    Created,
    /// Something of it is different.
    Updated,
    /// It is gone, or the viewer may no longer see it.
    Deleted,
}
json_enum!(ChangeAction);
