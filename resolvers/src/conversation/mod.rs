//! Conversations: trees of messages, what happens in them, and following that.

mod enums;
pub mod events;
mod mutations;
mod object;
mod paths;
mod queries;
mod subscriptions;

pub use enums::{ConversationOrder, WhenBusy};
pub use events::ConversationEvent;
pub use mutations::{ConversationMutation, ConversationPayload, SendMessagePayload};
pub use object::Conversation;
pub(crate) use object::conversation;
pub(crate) use queries::with_agent;
pub use queries::{ConversationFilter, ConversationQuery};
pub use subscriptions::{ConversationSubscription, Fed, Handover};
