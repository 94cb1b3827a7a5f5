//! A call of a provider, as it is booked.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{CallPurpose, ModelId, RunId, TenantId, Usage};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "model_calls")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The tenant.
    pub tenant_id: TenantId,
    pub run_id: RunId,
    /// Which step.
    pub step: i32,
    /// Which attempt.
    pub attempt: i32,
    pub model_id: ModelId,
    /// What for.
    pub purpose: CallPurpose,
    /// Tokens and money.
    #[sea_orm(column_type = "JsonBinary")]
    pub usage: Usage,
    /// The provider did not say; counted from what was received.
    pub is_estimate: bool,
    /// `finished`, or the kind of its error.
    #[sea_orm(column_type = "Text")]
    pub outcome: String,
    pub latency_ms: Option<i32>,
    pub time_to_first_token_ms: Option<i32>,
    /// When.
    pub started_at: DateTime<Utc>,
    /// When.
    pub finished_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
