//! Groups, shares, invitations, identities at OpenID providers, the audit log: who belongs where, and who did what.

use sea_orm_migration::{async_trait, prelude::*, sea_orm::DbBackend};

use crate::dialect::run;

/// This step.
pub struct Step;

impl MigrationName for Step {
    fn name(&self) -> &str {
        "m0003_tenancy"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, include_str!("tables.sql")).await?;
        let audit = match manager.get_database_backend() {
            DbBackend::Postgres => include_str!("audit.postgres.sql"),
            _ => include_str!("audit.sqlite.sql"),
        };
        run(manager, audit).await
    }
}
