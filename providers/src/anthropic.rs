//! Anthropic's messages. <https://docs.anthropic.com/en/docs/build-with-claude/streaming>

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::assembly::Assembly;
use crate::chat::{ChatMessage, ChatRequest, Reasoning, TokenUsage, ToolCallRequest};
use crate::endpoint::Endpoint;
use crate::error::ModelError;
use crate::sse::SseEvent;
use crate::wire::{arguments_object, count, last_question, object_schema};

/// The version of the wire, sent as a header.
pub(crate) const VERSION: &str = "2023-06-01";

/// The body of a streamed chat.
pub(crate) fn chat_body(endpoint: &Endpoint, request: &ChatRequest) -> Value {
    let mut body = json!({
        "model": endpoint.model_name,
        "stream": true,
        "max_tokens": request.max_output_tokens.unwrap_or_else(|| default_max_tokens(&endpoint.model_name)),
        "messages": messages(&request.messages),
    });
    if let Some(system) = request
        .system
        .as_deref()
        .filter(|system| !system.trim().is_empty())
    {
        body["system"] = json!(system);
    }
    // JSON has no other numbers
    if let Some(temperature) = request.temperature.filter(|number| number.is_finite()) {
        body["temperature"] = json!(temperature.min(1.0));
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            let mut body =
                json!({ "name": tool.name, "input_schema": object_schema(&tool.parameters) });
            if !tool.description.is_empty() {
                body["description"] = json!(tool.description);
            }
            body
        });
        body["tools"] = tools.collect();
        return body;
    }
    // a conversation with tool calls needs tools to be named, also where the model may call none any more
    let calls = request.messages.iter().flat_map(|message| match message {
        ChatMessage::Assistant { tool_calls, .. } => tool_calls.as_slice(),
        _ => &[],
    });
    let names: BTreeSet<&str> = calls.map(|call| call.name.as_str()).collect();
    if !names.is_empty() {
        body["tools"] = names
            .iter()
            .map(|name| json!({ "name": name, "input_schema": object_schema(&Value::Null) }))
            .collect();
        body["tool_choice"] = json!({ "type": "none" });
    }
    body
}

/// The wire has no default of its own, and refuses more than the model can.
fn default_max_tokens(model_name: &str) -> u32 {
    let oldest = [
        "claude-3-opus",
        "claude-3-sonnet",
        "claude-3-haiku",
        "claude-2",
    ];
    if oldest.iter().any(|name| model_name.starts_with(name)) {
        4096
    } else {
        8192
    }
}

