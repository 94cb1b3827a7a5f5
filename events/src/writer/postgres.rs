//! A batch on PostgreSQL: one statement, whatever its size, on a connection of its own.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use entities::{
    SystemScope,
    db::{Failure, failure_of},
};
use sea_orm::sqlx::{
    self, ConnectOptions, Connection, PgConnection, Row, postgres::PgConnectOptions,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::{DEAD, Job, Outcome};
use crate::{log::Log, record::VERSION};

pub(super) struct Table {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
}

/// The fence is compared in the UPDATE itself: a condition joined to the locking statement is not read again after its wait.
macro_rules! append {
    ($locking:literal) => {
        concat!(
            "with want as (select * from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as w(id, fence, n)),
             locked as materialized (select s.id from streams s where s.id in (select id from want) order by s.id for update",
            $locking,
            "), raised as (
               update streams s set head = s.head + w.n from locked l join want w on w.id = l.id
               where s.id = l.id and s.fence = w.fence returning s.id, s.head - w.n as prev),
             added as (
               insert into events (tenant_id, stream_id, seq, run_id, attempt, n, v, at, kind, payload)
               select e.tenant_id, e.stream_id, r.prev + e.place, e.run_id, e.attempt, e.n, $10::smallint, e.at, e.kind, e.payload
               from unnest($4::uuid[], $5::uuid[], $6::bigint[], $7::uuid[], $8::int[], $9::int[], $11::timestamptz[], $12::smallint[], $13::bytea[])
                 as e(tenant_id, stream_id, place, run_id, attempt, n, at, kind, payload)
               join raised r on r.id = e.stream_id)
             select l.id, r.prev from locked l left join raised r on r.id = l.id"
        )
    };
}
const SKIPPING: &str = append!(" skip locked");
const WAITING: &str = append!("");

impl Table {
    pub(super) fn new(log: &Log) -> Self {
        let options = log
            .db()
            .postgres_options(SystemScope::of("writing the log"))
            .expect("the writer of PostgreSQL is made on PostgreSQL");
        Self {
            options,
            connection: None,
        }
    }

    async fn append(
        &mut self,
        jobs: &[Job],
        wait: bool,
    ) -> Result<HashMap<Uuid, Option<i64>>, sqlx::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            empty => empty.insert(self.options.clone().connect().await?),
        };
        let mut streams = (Vec::new(), Vec::new(), Vec::new());
        let mut events = (
            Vec::new(),
            Vec::new(),
            Vec::<i64>::new(),
            Vec::new(),
            Vec::new(),
            Vec::new(),
        );
        let mut rest = (
            Vec::<DateTime<Utc>>::new(),
            Vec::new(),
            Vec::<Vec<u8>>::new(),
        );
        for job in jobs {
            streams.0.push(job.line.stream);
            streams.1.push(job.fence);
            streams
                .2
                .push(i64::try_from(job.items.len()).unwrap_or(i64::MAX));
            for (place, item) in (1..).zip(&job.items) {
                events.0.push(job.line.tenant.0);
                events.1.push(job.line.stream);
                events.2.push(place);
                events.3.push(job.line.run.0);
                events.4.push(job.line.attempt);
                events.5.push(item.n);
                rest.0.push(item.at);
                rest.1.push(item.kind.0);
                rest.2.push(item.payload.encode());
            }
        }
        let rows = sqlx::query(if wait { WAITING } else { SKIPPING })
            .bind(streams.0)
            .bind(streams.1)
            .bind(streams.2)
            .bind(events.0)
            .bind(events.1)
            .bind(events.2)
            .bind(events.3)
            .bind(events.4)
            .bind(events.5)
            .bind(VERSION)
            .bind(rest.0)
            .bind(rest.1)
            .bind(rest.2)
            .fetch_all(connection)
            .await?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect()
    }
}

#[async_trait::async_trait]
impl super::Table for Table {
    async fn commit(&mut self, jobs: &[Job], wait: bool) -> Vec<Outcome> {
        let appended = timeout(DEAD, self.append(jobs, wait)).await;
        match appended.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
        {
            Ok(found) => jobs
                .iter()
                .map(|job| match found.get(&job.line.stream) {
                    Some(Some(prev_head)) => Outcome::Written {
                        prev_head: *prev_head,
                    },
                    Some(None) => Outcome::Refused,
                    None if wait => Outcome::Refused,
                    None => Outcome::Held,
                })
                .collect(),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    jobs = jobs.len(),
                    "failed to append to the log"
                );
                let permanent = matches!(failure_of(&error), Failure::Permanent | Failure::Taken);
                if !permanent && let Some(connection) = self.connection.take() {
                    // Whatever it is in, it is not used again.
                    drop(connection.close_hard());
                }
                // A lock that was not had in time or a refused statement leaves nothing behind.
                let undone = matches!(&error, sqlx::Error::Database(database) if database.code().is_some_and(|code| code == "55P03" || code == "57014"));
                jobs.iter()
                    .map(|_| {
                        if permanent {
                            Outcome::Bad
                        } else if undone {
                            Outcome::Held
                        } else {
                            Outcome::Unknown
                        }
                    })
                    .collect()
            }
        }
    }
}
