//! The writer: one task per process that takes everything waiting for all runs and commits it as one batch, while the next
//! batch gathers.
//!
//! What a run says is [pushed](RunLog::push) and joined where it goes on with the same text. A batch starts at once when the
//! writer is idle or somebody waits for it ([`RunLog::flush`], a run's first word); otherwise some milliseconds after the last
//! one, which costs a third of the processor time for the same tokens. A writer that was shut out by a raised fence writes
//! nothing: it looks at its run and goes on only if the run is still its own.

mod examine;
mod postgres;
mod sqlite;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use adapters::meter;
use chrono::{DateTime, Utc};
use entities::{
    Backend, DbErr, RunId, TenantId,
    db::{Failure, failure},
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};
use uuid::Uuid;

use self::examine::Verdict;
use crate::{
    hub::Batch,
    log::Log,
    record::{Kind, Payload, Record, VERSION},
};

/// The most bytes of a run that wait to be written; then whoever pushes waits.
const WAITING: usize = 64 * 1024;
/// The most records of one batch.
const BATCH: usize = 2000;
/// After so many rounds in which a stream was held by others it is waited for.
const SKIPS: u8 = 3;
/// Jobs done outside of the batches at once.
const APART: usize = 8;
/// A statement that takes longer than the server lets any take: the connection is dead, whatever the operating system believes.
const DEAD: Duration = Duration::from_secs(20);

/// Whether a run may still be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It may.
    Open,
    /// It was taken over, cancelled or ended.
    Fenced,
    /// Its stream was deleted.
    Gone,
    /// What it said could not be written.
    Failed,
}

#[derive(Debug, Clone)]
struct State {
    /// The number of its last item that is committed.
    acked: i32,
    fate: Fate,
    /// The stream's number of that item.
    seq: i64,
    fence: i64,
}

/// One run's line to the writer.
struct Line {
    id: u64,
    tenant: TenantId,
    stream: Uuid,
    run: RunId,
    attempt: i32,
    state: watch::Sender<State>,
}

#[derive(Clone)]
struct Item {
    n: i32,
    at: DateTime<Utc>,
    kind: Kind,
    payload: Payload,
}

struct Entry {
    line: Arc<Line>,
    items: Vec<Item>,
    bytes: usize,
    skipped: u8,
    /// Its items of before are in a batch whose outcome is not known yet.
    busy: bool,
    /// Nobody pushes any more: it goes once nothing of it waits.
    dropped: bool,
}

/// What waits, and the bell.
pub(crate) struct Waiting {
    entries: Mutex<Gathered>,
    bell: Notify,
    hurry: Notify,
    /// How many jobs are done outside of the batches at once.
    apart: Semaphore,
}

#[derive(Default)]
struct Gathered {
    lines: HashMap<u64, Entry>,
    next: u64,
    urgent: bool,
    closed: bool,
}

impl Gathered {
    /// Shuts all lines, if nothing of them waits: nobody would write what is pushed later.
    fn close(&mut self) -> bool {
        self.closed = self
            .lines
            .values()
            .all(|entry| entry.items.is_empty() && !entry.busy);
        if self.closed {
            for (_, entry) in self.lines.drain() {
                entry
                    .line
                    .state
                    .send_modify(|state| state.fate = Fate::Gone);
            }
        }
        self.closed
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
            bell: Notify::new(),
            hurry: Notify::new(),
            apart: Semaphore::new(APART),
        }
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records and bytes that wait.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let waiting = self.lock();
        let entries = waiting.lines.values();
        entries.fold((0, 0), |(records, bytes), entry| {
            (records + entry.items.len(), bytes + entry.bytes)
        })
    }

    fn ring(&self, urgent: bool) {
        self.bell.notify_one();
        if urgent {
            self.hurry.notify_one();
        }
    }
}

/// How the worker of a run writes to its conversation's stream. One for each attempt; dropped, what waits is still written.
pub struct RunLog {
    log: Log,
    line: Arc<Line>,
    state: watch::Receiver<State>,
    /// The number of the last item pushed.
    n: i32,
}

/// The run is not ours any more, or can't be written to.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the run cannot be written to: {0:?}")]
pub struct Shut(pub Fate);

