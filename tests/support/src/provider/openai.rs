//! OpenAI's chat completions, as the API reference has them; thoughts in `reasoning_content`, where the compatible
//! servers have them.

use serde_json::{Value, json};

use super::{
    play::Speech,
    script::{Step, Usage},
};

/// Seconds since 1970 in every answer: a fixed one, so that answers can be compared.
const CREATED: u64 = 1_700_000_000;

/// One answer, being streamed.
pub(super) struct Stream {
    id: String,
    model: String,
    usage: Usage,
    /// Usage comes only when it was asked for.
    with_usage: bool,
    begun: bool,
    has_tools: bool,
    finish: Option<String>,
}

impl Stream {
    pub(super) fn new(number: u64, model: &str, body: &Value, usage: Usage) -> Self {
        Self {
            id: format!("chatcmpl-{number}"),
            model: model.to_owned(),
            usage,
            with_usage: body["stream_options"]["include_usage"] == true,
            begun: false,
            has_tools: false,
            finish: None,
        }
    }

    fn chunk(&self, choices: &Value, usage: Option<Value>) -> String {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": self.model,
            "system_fingerprint": null,
            "choices": choices,
        });
        if self.with_usage {
            chunk["usage"] = usage.unwrap_or(Value::Null);
        }
        format!("data: {chunk}\n\n")
    }

    fn delta(&mut self, delta: &Value) -> String {
        let first = if self.begun {
            String::new()
        } else {
            self.opening()
        };
        first
            + &self.chunk(
                &json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}]),
                None,
            )
    }

    fn opening(&mut self) -> String {
        self.begun = true;
        let delta = json!({"role": "assistant", "content": "", "refusal": null});
        self.chunk(
            &json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}]),
            None,
        )
    }
}

impl Speech for Stream {
    fn say(&mut self, step: &Step, _later: &[Step]) -> String {
        match step {
            Step::Text(text) => self.delta(&json!({"content": text})),
            Step::Reasoning(text) => self.delta(&json!({"reasoning_content": text})),
            Step::ToolCall { index, id, name } => {
                self.has_tools = true;
                let call = json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}});
                self.delta(&json!({"tool_calls": [call]}))
            }
            Step::ToolArguments { index, text } => self
                .delta(&json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]})),
            Step::Finish(reason) => {
                self.finish = Some(reason.clone());
                String::new()
            }
            Step::ErrorInStream(error) => format!("data: {}\n\n", json!({"error": error})),
            _ => String::new(),
        }
    }

    fn end(&mut self) -> String {
        let mut out = if self.begun {
            String::new()
        } else {
            self.opening()
        };
        let reason = reason(self.finish.as_deref(), self.has_tools);
        out += &self.chunk(
            &json!([{"index": 0, "delta": {}, "logprobs": null, "finish_reason": reason}]),
            None,
        );
        if self.with_usage {
            out += &self.chunk(&json!([]), Some(counted(self.usage)));
        }
        out + "data: [DONE]\n\n"
    }
}

fn reason(finish: Option<&str>, has_tools: bool) -> &str {
    finish.unwrap_or(if has_tools { "tool_calls" } else { "stop" })
}

fn counted(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": 0},
    })
}

/// The same answer in one piece, for a request without `stream`.
pub(super) fn whole(number: u64, model: &str, steps: &[Step], usage: Usage) -> Value {
    let (mut text, mut thoughts, mut calls, mut finish) =
        (String::new(), String::new(), Vec::<Value>::new(), None);
    for step in steps {
        match step {
            Step::Text(piece) => text += piece,
            Step::Reasoning(piece) => thoughts += piece,
            Step::ToolCall { id, name, .. } => {
                calls.push(json!({"id": id, "type": "function", "function": {"name": name, "arguments": ""}}));
            }
            Step::ToolArguments { index, text } => {
                let call = usize::try_from(*index)
                    .ok()
                    .and_then(|index| calls.get_mut(index));
                if let Some(arguments) = call.map(|call| &mut call["function"]["arguments"]) {
                    *arguments =
                        Value::String(arguments.as_str().unwrap_or_default().to_owned() + text);
                }
            }
            Step::Finish(reason) => finish = Some(reason.as_str()),
            _ => {}
        }
    }
    let finish = reason(finish, !calls.is_empty());
    let content = if text.is_empty() && !calls.is_empty() {
        Value::Null
    } else {
        Value::String(text)
    };
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if !thoughts.is_empty() {
        message["reasoning_content"] = Value::String(thoughts);
    }
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    json!({
        "id": format!("chatcmpl-{number}"),
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish}],
        "usage": counted(usage),
    })
}

/// The body of a refusal.
pub(super) fn refusal(status: u16, message: &str, error: Option<&Value>) -> Value {
    let kind = match status {
        401 => "authentication_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    let code = match status {
        401 => json!("invalid_api_key"),
        404 => json!("model_not_found"),
        429 => json!("rate_limit_exceeded"),
        _ => Value::Null,
    };
    let usual = || json!({"message": message, "type": kind, "param": null, "code": code});
    json!({"error": error.cloned().unwrap_or_else(usual)})
}

/// The list of models.
pub(super) fn models(names: &[String]) -> Value {
    let model = |name: &String| json!({"id": name, "object": "model", "created": CREATED, "owned_by": "script"});
    json!({"object": "list", "data": names.iter().map(model).collect::<Vec<_>>()})
}
