//! What happens in a conversation, as it stands in the log.
//!
//! An event holds the changing fields of its objects as of its number, so that it says the same whenever it is replayed; what
//! never changes is read from rows.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use entities::{
    ConversationId, DbErr, MessageId, MessageStatus, ModelId, Part, Parts, Rating, RunError, RunId,
    RunStatus, ToolCallId, ToolCallStatus, Tx, Usage, conversation, message, run, run_step,
    tool_call,
};
use events::{Delta, Draft, Kind, Payload, Record};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::live;

#[cfg(test)]
mod golden;

/// An event of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its number in the conversation's stream.
    pub seq: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// The conversation.
    pub conversation: ConversationId,
    /// The run it belongs to.
    pub run: Option<RunId>,
    /// What happened.
    pub body: Body,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    missing_docs,
    reason = "the variants are the events of the graph, which documents them"
)]
pub enum Body {
    TextDelta(Delta),
    ReasoningDelta(Delta),
    ArgumentsDelta(Delta),
    MessageCreated(MessageFacts),
    MessageCompleted(MessageFacts),
    MessageUpdated(MessageFacts),
    MessagesRemoved(Vec<MessageId>),
    RunQueued {
        position: i32,
        run: RunFacts,
    },
    RunStarted {
        attempt: i32,
        run: RunFacts,
    },
    RunUpdated(RunFacts),
    StepStarted {
        step: i32,
    },
    StepRestarted {
        step: i32,
        reason: String,
        message: MessageId,
        from_part: u32,
    },
    StepFinished(StepFacts),
    ContextCompacted(CompactionFacts),
    PartAdded {
        message: MessageId,
        part: u32,
        content: Part,
    },
    ToolCallStarted {
        message: MessageId,
        part: u32,
        call: ToolCallFacts,
    },
    ToolCallFinished(ToolCallFacts),
    RunCompleted(RunFacts),
    RunFailed(RunFacts),
    RunCancelled(RunFacts),
    ConversationUpdated(ConversationFacts),
}

/// The changing fields of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageFacts {
    /// Which one.
    pub id: MessageId,
    /// How far it is.
    pub status: MessageStatus,
    /// What it follows: changes where an answer before it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<MessageId>,
    /// The model that writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelId>,
    /// Once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What a reader thought of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<Rating>,
    /// And said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating_comment: Option<String>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// What it had of an answer under way, where that is not nothing. Those of all others stand in their rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Parts>,
}

impl MessageFacts {
    /// Of a row as it is now.
    #[must_use]
    pub fn of(row: &message::Model) -> Self {
        Self {
            id: row.id,
            status: row.status,
            parent: row.parent_id,
            model: row.model_id,
            usage: row.usage.clone(),
            rating: row.rating,
            rating_comment: row.rating_comment.clone(),
            updated_at: row.updated_at,
            parts: None,
        }
    }

    /// Of a row as it is inside a command, which holds its stream's lock: an answer under way with what the log has of it.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn whole(tx: &Tx, row: &message::Model) -> Result<Self, DbErr> {
        let mut facts = Self::of(row);
        if row.status == MessageStatus::Streaming {
            let mut parts = live::of(tx, std::slice::from_ref(row)).await?;
            facts.parts = parts.remove(&row.id);
        }
        Ok(facts)
    }

    /// The row as it was then.
    #[must_use]
    pub fn onto(&self, mut row: message::Model) -> message::Model {
        row.status = self.status;
        row.is_hidden = false;
        row.parent_id = self.parent;
        row.model_id = self.model;
        row.usage.clone_from(&self.usage);
        row.rating = self.rating;
        row.rating_comment.clone_from(&self.rating_comment);
        row.updated_at = self.updated_at;
        if self.status == MessageStatus::Streaming {
            row.parts = self.parts.clone().unwrap_or_default();
        }
        row
    }
}

/// The changing fields of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// Which one.
    pub id: RunId,
    /// Where it stands.
    pub status: RunStatus,
    /// How many workers were lost, plus one.
    pub attempts: i32,
    /// The model it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelId>,
    /// Of its finished steps.
    pub usage: Usage,
    /// How many of them.
    pub steps: i32,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    /// When it was first taken up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When it first said something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_at: Option<DateTime<Utc>>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
    /// How many stood before it, while QUEUED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<i32>,
}

