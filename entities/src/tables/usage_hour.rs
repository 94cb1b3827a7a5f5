//! What was used in an hour by a tenant, an agent, a model or a conversation.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::TenantId;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_hours")]
pub struct Model {
    /// The tenant.
    pub tenant_id: TenantId,
    /// Whose: the UUID of a tenant, an agent, a model or a conversation.
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject_id: Uuid,
    /// When it began.
    #[sea_orm(primary_key, auto_increment = false)]
    pub hour: DateTime<Utc>,
    /// That ended.
    pub runs: i64,
    /// Of these, the ones that failed.
    pub failed_runs: i64,
    pub input_tokens: i64,
    pub output_tokens: i64,
    /// Whole units of the tenant's currency.
    pub cost_units: i64,
    /// And what is beyond them, in 10⁻¹² of a unit; below 10¹².
    pub cost_picos: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
