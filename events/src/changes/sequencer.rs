//! Moves the notes that commands left into the streams of their tenants: in order, one record for each resource, in one
//! transaction for many tenants, whose streams are locked in it. Several processes may do it at once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use entities::{Audiences, Backend, DbErr, TenantId, Tx};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use uuid::Uuid;

use super::{CHANGE, SYSTEM, Span};
use crate::{
    command::{insert, places, shapes},
    hub::Batch,
    log::Log,
    record::{Record, VERSION},
};

/// How often it is looked for what nobody told of: notes of a process that died.
const SWEEP: Duration = Duration::from_secs(1);
/// The least time between two rounds, in which more gathers, and until one that was held up by another process is tried again.
const GAP: Duration = Duration::from_millis(10);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_millis(250);
/// The most notes that one transaction moves.
const NOTES: usize = 2000;
/// The most tenants whose streams it locks.
const TENANTS: usize = 200;

/// How a round went.
enum Round {
    /// Nothing is left.
    Done,
    /// There may be more.
    More,
    /// Another process is moving the notes of some tenant, and may not have seen the newest.
    Held,
}

/// Runs until the log is closed.
pub(crate) async fn run(log: Log) {
    let closing = log.closing();
    let mut wait = SWEEP;
    loop {
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = log.noted().notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        wait = match round(&log).await {
            Ok(Round::Done) => SWEEP,
            Ok(Round::More) => Duration::ZERO,
            Ok(Round::Held) => GAP,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to move changes into their streams"
                );
                tokio::time::sleep(PAUSE).await;
                GAP
            }
        };
        if !wait.is_zero() {
            tokio::time::sleep(GAP).await;
        }
    }
}

/// A note, as far as it can be read.
struct Note {
    id: i64,
    tenant: Uuid,
    kind: String,
    resource: Uuid,
    audience: Audiences,
    at: DateTime<Utc>,
}

async fn round(log: &Log) -> Result<Round, DbErr> {
    let waiting = waiting(log).await?;
    if waiting.is_empty() {
        return Ok(Round::Done);
    }
    // Not waited for on the disk: after a power cut that took it the notes are there again, and cursors of before are refused.
    let tx = log.db().begin_deltas(SYSTEM).await?;
    let heads = lock(&tx, &waiting).await?;
    if heads.is_empty() {
        tx.rollback().await?;
        return Ok(Round::Held);
    }
    // In a statement after the lock: what was moved by whoever held it before is gone by now.
    let notes = notes(&tx, heads.keys().copied()).await?;
    let full = notes.len() >= NOTES;
    let moved: Vec<i64> = notes.iter().map(|note| note.id).collect();
    let batches = batches(notes, &heads);
    append(&tx, &batches).await?;
    remove(&tx, &moved).await?;
    tx.commit().await?;
    for batch in batches {
        log.publish(batch);
    }
    Ok(if full || waiting.len() >= TENANTS {
        Round::More
    } else if heads.len() < waiting.len() {
        Round::Held
    } else {
        Round::Done
    })
}

/// The tenants of the oldest notes.
async fn waiting(log: &Log) -> Result<Vec<Uuid>, DbErr> {
    let db = log.db().reader(SYSTEM);
    let sql = format!(
        "select distinct tenant_id from (select tenant_id from change_outbox order by id limit {}) as oldest limit {TENANTS}",
        NOTES * 2
    );
    let rows = db
        .query_all_raw(Statement::from_string(db.get_database_backend(), sql))
        .await?;
    let mut tenants = rows
        .iter()
        .map(|row| row.try_get_by("tenant_id"))
        .collect::<Result<Vec<Uuid>, _>>()?;
    tenants.sort_unstable();
    Ok(tenants)
}

/// Locks the streams of tenants, making those that are not there, and answers their heads. One that another process holds is
/// left out.
async fn lock(tx: &Tx, tenants: &[Uuid]) -> Result<HashMap<Uuid, i64>, DbErr> {
    let postgres = tx.backend() == Backend::Postgres;
    let backend = backend(postgres);
    let mut heads = HashMap::with_capacity(tenants.len());
    for chunk in shapes(tenants) {
        let mut sql = String::from("select id, head from streams where id in ");
        places(&mut sql, postgres, 0, chunk.len());
        if postgres {
            sql.push_str(" order by id for update skip locked");
        }
        let values = chunk.iter().map(|&tenant| tenant.into());
        let rows = tx
            .query_all_raw(Statement::from_sql_and_values(backend, sql, values))
            .await?;
        for row in rows {
            heads.insert(row.try_get_by("id")?, row.try_get_by("head")?);
        }
    }
    let missing: Vec<Uuid> = tenants
        .iter()
        .copied()
        .filter(|tenant| !heads.contains_key(tenant))
        .collect();
    for chunk in shapes(&missing) {
        let mut sql = String::from("insert into streams (id, tenant_id) values ");
        let mut values: Vec<Value> = Vec::with_capacity(chunk.len() * 2);
        for (i, &tenant) in chunk.iter().enumerate() {
            if i > 0 {
                sql.push_str(", ");
            }
            places(&mut sql, postgres, i * 2, 2);
            values.extend([tenant.into(), tenant.into()]);
        }
        sql.push_str(" on conflict do nothing returning id");
        let rows = tx
            .query_all_raw(Statement::from_sql_and_values(backend, sql, values))
            .await?;
        for row in rows {
            heads.insert(row.try_get_by("id")?, 0);
        }
    }
    Ok(heads)
}

