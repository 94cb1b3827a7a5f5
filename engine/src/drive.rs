//! Carrying a run: call the model, streaming into the log; checkpoint; carry out the tool calls; again, until it answers without
//! any. Everything that is written is fenced: a worker that lost its run notices when it writes.

use std::{collections::HashMap, time::Duration};

use adapters::clock::BootInstant;
use chrono::{DateTime, Utc};
use entities::{
    CommandError, DbErr, MessageStatus, Part, Parts, RunError, RunErrorKind, RunStatus, ToolCallId,
    ToolCallStatus, Usage, message, model_call, query::*, run, run_step, tool_call,
};
use events::{Command, Delta, Fate, RunLog};
use futures_util::StreamExt;
use providers::{Answer, ChatEvent, ModelError, TokenUsage};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    Engine, context,
    end::{self, Ending},
    event::{Body, StepFacts, ToolCallFacts},
    heard::Heard,
    prices::{add, priced},
    reasons::{internal, refusal, run_error, too_many_steps},
    start::{SYSTEM, Started},
};

/// How long a run may go without any progress, and in all.
const WITHOUT_PROGRESS: Duration = Duration::from_secs(30 * 60);
const IN_ALL: chrono::TimeDelta = chrono::TimeDelta::hours(24);
/// How often a statement is tried again while the database is away; then the run is left to its lease.
const TRIES: u32 = 8;

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
        };
        self.log().tasks().spawn("carrying a run", async move {
            hand.carry().await;
            drop(held);
        });
    }
}

impl Hand {
    async fn carry(mut self) {
        let stop = loop {
            match self.step().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(stop) => break stop,
            }
        };
        if let Stop::Fail(error) = stop
            && let Err(error) = self.fail(error).await
        {
            tracing::warn!(run = %self.started.run.id, error = &error as &dyn std::error::Error, "failed to end a run; its lease will lapse");
        }
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
        if self.engine.clock().now() - self.run().created_at > IN_ALL
            && self
                .run()
                .started_at
                .is_some_and(|at| self.engine.clock().now() - at > IN_ALL)
        {
            return Err(Stop::Fail(RunError {
                kind: RunErrorKind::Interrupted,
                message: "the run took longer than 24 hours".into(),
                detail: None,
                retryable: true,
            }));
        }
        self.allowed().await?;
        if self.tools().await? {
            return Ok(true);
        }
        let heard = self.listen().await?;
        self.finish_step(heard).await
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

