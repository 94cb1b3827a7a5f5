//! A run of an agent: one answer in the making.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{
    AgentId, AgentVersionId, ApiKeyId, ConversationId, Draft, MessageId, ModelId, Permissions,
    RunError, RunId, RunStatus, RunTrigger, TenantId, Usage, UserId, WorkerId,
};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "runs")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RunId,
    /// The tenant.
    pub tenant_id: TenantId,
    pub conversation_id: ConversationId,
    pub parent_run_id: Option<RunId>,
    pub agent_id: Option<AgentId>,
    /// Taken at its start.
    pub agent_version_id: Option<AgentVersionId>,
    /// Used instead of a version, as it was when asked for.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub draft: Option<Draft>,
    /// By the message.
    pub asked_model_id: Option<ModelId>,
    /// Taken at its start: the one whose fallbacks are tried.
    pub primary_model_id: Option<ModelId>,
    /// The one that is called: the primary, or the fallback that took its place.
    pub model_id: Option<ModelId>,
    /// Where it stands.
    pub status: RunStatus,
    /// What asked for it.
    pub trigger: RunTrigger,
    /// Who asked.
    pub user_id: UserId,
    /// With which key.
    pub api_key_id: Option<ApiKeyId>,
    /// With which rights, at most.
    #[sea_orm(column_type = "JsonBinary")]
    pub permissions: Permissions,
    /// Order in its conversation.
    pub queue_no: i64,
    pub input_message_id: Option<MessageId>,
    pub output_message_id: MessageId,
    /// Raised by every claim and by the end: the fence.
    pub attempt: i32,
    /// How many workers were lost.
    pub losses: i32,
    /// How many since the last checkpoint.
    pub losses_in_step: i32,
    /// The process that carries it.
    pub owner: Option<WorkerId>,
    pub lease_until: Option<DateTime<Utc>>,
    /// When.
    pub progress_at: Option<DateTime<Utc>>,
    /// How many are finished.
    pub steps: i32,
    /// Why it failed.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub error: Option<RunError>,
    /// Of its finished steps.
    #[sea_orm(column_type = "JsonBinary")]
    pub usage: Usage,
    /// Just before its first event.
    pub first_seq: i64,
    /// Of its last event.
    pub terminal_seq: Option<i64>,
    /// Of what is stored for resuming it.
    pub format: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When.
    pub started_at: Option<DateTime<Utc>>,
    /// When.
    pub first_token_at: Option<DateTime<Utc>>,
    /// When.
    pub finished_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
