//! What columns hold: enums by name, and small documents as JSON.

use sea_orm::{DeriveActiveEnum, EnumIter, FromJsonQueryResult};
use serde::{Deserialize, Serialize};

use crate::{MessageId, ModelId, ToolCallId};

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
        #[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        #[expect(missing_docs, reason = "the names are those of the graph, which documents them for clients")]
        pub enum $name { $($(#[$value_doc])* $value),* }
    )*};
}

names! {
    /// A person, or a service.
    UserKind { Person, Service }
    /// How a request showed who it is.
    CredentialKind { PasswordSession, OidcSession, PersonalKey, ServiceKey }
    /// Whose a key is.
    ApiKeyKind { Personal, Service }
    /// What a model does.
    ModelKind { Chat, Embedding, Rerank, SpeechToText, TextToSpeech, Image }
    /// Whose wire a model speaks.
    ModelProvider {
        #[sea_orm(string_value = "OPENAI")] #[serde(rename = "OPENAI")] OpenAi,
        #[sea_orm(string_value = "OPENAI_COMPATIBLE")] #[serde(rename = "OPENAI_COMPATIBLE")] OpenAiCompatible,
        Anthropic, Gemini,
        #[sea_orm(string_value = "AZURE_OPENAI")] #[serde(rename = "AZURE_OPENAI")] AzureOpenAi,
        Ollama, Builtin,
    }
    /// How a model does.
    ModelHealthStatus { Unknown, Healthy, Degraded, Unhealthy }
    /// Who speaks.
    MessageRole { User, Assistant, System }
    /// How far a message is.
    MessageStatus { Streaming, Complete, Incomplete, Failed }
    /// What a reader thought of an answer.
    Rating { Up, Down }
    /// Where a run stands.
    RunStatus { Queued, Running, Waiting, Completed, Failed, Cancelled }
    /// What asked for a run.
    RunTrigger { Message, Regenerate, Edit, Retry, Agent, Api, Automation }
    /// Where a tool call stands.
    ToolCallStatus { Pending, WaitingApproval, WaitingClient, Running, Completed, Failed, Denied, Cancelled }
    /// What changed.
    ResourceKind { Agent, Model, Conversation, Run, Approval, KnowledgeBase, Document, Tool, McpServer, Skill, File, Group, Membership }
    /// What a model was called for.
    CallPurpose { Answer, Summary, Title, Check }
    /// What is booked.
    BookingKind { Run, Call }
    /// How it changed.
    ChangeAction { Created, Updated, Deleted }
    /// Whether an invitation can be accepted.
    InvitationStatus { Open, Accepted, Revoked, Expired }
    /// How what was asked ended.
    AuditOutcome { Allowed, Refused }
    /// Why a run failed.
    RunErrorKind {
        NoModel, ModelError, ModelTimeout, RateLimited, ContextTooLong, MaxSteps, ToolError, QuotaExceeded, ApprovalExpired, Forbidden,
        Interrupted, Internal,
    }
}

impl ResourceKind {
    /// What the ids of such things begin with; `None`: there are none yet.
    #[must_use]
    pub fn prefix(self) -> Option<&'static str> {
        use crate::{AgentId, ConversationId, GroupId, MembershipId, ModelId, RunId};
        match self {
            Self::Agent => Some(AgentId::PREFIX),
            Self::Model => Some(ModelId::PREFIX),
            Self::Conversation => Some(ConversationId::PREFIX),
            Self::Run => Some(RunId::PREFIX),
            Self::Group => Some(GroupId::PREFIX),
            Self::Membership => Some(MembershipId::PREFIX),
            Self::Approval
            | Self::KnowledgeBase
            | Self::Document
            | Self::Tool
            | Self::McpServer
            | Self::Skill
            | Self::File => None,
        }
    }

    /// Whether the tenant's OWNER and ADMIN manage all there are of it. What people say and upload is their own.
    #[must_use]
    pub fn is_administered(self) -> bool {
        match self {
            Self::Agent
            | Self::Model
            | Self::KnowledgeBase
            | Self::Document
            | Self::Tool
            | Self::McpServer
            | Self::Skill
            | Self::Group
            | Self::Membership => true,
            Self::Conversation | Self::Run | Self::Approval | Self::File => false,
        }
    }
}

impl RunStatus {
    /// Whether nothing comes after it.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// As the graph spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Waiting => "WAITING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// A list of names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct Names(pub Vec<String>);

/// What a version of an agent is made of. Its model stands in a column of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct AgentSpec {
    /// What it is told before the conversation.
    pub instructions: String,
    /// What it says first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greeting: Option<String>,
    /// What a person may begin with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starters: Vec<String>,
    /// 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Tokens of one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<i32>,
    /// Model calls in one run before it is asked to conclude.
    pub max_steps: i32,
}

/// A draft as it was when a run with it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Draft {
    /// What it was made of.
    pub spec: AgentSpec,
    /// And its model.
    #[serde(default)]
    pub model_id: Option<ModelId>,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct RunError {
    /// For programs.
    pub kind: RunErrorKind,
    /// For people; holds nothing of the inside.
    pub message: String,
    /// What a provider said of it, cleaned; for those who may change the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

/// What of its path a summary stands for: every message from the first to the last of them, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Summary {
    /// The first.
    pub from: MessageId,
    /// The last.
    pub through: MessageId,
}

/// Tokens and money.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Usage {
    /// Tokens sent, cached ones included.
    #[serde(default)]
    pub input: i64,
    /// Tokens received, reasoning included.
    #[serde(default)]
    pub output: i64,
    /// Of those sent, the ones the provider had cached.
    #[serde(default)]
    pub cached_input: i64,
    /// Of those received, the ones of reasoning.
    #[serde(default)]
    pub reasoning: i64,
    /// Exact decimal in `currency`; absent where the model has no price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// ISO 4217.
    #[serde(default)]
    pub currency: String,
}

/// The parts of a message, in order; a part's index is its place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(transparent)]
pub struct Parts(pub Vec<Part>);

/// One part of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// Text of the answer.
    Text {
        /// The text.
        text: String,
    },
    /// What a model thought before it answered.
    Reasoning {
        /// The text.
        text: String,
    },
    /// That a tool was called.
    ToolCall {
        /// Which call.
        id: ToolCallId,
    },
    /// Why nothing more came.
    Error {
        /// The reason.
        error: RunError,
    },
}

impl Parts {
    /// All text parts, joined.
    #[must_use]
    pub fn text(&self) -> String {
        self.0
            .iter()
            .filter_map(|part| {
                if let Part::Text { text } = part {
                    Some(text.as_str())
                } else {
                    None
                }
            })
            .collect()
    }
}
