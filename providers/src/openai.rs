//! OpenAI's chat completions, as OpenAI and the many servers that imitate it speak them.
//!
//! <https://platform.openai.com/docs/api-reference/chat-streaming>. Where imitators differ (reasoning, missing
//! indices, arguments as objects, no end marker) the reading is generous; what is sent is the common part.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::assembly::Assembly;
use crate::chat::{ChatMessage, ChatRequest, Reasoning, TokenUsage, ToolCallRequest};
use crate::endpoint::{Endpoint, Provider};
use crate::error::ModelError;
use crate::sse::SseEvent;
use crate::wire::{arguments_object, count, last_question, object_schema};

/// The body of a streamed chat.
pub(crate) fn chat_body(endpoint: &Endpoint, request: &ChatRequest) -> Value {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if let Some(system) = &request.system {
        messages.push(json!({ "role": "system", "content": system }));
    }
    // the thinking of the turn under way goes back to servers that sent it; OpenAI itself takes none
    let turn = match endpoint.provider {
        Provider::OpenAiCompatible => last_question(&request.messages),
        _ => request.messages.len(),
    };
    messages.extend(
        request
            .messages
            .iter()
            .enumerate()
            .map(|(place, message)| message_body(message, place > turn)),
    );
    let mut body = json!({
        "model": endpoint.model_name,
        "stream": true,
        "stream_options": { "include_usage": true },
        "messages": messages,
    });
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            let mut function =
                json!({ "name": tool.name, "parameters": object_schema(&tool.parameters) });
            if !tool.description.is_empty() {
                function["description"] = json!(tool.description);
            }
            json!({ "type": "function", "function": function })
        });
        body["tools"] = tools.collect();
    }
    // JSON has no other numbers
    if let Some(temperature) = request.temperature.filter(|number| number.is_finite()) {
        body["temperature"] = json!(temperature);
    }
    if let Some(tokens) = request.max_output_tokens {
        // OpenAI's newer models refuse the old name, most imitators know no other
        let name = match endpoint.provider {
            Provider::OpenAi | Provider::AzureOpenAi => "max_completion_tokens",
            _ => "max_tokens",
        };
        body[name] = json!(tokens);
    }
    body
}

fn message_body(message: &ChatMessage, with_reasoning: bool) -> Value {
    match message {
        ChatMessage::User { text } => json!({ "role": "user", "content": text }),
        ChatMessage::ToolResult {
            call_id, content, ..
        } => {
            json!({ "role": "tool", "tool_call_id": call_id, "content": content })
        }
        ChatMessage::Assistant {
            text,
            reasoning,
            tool_calls,
        } => {
            let mut body = json!({ "role": "assistant" });
            // beside tool calls an empty text is left out: some servers refuse it empty, some null
            if !text.is_empty() || tool_calls.is_empty() {
                body["content"] = json!(text);
            }
            if !tool_calls.is_empty() {
                body["tool_calls"] = tool_calls.iter().map(call_body).collect();
            }
            let unsigned = |thought: &&Reasoning| {
                thought.signature.is_none()
                    && thought.redacted.is_none()
                    && thought.thought_signature.is_none()
            };
            let thoughts: String = reasoning
                .iter()
                .filter(unsigned)
                .map(|thought| thought.text.as_str())
                .collect();
            if with_reasoning && !thoughts.is_empty() && !tool_calls.is_empty() {
                body["reasoning_content"] = json!(thoughts);
            }
            body
        }
    }
}

fn call_body(call: &ToolCallRequest) -> Value {
    let arguments = arguments_object(&call.arguments).to_string();
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
}

#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    index: Option<u64>,
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<Value>,
    /// DeepSeek's word for it, and of most.
    reasoning_content: Option<String>,
    /// OpenRouter's and newer servers' word; some send both with the same text.
    reasoning: Option<Value>,
    refusal: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize)]
struct CallDelta {
    index: Option<u32>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<Value>,
}

/// Reads the chunks of one answer.
pub(crate) struct Decoder {
    assembly: Assembly,
    /// The call that pieces with this index belong to.
    places: BTreeMap<u32, Slot>,
    finish_reason: Option<String>,
    usage: Option<TokenUsage>,
}

struct Slot {
    place: usize,
    /// The id on the wire.
    id: String,
}

impl Decoder {
    pub(crate) fn new(assembly: Assembly) -> Self {
        Self {
            assembly,
            places: BTreeMap::new(),
            finish_reason: None,
            usage: None,
        }
    }

    fn finish(&mut self) {
        self.assembly.finish(self.finish_reason.take(), self.usage);
    }

