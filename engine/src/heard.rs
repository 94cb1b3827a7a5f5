//! What was heard of one answer of a model, as it comes.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use entities::{Part, ToolCallId};
use events::record::utf16_len;
use providers::Answer;

/// What was heard of one answer.
pub(crate) struct Heard {
    pub(crate) began: DateTime<Utc>,
    pub(crate) first: Option<(DateTime<Utc>, Duration)>,
    pub(crate) took: Duration,
    /// Parts of this step; their indices begin at `base`.
    pub(crate) parts: Vec<Part>,
    /// How long the last of them is, in UTF-16 code units.
    pub(crate) last: u32,
    pub(crate) base: u32,
    /// By the provider's index: our id, and how long the arguments are so far.
    pub(crate) calls: HashMap<u32, (ToolCallId, u32)>,
    pub(crate) answer: Answer,
}

impl Heard {
    /// Adds to the last part, or begins one where that is of another kind; answers the part and the offset.
    pub(crate) fn grow(&mut self, more: &str, is_text: bool) -> (u32, u32) {
        let goes_on = match self.parts.last() {
            Some(Part::Text { .. }) => is_text,
            Some(Part::Reasoning { .. }) => !is_text,
            _ => false,
        };
        if !goes_on {
            self.last = 0;
            self.parts.push(if is_text {
                Part::Text {
                    text: String::new(),
                }
            } else {
                Part::Reasoning {
                    text: String::new(),
                }
            });
        }
        let part = self.base + u32::try_from(self.parts.len() - 1).unwrap_or(u32::MAX);
        if let Some(Part::Text { text } | Part::Reasoning { text }) = self.parts.last_mut() {
            text.push_str(more);
        }
        let offset = self.last;
        self.last += utf16_len(more);
        (part, offset)
    }
}