    /// Calls the model and writes what it says, to the end of its answer.
    async fn listen(&mut self) -> Result<Heard, Stop> {
        let run = self.run();
        let request = {
            let (run, spec, model) = (run, &self.started.spec, &self.started.model);
            self.patiently(|| async {
                context::request(&self.engine.log().snapshot(), run, spec, model).await
            })
            .await?
        };
        let endpoint = {
            let model = &self.started.model;
            self.patiently(|| async {
                let snapshot = self.engine.log().snapshot();
                self.engine.endpoint(snapshot.tx().await?, model).await
            })
            .await?
        };
        let began = self.engine.clock().now();
        let clock = Instant::now();
        let mut stream = self.engine.providers().chat(endpoint).stream(request).await;
        let base = u32::try_from(self.started.answer.parts.0.len()).unwrap_or(u32::MAX);
        let mut heard = Heard {
            began,
            first: None,
            took: Duration::ZERO,
            parts: Vec::new(),
            last: 0,
            base,
            calls: HashMap::new(),
            answer: Answer::default(),
        };
        loop {
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Stop::LetGo),
                fate = self.log.shut() => return Err(events::Shut(fate).into()),
                next = stream.next() => next,
                () = sleep_until(Instant::now() + WITHOUT_PROGRESS) => return Err(Stop::Fail(RunError {
                    kind: RunErrorKind::ModelTimeout,
                    message: "the run made no progress for 30 minutes".into(),
                    detail: None,
                    retryable: true,
                })),
            };
            let event = match next {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Err(self.broken(heard, error).await),
                None => {
                    return Err(Stop::Fail(internal(
                        "the model's stream ended without an end",
                    )));
                }
            };
            if heard.first.is_none() && !matches!(event, ChatEvent::Finished(_)) {
                heard.first = Some((self.engine.clock().now(), clock.elapsed()));
            }
            if let ChatEvent::Finished(answer) = event {
                heard.answer = answer;
                heard.took = clock.elapsed();
                // The end waits for the last word.
                self.log.flush().await?;
                return Ok(heard);
            }
            self.write(&mut heard, event).await?;
        }
    }

    async fn write(&mut self, heard: &mut Heard, event: ChatEvent) -> Result<(), Stop> {
        let of = self.started.answer.id.0;
        let body = match event {
            ChatEvent::Text(text) => {
                let (part, offset) = heard.grow(&text, true);
                Body::TextDelta(Delta::new(of, part, offset, text))
            }
            ChatEvent::Reasoning(text) => {
                let (part, offset) = heard.grow(&text, false);
                Body::ReasoningDelta(Delta::new(of, part, offset, text))
            }
            ChatEvent::ToolCall { index, id, name } => {
                return self.begin_tool_call(heard, index, id, name).await;
            }
            ChatEvent::ToolArguments { index, text } => {
                let Some((id, offset)) = heard.calls.get_mut(&index) else {
                    return Ok(());
                };
                let delta = Delta::new(id.0, 0, *offset, text);
                *offset = delta.end();
                Body::ArgumentsDelta(delta)
            }
            ChatEvent::Finished(_) => return Ok(()),
        };
        let draft = body.draft();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Stop::LetGo),
            pushed = self.log.push(draft.kind, draft.payload) => Ok(pushed?),
        }
    }

    /// The call has its row as soon as it shows.
    async fn begin_tool_call(
        &mut self,
        heard: &mut Heard,
        index: u32,
        call_id: String,
        name: String,
    ) -> Result<(), Stop> {
        self.log.flush().await?;
        let id = ToolCallId(self.engine.clock().uuid());
        let part = heard.base + u32::try_from(heard.parts.len()).unwrap_or(u32::MAX);
        heard.parts.push(Part::ToolCall { id });
        heard.calls.insert(index, (id, 0));
        let position = i32::try_from(index).unwrap_or(i32::MAX);
        let message = self.started.answer.id;
        self.command(move |c, run| {
            Box::pin(async move {
                let row = tool_call::Model {
                    id,
                    tenant_id: run.tenant_id,
                    run_id: run.id,
                    step: run.steps,
                    position,
                    call_id,
                    name,
                    arguments: None,
                    arguments_text: String::new(),
                    result: None,
                    error_message: None,
                    status: ToolCallStatus::Pending,
                    started_at: None,
                    finished_at: None,
                };
                let body = Body::ToolCallStarted {
                    message,
                    part,
                    call: ToolCallFacts::of(&row),
                };
                c.append(
                    run.conversation_id.0,
                    Some((run.id, run.attempt)),
                    body.draft(),
                );
                tool_call::Entity::add(&**c.tx(), row).await?;
                Ok(())
            })
        })
        .await
    }

    /// The provider refused or broke off: what it said stays, the run fails.
    async fn broken(&mut self, heard: Heard, error: ModelError) -> Stop {
        if let Err(shut) = self.log.flush().await {
            return shut.into();
        }
        let said = heard.letters();
        self.started.answer.parts.0.extend(heard.parts);
        let outcome = format!("{:?}", error.kind);
        let outcome = outcome
            .split([' ', '('])
            .next()
            .unwrap_or_default()
            .to_owned();
        let usage = priced(
            &self.started.model,
            &self.started.currency,
            TokenUsage {
                output: said.div_ceil(4) as u64,
                ..TokenUsage::default()
            },
        );
        let call = self.booked(
            usage,
            said > 0,
            outcome,
            heard.began,
            heard.first.map(|(_, ttft)| ttft),
            None,
        );
        if let Err(stop) = self
            .command(move |c, run| {
                Box::pin(async move {
                    let mut usage = run.usage;
                    add(&mut usage, &call.usage);
                    model_call::Entity::add(&**c.tx(), call).await?;
                    run::Entity::change_anywhere(SYSTEM)
                        .filter(run::Column::Id.eq(run.id))
                        .set(run::ActiveModel {
                            usage: Set(usage),
                            ..Default::default()
                        })
                        .exec(&**c.tx())
                        .await?;
                    Ok(())
                })
            })
            .await
        {
            return stop;
        }
        Stop::Fail(run_error(&error))
    }

    /// Checkpoint 1: the answer, with its tool calls; or, where it has none, the end.
    async fn finish_step(&mut self, heard: Heard) -> Result<bool, Stop> {
        let concluded = self.run().steps >= self.started.spec.max_steps;
        let has_calls = !heard.answer.tool_calls.is_empty();
        let usage = priced(
            &self.started.model,
            &self.started.currency,
            heard.answer.usage.unwrap_or_else(|| TokenUsage {
                output: heard.letters().div_ceil(4) as u64,
                ..TokenUsage::default()
            }),
        );
        let first = heard.first.map(|(_, ttft)| ttft);
        let call = self.booked(
            usage.clone(),
            heard.answer.usage.is_none(),
            "finished".into(),
            heard.began,
            first,
            Some(heard.took),
        );
        let now = self.engine.clock().now();
        let step = run_step::Model {
            tenant_id: self.run().tenant_id,
            run_id: self.run().id,
            number: self.run().steps,
            model_id: self.run().model_id,
            answer: serde_json::to_value(&heard.answer)
                .map_err(|_| Stop::Fail(internal("an answer could not be stored")))?,
            usage: usage.clone(),
            latency_ms: millis(heard.took),
            time_to_first_token_ms: first.and_then(millis),
            finish_reason: Some(heard.answer.finish_reason.clone()),
            started_at: heard.began,
            finished_at: Some(now),
        };
        let mut parts = self.started.answer.parts.clone();
        parts.0.extend(heard.parts.iter().cloned());
        let calls: Vec<(ToolCallId, String)> = (0..)
            .zip(&heard.answer.tool_calls)
            .filter_map(|(index, call)| Some((heard.calls.get(&index)?.0, call.arguments.clone())))
            .collect();
        let first_at = heard.first.map(|(at, _)| at);
        let next_parts = parts.clone();
        let added = usage.clone();
        let row = self
            .command(move |c, mut run| {
                Box::pin(async move {
                    let stream = run.conversation_id.0;
                    let by = Some((run.id, run.attempt));
                    c.append(stream, by, Body::StepFinished(StepFacts::of(&step)).draft());
                    run_step::Entity::add(&**c.tx(), step).await?;
                    model_call::Entity::add(&**c.tx(), call).await?;
                    run.steps += 1;
                    run.losses_in_step = 0;
                    run.first_token_at = run.first_token_at.or(first_at);
                    add(&mut run.usage, &added);
                    if !has_calls || concluded {
                        let answer = answer_of(c, &run).await?;
                        let ending = if has_calls {
                            Ending {
                                parts: Some(parts),
                                ..Ending::failed(too_many_steps())
                            }
                        } else {
                            Ending::completed(parts)
                        };
                        end::end(c, run.clone(), answer, ending).await?;
                        return Ok(None);
                    }
                    for (id, arguments) in calls {
                        let parsed = serde_json::from_str::<serde_json::Value>(&arguments).ok();
                        tool_call::Entity::change_anywhere(SYSTEM)
                            .filter(tool_call::Column::Id.eq(id))
                            .set(tool_call::ActiveModel {
                                arguments: Set(parsed),
                                arguments_text: Set(arguments),
                                ..Default::default()
                            })
                            .exec(&**c.tx())
                            .await?;
                    }
                    checkpoint(c, &mut run, parts).await?;
                    Ok(Some(run))
                })
            })
            .await?;
        let Some(run) = row else { return Ok(false) };
        self.started.run = run;
        self.started.answer.parts = next_parts;
        Ok(true)
    }

    /// Carries out the calls that the last step asked for; `false`: there are none. There are no tools yet, so that the answer to
    /// each is an error for the model to mend, and the step after it is a step like any other.
    async fn tools(&mut self) -> Result<bool, Stop> {
        if self.run().steps == 0 {
            return Ok(false);
        }
        let id = self.run().id;
        let last = self.run().steps - 1;
        let open = self
            .patiently(|| async {
                let snapshot = self.engine.log().snapshot();
                tool_call::Entity::anywhere(SYSTEM)
                    .filter(tool_call::Column::RunId.eq(id))
                    .filter(tool_call::Column::Step.eq(last))
                    .filter(tool_call::Column::Status.eq(ToolCallStatus::Pending))
                    .order_by_asc(tool_call::Column::Position)
                    .all(&**snapshot.tx().await?)
                    .await
            })
            .await?;
        if open.is_empty() {
            return Ok(false);
        }
        let parts = self.started.answer.parts.clone();
        let run = self
            .command(move |c, mut run| {
                Box::pin(async move {
                    let (stream, by) = (run.conversation_id.0, Some((run.id, run.attempt)));
                    for mut call in open {
                        call.status = ToolCallStatus::Failed;
                        call.error_message = Some(refusal(&call));
                        call.started_at = Some(c.now());
                        call.finished_at = Some(c.now());
                        tool_call::Entity::change_anywhere(SYSTEM)
                            .filter(tool_call::Column::Id.eq(call.id))
                            .set(tool_call::ActiveModel {
                                status: Set(call.status),
                                error_message: Set(call.error_message.clone()),
                                started_at: Set(call.started_at),
                                finished_at: Set(call.finished_at),
                                ..Default::default()
                            })
                            .exec(&**c.tx())
                            .await?;
                        c.append(
                            stream,
                            by,
                            Body::ToolCallFinished(ToolCallFacts::of(&call)).draft(),
                        );
                    }
                    c.append(stream, by, Body::StepStarted { step: run.steps }.draft());
                    checkpoint(c, &mut run, parts).await?;
                    Ok(run)
                })
            })
            .await?;
        self.started.run = run;
        Ok(true)
    }

    /// Ends the run as failed, with what it said so far.
    async fn fail(&mut self, error: RunError) -> Result<(), CommandError> {
        let parts = self.started.answer.parts.clone();
        let done = self
            .command(move |c, run| {
                Box::pin(async move {
                    let answer = answer_of(c, &run).await?;
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
                })
            })
            .await;
        match done {
            Ok(()) | Err(Stop::LetGo) => Ok(()),
            Err(Stop::Fail(error)) => Err(CommandError::Internal(error.message)),
        }
    }

    /// A command on the run, if it is still this worker's: read under the stream's lock.
    async fn command<T: Send + 'static>(
        &mut self,
        work: impl for<'c> FnOnce(&'c mut Command, run::Model) -> events::Work<'c, T, CommandError>
        + Send
        + 'static,
    ) -> Result<T, Stop> {
        let (tenant, stream, id, attempt) = (
            self.run().tenant_id,
            self.run().conversation_id.0,
            self.run().id,
            self.run().attempt,
        );
        if self.stop.is_cancelled() {
            return Err(Stop::LetGo);
        }
        let done = self
            .engine
            .log()
            .command(move |c| {
                Box::pin(async move {
                    if c.lock(tenant, stream).await?.is_none() {
                        return Ok(None);
                    }
                    let run = run::Entity::anywhere(SYSTEM)
                        .filter(run::Column::Id.eq(id))
                        .one(&**c.tx())
                        .await?;
                    match run {
                        Some(run) if run.status == RunStatus::Running && run.attempt == attempt => {
                            work(c, run).await.map(Some)
                        }
                        _ => Ok(None),
                    }
                })
            })
            .await;
        match done {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(Stop::LetGo),
            Err(CommandError::Database(error))
                if entities::db::failure(&error) == entities::db::Failure::Transient =>
            {
                // Whether it was done is unknown: the next worker finds out from what is stored.
                tracing::warn!(run = %id, error = &error as &dyn std::error::Error, "a run's checkpoint failed; its lease will lapse");
                Err(Stop::LetGo)
            }
            Err(error) => {
                tracing::error!(run = %id, error = &error as &dyn std::error::Error, "a run's checkpoint failed");
                Err(Stop::Fail(internal("the run could not be stored")))
            }
        }
    }

    /// Reads, again and again while the database is away.
    async fn patiently<T, F: Future<Output = Result<T, DbErr>>>(
        &self,
        read: impl Fn() -> F,
    ) -> Result<T, Stop> {
        let mut pause = Duration::from_millis(50);
        for _ in 0..TRIES {
            match read().await {
                Ok(value) => return Ok(value),
                Err(error) if entities::db::failure(&error) == entities::db::Failure::Transient => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "a run waits for the database"
                    );
                    tokio::select! {
                        () = self.stop.cancelled() => return Err(Stop::LetGo),
                        () = sleep(pause) => pause *= 2,
                    }
                }
                Err(error) => {
                    tracing::error!(run = %self.run().id, error = &error as &dyn std::error::Error, "a run could not be read");
                    return Err(Stop::Fail(internal("the run could not be read")));
                }
            }
        }
        Err(Stop::LetGo)
    }

    fn booked(
        &self,
        usage: Usage,
        is_estimate: bool,
        outcome: String,
        began: DateTime<Utc>,
        first: Option<Duration>,
        took: Option<Duration>,
    ) -> model_call::Model {
        let run = self.run();
        model_call::Model {
            id: self.engine.clock().uuid(),
            tenant_id: run.tenant_id,
            run_id: run.id,
            step: run.steps,
            attempt: run.attempt,
            model_id: self.started.model.id,
            usage,
            is_estimate,
            outcome,
            latency_ms: took.and_then(millis),
            time_to_first_token_ms: first.and_then(millis),
            started_at: began,
            finished_at: self.engine.clock().now(),
        }
    }
}

