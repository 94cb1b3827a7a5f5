//! Carrying a run: call the model, streaming into the log; checkpoint; carry out the tool calls; again, until it answers without
//! any. Everything that is written is fenced: a worker that lost its run notices when it writes.

mod compact;
mod failover;
mod finish;
mod hold;
mod listen;
mod tools;

use std::time::Duration;

use adapters::{clock::BootInstant, meter, spans};
use entities::{CommandError, Parts, RunError, RunErrorKind, run};
use events::{Command, Fate, RunLog};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::{
    Engine, cancel,
    end::{self, Ending},
    reasons::internal,
    start::Started,
};

/// How long a run may go without any progress, and in all.
const WITHOUT_PROGRESS: Duration = Duration::from_secs(30 * 60);
const IN_ALL: Duration = Duration::from_secs(24 * 3600);
/// How often it is looked at the clock for that: a timer stands still while the machine sleeps.
const LOOK: Duration = Duration::from_secs(60);

/// Why a worker lets go of a run.
enum Stop {
    /// It is over, or somebody else's, or this process must not go on with it: nothing more to do here.
    LetGo,
    /// It fails, for this reason.
    Fail(RunError),
}

impl From<events::Shut> for Stop {
    fn from(shut: events::Shut) -> Self {
        match shut.0 {
            Fate::Failed => Self::Fail(internal("what the model said could not be stored")),
            Fate::Open | Fate::Fenced | Fate::Gone => Self::LetGo,
        }
    }
}

/// A run in the hands of this process.
struct Hand {
    engine: Engine,
    started: Started,
    log: RunLog,
    stop: CancellationToken,
    /// The model's row may have changed since it was read.
    is_stale: bool,
    /// This call is to show whether the model does better.
    tries_anew: bool,
    /// What became of the models within this step.
    tried: failover::Tried,
    /// What this worker knows of the run's end.
    outcome: &'static str,
    /// For traces: the step that it is in.
    in_step: Option<(i32, Span)>,
}

impl Engine {
    /// Carries a run that was just taken up, in a task of its own. `since`: before the claim was sent.
    pub(crate) fn take_up(&self, started: Started, since: BootInstant) {
        let run = &started.run;
        let (id, attempt) = (run.id, run.attempt);
        let stop = CancellationToken::new();
        let log = self.log().open(
            run.tenant_id,
            run.conversation_id.0,
            (id, attempt),
            started.fence,
            started.head,
        );
        let held = self.hold(id, attempt, stop.clone(), since);
        let hand = Hand {
            engine: self.clone(),
            started,
            log,
            stop,
            is_stale: false,
            tries_anew: false,
            tried: failover::Tried::default(),
            outcome: "let_go",
            in_step: None,
        };
        meter::run_taken_up();
        // Not within the span of whoever asked for it: that one ends long before.
        let span = spans::run(id, attempt, self.origins().take(id).as_ref());
        let tasks = self.log().tasks();
        span.in_scope(|| {
            tasks.spawn("carrying a run", async move {
                hand.carry().await;
                drop(held);
            })
        });
    }
}

impl Hand {
    async fn carry(mut self) {
        let stop = loop {
            match self.step().await {
                Ok(true) => {}
                Ok(false) => break Stop::LetGo,
                Err(stop) => break stop,
            }
        };
        if let Stop::Fail(error) = stop {
            self.outcome = "failed";
            if let Err(error) = self.fail(error).await {
                tracing::warn!(run = %self.started.run.id, error = &error as &dyn std::error::Error, "failed to end a run; its lease will lapse");
            }
        }
        self.tell_of_end();
    }

    /// For traces: how it went, as far as this worker knows.
    fn tell_of_end(&self) {
        let (span, run) = (Span::current(), self.run());
        spans::set(&span, "weft.steps", i64::from(run.steps));
        spans::set(&span, "gen_ai.usage.input_tokens", run.usage.input);
        spans::set(&span, "gen_ai.usage.output_tokens", run.usage.output);
        spans::outcome(&span, self.outcome, self.outcome == "failed");
    }

    fn run(&self) -> &run::Model {
        &self.started.run
    }