impl RunLog {
    pub(crate) fn open(
        log: Log,
        tenant: TenantId,
        stream: Uuid,
        (run, attempt): (RunId, i32),
        fence: i64,
        seq: i64,
    ) -> Self {
        let mut waiting = log.waiting().lock();
        let fate = if waiting.closed {
            Fate::Gone
        } else {
            Fate::Open
        };
        let (sender, state) = watch::channel(State {
            acked: 0,
            fate,
            seq,
            fence,
        });
        waiting.next += 1;
        let line = Arc::new(Line {
            id: waiting.next,
            tenant,
            stream,
            run,
            attempt,
            state: sender,
        });
        let entry = Entry {
            line: line.clone(),
            items: Vec::new(),
            bytes: 0,
            skipped: 0,
            busy: false,
            dropped: false,
        };
        if !waiting.closed {
            waiting.lines.insert(line.id, entry);
        }
        drop(waiting);
        Self {
            log,
            line,
            state,
            n: 0,
        }
    }

    /// Hands something over to be written. Waits while 64 KiB of this run wait already.
    ///
    /// # Errors
    /// The run was shut; nothing more of it is written.
    pub async fn push(&mut self, kind: Kind, payload: Payload) -> Result<(), Shut> {
        let mut payload = Some(payload);
        loop {
            {
                let state = self.state.borrow_and_update();
                if state.fate != Fate::Open {
                    return Err(Shut(state.fate.clone()));
                }
            }
            if self.offer(kind, &mut payload) {
                return Ok(());
            }
            if self.state.changed().await.is_err() {
                return Err(Shut(Fate::Gone));
            }
        }
    }

    fn offer(&mut self, kind: Kind, payload: &mut Option<Payload>) -> bool {
        let at = self.log.clock().now();
        let mut waiting = self.log.waiting().lock();
        let Some(entry) = waiting.lines.get_mut(&self.line.id) else {
            return false;
        };
        if entry.bytes >= WAITING {
            return false;
        }
        let Some(payload) = payload.take() else {
            return true;
        };
        entry.bytes += payload.size();
        let first = self.n == 0;
        let rest = match entry.items.last_mut() {
            Some(last) if last.kind == kind => last.join(payload),
            _ => Some(payload),
        };
        if let Some(payload) = rest {
            self.n += 1;
            entry.items.push(Item {
                n: self.n,
                at,
                kind,
                payload,
            });
        }
        waiting.urgent |= first;
        drop(waiting);
        self.log.waiting().ring(first);
        true
    }

    /// Waits until everything pushed is committed, and answers the number of the last of it in the stream.
    ///
    /// # Errors
    /// The run was shut before.
    pub async fn flush(&mut self) -> Result<i64, Shut> {
        {
            let mut waiting = self.log.waiting().lock();
            waiting.urgent = true;
        }
        self.log.waiting().ring(true);
        loop {
            {
                let state = self.state.borrow_and_update();
                if state.acked >= self.n {
                    return Ok(state.seq);
                }
                if state.fate != Fate::Open {
                    return Err(Shut(state.fate.clone()));
                }
            }
            if self.state.changed().await.is_err() {
                return Err(Shut(Fate::Gone));
            }
        }
    }

    /// Resolves when the run is shut.
    pub async fn shut(&self) -> Fate {
        let mut state = self.state.clone();
        match state.wait_for(|state| state.fate != Fate::Open).await {
            Ok(state) => state.fate.clone(),
            Err(_) => Fate::Gone,
        }
    }
}

impl Drop for RunLog {
    fn drop(&mut self) {
        let mut waiting = self.log.waiting().lock();
        if let Some(entry) = waiting.lines.get_mut(&self.line.id) {
            entry.dropped = true;
            if entry.items.is_empty() && !entry.busy {
                waiting.lines.remove(&self.line.id);
            }
        }
    }
}

impl Item {
    /// `Some`: it does not go on with the same text.
    fn join(&mut self, next: Payload) -> Option<Payload> {
        match (&mut self.payload, next) {
            (Payload::Delta(last), Payload::Delta(next))
                if last.joins(&next)
                    && last.text().len() + next.text().len() <= crate::record::JOINED =>
            {
                last.push(&next);
                None
            }
            (_, next) => Some(next),
        }
    }
}

/// The part of a batch that goes to one stream.
struct Job {
    line: Arc<Line>,
    fence: i64,
    items: Vec<Item>,
    skipped: u8,
}

/// What became of a job.
enum Outcome {
    /// It stands after this number.
    Written { prev_head: i64 },
    /// The stream was held by somebody.
    Held,
    /// The fence is another one, or the stream is gone.
    Refused,
    /// It can't be written, now or ever.
    Bad,
    /// It may or may not have been written.
    Unknown,
}

