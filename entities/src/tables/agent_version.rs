//! A published version of an agent. Never changed.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{AgentId, AgentSpec, AgentVersionId, ModelId, TenantId, UserId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "agent_versions")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AgentVersionId,
    /// The tenant.
    pub tenant_id: TenantId,
    pub agent_id: AgentId,
    /// From 1.
    pub number: i32,
    /// Name shown to people.
    #[sea_orm(column_type = "Text", nullable)]
    pub name: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub notes: Option<String>,
    #[sea_orm(column_type = "JsonBinary")]
    pub spec: AgentSpec,
    pub model_id: Option<ModelId>,
    pub published_by: UserId,
    /// When.
    pub published_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
