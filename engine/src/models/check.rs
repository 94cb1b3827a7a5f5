//! Whether a model is there, and whether it answers.
//!
//! A list of models that names it costs nothing and says that it is there. Where none does, and where the model's breaker is open,
//! a call of one token decides: that is a call like any other, which takes a turn, is booked, and alone closes a breaker.

use std::time::Duration;

use chrono::{DateTime, Utc};
use entities::{
    Access, CallPurpose, CommandError, DbErr, ModelHealthStatus, ModelId, ResourceKind, RunId,
    Scope, SystemScope, UserId, Within, health::FINISHED, llm_model, model_call, query::*, tenant,
};
use events::Command;
use providers::{Endpoint, ModelError, Token};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{
    NEEDS,
    changes::{model_changed, seen},
    health::{self, Gate, gate},
    locked, may,
};
use crate::{
    Engine, ask,
    prices::priced,
    turns::{Asker, Free},
    usage, watched,
};

const SYSTEM: SystemScope = SystemScope::of("what was found of a model that was looked up before");

/// How long a check may take, whatever the model's own patience: somebody waits for its answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// For whom a model is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// Somebody who asks for it, whatever its breaker says.
    Person(UserId),
    /// Nobody; the calls that it takes are its owner's.
    Nobody,
}

impl Engine {
    /// Asks for a model at its provider and records what came of it as the model's health: HEALTHY, or UNHEALTHY with the
    /// provider's words, cleaned. Where only a call can tell and all its turns are taken, nothing is recorded.
    ///
    /// # Errors
    /// NotFound where the caller does not see it, Forbidden where he may not change it. That the provider fails is no error.
    pub async fn check_model(&self, scope: &Scope, id: ModelId) -> Result<ModelId, CommandError> {
        let (endpoint, checked) = {
            let snapshot = self.log().snapshot(Within::Tenant(scope.tenant()));
            let tx = snapshot.tx().await?;
            // The provider is asked before the command: not once more for a repetition.
            if let Some(once) = self.asked.as_ref().and_then(|asked| asked.once())
                && let Some(done) = once.before(tx, self.clock().now()).await?
            {
                return Ok(done);
            }
            let select = llm_model::Entity::in_tenant(scope).filter(llm_model::Column::Id.eq(id));
            let row = select
                .filter(llm_model::Column::DeletedAt.is_null())
                .one(&**tx)
                .await?;
            let access = row
                .as_ref()
                .and_then(|row| scope.access(ResourceKind::Model, &row.audience()));
            may(scope, access, Access::Edit, NEEDS, &["input", "id"], id)?;
            let Some(row) = row else { return Ok(id) };
            (self.endpoint(tx, &row).await?, row)
        };
        // No transaction is open meanwhile.
        let found = self
            .find_out(&endpoint, &checked, For::Person(scope.user()))
            .await?;
        let scope = scope.clone();
        self.command(scope.tenant(), move |c| {
            Box::pin(async move {
                let row = locked(c, &scope, id, Access::Edit).await?;
                // If it was changed meanwhile, what was found is not of it.
                if let Some(found) = found.filter(|_| is_same(&row, &checked)) {
                    found.close_or_open(c, &row).await?;
                    let mut after = row.clone();
                    found.onto(&mut after, c.now());
                    write(c, &after).await?;
                    model_changed(c, &scope, id, seen(&row), seen(&row));
                }
                Ok(id)
            })
        })
        .await
    }

    /// Asks a provider for a model: whether it is listed, or else whether it answers. `None`: that could not be found out now.
    pub(super) async fn find_out(
        &self,
        endpoint: &Endpoint,
        model: &llm_model::Model,
        asks: For,
    ) -> Result<Option<Found>, CommandError> {
        let begun = Instant::now();
        let is_listed = match timeout(PATIENCE, self.providers().lists(endpoint)).await {
            Ok(Ok(is_listed)) => is_listed,
            Ok(Err(error)) => return Ok(Some(Found::unhealthy(error.message))),
            Err(_) => return Ok(Some(Found::unhealthy(ask::late().message))),
        };
        let listed = is_listed.then(|| Found::healthy(begun.elapsed()));
        let breaker = gate(model, self.clock().now());
        // A list closes no breaker. While it stands open nobody calls, but who insists.
        if breaker == Gate::Closed && is_listed || breaker == Gate::Open && asks == For::Nobody {
            return Ok(listed);
        }
        let user = match asks {
            For::Person(user) => user,
            For::Nobody => model.owner_id,
        };
        let asker = Asker {
            tenant: model.tenant_id,
            user,
            run: None,
        };
        let turn = match self.free_turn(model, asker).await? {
            Free::Unlimited => None,
            Free::Turn(turn) => Some(turn),
            Free::No => return Ok(listed),
        };
        let mut tries_anew = false;
        if let Gate::Rested(since) = breaker {
            tries_anew = self.try_anew((model.tenant_id, model.id), since).await?;
            if !tries_anew {
                // Somebody else shows whether it does better.
                return Ok(listed);
            }
        }
        let left = PATIENCE.saturating_sub(begun.elapsed());
        let (engine, endpoint, called) = (self.clone(), endpoint.clone(), model.clone());
        // Whoever asked may be gone before it is over; it is paid for all the same.
        let call = self
            .log()
            .tasks()
            .spawn("having a model say one token", async move {
                let call = engine.call(&endpoint, left).await;
                drop(turn);
                engine.book(called, user, &call).await?;
                Ok::<_, CommandError>(call)
            });
        let call = call
            .await
            .map_err(|_| CommandError::Internal("a check came to no end".into()))??;
        Ok(Some(match call.said {
            Ok(_) => Found {
                call: Some(Called::Answered {
                    closes: breaker != Gate::Closed,
                }),
                ..Found::healthy(call.took)
            },
            Err(error) => Found {
                call: Some(Called::Failed {
                    tries_anew,
                    is_its_fault: !health::is_of_the_request(&error),
                }),
                ..Found::unhealthy(error.message)
            },
        }))
    }

