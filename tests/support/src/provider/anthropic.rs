//! Anthropic's messages, as the API reference has them: blocks that begin, come in pieces and end, one at a time.

use serde_json::{Value, json};

use super::{
    play::Speech,
    script::{Step, Usage},
};

/// A block that has begun and not ended.
#[derive(Clone, Copy, PartialEq)]
enum Block {
    Text,
    Thinking,
    /// Of the tool call with this index in the script.
    Tool(u32),
}

/// One answer, being streamed.
pub(super) struct Stream {
    id: String,
    model: String,
    usage: Usage,
    begun: bool,
    has_tools: bool,
    finish: Option<String>,
    /// Those under way, each with its index on the wire. More than one only where a script mixes the arguments of
    /// several tool calls.
    open: Vec<(Block, u32)>,
    /// Index of the next block.
    next: u32,
}

impl Stream {
    pub(super) fn new(number: u64, model: &str, usage: Usage) -> Self {
        Self {
            id: format!("msg_{number}"),
            model: model.to_owned(),
            usage,
            begun: false,
            has_tools: false,
            finish: None,
            open: Vec::new(),
            next: 0,
        }
    }

    fn opening(&mut self) -> String {
        self.begun = true;
        let message = json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": [],
            "stop_reason": null, "stop_sequence": null,
            "usage": counted(Usage { output: 1, ..self.usage }),
        });
        event("message_start", &json!({"message": message})) + &event("ping", &json!({}))
    }

    /// Ends the blocks that nothing more will be said of.
    fn close(&mut self, wanted: impl Fn(Block) -> bool) -> String {
        let mut out = String::new();
        self.open.retain(|(block, index)| {
            if wanted(*block) {
                return true;
            }
            if *block == Block::Thinking {
                let delta = json!({"type": "signature_delta", "signature": "c2lnbmVk"});
                out += &event(
                    "content_block_delta",
                    &json!({"index": index, "delta": delta}),
                );
            }
            out += &event("content_block_stop", &json!({"index": index}));
            false
        });
        out
    }

    /// A piece of a block, which begins with it unless it is under way.
    fn piece(
        &mut self,
        block: Block,
        content: &Value,
        delta: Option<&Value>,
        later: &[Step],
    ) -> String {
        let mut out = if self.begun {
            String::new()
        } else {
            self.opening()
        };
        let index = match self.open.iter().find(|(open, _)| *open == block) {
            Some((_, index)) => *index,
            None => {
                out += &self.close(|open| {
                    later.iter().any(|step| matches!(step, Step::ToolArguments { index, .. } if open == Block::Tool(*index)))
                });
                let index = self.next;
                self.next += 1;
                self.open.push((block, index));
                out += &event(
                    "content_block_start",
                    &json!({"index": index, "content_block": content}),
                );
                index
            }
        };
        if let Some(delta) = delta {
            out += &event(
                "content_block_delta",
                &json!({"index": index, "delta": delta}),
            );
        }
        out
    }
}

impl Speech for Stream {
    fn say(&mut self, step: &Step, later: &[Step]) -> String {
        match step {
            Step::Text(text) => {
                let delta = json!({"type": "text_delta", "text": text});
                self.piece(
                    Block::Text,
                    &json!({"type": "text", "text": ""}),
                    Some(&delta),
                    later,
                )
            }
            Step::Reasoning(text) => {
                let content = json!({"type": "thinking", "thinking": "", "signature": ""});
                self.piece(
                    Block::Thinking,
                    &content,
                    Some(&json!({"type": "thinking_delta", "thinking": text})),
                    later,
                )
            }
            Step::ToolCall { index, id, name } => {
                self.has_tools = true;
                let content = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                self.piece(Block::Tool(*index), &content, None, later)
            }
            Step::ToolArguments { index, text } => {
                let delta = json!({"type": "input_json_delta", "partial_json": text});
                self.piece(
                    Block::Tool(*index),
                    &json!({"type": "tool_use"}),
                    Some(&delta),
                    later,
                )
            }
            Step::Finish(reason) => {
                self.finish = Some(reason.clone());
                String::new()
            }
            Step::ErrorInStream(error) => event("error", &json!({"error": error})),
            _ => String::new(),
        }
    }