impl RunFacts {
    /// Of a row as it is now.
    #[must_use]
    pub fn of(row: &run::Model) -> Self {
        Self {
            id: row.id,
            status: row.status,
            attempts: row.losses + 1,
            model: row.model_id,
            usage: row.usage.clone(),
            steps: row.steps,
            error: row.error.clone(),
            started_at: row.started_at,
            first_token_at: row.first_token_at,
            finished_at: row.finished_at,
            position: None,
        }
    }

    /// The row as it was then.
    #[must_use]
    pub fn onto(&self, mut row: run::Model) -> run::Model {
        row.status = self.status;
        row.losses = self.attempts - 1;
        row.model_id = self.model;
        row.usage = self.usage.clone();
        row.steps = self.steps;
        row.error.clone_from(&self.error);
        row.started_at = self.started_at;
        row.first_token_at = self.first_token_at;
        row.finished_at = self.finished_at;
        row
    }
}

/// A step that is finished: it never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepFacts {
    /// From 0.
    pub step: i32,
    /// The model that was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelId>,
    /// Of this call.
    pub usage: Usage,
    /// From the call to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<i32>,
    /// From the call to its first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_first_token_ms: Option<i32>,
    /// In the provider's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// When the call was made.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
}

impl StepFacts {
    /// Of a row.
    #[must_use]
    pub fn of(row: &run_step::Model) -> Self {
        Self {
            step: row.number,
            model: row.model_id,
            usage: row.usage.clone(),
            latency_ms: row.latency_ms,
            time_to_first_token_ms: row.time_to_first_token_ms,
            finish_reason: row.finish_reason.clone(),
            started_at: row.started_at,
            finished_at: row.finished_at,
        }
    }
}

/// That a conversation got too long for its model, and a part of it is told by a summary from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompactionFacts {
    /// What a model would have been told, in tokens, as estimated.
    pub tokens_before: i32,
    /// What it is told.
    pub tokens_after: i32,
    /// The summary.
    pub message: MessageFacts,
}

/// A tool call as it stands: whole, since the first event of it comes before its row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCallFacts {
    /// Which one.
    pub id: ToolCallId,
    /// The run that it is of.
    pub run: RunId,
    /// The step.
    pub step: i32,
    /// Its place in the step.
    pub position: i32,
    /// The tool's name, as the model said it.
    pub name: String,
    /// Null until they are whole, or where they are no JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why nothing came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Where it stands.
    pub status: ToolCallStatus,
    /// When it was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime<Utc>>,
}

impl ToolCallFacts {
    /// Of a row as it is now.
    #[must_use]
    pub fn of(row: &tool_call::Model) -> Self {
        Self {
            id: row.id,
            run: row.run_id,
            step: row.step,
            position: row.position,
            name: row.name.clone(),
            arguments: row.arguments.clone(),
            result: row.result.clone(),
            error_message: row.error_message.clone(),
            status: row.status,
            started_at: row.started_at,
            finished_at: row.finished_at,
        }
    }
}

/// The changing fields of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConversationFacts {
    /// Its title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The agent that answers in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<entities::AgentId>,
    /// Whether it was put aside.
    #[serde(default)]
    pub is_archived: bool,
    /// The end of the branch last used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<MessageId>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl ConversationFacts {
    /// Of a row as it is now.
    #[must_use]
    pub fn of(row: &conversation::Model) -> Self {
        Self {
            title: row.title.clone(),
            agent: row.agent_id,
            is_archived: row.is_archived,
            leaf: row.leaf_id,
            updated_at: row.updated_at,
        }
    }

    /// The row as it was then.
    #[must_use]
    pub fn onto(&self, mut row: conversation::Model) -> conversation::Model {
        row.title.clone_from(&self.title);
        row.agent_id = self.agent;
        row.is_archived = self.is_archived;
        row.leaf_id = self.leaf;
        row.updated_at = self.updated_at;
        row
    }
}

