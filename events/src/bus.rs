//! Hints between processes that share a PostgreSQL server, and the look at the tables that makes losing them harmless.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use entities::{Backend, Db, RunId, SystemScope};
use sea_orm::{
    ConnectionTrait, DbBackend, Statement,
    sqlx::postgres::{PgListener, PgPoolOptions},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{hub::Batch, log::Log, read};

const SYSTEM: SystemScope = SystemScope::of("following streams of all tenants");
const CHANNEL: &str = "weft";
/// The least time between two notifications of one process: more cost all committers a shared lock.
const GAP: Duration = Duration::from_millis(5);
/// Streams named in one notification; PostgreSQL takes 8,000 bytes.
const NAMED: usize = 150;
/// How often followed streams that had events lately are compared with the table, and how often all of them.
const OFTEN: Duration = Duration::from_millis(250);
const SELDOM: Duration = Duration::from_secs(2);

/// What this process has to tell the others.
pub(crate) struct Bus {
    process: Uuid,
    waiting: Mutex<Hints>,
    bell: Notify,
}

#[derive(Default)]
struct Hints {
    streams: HashSet<Uuid>,
    work: bool,
    stopped: Vec<RunId>,
}

impl Hints {
    fn is_empty(&self) -> bool {
        self.streams.is_empty() && !self.work && self.stopped.is_empty()
    }
}

#[derive(Serialize, Deserialize)]
struct Note {
    from: Uuid,
    streams: Vec<Uuid>,
    work: bool,
    stopped: Vec<RunId>,
}

impl Bus {
    /// `None` where there is nobody else: on SQLite.
    pub(crate) fn new(db: &Db, process: Uuid) -> Option<Self> {
        (db.backend() == Backend::Postgres).then(|| Self {
            process,
            waiting: Mutex::default(),
            bell: Notify::new(),
        })
    }

    pub(crate) fn hint(&self, streams: &[Uuid], work: bool, stopped: &[RunId]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.streams.extend(streams);
        waiting.work |= work;
        waiting.stopped.extend(stopped);
        drop(waiting);
        self.bell.notify_one();
    }

    fn take(&self) -> Hints {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends what waits, a few times a second at most, never inside a command's transaction.
pub(crate) async fn send(log: Log) {
    let Some(bus) = log.bus() else { return };
    let closing = log.closing();
    let mut last = false;
    while !last {
        tokio::select! {
            biased;
            // What was told last, that runs were given back say, still goes out.
            () = closing.cancelled() => last = true,
            () = bus.bell.notified() => {}
        }
        let hints = bus.take();
        if hints.is_empty() {
            continue;
        }
        let streams: Vec<Uuid> = hints.streams.into_iter().collect();
        let mut chunks: Vec<&[Uuid]> = streams.chunks(NAMED).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        for chunk in chunks {
            let note = Note {
                from: bus.process,
                streams: chunk.to_vec(),
                work: hints.work,
                stopped: hints.stopped.iter().take(NAMED).copied().collect(),
            };
            let Ok(text) = serde_json::to_string(&note) else {
                continue;
            };
            let sql = Statement::from_sql_and_values(
                DbBackend::Postgres,
                "select pg_notify($1, $2)",
                [CHANNEL.into(), text.into()],
            );
            if let Err(error) = log.db().reader(SYSTEM).execute_raw(sql).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a hint was lost");
            }
        }
        tokio::time::sleep(GAP).await;
    }
}

/// Receives the others' hints; after a break of the connection everything followed is looked at.
pub(crate) async fn receive(log: Log) {
    let Some(options) = log.db().postgres_options(SYSTEM) else {
        return;
    };
    let closing = log.closing();
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(options);
    let mut pause = Duration::from_millis(100);
    let mut first = true;
    loop {
        let listener = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.ignore_pool_close_event(true);
            listener.listen(CHANNEL).await?;
            Ok::<_, sea_orm::sqlx::Error>(listener)
        };
        let mut listener = tokio::select! {
            () = closing.cancelled() => return,
            listener = listener => match listener {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "failed to listen for hints");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                    continue;
                }
            },
        };
        pause = Duration::from_millis(100);
        if !std::mem::take(&mut first) {
            log.look_at_generation().await;
        }
        catch_up(&log, false).await;
        log.wake_workers();
        loop {
            let notification = tokio::select! {
                () = closing.cancelled() => return,
                notification = listener.try_recv() => notification,
            };
            let Ok(Some(notification)) = notification else {
                break;
            };
            let mut notes = vec![notification];
            while let Some(more) = listener.next_buffered() {
                notes.push(more);
            }
            hear(
                &log,
                notes
                    .iter()
                    .filter_map(|note| serde_json::from_str(note.payload()).ok())
                    .collect(),
            )
            .await;
        }
    }
}

async fn hear(log: &Log, notes: Vec<Note>) {
    let mut positions: HashMap<Uuid, i64> = HashMap::new();
    for note in notes.into_iter().filter(|note| note.from != log.process()) {
        if note.work {
            log.wake_workers();
        }
        note.stopped.into_iter().for_each(|run| log.stopped(run));
        positions.extend(
            note.streams
                .into_iter()
                .filter_map(|stream| Some((stream, log.hub().known_head(stream)?))),
        );
    }
    read_on(log, positions.into_iter().collect()).await;
}

/// Compares what is followed with the tables, often where something happens and seldom elsewhere.
pub(crate) async fn poll(log: Log) {
    let closing = log.closing();
    let mut round = 0u64;
    let postgres = log.db().backend() == Backend::Postgres;
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            () = tokio::time::sleep(OFTEN) => {}
        }
        round += 1;
        let all = round.is_multiple_of(SELDOM.as_millis() as u64 / OFTEN.as_millis() as u64);
        // On SQLite everything that is appended is published by this very process.
        if all || postgres {
            catch_up(&log, !all).await;
        }
    }
}

async fn catch_up(log: &Log, active: bool) {
    let known = log.hub().known(log.clock().instant(), active);
    for chunk in known.chunks(500) {
        let streams: Vec<Uuid> = chunk.iter().map(|&(stream, _)| stream).collect();
        match read::heads(log.db().reader(SYSTEM), &streams).await {
            Ok(heads) => {
                let behind = chunk
                    .iter()
                    .copied()
                    .filter(|(stream, known)| heads.get(stream).is_some_and(|head| head > known))
                    .collect();
                read_on(log, behind).await;
            }
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "failed to compare followed streams"
            ),
        }
    }
}

/// Reads what came after the known heads of streams, for many of them in one statement, and hands it to their followers.
async fn read_on(log: &Log, mut positions: Vec<(Uuid, i64)>) {
    while !positions.is_empty() {
        let mut further = Vec::new();
        for chunk in positions.chunks(100) {
            match read::pages(log.db().reader(SYSTEM), chunk, read::PAGE).await {
                Ok(pages) => {
                    for &(stream, prev_head) in chunk {
                        let Some(page) = pages.get(&stream) else {
                            continue;
                        };
                        if page.position > prev_head {
                            let batch = Batch {
                                stream,
                                prev_head,
                                head: page.position,
                                records: page.records.iter().cloned().map(Arc::new).collect(),
                            };
                            log.hub().publish(batch, log.clock().instant());
                        }
                        if page.position < page.head {
                            further.push((stream, page.position));
                        }
                    }
                }
                Err(error) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "failed to read followed streams"
                ),
            }
        }
        positions = further;
    }
}
