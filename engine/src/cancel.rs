//! Cancelling: whoever asks ends the run himself, whatever its worker is doing or whether there is one.

use chrono::{DateTime, Utc};
use entities::{
    Access, CallPurpose, CommandError, Parts, Refusal, RunId, RunStatus, Scope, llm_model, message,
    model_call, query::*, run, tenant,
};
use events::Command;
use providers::TokenUsage;

use crate::{
    Engine,
    conversations::{self, may},
    end::{self, Ending},
    event::Body,
    prices::{add, priced},
    start::SYSTEM,
    undo::{self, Gone},
    usage,
};

impl Engine {
    /// Ends a run, from any state, with what it said so far. One that is over already stays as it is.
    ///
    /// # Errors
    /// FORBIDDEN without the right to use conversations; a refusal where there is no such run.
    pub async fn cancel_run(&self, scope: &Scope, id: RunId) -> Result<RunId, CommandError> {
        may(scope)?;
        let scope = scope.clone();
        self.command(scope.tenant(), move |c| {
            Box::pin(async move {
                let not_found = || Refusal::not_found(&["input", "id"], id);
                let seen = run::Entity::seen(&scope).filter(run::Column::Id.eq(id));
                let stream = seen
                    .clone()
                    .one(&**c.tx())
                    .await?
                    .ok_or_else(not_found)?
                    .conversation_id;
                let path = &["input", "id"];
                conversations::find_locked(c, &scope, stream, Access::Edit, path)
                    .await?
                    .ok_or_else(not_found)?;
                // Again, now that nobody can change it.
                let run = seen.one(&**c.tx()).await?.ok_or_else(not_found)?;
                if !run.status.is_terminal() {
                    cancel(c, run).await?;
                }
                Ok(id)
            })
        })
        .await
    }
}

/// Ends an open run as CANCELLED; the stream is locked.
pub(crate) async fn cancel(c: &mut Command, mut run: run::Model) -> Result<(), CommandError> {
    let Some(answer) = message::Entity::anywhere(SYSTEM)
        .filter(message::Column::Id.eq(run.output_message_id))
        .one(&**c.tx())
        .await?
    else {
        return Err(CommandError::Internal(format!("{} has no answer", run.id)));
    };
    if run.status == RunStatus::Queued {
        return withdraw(c, run, answer).await;
    }
    // From what is committed, never from anybody's memory: nothing else was seen, and nothing more comes.
    let parts = crate::live::of(c.tx(), std::slice::from_ref(&answer))
        .await?
        .remove(&answer.id)
        .unwrap_or_default();
    book_estimate(c, &mut run, &answer, &parts, "cancelled").await?;
    end::end(
        c,
        run,
        answer,
        Ending {
            status: RunStatus::Cancelled,
            parts: Some(parts),
            error: None,
        },
    )
    .await
}

/// A run that never started has no answer: its place is taken out of the tree.
async fn withdraw(
    c: &mut Command,
    mut run: run::Model,
    answer: message::Model,
) -> Result<(), CommandError> {
    let (stream, now) = (run.conversation_id.0, c.now());
    let gone = Gone {
        messages: vec![answer.id],
        onto: answer.parent_id,
    };
    undo::take_out(c, run.conversation_id, &gone).await?;
    let (conversation, moved) = undo::settle(c, run.conversation_id, &gone).await?;
    // The way back to an answer that was there before shows by nothing else.
    if moved && conversation.leaf_id != answer.parent_id {
        let facts = conversations::facts(c, &conversation).await?;
        c.append(stream, None, Body::ConversationUpdated(facts).draft());
    }
    run.status = RunStatus::Cancelled;
    run.finished_at = Some(now);
    let seq = c.append(
        stream,
        Some((run.id, run.attempt)),
        Body::RunCancelled(crate::event::RunFacts::of(&run)).draft(),
    );
    run::Entity::change_anywhere(SYSTEM)
        .filter(run::Column::Id.eq(run.id))
        .set(run::ActiveModel {
            status: Set(run.status),
            attempt: Set(run.attempt + 1),
            finished_at: Set(run.finished_at),
            terminal_seq: Set(Some(seq)),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    c.raise_fence(stream);
    c.wake_workers();
    usage::ended(c, &run).await?;
    end::tell(c, &run).await?;
    Ok(())
}

/// A call that was broken off is booked from what was received of it: four letters to a token.
pub(crate) async fn book_estimate(
    c: &mut Command,
    run: &mut run::Model,
    answer: &message::Model,
    parts: &Parts,
    outcome: &str,
) -> Result<(), CommandError> {
    let letters = |parts: &[entities::Part]| -> usize {
        parts
            .iter()
            .map(|part| {
                if let entities::Part::Text { text } | entities::Part::Reasoning { text } = part {
                    text.chars().count()
                } else {
                    0
                }
            })
            .sum()
    };
    let said = letters(&parts.0[answer.parts.0.len().min(parts.0.len())..]);
    let (Some(model_id), true) = (run.model_id, said > 0) else {
        return Ok(());
    };
    let model = llm_model::Entity::anywhere(SYSTEM)
        .filter(llm_model::Column::Id.eq(model_id))
        .one(&**c.tx())
        .await?;
    let tenant = tenant::Entity::anywhere(SYSTEM)
        .filter(tenant::Column::Id.eq(run.tenant_id))
        .one(&**c.tx())
        .await?;
    let (Some(model), Some(tenant)) = (model, tenant) else {
        return Ok(());
    };
    let said = TokenUsage {
        output: said.div_ceil(4) as u64,
        ..TokenUsage::default()
    };
    let usage = priced(&model, &tenant.currency, said);
    add(&mut run.usage, &usage);
    let started_at: DateTime<Utc> = run
        .progress_at
        .or(run.started_at)
        .unwrap_or_else(|| c.now());
    let row = model_call::Model {
        id: c.clock().uuid(),
        tenant_id: run.tenant_id,
        run_id: run.id,
        step: run.steps,
        attempt: run.attempt,
        model_id,
        purpose: CallPurpose::Answer,
        usage,
        is_estimate: true,
        outcome: outcome.into(),
        latency_ms: None,
        time_to_first_token_ms: None,
        started_at,
        finished_at: c.now(),
    };
    usage::call(c, run, row).await
}
