//! Checkpoint 1: a model's whole answer, with its tool calls and what it cost.

use std::time::Duration;

use chrono::{DateTime, Utc};
use entities::{
    CallPurpose, CommandError, MessageStatus, Parts, ToolCallId, Usage, message, model_call,
    query::*, run, run_step, tool_call,
};
use events::Command;
use providers::TokenUsage;

use super::{Hand, Stop};
use crate::{
    ask::Said,
    context::Told,
    end::{self, Ending},
    event::{Body, StepFacts},
    heard::Heard,
    models::{counter, health},
    prices::{add, priced},
    reasons::{internal, too_many_steps},
    start::SYSTEM,
    usage,
};

impl Hand {
    /// Checkpoint 1: the answer, with its tool calls; or, where it has none, the end.
    pub(super) async fn finish_step(&mut self, heard: Heard) -> Result<bool, Stop> {
        let concluded = self.run().steps >= self.started.spec.max_steps;
        let has_calls = !heard.answer.tool_calls.is_empty();
        let used = match heard.answer.usage {
            Some(used) => used,
            None => self.estimated(Said::of(&heard.answer)).await?,
        };
        let usage = priced(&self.started.model, &self.started.currency, used);
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
        let (model, tries_anew) = (self.started.model.clone(), self.tries_anew);
        let row = self
            .command(move |c, mut run| {
                Box::pin(async move {
                    let stream = run.conversation_id.0;
                    let by = Some((run.id, run.attempt));
                    c.append(stream, by, Body::StepFinished(StepFacts::of(&step)).draft());
                    run_step::Entity::add(&**c.tx(), step).await?;
                    usage::call(c, &run, call).await?;
                    health::answered(c, &model, tries_anew).await?;
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
        let Some(run) = row else {
            self.outcome = if has_calls { "failed" } else { "completed" };
            add(&mut self.started.run.usage, &usage);
            self.started.run.steps += 1;
            self.engine.wake_titles();
            return Ok(false);
        };
        self.started.run = run;
        self.started.answer.parts = next_parts;
        Ok(true)
    }

    /// What this step's call took whose provider does not say: by what was said, and by what the model was told, which is read
    /// once more, as no call keeps it.
    pub(super) async fn estimated(&self, said: Said) -> Result<TokenUsage, Stop> {
        let (run, spec, model) = (self.run(), &self.started.spec, &self.started.model);
        let told = self
            .patiently(|| async { Told::read(&self.snapshot(), run, spec, model).await })
            .await?;
        Ok(self
            .engine
            .estimate(counter(model), told.request, said)
            .await)
    }

    pub(super) fn booked(
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
            purpose: CallPurpose::Answer,
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

pub(super) async fn answer_of(
    c: &Command,
    run: &run::Model,
) -> Result<message::Model, CommandError> {
    let row = message::Entity::anywhere(SYSTEM)
        .filter(message::Column::Id.eq(run.output_message_id))
        .one(&**c.tx())
        .await?;
    row.ok_or_else(|| CommandError::Internal(format!("{} has no answer", run.id)))
}

/// Writes down what is finished, so that whoever goes on goes on from here.
pub(super) async fn checkpoint(
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

pub(super) fn millis(duration: Duration) -> Option<i32> {
    i32::try_from(duration.as_millis()).ok()
}
