//! A sign-in at an OpenID provider that has begun and not come back.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "oidc_flows")]
pub struct Model {
    /// SHA-256 of `state`.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub state_digest: Vec<u8>,
    /// SHA-256 of what the browser's cookie holds.
    #[sea_orm(column_type = "Blob")]
    pub cookie_digest: Vec<u8>,
    /// Name of the provider.
    #[sea_orm(column_type = "Text")]
    pub provider: String,
    /// `nonce` and the verifier of the code, sealed.
    #[sea_orm(column_type = "Blob")]
    pub sealed: Vec<u8>,
    /// Where the browser goes afterwards.
    #[sea_orm(column_type = "Text")]
    pub return_to: String,
    /// What it takes along there.
    #[sea_orm(column_type = "Text", nullable)]
    pub client_state: Option<String>,
    /// What the one-time code will be proved against.
    #[sea_orm(column_type = "Text")]
    pub code_challenge: String,
    /// SHA-256 of the token of an invitation to be accepted.
    #[sea_orm(column_type = "Blob", nullable)]
    pub invitation_digest: Option<Vec<u8>>,
    /// Whether the identity is to be bound to whoever is signed in.
    pub is_link: bool,
    /// When it is too late.
    pub expires_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
