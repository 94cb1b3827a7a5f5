//! Puts an answer together from pieces, and hands the pieces on as events: what the wires have in common.

use std::collections::VecDeque;

use crate::chat::{Answer, ChatEvent, Reasoning, TokenUsage, ToolCallRequest};
use crate::error::ModelError;

/// Bytes of one answer: text, thinking and tool calls together.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Tool calls of one answer.
const MAX_TOOL_CALLS: usize = 128;

/// An answer that is coming in. NUL is taken out of everything, since PostgreSQL stores it nowhere.
pub(crate) struct Assembly {
    answer: Answer,
    calls: Vec<CallInProgress>,
    events: VecDeque<ChatEvent>,
    bytes: usize,
    id_prefix: String,
}

#[derive(Default)]
struct CallInProgress {
    /// Arguments that came before the tool's name, which has to be told first.
    held: String,
    announced: bool,
    nul: NulEscapes,
}

impl Assembly {
    /// `id_prefix` begins the ids of tool calls to which the provider gives none.
    pub(crate) fn new(id_prefix: String) -> Self {
        Self {
            answer: Answer::default(),
            calls: Vec::new(),
            events: VecDeque::new(),
            bytes: 0,
            id_prefix,
        }
    }

    /// The next event to hand on.
    pub(crate) fn pop(&mut self) -> Option<ChatEvent> {
        self.events.pop_front()
    }

    /// Whether nothing of an answer has come yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn grow(&mut self, bytes: usize) -> Result<(), ModelError> {
        self.bytes += bytes;
        if self.bytes > MAX_ANSWER_BYTES {
            return Err(ModelError::malformed("the answer is longer than 16 MiB"));
        }
        Ok(())
    }

    pub(crate) fn text(&mut self, piece: &str) -> Result<(), ModelError> {
        let piece = without_nul(piece);
        if piece.is_empty() {
            return Ok(());
        }
        self.grow(piece.len())?;
        self.answer.text.push_str(&piece);
        self.events.push_back(ChatEvent::Text(piece));
        Ok(())
    }

    /// What follows belongs to a piece of thinking of its own.
    pub(crate) fn begin_reasoning(&mut self) -> Result<(), ModelError> {
        self.grow(1)?;
        self.answer.reasoning.push(Reasoning::default());
        Ok(())
    }

    fn last_reasoning(&mut self) -> &mut Reasoning {
        if self.answer.reasoning.is_empty() {
            self.answer.reasoning.push(Reasoning::default());
        }
        let last = self.answer.reasoning.len() - 1;
        &mut self.answer.reasoning[last]
    }

    pub(crate) fn reasoning(&mut self, piece: &str) -> Result<(), ModelError> {
        let piece = without_nul(piece);
        if piece.is_empty() {
            return Ok(());
        }
        self.grow(piece.len())?;
        self.last_reasoning().text.push_str(&piece);
        self.events.push_back(ChatEvent::Reasoning(piece));
        Ok(())
    }

    pub(crate) fn signature(&mut self, piece: &str) -> Result<(), ModelError> {
        self.grow(piece.len())?;
        let piece = without_nul(piece);
        self.last_reasoning()
            .signature
            .get_or_insert_default()
            .push_str(&piece);
        Ok(())
    }

    /// Gemini's signature of the piece of thinking that is under way.
    pub(crate) fn thought_signature(&mut self, signature: &str) -> Result<(), ModelError> {
        self.grow(signature.len())?;
        self.last_reasoning().thought_signature = Some(without_nul(signature));
        Ok(())
    }

    /// Gemini's signature of the tool call at `place`.
    pub(crate) fn call_signature(
        &mut self,
        place: usize,
        signature: &str,
    ) -> Result<(), ModelError> {
        self.grow(signature.len())?;
        self.answer.tool_calls[place].thought_signature = Some(without_nul(signature));
        Ok(())
    }

    pub(crate) fn redacted(&mut self, data: &str) -> Result<(), ModelError> {
        self.grow(data.len())?;
        self.answer.reasoning.push(Reasoning {
            redacted: Some(without_nul(data)),
            ..Reasoning::default()
        });
        Ok(())
    }

    /// A tool call begins; its place is the answer. An empty `id` gets one of ours; an empty `name` may come later.
    pub(crate) fn begin_call(&mut self, id: &str, name: &str) -> Result<usize, ModelError> {
        let place = self.calls.len();
        if place == MAX_TOOL_CALLS {
            return Err(ModelError::malformed(
                "the answer has more than 128 tool calls",
            ));
        }
        self.grow(1 + id.len())?;
        let mut id = without_nul(id);
        if id.is_empty() || self.answer.tool_calls.iter().any(|call| call.id == id) {
            id = format!("{}_{place}", self.id_prefix);
        }
        self.answer.tool_calls.push(ToolCallRequest {
            id,
            ..ToolCallRequest::default()
        });
        self.calls.push(CallInProgress::default());
        self.name_call(place, name)?;
        Ok(place)
    }

    /// The tool's name, unless it is known or empty.
    pub(crate) fn name_call(&mut self, place: usize, name: &str) -> Result<(), ModelError> {
        if name.is_empty() || self.calls[place].announced {
            return Ok(());
        }
        self.grow(name.len())?;
        self.answer.tool_calls[place].name = without_nul(name);
        self.announce(place);
        Ok(())
    }

    fn announce(&mut self, place: usize) {
        let call = &self.answer.tool_calls[place];
        self.calls[place].announced = true;
        self.events.push_back(ChatEvent::ToolCall {
            index: place as u32,
            id: call.id.clone(),
            name: call.name.clone(),
        });
        let held = std::mem::take(&mut self.calls[place].held);
        self.arguments_event(place, held);
    }

    /// Whether a tool is called.
    pub(crate) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Whether the call at `place` has an argument already.
    pub(crate) fn has_arguments(&self, place: usize) -> bool {
        !self.answer.tool_calls[place].arguments.is_empty()
    }

    pub(crate) fn arguments(&mut self, place: usize, piece: &str) -> Result<(), ModelError> {
        self.grow(piece.len())?;
        let piece = self.calls[place].nul.strip(&without_nul(piece));
        self.push_arguments(place, piece);
        Ok(())
    }

    fn push_arguments(&mut self, place: usize, piece: String) {
        self.answer.tool_calls[place].arguments.push_str(&piece);
        if self.calls[place].announced {
            self.arguments_event(place, piece);
        } else {
            self.calls[place].held.push_str(&piece);
        }
    }

    fn arguments_event(&mut self, place: usize, text: String) {
        if !text.is_empty() {
            self.events.push_back(ChatEvent::ToolArguments {
                index: place as u32,
                text,
            });
        }
    }

    /// The answer is whole.
    pub(crate) fn finish(&mut self, reason: Option<String>, usage: Option<TokenUsage>) {
        for place in 0..self.calls.len() {
            if !self.calls[place].announced {
                self.announce(place);
            }
            let mut rest = self.calls[place].nul.rest();
            if rest.is_empty() && !self.has_arguments(place) {
                // a call without arguments has an empty object of them
                rest.push_str("{}");
            }
            self.push_arguments(place, rest);
        }
        let mut answer = std::mem::take(&mut self.answer);
        let default = if answer.tool_calls.is_empty() {
            "stop"
        } else {
            "tool_calls"
        };
        answer.finish_reason =
            reason.map_or_else(|| default.to_owned(), |reason| without_nul(&reason));
        answer.usage = usage;
        self.events.push_back(ChatEvent::Finished(answer));
    }
}

