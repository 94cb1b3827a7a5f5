//! A model to try when another fails.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use sea_orm::entity::prelude::*;

use crate::{ModelId, TenantId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "model_fallbacks")]
pub struct Model {
    /// The tenant.
    pub tenant_id: TenantId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub model_id: ModelId,
    /// Order, from 0.
    #[sea_orm(primary_key, auto_increment = false)]
    pub position: i32,
    pub fallback_id: ModelId,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
