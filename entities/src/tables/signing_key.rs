//! A key that signs access tokens.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "signing_keys")]
pub struct Model {
    /// The `kid`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The private key, sealed.
    #[sea_orm(column_type = "Blob")]
    pub sealed: Vec<u8>,
    /// The public key.
    #[sea_orm(column_type = "Blob")]
    pub public: Vec<u8>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From then on it signs: it is published before.
    pub signs_from: DateTime<Utc>,
    /// From then on it only verifies.
    pub retired_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
