//! The log of one process: what it is made of, and how commands and followers get at it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use adapters::{clock::SharedClock, tasks::Tasks};
use chrono::{DateTime, Utc};
use entities::{AuditOutcome, CommandError, Db, DbErr, RunId, Snapshot, TenantId, Within};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, broadcast, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    asked::Asked,
    bus::{self, Bus},
    changes::{self, expire, sequencer},
    command::{Command, Told},
    cursor::{Cursor, CursorError},
    fold,
    follow::Follow,
    generation,
    hub::{Batch, Hub},
    once::{self, Begun},
    writer::{self, RunLog, Waiting},
};

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The least time between the starts of two batches that nobody waits for: `log.min_gap_ms`.
    pub min_gap: Duration,
    /// How long the streams of tenants' changes are kept: `retention.changes_days`.
    pub changes_kept: Duration,
    /// Whether this process moves what commands tell into the streams of tenants' changes; a test of a command reads it before.
    pub moves_changes: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            min_gap: Duration::from_millis(10),
            changes_kept: Duration::from_secs(7 * 24 * 3600),
            moves_changes: true,
        }
    }
}

/// Why the log can't be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The server would lose what it said was safe.
    #[error(
        "the PostgreSQL server runs with fsync = off and would lose data in a crash; turn it on"
    )]
    NotDurable,
    /// It could not be read or written.
    #[error("failed to read the state of the log")]
    Database(#[from] DbErr),
}

/// How many who follow read the tables at once. Thousands come back together when a server was away: they wait here as long as it
/// takes, and leave connections to those who ask for something.
const CATCHING_UP: usize = 4;
/// How long a command may take in all.
const DEAD: Duration = Duration::from_secs(40);

/// The log. Cheap to clone.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    db: Db,
    clock: SharedClock,
    tasks: Tasks,
    options: LogOptions,
    installation: Uuid,
    generation: RwLock<Uuid>,
    process: Uuid,
    hub: Hub,
    waiting: Waiting,
    bus: Option<Bus>,
    /// Rings when commands left notes for the streams of changes.
    noted: Notify,
    written: watch::Sender<u64>,
    work: watch::Sender<u64>,
    stops: broadcast::Sender<RunId>,
    /// Ends the writer, after everything that may still write.
    closing: CancellationToken,
    /// What has to have ended before the last fold.
    writing: Mutex<Vec<JoinHandle<()>>>,
    /// Whoever folds.
    folding: Semaphore,
    /// Whoever follows and reads the tables.
    catching_up: Semaphore,
}

/// A turn at the tables, until it is dropped.
#[derive(Debug)]
pub struct Turn<'l>(
    #[expect(dead_code, reason = "it is held, not read")] Option<SemaphorePermit<'l>>,
);

/// A future that a command's work returns.
pub type Work<'c, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>;

impl Log {
    /// Starts the writer and what keeps followers awake. The schema is current.
    ///
    /// # Errors
    /// See [`LogError`].
    pub async fn start(
        db: Db,
        clock: SharedClock,
        tasks: Tasks,
        options: LogOptions,
    ) -> Result<Self, LogError> {
        let state = generation::begin(&db, &clock).await?;
        fold::fold(&db, &Semaphore::new(1)).await?;
        let process = clock.uuid();
        let bus = Bus::new(&db, process);
        let log = Self(Arc::new(Inner {
            db,
            clock,
            tasks,
            options,
            installation: state.installation,
            generation: RwLock::new(state.generation),
            process,
            hub: Hub::default(),
            waiting: Waiting::default(),
            bus,
            noted: Notify::new(),
            written: watch::Sender::new(0),
            work: watch::Sender::new(0),
            stops: broadcast::Sender::new(1024),
            closing: CancellationToken::new(),
            writing: Mutex::default(),
            folding: Semaphore::new(1),
            catching_up: Semaphore::new(CATCHING_UP),
        }));
        let tasks = &log.0.tasks;
        let mut writing = vec![
            tasks.spawn("the log's writer", writer::run(log.clone())),
            tasks.spawn("folding the log", fold::run(log.clone())),
            tasks.spawn("forgetting changes", expire::run(log.clone())),
        ];
        if log.0.options.moves_changes {
            writing.push(tasks.spawn("moving changes", sequencer::run(log.clone())));
        }
        tasks.spawn("looking for what was missed", bus::poll(log.clone()));
        tasks.spawn("forgetting keys", once::sweep(log.clone()));
        *log.0.writing.lock().unwrap_or_else(PoisonError::into_inner) = writing;
        if log.0.bus.is_some() {
            tasks.spawn("sending hints", bus::send(log.clone()));
            tasks.spawn("receiving hints", bus::receive(log.clone()));
        }
        Ok(log)
    }

