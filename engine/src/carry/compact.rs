//! Making what a model is told fit its window: the middle of the conversation is summarised by the model, and the summary put
//! into the tree, before the step goes on.

use std::sync::Arc;

use entities::{
    CallPurpose, CommandError, MessageId, MessageRole, MessageStatus, ModelProvider, Part, Parts,
    Summary, message, model_call, query::*, run,
};
use events::Command;
use providers::{
    ChatRequest, Endpoint, ModelError, ModelErrorKind,
    tokens::{TokenCounter, Weights},
};

use super::{Hand, Stop};
use crate::{
    ask::Asked,
    context::{self, Length, Material, Middle, Told, Window},
    event::{Body, CompactionFacts, MessageFacts},
    models::context_window,
    prices::add,
    start::SYSTEM,
    usage,
};

/// Questions that move below a summary in one go; more other wordings of one question than are ever told.
const SIBLINGS: u64 = 1000;

/// What a model is told in a step, or why it can't be told.
type Telling = Result<Result<ChatRequest, Untold>, Stop>;

/// Why a model is not told what the step is about.
pub(super) struct Untold {
    /// What it failed at, or that it is too much for it.
    pub(super) error: ModelError,
    /// The call for a summary that failed, to be booked; absent: none was made.
    pub(super) call: Option<model_call::Model>,
}

/// By what a model's window is measured.
#[derive(Clone, Copy)]
struct Measure {
    counter: TokenCounter,
    window: Window,
    /// Of all that the model would be told.
    total: u64,
}

/// A summary that is to be put into the tree.
pub(super) struct Made {
    text: String,
    of: Summary,
    before: u64,
    after: u64,
}

impl Hand {
    /// What the model is told in the next step, made to fit its window: where the conversation is too long its middle is
    /// summarised first. `refused`: the provider said that it is too long, whatever the estimate says.
    pub(super) async fn tell(&mut self, endpoint: &Endpoint, refused: bool) -> Telling {
        let mut told = {
            let (run, spec, model) = (self.run(), &self.started.spec, &self.started.model);
            self.patiently(|| async { Told::read(&self.snapshot(), run, spec, model).await })
                .await?
        };
        // It looks through what it is given, as far as that goes, and has no window.
        if self.started.model.provider == ModelProvider::Builtin {
            return Ok(Ok(told.request));
        }
        let counter = TokenCounter::of(endpoint.provider, &endpoint.model_name);
        let size = u64::try_from(context_window(&self.started.model)).unwrap_or(0);
        let mut window = Window::new(size, told.request.max_output_tokens.map(u64::from));
        // Nothing is counted while there is room enough by any count.
        if !refused && counter.at_most(&told.request) <= window.full {
            return Ok(Ok(told.request));
        }
        let weights = self.weights(counter, &mut told.request).await;
        let total = weights.total();
        if refused {
            window = window.below(total);
        } else if total <= window.full {
            return Ok(Ok(told.request));
        }
        let measure = Measure {
            counter,
            window,
            total,
        };
        let (sections, fixed) = lengths(&told, &weights);
        match context::middle(&sections, fixed, window) {
            Some(middle) => self.compact(endpoint, told, middle, measure).await,
            None if total <= window.room => Ok(Ok(told.request)),
            None => Ok(Err(too_long(measure))),
        }
    }

    async fn weights(&self, counter: TokenCounter, request: &mut ChatRequest) -> Weights {
        let shared = Arc::new(std::mem::take(request));
        let weights = counter
            .weigh_apart(self.engine.log().tasks(), shared.clone())
            .await;
        *request = Arc::unwrap_or_clone(shared);
        weights
    }

    /// Summarises the middle, piece by piece where it is longer than fits, and puts the summary into the tree together with the
    /// booking of the last call: whoever dies before leaves nothing but the bookings of the earlier ones.
    async fn compact(
        &mut self,
        endpoint: &Endpoint,
        mut told: Told,
        middle: Middle,
        measure: Measure,
    ) -> Telling {
        let Measure {
            counter, window, ..
        } = measure;
        let tasks = self.engine.log().tasks().clone();
        let summarised = &told.before[middle.from..middle.to];
        let (Some(first), Some(last)) = (summarised.first(), summarised.last()) else {
            return Ok(Ok(told.request));
        };
        let messages = first.messages.start..last.messages.end;
        let of = Summary {
            from: first.from,
            through: last.through,
        };
        let material = Material::of(&told, middle.from..middle.to);
        let pieces = tasks.spawn_blocking("dividing what is summarised", move || {
            material.pieces(counter, window)
        });
        let Some(pieces) = pieces.await.ok().flatten() else {
            return Ok(Err(too_long(measure)));
        };
        // Whatever it thinks before it writes is of it, too.
        let most = self.started.model.max_output_tokens;
        let most = most.and_then(|most| u64::try_from(most).ok());
        let most = (window.room / 4).min(most.unwrap_or(u64::MAX));
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let (mut so_far, count) = (pieces.so_far, pieces.said.len());
        for (number, said) in (1..).zip(pieces.said) {
            let request = context::summary_request(so_far.as_deref(), &said, window, Some(most));
            let asked = self.hear_out(endpoint.clone(), request).await?;
            let call = asked.booked(
                &self.engine,
                self.run(),
                &self.started.model,
                &self.started.currency,
                CallPurpose::Summary,
            );
            let text = match asked.text() {
                Ok(text) => text.to_owned(),
                Err(error) => {
                    let call = Some(call);
                    return Ok(Err(Untold { error, call }));
                }
            };
            let whole = text.clone();
            let short = tasks.spawn_blocking("counting a summary", move || {
                let counted = counter.count_each(&[&whole]).first().copied();
                context::cut(&whole, window.summary(), counted.unwrap_or(0)).to_owned()
            });
            let text = short.await.unwrap_or(text);
            if number < count {
                self.spend(call, None).await?;
                so_far = Some(text);
                continue;
            }
            let instead = [context::summarised(&text)];
            told.request.messages.splice(messages.clone(), instead);
            let after = self.weights(counter, &mut told.request).await.total();
            let made = Made {
                text,
                of,
                before: measure.total,
                after,
            };
            self.spend(call, Some(made)).await?;
            break;
        }
        Ok(Ok(told.request))
    }

