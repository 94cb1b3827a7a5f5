//! How many runs or calls of an hour took how long: one bar of a histogram.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::TenantId;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_latencies")]
pub struct Model {
    /// The tenant.
    pub tenant_id: TenantId,
    /// As in the hour's row.
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject_id: Uuid,
    /// When it began.
    #[sea_orm(primary_key, auto_increment = false)]
    pub hour: DateTime<Utc>,
    /// 0: to the end. 1: to the first token.
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: i16,
    /// Which bar.
    #[sea_orm(primary_key, auto_increment = false)]
    pub bucket: i16,
    pub count: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
