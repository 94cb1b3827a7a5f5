//! Following conversations and runs.

use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::{
    Context, Error, ErrorExtensions, ID, Result, Subscription, resolver_utils::enum_value,
};
use engine::{
    event::Event,
    follow::{Events, EventsError},
};
use entities::{CommandError, ConversationId, Permission, Refusal, RunId};
use futures_util::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};

use super::events::ConversationEvent;
use crate::{
    asking::{ContextExt, GivenId},
    errors::ErrorCode,
    following::{self, Place},
    scalars::Cursor,
};

/// Why nothing is told, or nothing more.
fn failed(error: EventsError, argument: &str, id: &ID) -> Error {
    match error {
        EventsError::NotFound => Refusal::not_found(&[argument], id.as_str()).into(),
        EventsError::Forbidden => {
            CommandError::Forbidden(Some(Permission::ConversationsUse)).into()
        }
        EventsError::Cursor(wrong) => wrong.into(),
        EventsError::Database(cause) => {
            tracing::error!(
                error = &cause as &dyn std::error::Error,
                "failed to read the log"
            );
            Error::new("the log can't be read at the moment; come back with your last cursor")
                .extend_with(|_, set| set.set("code", enum_value(ErrorCode::Unavailable)))
        }
    }
}

/// Where the events of a subscription are left, for whoever put it into the data of the request to tell them itself. The
/// subscription is looked at as ever, and ends at once. Clones are the same.
#[derive(Clone, Default)]
pub struct Handover(Arc<Mutex<Option<Events>>>);

impl Handover {
    /// What was left; `None` where the subscription did not begin.
    #[must_use]
    pub fn taken(&self) -> Option<Events> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Events that a subscription tells in place of those that it would find, in the data of a request. It asks nobody whether they
/// may be told: whoever puts it there has.
pub struct Fed(Mutex<Option<BoxStream<'static, Result<Event, EventsError>>>>);

impl Fed {
    /// These events.
    #[must_use]
    pub fn new(events: BoxStream<'static, Result<Event, EventsError>>) -> Self {
        Self(Mutex::new(Some(events)))
    }
}

type Told = BoxStream<'static, Result<ConversationEvent>>;

/// What is told in place of what there is.
fn fed(ctx: &Context<'_>, argument: &'static str, id: &ID) -> Option<Told> {
    let fed: &Fed = ctx.data_opt()?;
    let events = fed
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()?;
    let id = id.clone();
    Some(
        events
            .map(move |event| match event {
                Ok(event) => Ok(event.into()),
                Err(error) => Err(failed(error, argument, &id)),
            })
            .boxed(),
    )
}

/// The events as they come, unless somebody else tells them. After an error there are none.
fn told(ctx: &Context<'_>, events: Events, argument: &'static str, id: ID) -> Told {
    if let Some(handover) = ctx.data_opt::<Handover>() {
        *handover.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(events);
        return stream::empty().boxed();
    }
    let place: Option<Place> = ctx.data_opt().cloned();
    stream::unfold(Some(events), move |events| {
        let (id, place) = (id.clone(), place.clone());
        async move {
            let mut events = events?;
            match events.next().await {
                Ok(Some(event)) => {
                    if let Some(place) = place {
                        place.set(events.cursor(event.seq));
                    }
                    Some((Ok(event.into()), Some(events)))
                }
                Ok(None) => None,
                Err(error) => Some((Err(failed(error, argument, &id)), None)),
            }
        }
    })
    .boxed()
}

/// Following conversations and runs.
#[derive(Default)]
pub struct ConversationSubscription;

#[Subscription]
impl ConversationSubscription {
    /// Everything that happens in one conversation: messages, runs, steps, tokens. With `after`, first what came later than that,
    /// then what comes, without a gap and without a repeat; left out: from now. NOT_FOUND where there is no conversation that the
    /// viewer may see, INVALID_INPUT for a cursor of another one.
    async fn conversation_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of a conversation.")] conversation_id: ID,
        #[graphql(
            desc = "A cursor of this conversation: of an event, of the conversation itself, of a run in it, or of \
                    `sendMessage`."
        )]
        after: Option<Cursor>,
    ) -> Result<impl Stream<Item = Result<ConversationEvent>> + use<>> {
        const ID: &str = "conversationId";
        if let Some(told) = fed(ctx, ID, &conversation_id) {
            return Ok(told);
        }
        let scope = ctx.scope()?;
        let after = following::after(ctx, after.as_ref());
        let events = match conversation_id.typed::<ConversationId>() {
            Some(id) => ctx.engine().conversation_events(&scope, id, after).await,
            None => Err(EventsError::NotFound),
        };
        let events = events.map_err(|error| failed(error, ID, &conversation_id))?;
        Ok(told(ctx, events, ID, conversation_id))
    }

    /// The events of one run, up to its last one: from its beginning, or with `after` what came later than that. NOT_FOUND where
    /// there is no run that the viewer may see, INVALID_INPUT for a cursor of another conversation.
    async fn run_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of a run.")] run_id: ID,
        #[graphql(desc = "A cursor of the run's conversation; left out: the run's beginning.")]
        after: Option<Cursor>,
    ) -> Result<impl Stream<Item = Result<ConversationEvent>> + use<>> {
        const ID: &str = "runId";
        if let Some(told) = fed(ctx, ID, &run_id) {
            return Ok(told);
        }
        let scope = ctx.scope()?;
        let after = following::after(ctx, after.as_ref());
        let events = match run_id.typed::<RunId>() {
            Some(id) => ctx.engine().run_events(&scope, id, after).await,
            None => Err(EventsError::NotFound),
        };
        let events = events.map_err(|error| failed(error, ID, &run_id))?;
        Ok(told(ctx, events, ID, run_id))
    }
}
