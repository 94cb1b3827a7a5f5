//! A group of a tenant, which may stand within another.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{GroupId, TenantId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "groups")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: GroupId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// The group that it stands in.
    pub parent_id: Option<GroupId>,
    /// Name shown to people, unique among the groups of one parent; holds no slash.
    #[sea_orm(column_type = "Text")]
    pub name: String,
    /// The names from the outermost group on, with slashes between.
    #[sea_orm(column_type = "Text")]
    pub path: String,
    /// What it is for.
    #[sea_orm(column_type = "Text")]
    pub description: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
