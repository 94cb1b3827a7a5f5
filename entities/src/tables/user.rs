//! An account. It has no tenant: what a tenant sees of it is the membership.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{ApiKeyId, TenantId, UserId, UserKind};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: UserId,
    /// What it is.
    pub kind: UserKind,
    /// Name shown to people.
    #[sea_orm(column_type = "Text")]
    pub name: String,
    /// As it was given.
    #[sea_orm(column_type = "Text", nullable)]
    pub email: Option<String>,
    /// Lower case, for comparing.
    #[sea_orm(column_type = "Text", nullable)]
    pub email_key: Option<String>,
    /// PHC string.
    #[sea_orm(column_type = "Text", nullable)]
    pub password_hash: Option<String>,
    /// The tenant that it belongs to for good.
    pub managed_tenant_id: Option<TenantId>,
    /// Whether a provider proved the address.
    pub is_email_proven: bool,
    /// The service key that made it.
    pub created_by_key_id: Option<ApiKeyId>,
    /// Whether it may be used.
    pub is_active: bool,
    pub is_platform_administrator: bool,
    /// When.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
