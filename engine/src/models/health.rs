//! How a model does: its breaker, which all processes share, and what its calls and checks say of it.

use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    CommandError, DbErr, ModelHealthStatus, ModelId, SystemScope, TenantId, Within, health::Tally,
    llm_model, model_call, query::*,
};
use events::Command;
use providers::{ModelError, ModelErrorKind};

use super::changes::health_changed;
use crate::Engine;

const SYSTEM: SystemScope = SystemScope::of("how a model does is the same for all");

/// What is looked at when a call fails.
const WINDOW: TimeDelta = TimeDelta::seconds(60);
/// Fewer calls than that say nothing.
const LEAST: i64 = 10;
/// How long a model that fails is left alone, and how long one call has to show that it does better.
const REST: TimeDelta = TimeDelta::seconds(30);

/// For how long a check that failed says anything: two of the times between checks.
const STALE: TimeDelta = TimeDelta::minutes(10);

/// Whether a model may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It may.
    Closed,
    /// Not for a while.
    Open,
    /// By whoever is first to [`Engine::try_anew`]: it has rested since then.
    Rested(DateTime<Utc>),
}

pub(crate) fn gate(model: &llm_model::Model, now: DateTime<Utc>) -> Gate {
    match model.breaker_until {
        None => Gate::Closed,
        Some(until) if until <= now => Gate::Rested(until),
        Some(_) => Gate::Open,
    }
}

/// Whether the last check of a model failed, and not so long ago that nothing is known any more: those in use are checked every
/// five minutes, others may never be again.
pub(crate) fn is_unwell(model: &llm_model::Model, now: DateTime<Utc>) -> bool {
    model.health == ModelHealthStatus::Unhealthy
        && model.checked_at.is_some_and(|at| now - at < STALE)
}

/// How a model does, by its row and by what its calls in the last hour came to.
#[must_use]
pub fn status(model: &llm_model::Model, last_hour: Option<Tally>) -> ModelHealthStatus {
    // Closed again by a call that is answered, not by time.
    if model.breaker_until.is_some() || model.health == ModelHealthStatus::Unhealthy {
        return ModelHealthStatus::Unhealthy;
    }
    match last_hour.filter(|tally| tally.calls > 0) {
        Some(tally) if tally.failed * 10 > tally.calls => ModelHealthStatus::Degraded,
        None if model.health == ModelHealthStatus::Unknown => ModelHealthStatus::Unknown,
        _ => ModelHealthStatus::Healthy,
    }
}

/// Whether a failure is that of the request, which another model would refuse as well, and says nothing about this one.
pub(crate) fn is_of_the_request(error: &ModelError) -> bool {
    match error.kind {
        ModelErrorKind::ContextTooLong => true,
        // A wrong key, a name that isn't served, or a redirection are the model's settings.
        ModelErrorKind::Refused => matches!(error.status, Some(400 | 413 | 422)),
        _ => false,
    }
}

/// What is booked as the outcome of a call that failed.
pub(crate) fn outcome(error: &ModelError) -> &'static str {
    match error.kind {
        ModelErrorKind::Refused if is_of_the_request(error) => "RequestRefused",
        ModelErrorKind::Refused => "Refused",
        ModelErrorKind::ContextTooLong => "ContextTooLong",
        ModelErrorKind::AddressRefused => "AddressRefused",
        ModelErrorKind::Unreachable => "Unreachable",
        ModelErrorKind::Timeout(_) => "Timeout",
        ModelErrorKind::RateLimited { .. } => "RateLimited",
        ModelErrorKind::Unavailable { .. } => "Unavailable",
        ModelErrorKind::BrokenOff => "BrokenOff",
        ModelErrorKind::Malformed => "Malformed",
        ModelErrorKind::Unsupported => "Unsupported",
    }
}

