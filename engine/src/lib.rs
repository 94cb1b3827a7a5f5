//! How an agent runs: from a message sent to the end of its answer, whoever dies meanwhile.
//!
//! A run belongs to no process. What it said is in the log, what it finished is in its checkpoints, and whoever holds its lease
//! carries it on from there; see `docs/architecture.md`. The commands of agents, models, conversations and runs are methods of
//! [`Engine`], each one transaction.

pub mod agents;
mod cancel;
pub mod context;
pub mod conversations;
mod drive;
mod end;
pub mod event;
pub mod follow;
mod heard;
pub mod live;
pub mod models;
mod prices;
mod reasons;
pub mod send;
mod start;
mod worker;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use adapters::{
    clock::{BootInstant, SharedClock},
    outbound::Outbound,
    sealing::Keyring,
};
use auth::Authority;
use entities::{RunId, WorkerId};
use events::Log;
use providers::Providers;
use tokio_util::sync::CancellationToken;

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Runs that this process carries at once.
    pub slots: usize,
    /// Whether this process carries runs at all: `roles` holds `worker`.
    pub works: bool,
    /// Characters of a message: `limits.max_message_chars`.
    pub max_message_chars: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            slots: 1000,
            works: true,
            max_message_chars: 200_000,
        }
    }
}

/// Commands and workers. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    log: Log,
    keyring: Keyring,
    providers: Providers,
    outbound: Outbound,
    authority: Authority,
    worker: WorkerId,
    options: EngineOptions,
    carried: Mutex<HashMap<RunId, Carried>>,
    claiming: Mutex<Option<tokio::task::JoinHandle<()>>>,
    /// No new runs are taken up from then on.
    closing: CancellationToken,
}

struct Carried {
    attempt: i32,
    stop: CancellationToken,
    /// Until when its lease holds, counted from when it was asked for.
    until: BootInstant,
}

/// How long a lease lasts, and how often it is renewed.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
pub(crate) const RENEW: Duration = Duration::from_secs(3);
/// How long before its lapse a worker stops itself.
pub(crate) const MARGIN: Duration = Duration::from_millis(500);
/// The form of what is stored for resuming a run.
pub(crate) const FORMAT: i32 = 1;

impl Engine {
    /// Makes it; nothing runs before [`Engine::start`].
    #[must_use]
    pub fn new(
        log: Log,
        keyring: Keyring,
        providers: Providers,
        outbound: Outbound,
        authority: Authority,
        options: EngineOptions,
    ) -> Self {
        let worker = WorkerId(log.clock().uuid());
        Self(Arc::new(Inner {
            log,
            keyring,
            providers,
            outbound,
            authority,
            worker,
            options,
            carried: Mutex::default(),
            claiming: Mutex::default(),
            closing: CancellationToken::new(),
        }))
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.0.log
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &SharedClock {
        self.0.log.clock()
    }

    /// What seals secrets.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    /// The models' wires.
    #[must_use]
    pub fn providers(&self) -> &Providers {
        &self.0.providers
    }

    /// The guarded client.
    #[must_use]
    pub fn outbound(&self) -> &Outbound {
        &self.0.outbound
    }

    /// Who may do what.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.0.authority
    }

    pub(crate) fn options(&self) -> &EngineOptions {
        &self.0.options
    }

    pub(crate) fn worker(&self) -> WorkerId {
        self.0.worker
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Carried>> {
        self.0
            .carried
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.0.closing
    }

    /// Whether this process may take up another run.
    pub(crate) fn has_slot(&self) -> bool {
        self.0.options.works
            && !self.0.closing.is_cancelled()
            && self.lock().len() < self.0.options.slots
    }
}
