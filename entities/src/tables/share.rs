//! That a resource may be used by others: a user, a group, or everybody in the tenant.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{Access, GroupId, ResourceKind, ShareId, TenantId, UserId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "shares")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ShareId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// What the resource is.
    pub kind: ResourceKind,
    /// The resource.
    pub resource_id: Uuid,
    /// With whom, where it is a user.
    pub user_id: Option<UserId>,
    /// With whom, where it is a group.
    pub group_id: Option<GroupId>,
    /// Whether it is with everybody in the tenant.
    pub with_tenant: bool,
    /// How far they may go.
    pub access: Access,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
