//! Tenants and people, models, agents, conversations, runs, and the log under them.

use sea_orm_migration::{async_trait, prelude::*, sea_orm::DbBackend};

use crate::dialect::run;

/// This step.
pub struct Step;

impl MigrationName for Step {
    fn name(&self) -> &str {
        "m0001_foundation"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, include_str!("tables.sql")).await?;
        let log = match manager.get_database_backend() {
            DbBackend::Postgres => include_str!("log.postgres.sql"),
            _ => include_str!("log.sqlite.sql"),
        };
        run(manager, log).await
    }
}
