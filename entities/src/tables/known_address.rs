//! An address from which a user signed in before.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::{IntoActiveModel, entity::prelude::*, sea_query::OnConflict};

use crate::{SystemScope, UserId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "known_addresses")]
pub struct Model {
    /// The user.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: UserId,
    /// A keyed hash.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub address_key: Vec<u8>,
    pub at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// Adds the row, or renews the time of the one that is there.
    ///
    /// # Errors
    /// What the database says.
    pub async fn renew(_: SystemScope, tx: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
        let there = OnConflict::columns([Column::UserId, Column::AddressKey])
            .update_column(Column::At)
            .to_owned();
        Self::insert(row.into_active_model())
            .on_conflict(there)
            .exec_without_returning(tx)
            .await
            .map(|_| ())
    }
}