    /// Does `work` in one transaction, on one side of the wall between tenants, in a task of its own: dropping the future does not undo it half. What it appended is
    /// published after the commit.
    ///
    /// # Errors
    /// What `work` answers, then nothing was done; or that the database failed.
    pub async fn command<T, E, F>(&self, within: Within, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<CommandError> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Command) -> Work<'c, T, E> + Send + 'static,
    {
        let log = self.clone();
        let task = self.0.tasks.spawn("a command", async move {
            let done = async {
                let tx = log.0.db.begin(within).await.map_err(CommandError::from)?;
                let mut command = Command::new(tx, log.0.clock.clone());
                match work(&mut command).await {
                    Ok(value) => {
                        let told = command.commit().await.map_err(CommandError::from)?;
                        log.tell(told);
                        Ok(value)
                    }
                    Err(error) => {
                        command.undo().await;
                        Err(error)
                    }
                }
            };
            // Longer than the server lets its statements take: the connection is dead, whatever the operating system believes.
            let Ok(done) = tokio::time::timeout(DEAD, done).await else {
                let silence = std::io::Error::from(std::io::ErrorKind::TimedOut);
                let silence =
                    sea_orm::RuntimeErr::SqlxError(Arc::new(sea_orm::sqlx::Error::Io(silence)));
                return Err(CommandError::Database(DbErr::Conn(silence)).into());
            };
            done
        });
        task.await
            .unwrap_or_else(|_| Err(CommandError::Internal("a command panicked".into()).into()))
    }

