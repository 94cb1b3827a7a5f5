//! Ollama's own chat, one JSON text a line. <https://docs.ollama.com/api/chat>
//!
//! Tool calls come whole. The last line says `done`; an error in the stream is a line with nothing but its text.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::assembly::Assembly;
use crate::chat::{ChatMessage, ChatRequest, TokenUsage, ToolCallRequest};
use crate::endpoint::Endpoint;
use crate::error::{ModelError, ModelErrorKind, speaks_of_length};
use crate::sse::SseEvent;
use crate::wire::{arguments_object, count, last_question, object_schema};

/// The body of a streamed chat.
pub(crate) fn chat_body(endpoint: &Endpoint, request: &ChatRequest) -> Value {
    let mut messages = Vec::with_capacity(request.messages.len() + 1);
    if let Some(system) = &request.system {
        messages.push(json!({ "role": "system", "content": system }));
    }
    let turn = last_question(&request.messages);
    let said = request.messages.iter().enumerate();
    messages.extend(said.map(|(place, message)| message_body(message, place > turn)));
    let mut body = json!({
        "model": endpoint.model_name,
        "stream": true,
        "messages": messages,
        // what is too long is an error, not a conversation without its beginning
        "truncate": false,
        "shift": false,
    });
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            json!({
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": object_schema(&tool.parameters),
                },
            })
        });
        body["tools"] = tools.collect();
    }
    if endpoint.thinks {
        // else older servers leave the thoughts in the text; models that don't think refuse to be asked
        body["think"] = json!(true);
    }
    let mut options = Map::new();
    // JSON has no other numbers
    if let Some(temperature) = request.temperature.filter(|number| number.is_finite()) {
        options.insert("temperature".to_owned(), json!(temperature));
    }
    if let Some(tokens) = request.max_output_tokens {
        options.insert("num_predict".to_owned(), json!(tokens));
    }
    if let Some(window) = endpoint.context_window {
        // its own default is a few thousand tokens, whatever the model can
        options.insert("num_ctx".to_owned(), json!(window));
    }
    if !options.is_empty() {
        body["options"] = Value::Object(options);
    }
    body
}

fn message_body(message: &ChatMessage, with_reasoning: bool) -> Value {
    match message {
        ChatMessage::User { text } => json!({ "role": "user", "content": text }),
        ChatMessage::ToolResult {
            call_id,
            name,
            content,
            ..
        } => json!({
            "role": "tool",
            "tool_name": name,
            "tool_call_id": call_id,
            "content": content,
        }),
        ChatMessage::Assistant {
            text,
            reasoning,
            tool_calls,
        } => {
            let mut body = json!({ "role": "assistant", "content": text });
            let thoughts: String = reasoning
                .iter()
                // those of other providers, which they keep signed
                .filter(|thought| {
                    thought.signature.is_none() && thought.thought_signature.is_none()
                })
                .map(|thought| thought.text.as_str())
                .collect();
            if with_reasoning && !thoughts.is_empty() {
                body["thinking"] = json!(thoughts);
            }
            if !tool_calls.is_empty() {
                body["tool_calls"] = tool_calls.iter().map(call_body).collect();
            }
            body
        }
    }
}

fn call_body(call: &ToolCallRequest) -> Value {
    let arguments = arguments_object(&call.arguments);
    json!({ "id": call.id, "function": { "name": call.name, "arguments": arguments } })
}

#[derive(Deserialize)]
struct Line {
    message: Option<Message>,
    done: Option<bool>,
    done_reason: Option<String>,
    prompt_eval_count: Option<Value>,
    prompt_eval_cached_count: Option<Value>,
    eval_count: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    thinking: Option<String>,
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<Value>,
}

/// Reads the lines of one answer.
pub(crate) struct Decoder {
    assembly: Assembly,
}

impl Decoder {
    pub(crate) fn new(assembly: Assembly) -> Self {
        Self { assembly }
    }

    /// True if it says something.
    fn message(&mut self, message: Message) -> Result<bool, ModelError> {
        let thought = message.thinking.unwrap_or_default();
        let text = message.content.unwrap_or_default();
        let calls = message.tool_calls.unwrap_or_default();
        let says = !thought.is_empty() || !text.is_empty() || !calls.is_empty();
        self.assembly.reasoning(&thought)?;
        self.assembly.text(&text)?;
        for call in calls {
            let function = call.function.ok_or_else(malformed)?;
            let place = self.assembly.begin_call(
                &call.id.unwrap_or_default(),
                &function.name.unwrap_or_default(),
            )?;
            match function.arguments {
                None | Some(Value::Null) => {}
                Some(Value::String(arguments)) => self.assembly.arguments(place, &arguments)?,
                Some(arguments) => self.assembly.arguments(place, &arguments.to_string())?,
            }
        }
        Ok(says)
    }
}

fn malformed() -> ModelError {
    ModelError::malformed("the provider's stream holds something else than lines of a chat")
}

impl crate::wire::Decoder for Decoder {
    fn event(&mut self, event: &SseEvent) -> Result<bool, ModelError> {
        let line: Line = serde_json::from_str(&event.data).map_err(|_| malformed())?;
        if let Some(error) = &line.error {
            return Err(failed(error));
        }
        let done = line.done == Some(true);
        if line.message.is_none() && !done {
            return Err(malformed());
        }
        let says = match line.message {
            Some(message) => self.message(message)?,
            None => false,
        };
        if !done {
            return Ok(says);
        }
        let reason = match line.done_reason.as_deref() {
            Some("length") => "length",
            // that it stopped in order to call tools is not told
            _ if self.assembly.has_calls() => "tool_calls",
            // what was asked for was to load the model, as there was nothing to answer
            None | Some("" | "stop" | "load") => "stop",
            Some(other) => other,
        };
        let number = |value: &Option<Value>| value.as_ref().and_then(count);
        let (input, output) = (number(&line.prompt_eval_count), number(&line.eval_count));
        let usage = (input.is_some() || output.is_some()).then(|| TokenUsage {
            input: input.unwrap_or_default(),
            output: output.unwrap_or_default(),
            cached_input: number(&line.prompt_eval_cached_count).unwrap_or_default(),
            reasoning: 0,
        });
        self.assembly.finish(Some(reason.to_owned()), usage);
        Ok(true)
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

/// The request was taken, so what fails from then on is the server's: its runner died, or its memory is full.
fn failed(error: &Value) -> ModelError {
    let Some(text) = error.as_str().filter(|text| !text.trim().is_empty()) else {
        return ModelError::from_object(error);
    };
    let kind = if speaks_of_length(text) {
        ModelErrorKind::ContextTooLong
    } else {
        ModelErrorKind::Unavailable { retry_after: None }
    };
    ModelError::new(kind, text)
}
