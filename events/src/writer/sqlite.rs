//! A batch on SQLite: one transaction in turn with the commands, appended to the tail.

use std::collections::{HashMap, HashSet};

use entities::{
    DbErr, SystemScope,
    db::{Failure, failure},
};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use uuid::Uuid;

use super::{Job, Outcome};
use crate::{
    command::{insert, places, shapes},
    log::Log,
    record::{Record, VERSION},
};

pub(super) struct Table {
    log: Log,
}

impl Table {
    pub(super) fn new(log: &Log) -> Self {
        Self { log: log.clone() }
    }

    async fn append(&self, jobs: &[Job]) -> Result<HashMap<Uuid, i64>, DbErr> {
        let tx = self
            .log
            .db()
            .begin_deltas(SystemScope::of("writing the log"))
            .await?;
        let mut prev_heads: HashMap<Uuid, i64> = HashMap::new();
        for chunk in shapes(jobs) {
            let mut sql = String::from(
                "update streams set head = head + w.n from (select column1 as id, column2 as fence, column3 as n from (values ",
            );
            let mut values: Vec<Value> = Vec::with_capacity(chunk.len() * 3);
            for (i, job) in chunk.iter().enumerate() {
                if i > 0 {
                    sql.push_str(", ");
                }
                places(&mut sql, false, 0, 3);
                values.extend([job.line.stream.into(), job.fence.into(), count(job).into()]);
            }
            sql.push_str(")) as w where streams.id = w.id and streams.fence = w.fence returning streams.id, streams.head");
            for row in tx
                .query_all_raw(Statement::from_sql_and_values(
                    DbBackend::Sqlite,
                    sql,
                    values,
                ))
                .await?
            {
                // RETURNING sees the changed table alone.
                let (stream, head): (Uuid, i64) = (row.try_get_by("id")?, row.try_get_by("head")?);
                let added = chunk
                    .iter()
                    .find(|job| job.line.stream == stream)
                    .map_or(0, count);
                prev_heads.insert(stream, head - added);
            }
        }
        let records: Vec<Record> = jobs
            .iter()
            .filter_map(|job| Some((job, *prev_heads.get(&job.line.stream)?)))
            .flat_map(|(job, prev_head)| {
                (prev_head + 1..).zip(&job.items).map(|(seq, item)| Record {
                    tenant: job.line.tenant,
                    stream: job.line.stream,
                    seq,
                    run: Some(job.line.run),
                    attempt: job.line.attempt,
                    n: item.n,
                    v: VERSION,
                    at: item.at,
                    kind: item.kind,
                    payload: item.payload.clone(),
                })
            })
            .collect();
        insert(&tx, "event_tail", &records.iter().collect::<Vec<_>>()).await?;
        tx.commit().await?;
        Ok(prev_heads)
    }
}

fn count(job: &Job) -> i64 {
    i64::try_from(job.items.len()).unwrap_or(i64::MAX)
}

#[async_trait::async_trait]
impl super::Table for Table {
    async fn commit(&mut self, jobs: &[Job], _wait: bool) -> Vec<Outcome> {
        debug_assert_eq!(
            jobs.iter()
                .map(|job| job.line.stream)
                .collect::<HashSet<_>>()
                .len(),
            jobs.len(),
            "a stream stands once in a batch"
        );
        match self.append(jobs).await {
            Ok(prev_heads) => jobs
                .iter()
                .map(|job| {
                    prev_heads
                        .get(&job.line.stream)
                        .map_or(Outcome::Refused, |&prev_head| Outcome::Written {
                            prev_head,
                        })
                })
                .collect(),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    jobs = jobs.len(),
                    "failed to append to the log"
                );
                let permanent = failure(&error) != Failure::Transient;
                jobs.iter()
                    .map(|_| {
                        if permanent {
                            Outcome::Bad
                        } else {
                            Outcome::Unknown
                        }
                    })
                    .collect()
            }
        }
    }
}
