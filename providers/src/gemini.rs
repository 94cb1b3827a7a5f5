//! Google's Gemini: contents made of parts. <https://ai.google.dev/api/generate-content>
//!
//! A stream has no end marker: it is whole once a finish reason has come. Tool calls come whole, mostly without ids, and
//! the thoughts that led to them as a signature that must go back with them.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::assembly::Assembly;
use crate::chat::{ChatMessage, ChatRequest, Reasoning, TokenUsage, ToolCallRequest};
use crate::endpoint::Endpoint;
use crate::error::{ModelError, ModelErrorKind};
use crate::sse::SseEvent;
use crate::wire::{arguments_object, count, last_question, object_schema};

/// Stands, by Google's word for it, in the place of a signature that the model never gave: of a call that another
/// model made before this one took over.
const UNSIGNED: &str = "skip_thought_signature_validator";

/// The folder and the name of a model, which may be given with its folder.
pub(crate) fn model_path(model_name: &str) -> (&str, &str) {
    match model_name.split_once('/') {
        Some((folder @ ("models" | "tunedModels"), name)) => (folder, name),
        _ => ("models", model_name),
    }
}

/// The body of a streamed chat.
pub(crate) fn chat_body(endpoint: &Endpoint, request: &ChatRequest) -> Value {
    let mut body = json!({ "contents": contents(endpoint, &request.messages) });
    if let Some(system) = request
        .system
        .as_deref()
        .filter(|system| !system.trim().is_empty())
    {
        body["systemInstruction"] = json!({ "parts": [{ "text": system }] });
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            let mut declaration = json!({
                "name": tool.name,
                // the field `parameters` knows but a part of JSON Schema
                "parametersJsonSchema": object_schema(&tool.parameters),
            });
            if !tool.description.is_empty() {
                declaration["description"] = json!(tool.description);
            }
            declaration
        });
        body["tools"] = json!([{ "functionDeclarations": tools.collect::<Value>() }]);
    }
    let mut config = Map::new();
    // JSON has no other numbers
    if let Some(temperature) = request.temperature.filter(|number| number.is_finite()) {
        config.insert("temperature".to_owned(), json!(temperature));
    }
    if let Some(tokens) = request.max_output_tokens {
        config.insert("maxOutputTokens".to_owned(), json!(tokens));
    }
    if endpoint.thinks {
        // models that don't think refuse to be asked
        let thoughts = json!({ "includeThoughts": true });
        config.insert("thinkingConfig".to_owned(), thoughts);
    }
    if !config.is_empty() {
        body["generationConfig"] = Value::Object(config);
    }
    body
}

/// What a content holds; neighbours of one kind become one content, as results must stand together, and alone.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Question,
    Answer,
    Results,
}

/// Turns as contents. Empty texts are refused, so they are left out.
fn contents(endpoint: &Endpoint, messages: &[ChatMessage]) -> Vec<Value> {
    let mut turns: Vec<(Kind, Vec<Value>)> = Vec::new();
    // signatures count only in the turn under way; earlier ones may be another model's
    let turn = last_question(messages);
    for (place, message) in messages.iter().enumerate() {
        let (kind, parts) = match message {
            ChatMessage::User { text } => (Kind::Question, text_part(text).into_iter().collect()),
            ChatMessage::ToolResult {
                call_id,
                name,
                content,
                is_error,
            } => (
                Kind::Results,
                vec![result_part(call_id, name, content, *is_error)],
            ),
            ChatMessage::Assistant {
                text,
                reasoning,
                tool_calls,
            } if place > turn => (
                Kind::Answer,
                signed_parts(endpoint, text, reasoning, tool_calls),
            ),
            ChatMessage::Assistant {
                text, tool_calls, ..
            } => {
                let calls = tool_calls.iter().map(call_part);
                (
                    Kind::Answer,
                    text_part(text).into_iter().chain(calls).collect(),
                )
            }
        };
        match turns.last_mut() {
            _ if parts.is_empty() => {}
            Some((last, gathered)) if *last == kind => gathered.extend(parts),
            _ => turns.push((kind, parts)),
        }
    }
    let content = |(kind, parts)| {
        let role = if kind == Kind::Answer {
            "model"
        } else {
            "user"
        };
        json!({ "role": role, "parts": parts })
    };
    turns.into_iter().map(content).collect()
}

fn text_part(text: &str) -> Option<Value> {
    (!text.trim().is_empty()).then(|| json!({ "text": text }))
}

fn call_part(call: &ToolCallRequest) -> Value {
    let mut function = json!({ "name": call.name, "args": arguments_object(&call.arguments) });
    if let Some(id) = sent_id(&call.id) {
        function["id"] = json!(id);
    }
    json!({ "functionCall": function })
}

