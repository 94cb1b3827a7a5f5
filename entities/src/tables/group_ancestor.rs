//! That a group stands within another, or is that one.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use sea_orm::entity::prelude::*;

use crate::{GroupId, TenantId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "group_ancestors")]
pub struct Model {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The inner one.
    #[sea_orm(primary_key, auto_increment = false)]
    pub group_id: GroupId,
    /// The outer one.
    #[sea_orm(primary_key, auto_increment = false)]
    pub ancestor_id: GroupId,
    /// How many steps up; 0 for itself.
    pub distance: i32,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
