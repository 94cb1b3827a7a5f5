//! What a call or a run used, until it is rolled up.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{AgentId, BookingKind, ConversationId, ModelId, TenantId, UserId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "bookings")]
pub struct Model {
    /// In the order of insertion.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The tenant.
    pub tenant_id: TenantId,
    /// Of a run that ended, or of a call of a model.
    pub kind: BookingKind,
    pub conversation_id: ConversationId,
    pub agent_id: Option<AgentId>,
    pub model_id: Option<ModelId>,
    pub user_id: UserId,
    pub failed: bool,
    pub input_tokens: i64,
    pub output_tokens: i64,
    /// Exact decimal in the tenant's currency; absent where the model has no price.
    #[sea_orm(column_type = "Text", nullable)]
    pub cost: Option<String>,
    pub latency_ms: Option<i32>,
    pub time_to_first_token_ms: Option<i32>,
    /// When.
    pub at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