impl Engine {
    /// Takes the one call that shows whether a model that has rested does better; `false`: somebody else makes it.
    pub(crate) async fn try_anew(
        &self,
        (tenant, model): (TenantId, ModelId),
        rested: DateTime<Utc>,
    ) -> Result<bool, DbErr> {
        let taken = self
            .log()
            .command::<bool, CommandError, _>(Within::Tenant(tenant), move |c| {
                Box::pin(async move {
                    let until = Some(c.now() + REST);
                    let done = llm_model::Entity::change_anywhere(SYSTEM)
                        .filter(llm_model::Column::Id.eq(model))
                        .filter(llm_model::Column::BreakerUntil.eq(rested))
                        .set(llm_model::ActiveModel {
                            breaker_until: Set(until),
                            ..Default::default()
                        })
                        .exec(&**c.tx())
                        .await?;
                    Ok(done.rows_affected == 1)
                })
            })
            .await;
        taken.map_err(|error| match error {
            CommandError::Database(error) => error,
            other => DbErr::Custom(other.to_string()),
        })
    }
}

/// After a call was answered: nothing, unless something else was thought of the model. `model` is its row as the call was made,
/// `tried` whether it was to show that the model does better.
pub(crate) async fn answered(
    c: &mut Command,
    model: &llm_model::Model,
    tried: bool,
) -> Result<(), CommandError> {
    let mut changed = false;
    if tried {
        changed |= close(c, model.id).await?;
    }
    if matches!(
        model.health,
        ModelHealthStatus::Unknown | ModelHealthStatus::Unhealthy
    ) {
        changed |= set_health(c, model, ModelHealthStatus::Healthy).await?;
    }
    if changed {
        health_changed(c, model);
    }
    Ok(())
}

/// After a call failed by the model's fault, and was booked: the breaker opens, or stays open.
pub(crate) async fn failed(
    c: &mut Command,
    model: &llm_model::Model,
    tried: bool,
) -> Result<(), CommandError> {
    let mut changed = open_if_failing(c, model.id, tried).await?;
    if !tried && model.health == ModelHealthStatus::Unknown {
        changed |= set_health(c, model, ModelHealthStatus::Degraded).await?;
    }
    if changed {
        health_changed(c, model);
    }
    Ok(())
}

/// After a call failed by the model's fault, and was booked: whether the breaker opened. One that stands open stays so, longer.
pub(super) async fn open_if_failing(
    c: &Command,
    model: ModelId,
    tried: bool,
) -> Result<bool, DbErr> {
    let until = Some(c.now() + REST);
    if tried {
        let open = llm_model::Column::BreakerUntil.is_not_null();
        set_breaker(c, model, open, until).await?;
        return Ok(false);
    }
    let tally = model_call::Entity::tally(SYSTEM, c.tx(), model, c.now() - WINDOW).await?;
    if tally.calls < LEAST || tally.failed * 2 < tally.calls {
        return Ok(false);
    }
    let closed = llm_model::Column::BreakerUntil.is_null();
    let opened = set_breaker(c, model, closed, until).await?;
    if opened {
        tracing::warn!(model = %model, tally.calls, tally.failed, "a model fails too often; it is not called for a while");
    }
    Ok(opened)
}

/// After a call was answered that was made while the breaker was open: whether it was so still.
pub(super) async fn close(c: &Command, model: ModelId) -> Result<bool, DbErr> {
    let open = llm_model::Column::BreakerUntil.is_not_null();
    set_breaker(c, model, open, None).await
}

async fn set_breaker(
    c: &Command,
    model: ModelId,
    only: impl Into<Expr>,
    until: Option<DateTime<Utc>>,
) -> Result<bool, DbErr> {
    let done = llm_model::Entity::change_anywhere(SYSTEM)
        .filter(llm_model::Column::Id.eq(model))
        .filter(only.into())
        .set(llm_model::ActiveModel {
            breaker_until: Set(until),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    Ok(done.rows_affected == 1)
}

/// Compare-and-set; a failed check's words go with it.
async fn set_health(
    c: &Command,
    model: &llm_model::Model,
    health: ModelHealthStatus,
) -> Result<bool, DbErr> {
    let done = llm_model::Entity::change_anywhere(SYSTEM)
        .filter(llm_model::Column::Id.eq(model.id))
        .filter(llm_model::Column::Health.eq(model.health))
        .set(llm_model::ActiveModel {
            health: Set(health),
            health_message: Set(None),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    Ok(done.rows_affected == 1)
}
