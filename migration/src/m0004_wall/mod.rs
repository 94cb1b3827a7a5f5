//! PostgreSQL's wall between tenants: references that name the tenant, and what each of the two roles may do with each table and
//! which of its rows. SQLite has no roles.

use sea_orm_migration::{async_trait, prelude::*, sea_orm::DbBackend};

use crate::dialect::run;

/// This step.
pub struct Step;

impl MigrationName for Step {
    fn name(&self) -> &str {
        "m0004_wall"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        run(manager, include_str!("references.postgres.sql")).await?;
        run(manager, include_str!("roles.postgres.sql")).await
    }
}
