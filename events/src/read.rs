//! Reading streams from the tables, within a snapshot or by statements of their own.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use entities::{DbErr, RunId, TenantId};
use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement, Value};
use uuid::Uuid;

use crate::record::{Kind, Originals, Payload, Record};

/// The most records of one page.
pub const PAGE: i64 = 500;

/// One page of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Numbers up to here are gone.
    pub floor: i64,
    /// The last number that was given.
    pub head: i64,
    /// What came after the position asked for, in order.
    pub records: Vec<Record>,
    /// The position to go on from: the head, unless the page was full.
    pub position: i64,
}

pub(crate) const COLUMNS: &str =
    "tenant_id, stream_id, seq, run_id, attempt, n, v, at, kind, payload";

/// Where a reader of a stream stands, of several streams at once: (stream, number).
pub type Positions<'a> = &'a [(Uuid, i64)];

/// The next page of a stream after `after`, with its head and floor, all of one moment. `None`: there is no such stream.
///
/// # Errors
/// What the database says.
pub async fn page(
    db: &impl ConnectionTrait,
    stream: Uuid,
    after: i64,
) -> Result<Option<Page>, DbErr> {
    let pages = pages(db, &[(stream, after)], PAGE).await?;
    Ok(pages.into_iter().next().map(|(_, page)| page))
}

/// The next page of each of several streams, in one statement. A stream that is gone is left out.
///
/// # Errors
/// What the database says.
pub async fn pages(
    db: &impl ConnectionTrait,
    positions: Positions<'_>,
    limit: i64,
) -> Result<HashMap<Uuid, Page>, DbErr> {
    if positions.is_empty() {
        return Ok(HashMap::new());
    }
    let backend = db.get_database_backend();
    // One row at least for each stream: its head and floor stand beside every record, so that they are of the same moment.
    let mut sql = String::from("with f(stream, pos) as (values ");
    let mut values: Vec<Value> = Vec::with_capacity(positions.len() * 2 + 1);
    for (i, &(stream, after)) in positions.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        if backend == DbBackend::Postgres {
            sql.push_str(&format!(
                "{comma}(${}::uuid, ${}::bigint)",
                i * 2 + 1,
                i * 2 + 2
            ));
        } else {
            sql.push_str(&format!("{comma}(?, ?)"));
        }
        values.extend([stream.into(), after.into()]);
    }
    if backend == DbBackend::Postgres {
        sql.push_str(&format!(
            ") select s.id, s.head, s.floor, e.* from f join streams s on s.id = f.stream left join lateral (
               select {COLUMNS}, originals from events where stream_id = f.stream and seq > f.pos order by seq limit {limit}) e on true
             order by s.id, e.seq"
        ));
    } else {
        // The tail has no index: it holds about a second, and is gone through once whatever the number of streams.
        let own = if positions.len() == 1 {
            format!("limit {limit}")
        } else {
            String::new()
        };
        sql.push_str(&format!(
            "), r as (
               select {COLUMNS}, originals from f join events on stream_id = f.stream and seq > f.pos
               union all
               select {COLUMNS}, null from event_tail join f on stream_id = f.stream and seq > f.pos
               order by stream_id, seq {own})
             select s.id, s.head, s.floor, r.* from f join streams s on s.id = f.stream left join r on r.stream_id = s.id
             order by s.id, r.seq"
        ));
    }
    let rows = db
        .query_all_raw(Statement::from_sql_and_values(backend, sql, values))
        .await?;
    let after: HashMap<Uuid, i64> = positions.iter().copied().collect();
    let mut found: HashMap<Uuid, Page> = HashMap::new();
    for row in rows {
        let stream: Uuid = row.try_get_by("id")?;
        let head = row.try_get_by("head")?;
        let page = found.entry(stream).or_insert(Page {
            floor: row.try_get_by("floor")?,
            head,
            records: Vec::new(),
            position: head,
        });
        if row.try_get_by::<Option<i64>, _>("seq")?.is_some() {
            page.records
                .push(record(&row, after.get(&stream).copied().unwrap_or(0))?);
        }
    }
    for page in found.values_mut() {
        let full = usize::try_from(limit).unwrap_or(usize::MAX);
        if page.records.len() >= full {
            page.records.truncate(full);
            page.position = page.records.last().map_or(page.head, |record| record.seq);
        }
    }
    Ok(found)
}

/// The heads of streams, in one statement. A stream that is gone is left out.
///
/// # Errors
/// What the database says.
pub async fn heads(
    db: &impl ConnectionTrait,
    streams: &[Uuid],
) -> Result<HashMap<Uuid, i64>, DbErr> {
    if streams.is_empty() {
        return Ok(HashMap::new());
    }
    let backend = db.get_database_backend();
    let places: Vec<String> = (1..=streams.len())
        .map(|i| {
            if backend == DbBackend::Postgres {
                format!("${i}")
            } else {
                "?".into()
            }
        })
        .collect();
    let sql = format!(
        "select id, head from streams where id in ({})",
        places.join(", ")
    );
    let values: Vec<Value> = streams.iter().map(|&id| id.into()).collect();
    let rows = db
        .query_all_raw(Statement::from_sql_and_values(backend, sql, values))
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get_by("id")?, row.try_get_by("head")?)))
        .collect()
}

/// A row of `events` or `event_tail`, cut to what came after `after`.
pub(crate) fn record(row: &QueryResult, after: i64) -> Result<Record, DbErr> {
    let kind = Kind(row.try_get_by("kind")?);
    let payload = Payload::decode(kind, row.try_get_by("payload")?)
        .ok_or_else(|| DbErr::Type(format!("a payload of kind {} that cannot be read", kind.0)))?;
    let mut record = Record {
        tenant: TenantId(row.try_get_by("tenant_id")?),
        stream: row.try_get_by("stream_id")?,
        seq: row.try_get_by("seq")?,
        run: row.try_get_by::<Option<Uuid>, _>("run_id")?.map(RunId),
        attempt: row.try_get_by("attempt")?,
        n: row.try_get_by("n")?,
        v: row.try_get_by("v")?,
        at: row.try_get_by::<DateTime<Utc>, _>("at")?,
        kind,
        payload,
    };
    if let (Payload::Delta(delta), Ok(Some(originals))) = (
        &mut record.payload,
        row.try_get_by::<Option<Vec<u8>>, _>("originals"),
    ) {
        let originals = Originals::decode(&originals)
            .ok_or_else(|| DbErr::Type("the numbers of a joined record cannot be read".into()))?;
        originals.cut(delta, after);
    }
    Ok(record)
}
