//! A command: one transaction that changes rows and appends to streams, and the publishing after it.

use std::sync::{Arc, Mutex, PoisonError};

use adapters::clock::SharedClock;
use chrono::{DateTime, Utc};
use entities::{
    Audience, Audiences, Backend, ChangeAction, DbErr, ResourceKind, RunId, Scope, TenantId, Tx,
    change,
};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use uuid::Uuid;

use crate::{
    audit::{self, Entry},
    finished::{self, Finished},
    hub::Batch,
    record::{Draft, Record, VERSION},
};

/// A transaction under way, and what it will append. Streams are locked first, by id where several are; then runs are read in
/// statements of their own.
pub struct Command {
    tx: Tx,
    clock: SharedClock,
    now: DateTime<Utc>,
    streams: Vec<Locked>,
    changes: Vec<change::Model>,
    finished: Vec<Finished>,
    work: bool,
    stopped: Vec<RunId>,
    counts: Mutex<Vec<Count>>,
    about: Option<String>,
    audit: Vec<Entry>,
}

/// Counts something, once it is true.
pub(crate) type Count = Box<dyn FnOnce() + Send>;

struct Locked {
    stream: Uuid,
    tenant: TenantId,
    head: i64,
    /// As the table has it.
    first: i64,
    fence: i64,
    raise_fence: bool,
    is_new: bool,
    records: Vec<Record>,
}

/// What has to be told once the transaction is committed.
pub(crate) struct Told {
    pub(crate) batches: Vec<Batch>,
    /// Whether there are changes to be moved into the tenant's stream.
    pub(crate) noted: bool,
    pub(crate) work: bool,
    pub(crate) stopped: Vec<RunId>,
    pub(crate) counts: Vec<Count>,
}

impl Command {
    pub(crate) fn new(tx: Tx, clock: SharedClock) -> Self {
        let now = clock.now();
        Self {
            tx,
            clock,
            now,
            streams: Vec::new(),
            changes: Vec::new(),
            finished: Vec::new(),
            work: false,
            stopped: Vec::new(),
            counts: Mutex::default(),
            about: None,
            audit: Vec::new(),
        }
    }

    /// The transaction.
    #[must_use]
    pub fn tx(&self) -> &Tx {
        &self.tx
    }

    /// The time of all that it does.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// The clock, for ids.
    #[must_use]
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// Makes a stream, locked by being new.
    pub fn create(&mut self, tenant: TenantId, stream: Uuid) {
        self.streams.push(Locked {
            stream,
            tenant,
            head: 0,
            first: 0,
            fence: 0,
            raise_fence: false,
            is_new: true,
            records: Vec::new(),
        });
    }

    /// Locks a stream's row until the end of the transaction and answers its head; `None` where the tenant has no such stream.
    /// Locking it twice is once.
    ///
    /// # Errors
    /// What the database says; after five seconds of waiting it gives up.
    pub async fn lock(&mut self, tenant: TenantId, stream: Uuid) -> Result<Option<i64>, DbErr> {
        self.locking(tenant, stream, " for update").await
    }

    /// The same without waiting: `None` also where somebody else holds it.
    ///
    /// # Errors
    /// What the database says.
    pub async fn try_lock(&mut self, tenant: TenantId, stream: Uuid) -> Result<Option<i64>, DbErr> {
        self.locking(tenant, stream, " for update skip locked")
            .await
    }

    async fn locking(
        &mut self,
        tenant: TenantId,
        stream: Uuid,
        how: &str,
    ) -> Result<Option<i64>, DbErr> {
        if let Some(locked) = self.streams.iter().find(|locked| locked.stream == stream) {
            return Ok((locked.tenant == tenant).then_some(locked.head));
        }
        let (backend, sql) = match self.tx.backend() {
            Backend::Postgres => (
                DbBackend::Postgres,
                format!("select head, fence from streams where id = $1 and tenant_id = $2{how}"),
            ),
            Backend::Sqlite => (
                DbBackend::Sqlite,
                "select head, fence from streams where id = ? and tenant_id = ?".to_owned(),
            ),
        };
        let Some(row) = self
            .tx
            .query_one_raw(Statement::from_sql_and_values(
                backend,
                sql,
                [stream.into(), tenant.into()],
            ))
            .await?
        else {
            return Ok(None);
        };
        let head = row.try_get_by("head")?;
        let fence = row.try_get_by("fence")?;
        self.streams.push(Locked {
            stream,
            tenant,
            head,
            first: head,
            fence,
            raise_fence: false,
            is_new: false,
            records: Vec::new(),
        });
        Ok(Some(head))
    }