/// Runs until the log is closed and nothing waits any more.
pub(crate) async fn run(log: Log) {
    let mut table = table(&log);
    let gap = log.options().min_gap;
    let closing = log.closing();
    let mut last = Instant::now();
    loop {
        tokio::select! {
            () = log.waiting().bell.notified() => {}
            () = closing.cancelled() => {
                if log.waiting().lock().close() {
                    return;
                }
                // What is with the database is waited for by its own task.
                tokio::time::sleep(gap.max(Duration::from_millis(1))).await;
            }
        }
        let urgent = std::mem::take(&mut log.waiting().lock().urgent);
        if !urgent && last.elapsed() < gap {
            tokio::select! {
                () = tokio::time::sleep_until(last + gap) => {}
                () = log.waiting().hurry.notified() => {}
            }
            log.waiting().lock().urgent = false;
        }
        last = Instant::now();
        let (jobs, more) = take(&log);
        if more {
            log.waiting().bell.notify_one();
        }
        if !jobs.is_empty() {
            round(&log, &mut *table, jobs).await;
        }
    }
}

fn table(log: &Log) -> Box<dyn Table> {
    match log.db().backend() {
        Backend::Postgres => Box::new(postgres::Table::new(log)),
        Backend::Sqlite => Box::new(sqlite::Table::new(log)),
    }
}

/// Where batches are written to.
#[async_trait::async_trait]
trait Table: Send {
    /// Commits all that can be, at once; an outcome for each job. `wait`: for streams that others hold.
    async fn commit(&mut self, jobs: &[Job], wait: bool) -> Vec<Outcome>;
}

fn take(log: &Log) -> (Vec<Job>, bool) {
    let mut waiting = log.waiting().lock();
    let mut jobs = Vec::new();
    let (mut rows, mut more) = (0, false);
    let mut streams = HashSet::new();
    for entry in waiting.lines.values_mut() {
        if entry.busy || entry.items.is_empty() {
            continue;
        }
        // Two lines to one stream may know different fences.
        if rows >= BATCH || !streams.insert(entry.line.stream) {
            more = true;
            continue;
        }
        let items = std::mem::take(&mut entry.items);
        rows += items.len();
        entry.bytes = 0;
        entry.busy = true;
        jobs.push(Job {
            line: entry.line.clone(),
            fence: entry.line.state.borrow().fence,
            items,
            skipped: entry.skipped,
        });
    }
    // One order for all who lock streams.
    jobs.sort_by_key(|job| job.line.stream);
    (jobs, more)
}

/// The writer itself waits for nobody: what has to wait for a lock, or to be looked at, goes on in a task of its own, while its
/// line is kept out of the next batches.
async fn round(log: &Log, table: &mut dyn Table, jobs: Vec<Job>) {
    let (patient, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.skipped >= SKIPS);
    if !jobs.is_empty() {
        let began = Instant::now();
        let outcomes = table.commit(&jobs, false).await;
        let commit = began.elapsed();
        let committed_at = log.clock().now();
        let mut told = (0_u64, committed_at);
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Written { prev_head } => {
                    let oldest = job.items.first().map_or(committed_at, |item| item.at);
                    told = (told.0 + job.items.len() as u64, told.1.min(oldest));
                    written(log, &job, prev_head);
                }
                Outcome::Held => back(log, job, true),
                // The fault may have been another's.
                Outcome::Bad => apart(log, job, Apart::Alone),
                Outcome::Refused => apart(log, job, Apart::Look { raise: false }),
                Outcome::Unknown => apart(log, job, Apart::Look { raise: true }),
            }
        }
        if let (records @ 1.., oldest) = told {
            // a clock that was set back makes it no shorter than nothing
            let since = |at: DateTime<Utc>| (at - oldest).to_std().unwrap_or_default();
            meter::batch(
                records,
                commit,
                since(committed_at),
                since(log.clock().now()),
            );
        }
    }
    for job in patient {
        apart(log, job, Apart::Alone);
    }
}

/// What is done with a job outside of the batches.
enum Apart {
    /// It is committed alone, however long its stream is held.
    Alone,
    /// Its run is looked at; with `raise`, whether it was written is unknown.
    Look { raise: bool },
}

