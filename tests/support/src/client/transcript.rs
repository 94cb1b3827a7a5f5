//! What a front end makes of a conversation's events, by the contract's rules, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A rule that an event has broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An event with a cursor that came before.
    Repeated(String),
    /// Text that stands beyond the end of its part: what lies between was lost.
    Gap {
        /// The message or tool call.
        of: String,
        /// The part.
        part: usize,
        /// Length so far, in UTF-16 code units.
        at: usize,
        /// Where the text says it stands.
        offset: usize,
    },
    /// Text that stands before the end of its part: some of it came before, the same or not.
    Overlap {
        /// The message or tool call.
        of: String,
        /// The part.
        part: usize,
        /// Length so far, in UTF-16 code units.
        at: usize,
        /// Where the text says it stands.
        offset: usize,
        /// Whether it says the same again.
        is_same: bool,
    },
    /// A part that skips one, is of another kind than it was, or belongs to no message.
    Part(String),
    /// A finished message with another text than its deltas make.
    Text {
        /// The message.
        message: String,
        /// As its deltas make it.
        followed: String,
        /// As the event has it.
        finished: String,
    },
    /// An event of a run that had ended.
    AfterEnd(String),
    /// An event of a message that was removed, or a removal of one that was not there.
    Removed(String),
    /// A worker's attempt that is not above the one before.
    Attempt(String),
    /// An event that is not as the contract says.
    Malformed(String),
}

/// A part of a message, as far as its events have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Said.
    Text(String),
    /// Thought.
    Reasoning(String),
    /// A tool call and its arguments.
    ToolCall {
        /// The call.
        id: String,
        /// A piece of JSON text, as long as they come.
        arguments: String,
    },
    /// Came whole.
    Whole,
}

/// A message, as far as its events have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heard {
    parts: Vec<Part>,
    /// Followed from its beginning, so that offsets and the finished text can be held against it.
    is_whole: bool,
}

/// What the events so far make.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    /// Each event, as it came.
    pub events: Vec<Value>,
    /// Of the last event: where to go on.
    pub cursor: Option<String>,
    /// What is wrong, in order; nothing may be.
    pub faults: Vec<Fault>,
    seen: BTreeSet<String>,
    messages: BTreeMap<String, Heard>,
    removed: BTreeSet<String>,
    /// Message and part of each tool call.
    calls: BTreeMap<String, (String, usize)>,
    /// The kind of each run's terminal event.
    ends: BTreeMap<String, String>,
    /// The assistant's message of each run.
    outputs: BTreeMap<String, String>,
    attempts: BTreeMap<String, i64>,
}

