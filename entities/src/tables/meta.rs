//! What is true of the whole installation; one row.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "meta")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub one: i32,
    /// Made with the database; the issuer of tokens where no `public_url` is given.
    pub installation_id: Uuid,
    /// Stands in every cursor; another one means that numbers may mean something else now.
    pub generation: Uuid,
    /// Of the machine at the last start.
    #[sea_orm(column_type = "Text")]
    pub boot_id: String,
    /// Whether the last process closed the database.
    pub clean_stop: bool,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
