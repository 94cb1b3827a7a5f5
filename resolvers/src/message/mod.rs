//! Messages and what they are made of.

mod enums;
mod mutations;
mod object;
mod parts;

pub use enums::{MessageRole, MessageStatus, Rating};
pub use mutations::{MessageMutation, MessagePayload};
pub use object::Message;
pub use parts::{ErrorPart, MessagePart, ReasoningPart, TextPart, ToolCallPart};