    async fn hear_out(&mut self, endpoint: Endpoint, request: ChatRequest) -> Result<Asked, Stop> {
        let engine = self.engine.clone();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Stop::LetGo),
            fate = self.log.shut() => Err(events::Shut(fate).into()),
            asked = engine.hear_out(endpoint, request) => Ok(asked),
        }
    }

    /// Books a call, and puts the summary that it made into the tree.
    pub(super) async fn spend(
        &mut self,
        call: model_call::Model,
        made: Option<Made>,
    ) -> Result<(), Stop> {
        let run = self
            .command(move |c, mut run| {
                Box::pin(async move {
                    add(&mut run.usage, &call.usage);
                    run.progress_at = Some(c.now());
                    run::Entity::change_anywhere(SYSTEM)
                        .filter(run::Column::Id.eq(run.id))
                        .set(run::ActiveModel {
                            usage: Set(run.usage.clone()),
                            progress_at: Set(run.progress_at),
                            ..Default::default()
                        })
                        .exec(&**c.tx())
                        .await?;
                    let model = call.model_id;
                    usage::call(c, &run, call).await?;
                    if let Some(made) = made {
                        put(c, &run, model, made).await?;
                    }
                    Ok(run)
                })
            })
            .await?;
        self.started.run = run;
        Ok(())
    }
}

/// Puts a summary between what the run's question follows and all that follows it: the same question in other words keeps its
/// place beside it.
async fn put(
    c: &mut Command,
    run: &run::Model,
    model: entities::ModelId,
    made: Made,
) -> Result<(), CommandError> {
    let (stream, by, now) = (run.conversation_id.0, Some((run.id, run.attempt)), c.now());
    let question = message::Entity::anywhere(SYSTEM)
        .filter(message::Column::ConversationId.eq(run.conversation_id))
        .filter(message::Column::Id.eq(run.input_message_id))
        .one(&**c.tx())
        .await?;
    let Some((question, parent)) = question.and_then(|row| {
        let parent = row.parent_id?;
        Some((row, parent))
    }) else {
        return Err(CommandError::Internal(format!(
            "the question of {} follows nothing",
            run.id
        )));
    };
    let mut questions = message::Entity::anywhere(SYSTEM)
        .filter(message::Column::ConversationId.eq(run.conversation_id))
        .filter(message::Column::ParentId.eq(parent))
        .filter(message::Column::Role.eq(MessageRole::User))
        .filter(message::Column::RemovedAt.is_null())
        .order_by_asc(message::Column::Seq)
        .limit(SIBLINGS)
        .all(&**c.tx())
        .await?;
    if questions.iter().all(|row| row.id != question.id) {
        questions.push(question);
    }
    let mut summary = message::Model {
        id: MessageId(c.clock().uuid()),
        tenant_id: run.tenant_id,
        conversation_id: run.conversation_id,
        seq: 0,
        role: MessageRole::System,
        status: MessageStatus::Complete,
        is_hidden: false,
        author_id: None,
        agent_id: None,
        model_id: Some(model),
        parent_id: Some(parent),
        run_id: Some(run.id),
        client_id: None,
        parts: Parts(vec![Part::Text { text: made.text }]),
        parts_seq: 0,
        usage: None,
        rating: None,
        rating_comment: None,
        summary: Some(made.of),
        is_indexed: false,
        removed_at: None,
        created_at: now,
        updated_at: now,
    };
    let number = |tokens: u64| i32::try_from(tokens).unwrap_or(i32::MAX);
    // First, so that what is told to follow it follows something that is there.
    let facts = CompactionFacts {
        tokens_before: number(made.before),
        tokens_after: number(made.after),
        message: MessageFacts::of(&summary),
    };
    summary.seq = c.append(stream, by, Body::ContextCompacted(facts).draft());
    summary.parts_seq = summary.seq;
    message::Entity::change_anywhere(SYSTEM)
        .filter(message::Column::Id.is_in(questions.iter().map(|row| row.id)))
        .set(message::ActiveModel {
            parent_id: Set(Some(summary.id)),
            updated_at: Set(now),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    for mut row in questions {
        row.parent_id = Some(summary.id);
        row.updated_at = now;
        c.append(
            stream,
            by,
            Body::MessageUpdated(MessageFacts::of(&row)).draft(),
        );
    }
    message::Entity::add(&**c.tx(), summary).await?;
    Ok(())
}

/// How long the sections are, and all the rest.
fn lengths(told: &Told, weights: &Weights) -> (Vec<Length>, u64) {
    let sections: Vec<Length> = told
        .before
        .iter()
        .map(|section| Length {
            tokens: weights.messages[section.messages.clone()].iter().sum(),
            is_summary: section.summary.is_some(),
        })
        .collect();
    let before: u64 = sections.iter().map(|section| section.tokens).sum();
    (sections, weights.total().saturating_sub(before))
}

fn too_long(measure: Measure) -> Untold {
    let Measure { total, window, .. } = measure;
    let error = ModelError {
        kind: ModelErrorKind::ContextTooLong,
        message: format!(
            "the model would have to read about {total} tokens, and can read {}",
            window.room
        ),
        status: None,
    };
    Untold { error, call: None }
}
