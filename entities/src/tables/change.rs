//! That a resource changed: what the tenant's `changes` are made from.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{Audiences, ChangeAction, ResourceKind, TenantId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "change_outbox")]
pub struct Model {
    /// In the order of insertion.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The tenant.
    pub tenant_id: TenantId,
    /// What it is.
    pub kind: ResourceKind,
    pub resource_id: Uuid,
    pub action: ChangeAction,
    /// Who could see it, before and after.
    #[sea_orm(column_type = "JsonBinary")]
    pub audience: Audiences,
    pub at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