// Numbers that are in databases: never given another meaning.
const MESSAGE_CREATED: Kind = Kind(16);
const MESSAGE_COMPLETED: Kind = Kind(17);
const MESSAGE_UPDATED: Kind = Kind(18);
const MESSAGES_REMOVED: Kind = Kind(19);
const RUN_QUEUED: Kind = Kind(20);
const RUN_STARTED: Kind = Kind(21);
const RUN_UPDATED: Kind = Kind(22);
const RUN_COMPLETED: Kind = Kind(23);
const RUN_FAILED: Kind = Kind(24);
const RUN_CANCELLED: Kind = Kind(25);
const STEP_STARTED: Kind = Kind(30);
const STEP_RESTARTED: Kind = Kind(31);
const STEP_FINISHED: Kind = Kind(32);
const CONTEXT_COMPACTED: Kind = Kind(33);
const PART_ADDED: Kind = Kind(40);
const TOOL_CALL_STARTED: Kind = Kind(41);
const TOOL_CALL_FINISHED: Kind = Kind(42);
const CONVERSATION_UPDATED: Kind = Kind(50);
/// The last record of a conversation's stream: whoever follows it is told that it is gone. No event of the graph.
const CONVERSATION_DELETED: Kind = Kind(51);

/// That a conversation was deleted, as it is written.
pub(crate) fn deleted() -> Draft {
    Draft {
        kind: CONVERSATION_DELETED,
        payload: Payload::Whole(Bytes::new()),
    }
}

/// Whether nothing comes after `record`, since the conversation was deleted.
pub(crate) fn is_deletion(record: &Record) -> bool {
    record.kind == CONVERSATION_DELETED
}

/// Whether `record` is the last of its run.
pub(crate) fn is_last(record: &Record) -> bool {
    matches!(record.kind, RUN_COMPLETED | RUN_FAILED | RUN_CANCELLED)
}

#[derive(Serialize, Deserialize)]
struct Removed {
    messages: Vec<MessageId>,
}
#[derive(Serialize, Deserialize)]
struct Queued {
    position: i32,
    run: RunFacts,
}
#[derive(Serialize, Deserialize)]
struct Started {
    attempt: i32,
    run: RunFacts,
}
#[derive(Serialize, Deserialize)]
struct Step {
    step: i32,
}
#[derive(Serialize, Deserialize)]
struct Restarted {
    step: i32,
    reason: String,
    message: MessageId,
    from_part: u32,
}
#[derive(Serialize, Deserialize)]
struct Added {
    message: MessageId,
    part: u32,
    content: Part,
}
#[derive(Serialize, Deserialize)]
struct CallStarted {
    message: MessageId,
    part: u32,
    call: ToolCallFacts,
}

impl Body {
    /// As it is written.
    #[must_use]
    pub fn draft(&self) -> Draft {
        fn whole(kind: Kind, payload: &impl Serialize) -> Draft {
            let bytes = serde_json::to_vec(payload).expect("events are plain data");
            Draft {
                kind,
                payload: Payload::Whole(Bytes::from(bytes)),
            }
        }
        match self {
            Self::TextDelta(delta) => Draft {
                kind: Kind::TEXT,
                payload: Payload::Delta(delta.clone()),
            },
            Self::ReasoningDelta(delta) => Draft {
                kind: Kind::REASONING,
                payload: Payload::Delta(delta.clone()),
            },
            Self::ArgumentsDelta(delta) => Draft {
                kind: Kind::ARGUMENTS,
                payload: Payload::Delta(delta.clone()),
            },
            Self::MessageCreated(facts) => whole(MESSAGE_CREATED, facts),
            Self::MessageCompleted(facts) => whole(MESSAGE_COMPLETED, facts),
            Self::MessageUpdated(facts) => whole(MESSAGE_UPDATED, facts),
            Self::MessagesRemoved(messages) => whole(
                MESSAGES_REMOVED,
                &Removed {
                    messages: messages.clone(),
                },
            ),
            Self::RunQueued { position, run } => whole(
                RUN_QUEUED,
                &Queued {
                    position: *position,
                    run: run.clone(),
                },
            ),
            Self::RunStarted { attempt, run } => whole(
                RUN_STARTED,
                &Started {
                    attempt: *attempt,
                    run: run.clone(),
                },
            ),
            Self::RunUpdated(run) => whole(RUN_UPDATED, run),
            Self::StepStarted { step } => whole(STEP_STARTED, &Step { step: *step }),
            Self::StepRestarted {
                step,
                reason,
                message,
                from_part,
            } => whole(
                STEP_RESTARTED,
                &Restarted {
                    step: *step,
                    reason: reason.clone(),
                    message: *message,
                    from_part: *from_part,
                },
            ),
            Self::StepFinished(facts) => whole(STEP_FINISHED, facts),
            Self::ContextCompacted(facts) => whole(CONTEXT_COMPACTED, facts),
            Self::PartAdded {
                message,
                part,
                content,
            } => whole(
                PART_ADDED,
                &Added {
                    message: *message,
                    part: *part,
                    content: content.clone(),
                },
            ),
            Self::ToolCallStarted {
                message,
                part,
                call,
            } => whole(
                TOOL_CALL_STARTED,
                &CallStarted {
                    message: *message,
                    part: *part,
                    call: call.clone(),
                },
            ),
            Self::ToolCallFinished(call) => whole(TOOL_CALL_FINISHED, call),
            Self::RunCompleted(run) => whole(RUN_COMPLETED, run),
            Self::RunFailed(run) => whole(RUN_FAILED, run),
            Self::RunCancelled(run) => whole(RUN_CANCELLED, run),
            Self::ConversationUpdated(facts) => whole(CONVERSATION_UPDATED, facts),
        }
    }

