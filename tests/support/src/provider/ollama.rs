//! Ollama's own chat, as its documentation has it: one JSON text a line, tool calls whole.

use serde_json::{Value, json};

use super::{
    play::{Speech, whole_call},
    script::{Step, Usage},
};

/// In every answer: a fixed one, so that answers can be compared.
const CREATED: &str = "2026-01-01T00:00:00Z";

/// One answer, being streamed.
pub(super) struct Stream {
    model: String,
    usage: Usage,
    calls: Vec<(u32, String, String, String)>,
    finish: Option<String>,
}

impl Stream {
    pub(super) fn new(model: &str, usage: Usage) -> Self {
        Self {
            model: model.to_owned(),
            usage,
            calls: Vec::new(),
            finish: None,
        }
    }

    fn line(&self, message: &Value) -> String {
        let mut whole = json!({"role": "assistant", "content": ""});
        if let (Value::Object(whole), Value::Object(message)) = (&mut whole, message) {
            whole.extend(message.clone());
        }
        let line =
            json!({"model": self.model, "created_at": CREATED, "message": whole, "done": false});
        format!("{line}\n")
    }
}

impl Speech for Stream {
    fn say(&mut self, step: &Step, later: &[Step]) -> String {
        match step {
            Step::Text(text) => self.line(&json!({"content": text})),
            Step::Reasoning(text) => self.line(&json!({"thinking": text})),
            Step::ToolCall { .. } | Step::ToolArguments { .. } => {
                match whole_call(&mut self.calls, step, later) {
                    Some((id, name, arguments)) => {
                        self.line(&json!({"tool_calls": [call(&id, &name, &arguments)]}))
                    }
                    None => String::new(),
                }
            }
            Step::Finish(reason) => {
                self.finish = Some(reason.clone());
                String::new()
            }
            Step::ErrorInStream(error) => format!("{}\n", json!({"error": error})),
            _ => String::new(),
        }
    }

    fn end(&mut self) -> String {
        let message = json!({"role": "assistant", "content": ""});
        let line = ended(&self.model, &message, self.finish.as_deref(), self.usage);
        format!("{line}\n")
    }
}

fn call(id: &str, name: &str, arguments: &Value) -> Value {
    let mut call = json!({"function": {"name": name, "arguments": arguments}});
    if !id.is_empty() {
        call["id"] = json!(id);
    }
    call
}

fn ended(model: &str, message: &Value, finish: Option<&str>, usage: Usage) -> Value {
    let reason = match finish {
        // calls have no reason of their own
        None | Some("tool_calls") => "stop",
        Some(other) => other,
    };
    json!({
        "model": model,
        "created_at": CREATED,
        "message": message,
        "done": true,
        "done_reason": reason,
        "total_duration": 5_000_000,
        "prompt_eval_count": usage.input,
        "prompt_eval_cached_count": usage.cached,
        "eval_count": usage.output,
    })
}

/// The same answer in one piece, for a request that wants no stream.
pub(super) fn whole(model: &str, steps: &[Step], usage: Usage) -> Value {
    let (mut text, mut thoughts) = (String::new(), String::new());
    let (mut said, mut calls, mut finish) = (Vec::new(), Vec::<Value>::new(), None);
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Text(piece) => text += piece,
            Step::Reasoning(piece) => thoughts += piece,
            Step::Finish(reason) => finish = Some(reason.as_str()),
            _ => {
                let whole = whole_call(&mut said, step, &steps[at + 1..]);
                calls.extend(whole.map(|(id, name, arguments)| call(&id, &name, &arguments)));
            }
        }
    }
    let mut message = json!({"role": "assistant", "content": text});
    if !thoughts.is_empty() {
        message["thinking"] = json!(thoughts);
    }
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    ended(model, &message, finish, usage)
}

/// The body of a refusal: its text, or whatever the script gives in its place.
pub(super) fn refusal(message: &str, error: Option<&Value>) -> Value {
    json!({"error": error.cloned().unwrap_or_else(|| json!(message))})
}

/// The list of models.
pub(super) fn models(names: &[String]) -> Value {
    let model =
        |name: &String| json!({"name": name, "model": name, "modified_at": CREATED, "size": 1});
    json!({"models": names.iter().map(model).collect::<Vec<_>>()})
}

/// What is known of a model.
pub(super) fn shown() -> Value {
    json!({"modified_at": CREATED, "details": {"family": "script"}, "capabilities": ["completion", "tools"]})
}
