//! How an agent runs: from a message sent to the end of its answer, whoever dies meanwhile.
//!
//! A run belongs to no process. What it said is in the log, what it finished is in its checkpoints, and whoever holds its lease
//! carries it on from there; see `docs/architecture.md`. The commands of agents, models, conversations and runs are methods of
//! [`Engine`], each one transaction.

pub mod agents;
mod ask;
mod cancel;
mod carry;
pub mod changes;
mod context;
pub mod conversations;
mod end;
pub mod event;
pub mod follow;
mod forget;
mod heard;
mod indexer;
pub mod live;
pub mod models;
mod prices;
pub mod rate;
mod reasons;
mod retention;
pub mod send;
pub mod sharing;
mod start;
pub mod titles;
mod turns;
mod undo;
pub mod usage;
mod watched;
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
use entities::{CommandError, RunId, TenantId, Within, WorkerId};
pub use events::Asked;
use events::{Command, Log, Work};
use providers::Providers;
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Runs that this process carries at once, whosever they are.
    pub slots: usize,
    /// Runs of one tenant at once, in all processes together: `limits.max_concurrent_runs`.
    pub max_concurrent_runs: u64,
    /// Tokens that one run may use: `limits.max_run_tokens`.
    pub max_run_tokens: i64,
    /// Whether this process carries runs at all: `roles` holds `worker`.
    pub works: bool,
    /// Characters of a message: `limits.max_message_chars`.
    pub max_message_chars: usize,
    /// Whether this process has titles written, if it carries runs.
    pub titles: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            slots: 2000,
            max_concurrent_runs: 1000,
            max_run_tokens: 1_000_000,
            works: true,
            max_message_chars: 200_000,
            titles: true,
        }
    }
}

impl EngineOptions {
    /// How many of a tenant's runs may be under way for another one to begin with its message. The last places are for runs that
    /// wait: whoever comes while a tenant is near its limit stands behind those that came before. Messages that are sent at the
    /// same time do not see each other's runs; these places have room for them.
    fn places_at_once(&self) -> u64 {
        let spare = self.max_concurrent_runs.div_ceil(10).max(64);
        self.max_concurrent_runs.saturating_sub(spare)
    }
}

/// Commands and workers. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    asked: Option<Arc<Asked>>,
}

struct Inner {
    log: Log,
    keyring: Keyring,
    providers: Providers,
    outbound: Outbound,
    authority: Authority,
    worker: WorkerId,
    options: EngineOptions,
    carried: Mutex<HashMap<RunId, Carried>>,
    turns: turns::Turns,
    origins: watched::Origins,
    /// Told when a title may be due.
    titles: tokio::sync::Notify,
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
        let inner = Inner {
            log,
            keyring,
            providers,
            outbound,
            authority,
            worker,
            options,
            carried: Mutex::default(),
            turns: turns::Turns::default(),
            origins: watched::Origins::default(),
            titles: tokio::sync::Notify::new(),
            claiming: Mutex::default(),
            closing: CancellationToken::new(),
        };
        Self {
            inner: Arc::new(inner),
            asked: None,
        }
    }

    /// This engine for one mutation: what is done through it stands in the audit log, and is done once for its key.
    #[must_use]
    pub fn asked(&self, asked: Option<Asked>) -> Self {
        Self {
            inner: self.inner.clone(),
            asked: asked.map(Arc::new),
        }
    }

    /// A command of a client's in his tenant: one transaction, done once where it came with a key.
    pub(crate) async fn command<T, F>(&self, tenant: TenantId, work: F) -> Result<T, CommandError>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: for<'c> FnOnce(&'c mut Command) -> Work<'c, T, CommandError> + Send + 'static,
    {
        let within = Within::Tenant(tenant);
        self.log()
            .command_for(within, self.asked.clone(), work)
            .await
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.inner.log
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &SharedClock {
        self.inner.log.clock()
    }

    /// What seals secrets.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.inner.keyring
    }

    /// The models' wires.
    #[must_use]
    pub fn providers(&self) -> &Providers {
        &self.inner.providers
    }

    /// The guarded client.
    #[must_use]
    pub fn outbound(&self) -> &Outbound {
        &self.inner.outbound
    }

    /// Who may do what.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.inner.authority
    }

    /// Runs of one tenant at once, in all processes together, whatever the tenant itself says.
    #[must_use]
    pub fn max_concurrent_runs(&self) -> u64 {
        self.inner.options.max_concurrent_runs
    }

    pub(crate) fn options(&self) -> &EngineOptions {
        &self.inner.options
    }

    pub(crate) fn worker(&self) -> WorkerId {
        self.inner.worker
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Carried>> {
        self.inner
            .carried
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn turns(&self) -> &turns::Turns {
        &self.inner.turns
    }

    pub(crate) fn origins(&self) -> &watched::Origins {
        &self.inner.origins
    }

    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.inner.closing
    }

    /// How many runs this process carries.
    #[must_use]
    pub fn carries(&self) -> usize {
        self.lock().len()
    }

    /// Whether this process may take up another run.
    pub(crate) fn has_slot(&self) -> bool {
        self.inner.options.works
            && !self.inner.closing.is_cancelled()
            && self.lock().len() < self.inner.options.slots
    }
}
