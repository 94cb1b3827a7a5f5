//! A turn at a model that takes only so many calls at once.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{ModelId, RunId, TenantId, UserId, WorkerId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "model_turns")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The tenant.
    pub tenant_id: TenantId,
    /// Which model.
    pub model_id: ModelId,
    /// Whose turn.
    pub user_id: UserId,
    /// For which run.
    pub run_id: RunId,
    /// The process that waits or calls.
    pub owner: WorkerId,
    /// Since when it calls; absent: it waits.
    pub held_at: Option<DateTime<Utc>>,
    /// Since when it waits.
    pub asked_at: DateTime<Utc>,
    /// It counts until then, unless renewed.
    pub lease_until: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
