//! What becomes of a step whose model fails: the next of the fallbacks says it, or the run fails.
//!
//! The failed call is booked, the next model chosen and what was shown taken back in one transaction, so that whoever takes the run
//! over at any moment goes on with the model that is written down, and nothing is shown twice.

use entities::{
    CommandError, ModelId, ModelKind, RunError, RunErrorKind, llm_model, message, model_call,
    model_fallback, query::*, run, tool_call,
};
use events::Command;
use providers::{ModelError, ModelErrorKind, TokenUsage};

use super::{Hand, Stop, compact::Untold};
use crate::{
    ask::Said,
    event::{Body, MessageFacts, RunFacts},
    heard::Heard,
    models::{
        context_window,
        health::{self, Gate, gate},
    },
    prices::{add, priced},
    reasons::run_error,
    start::SYSTEM,
    turns::Turn,
    usage,
};

/// What became of the models within a step.
#[derive(Debug, Clone, Default)]
pub(super) struct Tried {
    /// Those that failed, or may not be called.
    lost: Vec<ModelId>,
    /// Those that were passed over because their last check failed. They are called after all, where nobody else is left.
    passed: Vec<ModelId>,
    /// A provider was called.
    is_called: bool,
    /// One of them may be called again in a moment.
    rests: bool,
}

impl Tried {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A model is out because of its breaker, or of its settings.
    fn uncalled(&self, message: &str) -> Lost {
        let kind = if self.is_called {
            RunErrorKind::ModelError
        } else {
            RunErrorKind::NoModel
        };
        Lost {
            error: RunError {
                kind,
                message: message.into(),
                detail: None,
                retryable: self.rests,
            },
            call: None,
            is_its_fault: false,
            was_shown: false,
            others: Others::Any,
        }
    }
}

/// Why the model in use does not finish the step.
struct Lost {
    error: RunError,
    /// Absent where it was not called.
    call: Option<model_call::Model>,
    /// Whether it tells of the model's health.
    is_its_fault: bool,
    /// Something of its answer was shown.
    was_shown: bool,
    /// Which others may be tried.
    others: Others,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    Any,
    /// Those of which nothing bad is known.
    Well,
    /// Those that can be told more.
    Larger,
    /// They would refuse the same.
    None,
}

impl Others {
    fn after(error: &ModelError) -> Self {
        match error.kind {
            ModelErrorKind::ContextTooLong => Self::Larger,
            _ if health::is_of_the_request(error) => Self::None,
            _ => Self::Any,
        }
    }
}

impl Hand {
    /// Makes the model in use one that may be called, waiting for its turn where it has a limit. The answer is given up after the
    /// call.
    pub(super) async fn choose(&mut self) -> Result<Option<Turn>, Stop> {
        loop {
            if self.is_stale {
                self.look_up_model().await?;
            }
            self.is_stale = true;
            let now = self.engine.clock().now();
            if gate(&self.started.model, now) == Gate::Open {
                self.left_alone().await?;
                continue;
            }
            if health::is_unwell(&self.started.model, now) && self.pass_over().await? {
                continue;
            }
            let turn = self.wait_for_turn().await?;
            if turn.is_some() {
                // That may have taken long.
                self.look_up_model().await?;
            }
            self.tries_anew = false;
            match gate(&self.started.model, self.engine.clock().now()) {
                Gate::Closed => return Ok(turn),
                Gate::Open => {}
                Gate::Rested(since) => {
                    let model = (self.run().tenant_id, self.started.model.id);
                    self.tries_anew = self
                        .patiently(|| self.engine.try_anew(model, since))
                        .await?;
                    if self.tries_anew {
                        return Ok(turn);
                    }
                }
            }
            self.left_alone().await?;
        }
    }

    async fn look_up_model(&mut self) -> Result<(), Stop> {
        let id = self.started.model.id;
        let row = self
            .patiently(|| async {
                llm_model::Entity::anywhere(SYSTEM)
                    .filter(llm_model::Column::Id.eq(id))
                    .one(&**self.snapshot().tx().await?)
                    .await
            })
            .await?;
        if let Some(row) = row {
            self.started.model = row;
        }
        Ok(())
    }

