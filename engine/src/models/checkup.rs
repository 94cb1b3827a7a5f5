//! Looking after the models in use: one that nobody calls for a while is asked whether it is there.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    CommandError, DbErr, ModelHealthStatus, ModelId, ModelKind, ModelProvider, SystemScope, Within,
    health::Tally, llm_model, model_call, model_minute, query::*,
};
use events::Command;
use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    changes::health_changed,
    check::{self, For, Found},
    health,
};
use crate::Engine;

const SYSTEM: SystemScope = SystemScope::of("models are looked after for all tenants");

/// How often a model in use is looked after; one that was answered within that time is not asked.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// How often a process looks which are due.
const LOOK: Duration = Duration::from_secs(10);
/// Models that are checked at once.
const AT_ONCE: u64 = 8;

/// A model that this process took on, and what is known of it already.
struct Due {
    model: llm_model::Model,
    was_answered: bool,
}

impl Engine {
    /// Looks after models until the process closes.
    pub(crate) async fn look_after_models(self) {
        let mut every = interval(LOOK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.closing().cancelled() => return,
                _ = every.tick() => {}
            }
            if let Err(error) = self.check_due_models().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to look after models; it is tried again"
                );
            }
        }
    }

    /// Checks the models in use that are due by the clock, each by one process; those that have no turn yet get one within the
    /// next five minutes. Tells how many were asked.
    ///
    /// # Errors
    /// What the database says. That a provider fails is no error.
    pub async fn check_due_models(&self) -> Result<usize, CommandError> {
        let mut asked = 0;
        loop {
            // Nobody needs a transaction to see that there is nothing.
            let reader = self.log().db().reader(SYSTEM);
            if are_due(self.clock().now()).one(reader).await?.is_none() {
                return Ok(asked);
            }
            let (looked_at, due) = self
                .log()
                .command(Within::System(SYSTEM), |c| Box::pin(take(c)))
                .await?;
            asked += join_all(due.into_iter().map(|due| self.look_after(due)))
                .await
                .into_iter()
                .filter(|asked| *asked)
                .count();
            if looked_at < AT_ONCE || self.closing().is_cancelled() {
                return Ok(asked);
            }
        }
    }

    /// Whether the provider was asked.
    async fn look_after(&self, due: Due) -> bool {
        let asked = !due.was_answered;
        let (id, tenant, model) = (due.model.id, due.model.tenant_id, due.model);
        let done: Result<(), CommandError> = async {
            let found = if asked {
                let endpoint = {
                    let snapshot = self.log().snapshot(Within::Tenant(model.tenant_id));
                    self.endpoint(snapshot.tx().await?, &model).await
                };
                match endpoint {
                    Ok(endpoint) => self.find_out(&endpoint, &model, For::Nobody).await?,
                    Err(DbErr::Custom(_)) => Some(Found::unusable()),
                    Err(error) => return Err(error.into()),
                }
            } else {
                None
            };
            if asked && found.is_none() {
                // Nothing was found out; what is known of it stays.
                return Ok(());
            }
            self.log()
                .command(Within::Tenant(tenant), move |c| {
                    Box::pin(note(c, model, found))
                })
                .await
        }
        .await;
        if let Err(error) = done {
            tracing::warn!(model = %id, error = &error as &dyn std::error::Error, "failed to look after a model");
        }
        asked
    }
}

fn are_due(now: DateTime<Utc>) -> Select<llm_model::Entity> {
    llm_model::Entity::anywhere(SYSTEM)
        .filter(llm_model::Column::DeletedAt.is_null())
        .filter(llm_model::Column::Kind.eq(ModelKind::Chat))
        .filter(llm_model::Column::Provider.ne(ModelProvider::Builtin))
        .filter(
            Condition::any()
                .add(llm_model::Column::CheckAt.is_null())
                .add(llm_model::Column::CheckAt.lte(now)),
        )
}