fn apart(log: &Log, job: Job, what: Apart) {
    let waits = log.clone();
    log.tasks().spawn("writing apart", async move {
        // Each takes a connection.
        let Ok(_turn) = waits.waiting().apart.acquire().await else {
            return;
        };
        let raise = match what {
            Apart::Look { raise } => raise,
            Apart::Alone => {
                let outcomes = table(&waits).commit(std::slice::from_ref(&job), true).await;
                match outcomes.into_iter().next().unwrap_or(Outcome::Unknown) {
                    Outcome::Written { prev_head } => return written(&waits, &job, prev_head),
                    Outcome::Held => return back(&waits, job, true),
                    Outcome::Bad => return shut(&waits, &job.line, Fate::Failed),
                    Outcome::Refused => false,
                    Outcome::Unknown => true,
                }
            }
        };
        look(&waits, job, raise).await;
    });
}

/// Looks at the run under its stream's lock, however long the database takes to come back.
async fn look(log: &Log, job: Job, raise: bool) {
    let mut pause = Duration::from_millis(50);
    let verdict = loop {
        let looked = tokio::time::timeout(DEAD, examine::examine(log, &job.line, raise)).await;
        let error = match looked {
            Ok(Ok(verdict)) => break verdict,
            Ok(Err(error)) => error,
            Err(_) => DbErr::Custom("no answer from the database".into()),
        };
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "failed to look at a run in the log"
        );
        if matches!(&error, DbErr::Custom(_)) || failure(&error) == Failure::Transient {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        } else {
            return shut(log, &job.line, Fate::Failed);
        }
    };
    match verdict {
        Verdict::Lost => shut(log, &job.line, Fate::Fenced),
        Verdict::Gone => shut(log, &job.line, Fate::Gone),
        Verdict::Mine {
            fence,
            written: None,
        } => {
            job.line.state.send_modify(|state| state.fence = fence);
            back(log, job, false);
        }
        Verdict::Mine {
            fence,
            written: Some(seq),
        } => {
            job.line.state.send_modify(|state| state.fence = fence);
            // All of it or nothing was.
            let records = i64::try_from(job.items.len()).unwrap_or(0);
            self::written(log, &job, seq - records);
        }
    }
}

fn written(log: &Log, job: &Job, prev_head: i64) {
    let line = &job.line;
    let records: Vec<_> = (prev_head + 1..)
        .zip(&job.items)
        .map(|(seq, item)| {
            Arc::new(Record {
                tenant: line.tenant,
                stream: line.stream,
                seq,
                run: Some(line.run),
                attempt: line.attempt,
                n: item.n,
                v: VERSION,
                at: item.at,
                kind: item.kind,
                payload: item.payload.clone(),
            })
        })
        .collect();
    let head = prev_head + i64::try_from(records.len()).unwrap_or(0);
    log.publish(Batch {
        stream: line.stream,
        prev_head,
        head,
        records,
    });
    acked(log, job, head);
}

fn acked(log: &Log, job: &Job, seq: i64) {
    let last = job.items.last().map_or(0, |item| item.n);
    release(log, &job.line);
    job.line.state.send_modify(|state| {
        state.acked = last;
        state.seq = seq;
    });
}

fn release(log: &Log, line: &Arc<Line>) {
    let mut waiting = log.waiting().lock();
    let mut more = false;
    if let Some(entry) = waiting.lines.get_mut(&line.id) {
        entry.busy = false;
        entry.skipped = 0;
        more = !entry.items.is_empty();
        if !more && entry.dropped {
            waiting.lines.remove(&line.id);
        }
    }
    drop(waiting);
    if more {
        log.waiting().ring(false);
    }
}

fn back(log: &Log, job: Job, held: bool) {
    let mut waiting = log.waiting().lock();
    if let Some(entry) = waiting.lines.get_mut(&job.line.id) {
        entry.bytes += job
            .items
            .iter()
            .map(|item| item.payload.size())
            .sum::<usize>();
        let later = std::mem::replace(&mut entry.items, job.items);
        entry.items.extend(later);
        entry.skipped = if held {
            job.skipped.saturating_add(1)
        } else {
            0
        };
        entry.busy = false;
    }
    drop(waiting);
    log.waiting().ring(false);
}

fn shut(log: &Log, line: &Arc<Line>, fate: Fate) {
    log.waiting().lock().lines.remove(&line.id);
    line.state.send_modify(|state| state.fate = fate);
}