fn without_nul(text: &str) -> String {
    if text.contains('\0') {
        text.replace('\0', "")
    } else {
        text.to_owned()
    }
}

/// Takes the escape `\u0000` out of JSON text that comes in pieces. (`\\u0000` is a backslash and letters, and stays.)
#[derive(Default)]
struct NulEscapes {
    /// The beginning of an escape whose end hasn't come.
    held: String,
}

impl NulEscapes {
    fn strip(&mut self, piece: &str) -> String {
        let mut out = String::with_capacity(self.held.len() + piece.len());
        for char in piece.chars() {
            let goes_on = match self.held.len() {
                0 => char == '\\',
                1 => char == 'u',
                _ => char == '0',
            };
            if goes_on {
                self.held.push(char);
                if self.held.len() == 6 {
                    self.held.clear();
                }
                continue;
            }
            if char == '\\' && self.held.len() > 1 {
                // half an escape before another is no JSON, and what follows the next could make it whole
                self.held.truncate(1);
                continue;
            }
            out.push_str(&self.held);
            self.held.clear();
            out.push(char);
        }
        out
    }

    fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_escapes_go_however_the_text_is_cut() {
        for (text, expected) in [
            (r#"{"a":"x\u0000y"}"#, r#"{"a":"xy"}"#),
            (r#"{"a":"\\u0000"}"#, r#"{"a":"\\u0000"}"#),
            (r#"{"a":"\\\u0000"}"#, r#"{"a":"\\"}"#),
            (r#"{"a":"\u0001\n\u00000"}"#, r#"{"a":"\u0001\n0"}"#),
            (r#"\u\u00000000"#, "0000"),
            (r#"{"a":"\u00"#, r#"{"a":"\u00"#),
        ] {
            let once = |pieces: &[&str]| {
                let mut filter = NulEscapes::default();
                let mut out: String = pieces.iter().map(|piece| filter.strip(piece)).collect();
                out.push_str(&filter.rest());
                out
            };
            for cut in 0..=text.len() {
                assert_eq!(
                    once(&[&text[..cut], &text[cut..]]),
                    expected,
                    "{text} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn arguments_wait_for_the_name() {
        let mut assembly = Assembly::new("call_x".to_owned());
        let place = assembly.begin_call("", "").expect("few");
        assembly.arguments(place, "{\"a\":").expect("short");
        assert_eq!(assembly.pop(), None);
        assembly.name_call(place, "f").expect("short");
        assembly.arguments(place, "1}").expect("short");
        assembly.finish(None, None);
        let events: Vec<ChatEvent> = std::iter::from_fn(|| assembly.pop()).collect();
        let call = ToolCallRequest {
            id: "call_x_0".to_owned(),
            name: "f".to_owned(),
            arguments: "{\"a\":1}".to_owned(),
            ..ToolCallRequest::default()
        };
        assert_eq!(
            events,
            [
                ChatEvent::ToolCall {
                    index: 0,
                    id: "call_x_0".to_owned(),
                    name: "f".to_owned()
                },
                ChatEvent::ToolArguments {
                    index: 0,
                    text: "{\"a\":".to_owned()
                },
                ChatEvent::ToolArguments {
                    index: 0,
                    text: "1}".to_owned()
                },
                ChatEvent::Finished(Answer {
                    tool_calls: vec![call],
                    finish_reason: "tool_calls".to_owned(),
                    ..Answer::default()
                }),
            ]
        );
    }

    #[test]
    fn an_answer_has_limits() {
        let mut assembly = Assembly::new("call".to_owned());
        let piece = "x".repeat(1024 * 1024);
        let refused = (0..17).find_map(|_| assembly.text(&piece).err());
        assert_eq!(
            refused.map(|error| error.message),
            Some("the answer is longer than 16 MiB".to_owned())
        );
        let mut assembly = Assembly::new("call".to_owned());
        assert!((0..129).any(|_| assembly.begin_call("", "f").is_err()));
    }
}