    /// The number of the last record of a locked stream, those of this command included.
    ///
    /// # Panics
    /// Where the stream is not locked: a fault of the caller's.
    #[must_use]
    pub fn head(&self, stream: Uuid) -> i64 {
        self.streams
            .iter()
            .find(|locked| locked.stream == stream)
            .expect("the stream is locked")
            .head
    }

    /// The fence of a locked stream as it will be after this command.
    ///
    /// # Panics
    /// As [`Command::head`].
    #[must_use]
    pub fn fence(&self, stream: Uuid) -> i64 {
        let locked = self
            .streams
            .iter()
            .find(|locked| locked.stream == stream)
            .expect("the stream is locked");
        locked.fence + i64::from(locked.raise_fence)
    }

    /// Appends to a locked stream and answers the number that it gets. Written as the last of the transaction's statements.
    ///
    /// # Panics
    /// As [`Command::head`].
    pub fn append(&mut self, stream: Uuid, run: Option<(RunId, i32)>, draft: Draft) -> i64 {
        let now = self.now;
        let locked = self
            .streams
            .iter_mut()
            .find(|locked| locked.stream == stream)
            .expect("the stream is locked");
        locked.head += 1;
        locked.records.push(Record {
            tenant: locked.tenant,
            stream,
            seq: locked.head,
            run: run.map(|(id, _)| id),
            attempt: run.map_or(0, |(_, attempt)| attempt),
            // Those of commands are never looked for: a command is not sent again after a COMMIT of unknown outcome.
            n: 0,
            v: VERSION,
            at: now,
            kind: draft.kind,
            payload: draft.payload,
        });
        locked.head
    }

    /// Shuts out every writer that knows the stream's fence of before.
    ///
    /// # Panics
    /// As [`Command::head`].
    pub fn raise_fence(&mut self, stream: Uuid) {
        self.streams
            .iter_mut()
            .find(|locked| locked.stream == stream)
            .expect("the stream is locked")
            .raise_fence = true;
    }

    /// Says for the tenant's `changes` that a resource changed, and who saw it before and sees it after: `None` where it was not
    /// there, or is gone.
    pub fn changed(
        &mut self,
        scope: &Scope,
        kind: ResourceKind,
        id: Uuid,
        before: Option<Audience>,
        after: Option<Audience>,
    ) {
        self.changed_in(scope.tenant(), kind, id, before, after);
    }

    /// The same where the server itself acts.
    pub fn changed_in(
        &mut self,
        tenant: TenantId,
        kind: ResourceKind,
        id: Uuid,
        before: Option<Audience>,
        after: Option<Audience>,
    ) {
        let known = self.changes.iter().position(|change| {
            (change.tenant_id, change.kind, change.resource_id) == (tenant, kind, id)
        });
        // Nobody sees what is between two changes of one transaction.
        let before = match known {
            Some(known) => self.changes.remove(known).audience.before,
            None => before,
        };
        let action = match (&before, &after) {
            (None, None) => return,
            (None, Some(_)) => ChangeAction::Created,
            (Some(_), Some(_)) => ChangeAction::Updated,
            (Some(_), None) => ChangeAction::Deleted,
        };
        self.changes.push(change::Model {
            id: 0,
            tenant_id: tenant,
            kind,
            resource_id: id,
            action,
            audience: Audiences { before, after },
            at: self.now,
        });
    }

    /// Says that a run is over, whose events stand in `stream` after `after` and up to `upto`: what it said in pieces may be
    /// stored in fewer.
    pub fn finished(&mut self, tenant: TenantId, stream: Uuid, run: RunId, after: i64, upto: i64) {
        self.finished.push(Finished {
            tenant,
            stream,
            run,
            after,
            upto,
        });
    }

    /// Wakes those who carry runs once it is true.
    pub fn wake_workers(&mut self) {
        self.work = true;
    }

    /// Tells whoever carries this run to stop, once it is true.
    pub fn stop(&mut self, run: RunId) {
        self.stopped.push(run);
    }

    /// Says what the command is about, as clients write its id: for the audit log, where the input does not say it.
    pub fn about(&mut self, id: impl std::fmt::Display) {
        self.about = Some(id.to_string());
    }

    /// What that is.
    pub(crate) fn what_about(&self) -> Option<String> {
        self.about.clone().or_else(|| {
            let change = self.changes.first()?;
            let prefix = change.kind.prefix()?;
            let mut id = String::new();
            entities::ids::write(prefix, change.resource_id, &mut id).ok()?;
            Some(id)
        })
    }

