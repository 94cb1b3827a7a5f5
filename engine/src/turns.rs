//! Turns at models that take only so many calls at once: for all processes together, and fair to the people who wait.
//!
//! A row waits, then holds, and is taken away after the call. Who gives a turn back gives it to the next; what is given to another
//! process, or left by one that died, is found by looking. A model without a limit costs nothing.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use entities::{
    CommandError, DbErr, ModelId, RunId, SystemScope, TenantId, UserId, Within, llm_model,
    model_turn, run, turns::Given,
};
use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval, timeout},
};
use uuid::Uuid;

use crate::{Engine, LEASE, RENEW};

const SYSTEM: SystemScope = SystemScope::of("turns at models are given across users");

/// How often those who wait look whether they were given a turn by another process, or whether one is free.
const LOOK: Duration = Duration::from_millis(250);
/// How often giving back is tried.
const TRIES: u32 = 3;
/// Rows that one statement renews.
const BATCH: usize = 500;

/// What this process waits for and holds.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<Uuid, Asked>>);

struct Asked {
    model: ModelId,
    /// Its row is there.
    is_stored: bool,
    /// Absent once it was given. Dropped where its row is gone: then it is asked for anew.
    given: Option<oneshot::Sender<()>>,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, turns: impl IntoIterator<Item = Uuid>) {
        let mut asked = self.lock();
        for turn in turns {
            let given = asked.get_mut(&turn).and_then(|asked| asked.given.take());
            if let Some(given) = given {
                // Whoever does not wait any more gives it back.
                let _ = given.send(());
            }
        }
    }

    /// Models that somebody here waits for.
    fn waited_for(&self) -> Vec<ModelId> {
        let asked = self.lock();
        let waiting = asked.values().filter(|asked| asked.given.is_some());
        let models: BTreeSet<ModelId> = waiting.map(|asked| asked.model).collect();
        models.into_iter().collect()
    }

    fn stored(&self) -> Vec<Uuid> {
        let asked = self.lock();
        let stored = asked.iter().filter(|(_, asked)| asked.is_stored);
        stored.map(|(turn, _)| *turn).collect()
    }
}

/// Who asks for a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) tenant: TenantId,
    pub(crate) user: UserId,
    /// None of a call that belongs to no run.
    pub(crate) run: Option<RunId>,
}

impl From<&run::Model> for Asker {
    fn from(run: &run::Model) -> Self {
        Self {
            tenant: run.tenant_id,
            user: run.user_id,
            run: Some(run.id),
        }
    }
}

/// What there is for whoever does not wait.
pub(crate) enum Free {
    /// The model has no limit.
    Unlimited,
    /// Held until it is dropped.
    Turn(Turn),
    /// As many calls are under way as may be, or others wait.
    No,
}

/// A turn at a model, or a place among those who wait for one. Dropped, it is given back.
pub(crate) struct Turn {
    engine: Engine,
    id: Uuid,
    model: ModelId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.engine.turns().lock().remove(&self.id);
        let (engine, id, model) = (self.engine.clone(), self.id, self.model);
        let tasks = self.engine.log().tasks();
        tasks.spawn("giving a turn back", async move {
            for _ in 0..TRIES {
                let Err(error) = engine.give_back(id, model).await else {
                    return;
                };
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "failed to give a turn back; else it lapses"
                );
            }
        });
    }
}

