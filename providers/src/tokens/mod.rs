//! How many tokens a request has, before it is sent: an estimate by the model's tokenizer, bundled, without a download.
//!
//! Bundled are OpenAI's two vocabularies; other families are counted by the one that is nearer, with a factor
//! ([`family`]). A vocabulary takes tens of megabytes once it is loaded, and is loaded when it is first needed: whoever
//! has room to spare is answered by length alone.

mod encoding;
mod family;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use adapters::tasks::Tasks;

use crate::chat::{ChatMessage, ChatRequest};
use crate::endpoint::Provider;
use crate::wire::object_schema;
use family::Family;

/// Tokens around each message: its beginning, its role, its end.
const PER_MESSAGE: u64 = 4;
/// Tokens around a tool call, or the declaration of a tool.
const PER_TOOL: u64 = 8;
/// Tokens with which the answer is begun.
const PER_REQUEST: u64 = 3;

/// Counts tokens as one model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenCounter {
    family: Family,
    /// Thoughts of the turn under way go back to the model.
    counts_reasoning: bool,
}

/// Tokens of a request, part by part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights {
    /// Of what is there whatever is said: instructions, tools, and the beginning of the answer.
    pub fixed: u64,
    /// Of each message, in order.
    pub messages: Vec<u64>,
}

impl Weights {
    /// All together.
    pub fn total(&self) -> u64 {
        self.fixed + self.messages.iter().sum::<u64>()
    }
}

impl TokenCounter {
    /// The counter for a model, known by the provider's name for it.
    pub fn of(provider: Provider, model_name: &str) -> Self {
        Self {
            family: Family::of(model_name),
            counts_reasoning: !matches!(provider, Provider::OpenAi | Provider::AzureOpenAi),
        }
    }

    /// The tokens of a request, surely not fewer than there are: no token is shorter than a byte. It costs nothing, and no
    /// vocabulary is loaded for it.
    pub fn at_most(self, request: &ChatRequest) -> u64 {
        self.weigh_by(request, &mut |text| text.len() as u64)
            .total()
    }

    /// The tokens of a request, part by part. It takes milliseconds for each hundred kilobytes and, the first time, a tenth of a
    /// second to load the vocabulary: not for a thread that serves others.
    pub fn weigh(self, request: &ChatRequest) -> Weights {
        let mut budget = encoding::Budget::default();
        let encoding = self.family.encoding;
        self.weigh_by(request, &mut |text| encoding.count(text, &mut budget))
    }

    /// The tokens of each text alone, without what stands around a message. As slow as [`Self::weigh`].
    pub fn count_each<T: AsRef<str>>(self, texts: &[T]) -> Vec<u64> {
        let mut budget = encoding::Budget::default();
        let counts = texts
            .iter()
            .map(|text| self.family.encoding.count(text.as_ref(), &mut budget));
        counts.map(|tokens| self.family.scaled(tokens)).collect()
    }

    /// [`Self::weigh`], away from the threads that serve. Ask [`Self::at_most`] first: it may be enough.
    pub async fn weigh_apart(self, tasks: &Tasks, request: Arc<ChatRequest>) -> Weights {
        let again = request.clone();
        let weighed = tasks.spawn_blocking("count tokens", move || self.weigh(&request));
        // the bound holds also where nobody could count
        weighed
            .await
            .unwrap_or_else(|_| self.weigh_by(&again, &mut |text| text.len() as u64))
    }

    fn weigh_by(self, request: &ChatRequest, count: &mut dyn FnMut(&str) -> u64) -> Weights {
        let mut fixed = PER_REQUEST;
        if let Some(system) = &request.system {
            fixed += PER_MESSAGE + count(system);
        }
        for tool in &request.tools {
            let schema = object_schema(&tool.parameters).to_string();
            fixed += PER_TOOL + count(&tool.name) + count(&tool.description) + count(&schema);
        }
        let messages = request.messages.iter();
        Weights {
            fixed: self.family.scaled(fixed),
            messages: messages
                .map(|message| self.family.scaled(self.weight(message, count)))
                .collect(),
        }
    }

    fn weight(self, message: &ChatMessage, count: &mut dyn FnMut(&str) -> u64) -> u64 {
        let tokens = match message {
            ChatMessage::User { text } => count(text),
            ChatMessage::ToolResult { name, content, .. } => count(name) + count(content),
            ChatMessage::Assistant {
                text,
                reasoning,
                tool_calls,
            } => {
                let mut tokens = count(text);
                for thought in reasoning.iter().filter(|_| self.counts_reasoning) {
                    tokens += count(&thought.text);
                    // what is sealed stands for some text that was not shown
                    tokens += thought
                        .redacted
                        .as_ref()
                        .map_or(0, |data| data.len() as u64 / 4);
                }
                for call in tool_calls {
                    tokens += PER_TOOL + count(&call.name) + count(&call.arguments);
                }
                tokens
            }
        };
        PER_MESSAGE + tokens
    }
}