/// The parts of an answer of the turn under way, with what was signed.
fn signed_parts(
    endpoint: &Endpoint,
    text: &str,
    reasoning: &[Reasoning],
    calls: &[ToolCallRequest],
) -> Vec<Value> {
    let mut parts = Vec::new();
    let mut of_the_text = None;
    for thought in reasoning {
        match &thought.thought_signature {
            Some(signature) if thought.text.is_empty() => of_the_text = Some(signature),
            Some(signature) => parts.push(json!({
                "text": thought.text,
                "thought": true,
                "thoughtSignature": signature,
            })),
            // without its signature a thought means nothing to the model
            None => {}
        }
    }
    let mut said = text_part(text);
    if let Some(signature) = of_the_text {
        said.get_or_insert_with(|| json!({ "text": "" }))["thoughtSignature"] = json!(signature);
    }
    parts.extend(said);
    let is_signed = calls.iter().any(|call| call.thought_signature.is_some());
    for (place, call) in calls.iter().enumerate() {
        let mut part = call_part(call);
        if let Some(signature) = &call.thought_signature {
            part["thoughtSignature"] = json!(signature);
        } else if place == 0 && !is_signed && must_be_signed(&endpoint.model_name) {
            part["thoughtSignature"] = json!(UNSIGNED);
        }
        parts.push(part);
    }
    parts
}

/// From the third generation on, the first call of each step needs a signature.
fn must_be_signed(model_name: &str) -> bool {
    let (_, name) = model_path(model_name);
    name.starts_with("gemini-") && !name.starts_with("gemini-1") && !name.starts_with("gemini-2")
}

fn result_part(call_id: &str, name: &str, content: &str, is_error: bool) -> Value {
    let key = if is_error { "error" } else { "output" };
    // a result is an object, whatever the tool answers
    let mut response = json!({ "name": name, "response": { key: content } });
    if let Some(id) = sent_id(call_id) {
        response["id"] = json!(id);
    }
    json!({ "functionResponse": response })
}

/// An id as the provider gave it. Those that were made here, since it gave none, are unknown to it: then the order of
/// calls and results tells.
fn sent_id(id: &str) -> Option<&str> {
    let is_made_here = id.strip_prefix("call_").is_some_and(|rest| {
        rest.split_once('_').is_some_and(|(random, place)| {
            random.len() == 20
                && random.bytes().all(|byte| byte.is_ascii_hexdigit())
                && place.bytes().all(|byte| byte.is_ascii_digit())
        })
    });
    (!is_made_here).then_some(id)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk {
    candidates: Option<Vec<Candidate>>,
    prompt_feedback: Option<Value>,
    usage_metadata: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    index: Option<u64>,
    content: Option<Content>,
    finish_reason: Option<String>,
    finish_message: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    parts: Option<Vec<Part>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    text: Option<String>,
    thought: Option<bool>,
    thought_signature: Option<String>,
    function_call: Option<FunctionCall>,
}

#[derive(Deserialize)]
struct FunctionCall {
    id: Option<String>,
    name: Option<String>,
    args: Option<Value>,
}

/// Reads the chunks of one answer.
pub(crate) struct Decoder {
    assembly: Assembly,
    /// The last part was a thought without a signature: the next one goes on with it.
    is_thinking: bool,
    finish_reason: Option<String>,
    counts: Counts,
}

/// Numbers that stand in every chunk; later ones count.
#[derive(Default)]
struct Counts {
    prompt: Option<u64>,
    tool_use: Option<u64>,
    cached: Option<u64>,
    candidates: Option<u64>,
    thoughts: Option<u64>,
}

impl Decoder {
    pub(crate) fn new(assembly: Assembly) -> Self {
        Self {
            assembly,
            is_thinking: false,
            finish_reason: None,
            counts: Counts::default(),
        }
    }

    /// True if the part says something.
    fn part(&mut self, part: Part) -> Result<bool, ModelError> {
        let text = part.text.unwrap_or_default();
        let signature = part
            .thought_signature
            .filter(|signature| !signature.is_empty());
        let says = !text.is_empty() || signature.is_some();
        if let Some(call) = part.function_call {
            self.is_thinking = false;
            self.call(call, signature.as_deref())?;
            return Ok(true);
        }
        if part.thought == Some(true) {
            if says && !self.is_thinking {
                self.assembly.begin_reasoning()?;
            }
            self.assembly.reasoning(&text)?;
            if let Some(signature) = &signature {
                self.assembly.thought_signature(signature)?;
            }
            self.is_thinking = says && signature.is_none();
            return Ok(says);
        }
        if says {
            self.is_thinking = false;
        }
        self.assembly.text(&text)?;
        if let Some(signature) = &signature {
            // one of the text, which has no place for it
            self.assembly.begin_reasoning()?;
            self.assembly.thought_signature(signature)?;
        }
        Ok(says)
    }

    fn call(&mut self, call: FunctionCall, signature: Option<&str>) -> Result<(), ModelError> {
        let place = self
            .assembly
            .begin_call(&call.id.unwrap_or_default(), &call.name.unwrap_or_default())?;
        match call.args {
            None | Some(Value::Null) => {}
            Some(args) => self.assembly.arguments(place, &args.to_string())?,
        }
        match signature {
            Some(signature) => self.assembly.call_signature(place, signature),
            None => Ok(()),
        }
    }

    fn finished(&mut self, reason: &str, message: Option<String>) -> Result<(), ModelError> {
        let known = match reason {
            "FINISH_REASON_UNSPECIFIED" => return Ok(()),
            "STOP" => "stop",
            "MAX_TOKENS" => "length",
            "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII"
            | "IMAGE_SAFETY" => "content_filter",
            // no answer at all: the model tried to call a tool, and what it said was no call
            "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "MALFORMED_RESPONSE" => {
                let message = message.filter(|message| !message.trim().is_empty());
                return Err(ModelError::new(
                    ModelErrorKind::BrokenOff,
                    message.unwrap_or_else(|| "the model made a tool call that is none".to_owned()),
                ));
            }
            other => &other.to_ascii_lowercase(),
        };
        self.finish_reason = Some(known.to_owned());
        Ok(())
    }
}

