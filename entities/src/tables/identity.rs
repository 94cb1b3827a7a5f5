//! An account at an OpenID provider that a user signs in by.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{IdentityId, UserId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "identities")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: IdentityId,
    /// The user.
    pub user_id: UserId,
    /// The provider, as its tokens name it.
    #[sea_orm(column_type = "Text")]
    pub issuer: String,
    /// The account, as the provider names it.
    #[sea_orm(column_type = "Text")]
    pub subject: String,
    /// When it was bound to the user.
    pub linked_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
