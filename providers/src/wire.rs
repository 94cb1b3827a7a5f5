//! What the wires of providers have in common: a request as JSON, and a decoder for the events of the answer.

use serde_json::{Map, Value, json};

use crate::assembly::Assembly;
use crate::chat::{ChatMessage, ChatRequest};
use crate::endpoint::{Endpoint, Provider};
use crate::error::ModelError;
use crate::frames::Frames;
use crate::sse::SseEvent;
use crate::{anthropic, gemini, ollama, openai};

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    OpenAi,
    Anthropic,
    Gemini,
    Ollama,
}

/// Reads the events of one answer into its [`Assembly`].
pub(crate) trait Decoder: Send {
    /// Takes in one event. True if it was more than a sign of life.
    fn event(&mut self, event: &SseEvent) -> Result<bool, ModelError>;
    /// The connection has ended: the answer is whole without its end marker, or it is broken off.
    fn end(&mut self) -> Result<(), ModelError>;
    /// Whether [`Self::end`] would find the answer whole.
    fn could_end(&self) -> bool;
    /// Where the answer gathers.
    fn assembly(&mut self) -> &mut Assembly;
}

impl Wire {
    /// The wire that a provider speaks; none for the built-in one.
    pub(crate) fn of(provider: Provider) -> Option<Self> {
        match provider {
            Provider::OpenAi | Provider::OpenAiCompatible | Provider::AzureOpenAi => {
                Some(Self::OpenAi)
            }
            Provider::Anthropic => Some(Self::Anthropic),
            Provider::Gemini => Some(Self::Gemini),
            Provider::Ollama => Some(Self::Ollama),
            Provider::Builtin => None,
        }
    }

    /// How the events of an answer follow each other.
    pub(crate) fn frames(self) -> Frames {
        match self {
            Self::OpenAi | Self::Anthropic | Self::Gemini => Frames::events(),
            Self::Ollama => Frames::lines(),
        }
    }

    /// The media type of such a stream.
    pub(crate) fn accept(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Anthropic | Self::Gemini => "text/event-stream",
            Self::Ollama => "application/x-ndjson",
        }
    }

    pub(crate) fn chat_body(self, endpoint: &Endpoint, request: &ChatRequest) -> Value {
        match self {
            Self::OpenAi => openai::chat_body(endpoint, request),
            Self::Anthropic => anthropic::chat_body(endpoint, request),
            Self::Gemini => gemini::chat_body(endpoint, request),
            Self::Ollama => ollama::chat_body(endpoint, request),
        }
    }

    pub(crate) fn decoder(self, assembly: Assembly) -> Box<dyn Decoder> {
        match self {
            Self::OpenAi => Box::new(openai::Decoder::new(assembly)),
            Self::Anthropic => Box::new(anthropic::Decoder::new(assembly)),
            Self::Gemini => Box::new(gemini::Decoder::new(assembly)),
            Self::Ollama => Box::new(ollama::Decoder::new(assembly)),
        }
    }
}

/// The place of the question that the turn under way answers: thoughts before it are of turns that are over.
pub(crate) fn last_question(messages: &[ChatMessage]) -> usize {
    messages
        .iter()
        .rposition(|message| matches!(message, ChatMessage::User { .. }))
        .unwrap_or(0)
}

/// A tool's schema: never null, always that of an object, since providers refuse anything else.
pub(crate) fn object_schema(parameters: &Value) -> Value {
    let mut schema = match parameters {
        Value::Object(fields) => fields.clone(),
        _ => Map::new(),
    };
    schema.entry("type").or_insert_with(|| json!("object"));
    if schema["type"] == "object" {
        schema.entry("properties").or_insert_with(|| json!({}));
    }
    Value::Object(schema)
}

/// A past call's arguments as an object, which is all that providers take back. What was no object is kept as text.
pub(crate) fn arguments_object(arguments: &str) -> Value {
    match serde_json::from_str(arguments) {
        Ok(Value::Object(fields)) => Value::Object(fields),
        _ if arguments.trim().is_empty() => json!({}),
        _ => json!({ "not_an_object": arguments }),
    }
}

/// A count of tokens. Servers send null, floats and worse; what is no count is none.
pub(crate) fn count(value: &Value) -> Option<u64> {
    let count = value.as_u64().or_else(|| {
        let float = value.as_f64().filter(|float| *float >= 0.0)?;
        // the cast saturates
        Some(float as u64)
    })?;
    Some(count.min(u64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_objects() {
        let empty = json!({"type": "object", "properties": {}});
        for none in [
            json!(null),
            json!(true),
            json!({}),
            json!({"type": "object"}),
        ] {
            assert_eq!(object_schema(&none), empty);
        }
        let given =
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
        assert_eq!(object_schema(&given), given);
    }

    #[test]
    fn arguments_are_replayed_as_objects() {
        assert_eq!(arguments_object(" "), json!({}));
        assert_eq!(arguments_object(r#"{"a":1}"#), json!({"a": 1}));
        assert_eq!(arguments_object("[1"), json!({"not_an_object": "[1"}));
    }

    #[test]
    fn counts_are_sane() {
        for (value, expected) in [
            (json!(7), Some(7)),
            (json!(7.9), Some(7)),
            (json!(null), None),
            (json!(-1), None),
            (json!(1e300), Some(u64::from(u32::MAX))),
            (json!("7"), None),
        ] {
            assert_eq!(count(&value), expected);
        }
    }
}
