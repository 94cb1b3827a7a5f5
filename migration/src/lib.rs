//! How the tables came to be: one module per step, applied in order and never changed once released. Imports nothing of ours.
//!
//! A step is written as SQL text for both databases; what differs between them (names of types, the log's tables) is filled in
//! by [`dialect`].

pub use sea_orm_migration::prelude::{MigrationTrait, MigratorTrait};
use sea_orm_migration::{async_trait, sea_orm::DbErr};

mod dialect;
mod m0001_foundation;
mod m0002_live;
mod m0003_tenancy;
mod m0004_wall;

/// All steps, in the order in which they are applied.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_foundation::Step),
            Box::new(m0002_live::Step),
            Box::new(m0003_tenancy::Step),
            Box::new(m0004_wall::Step),
        ]
    }
}

/// Brings the schema up to date. On PostgreSQL an advisory lock makes replicas that start together do it once; the others
/// wait and find it done.
///
/// # Errors
/// What the database says of the statement that failed; each step is one transaction on PostgreSQL.
pub async fn migrate(db: &sea_orm_migration::sea_orm::DatabaseConnection) -> Result<(), DbErr> {
    dialect::alone(db, || Migrator::up(db, None)).await
}
