//! A token of a back-channel logout that was taken, so that it is not taken again.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "logout_tokens")]
pub struct Model {
    /// SHA-256 of the issuer and `jti`.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub digest: Vec<u8>,
    /// From when on it would be refused anyway.
    pub expires_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
