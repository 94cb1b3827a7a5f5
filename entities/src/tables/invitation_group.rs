//! A group that whoever accepts an invitation becomes a member of.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use sea_orm::entity::prelude::*;

use crate::{GroupId, InvitationId, TenantId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "invitation_groups")]
pub struct Model {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The invitation.
    #[sea_orm(primary_key, auto_increment = false)]
    pub invitation_id: InvitationId,
    /// The group.
    #[sea_orm(primary_key, auto_increment = false)]
    pub group_id: GroupId,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