    /// The provider refused or broke off. An error: no other model goes on.
    pub(super) async fn broken(&mut self, heard: Heard, error: ModelError) -> Result<(), Stop> {
        self.log.flush().await?;
        // Whoever said nothing charges nothing.
        let has_begun = heard.first.is_some();
        let used = if has_begun {
            self.estimated(Said::of_parts(&heard)).await?
        } else {
            TokenUsage::default()
        };
        let call = self.booked(
            priced(&self.started.model, &self.started.currency, used),
            has_begun,
            health::outcome(&error).to_owned(),
            heard.began,
            heard.first.map(|(_, ttft)| ttft),
            None,
        );
        let is_of_the_request = health::is_of_the_request(&error);
        let lost = Lost {
            error: run_error(&error),
            call: Some(call),
            is_its_fault: !is_of_the_request,
            was_shown: !heard.parts.is_empty(),
            others: Others::after(&error),
        };
        let fallen = self.fall_back(lost).await;
        if fallen.is_err() {
            // What it said stays.
            self.started.answer.parts.0.extend(heard.parts);
        }
        fallen
    }

    /// The model in use can't be told so much, or failed to make it shorter.
    pub(super) async fn untold(&mut self, untold: Untold) -> Result<(), Stop> {
        let Untold { error, call } = untold;
        self.fall_back(Lost {
            error: run_error(&error),
            is_its_fault: !health::is_of_the_request(&error),
            call,
            was_shown: false,
            others: Others::after(&error),
        })
        .await
    }

    /// The model in use can't even be called.
    pub(super) async fn unusable(&mut self) -> Result<(), Stop> {
        let lost = self
            .tried
            .uncalled("the model can't be called as it is configured");
        self.fall_back(lost).await
    }

    /// The breaker of the model in use is open.
    async fn left_alone(&mut self) -> Result<(), Stop> {
        self.tried.rests = true;
        let lost = self
            .tried
            .uncalled("the model failed too often just now, and is not called for a moment");
        self.fall_back(lost).await
    }

    /// The last check of the model in use failed: one of the fallbacks of which nothing bad is known is taken into use. `false`:
    /// there is none, and a check may be wrong.
    async fn pass_over(&mut self) -> Result<bool, Stop> {
        let (current, tried) = (self.started.model.clone(), self.tried.clone());
        let passed = current.id;
        if tried.passed.contains(&passed) {
            return Ok(false);
        }
        let done = self
            .command(move |c, mut run| {
                Box::pin(async move {
                    let next = next_of(c, &run, &current, &tried, Others::Well).await?;
                    let Some(next) = next else { return Ok(None) };
                    take_into_use(c, &mut run, &next).await?;
                    Ok(Some((run, next)))
                })
            })
            .await?;
        let Some((run, next)) = done else {
            return Ok(false);
        };
        self.tried.passed.push(passed);
        self.uses(run, next);
        Ok(true)
    }

    fn uses(&mut self, run: run::Model, next: llm_model::Model) {
        tracing::info!(run = %run.id, model = %next.id, "another model goes on");
        self.started.run = run;
        self.started.model = next;
        self.is_stale = false;
    }

    /// Takes the next of the fallbacks into use. An error: there is none, and the run has failed; or it is not this worker's any
    /// more.
    async fn fall_back(&mut self, lost: Lost) -> Result<(), Stop> {
        let current = self.started.model.clone();
        self.tried.lost.push(current.id);
        self.tried.is_called |= lost.call.is_some();
        let (tried, tries_anew) = (self.tried.clone(), self.tries_anew);
        let Lost {
            error,
            call,
            is_its_fault,
            was_shown,
            others,
        } = lost;
        let parts = self.started.answer.parts.clone();
        let reason = format!("{}: another model goes on", error.message);
        let done = self
            .command(move |c, mut run| {
                Box::pin(async move {
                    if let Some(call) = call {
                        add(&mut run.usage, &call.usage);
                        usage::call(c, &run, call).await?;
                        if is_its_fault {
                            health::failed(c, &current, tries_anew).await?;
                        }
                    }
                    let Some(next) = next_of(c, &run, &current, &tried, others).await? else {
                        // Here and now: whoever took the run over in between would book what it said once more.
                        super::failed(c, run, parts, error, true).await?;
                        return Ok(None);
                    };
                    if was_shown {
                        take_back(c, &run, reason).await?;
                    }
                    take_into_use(c, &mut run, &next).await?;
                    Ok(Some((run, next)))
                })
            })
            .await?;
        let Some((run, next)) = done else {
            self.outcome = "failed";
            return Err(Stop::LetGo);
        };
        self.uses(run, next);
        Ok(())
    }
}

