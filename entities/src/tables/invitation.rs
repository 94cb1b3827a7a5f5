//! An invitation into a tenant. The token is not here, only its digest.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{InvitationId, Role, TenantId, UserId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "invitations")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: InvitationId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// SHA-256 of the token.
    #[sea_orm(column_type = "Blob")]
    pub digest: Vec<u8>,
    /// The only address that may accept it, as it was given.
    #[sea_orm(column_type = "Text", nullable)]
    pub email: Option<String>,
    /// The same in lower case, for comparing.
    #[sea_orm(column_type = "Text", nullable)]
    pub email_key: Option<String>,
    /// What whoever accepts it becomes.
    pub role: Role,
    /// How often it could be accepted.
    pub uses: i32,
    /// How often it still can.
    pub uses_left: i32,
    /// Wrong passwords that came with it.
    pub failures: i32,
    /// Who made it.
    pub invited_by: UserId,
    /// Whether he did so as an administrator of the platform.
    pub by_platform: bool,
    /// When it runs out.
    pub expires_at: DateTime<Utc>,
    /// When it was taken back.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
