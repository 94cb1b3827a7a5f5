//! Enums of conversations, as clients see them.

use async_graphql::Enum;

/// What a message does that arrives while a run is under way in its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "engine::send::WhenBusy")]
pub enum WhenBusy {
    /// It is refused, with a conflict.
    Reject,
    /// It is kept, and answered afterwards.
    Enqueue,
    /// It stops the run, keeps what was said so far, and is answered next, before what waits.
    Interrupt,
    /// It undoes the whole turn of the run, question and answer, and is answered next, before what waits. A question that is
    /// answered elsewhere, too, stays.
    Rollback,
}

/// In which order conversations come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "loaders::conversations::ConversationOrder")]
pub enum ConversationOrder {
    /// Where something was said last, first.
    RecentlyActive,
    /// The newest first.
    Newest,
    /// By title; those without one last, in the order in which they were begun.
    Title,
}
