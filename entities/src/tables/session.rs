//! A sign-in that lasts.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{CredentialKind, IdentityId, SessionId, TenantId, UserId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "sessions")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SessionId,
    /// The user.
    pub user_id: UserId,
    /// Where it signed in.
    pub tenant_id: TenantId,
    /// How the user signed in.
    pub credential: CredentialKind,
    /// Which pair of tokens was issued last.
    pub rotation: i64,
    /// When it was, unless it is the first.
    pub rotated_at: Option<DateTime<Utc>>,
    /// The greatest rotation of which a token was presented.
    pub used_rotation: i64,
    #[sea_orm(column_type = "Text", nullable)]
    pub user_agent: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub address: Option<String>,
    /// Name of the OpenID provider, where it began at one.
    #[sea_orm(column_type = "Text", nullable)]
    pub provider: Option<String>,
    /// The identity that it began by.
    pub identity_id: Option<IdentityId>,
    /// The provider's name for its own session.
    #[sea_orm(column_type = "Text", nullable)]
    pub provider_sid: Option<String>,
    /// The provider's token of identity, sealed: to sign out there as well.
    #[sea_orm(column_type = "Blob", nullable)]
    pub sealed_id_token: Option<Vec<u8>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When.
    pub last_seen_at: DateTime<Utc>,
    /// When it ends unless it is used.
    pub expires_at: DateTime<Utc>,
    /// When it ends in any case.
    pub ends_at: DateTime<Utc>,
    /// When.
    pub ended_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// Whether it may be used at `now`.
    #[must_use]
    pub fn is_good(&self, now: DateTime<Utc>) -> bool {
        self.ended_at.is_none() && self.expires_at > now && self.ends_at > now
    }
}
