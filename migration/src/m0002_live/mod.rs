//! Doing once, titles, search, usage, turns at models: what a live front end needs.

use sea_orm_migration::{async_trait, prelude::*, sea_orm::DbBackend};

use crate::dialect::run;

/// This step.
pub struct Step;

impl MigrationName for Step {
    fn name(&self) -> &str {
        "m0002_live"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, include_str!("tables.sql")).await?;
        let search = match manager.get_database_backend() {
            DbBackend::Postgres => include_str!("search.postgres.sql"),
            _ => include_str!("search.sqlite.sql"),
        };
        run(manager, search).await?;
        if manager.get_database_backend() == DbBackend::Postgres {
            run(manager, include_str!("log.postgres.sql")).await?;
        }
        Ok(())
    }
}
