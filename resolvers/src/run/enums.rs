//! Enums of runs, as clients see them.

use async_graphql::{Enum, json_enum};

/// Where a run stands. QUEUED, RUNNING and WAITING are under way; the others are the end of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::RunStatus")]
pub enum RunStatus {
    /// It waits for its turn.
    Queued,
    /// A worker carries it out.
    Running,
    /// It waits for a person or a client.
    Waiting,
    /// It answered.
    Completed,
    /// It ended without an answer; `error` says why.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}
json_enum!(RunStatus);

/// What asked for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::RunTrigger")]
pub enum RunTrigger {
    /// A message.
    Message,
    /// The same question was to be answered again.
    Regenerate,
    /// A question was put in other words.
    Edit,
    /// A run failed and was to be done again.
    Retry,
    /// Another agent.
    Agent,
    /// A program.
    Api,
    /// A schedule or a rule.
    Automation,
}
json_enum!(RunTrigger);

/// Why a run failed. More may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::RunErrorKind")]
pub enum RunErrorKind {
    /// There was no model that could be called.
    NoModel,
    /// The model's provider refused or broke off.
    ModelError,
    /// The model's provider was silent for too long.
    ModelTimeout,
    /// The model's provider asked for less, to the end.
    RateLimited,
    /// The conversation is longer than the model can read.
    ContextTooLong,
    /// All steps were used up, and the last one did not conclude.
    MaxSteps,
    /// A tool that must not fail did.
    ToolError,
    /// A budget is used up.
    QuotaExceeded,
    /// Nobody decided in time.
    ApprovalExpired,
    /// Whoever asked lost the right.
    Forbidden,
    /// It lost its worker too often.
    Interrupted,
    /// A fault of the server.
    Internal,
}
json_enum!(RunErrorKind);

/// Where a tool call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::ToolCallStatus")]
pub enum ToolCallStatus {
    /// The model asked for it.
    Pending,
    /// A person has to allow it.
    WaitingApproval,
    /// The client has to carry it out.
    WaitingClient,
    /// It is carried out.
    Running,
    /// It has a result.
    Completed,
    /// It failed; `errorMessage` says how.
    Failed,
    /// A person did not allow it.
    Denied,
    /// Its run was over first.
    Cancelled,
}
json_enum!(ToolCallStatus);
