//! Enums of messages, as clients see them.

use async_graphql::{Enum, json_enum};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::MessageRole")]
pub enum MessageRole {
    /// A person, or a program in his name.
    User,
    /// An agent.
    Assistant,
    /// The server itself.
    System,
}
json_enum!(MessageRole);

/// How far a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::MessageStatus")]
pub enum MessageStatus {
    /// It is being written: its parts grow by the events of its conversation.
    Streaming,
    /// It is whole.
    Complete,
    /// Its run was stopped; what was said so far is kept.
    Incomplete,
    /// Its run failed; what was said so far is kept, and an error part says why.
    Failed,
}
json_enum!(MessageStatus);

/// What a reader thought of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::Rating")]
pub enum Rating {
    /// Good.
    Up,
    /// Bad.
    Down,
}
json_enum!(Rating);
