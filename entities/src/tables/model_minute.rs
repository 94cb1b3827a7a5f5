//! How many calls a model took in a minute, and how many of them failed.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{ModelId, TenantId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "model_minutes")]
pub struct Model {
    /// The tenant.
    pub tenant_id: TenantId,
    /// Which model.
    #[sea_orm(primary_key, auto_increment = false)]
    pub model_id: ModelId,
    /// When it began.
    #[sea_orm(primary_key, auto_increment = false)]
    pub minute: DateTime<Utc>,
    pub calls: i32,
    pub failed: i32,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
