//! Whether a run is still its worker's, and whether what it sent was written: read under its stream's lock.

use entities::{Backend, DbErr, RunStatus, Within};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::Line;
use crate::log::Log;

/// What was found.
pub(super) enum Verdict {
    /// It is; the fence to write with, and the last number of what was written of the batch in question, if it was.
    Mine { fence: i64, written: Option<i64> },
    /// Somebody took it over or ended it.
    Lost,
    /// There is no such stream.
    Gone,
}

/// With `raise`, the fence is raised, so that a statement of before that is still on its way to the server finds it changed.
pub(super) async fn examine(log: &Log, line: &Line, raise: bool) -> Result<Verdict, DbErr> {
    let tx = log.db().begin(Within::Tenant(line.tenant)).await?;
    let postgres = tx.backend() == Backend::Postgres;
    let backend = if postgres {
        DbBackend::Postgres
    } else {
        DbBackend::Sqlite
    };
    let statement = |postgres_sql: &str, sqlite_sql: &str, values: Vec<sea_orm::Value>| {
        Statement::from_sql_and_values(
            backend,
            if postgres { postgres_sql } else { sqlite_sql },
            values,
        )
    };
    let row = tx
        .query_one_raw(statement(
            "select fence from streams where id = $1 for update",
            "select fence from streams where id = ?",
            vec![line.stream.into()],
        ))
        .await?;
    let Some(row) = row else {
        return Ok(Verdict::Gone);
    };
    let mut fence: i64 = row.try_get_by("fence")?;
    let row = tx
        .query_one_raw(statement(
            "select status, attempt from runs where id = $1",
            "select status, attempt from runs where id = ?",
            vec![line.run.0.into()],
        ))
        .await?;
    let Some(row) = row else {
        return Ok(Verdict::Lost);
    };
    let (status, attempt): (RunStatus, i32) =
        (row.try_get_by("status")?, row.try_get_by("attempt")?);
    if status != RunStatus::Running || attempt != line.attempt {
        return Ok(Verdict::Lost);
    }
    // Only the writer gives numbers `n`; whatever of this attempt stands beyond what was acknowledged is the batch in question.
    let seq = line.state.borrow().seq;
    let table = "select max(seq) as seq from events where stream_id = $1 and seq > $2 and run_id = $3 and attempt = $4 and n > 0";
    let both = "select max(seq) as seq from (
        select seq from events where stream_id = ?1 and seq > ?2 and run_id = ?3 and attempt = ?4 and n > 0
        union all select seq from event_tail where stream_id = ?1 and seq > ?2 and run_id = ?3 and attempt = ?4 and n > 0)";
    let values = vec![
        line.stream.into(),
        seq.into(),
        line.run.0.into(),
        line.attempt.into(),
    ];
    let row = tx.query_one_raw(statement(table, both, values)).await?;
    let written: Option<i64> = row.map(|row| row.try_get_by("seq")).transpose()?.flatten();
    if raise {
        fence += 1;
        tx.execute_raw(statement(
            "update streams set fence = $1 where id = $2",
            "update streams set fence = ? where id = ?",
            vec![fence.into(), line.stream.into()],
        ))
        .await?;
    }
    tx.commit().await?;
    Ok(Verdict::Mine { fence, written })
}
