//! What a run's model is told, and what becomes of it where that is longer than the model's window: the middle of the conversation
//! is summarised, and told by the summary from then on.

mod plan;
mod summary;
mod told;

pub(crate) use plan::{Length, Middle, Window, middle};
pub(crate) use summary::{Material, cut, request as summary_request};
pub(crate) use told::{Told, summarised};