impl Transcript {
    /// Takes an event in.
    pub fn apply(&mut self, event: &Value) {
        self.events.push(event.clone());
        let Some(cursor) = event["cursor"].as_str() else {
            return self.fault(Fault::Malformed(event.to_string()));
        };
        if !self.seen.insert(cursor.to_owned()) {
            return self.fault(Fault::Repeated(cursor.to_owned()));
        }
        self.cursor = Some(cursor.to_owned());
        let kind = event["__typename"].as_str().unwrap_or_default();
        let run = event["runId"].as_str();
        if let Some(run) = run
            && self.ends.contains_key(run)
            // A message may be rated, or given a title, long after its run.
            && !matches!(kind, "MessageUpdated" | "ConversationUpdated")
        {
            self.fault(Fault::AfterEnd(event.to_string()));
        }
        if event["messageId"]
            .as_str()
            .is_some_and(|id| self.removed.contains(id))
        {
            return self.fault(Fault::Removed(event.to_string()));
        }
        match kind {
            "MessageCreated" => self.message_created(event, run),
            "MessageCompleted" => self.message_completed(event),
            "MessagesRemoved" => {
                for id in event["messageIds"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                {
                    self.messages.remove(id);
                    if !self.removed.insert(id.to_owned()) {
                        self.faults.push(Fault::Removed(event.to_string()));
                    }
                }
            }
            "TextDelta" => self.delta(event, Part::Text(String::new())),
            "ReasoningDelta" => self.delta(event, Part::Reasoning(String::new())),
            "PartAdded" => self.add(event, Part::Whole),
            "ToolCallStarted" => {
                let id = event["toolCallId"].as_str().unwrap_or_default().to_owned();
                let place = (
                    event["messageId"].as_str().unwrap_or_default().to_owned(),
                    size(&event["part"]),
                );
                self.calls.insert(id.clone(), place);
                self.add(
                    event,
                    Part::ToolCall {
                        id,
                        arguments: String::new(),
                    },
                );
            }
            "ToolCallArgumentsDelta" => self.arguments(event),
            "StepRestarted" => {
                let heard = self
                    .messages
                    .entry(event["messageId"].as_str().unwrap_or_default().to_owned())
                    .or_default();
                heard.parts.truncate(size(&event["fromPart"]));
            }
            "RunStarted" => {
                let (run, attempt) = (
                    run.unwrap_or_default(),
                    event["attempt"].as_i64().unwrap_or_default(),
                );
                if self
                    .attempts
                    .insert(run.to_owned(), attempt)
                    .is_some_and(|before| attempt <= before)
                {
                    self.fault(Fault::Attempt(event.to_string()));
                }
            }
            "RunCompleted" | "RunFailed" | "RunCancelled" => {
                self.ends
                    .insert(run.unwrap_or_default().to_owned(), kind.to_owned());
            }
            _ => {}
        }
    }

    /// The text parts of a message, joined, as far as they have come.
    pub fn text(&self, message: &str) -> String {
        self.messages
            .get(message)
            .map(|heard| joined(&heard.parts))
            .unwrap_or_default()
    }

    /// The parts of a message, as far as they have come.
    pub fn parts(&self, message: &str) -> &[Part] {
        self.messages.get(message).map_or(&[], |heard| &heard.parts)
    }

    /// The assistant's message of a run, once it has begun.
    pub fn output(&self, run: &str) -> Option<&str> {
        self.outputs.get(run).map(String::as_str)
    }

    /// What a run has said so far.
    pub fn said(&self, run: &str) -> String {
        self.output(run)
            .map(|message| self.text(message))
            .unwrap_or_default()
    }

    /// The messages that were removed so far.
    pub fn removed(&self) -> &BTreeSet<String> {
        &self.removed
    }

    /// How a run ended (`RunCompleted`, `RunFailed`, `RunCancelled`), once it has.
    pub fn end(&self, run: &str) -> Option<&str> {
        self.ends.get(run).map(String::as_str)
    }

    /// The kinds of the events of a run so far.
    pub fn kinds(&self, run: &str) -> Vec<&str> {
        let of_run = self.events.iter().filter(|event| event["runId"] == run);
        of_run
            .filter_map(|event| event["__typename"].as_str())
            .collect()
    }

    /// # Panics
    ///
    /// With all of them, when there are faults.
    pub fn assert_faultless(&self) {
        assert!(
            self.faults.is_empty(),
            "{} faults in {} events: {:#?}",
            self.faults.len(),
            self.events.len(),
            self.faults
        );
    }

    fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    fn message_created(&mut self, event: &Value, run: Option<&str>) {
        let id = event["messageId"].as_str().unwrap_or_default();
        let heard = Heard {
            parts: Vec::new(),
            is_whole: true,
        };
        if self.messages.insert(id.to_owned(), heard).is_some() {
            self.fault(Fault::Malformed(event.to_string()));
        }
        if let (Some(run), "ASSISTANT") =
            (run, event["message"]["role"].as_str().unwrap_or_default())
        {
            self.outputs.insert(run.to_owned(), id.to_owned());
        }
    }

    fn message_completed(&mut self, event: &Value) {
        let id = event["messageId"].as_str().unwrap_or_default();
        let message = &event["message"];
        // A message that is gone by the time of delivery is null.
        let Some(finished) = message["text"]
            .as_str()
            .filter(|_| message["role"] == "ASSISTANT")
        else {
            return;
        };
        let followed = self.text(id);
        if self.messages.get(id).is_some_and(|heard| heard.is_whole) && followed != finished {
            self.fault(Fault::Text {
                message: id.to_owned(),
                followed,
                finished: finished.to_owned(),
            });
        }
    }

    /// The message that an event is about; one that began before the following did is taken as it comes.
    fn heard(&mut self, event: &Value) -> &mut Heard {
        self.messages
            .entry(event["messageId"].as_str().unwrap_or_default().to_owned())
            .or_default()
    }

    fn add(&mut self, event: &Value, part: Part) {
        let at = size(&event["part"]);
        let heard = self.heard(event);
        if !heard.is_whole {
            heard.parts.resize(at.max(heard.parts.len()), Part::Whole);
        }
        if heard.parts.len() == at {
            heard.parts.push(part);
        } else {
            self.fault(Fault::Part(event.to_string()));
        }
    }

    fn delta(&mut self, event: &Value, empty: Part) {
        let (of, at) = (
            event["messageId"].as_str().unwrap_or_default().to_owned(),
            size(&event["part"]),
        );
        let is_new = self.heard(event).parts.get(at).is_none();
        if is_new {
            self.add(event, empty.clone());
        }
        let heard = self.heard(event);
        let is_whole = heard.is_whole;
        let fault = match (heard.parts.get_mut(at), empty) {
            (Some(Part::Text(text)), Part::Text(_))
            | (Some(Part::Reasoning(text)), Part::Reasoning(_)) => {
                if is_new && !is_whole {
                    // Its beginning is not known; spaces keep the offsets right.
                    *text = " ".repeat(size(&event["offset"]));
                }
                append(text, event, &of, at)
            }
            _ => Some(Fault::Part(event.to_string())),
        };
        self.faults.extend(fault);
    }

    fn arguments(&mut self, event: &Value) {
        let call = event["toolCallId"].as_str().unwrap_or_default();
        // The arguments of a call that began before the following did belong to nothing known.
        let Some((message, at)) = self.calls.get(call) else {
            return;
        };
        let part = self
            .messages
            .get_mut(message)
            .and_then(|heard| heard.parts.get_mut(*at));
        let fault = match part {
            Some(Part::ToolCall { id, arguments }) if id == call => {
                append(arguments, event, call, *at)
            }
            _ => Some(Fault::Part(event.to_string())),
        };
        self.faults.extend(fault);
    }
}

/// Appends an event's text where it says that it stands.
pub(super) fn append(text: &mut String, event: &Value, of: &str, part: usize) -> Option<Fault> {
    let (Some(more), Some(_)) = (event["text"].as_str(), event["offset"].as_u64()) else {
        return Some(Fault::Malformed(event.to_string()));
    };
    let (at, offset) = (units(text), size(&event["offset"]));
    let of = of.to_owned();
    if offset == at {
        text.push_str(more);
        return None;
    }
    if offset > at {
        text.push_str(more);
        return Some(Fault::Gap {
            of,
            part,
            at,
            offset,
        });
    }
    // Applied all the same, as a front end would: what is there stays, what goes beyond it is new.
    let there: Vec<u16> = text.encode_utf16().skip(offset).collect();
    let comes: Vec<u16> = more.encode_utf16().collect();
    let common = there.len().min(comes.len());
    let is_same = there[..common] == comes[..common];
    text.push_str(&String::from_utf16_lossy(&comes[common..]));
    Some(Fault::Overlap {
        of,
        part,
        at,
        offset,
        is_same,
    })
}

fn joined(parts: &[Part]) -> String {
    parts
        .iter()
        .filter_map(|part| {
            if let Part::Text(text) = part {
                Some(text.as_str())
            } else {
                None
            }
        })
        .collect()
}

/// Positions in text count UTF-16 code units.
fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// A number of the contract's that is an index or a length. One that is neither shows as a part that can't be.
fn size(value: &Value) -> usize {
    value
        .as_u64()
        .and_then(|value| usize::try_from(value).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(seq: u32, kind: &str, rest: Value) -> Value {
        let mut event = json!({"__typename": kind, "cursor": format!("c{seq}"), "runId": "run"});
        if let (Value::Object(event), Value::Object(rest)) = (&mut event, rest) {
            event.extend(rest);
        }
        event
    }

    fn delta(seq: u32, part: u32, offset: u32, text: &str) -> Value {
        event(
            seq,
            "TextDelta",
            json!({"messageId": "m", "part": part, "offset": offset, "text": text}),
        )
    }

    fn begun() -> Transcript {
        let mut transcript = Transcript::default();
        transcript.apply(&event(1, "RunStarted", json!({"attempt": 1})));
        transcript.apply(&event(
            2,
            "MessageCreated",
            json!({"messageId": "m", "message": {"role": "ASSISTANT"}}),
        ));
        transcript
    }

    fn finished(seq: u32, text: &str) -> Value {
        event(
            seq,
            "MessageCompleted",
            json!({"messageId": "m", "message": {"role": "ASSISTANT", "text": text}}),
        )
    }

    #[test]
    fn a_run_as_it_should_be() {
        let mut transcript = begun();
        transcript.apply(&event(
            3,
            "ReasoningDelta",
            json!({"messageId": "m", "part": 0, "offset": 0, "text": "hm"}),
        ));
        transcript.apply(&delta(4, 1, 0, "one 🧵"));
        transcript.apply(&delta(5, 1, 6, " two"));
        let call = json!({"messageId": "m", "part": 2, "toolCallId": "t"});
        transcript.apply(&event(6, "ToolCallStarted", call));
        transcript.apply(&event(
            7,
            "ToolCallArgumentsDelta",
            json!({"toolCallId": "t", "offset": 0, "text": "{}"}),
        ));
        transcript.apply(&delta(8, 3, 0, "!"));
        transcript.apply(&finished(9, "one 🧵 two!"));
        transcript.apply(&event(10, "RunCompleted", json!({})));
        transcript.assert_faultless();
        assert_eq!(transcript.said("run"), "one 🧵 two!");
        assert_eq!(transcript.end("run"), Some("RunCompleted"));
        assert_eq!(transcript.cursor.as_deref(), Some("c10"));
        assert_eq!(
            transcript.parts("m")[2],
            Part::ToolCall {
                id: "t".into(),
                arguments: "{}".into()
            }
        );
    }

    #[test]
    fn a_restart_takes_back_what_was_said() {
        let mut transcript = begun();
        transcript.apply(&delta(3, 0, 0, "half of"));
        transcript.apply(&event(4, "RunStarted", json!({"attempt": 2})));
        transcript.apply(&event(
            5,
            "StepRestarted",
            json!({"messageId": "m", "fromPart": 0}),
        ));
        transcript.apply(&delta(6, 0, 0, "whole"));
        transcript.apply(&finished(7, "whole"));
        transcript.assert_faultless();
    }

    #[test]
    fn finds_what_is_lost_and_what_is_repeated() {
        let mut transcript = begun();
        transcript.apply(&delta(3, 0, 0, "one"));
        transcript.apply(&delta(3, 0, 0, "one"));
        transcript.apply(&delta(5, 0, 4, "three"));
        transcript.apply(&delta(6, 0, 6, "ee"));
        transcript.apply(&delta(7, 0, 7, "xx more"));
        transcript.apply(&delta(8, 2, 0, "skips a part"));
        transcript.apply(&event(9, "RunStarted", json!({"attempt": 1})));
        transcript.apply(&finished(10, "one two three"));
        transcript.apply(&event(11, "RunFailed", json!({})));
        transcript.apply(&event(12, "RunCompleted", json!({})));
        let mut gone = event(13, "MessagesRemoved", json!({"messageIds": ["m"]}));
        gone["runId"] = Value::Null;
        transcript.apply(&gone);
        gone["cursor"] = json!("c14");
        transcript.apply(&gone);
        let kinds: Vec<&str> = transcript
            .faults
            .iter()
            .map(|fault| match fault {
                Fault::Repeated(_) => "repeated",
                Fault::Gap { .. } => "gap",
                Fault::Overlap { is_same: true, .. } => "same",
                Fault::Overlap { is_same: false, .. } => "other",
                Fault::Part(_) => "part",
                Fault::Text { .. } => "text",
                Fault::AfterEnd(_) => "after the end",
                Fault::Removed(_) => "removed",
                Fault::Attempt(_) => "attempt",
                Fault::Malformed(_) => "malformed",
            })
            .collect();
        assert_eq!(
            kinds,
            [
                "repeated",
                "gap",
                "same",
                "other",
                "part",
                "part",
                "attempt",
                "text",
                "after the end",
                "removed"
            ]
        );
    }

    #[test]
    fn whoever_comes_late_is_not_told_off() {
        let mut transcript = Transcript::default();
        transcript.apply(&delta(7, 1, 12, "from here"));
        transcript.apply(&delta(8, 1, 21, " on"));
        transcript.apply(&finished(9, "something from here on"));
        transcript.apply(&event(10, "RunCompleted", json!({})));
        transcript.assert_faultless();
    }
}
