//! The chain of a tenant's audit log: the key that its links are made with, and where it begins.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use sea_orm::{IntoActiveModel, entity::prelude::*, sea_query::OnConflict};

use crate::{SystemScope, TenantId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_chains")]
pub struct Model {
    /// The tenant; all zeros for the installation.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    /// The key of its links, sealed.
    #[sea_orm(column_type = "Blob")]
    pub sealed_key: Vec<u8>,
    /// The last link that is gone, as its time was over; 0: none is.
    pub floor: i64,
    /// What the chain came to with it.
    #[sea_orm(column_type = "Blob")]
    pub floor_mac: Vec<u8>,
    /// Keyed digest of both: nobody else moves the floor.
    #[sea_orm(column_type = "Blob")]
    pub floor_proof: Vec<u8>,
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
        let there = OnConflict::column(Column::TenantId).do_nothing().to_owned();
        Self::insert(row.into_active_model())
            .on_conflict(there)
            .exec_without_returning(tx)
            .await
            .map(|_| ())
    }
}
