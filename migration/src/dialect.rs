//! What differs between SQLite and PostgreSQL in the text of a step.

use std::future::Future;

use sea_orm_migration::{
    SchemaManager,
    sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, TransactionTrait},
};

/// The key of the advisory lock that migrating takes on PostgreSQL; any constant that nothing else uses.
const LOCK: i64 = 0x77_65_66_74;

/// Runs statements written with `{uuid}`, `{time}`, `{json}`, `{bytes}` and `{serial}` in the words of the database at hand.
pub async fn run(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    let words: [(&str, &str); 5] = match manager.get_database_backend() {
        DbBackend::Postgres => [
            ("{uuid}", "uuid"),
            ("{time}", "timestamptz"),
            ("{json}", "jsonb"),
            ("{bytes}", "bytea"),
            (
                "{serial}",
                "bigint generated always as identity primary key",
            ),
        ],
        _ => [
            ("{uuid}", "blob"),
            ("{time}", "text"),
            ("{json}", "text"),
            ("{bytes}", "blob"),
            ("{serial}", "integer primary key autoincrement"),
        ],
    };
    let sql = words
        .iter()
        .fold(sql.to_owned(), |sql, (from, to)| sql.replace(from, to));
    manager.get_connection().execute_unprepared(&sql).await?;
    Ok(())
}

/// Runs `work` while no other process migrates the same PostgreSQL database. SQLite has one process by the lock on its folder.
pub async fn alone<F: Future<Output = Result<(), DbErr>>>(
    db: &DatabaseConnection,
    work: impl FnOnce() -> F,
) -> Result<(), DbErr> {
    if db.get_database_backend() != DbBackend::Postgres {
        return work().await;
    }
    // Held by a transaction, so that it goes with the connection whatever happens to this process.
    let held = db.begin().await?;
    held.execute_unprepared("set local idle_in_transaction_session_timeout = 0; set local lock_timeout = 0; set local statement_timeout = 0")
        .await?;
    held.execute_unprepared(&format!("select pg_advisory_xact_lock({LOCK})"))
        .await?;
    work().await?;
    held.commit().await
}
