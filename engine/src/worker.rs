//! The worker of a process: takes up runs as there is room, renews its leases, and takes over what others lost.

use std::{
    collections::{BTreeSet, HashSet},
    sync::PoisonError,
    time::Duration,
};

use adapters::clock::BootInstant;
use entities::{
    CommandError, ConversationId, DbErr, RunId, RunStatus, TenantId, Within, db, message,
    model_turn, query::*, run, runs::Candidate, tenant,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{Carried, Engine, FORMAT, LEASE, MARGIN, RENEW, start};

/// Runs looked at in one go.
const CANDIDATES: u64 = 32;
/// How often lapsed leases, and runs that nobody was told of, are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// How long what is written is let gather before the tables that follow it do, and how often they look for what other processes
/// wrote.
const GATHER: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_secs(5);
/// How long a shutdown waits for answers under way.
const FINISH: Duration = Duration::from_secs(25);

/// A run in the hands of this process; it is let go of however its task ends.
pub(crate) struct Held {
    engine: Engine,
    run: RunId,
    attempt: i32,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.engine.let_go(self.run, self.attempt);
    }
}

/// Runs that can't be taken up at all: passed over, so that they keep no other from it. Looked at anew by the next process.
#[derive(Default)]
struct Refused(HashSet<uuid::Uuid>);

impl Refused {
    fn without(&self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        candidates.retain(|candidate| !self.0.contains(&candidate.id));
        candidates
    }

    fn count(&self) -> u64 {
        self.0.len() as u64
    }

    fn add(&mut self, candidate: &Candidate) {
        // Bounded: past that, something is wrong with more than single runs.
        if self.0.len() < 10_000 {
            self.0.insert(candidate.id);
        }
    }
}

impl Engine {
    /// Starts the worker. On SQLite no other process can hold a lease: all count as lapsed.
    ///
    /// # Errors
    /// What the database says.
    pub async fn start(&self) -> Result<(), DbErr> {
        if !self.options().works {
            return Ok(());
        }
        if self.log().db().backend() == entities::Backend::Sqlite {
            run::Entity::release(start::SYSTEM, self.log().db(), None).await?;
            model_turn::Entity::clear(start::SYSTEM, self.log().db(), None).await?;
        }
        let tasks = self.log().tasks();
        let claiming = tasks.spawn("taking up runs", self.clone().claim());
        *self
            .inner
            .claiming
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(claiming);
        tasks.spawn("renewing leases", self.clone().renew());
        tasks.spawn("keeping turns at models", self.clone().keep_turns());
        tasks.spawn("looking after models", self.clone().look_after_models());
        tasks.spawn("rolling up usage", self.clone().roll_up_usage());
        tasks.spawn("indexing what is said", self.clone().index_texts());
        tasks.spawn("forgetting conversations", self.clone().forget_hourly());
        tasks.spawn("keeping conversations", self.clone().retain_hourly());
        tasks.spawn("stopping runs", self.clone().heed());
        if self.options().titles {
            tasks.spawn("having titles written", self.clone().write_titles());
        }
        Ok(())
    }