    /// Whether it is the last of its run.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::RunCompleted(_) | Self::RunFailed(_) | Self::RunCancelled(_)
        )
    }

    fn decode(record: &Record) -> Result<Self, DbErr> {
        fn whole<T: DeserializeOwned>(record: &Record) -> Result<T, DbErr> {
            let Payload::Whole(bytes) = &record.payload else {
                return Err(DbErr::Type("an event that is no delta holds one".into()));
            };
            serde_json::from_slice(bytes)
                .map_err(|error| DbErr::Json(format!("event of kind {}: {error}", record.kind.0)))
        }
        if let Payload::Delta(delta) = &record.payload {
            let delta = delta.clone();
            return match record.kind {
                Kind::TEXT => Ok(Self::TextDelta(delta)),
                Kind::REASONING => Ok(Self::ReasoningDelta(delta)),
                Kind::ARGUMENTS => Ok(Self::ArgumentsDelta(delta)),
                kind => Err(DbErr::Type(format!(
                    "an event of the unknown kind {}",
                    kind.0
                ))),
            };
        }
        Ok(match record.kind {
            MESSAGE_CREATED => Self::MessageCreated(whole(record)?),
            MESSAGE_COMPLETED => Self::MessageCompleted(whole(record)?),
            MESSAGE_UPDATED => Self::MessageUpdated(whole(record)?),
            MESSAGES_REMOVED => Self::MessagesRemoved(whole::<Removed>(record)?.messages),
            RUN_QUEUED => whole::<Queued>(record).map(|it| Self::RunQueued {
                position: it.position,
                run: it.run,
            })?,
            RUN_STARTED => whole::<Started>(record).map(|it| Self::RunStarted {
                attempt: it.attempt,
                run: it.run,
            })?,
            RUN_UPDATED => Self::RunUpdated(whole(record)?),
            RUN_COMPLETED => Self::RunCompleted(whole(record)?),
            RUN_FAILED => Self::RunFailed(whole(record)?),
            RUN_CANCELLED => Self::RunCancelled(whole(record)?),
            STEP_STARTED => whole::<Step>(record).map(|it| Self::StepStarted { step: it.step })?,
            STEP_RESTARTED => whole::<Restarted>(record).map(|it| Self::StepRestarted {
                step: it.step,
                reason: it.reason,
                message: it.message,
                from_part: it.from_part,
            })?,
            STEP_FINISHED => Self::StepFinished(whole(record)?),
            CONTEXT_COMPACTED => Self::ContextCompacted(whole(record)?),
            PART_ADDED => whole::<Added>(record).map(|it| Self::PartAdded {
                message: it.message,
                part: it.part,
                content: it.content,
            })?,
            TOOL_CALL_STARTED => whole::<CallStarted>(record).map(|it| Self::ToolCallStarted {
                message: it.message,
                part: it.part,
                call: it.call,
            })?,
            TOOL_CALL_FINISHED => Self::ToolCallFinished(whole(record)?),
            CONVERSATION_UPDATED => Self::ConversationUpdated(whole(record)?),
            kind => {
                return Err(DbErr::Type(format!(
                    "an event of the unknown kind {}",
                    kind.0
                )));
            }
        })
    }
}

impl Event {
    /// From a record of a conversation's stream.
    ///
    /// # Errors
    /// A later version wrote it, or it is damaged: whoever reads it must not go on past it.
    pub fn read(record: &Arc<Record>) -> Result<Self, DbErr> {
        Ok(Self {
            seq: record.seq,
            at: record.at,
            conversation: ConversationId(record.stream),
            run: record.run,
            body: Body::decode(record)?,
        })
    }
}
