//! One call of a model in a run, finished.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{ModelId, RunId, TenantId, Usage};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "run_steps")]
pub struct Model {
    /// The tenant.
    pub tenant_id: TenantId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: RunId,
    /// From 0.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i32,
    pub model_id: Option<ModelId>,
    /// What the model said, to go on from.
    #[sea_orm(column_type = "JsonBinary")]
    pub answer: Json,
    /// Tokens and money.
    #[sea_orm(column_type = "JsonBinary")]
    pub usage: Usage,
    pub latency_ms: Option<i32>,
    pub time_to_first_token_ms: Option<i32>,
    #[sea_orm(column_type = "Text", nullable)]
    pub finish_reason: Option<String>,
    /// When.
    pub started_at: DateTime<Utc>,
    /// When.
    pub finished_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
