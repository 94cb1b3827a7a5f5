//! Where an entry stands in its tenant's chain, and what the chain comes to with it.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use sea_orm::entity::prelude::*;

use crate::{AuditEntryId, TenantId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_links")]
pub struct Model {
    /// The tenant.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    /// Counted from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    /// The entry.
    pub entry_id: AuditEntryId,
    /// Keyed digest of the one before and the entry.
    #[sea_orm(column_type = "Blob")]
    pub mac: Vec<u8>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
