//! Agents, their drafts and their versions.

mod inputs;
mod mutations;
mod objects;
mod queries;
mod spec;
#[cfg(test)]
mod tests;

pub use inputs::{
    AgentFilter, CreateAgentInput, DeleteAgentInput, PublishAgentInput, UpdateAgentInput,
};
pub use mutations::{AgentMutation, AgentPayload, PublishAgentPayload};
pub use objects::{Agent, AgentDraft, AgentVersion};
pub use queries::{AgentOrder, AgentQuery};
pub use spec::AgentSpec;
