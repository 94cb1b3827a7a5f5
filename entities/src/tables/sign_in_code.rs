//! A code by which somebody is signed in, or an identity is bound to him, once; it is not here, only its digest.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{IdentityId, TenantId, UserId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "sign_in_codes")]
pub struct Model {
    /// SHA-256 of the code.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub digest: Vec<u8>,
    /// SHA-256 of the verifier that must come with it, in base64url.
    #[sea_orm(column_type = "Text")]
    pub code_challenge: String,
    /// Whom it signs in; absent where it is for linking.
    pub user_id: Option<UserId>,
    /// Where.
    pub tenant_id: Option<TenantId>,
    /// By which identity.
    pub identity_id: Option<IdentityId>,
    /// Whether it is for linking.
    pub is_link: bool,
    /// Name of the provider.
    #[sea_orm(column_type = "Text")]
    pub provider: String,
    /// The provider, as its tokens name it.
    #[sea_orm(column_type = "Text")]
    pub issuer: String,
    /// The account there.
    #[sea_orm(column_type = "Text")]
    pub subject: String,
    /// An address that the provider has proved.
    #[sea_orm(column_type = "Text", nullable)]
    pub email: Option<String>,
    /// The provider's name for its session.
    #[sea_orm(column_type = "Text", nullable)]
    pub provider_sid: Option<String>,
    /// The provider's token of identity, sealed.
    #[sea_orm(column_type = "Blob", nullable)]
    pub sealed_id_token: Option<Vec<u8>>,
    /// When it is too late.
    pub expires_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