    /// Takes up no more runs, lets answers under way come to their end for a while, then gives the rest back to others.
    pub async fn close(&self) {
        self.closing().cancel();
        let by = Instant::now() + FINISH;
        // A claim under way ends before anything is given back.
        let claiming = self
            .inner
            .claiming
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(claiming) = claiming {
            drop(timeout_at(by, claiming).await);
        }
        drop(timeout_at(by, self.idle()).await);
        for carried in self.lock().values() {
            carried.stop.cancel();
        }
        let turns = model_turn::Entity::clear(start::SYSTEM, self.log().db(), Some(self.worker()));
        if let Err(error) = turns.await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "failed to give turns at models back; they will lapse"
            );
        }
        match run::Entity::release(start::SYSTEM, self.log().db(), Some(self.worker())).await {
            Ok(0) => {}
            Ok(runs) => {
                tracing::info!(runs, "gave runs back");
                // A command that does nothing but wake the others.
                let woken: Result<(), CommandError> = self
                    .log()
                    .command(Within::System(start::SYSTEM), |c| {
                        Box::pin(async move {
                            c.wake_workers();
                            Ok(())
                        })
                    })
                    .await;
                drop(woken);
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to give runs back; their leases will lapse"
            ),
        }
    }

    /// Holds a run, whose lease was asked for at `since`, until what is answered is dropped.
    pub(crate) fn hold(
        &self,
        run: RunId,
        attempt: i32,
        stop: CancellationToken,
        since: BootInstant,
    ) -> Held {
        let earlier = self.lock().insert(
            run,
            Carried {
                attempt,
                stop,
                until: since + LEASE,
            },
        );
        // This very process lost it and took it up again.
        if let Some(earlier) = earlier {
            earlier.stop.cancel();
        }
        Held {
            engine: self.clone(),
            run,
            attempt,
        }
    }

    fn let_go(&self, run: RunId, attempt: i32) {
        let mut carried = self.lock();
        if carried
            .get(&run)
            .is_some_and(|carried| carried.attempt == attempt)
        {
            carried.remove(&run);
        }
    }

    /// Resolves once the worker closes and carries nothing any more.
    pub(crate) async fn idle(&self) {
        self.closing().cancelled().await;
        let mut tick = interval(Duration::from_millis(50));
        while !self.lock().is_empty() {
            tick.tick().await;
        }
    }

    /// Waits until what follows the tables may have something to do; `false`: the process closes. A server at which nothing
    /// happens looks seldom.
    pub(crate) async fn something_written(&self, written: &mut watch::Receiver<u64>) -> bool {
        let gathered = async {
            tokio::select! {
                // Its sender lives as long as the log.
                _ = written.changed() => {}
                () = sleep(LOOK) => {}
            }
            sleep(GATHER).await;
            written.mark_unchanged();
        };
        tokio::select! {
            () = self.closing().cancelled() => false,
            () = gathered => true,
        }
    }

    async fn claim(self) {
        let mut work = self.log().work();
        let mut tick = interval(SWEEP);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // After an outage nothing is swept before every live worker had time to renew.
        let mut not_before: Option<BootInstant> = None;
        let mut refused = Refused::default();
        loop {
            let swept = tokio::select! {
                () = self.closing().cancelled() => return,
                changed = work.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    false
                }
                _ = tick.tick() => true,
            };
            let done = async {
                if swept && not_before.is_none_or(|at| self.clock().instant() >= at) {
                    self.sweep(&mut refused).await?;
                }
                self.take_queued(&mut refused).await
            };
            if let Err(error) = done.await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to take up runs"
                );
                if db::failure(&error) == db::Failure::Transient {
                    not_before = Some(self.clock().instant() + LEASE);
                }
            }
        }
    }

    async fn take_queued(&self, refused: &mut Refused) -> Result<(), DbErr> {
        while self.has_slot() {
            let limit = CANDIDATES + refused.count();
            let candidates = run::Entity::claimable(
                start::SYSTEM,
                self.log().db().reader(start::SYSTEM),
                FORMAT,
                limit,
                self.options().max_concurrent_runs,
                refused.count(),
            )
            .await?;
            let full = candidates.len() as u64 == limit;
            let mut served = BTreeSet::new();
            for candidate in refused.without(candidates) {
                if self.has_slot()
                    && self
                        .take_one(&candidate, RunStatus::Queued, refused)
                        .await?
                {
                    served.insert(TenantId(candidate.tenant_id));
                }
            }
            let more = full && !served.is_empty();
            self.note_served(served).await;
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Fairness is worth no run: what goes wrong here is only said.
    async fn note_served(&self, tenants: BTreeSet<TenantId>) {
        let noted = async {
            let tx = self.log().db().begin(Within::System(start::SYSTEM)).await?;
            // One by one, in one order for all processes.
            for tenant in &tenants {
                tenant::Entity::change_anywhere(start::SYSTEM)
                    .filter(tenant::Column::Id.eq(*tenant))
                    .set(tenant::ActiveModel {
                        served_at: Set(self.clock().now()),
                        ..Default::default()
                    })
                    .exec(&*tx)
                    .await?;
            }
            tx.commit().await
        };
        if !tenants.is_empty()
            && let Err(error) = noted.await
        {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "failed to note which tenants were served"
            );
        }
    }

    async fn sweep(&self, refused: &mut Refused) -> Result<(), DbErr> {
        while self.has_slot() {
            let limit = CANDIDATES + refused.count();
            let reader = self.log().db().reader(start::SYSTEM);
            let candidates =
                run::Entity::lapsed(start::SYSTEM, reader, self.clock().now(), FORMAT, limit)
                    .await?;
            let full = candidates.len() as u64 == limit;
            let mut taken = false;
            for candidate in refused.without(candidates) {
                // What this very process holds has not lapsed by the clock that it goes by, whatever became of the time of day.
                if !self.holds(RunId(candidate.id)) {
                    taken |= self
                        .take_one(&candidate, RunStatus::Running, refused)
                        .await?;
                }
            }
            if !full || !taken {
                break;
            }
        }
        Ok(())
    }

    fn holds(&self, run: RunId) -> bool {
        let now = self.clock().instant();
        self.lock()
            .get(&run)
            .is_some_and(|carried| !carried.stop.is_cancelled() && now < carried.until)
    }

    /// Takes up one run that was seen as `status`; `false`: somebody was quicker, or holds its stream.
    async fn take_one(
        &self,
        candidate: &Candidate,
        status: RunStatus,
        refused: &mut Refused,
    ) -> Result<bool, DbErr> {
        let since = self.clock().instant();
        let engine = self.clone();
        let (id, tenant) = (RunId(candidate.id), TenantId(candidate.tenant_id));
        let stream = ConversationId(candidate.conversation_id).0;
        let taken: Result<_, CommandError> = self
            .log()
            .command(Within::Tenant(tenant), move |c| {
                Box::pin(async move {
                    if c.try_lock(tenant, stream).await?.is_none() {
                        return Ok((false, None));
                    }
                    let Some(run) = run::Entity::anywhere(start::SYSTEM)
                        .filter(run::Column::Id.eq(id))
                        .one(&**c.tx())
                        .await?
                    else {
                        return Ok((false, None));
                    };
                    if run.status != status {
                        return Ok((false, None));
                    }
                    if status == RunStatus::Running {
                        if !run::Entity::has_lapsed(start::SYSTEM, &**c.tx(), id, c.now()).await? {
                            return Ok((false, None));
                        }
                        return Ok((true, start::resume(&engine, c, run).await?));
                    }
                    let answer = message::Entity::anywhere(start::SYSTEM)
                        .filter(message::Column::Id.eq(run.output_message_id))
                        .one(&**c.tx())
                        .await?;
                    let answer = answer
                        .ok_or_else(|| CommandError::Internal(format!("{id} has no answer")))?;
                    let places = (engine.options().max_concurrent_runs, false);
                    run::Entity::decide(start::SYSTEM, c.tx(), tenant).await?;
                    Ok((true, start::start(&engine, c, run, answer, places).await?))
                })
            })
            .await;
        match taken {
            Ok((taken, started)) => {
                if let Some(started) = started {
                    self.take_up(started, since);
                }
                Ok(taken)
            }
            // The index that allows one run per conversation.
            Err(CommandError::Database(error)) if db::failure(&error) == db::Failure::Taken => {
                Ok(false)
            }
            Err(CommandError::Database(error)) if db::failure(&error) == db::Failure::Transient => {
                Err(error)
            }
            Err(error) => {
                // One run that can't be taken up must not keep the others from it.
                tracing::error!(run = %id, error = &error as &dyn std::error::Error, "failed to take up a run");
                refused.add(candidate);
                Ok(false)
            }
        }
    }

    /// Renews all leases in one statement, and stops what is not held any more, in good time before another may take it up.
    async fn renew(self) {
        let mut tick = interval(MARGIN / 2);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<BootInstant> = None;
        loop {
            tokio::select! {
                () = self.idle() => return,
                _ = tick.tick() => {}
            }
            let now = self.clock().instant();
            for carried in self
                .lock()
                .values()
                .filter(|carried| now + MARGIN > carried.until)
            {
                carried.stop.cancel();
            }
            if last.is_some_and(|last| now.since(last) < RENEW) {
                continue;
            }
            // Only these can be judged by the answer: others are taken up while it is on its way.
            let held: Vec<(RunId, i32)> = self
                .lock()
                .iter()
                .filter(|(_, carried)| !carried.stop.is_cancelled())
                .map(|(&run, carried)| (run, carried.attempt))
                .collect();
            if held.is_empty() {
                continue;
            }
            last = Some(now);
            let engine = self.clone();
            // Not awaited here: a database that hangs must not keep this loop from stopping what lapses.
            self.log()
                .tasks()
                .spawn("renewing leases once", async move {
                    let wall = engine.clock().now();
                    let runs: Vec<RunId> = held.iter().map(|&(run, _)| run).collect();
                    let renewing = run::Entity::renew(
                        start::SYSTEM,
                        engine.log().db(),
                        engine.worker(),
                        &runs,
                        wall,
                        LEASE,
                    );
                    let Ok(renewed) = timeout(RENEW, renewing).await else {
                        tracing::warn!("the database did not renew leases in time");
                        return;
                    };
                    match renewed {
                        Ok(ours) => {
                            let ours: HashSet<RunId> = ours.into_iter().collect();
                            let mut carried = engine.lock();
                            for (run, attempt) in held {
                                let Some(carried) = carried
                                    .get_mut(&run)
                                    .filter(|carried| carried.attempt == attempt)
                                else {
                                    continue;
                                };
                                if ours.contains(&run) {
                                    carried.until = carried.until.max(now + LEASE);
                                } else {
                                    carried.stop.cancel();
                                }
                            }
                        }
                        Err(error) => tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "failed to renew leases"
                        ),
                    }
                });
        }
    }

    /// Stops what others ended: a hint, so that a provider's socket is not read for nothing.
    async fn heed(self) {
        let mut stops = self.log().stops();
        loop {
            tokio::select! {
                () = self.idle() => return,
                stopped = stops.recv() => match stopped {
                    Ok(run) => {
                        if let Some(carried) = self.lock().get(&run) {
                            carried.stop.cancel();
                        }
                    }
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    }
}