/// The next that may be called, after the one in use, of the fallbacks of the model that the run was begun with; after the last of
/// them those that were passed over. Whoever may use an agent may use these with it, seen by him or not.
async fn next_of(
    c: &Command,
    run: &run::Model,
    current: &llm_model::Model,
    tried: &Tried,
    others: Others,
) -> Result<Option<llm_model::Model>, CommandError> {
    let Some(primary) = run.primary_model_id.or(run.model_id) else {
        return Ok(None);
    };
    if others == Others::None {
        return Ok(None);
    }
    let places: Vec<ModelId> = model_fallback::Entity::anywhere(SYSTEM)
        .filter(model_fallback::Column::ModelId.eq(primary))
        .order_by_asc(model_fallback::Column::Position)
        .all(&**c.tx())
        .await?
        .into_iter()
        .map(|place| place.fallback_id)
        .collect();
    if places.is_empty() {
        return Ok(None);
    }
    let mut rows = llm_model::Entity::anywhere(SYSTEM)
        .filter(llm_model::Column::TenantId.eq(run.tenant_id))
        .filter(llm_model::Column::Id.is_in(places.iter().chain(&tried.passed).copied()))
        .filter(llm_model::Column::DeletedAt.is_null())
        .filter(llm_model::Column::Kind.eq(ModelKind::Chat))
        .all(&**c.tx())
        .await?;
    let after = places.iter().position(|id| *id == current.id);
    let may = |row: &llm_model::Model| {
        let gate = gate(row, c.now());
        gate != Gate::Open
            && match others {
                Others::Any => true,
                Others::Well => gate == Gate::Closed && !health::is_unwell(row, c.now()),
                Others::Larger => context_window(row) > context_window(current),
                Others::None => false,
            }
    };
    let further = places.iter().skip(after.map_or(0, |at| at + 1));
    let next = further
        .filter(|id| !tried.passed.contains(id))
        .chain(&tried.passed)
        .find(|id| !tried.lost.contains(id) && rows.iter().any(|row| row.id == **id && may(row)));
    let row = next.and_then(|id| rows.iter().position(|row| row.id == *id));
    Ok(row.map(|at| rows.swap_remove(at)))
}

/// What the step had said is said again.
async fn take_back(c: &mut Command, run: &run::Model, reason: String) -> Result<(), CommandError> {
    tool_call::Entity::delete_anywhere(SYSTEM)
        .filter(tool_call::Column::RunId.eq(run.id))
        .filter(tool_call::Column::Step.gte(run.steps))
        .exec(&**c.tx())
        .await?;
    let answer = super::finish::answer_of(c, run).await?;
    c.append(
        run.conversation_id.0,
        Some((run.id, run.attempt)),
        Body::StepRestarted {
            step: run.steps,
            reason,
            message: answer.id,
            from_part: u32::try_from(answer.parts.0.len()).unwrap_or(u32::MAX),
        }
        .draft(),
    );
    Ok(())
}

/// Run and answer name the model that is in use from now on.
async fn take_into_use(
    c: &mut Command,
    run: &mut run::Model,
    next: &llm_model::Model,
) -> Result<(), CommandError> {
    run.model_id = Some(next.id);
    run::Entity::change_anywhere(SYSTEM)
        .filter(run::Column::Id.eq(run.id))
        .set(run::ActiveModel {
            usage: Set(run.usage.clone()),
            model_id: Set(run.model_id),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    let mut answer = super::finish::answer_of(c, run).await?;
    answer.model_id = run.model_id;
    answer.updated_at = c.now();
    message::Entity::change_anywhere(SYSTEM)
        .filter(message::Column::Id.eq(answer.id))
        .set(message::ActiveModel {
            model_id: Set(answer.model_id),
            updated_at: Set(answer.updated_at),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    let whose = Some((run.id, run.attempt));
    let updated = Body::RunUpdated(RunFacts::of(run)).draft();
    c.append(run.conversation_id.0, whose, updated);
    // Nothing that was said since the last step is left of it.
    let mut facts = MessageFacts::of(&answer);
    facts.parts = Some(answer.parts);
    let updated = Body::MessageUpdated(facts).draft();
    c.append(run.conversation_id.0, whose, updated);
    Ok(())
}
