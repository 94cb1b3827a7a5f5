//! That a mutation was done with a key: what a repetition is answered.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{TenantId, UserId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency")]
pub struct Model {
    /// The tenant.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    /// The session or key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub principal_id: Uuid,
    /// For whom.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: UserId,
    /// The field's name.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub mutation: String,
    /// As the client gave it.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub key: String,
    /// Tells another input from the same, and nothing of it.
    pub input_mac: Vec<u8>,
    /// The ids of what was done; absent while it is being done.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub answer: Option<Json>,
    /// When.
    pub created_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
