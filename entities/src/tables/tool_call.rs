//! A call of a tool that a model asked for.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{RunId, TenantId, ToolCallId, ToolCallStatus};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tool_calls")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ToolCallId,
    /// The tenant.
    pub tenant_id: TenantId,
    pub run_id: RunId,
    /// Which step.
    pub step: i32,
    /// Among those of its step.
    pub position: i32,
    /// The provider's name for it.
    #[sea_orm(column_type = "Text")]
    pub call_id: String,
    /// Name shown to people.
    #[sea_orm(column_type = "Text")]
    pub name: String,
    /// Null where they were no JSON.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub arguments: Option<Json>,
    /// As the model wrote them.
    #[sea_orm(column_type = "Text")]
    pub arguments_text: String,
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub result: Option<Json>,
    #[sea_orm(column_type = "Text", nullable)]
    pub error_message: Option<String>,
    /// Where it stands.
    pub status: ToolCallStatus,
    /// When.
    pub started_at: Option<DateTime<Utc>>,
    /// When.
    pub finished_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
