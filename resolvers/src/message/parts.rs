//! The parts of messages.

use async_graphql::{Context, Interface, Object, Result, plain, plain_abstract};
use entities::{Part, Refusal, ToolCallId};
use loaders::runs::ToolCallOf;

use crate::{
    asking::ContextExt,
    run::{RunError, ToolCall},
};

/// A piece of a message: text, reasoning, a tool call, an error. More kinds may come.
#[derive(Clone, Interface)]
#[graphql(
    crate = "message_part_gql",
    field(name = "index", ty = "i32", desc = "Its place in the message, from 0.")
)]
pub enum MessagePart {
    /// Text.
    Text(TextPart),
    /// Reasoning.
    Reasoning(ReasoningPart),
    /// A tool call.
    ToolCall(ToolCallPart),
    /// An error.
    Error(ErrorPart),
}

plain_abstract!(MessagePart as message_part_gql { Text, Reasoning, ToolCall, Error });

impl MessagePart {
    /// The part that stands at this place.
    pub(crate) fn at(index: usize, part: Part) -> Self {
        let index = i32::try_from(index).unwrap_or(i32::MAX);
        match part {
            Part::Text { text } => Self::Text(TextPart { index, text }),
            Part::Reasoning { text } => Self::Reasoning(ReasoningPart { index, text }),
            Part::ToolCall { id } => Self::ToolCall(ToolCallPart { index, id }),
            Part::Error { error } => Self::Error(ErrorPart { index, error }),
        }
    }
}

/// Text of a message.
#[derive(Clone)]
pub struct TextPart {
    index: i32,
    text: String,
}

plain!(TextPart as text_part_gql { "index" => index, "text" => text });

/// Text of a message.
#[Object(crate = "text_part_gql")]
impl TextPart {
    /// Its place in the message, from 0.
    pub async fn index(&self) -> i32 {
        self.index
    }

    /// The text.
    async fn text(&self) -> &str {
        &self.text
    }
}

/// What a model thought before it answered.
#[derive(Clone)]
pub struct ReasoningPart {
    index: i32,
    text: String,
}

plain!(ReasoningPart as reasoning_part_gql { "index" => index, "text" => text });

/// What a model thought before it answered.
#[Object(crate = "reasoning_part_gql")]
impl ReasoningPart {
    /// Its place in the message, from 0.
    pub async fn index(&self) -> i32 {
        self.index
    }

    /// The text.
    async fn text(&self) -> &str {
        &self.text
    }
}

/// That a tool was called.
#[derive(Clone)]
pub struct ToolCallPart {
    index: i32,
    id: ToolCallId,
}

/// That a tool was called.
#[Object]
impl ToolCallPart {
    /// Its place in the message, from 0.
    pub async fn index(&self) -> i32 {
        self.index
    }

    /// The call.
    async fn tool_call(&self, ctx: &Context<'_>) -> Result<ToolCall> {
        let call = ctx.reader().load(ToolCallOf(self.id)).await?;
        Ok(ToolCall(
            call.ok_or_else(|| Refusal::not_found(&[], self.id))?,
        ))
    }
}

/// Why nothing more came.
#[derive(Clone)]
pub struct ErrorPart {
    index: i32,
    error: entities::RunError,
}

/// Why nothing more came.
#[Object]
impl ErrorPart {
    /// Its place in the message, from 0.
    pub async fn index(&self) -> i32 {
        self.index
    }

    /// Why the run failed.
    async fn error(&self) -> RunError {
        RunError(self.error.clone())
    }
}
