//! An entry that is not in the chain yet.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use sea_orm::entity::prelude::*;

use crate::{AuditEntryId, TenantId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_pending")]
pub struct Model {
    /// Its number.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The tenant.
    pub tenant_id: TenantId,
    /// The entry.
    pub entry_id: AuditEntryId,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