    fn end(&mut self) -> String {
        let mut out = if self.begun {
            String::new()
        } else {
            self.opening()
        };
        out += &self.close(|_| false);
        let delta = json!({"stop_reason": reason(self.finish.as_deref(), self.has_tools), "stop_sequence": null});
        out += &event(
            "message_delta",
            &json!({"delta": delta, "usage": {"output_tokens": self.usage.output}}),
        );
        out + &event("message_stop", &json!({}))
    }
}

/// An event, its name in the line above and in the data.
fn event(name: &str, data: &Value) -> String {
    let mut whole = json!({"type": name});
    if let (Value::Object(whole), Value::Object(data)) = (&mut whole, data) {
        whole.extend(data.clone());
    }
    format!("event: {name}\ndata: {whole}\n\n")
}

fn reason(finish: Option<&str>, has_tools: bool) -> &str {
    match finish {
        None if has_tools => "tool_use",
        None | Some("stop") => "end_turn",
        Some("tool_calls") => "tool_use",
        Some("length") => "max_tokens",
        Some("content_filter") => "refusal",
        Some(other) => other,
    }
}

fn counted(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input.saturating_sub(usage.cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.output,
    })
}

/// The same answer in one piece, for a request without `stream`.
pub(super) fn whole(number: u64, model: &str, steps: &[Step], usage: Usage) -> Value {
    let mut blocks = Vec::<Value>::new();
    let mut arguments = Vec::<(u32, usize, String)>::new();
    let mut finish = None;
    for step in steps {
        match step {
            Step::Text(piece) => lengthen(&mut blocks, "text", "text", piece),
            Step::Reasoning(piece) => lengthen(&mut blocks, "thinking", "thinking", piece),
            Step::ToolCall { index, id, name } => {
                arguments.push((*index, blocks.len(), String::new()));
                blocks.push(json!({"type": "tool_use", "id": id, "name": name, "input": {}}));
            }
            Step::ToolArguments { index, text } => {
                if let Some((_, _, whole)) = arguments.iter_mut().find(|(call, _, _)| call == index)
                {
                    *whole += text;
                }
            }
            Step::Finish(reason) => finish = Some(reason.as_str()),
            _ => {}
        }
    }
    let has_tools = !arguments.is_empty();
    for (_, block, text) in arguments {
        blocks[block]["input"] = serde_json::from_str(&text).unwrap_or_else(|_| json!({}));
    }
    json!({
        "id": format!("msg_{number}"), "type": "message", "role": "assistant", "model": model, "content": blocks,
        "stop_reason": reason(finish, has_tools), "stop_sequence": null, "usage": counted(usage),
    })
}

/// Adds a piece to the last block if it is of that type, else to a new one.
fn lengthen(blocks: &mut Vec<Value>, kind: &str, field: &str, piece: &str) {
    match blocks.last_mut().filter(|block| block["type"] == kind) {
        Some(block) => {
            block[field] =
                Value::String(block[field].as_str().unwrap_or_default().to_owned() + piece);
        }
        None => blocks.push(json!({"type": kind, field: piece})),
    }
}

/// The body of a refusal.
pub(super) fn refusal(status: u16, message: &str, error: Option<&Value>) -> Value {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let usual = || json!({"type": kind, "message": message});
    json!({"type": "error", "error": error.cloned().unwrap_or_else(usual)})
}

/// The list of models.
pub(super) fn models(names: &[String]) -> Value {
    let model = |name: &String| json!({"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"});
    json!({
        "data": names.iter().map(model).collect::<Vec<_>>(),
        "has_more": false, "first_id": names.first(), "last_id": names.last(),
    })
}