    /// Has a model say one token.
    async fn call(&self, endpoint: &Endpoint, within: Duration) -> Call {
        let (began, begun) = (self.clock().now(), Instant::now());
        let mut watched = watched::Call::begin(endpoint.provider, "OTHER");
        let said = timeout(within, self.providers().one_token(endpoint)).await;
        let said = said.unwrap_or_else(|_| Err(ask::late()));
        match &said {
            Ok(_) => watched.succeeded(),
            Err(error) => watched.failed(error),
        }
        Call {
            said,
            began,
            took: begun.elapsed(),
        }
    }

    async fn book(
        &self,
        model: llm_model::Model,
        user: UserId,
        call: &Call,
    ) -> Result<(), CommandError> {
        let call = call.clone();
        self.log()
            .command(Within::Tenant(model.tenant_id), move |c| {
                Box::pin(async move {
                    let tenant = tenant::Entity::anywhere(SYSTEM)
                        .filter(tenant::Column::Id.eq(model.tenant_id))
                        .one(&**c.tx())
                        .await?;
                    let currency = tenant.map(|tenant| tenant.currency).unwrap_or_default();
                    let token = call.said.as_ref().ok();
                    let used = token.map(|token| token.usage).unwrap_or_default();
                    let row = model_call::Model {
                        id: c.clock().uuid(),
                        tenant_id: model.tenant_id,
                        run_id: RunId(Uuid::nil()),
                        step: 0,
                        attempt: 0,
                        model_id: model.id,
                        purpose: CallPurpose::Check,
                        usage: priced(&model, &currency, used),
                        is_estimate: token.is_some_and(|token| token.is_estimate),
                        outcome: match &call.said {
                            Ok(_) => FINISHED.into(),
                            Err(error) => health::outcome(error).into(),
                        },
                        latency_ms: token.and_then(|_| i32::try_from(call.took.as_millis()).ok()),
                        time_to_first_token_ms: None,
                        started_at: call.began,
                        finished_at: c.now(),
                    };
                    usage::check(c, user, row).await
                })
            })
            .await
    }
}

/// A call of one token that is over.
#[derive(Clone)]
struct Call {
    said: Result<Token, ModelError>,
    began: DateTime<Utc>,
    took: Duration,
}

/// What came of asking.
pub(super) struct Found {
    health: ModelHealthStatus,
    latency_ms: Option<i32>,
    message: Option<String>,
    /// Absent where no call was made.
    call: Option<Called>,
}

/// What came of a call.
enum Called {
    Answered {
        /// The breaker was open before.
        closes: bool,
    },
    Failed {
        /// It was to show whether the model does better.
        tries_anew: bool,
        is_its_fault: bool,
    },
}

impl Found {
    fn healthy(took: Duration) -> Self {
        Self {
            health: ModelHealthStatus::Healthy,
            latency_ms: Some(i32::try_from(took.as_millis()).unwrap_or(i32::MAX)),
            message: None,
            call: None,
        }
    }

    fn unhealthy(message: String) -> Self {
        Self {
            health: ModelHealthStatus::Unhealthy,
            latency_ms: None,
            message: Some(message),
            call: None,
        }
    }

    /// It could not even be asked.
    pub(super) fn unusable() -> Self {
        Self::unhealthy("the model's settings can't be used as they are stored".to_owned())
    }

    /// Closes the breaker by a call that was answered, or opens it by one that failed, as any call does. Whether that changed
    /// anything; `model` is the row as it is, locked.
    pub(super) async fn close_or_open(
        &self,
        c: &Command,
        model: &llm_model::Model,
    ) -> Result<bool, DbErr> {
        match self.call {
            Some(Called::Answered { closes: true }) => health::close(c, model.id).await,
            Some(Called::Failed {
                tries_anew,
                is_its_fault: true,
            }) => health::open_if_failing(c, model.id, tries_anew).await,
            _ => Ok(false),
        }
    }

    /// Notes it in a row.
    pub(super) fn onto(self, row: &mut llm_model::Model, now: DateTime<Utc>) {
        row.health = self.health;
        row.checked_at = Some(now);
        row.latency_ms = self.latency_ms;
        row.health_message = self.message;
    }
}

/// Whether it is still the same that is called.
pub(super) fn is_same(row: &llm_model::Model, checked: &llm_model::Model) -> bool {
    let called =
        |row: &llm_model::Model| (row.base_url.clone(), row.model_name.clone(), row.secret_id);
    called(row) == called(checked)
}

/// Stores what is known of a model's health, its breaker apart; its row is locked.
pub(super) async fn write(c: &Command, row: &llm_model::Model) -> Result<(), DbErr> {
    llm_model::Entity::change_anywhere(SYSTEM)
        .filter(llm_model::Column::Id.eq(row.id))
        .set(llm_model::ActiveModel {
            health: Set(row.health),
            checked_at: Set(row.checked_at),
            latency_ms: Set(row.latency_ms),
            health_message: Set(row.health_message.clone()),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    Ok(())
}
