//! That something was done, or refused: only ever added.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{ApiKeyId, AuditEntryId, AuditOutcome, TenantId, UserId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_entries")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AuditEntryId,
    /// The tenant; all zeros for the installation.
    pub tenant_id: TenantId,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor_id: Option<UserId>,
    /// By which key.
    pub api_key_id: Option<ApiKeyId>,
    /// For whom a key acted.
    pub on_behalf_of_id: Option<UserId>,
    /// What, as the graph names it.
    #[sea_orm(column_type = "Text")]
    pub action: String,
    /// With what, as clients write its id.
    #[sea_orm(column_type = "Text", nullable)]
    pub target_id: Option<String>,
    /// Whether it was done.
    pub outcome: AuditOutcome,
    /// From which address.
    #[sea_orm(column_type = "Text", nullable)]
    pub address: Option<String>,
    /// Names of what changed, never values.
    #[sea_orm(column_type = "JsonBinary")]
    pub details: Json,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
