//! A tenant.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{ModelId, TenantId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TenantId,
    /// Short name, unique in the installation.
    #[sea_orm(column_type = "Text")]
    pub slug: String,
    /// Name shown to people.
    #[sea_orm(column_type = "Text")]
    pub name: String,
    /// ISO 4217, of prices and costs.
    #[sea_orm(column_type = "Text")]
    pub currency: String,
    /// Whether it may be used.
    pub is_active: bool,
    /// For agents that name none.
    pub default_model_id: Option<ModelId>,
    /// For titles of conversations; absent: the model of the run.
    pub title_model_id: Option<ModelId>,
    /// Days after which conversations that nobody touched are deleted; absent: never.
    pub retention_days: Option<i32>,
    /// Runs at once; absent: as many as the installation allows.
    pub max_concurrent_runs: Option<i32>,
    /// The key that seals its secrets, itself wrapped.
    #[sea_orm(column_type = "Blob")]
    pub data_key: Vec<u8>,
    /// When a run of it was last claimed: fairness between tenants.
    pub served_at: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