    /// Does `work` as [`Log::command`] does, for a client who asked for it, and adds that to the audit log; with a key, once: where
    /// it was done before, its answer of then is the answer. `T` is written beside the key, without the fields that serde skips.
    ///
    /// # Errors
    /// As [`Log::command`]; a conflict where the key was used with another input.
    pub async fn command_for<T, E, F>(
        &self,
        within: Within,
        asked: Option<Arc<Asked>>,
        work: F,
    ) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        E: From<CommandError> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Command) -> Work<'c, T, E> + Send + 'static,
    {
        let Some(asked) = asked else {
            return self.command(within, work).await;
        };
        self.command(within, move |c| {
            Box::pin(async move {
                if let Some(once) = asked.once()
                    && let Begun::Before(done) = once.begin(c.tx(), c.now()).await?
                {
                    return Ok(done);
                }
                let done = work(c).await?;
                if let Some(once) = asked.once() {
                    once.finish(c.tx(), &done).await?;
                }
                let about = c.what_about();
                c.audit(asked.entry(about, AuditOutcome::Allowed, &[]));
                Ok(done)
            })
        })
        .await
    }

    fn tell(&self, told: Told) {
        for count in told.counts {
            count();
        }
        let mut streams = Vec::new();
        for batch in told.batches {
            streams.push(batch.stream);
            self.0.hub.publish(batch, self.0.clock.instant());
        }
        if told.noted {
            self.0.noted.notify_one();
        }
        if told.noted || !streams.is_empty() {
            self.0
                .written
                .send_modify(|count| *count = count.wrapping_add(1));
        }
        if told.work {
            self.wake_workers();
        }
        for &run in &told.stopped {
            // Nobody listens where no worker runs.
            let _ = self.0.stops.send(run);
        }
        if let Some(bus) = &self.0.bus {
            bus.hint(&streams, told.work, &told.stopped);
        }
    }

    pub(crate) fn publish(&self, batch: Batch) {
        let stream = batch.stream;
        self.0.hub.publish(batch, self.0.clock.instant());
        if let Some(bus) = &self.0.bus {
            bus.hint(&[stream], false, &[]);
        }
    }

    /// Follows a stream after a number.
    #[must_use]
    pub fn follow(&self, stream: Uuid, after: i64) -> Follow {
        Follow::new(self.clone(), stream, after)
    }

    /// Opens the line of a run's worker, which holds `attempt` of it. `fence` and `head` are the stream's as of the claim.
    #[must_use]
    pub fn open(
        &self,
        tenant: TenantId,
        stream: Uuid,
        run: (RunId, i32),
        fence: i64,
        head: i64,
    ) -> RunLog {
        RunLog::open(self.clone(), tenant, stream, run, fence, head)
    }

    /// The cursor after `seq` of a stream.
    #[must_use]
    pub fn cursor(&self, stream: Uuid, seq: i64) -> Cursor {
        Cursor {
            generation: self.generation(),
            stream,
            seq,
        }
    }

    /// The number that a cursor of `stream` stands at.
    ///
    /// # Errors
    /// It is of another stream, or of another generation of the database.
    pub fn position(&self, text: &str, stream: Uuid) -> Result<i64, CursorError> {
        let cursor = Cursor::decode(text)?;
        if cursor.stream != stream {
            return Err(CursorError::Invalid);
        }
        if cursor.generation != self.generation() {
            return Err(CursorError::Expired);
        }
        Ok(cursor.seq)
    }

    fn generation(&self) -> Uuid {
        *self
            .0
            .generation
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks whether the server behind is still the one of before: a failover may have happened under a living process.
    pub(crate) async fn look_at_generation(&self) {
        match generation::begin(&self.0.db, &self.0.clock).await {
            Ok(state) => {
                *self
                    .0
                    .generation
                    .write()
                    .unwrap_or_else(PoisonError::into_inner) = state.generation;
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to look at the generation of the log"
            ),
        }
    }

    /// The head of a tenant's stream of changes, which is followed by the tenant's id. It is made where there is none yet.
    ///
    /// # Errors
    /// What the database says.
    pub async fn head_of_changes(&self, tenant: TenantId) -> Result<i64, DbErr> {
        changes::head(&self.0.db, tenant).await
    }

    /// Takes away what the streams of changes said before a time, as is done hourly, and answers how many records that were.
    ///
    /// # Errors
    /// What the database says; what was taken away by then is gone.
    pub async fn forget_changes(&self, before: DateTime<Utc>) -> Result<u64, CommandError> {
        expire::expire(self, before).await
    }

    /// How many records, and how many bytes, wait for the writer at this moment.
    #[must_use]
    pub fn waits(&self) -> (usize, usize) {
        self.0.waiting.depth()
    }

    pub(crate) fn noted(&self) -> &Notify {
        &self.0.noted
    }

    pub(crate) fn folding(&self) -> &Semaphore {
        &self.0.folding
    }

    /// A turn at the tables, for who begins to follow or goes on from them: waits as long as it takes.
    pub async fn turn(&self) -> Turn<'_> {
        // never closed
        Turn(self.0.catching_up.acquire().await.ok())
    }

    /// Changes after each command of this process that told of something. A hint, for what follows the tables a moment later:
    /// other processes write as well.
    #[must_use]
    pub fn written(&self) -> watch::Receiver<u64> {
        self.0.written.subscribe()
    }

    /// Changes whenever there may be a run to claim.
    #[must_use]
    pub fn work(&self) -> watch::Receiver<u64> {
        self.0.work.subscribe()
    }

    /// Says that there may be a run to claim.
    pub fn wake_workers(&self) {
        self.0
            .work
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The runs whose workers are told to stop. A hint: fences and leases are what holds.
    #[must_use]
    pub fn stops(&self) -> broadcast::Receiver<RunId> {
        self.0.stops.subscribe()
    }

    pub(crate) fn stopped(&self, run: RunId) {
        let _ = self.0.stops.send(run);
    }

    /// A view for one request.
    #[must_use]
    pub fn snapshot(&self, within: Within) -> Snapshot {
        self.0.db.snapshot(within)
    }

    /// The database.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.0.db
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &SharedClock {
        &self.0.clock
    }

    /// The tasks of this process.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// Of the database, made with it.
    #[must_use]
    pub fn installation(&self) -> Uuid {
        self.0.installation
    }

    /// Writes down that the database was left in order. The last thing that a process does; nothing may be appended after it.
    ///
    /// # Errors
    /// What the database says; the next start is then an unclean one.
    pub async fn close(&self) -> Result<(), DbErr> {
        self.0.closing.cancel();
        let writing = std::mem::take(
            &mut *self
                .0
                .writing
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for task in writing {
            // One that panicked has been logged, and writes nothing more either.
            drop(task.await);
        }
        fold::fold(&self.0.db, &self.0.folding).await?;
        generation::end(&self.0.db).await
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    pub(crate) fn waiting(&self) -> &Waiting {
        &self.0.waiting
    }

    pub(crate) fn options(&self) -> &LogOptions {
        &self.0.options
    }

    pub(crate) fn bus(&self) -> Option<&Bus> {
        self.0.bus.as_ref()
    }

    pub(crate) fn process(&self) -> Uuid {
        self.0.process
    }

    pub(crate) fn closing(&self) -> CancellationToken {
        self.0.closing.clone()
    }
}
