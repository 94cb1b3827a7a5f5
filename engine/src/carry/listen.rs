//! Calling the model: what it says goes into the log piece by piece.

use std::{collections::HashMap, time::Duration};

use entities::{DbErr, Part, RunError, RunErrorKind, ToolCallId, ToolCallStatus, Usage, tool_call};
use events::Delta;
use futures_util::StreamExt;
use providers::{Answer, ChatEvent, Endpoint, ModelError, ModelErrorKind};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Hand, Stop, WITHOUT_PROGRESS, compact::Untold};
use crate::{
    event::{Body, ToolCallFacts},
    heard::Heard,
    models::health,
    reasons::internal,
    turns::Turn,
    watched::Call,
};

/// How a call ended.
enum End {
    Finished(Heard),
    Broken(Heard, ModelError),
    /// The model could not be told what it should answer.
    Untold(Untold),
}

impl Hand {
    /// Has the step said by the model in use, or by the next one that does not fail.
    pub(super) async fn listen(&mut self) -> Result<Heard, Stop> {
        self.tried.clear();
        loop {
            self.within_quota()?;
            let turn = self.choose().await?;
            let endpoint = {
                let model = &self.started.model;
                self.patiently(|| async {
                    let snapshot = self.snapshot();
                    match self.engine.endpoint(snapshot.tx().await?, model).await {
                        Ok(endpoint) => Ok(Some(endpoint)),
                        Err(DbErr::Custom(why)) => {
                            tracing::warn!(model = %model.id, why, "a model can't be called");
                            Ok(None)
                        }
                        Err(error) => Err(error),
                    }
                })
                .await?
            };
            let Some(endpoint) = endpoint else {
                self.unusable().await?;
                continue;
            };
            let heard = self.hear(endpoint).await?;
            drop(turn);
            match heard {
                End::Finished(heard) => return Ok(heard),
                End::Broken(heard, error) => self.broken(heard, error).await?,
                End::Untold(untold) => self.untold(untold).await?,
            }
        }
    }

    /// Waits until the model in use may be called once more, if it has a limit.
    pub(super) async fn wait_for_turn(&mut self) -> Result<Option<Turn>, Stop> {
        if self.started.model.max_concurrency.is_none() {
            return Ok(None);
        }
        let (closing, run) = (self.engine.closing().clone(), self.run());
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Stop::LetGo),
            // Nothing is lost: another process waits in its place.
            () = closing.cancelled() => Err(Stop::LetGo),
            fate = self.log.shut() => Err(events::Shut(fate).into()),
            turn = self.patiently(|| self.engine.turn(&self.started.model, run)) => turn,
            () = sleep(WITHOUT_PROGRESS) => Err(Stop::Fail(RunError {
                kind: RunErrorKind::ModelTimeout,
                message: "the run waited 30 minutes for its turn at the model".into(),
                detail: None,
                retryable: true,
            })),
        }
    }

    /// Calls the model and writes what it says, to the end of its answer or an error.
    async fn hear(&mut self, endpoint: Endpoint) -> Result<End, Stop> {
        let request = match self.tell(&endpoint, false).await? {
            Ok(request) => request,
            Err(untold) => return Ok(End::Untold(untold)),
        };
        // A summary may have used the rest.
        self.within_quota()?;
        let mut began = self.engine.clock().now();
        let mut clock = Instant::now();
        let chat = self.engine.providers().chat(endpoint.clone());
        let mut call = Call::of_step(endpoint.provider, self.run().steps);
        let mut stream = chat.stream(request).await;
        let mut refused = false;
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
                // Whatever the estimate says, it is too long: once more, with less.
                Some(Err(error))
                    if error.kind == ModelErrorKind::ContextTooLong
                        && heard.first.is_none()
                        && !refused =>
                {
                    refused = true;
                    call.failed(&error);
                    let booked = self.booked(
                        Usage::default(),
                        false,
                        health::outcome(&error).to_owned(),
                        began,
                        None,
                        None,
                    );
                    self.spend(booked, None).await?;
                    let request = match self.tell(&endpoint, true).await? {
                        Ok(request) => request,
                        Err(untold) => return Ok(End::Untold(untold)),
                    };
                    self.within_quota()?;
                    (began, clock) = (self.engine.clock().now(), Instant::now());
                    heard.began = began;
                    call = Call::of_step(endpoint.provider, self.run().steps);
                    stream = chat.stream(request).await;
                    continue;
                }
                Some(Err(error)) => {
                    call.failed(&error);
                    return Ok(End::Broken(heard, error));
                }
                None => {
                    return Err(Stop::Fail(internal(
                        "the model's stream ended without an end",
                    )));
                }
            };
            if heard.first.is_none() && !matches!(event, ChatEvent::Finished(_)) {
                call.heard();
                heard.first = Some((self.engine.clock().now(), clock.elapsed()));
            }
            if let ChatEvent::Finished(answer) = event {
                call.finished(&answer);
                heard.answer = answer;
                heard.took = clock.elapsed();
                // The end waits for the last word.
                self.log.flush().await?;
                return Ok(End::Finished(heard));
            }
            self.write(&mut heard, event).await?;
        }
    }

    pub(super) async fn write(&mut self, heard: &mut Heard, event: ChatEvent) -> Result<(), Stop> {
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
    pub(super) async fn begin_tool_call(
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
}