impl crate::wire::Decoder for Decoder {
    fn event(&mut self, event: &SseEvent) -> Result<bool, ModelError> {
        if event.data.trim().is_empty() {
            return Ok(false);
        }
        let chunk: Chunk = serde_json::from_str(&event.data).map_err(|_| {
            ModelError::malformed("the provider's stream holds something else than chunks")
        })?;
        if let Some(error) = &chunk.error {
            return Err(ModelError::from_object(error));
        }
        self.counts.read(&chunk.usage_metadata.unwrap_or_default());
        let candidate = chunk
            .candidates
            .into_iter()
            .flatten()
            .find(|candidate| candidate.index.is_none_or(|index| index == 0));
        let Some(candidate) = candidate else {
            let feedback = chunk.prompt_feedback.unwrap_or_default();
            return match feedback["blockReason"].as_str() {
                Some(reason) => Err(blocked(reason, &feedback["blockReasonMessage"])),
                None => Ok(false),
            };
        };
        let mut more = false;
        for part in candidate
            .content
            .into_iter()
            .flat_map(|content| content.parts.unwrap_or_default())
        {
            more |= self.part(part)?;
        }
        if let Some(reason) = candidate.finish_reason.filter(|reason| !reason.is_empty()) {
            more = true;
            self.finished(&reason, candidate.finish_message)?;
        }
        Ok(more)
    }

    fn end(&mut self) -> Result<(), ModelError> {
        let Some(reason) = self.finish_reason.take() else {
            return Err(ModelError::broken_off());
        };
        // that it stopped in order to call tools is not told
        let reason = match reason.as_str() {
            "stop" if self.assembly.has_calls() => "tool_calls".to_owned(),
            _ => reason,
        };
        let usage = self.counts.usage();
        self.assembly.finish(Some(reason), usage);
        Ok(())
    }

    fn could_end(&self) -> bool {
        self.finish_reason.is_some()
    }

    fn assembly(&mut self) -> &mut Assembly {
        &mut self.assembly
    }
}

fn blocked(reason: &str, message: &Value) -> ModelError {
    let message = match message.as_str() {
        Some(message) if !message.trim().is_empty() => message.to_owned(),
        _ => format!("the provider blocks the prompt: {reason}"),
    };
    ModelError::new(ModelErrorKind::Refused, message)
}

impl Counts {
    fn read(&mut self, usage: &Value) {
        for (field, name) in [
            (&mut self.prompt, "promptTokenCount"),
            (&mut self.tool_use, "toolUsePromptTokenCount"),
            (&mut self.cached, "cachedContentTokenCount"),
            (&mut self.candidates, "candidatesTokenCount"),
            (&mut self.thoughts, "thoughtsTokenCount"),
        ] {
            *field = count(&usage[name]).or(*field);
        }
    }

    /// Thoughts stand beside the candidates' tokens, what the cache gave within the prompt's.
    fn usage(&self) -> Option<TokenUsage> {
        if self.prompt.is_none() && self.candidates.is_none() && self.thoughts.is_none() {
            return None;
        }
        let sum = |one: Option<u64>, other: Option<u64>| {
            let sum = one.unwrap_or_default() + other.unwrap_or_default();
            sum.min(u64::from(u32::MAX))
        };
        Some(TokenUsage {
            input: sum(self.prompt, self.tool_use),
            output: sum(self.candidates, self.thoughts),
            cached_input: self.cached.unwrap_or_default(),
            reasoning: self.thoughts.unwrap_or_default(),
        })
    }
}
