//! A message. Its parent is the one it follows: a conversation is a tree.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{
    AgentId, ConversationId, MessageId, MessageRole, MessageStatus, ModelId, Parts, Rating, RunId,
    Summary, TenantId, Usage, UserId,
};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "messages")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MessageId,
    /// The tenant.
    pub tenant_id: TenantId,
    pub conversation_id: ConversationId,
    /// The number of its first event: order within the conversation. An answer that did not begin yet has the one of its run.
    pub seq: i64,
    /// Which one.
    pub role: MessageRole,
    /// Where it stands.
    pub status: MessageStatus,
    /// An answer whose run did not start yet, or what was removed: nothing shows it.
    pub is_hidden: bool,
    pub author_id: Option<UserId>,
    pub agent_id: Option<AgentId>,
    pub model_id: Option<ModelId>,
    pub parent_id: Option<MessageId>,
    /// The run that wrote it, or that it started.
    pub run_id: Option<RunId>,
    /// What the sender called it.
    #[sea_orm(column_type = "Text", nullable)]
    pub client_id: Option<String>,
    /// Of a message that is STREAMING: those of its finished steps.
    #[sea_orm(column_type = "JsonBinary")]
    pub parts: Parts,
    /// The number up to which `parts` holds what was said.
    pub parts_seq: i64,
    /// Tokens and money.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub usage: Option<Usage>,
    pub rating: Option<Rating>,
    #[sea_orm(column_type = "Text", nullable)]
    pub rating_comment: Option<String>,
    /// Of a SYSTEM message that stands for a part of its path.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub summary: Option<Summary>,
    /// Whether its text can be found.
    pub is_indexed: bool,
    /// Undone with its turn; events still name it.
    pub removed_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