async fn answer_of(c: &Command, run: &run::Model) -> Result<message::Model, CommandError> {
    let row = message::Entity::anywhere(SYSTEM)
        .filter(message::Column::Id.eq(run.output_message_id))
        .one(&**c.tx())
        .await?;
    row.ok_or_else(|| CommandError::Internal(format!("{} has no answer", run.id)))
}

/// Writes down what is finished, so that whoever goes on goes on from here.
async fn checkpoint(
    c: &mut Command,
    run: &mut run::Model,
    parts: Parts,
) -> Result<(), CommandError> {
    let parts_seq = c.head(run.conversation_id.0);
    run.progress_at = Some(c.now());
    run::Entity::change_anywhere(SYSTEM)
        .filter(run::Column::Id.eq(run.id))
        .set(run::ActiveModel {
            steps: Set(run.steps),
            losses_in_step: Set(run.losses_in_step),
            usage: Set(run.usage.clone()),
            first_token_at: Set(run.first_token_at),
            progress_at: Set(run.progress_at),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    message::Entity::change_anywhere(SYSTEM)
        .filter(message::Column::Id.eq(run.output_message_id))
        .filter(message::Column::Status.eq(MessageStatus::Streaming))
        .set(message::ActiveModel {
            parts: Set(parts),
            parts_seq: Set(parts_seq),
            updated_at: Set(c.now()),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    Ok(())
}

fn millis(duration: Duration) -> Option<i32> {
    i32::try_from(duration.as_millis()).ok()
}
