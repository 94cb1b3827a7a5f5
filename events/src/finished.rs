//! PostgreSQL: stores what a run said in pieces in fewer rows, once it is over. Which runs are to be done stands in a table that
//! the transaction of their end fills, so that no kill forgets one.

use std::time::Duration;

use entities::{Backend, DbErr, RunId, SystemScope, TenantId, Tx};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use uuid::Uuid;

use crate::{
    command::{places, shapes},
    fold,
    log::Log,
    read,
    record::{Originals, Record},
};

const SYSTEM: SystemScope = SystemScope::of("folding the log");
/// How long what ended is let gather.
const EVERY: Duration = Duration::from_secs(1);
/// How often it is looked for what another process left.
const SWEEP: Duration = Duration::from_secs(10);
/// The most rows that one transaction joins.
const CHUNK: usize = 5000;

/// A run that is over.
pub(crate) struct Finished {
    pub(crate) tenant: TenantId,
    pub(crate) stream: Uuid,
    pub(crate) run: RunId,
    /// Its events stand after this number …
    pub(crate) after: i64,
    /// … and up to this one.
    pub(crate) upto: i64,
}

/// Notes runs that are to be done. On SQLite what they said is folded as it is written.
pub(crate) async fn note(tx: &Tx, finished: &[Finished]) -> Result<(), DbErr> {
    if tx.backend() == Backend::Sqlite {
        return Ok(());
    }
    for chunk in shapes(finished) {
        let mut sql = String::from(
            "insert into unfolded (run_id, tenant_id, stream_id, after, upto) values ",
        );
        let mut values: Vec<Value> = Vec::with_capacity(chunk.len() * 5);
        for (i, it) in chunk.iter().enumerate() {
            if i > 0 {
                sql.push_str(", ");
            }
            places(&mut sql, true, i * 5, 5);
            values.extend([
                it.run.into(),
                it.tenant.into(),
                it.stream.into(),
                it.after.into(),
                it.upto.into(),
            ]);
        }
        sql.push_str(" on conflict do nothing");
        tx.execute_raw(statement(&sql, values)).await?;
    }
    Ok(())
}

/// Once a second while something is written, until the log is closed.
pub(crate) async fn run(log: Log) {
    let closing = log.closing();
    let mut written = log.written();
    written.mark_changed();
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            // The sender lives in `log`.
            _ = written.changed() => {}
            () = tokio::time::sleep(SWEEP) => {}
        }
        tokio::select! {
            () = closing.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        written.mark_unchanged();
        loop {
            match one(&log).await {
                Ok(true) if !closing.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "failed to fold what a run said"
                    );
                    break;
                }
            }
        }
    }
}

/// Does a chunk of one run; `false` where there is none, or others are at those there are.
///
/// No stream is locked: the run is over, so nobody writes among its rows, and readers see them all as before or all as after.
async fn one(log: &Log) -> Result<bool, DbErr> {
    let waiting = "select 1 from unfolded limit 1";
    let reader = log.db().reader(SYSTEM);
    if reader
        .query_one_raw(statement(waiting, Vec::new()))
        .await?
        .is_none()
    {
        return Ok(false);
    }
    let tx = log.db().begin_deltas(SYSTEM).await?;
    // Nothing is lost where the disk loses it: the rows of before say the same.
    tx.execute_unprepared("set local synchronous_commit = off")
        .await?;
    let next = "select run_id, stream_id, after, upto from unfolded order by run_id limit 1 for update skip locked";
    let Some(row) = tx.query_one_raw(statement(next, Vec::new())).await? else {
        tx.rollback().await?;
        return Ok(false);
    };
    let (run, stream): (Uuid, Uuid) = (row.try_get_by("run_id")?, row.try_get_by("stream_id")?);
    let (after, upto): (i64, i64) = (row.try_get_by("after")?, row.try_get_by("upto")?);
    let pieces = format!(
        "select {} from events where stream_id = $1 and seq > $2 and seq <= $3 and run_id = $4 and kind < 16 and originals is null
         order by seq limit {CHUNK}",
        read::COLUMNS
    );
    let values = vec![stream.into(), after.into(), upto.into(), run.into()];
    let rows = tx.query_all_raw(statement(&pieces, values)).await?;
    let mut joined: Vec<(Record, Originals)> = Vec::new();
    for row in &rows {
        match read::record(row, 0) {
            Ok(record) => fold::add(&mut joined, record),
            // As damaged as it is it stays; it must not keep the others from their turn.
            Err(error) => tracing::error!(
                %run,
                error = &error as &dyn std::error::Error,
                "a piece of what a run said can't be read"
            ),
        }
    }
    let end: Option<i64> = rows.last().map(|row| row.try_get_by("seq")).transpose()?;
    joined.retain(|(_, originals)| originals.0.len() > 1);
    write(&tx, stream, &joined).await?;
    match end {
        Some(end) if rows.len() >= CHUNK => {
            let on = "update unfolded set after = $1 where run_id = $2";
            let values = vec![end.into(), run.into()];
            tx.execute_raw(statement(on, values)).await?;
        }
        _ => {
            let done = "delete from unfolded where run_id = $1";
            tx.execute_raw(statement(done, vec![run.into()])).await?;
        }
    }
    tx.commit().await?;
    Ok(true)
}

/// The last row of each takes the text of all; the others go.
async fn write(tx: &Tx, stream: Uuid, joined: &[(Record, Originals)]) -> Result<(), DbErr> {
    let gone: Vec<String> = joined
        .iter()
        .flat_map(|(record, originals)| {
            let pieces = originals.0.iter().map(|&(seq, _)| seq);
            pieces.filter(|&seq| seq != record.seq)
        })
        .map(|seq| seq.to_string())
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    let delete =
        "delete from events where stream_id = $1 and seq = any(string_to_array($2, ',')::bigint[])";
    let values = vec![stream.into(), gone.join(",").into()];
    tx.execute_raw(statement(delete, values)).await?;
    for chunk in shapes(joined) {
        let mut sql = String::from(
            "update events e set payload = w.payload, originals = w.originals from (values ",
        );
        let mut values: Vec<Value> = vec![stream.into()];
        for (i, (record, originals)) in chunk.iter().enumerate() {
            if i > 0 {
                sql.push_str(", ");
            }
            let at = 1 + i * 3;
            sql.push_str(&format!(
                "(${}::bigint, ${}::bytea, ${}::bytea)",
                at + 1,
                at + 2,
                at + 3
            ));
            values.extend([
                record.seq.into(),
                record.payload.encode().into(),
                originals.encode().into(),
            ]);
        }
        sql.push_str(") as w(seq, payload, originals) where e.stream_id = $1 and e.seq = w.seq");
        tx.execute_raw(statement(&sql, values)).await?;
    }
    Ok(())
}

fn statement(sql: &str, values: Vec<Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}
