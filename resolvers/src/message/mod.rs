//! Messages and what they are made of.

mod enums;
mod object;
mod parts;

pub use enums::{MessageRole, MessageStatus, Rating};
pub use object::Message;
pub use parts::{ErrorPart, MessagePart, ReasoningPart, TextPart, ToolCallPart};
