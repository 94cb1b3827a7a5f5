//! A domain whose proven addresses may join a tenant.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use sea_orm::entity::prelude::*;

use crate::TenantId;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "auto_join_domains")]
pub struct Model {
    /// In lower case.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub domain: String,
    /// The tenant that it belongs to.
    pub tenant_id: TenantId,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
