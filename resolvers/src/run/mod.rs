//! Runs: answers in the making or made, with their steps and tool calls.

mod enums;
mod mutations;
mod object;
mod parts;
pub(crate) mod queries;

pub use enums::{RunErrorKind, RunStatus, RunTrigger, ToolCallStatus};
pub use mutations::{RunMutation, RunPayload};
pub use object::Run;
pub use parts::{RunError, RunStep, ToolCall, Usage};
pub use queries::{RunFilter, RunQuery};
