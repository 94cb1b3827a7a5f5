//! An API key. The secret is not here, only its digest.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{ApiKeyId, ApiKeyKind, Permissions, TenantId, UserId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "api_keys")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ApiKeyId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// Whose rights bound it.
    pub user_id: UserId,
    /// What it is.
    pub kind: ApiKeyKind,
    /// Name shown to people.
    #[sea_orm(column_type = "Text")]
    pub name: String,
    /// Its first characters, to recognise it by.
    #[sea_orm(column_type = "Text")]
    pub prefix: String,
    /// SHA-256 of the secret.
    #[sea_orm(column_type = "Blob")]
    pub digest: Vec<u8>,
    /// The most that it may do.
    #[sea_orm(column_type = "JsonBinary")]
    pub permissions: Permissions,
    pub may_impersonate: bool,
    pub may_create_users: bool,
    /// When.
    pub expires_at: Option<DateTime<Utc>>,
    /// When.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
