//! Agents, their drafts and their versions.

mod inputs;
mod mutations;
mod objects;
mod problem;
mod queries;
mod spec;
#[cfg(test)]
mod tests;

pub use inputs::{
    AgentFilter, CreateAgentInput, DeleteAgentInput, PublishAgentInput, RestoreAgentVersionInput,
    UpdateAgentInput,
};
pub use mutations::{AgentMutation, AgentPayload, PublishAgentPayload};
pub use objects::{Agent, AgentDraft, AgentVersion};
pub use problem::{AgentProblem, AgentProblemKind};
pub use queries::{AgentOrder, AgentQuery};
pub use spec::AgentSpec;
