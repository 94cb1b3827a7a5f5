//! Up to where a tenant's chain was let go of, as its time was over.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use sea_orm::entity::prelude::*;

use crate::TenantId;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_floors")]
pub struct Model {
    /// The tenant.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    /// The last link that is gone.
    pub seq: i64,
    /// What the chain came to with it.
    #[sea_orm(column_type = "Blob")]
    pub mac: Vec<u8>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