async fn notes(tx: &Tx, tenants: impl Iterator<Item = Uuid>) -> Result<Vec<Note>, DbErr> {
    let postgres = tx.backend() == Backend::Postgres;
    let tenants: Vec<Uuid> = tenants.collect();
    let mut notes = Vec::new();
    for chunk in shapes(&tenants) {
        let mut sql = String::from(
            "select id, tenant_id, kind, resource_id, audience, at from change_outbox where tenant_id in ",
        );
        places(&mut sql, postgres, 0, chunk.len());
        sql.push_str(&format!(" order by id limit {}", NOTES - notes.len()));
        let values = chunk.iter().map(|&tenant| tenant.into());
        let rows = tx
            .query_all_raw(Statement::from_sql_and_values(
                backend(postgres),
                sql,
                values,
            ))
            .await?;
        for row in rows {
            let id = row.try_get_by("id")?;
            let audience = row.try_get_by::<Audiences, _>("audience");
            notes.push(Note {
                id,
                tenant: row.try_get_by("tenant_id")?,
                kind: row.try_get_by("kind")?,
                resource: row.try_get_by("resource_id")?,
                // One that can't be read must not hold up the rest for ever; nobody sees what it was of.
                audience: audience.unwrap_or_else(|error| {
                    tracing::error!(
                        id,
                        error = &error as &dyn std::error::Error,
                        "who sees a change can't be read"
                    );
                    Audiences::default()
                }),
                at: row.try_get_by("at")?,
            });
        }
        if notes.len() >= NOTES {
            break;
        }
    }
    Ok(notes)
}

/// The last note of a resource, its time, and what all of them say.
type Gathered = (i64, DateTime<Utc>, Span);

/// What becomes of notes, which are in order: one record for each resource, in the order in which these last changed.
fn batches(notes: Vec<Note>, heads: &HashMap<Uuid, i64>) -> Vec<Batch> {
    let mut spans: HashMap<(Uuid, String, Uuid), Gathered> = HashMap::new();
    for note in notes {
        let Audiences { before, after } = note.audience;
        spans
            .entry((note.tenant, note.kind.clone(), note.resource))
            .and_modify(|(last, at, span)| {
                span.then(before.clone(), after.clone());
                (*last, *at) = (note.id, note.at);
            })
            .or_insert_with(|| {
                let span = Span::new(note.kind, note.resource, before, after);
                (note.id, note.at, span)
            });
    }
    let mut ordered: BTreeMap<(Uuid, i64), (DateTime<Utc>, Span)> = BTreeMap::new();
    for ((tenant, ..), (last, at, span)) in spans {
        ordered.insert((tenant, last), (at, span));
    }
    let mut batches: Vec<Batch> = Vec::new();
    for ((tenant, _), (at, span)) in ordered {
        if batches.last().is_none_or(|batch| batch.stream != tenant) {
            let head = heads.get(&tenant).copied().unwrap_or(0);
            batches.push(Batch {
                stream: tenant,
                prev_head: head,
                head,
                records: Vec::new(),
            });
        }
        let Some(batch) = batches.last_mut() else {
            continue;
        };
        batch.head += 1;
        batch.records.push(Arc::new(Record {
            tenant: TenantId(tenant),
            stream: tenant,
            seq: batch.head,
            run: None,
            attempt: 0,
            n: 0,
            v: VERSION,
            at,
            kind: CHANGE,
            payload: span.payload(),
        }));
    }
    batches
}

async fn append(tx: &Tx, batches: &[Batch]) -> Result<(), DbErr> {
    let postgres = tx.backend() == Backend::Postgres;
    for chunk in shapes(batches) {
        let mut rows = String::new();
        let mut values: Vec<Value> = Vec::with_capacity(chunk.len() * 2);
        for (i, batch) in chunk.iter().enumerate() {
            if i > 0 {
                rows.push_str(", ");
            }
            if postgres {
                rows.push_str(&format!("(${}::uuid, ${}::bigint)", i * 2 + 1, i * 2 + 2));
            } else {
                rows.push_str("(?, ?)");
            }
            values.extend([batch.stream.into(), batch.head.into()]);
        }
        let sql = format!(
            "update streams set head = w.head from (select column1 as id, column2 as head from (values {rows}) as v) as w where streams.id = w.id"
        );
        tx.execute_raw(Statement::from_sql_and_values(
            backend(postgres),
            sql,
            values,
        ))
        .await?;
    }
    let records: Vec<&Record> = batches
        .iter()
        .flat_map(|batch| batch.records.iter().map(Arc::as_ref))
        .collect();
    insert(tx, "events", &records).await
}

/// By the numbers that were read: one with a smaller number may be committed later than one with a greater.
async fn remove(tx: &Tx, ids: &[i64]) -> Result<(), DbErr> {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    let (sql, ids) = if tx.backend() == Backend::Postgres {
        (
            "delete from change_outbox where id = any(string_to_array($1, ',')::bigint[])",
            ids.join(","),
        )
    } else {
        (
            "delete from change_outbox where id in (select value from json_each(?))",
            format!("[{}]", ids.join(",")),
        )
    };
    let backend = backend(tx.backend() == Backend::Postgres);
    tx.execute_raw(Statement::from_sql_and_values(backend, sql, [ids.into()]))
        .await?;
    Ok(())
}

fn backend(postgres: bool) -> DbBackend {
    if postgres {
        DbBackend::Postgres
    } else {
        DbBackend::Sqlite
    }
}