    /// Adds to the audit log, in this transaction: besides what is added for the mutation itself.
    pub fn audit(&mut self, entry: Entry) {
        self.audit.push(entry);
    }

    /// Counts something for operators once it is true: what is undone never was.
    pub fn count(&self, count: impl FnOnce() + Send + 'static) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.push(Box::new(count));
    }

    pub(crate) async fn undo(self) {
        if let Err(error) = self.tx.rollback().await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "failed to undo a command; the server does"
            );
        }
    }

    pub(crate) async fn commit(mut self) -> Result<Told, DbErr> {
        let noted = !self.changes.is_empty();
        change::Entity::record(&*self.tx, std::mem::take(&mut self.changes)).await?;
        finished::note(&self.tx, &self.finished).await?;
        for entry in std::mem::take(&mut self.audit) {
            audit::write(&self.tx, &self.clock, self.now, entry).await?;
        }
        write(&self.tx, &self.streams).await?;
        self.tx.commit().await?;
        let batches = self
            .streams
            .into_iter()
            .filter(|locked| !locked.records.is_empty())
            .map(|locked| Batch {
                stream: locked.stream,
                prev_head: locked.first,
                head: locked.head,
                records: locked.records.into_iter().map(Arc::new).collect(),
            })
            .collect();
        Ok(Told {
            batches,
            noted,
            work: self.work,
            stopped: self.stopped,
            counts: self
                .counts
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        })
    }
}

async fn write(tx: &Tx, streams: &[Locked]) -> Result<(), DbErr> {
    let postgres = tx.backend() == Backend::Postgres;
    let backend = if postgres {
        DbBackend::Postgres
    } else {
        DbBackend::Sqlite
    };
    for locked in streams {
        let fence = locked.fence + i64::from(locked.raise_fence);
        if locked.is_new {
            let sql = if postgres {
                "insert into streams (id, tenant_id, head, floor, fence) values ($1, $2, $3, 0, $4)"
            } else {
                "insert into streams (id, tenant_id, head, floor, fence) values (?, ?, ?, 0, ?)"
            };
            let values = [
                locked.stream.into(),
                locked.tenant.into(),
                locked.head.into(),
                fence.into(),
            ];
            tx.execute_raw(Statement::from_sql_and_values(backend, sql, values))
                .await?;
        } else if locked.head != locked.first || locked.raise_fence {
            let sql = if postgres {
                "update streams set head = $1, fence = $2 where id = $3"
            } else {
                "update streams set head = ?, fence = ? where id = ?"
            };
            let values = [locked.head.into(), fence.into(), locked.stream.into()];
            tx.execute_raw(Statement::from_sql_and_values(backend, sql, values))
                .await?;
        }
    }
    let records: Vec<&Record> = streams.iter().flat_map(|locked| &locked.records).collect();
    insert(tx, "events", &records).await
}

/// Inserts records in statements of few shapes.
pub(crate) async fn insert(tx: &Tx, table: &str, records: &[&Record]) -> Result<(), DbErr> {
    let postgres = tx.backend() == Backend::Postgres;
    let backend = if postgres {
        DbBackend::Postgres
    } else {
        DbBackend::Sqlite
    };
    for chunk in shapes(records) {
        let mut sql = format!(
            "insert into {table} (tenant_id, stream_id, seq, run_id, attempt, n, v, at, kind, payload) values "
        );
        let mut values: Vec<Value> = Vec::with_capacity(chunk.len() * 10);
        for (i, record) in chunk.iter().enumerate() {
            if i > 0 {
                sql.push_str(", ");
            }
            places(&mut sql, postgres, i * 10, 10);
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
            ]);
        }
        tx.execute_raw(Statement::from_sql_and_values(backend, sql, values))
            .await?;
    }
    Ok(())
}

/// Chunks of 64, 8 and 1, so that the texts of the statements, and what the database keeps of them, are few.
pub(crate) fn shapes<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = [64, 8, 1].into_iter().find(|&size| rows.len() >= size)?;
        let (chunk, rest) = rows.split_at(size);
        rows = rest;
        Some(chunk)
    })
}

/// `($5, $6, $7)`, or `(?, ?, ?)`.
pub(crate) fn places(sql: &mut String, postgres: bool, before: usize, count: usize) {
    sql.push('(');
    for i in 1..=count {
        if i > 1 {
            sql.push_str(", ");
        }
        if postgres {
            sql.push_str(&format!("${}", before + i));
        } else {
            sql.push('?');
        }
    }
    sql.push(')');
}
