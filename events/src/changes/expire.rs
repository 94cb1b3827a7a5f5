//! Takes away what streams of changes said long ago.

use std::time::Duration;

use chrono::{DateTime, Utc};
use entities::{Backend, CommandError, Db, DbErr, Within};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use uuid::Uuid;

use super::SYSTEM;
use crate::log::Log;

const EVERY: Duration = Duration::from_secs(3600);
/// Records that one transaction takes away.
const RECORDS: usize = 1000;
/// Tenants that are looked at by one statement.
const TENANTS: usize = 500;

/// Hourly, until the log is closed.
pub(crate) async fn run(log: Log) {
    let mut hour = tokio::time::interval(EVERY);
    hour.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let closing = log.closing();
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            _ = hour.tick() => {}
        }
        let before = log.clock().now() - log.options().changes_kept;
        if let Err(error) = expire(&log, before).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to take old changes away"
            );
        }
    }
}

/// Takes away what was said before a time, and answers how many records that were.
pub(crate) async fn expire(log: &Log, before: DateTime<Utc>) -> Result<u64, CommandError> {
    let mut gone = 0;
    let mut last = Uuid::nil();
    loop {
        let tenants = tenants(log.db(), last).await?;
        for &(tenant, oldest) in &tenants {
            last = tenant;
            if oldest.is_none_or(|oldest| oldest >= before) {
                continue;
            }
            loop {
                let some = some(log, tenant, before).await?;
                gone += some;
                if some < RECORDS as u64 {
                    break;
                }
            }
        }
        if tenants.len() < TENANTS {
            return Ok(gone);
        }
    }
}

fn backend(db: Backend) -> DbBackend {
    match db {
        Backend::Postgres => DbBackend::Postgres,
        Backend::Sqlite => DbBackend::Sqlite,
    }
}

/// `$1` on both databases.
fn statement(db: Backend, sql: &str, values: Vec<Value>) -> Statement {
    let sql = match db {
        Backend::Postgres => sql.to_owned(),
        Backend::Sqlite => sql.replace('$', "?"),
    };
    Statement::from_sql_and_values(backend(db), sql, values)
}

/// Some tenants, in order, with the time of the oldest record of their stream.
async fn tenants(db: &Db, after: Uuid) -> Result<Vec<(Uuid, Option<DateTime<Utc>>)>, DbErr> {
    let sql = format!(
        "select t.id, (select e.at from events e where e.stream_id = t.id order by e.seq limit 1) as oldest
         from tenants t where t.id > $1 order by t.id limit {TENANTS}"
    );
    let sql = statement(db.backend(), &sql, vec![after.into()]);
    let rows = db.reader(SYSTEM).query_all_raw(sql).await?;
    rows.iter()
        .map(|row| Ok((row.try_get_by("id")?, row.try_get_by("oldest")?)))
        .collect()
}

/// Takes some of a stream's oldest records away and raises its floor, in one transaction.
async fn some(log: &Log, tenant: Uuid, before: DateTime<Utc>) -> Result<u64, CommandError> {
    let (gone, floor) = log
        .command::<_, CommandError, _>(Within::Tenant(tenant.into()), move |c| {
            Box::pin(async move {
                // Where another process holds it, there is a next time.
                if c.try_lock(tenant.into(), tenant).await?.is_none() {
                    return Ok((0, None));
                }
                let tx = c.tx();
                let oldest = format!(
                    "select seq, at from events where stream_id = $1 order by seq limit {RECORDS}"
                );
                let rows = tx
                    .query_all_raw(statement(tx.backend(), &oldest, vec![tenant.into()]))
                    .await?;
                let mut floor: Option<i64> = None;
                for row in &rows {
                    if row.try_get_by::<DateTime<Utc>, _>("at")? >= before {
                        break;
                    }
                    floor = Some(row.try_get_by("seq")?);
                }
                let Some(floor) = floor else {
                    return Ok((0, None));
                };
                let values = || vec![tenant.into(), floor.into()];
                let delete = "delete from events where stream_id = $1 and seq <= $2";
                let gone = tx
                    .execute_raw(statement(tx.backend(), delete, values()))
                    .await?
                    .rows_affected();
                let raise = "update streams set floor = $2 where id = $1 and floor < $2";
                tx.execute_raw(statement(tx.backend(), raise, values()))
                    .await?;
                Ok((gone, Some(floor)))
            })
        })
        .await?;
    if let Some(floor) = floor {
        // What is in memory is no longer to be begun at either.
        log.hub().forget(tenant, floor);
    }
    Ok(gone)
}
