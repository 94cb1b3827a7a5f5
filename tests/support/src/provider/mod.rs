//! A model provider that does as it is told.
//!
//! It speaks the wires of real providers over a real socket, each with its model list, streamed or whole: OpenAI's chat
//! completions (also at Azure's addresses), Anthropic's messages, Gemini's contents and Ollama's lines. The path of a
//! request tells which. What it says, and how it fails while saying it, is a [`Script`] chosen
//! by the name of the model that is asked for. It has an HTTP server of its own, as one that is well made can't
//! leave off in the middle of a line.
//!
//! Models named `tokens-<n>-<ms>` need no script: they say `n` tokens, one each `ms` milliseconds, and
//! [`expected_text`] tells which.

mod anthropic;
mod control;
mod gemini;
pub(crate) mod http;
mod ollama;
mod openai;
mod play;
mod script;
mod server;

pub use script::{Asked, Script, Step, Turn, Usage, Wire, expected_text, expected_tokens};
pub use server::{Call, Outcome, Provider, Side};

#[cfg(test)]
mod tests;