/// Takes on what is due; how many were looked at.
async fn take(c: &mut Command) -> Result<(u64, Vec<Due>), CommandError> {
    let now = c.now();
    let rows = are_due(now)
        .order_by_asc(llm_model::Column::CheckAt)
        .limit(AT_ONCE)
        .lock_with_behavior(LockType::NoKeyUpdate, LockBehavior::SkipLocked)
        .all(&**c.tx())
        .await?;
    let ids: Vec<ModelId> = rows.iter().map(|row| row.id).collect();
    let used = llm_model::Entity::in_use(SYSTEM, c.tx(), &ids).await?;
    let looked_at = rows.len() as u64;
    let mut due = Vec::new();
    for model in rows {
        let next = now + next(c, model.check_at.is_some());
        llm_model::Entity::change_anywhere(SYSTEM)
            .filter(llm_model::Column::Id.eq(model.id))
            .set(llm_model::ActiveModel {
                check_at: Set(Some(next)),
                ..Default::default()
            })
            .exec(&**c.tx())
            .await?;
        if model.check_at.is_some() && used.contains(&model.id) {
            let was_answered =
                model_call::Entity::was_answered(SYSTEM, c.tx(), model.id, now - EVERY).await?;
            due.push(Due {
                model,
                was_answered,
            });
        }
    }
    Ok((looked_at, due))
}

/// The time to a model's next turn, a tenth more or less; to its first one anything up to that, so that not all are asked at once.
fn next(c: &Command, had_one: bool) -> Duration {
    let mut random = [0; 4];
    c.clock().random(&mut random);
    let chance = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
    if had_one {
        EVERY.mul_f64(0.9 + chance / 5.0)
    } else {
        EVERY.mul_f64(chance)
    }
}

/// Writes down how a model does; tells of it where that is something else than before.
async fn note(
    c: &mut Command,
    looked_at: llm_model::Model,
    found: Option<Found>,
) -> Result<(), CommandError> {
    let row = llm_model::Entity::anywhere(SYSTEM)
        .filter(llm_model::Column::Id.eq(looked_at.id))
        .filter(llm_model::Column::DeletedAt.is_null())
        .lock(LockType::NoKeyUpdate)
        .one(&**c.tx())
        .await?;
    let Some(before) = row.filter(|row| check::is_same(row, &looked_at)) else {
        return Ok(());
    };
    let mut after = before.clone();
    let mut is_other = false;
    match found {
        Some(found) => {
            is_other |= found.close_or_open(c, &before).await?;
            found.onto(&mut after, c.now());
        }
        // Its calls are answered.
        None => {
            after.health = ModelHealthStatus::Healthy;
            after.health_message = None;
        }
    }
    let last_hour = last_hour(c, after.id, c.now()).await?;
    if after.health != ModelHealthStatus::Unhealthy {
        let called = llm_model::Model {
            breaker_until: None,
            ..after.clone()
        };
        after.health = match health::status(&called, Some(last_hour)) {
            ModelHealthStatus::Degraded => ModelHealthStatus::Degraded,
            _ => ModelHealthStatus::Healthy,
        };
    }
    is_other |= before.health != after.health;
    check::write(c, &after).await?;
    if is_other {
        health_changed(c, &after);
    }
    Ok(())
}

async fn last_hour(c: &Command, model: ModelId, now: DateTime<Utc>) -> Result<Tally, DbErr> {
    let minutes = model_minute::Entity::anywhere(SYSTEM)
        .filter(model_minute::Column::ModelId.eq(model))
        .filter(model_minute::Column::Minute.gt(now - TimeDelta::hours(1)))
        .all(&**c.tx())
        .await?;
    Ok(minutes.iter().fold(Tally::default(), |sum, minute| Tally {
        calls: sum.calls + i64::from(minute.calls),
        failed: sum.failed + i64::from(minute.failed),
    }))
}
