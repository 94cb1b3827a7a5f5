//! SQLite: moves the tail of live deltas into the table of events, joining what is adjacent. PostgreSQL does it
//! [when a run is over](crate::finished).

use std::{collections::HashMap, time::Duration};

use entities::{Backend, Db, DbErr, SystemScope};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    command::{places, shapes},
    finished,
    log::Log,
    read,
    record::{Originals, Payload, Record},
};

const SYSTEM: SystemScope = SystemScope::of("folding the log");
/// The most rows of the tail that one transaction moves.
const CHUNK: u64 = 20_000;
/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Folds once a second until the process ends, and moves SQLite's write-ahead log into its file.
pub(crate) async fn run(log: Log) {
    if log.db().backend() == Backend::Postgres {
        return finished::run(log).await;
    }
    let closing = log.closing();
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if let Err(error) = fold(log.db(), log.folding()).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to fold the log"
            );
        }
        if let Err(error) = log.db().checkpoint().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to move the write-ahead log"
            );
        }
    }
}

/// Folds all that the tail holds now. Safe to be cut off at any point: each chunk is moved in one transaction.
///
/// One at a time: two would read the same rows, and store them twice.
pub(crate) async fn fold(db: &Db, one: &Semaphore) -> Result<(), DbErr> {
    if db.backend() == Backend::Postgres {
        return Ok(());
    }
    let _turn = one
        .acquire()
        .await
        .map_err(|_| DbErr::Custom("the log is closed".into()))?;
    loop {
        // Rows of the tail never change, and nobody else removes them: the slow part needs no lock.
        let sql = format!("select * from event_tail order by id limit {CHUNK}");
        let rows = db
            .reader(SYSTEM)
            .query_all_raw(Statement::from_string(DbBackend::Sqlite, sql))
            .await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        let last: i64 = last.try_get_by("id")?;
        let mut streams: HashMap<Uuid, Vec<(Record, Originals)>> = HashMap::new();
        for row in &rows {
            let record = read::record(row, 0)?;
            add(streams.entry(record.stream).or_default(), record);
        }
        let folded: Vec<(Record, Originals)> = streams.into_values().flatten().collect();
        let tx = db.begin_deltas(SYSTEM).await?;
        for chunk in shapes(&folded) {
            let mut sql = String::from(
                "insert into events (tenant_id, stream_id, seq, run_id, attempt, n, v, at, kind, payload, originals) values ",
            );
            let mut values: Vec<Value> = Vec::with_capacity(chunk.len() * 11);
            for (i, (record, originals)) in chunk.iter().enumerate() {
                if i > 0 {
                    sql.push_str(", ");
                }
                places(&mut sql, false, 0, 11);
                values.extend([
                    record.tenant.into(),
                    record.stream.into(),
                    record.seq.into(),
                    record.run.map(|run| run.0).into(),
                    record.attempt.into(),
                    record.n.into(),
                    record.v.into(),
                    record.at.into(),
                    record.kind.0.into(),
                    record.payload.encode().into(),
                    (originals.0.len() > 1).then(|| originals.encode()).into(),
                ]);
            }
            tx.execute_raw(Statement::from_sql_and_values(
                DbBackend::Sqlite,
                sql,
                values,
            ))
            .await?;
        }
        let delete = Statement::from_sql_and_values(
            DbBackend::Sqlite,
            "delete from event_tail where id <= ?",
            [last.into()],
        );
        let gone = tx.execute_raw(delete).await?.rows_affected();
        if gone != rows.len() as u64 {
            tx.rollback().await?;
            return Err(DbErr::Custom(format!(
                "{} rows of the tail were read and {gone} are there",
                rows.len()
            )));
        }
        tx.commit().await?;
        if (rows.len() as u64) < CHUNK {
            return Ok(());
        }
    }
}

/// Joins only what has consecutive numbers: a record that stood between two pieces would otherwise come before the first of
/// them, and whoever stopped at it would never get that piece.
pub(crate) fn add(stream: &mut Vec<(Record, Originals)>, record: Record) {
    let length = |record: &Record| {
        if let Payload::Delta(delta) = &record.payload {
            delta.text().len()
        } else {
            0
        }
    };
    let seq = record.seq;
    let record = match stream.last_mut() {
        Some((last, originals)) if last.seq + 1 == seq => match last.join(record) {
            None => {
                originals.0.push((seq, length(last)));
                return;
            }
            Some(record) => record,
        },
        _ => record,
    };
    let originals = Originals(vec![(seq, length(&record))]);
    stream.push((record, originals));
}
