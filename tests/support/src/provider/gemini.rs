//! Google's Gemini, as the API reference has it: contents of parts, tool calls whole, and a signature with the first call
//! of an answer.

use serde_json::{Value, json};

use super::{
    play::{Speech, whole_call},
    script::{Step, Usage},
};

/// Stands in the place of what a model signs of its thoughts.
const SIGNATURE: &str = "c2lnbmVk";

/// One answer, being streamed.
pub(super) struct Stream {
    id: String,
    model: String,
    usage: Usage,
    calls: Vec<(u32, String, String, String)>,
    has_called: bool,
    finish: Option<String>,
}

impl Stream {
    pub(super) fn new(number: u64, model: &str, usage: Usage) -> Self {
        Self {
            id: format!("resp_{number}"),
            model: model.to_owned(),
            usage,
            calls: Vec::new(),
            has_called: false,
            finish: None,
        }
    }

    fn chunk(&self, candidate: &Value, usage: &Value) -> String {
        let chunk = json!({
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": self.model,
            "responseId": self.id,
        });
        // lines end as they do on Google's wire
        format!("data: {chunk}\r\n\r\n")
    }

    fn part(&self, part: &Value) -> String {
        let candidate = json!({"content": {"parts": [part], "role": "model"}, "index": 0});
        let prompt =
            json!({"promptTokenCount": self.usage.input, "totalTokenCount": self.usage.input});
        self.chunk(&candidate, &prompt)
    }
}

impl Speech for Stream {
    fn say(&mut self, step: &Step, later: &[Step]) -> String {
        match step {
            Step::Text(text) => self.part(&json!({"text": text})),
            Step::Reasoning(text) => self.part(&json!({"text": text, "thought": true})),
            Step::ToolCall { .. } | Step::ToolArguments { .. } => {
                let Some((id, name, args)) = whole_call(&mut self.calls, step, later) else {
                    return String::new();
                };
                let part = call(&id, &name, &args, !self.has_called);
                self.has_called = true;
                self.part(&part)
            }
            Step::Finish(reason) => {
                self.finish = Some(reason.clone());
                String::new()
            }
            Step::ErrorInStream(error) => format!("data: {}\r\n\r\n", json!({"error": error})),
            _ => String::new(),
        }
    }

    fn end(&mut self) -> String {
        let candidate = json!({
            "content": {"parts": [{"text": ""}], "role": "model"},
            "finishReason": reason(self.finish.as_deref()),
            "index": 0,
        });
        self.chunk(&candidate, &counted(self.usage))
    }
}

fn call(id: &str, name: &str, args: &Value, is_first: bool) -> Value {
    let mut part = json!({"functionCall": {"name": name, "args": args}});
    if !id.is_empty() {
        part["functionCall"]["id"] = json!(id);
    }
    if is_first {
        part["thoughtSignature"] = json!(SIGNATURE);
    }
    part
}

fn reason(finish: Option<&str>) -> &str {
    match finish {
        // calls have no reason of their own
        None | Some("stop" | "tool_calls") => "STOP",
        Some("length") => "MAX_TOKENS",
        Some("content_filter") => "SAFETY",
        Some(other) => other,
    }
}

fn counted(usage: Usage) -> Value {
    json!({
        "promptTokenCount": usage.input,
        "cachedContentTokenCount": usage.cached,
        "candidatesTokenCount": usage.output.saturating_sub(usage.reasoning),
        "thoughtsTokenCount": usage.reasoning,
        "totalTokenCount": usage.input + usage.output,
    })
}

/// The same answer in one piece.
pub(super) fn whole(number: u64, model: &str, steps: &[Step], usage: Usage) -> Value {
    let (mut parts, mut calls, mut has_called) = (Vec::<Value>::new(), Vec::new(), false);
    let mut finish = None;
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Text(text) => parts.push(json!({"text": text})),
            Step::Reasoning(text) => parts.push(json!({"text": text, "thought": true})),
            Step::Finish(reason) => finish = Some(reason.as_str()),
            _ => {
                if let Some((id, name, args)) = whole_call(&mut calls, step, &steps[at + 1..]) {
                    parts.push(call(&id, &name, &args, !has_called));
                    has_called = true;
                }
            }
        }
    }
    json!({
        "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": reason(finish), "index": 0}],
        "usageMetadata": counted(usage),
        "modelVersion": model,
        "responseId": format!("resp_{number}"),
    })
}

/// The body of a refusal.
pub(super) fn refusal(status: u16, message: &str, error: Option<&Value>) -> Value {
    let word = match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    let usual = || json!({"code": status, "message": message, "status": word});
    json!({"error": error.cloned().unwrap_or_else(usual)})
}

/// The list of models.
pub(super) fn models(names: &[String]) -> Value {
    let model = |name: &String| {
        json!({
            "name": format!("models/{name}"),
            "displayName": name,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        })
    };
    json!({"models": names.iter().map(model).collect::<Vec<_>>()})
}