/// Turns in alternation: neighbours of one role become one message. Empty texts are refused, so they are left out.
fn messages(messages: &[ChatMessage]) -> Vec<Value> {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    // thinking counts only in the turn under way; earlier signatures may be another model's
    let turn = last_question(messages);
    for (place, message) in messages.iter().enumerate() {
        let (role, blocks) = match message {
            ChatMessage::User { text } => ("user", text_block(text).into_iter().collect()),
            ChatMessage::ToolResult {
                call_id,
                content,
                is_error,
                ..
            } => (
                "user",
                vec![json!({
                    "type": "tool_result",
                    "tool_use_id": tool_use_id(call_id),
                    "content": if content.trim().is_empty() { "(empty)" } else { content },
                    "is_error": is_error,
                })],
            ),
            ChatMessage::Assistant {
                text,
                reasoning,
                tool_calls,
            } => {
                let thoughts = reasoning
                    .iter()
                    .filter(|_| place > turn)
                    .filter_map(thinking_block);
                let calls = tool_calls.iter().map(call_block);
                (
                    "assistant",
                    thoughts
                        .chain(text_block(text))
                        .chain(calls)
                        .collect::<Vec<_>>(),
                )
            }
        };
        match turns.last_mut() {
            _ if blocks.is_empty() => {}
            Some((last, gathered)) if *last == role => gathered.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    turns
        .into_iter()
        .map(|(role, content)| json!({ "role": role, "content": content }))
        .collect()
}

fn text_block(text: &str) -> Option<Value> {
    (!text.trim().is_empty()).then(|| json!({ "type": "text", "text": text }))
}

fn thinking_block(thought: &Reasoning) -> Option<Value> {
    match (&thought.redacted, &thought.signature) {
        (Some(data), _) => Some(json!({ "type": "redacted_thinking", "data": data })),
        (None, Some(signature)) => {
            Some(json!({ "type": "thinking", "thinking": thought.text, "signature": signature }))
        }
        (None, None) => None,
    }
}

fn call_block(call: &ToolCallRequest) -> Value {
    json!({
        "type": "tool_use",
        "id": tool_use_id(&call.id),
        "name": call.name,
        "input": arguments_object(&call.arguments),
    })
}

/// Ids of other providers may hold characters that this wire refuses.
fn tool_use_id(id: &str) -> String {
    let allowed = |char: char| {
        if char.is_ascii_alphanumeric() || char == '-' {
            char
        } else {
            '_'
        }
    };
    if id.is_empty() {
        "_".to_owned()
    } else {
        id.chars().map(allowed).collect()
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: Option<String>,
    index: Option<u32>,
    message: Option<Value>,
    content_block: Option<Block>,
    delta: Option<Delta>,
    usage: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    data: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Value>,
}

#[derive(Deserialize)]
struct Delta {
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    partial_json: Option<String>,
    stop_reason: Option<String>,
}

/// Reads the events of one answer.
pub(crate) struct Decoder {
    assembly: Assembly,
    /// The tool call that the content block with this index is.
    places: BTreeMap<u32, usize>,
    stop_reason: Option<String>,
    counts: Counts,
}

/// Numbers that come in pieces; later ones count.
#[derive(Default)]
struct Counts {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_written: Option<u64>,
    output: Option<u64>,
}

impl Decoder {
    pub(crate) fn new(assembly: Assembly) -> Self {
        Self {
            assembly,
            places: BTreeMap::new(),
            stop_reason: None,
            counts: Counts::default(),
        }
    }

    fn begin_block(&mut self, index: u32, block: Block) -> Result<(), ModelError> {
        match block.kind.as_str() {
            "text" => self.assembly.text(&block.text.unwrap_or_default()),
            "thinking" => {
                self.assembly.begin_reasoning()?;
                self.assembly
                    .reasoning(&block.thinking.unwrap_or_default())?;
                match block.signature.filter(|signature| !signature.is_empty()) {
                    Some(signature) => self.assembly.signature(&signature),
                    None => Ok(()),
                }
            }
            "redacted_thinking" => self.assembly.redacted(&block.data.unwrap_or_default()),
            "tool_use" => {
                let id = block.id.unwrap_or_default();
                let place = self
                    .assembly
                    .begin_call(&id, &block.name.unwrap_or_default())?;
                self.places.insert(index, place);
                // imitators send the whole input at once; Anthropic an empty object and then pieces
                match block.input {
                    Some(Value::Object(input)) if !input.is_empty() => self
                        .assembly
                        .arguments(place, &Value::Object(input).to_string()),
                    _ => Ok(()),
                }
            }
            // tools that run at Anthropic aren't asked for
            _ => Ok(()),
        }
    }

    fn delta(&mut self, index: u32, delta: Delta) -> Result<(), ModelError> {
        if let Some(text) = delta.text {
            self.assembly.text(&text)?;
        }
        if let Some(thinking) = delta.thinking {
            self.assembly.reasoning(&thinking)?;
        }
        if let Some(signature) = delta.signature {
            self.assembly.signature(&signature)?;
        }
        if let (Some(piece), Some(place)) = (delta.partial_json, self.places.get(&index)) {
            self.assembly.arguments(*place, &piece)?;
        }
        Ok(())
    }
}

impl crate::wire::Decoder for Decoder {
    fn event(&mut self, event: &SseEvent) -> Result<bool, ModelError> {
        if event.data.trim().is_empty() {
            return Ok(false);
        }
        let malformed = || {
            ModelError::malformed("the provider's stream holds something else than message events")
        };
        let read: Event = serde_json::from_str(&event.data).map_err(|_| malformed())?;
        if let Some(error) = &read.error {
            return Err(ModelError::from_object(error));
        }
        match read.kind.as_deref().unwrap_or(&event.name) {
            "message_start" => {
                self.counts.read(&read.message.unwrap_or_default()["usage"]);
                Ok(false)
            }
            "content_block_start" => {
                self.begin_block(
                    read.index.unwrap_or_default(),
                    read.content_block.ok_or_else(malformed)?,
                )?;
                Ok(true)
            }
            "content_block_delta" => {
                self.delta(
                    read.index.unwrap_or_default(),
                    read.delta.ok_or_else(malformed)?,
                )?;
                Ok(true)
            }
            "message_delta" => {
                self.counts.read(&read.usage.unwrap_or_default());
                if let Some(reason) = read.delta.and_then(|delta| delta.stop_reason) {
                    self.stop_reason = Some(finish_reason(reason));
                }
                Ok(true)
            }
            "message_stop" => {
                if self.stop_reason.is_none() && self.assembly.is_empty() {
                    return Err(ModelError::broken_off());
                }
                let usage = self.counts.usage();
                self.assembly.finish(self.stop_reason.take(), usage);
                Ok(true)
            }
            "error" => Err(ModelError::from_object(&Value::Null)),
            // `ping`, `content_block_stop`, and what is yet to be invented
            _ => Ok(false),
        }
    }

    fn end(&mut self) -> Result<(), ModelError> {
        Err(ModelError::broken_off())
    }

    fn could_end(&self) -> bool {
        false
    }

    fn assembly(&mut self) -> &mut Assembly {
        &mut self.assembly
    }
}

fn finish_reason(reason: String) -> String {
    match reason.as_str() {
        "end_turn" | "stop_sequence" => "stop".to_owned(),
        "tool_use" => "tool_calls".to_owned(),
        "max_tokens" | "model_context_window_exceeded" => "length".to_owned(),
        "refusal" => "content_filter".to_owned(),
        _ => reason,
    }
}

impl Counts {
    fn read(&mut self, usage: &Value) {
        for (field, name) in [
            (&mut self.input, "input_tokens"),
            (&mut self.cache_read, "cache_read_input_tokens"),
            (&mut self.cache_written, "cache_creation_input_tokens"),
            (&mut self.output, "output_tokens"),
        ] {
            *field = count(&usage[name]).or(*field);
        }
    }

    /// `input_tokens` leaves out what went through the cache; we count all of it.
    fn usage(&self) -> Option<TokenUsage> {
        if self.input.is_none() && self.output.is_none() {
            return None;
        }
        let cached = self.cache_read.unwrap_or_default();
        let input =
            self.input.unwrap_or_default() + cached + self.cache_written.unwrap_or_default();
        Some(TokenUsage {
            input: input.min(u64::from(u32::MAX)),
            output: self.output.unwrap_or_default(),
            cached_input: cached,
            reasoning: 0,
        })
    }
}