    /// One step, or what is left of it; whether another one follows.
    async fn step(&mut self) -> Result<bool, Stop> {
        if self.engine.closing().is_cancelled() {
            // Between steps nothing is lost: the leases are given back, and another process goes on.
            return Err(Stop::LetGo);
        }
        if self.left().is_zero() {
            return Err(too_long());
        }
        self.within_quota()?;
        self.allowed().await?;
        if self.tools().await? {
            return Ok(true);
        }
        let over = self.over();
        let span = self.span_of(self.run().steps);
        let heard = tokio::select! {
            biased;
            heard = self.listen().instrument(span.clone()) => heard?,
            // What it was at is given up where it waits: commands under way come to their end in tasks of their own, and the end of
            // the run comes after them, by the stream's lock.
            () = over => return Err(too_long()),
        };
        self.finish_step(heard).instrument(span).await
    }

    /// The span of a step, which lasts until there is one of another.
    fn span_of(&mut self, step: i32) -> Span {
        match &self.in_step {
            Some((of, span)) if *of == step => span.clone(),
            _ => {
                let span = spans::step(step);
                self.in_step = Some((step, span.clone()));
                span
            }
        }
    }

    /// How much of its time the run has left.
    fn left(&self) -> Duration {
        left(&self.engine, self.run())
    }

    /// Resolves once it has none: one timer for the whole step, whatever is said in it.
    fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        let (engine, run) = (self.engine.clone(), self.run().clone());
        async move {
            loop {
                let left = left(&engine, &run);
                if left.is_zero() {
                    return;
                }
                sleep(left.min(LOOK)).await;
            }
        }
    }

    /// Before a call of a model: whether the run may use more tokens than it has.
    fn within_quota(&self) -> Result<(), Stop> {
        let most = self.engine.options().max_run_tokens;
        let used = self
            .run()
            .usage
            .input
            .saturating_add(self.run().usage.output);
        if used <= most {
            return Ok(());
        }
        Err(Stop::Fail(RunError {
            kind: RunErrorKind::QuotaExceeded,
            message: format!("the run used {used} tokens, and may use {most}"),
            detail: None,
            retryable: false,
        }))
    }

    /// A run acts for who asked for it, with the rights that are left of those he had then.
    async fn allowed(&self) -> Result<(), Stop> {
        let run = self.run();
        let scope = self
            .patiently(|| {
                self.engine.authority().scope_of_run(
                    run.tenant_id,
                    run.user_id,
                    run.api_key_id,
                    run.permissions,
                )
            })
            .await?
            .filter(|scope| {
                scope.may(entities::Permission::ConversationsUse)
                    && scope.may(entities::Permission::AgentsUse)
            });
        if scope.is_some() {
            return Ok(());
        }
        Err(Stop::Fail(RunError {
            kind: RunErrorKind::Forbidden,
            message: "whoever asked for this run may not any more".into(),
            detail: None,
            retryable: false,
        }))
    }

    /// Ends the run as failed, with what it said so far.
    async fn fail(&mut self, error: RunError) -> Result<(), CommandError> {
        let parts = self.started.answer.parts.clone();
        let done = self
            .command(move |c, run| Box::pin(failed(c, run, parts, error, false)))
            .await;
        match done {
            Ok(()) | Err(Stop::LetGo) => Ok(()),
            Err(Stop::Fail(error)) => Err(CommandError::Internal(error.message)),
        }
    }
}

fn left(engine: &Engine, run: &run::Model) -> Duration {
    let Some(started_at) = run.started_at else {
        return IN_ALL;
    };
    // A clock that was set back makes it no shorter.
    let took = (engine.clock().now() - started_at).to_std();
    IN_ALL.saturating_sub(took.unwrap_or_default())
}

fn too_long() -> Stop {
    Stop::Fail(RunError {
        kind: RunErrorKind::Interrupted,
        message: "the run took longer than 24 hours".into(),
        detail: None,
        retryable: true,
    })
}

/// Ends a run as failed, with what it said so far: `parts`, or what the log has beyond them. A call that was broken off is booked
/// from that, unless it is already.
async fn failed(
    c: &mut Command,
    mut run: run::Model,
    parts: Parts,
    error: RunError,
    is_booked: bool,
) -> Result<(), CommandError> {
    let answer = finish::answer_of(c, &run).await?;
    // What the log has of a step that did not come to its end is longer than what a checkpoint has.
    let live = crate::live::of(c.tx(), std::slice::from_ref(&answer))
        .await?
        .remove(&answer.id)
        .unwrap_or_default();
    let parts = if live.0.len() >= parts.0.len() {
        live
    } else {
        parts
    };
    if !is_booked {
        cancel::book_estimate(c, &mut run, &answer, &parts, "interrupted").await?;
    }
    end::end(
        c,
        run,
        answer,
        Ending {
            parts: Some(parts),
            ..Ending::failed(error)
        },
    )
    .await
}