impl Engine {
    /// Waits for the turn to make one call of a model; `None` where it has no limit. Dropping the future leaves the queue, dropping
    /// the turn gives it to the next.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn turn(
        &self,
        model: &llm_model::Model,
        run: &run::Model,
    ) -> Result<Option<Turn>, DbErr> {
        if model.max_concurrency.is_none() {
            return Ok(None);
        }
        let asked_at = self.clock().now();
        loop {
            let (turn, is_given) = self.queue_up(model.id, run.into(), asked_at).await?;
            if is_given.await.is_ok() {
                return Ok(Some(turn));
            }
            // The database was away for so long that the row lapsed.
        }
    }

    /// The turn to make one call of a model, if it is free at this moment; waiting is for those who are answered. A process that
    /// carries no runs does not renew it: after ten seconds another call may begin beside this one.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn free_turn(
        &self,
        model: &llm_model::Model,
        asker: Asker,
    ) -> Result<Free, DbErr> {
        if model.max_concurrency.is_none() {
            return Ok(Free::Unlimited);
        }
        let now = self.clock().now();
        let (turn, mut is_given) = self.queue_up(model.id, asker, now).await?;
        Ok(match is_given.try_recv() {
            Ok(()) => Free::Turn(turn),
            Err(_) => Free::No,
        })
    }

    async fn queue_up(
        &self,
        model: ModelId,
        asker: Asker,
        asked_at: DateTime<Utc>,
    ) -> Result<(Turn, oneshot::Receiver<()>), DbErr> {
        let (given, is_given) = oneshot::channel();
        let turn = Turn {
            engine: self.clone(),
            id: self.clock().uuid(),
            model,
        };
        let id = turn.id;
        let asked = Asked {
            model,
            is_stored: false,
            given: Some(given),
        };
        self.turns().lock().insert(id, asked);
        let row = model_turn::Model {
            id,
            tenant_id: asker.tenant,
            model_id: model,
            user_id: asker.user,
            run_id: asker.run.unwrap_or(RunId(Uuid::nil())),
            owner: self.worker(),
            held_at: None,
            asked_at,
            lease_until: asked_at,
        };
        let engine = self.clone();
        let given = self
            .log()
            .command::<Vec<Given>, CommandError, _>(Within::System(SYSTEM), move |c| {
                Box::pin(async move {
                    model_turn::Entity::decide(SYSTEM, c.tx(), model).await?;
                    // Nobody waits any more, and the row that would be taken away was not there yet.
                    if !engine.turns().lock().contains_key(&id) {
                        return Ok(Vec::new());
                    }
                    model_turn::Entity::ask(SYSTEM, c.tx(), &row, c.now(), LEASE).await?;
                    Ok(model_turn::Entity::give(SYSTEM, c.tx(), model, c.now()).await?)
                })
            })
            .await
            .map_err(database)?;
        if let Some(asked) = self.turns().lock().get_mut(&id) {
            asked.is_stored = true;
        }
        self.given(given);
        Ok((turn, is_given))
    }

    async fn give_back(&self, id: Uuid, model: ModelId) -> Result<(), DbErr> {
        let given = self
            .log()
            .command::<Vec<Given>, CommandError, _>(Within::System(SYSTEM), move |c| {
                Box::pin(async move {
                    model_turn::Entity::decide(SYSTEM, c.tx(), model).await?;
                    model_turn::Entity::give_back(SYSTEM, c.tx(), id).await?;
                    Ok(model_turn::Entity::give(SYSTEM, c.tx(), model, c.now()).await?)
                })
            })
            .await
            .map_err(database)?;
        self.given(given);
        Ok(())
    }

    fn given(&self, given: Vec<Given>) {
        let ours = given
            .into_iter()
            .filter(|given| given.owner == self.worker());
        self.turns().give(ours.map(|given| given.id));
    }

    /// Renews what this process waits for and holds, and looks for what it was given, until nothing is left of it.
    pub(crate) async fn keep_turns(self) {
        let mut every = interval(LOOK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewed = self.clock().instant();
        loop {
            tokio::select! {
                () = self.idle() => return,
                _ = every.tick() => {}
            }
            let now = self.clock().instant();
            let kept = async {
                if now.since(renewed) >= RENEW {
                    renewed = now;
                    self.renew_turns().await?;
                }
                self.look_for_turns().await
            };
            match timeout(RENEW, kept).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "failed to look after turns at models"
                ),
                Err(_) => tracing::debug!("the database did not answer about turns at models"),
            }
        }
    }

    async fn renew_turns(&self) -> Result<(), DbErr> {
        let stored = self.turns().stored();
        for some in stored.chunks(BATCH) {
            let now = self.clock().now();
            let (db, me) = (self.log().db(), self.worker());
            let there = model_turn::Entity::renew(SYSTEM, db, me, some, now, LEASE).await?;
            let mut asked = self.turns().lock();
            for gone in some.iter().filter(|turn| !there.contains(turn)) {
                if let Some(asked) = asked.get_mut(gone) {
                    asked.given = None;
                    asked.is_stored = false;
                }
            }
        }
        Ok(())
    }

    async fn look_for_turns(&self) -> Result<(), DbErr> {
        let models = self.turns().waited_for();
        if models.is_empty() {
            return Ok(());
        }
        let reader = self.log().db().reader(SYSTEM);
        let given = model_turn::Entity::given_to(SYSTEM, reader, self.worker()).await?;
        self.turns().give(given);
        let now = self.clock().now();
        for model in model_turn::Entity::vacant(SYSTEM, reader, &models, now).await? {
            let given = self
                .log()
                .command::<Vec<Given>, CommandError, _>(Within::System(SYSTEM), move |c| {
                    Box::pin(async move {
                        model_turn::Entity::decide(SYSTEM, c.tx(), model).await?;
                        Ok(model_turn::Entity::give(SYSTEM, c.tx(), model, c.now()).await?)
                    })
                })
                .await
                .map_err(database)?;
            self.given(given);
        }
        Ok(())
    }
}

fn database(error: CommandError) -> DbErr {
    match error {
        CommandError::Database(error) => error,
        other => DbErr::Custom(other.to_string()),
    }
}