    fn delta(&mut self, delta: Delta) -> Result<bool, ModelError> {
        let mut more = false;
        if let Some(text) = delta
            .reasoning_content
            .as_deref()
            .or(delta.reasoning.as_ref().and_then(Value::as_str))
        {
            more |= !text.is_empty();
            self.assembly.reasoning(text)?;
        }
        match &delta.content {
            Some(Value::String(text)) => {
                more |= !text.is_empty();
                self.assembly.text(text)?;
            }
            Some(Value::Array(parts)) => {
                more |= !parts.is_empty();
                parts.iter().try_for_each(|part| self.part(part))?;
            }
            _ => {}
        }
        if let Some(text) = &delta.refusal {
            more |= !text.is_empty();
            self.assembly.text(text)?;
        }
        for call in delta.tool_calls.into_iter().flatten() {
            more = true;
            self.call(call)?;
        }
        Ok(more)
    }

    /// Mistral's content in parts: `{"type": "text", "text"}`, `{"type": "thinking", "thinking": [{"text"}]}`.
    fn part(&mut self, part: &Value) -> Result<(), ModelError> {
        if let Some(text) = part["text"].as_str() {
            return self.assembly.text(text);
        }
        let thoughts = part["thinking"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        thoughts
            .iter()
            .filter_map(|thought| thought["text"].as_str())
            .try_for_each(|text| self.assembly.reasoning(text))
    }

    fn call(&mut self, call: CallDelta) -> Result<(), ModelError> {
        let (id, function) = (call.id.unwrap_or_default(), call.function);
        let name = function
            .as_ref()
            .and_then(|function| function.name.as_deref())
            .unwrap_or_default();
        // without an index a piece with a name begins a call, any other goes on with the last
        let index = call
            .index
            .unwrap_or_else(|| match self.places.last_key_value() {
                Some((last, _)) if name.is_empty() => *last,
                Some((last, _)) => last.saturating_add(1),
                None => 0,
            });
        let place = match self.places.get(&index) {
            // some servers give every call the index 0 and tell them apart by id alone
            Some(slot) if id.is_empty() || slot.id == id || name.is_empty() => slot.place,
            _ => {
                let place = self.assembly.begin_call(&id, name)?;
                self.places.insert(index, Slot { place, id });
                place
            }
        };
        self.assembly.name_call(place, name)?;
        match function.and_then(|function| function.arguments) {
            Some(Value::String(piece)) => self.assembly.arguments(place, &piece),
            Some(whole @ Value::Object(_)) => self.assembly.arguments(place, &whole.to_string()),
            _ => Ok(()),
        }
    }
}

impl crate::wire::Decoder for Decoder {
    fn event(&mut self, event: &SseEvent) -> Result<bool, ModelError> {
        let data = event.data.trim();
        if data.is_empty() {
            return Ok(false);
        }
        if data == "[DONE]" {
            if self.finish_reason.is_none() && self.assembly.is_empty() {
                return Err(ModelError::broken_off());
            }
            self.finish();
            return Ok(true);
        }
        let chunk: Chunk = serde_json::from_str(data).map_err(|_| {
            ModelError::malformed("the provider's stream holds something else than chat chunks")
        })?;
        if let Some(error) = chunk.error {
            return Err(ModelError::from_object(&error));
        }
        if event.name == "error" {
            return Err(ModelError::from_object(
                &serde_json::from_str(data).unwrap_or_default(),
            ));
        }
        let mut more = false;
        if let Some(usage) = chunk.usage.as_ref().and_then(usage) {
            more = true;
            self.usage = Some(usage);
        }
        let choice = chunk
            .choices
            .into_iter()
            .flatten()
            .find(|choice| choice.index.is_none_or(|index| index == 0));
        if let Some(choice) = choice {
            if let Some(delta) = choice.delta {
                more |= self.delta(delta)?;
            }
            if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
                more = true;
                self.finish_reason = Some(match reason.as_str() {
                    "function_call" => "tool_calls".to_owned(),
                    _ => reason,
                });
            }
        }
        Ok(more)
    }

    fn end(&mut self) -> Result<(), ModelError> {
        if !self.could_end() {
            return Err(ModelError::broken_off());
        }
        self.finish();
        Ok(())
    }

    /// Some servers send no `[DONE]`; with a finish reason the answer is whole all the same.
    fn could_end(&self) -> bool {
        self.finish_reason.is_some()
    }

    fn assembly(&mut self) -> &mut Assembly {
        &mut self.assembly
    }
}

fn usage(usage: &Value) -> Option<TokenUsage> {
    let (input, output) = (
        count(&usage["prompt_tokens"]),
        count(&usage["completion_tokens"]),
    );
    if input.is_none() && output.is_none() {
        return None;
    }
    let cached = count(&usage["prompt_tokens_details"]["cached_tokens"])
        // DeepSeek's name for it
        .or_else(|| count(&usage["prompt_cache_hit_tokens"]));
    Some(TokenUsage {
        input: input.unwrap_or_default(),
        output: output.unwrap_or_default(),
        cached_input: cached.unwrap_or_default(),
        reasoning: count(&usage["completion_tokens_details"]["reasoning_tokens"])
            .unwrap_or_default(),
    })
}
