//! What is said to a chat model and what it says back, in words that belong to no provider.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ModelError;

/// A model that answers a conversation.
#[async_trait]
pub trait ChatModel: Send + Sync {
    /// Begins a call. The call is made as the stream is polled: who doesn't poll reads nothing from the provider, and
    /// the time-out between tokens doesn't run. Dropping the stream closes the connection at once.
    ///
    /// The stream ends with exactly one [`ChatEvent::Finished`] or one error. The pieces joined equal the answer.
    async fn stream(
        &self,
        request: ChatRequest,
    ) -> BoxStream<'static, Result<ChatEvent, ModelError>>;
}

/// One call to a chat model.
#[derive(Debug, Clone, Default)]
pub struct ChatRequest {
    /// Instructions, apart from the conversation.
    pub system: Option<String>,
    /// The conversation, oldest first.
    pub messages: Vec<ChatMessage>,
    /// What the model may ask to be called.
    pub tools: Vec<ToolSpec>,
    /// Left out, the provider's default. Above 1 it counts as 1 where the provider knows no more.
    pub temperature: Option<f64>,
    /// Left out, the provider's default; Anthropic, which has none, gets 8,192 (4,096 for the oldest models).
    pub max_output_tokens: Option<u32>,
    /// What was found for the question, best first. Only the built-in model reads them; for others the engine puts
    /// them into the conversation.
    pub passages: Vec<Passage>,
}

/// A tool, as the model sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    /// Unique among the tools of the request.
    pub name: String,
    /// What it does; may be empty.
    pub description: String,
    /// The JSON Schema of its arguments. Anything but an object stands for "no arguments".
    pub parameters: Value,
}

/// A piece of text that an answer may quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Where it is from, for people; may be empty.
    pub title: String,
    /// Its text.
    pub text: String,
}

/// A turn of the conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum ChatMessage {
    /// A person's words.
    User {
        /// What was said.
        text: String,
    },
    /// A model's answer.
    Assistant {
        /// What was said; may be empty.
        #[serde(default)]
        text: String,
        /// What it thought before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reasoning: Vec<Reasoning>,
        /// What it asked to be called. Each must be answered by a [`ChatMessage::ToolResult`] right after.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCallRequest>,
    },
    /// What came of a tool call.
    ToolResult {
        /// The call's id.
        call_id: String,
        /// The tool's name.
        name: String,
        /// The result as text.
        content: String,
        /// Whether it is a failure.
        #[serde(default)]
        is_error: bool,
    },
}

/// A piece of a model's thinking, as it must be shown to the model again while it works with tools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reasoning {
    /// The text; may be empty where the provider keeps it to itself.
    #[serde(default)]
    pub text: String,
    /// Anthropic's signature. Only the model that signed accepts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Thinking that Anthropic sends encrypted, in place of text and signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redacted: Option<String>,
    /// Gemini's signature of this thought or, where the text is empty, of the answer's text. No other provider gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thought_signature: Option<String>,
}

/// A tool that the model wants called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCallRequest {
    /// The provider's id, or one of ours where it gives none. Unique within the answer.
    pub id: String,
    /// The tool's name as the model said it; may name no tool.
    pub name: String,
    /// The arguments as the model said them: JSON if all is well, but nobody has checked. Never empty.
    pub arguments: String,
    /// Gemini's signature of the thoughts that led to the call, without which it refuses to go on from it. No other
    /// provider gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thought_signature: Option<String>,
}

/// A piece of an answer as it comes.
#[derive(Debug, Clone, PartialEq)]
pub enum ChatEvent {
    /// More of the text; never empty.
    Text(String),
    /// More of the thinking; never empty.
    Reasoning(String),
    /// A tool call begins.
    ToolCall {
        /// Its place in the answer's tool calls, from 0.
        index: u32,
        /// Its id.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// More of a tool call's arguments; never empty, never before its [`ChatEvent::ToolCall`].
    ToolArguments {
        /// The call's place in the answer's tool calls.
        index: u32,
        /// A piece of JSON text.
        text: String,
    },
    /// The whole answer; the last event.
    Finished(Answer),
}

/// A finished answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The text; may be empty.
    pub text: String,
    /// The thinking, piece by piece.
    #[serde(default)]
    pub reasoning: Vec<Reasoning>,
    /// The tool calls, in the order in which they began.
    #[serde(default)]
    pub tool_calls: Vec<ToolCallRequest>,
    /// `stop`, `tool_calls`, `length` or `content_filter`, whatever the provider calls them; else its own word. Whether
    /// there are tool calls is seen from them alone: some servers say `stop` then, too.
    pub finish_reason: String,
    /// What was used, where the provider says so.
    #[serde(default)]
    pub usage: Option<TokenUsage>,
}

impl Answer {
    /// The answer as a turn of the conversation.
    pub fn into_message(self) -> ChatMessage {
        ChatMessage::Assistant {
            text: self.text,
            reasoning: self.reasoning,
            tool_calls: self.tool_calls,
        }
    }
}

/// Tokens of one call, each number at most 4,294,967,295.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUsage {
    /// All that went in, cached or not.
    pub input: u64,
    /// All that came out, reasoning with it.
    pub output: u64,
    /// Of `input`, what was read from the provider's cache.
    pub cached_input: u64,
    /// Of `output`, what was spent on reasoning; 0 where the provider doesn't tell.
    pub reasoning: u64,
}
