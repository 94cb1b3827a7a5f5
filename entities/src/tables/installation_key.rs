//! The key that keyed digests of the installation follow from, refresh tokens' among them; one row.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use sea_orm::{IntoActiveModel, entity::prelude::*, sea_query::OnConflict};

use crate::SystemScope;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "installation_keys")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub one: i32,
    /// 32 bytes, sealed.
    #[sea_orm(column_type = "Blob")]
    pub sealed: Vec<u8>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// Adds the row, unless somebody else did.
    ///
    /// # Errors
    /// What the database says.
    pub async fn add_unless_there(
        _: SystemScope,
        tx: &impl ConnectionTrait,
        row: Model,
    ) -> Result<(), DbErr> {
        let there = OnConflict::column(Column::One).do_nothing().to_owned();
        Self::insert(row.into_active_model())
            .on_conflict(there)
            .exec_without_returning(tx)
            .await
            .map(|_| ())
    }
}
