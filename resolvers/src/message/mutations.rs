//! Asking again, and rating answers.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use engine::{
    rate,
    send::{EditMessage, RegenerateMessage},
};
use entities::{CommandError, MessageId, ModelId};
use loaders::messages::MessageOf;

use super::{enums::Rating, object::Message};
use crate::{
    asking::{ContextExt, GivenId},
    conversation::{SendMessagePayload, WhenBusy},
    errors::UserError,
};

/// A question that is to be answered again.
#[derive(InputObject)]
pub struct RegenerateMessageInput {
    /// The id of one of its answers, or of the question itself.
    id: ID,
    /// The id of the model that answers this time; left out: the agent's, else the tenant's default.
    model_id: Option<ID>,
    /// What to do while a run is under way in the conversation.
    #[graphql(default_with = "WhenBusy::Enqueue")]
    when_busy: WhenBusy,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// Other words for a question.
#[derive(InputObject)]
pub struct EditMessageInput {
    /// The id of the question. It stays as it is; what is said now stands beside it.
    id: ID,
    /// What is said instead: from 1 to `ServiceLimits.maxMessageChars` characters.
    text: String,
    /// What to do while a run is under way in the conversation.
    #[graphql(default_with = "WhenBusy::Enqueue")]
    when_busy: WhenBusy,
    /// What the sender calls it: comes back on the message and its events. 200 characters at most.
    client_id: Option<String>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// What a reader thinks of an answer; it takes the place of what he thought before.
#[derive(InputObject)]
pub struct RateMessageInput {
    /// The id of the answer; what is no answer can't be rated.
    id: ID,
    /// What the viewer thinks of it. Null takes it back, and what was said of it with it.
    rating: Option<Rating>,
    /// In his own words; 10,000 characters at most. Left out: none.
    comment: Option<String>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// A message that was changed.
#[derive(Default, SimpleObject)]
pub struct MessagePayload {
    /// The message as it is now; null where `errors` says why not.
    message: Option<Message>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

impl RegenerateMessageInput {
    fn read(self) -> Result<RegenerateMessage, CommandError> {
        let model = self
            .model_id
            .map(|id| id.named::<ModelId>(&["input", "modelId"]));
        Ok(RegenerateMessage {
            message: self.id.named(&["input", "id"])?,
            model: model.transpose()?,
            when_busy: self.when_busy.into(),
        })
    }
}

/// Asking again, and rating answers.
#[derive(Default)]
pub struct MessageMutation;

#[Object]
impl MessageMutation {
    /// Answer the same question again, as a sibling of the answers that it has. The conversation goes on from the new one. It takes
    /// CONVERSATIONS_USE and AGENTS_USE.
    async fn regenerate_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which one, and how.")] input: RegenerateMessageInput,
    ) -> Result<SendMessagePayload> {
        let scope = ctx.scope()?;
        let outcome = match input.read() {
            Ok(again) => ctx.commands().regenerate_message(&scope, again).await,
            Err(error) => Err(error),
        };
        SendMessagePayload::of(ctx, outcome).await
    }

    /// Ask again from an earlier user message with other words, as a sibling of it. The conversation goes on from the new one. It
    /// takes CONVERSATIONS_USE and AGENTS_USE.
    async fn edit_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which one, and the words.")] input: EditMessageInput,
    ) -> Result<SendMessagePayload> {
        let scope = ctx.scope()?;
        let outcome = match input.id.named::<MessageId>(&["input", "id"]) {
            Ok(message) => {
                let edit = EditMessage {
                    message,
                    text: input.text,
                    when_busy: input.when_busy.into(),
                    client_id: input.client_id,
                };
                ctx.commands().edit_message(&scope, edit).await
            }
            Err(error) => Err(error),
        };
        SendMessagePayload::of(ctx, outcome).await
    }

    /// Say what you think of an answer. It takes CONVERSATIONS_USE.
    async fn rate_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which one, and what.")] input: RateMessageInput,
    ) -> Result<MessagePayload> {
        let scope = ctx.scope()?;
        let rated = match input.id.named::<MessageId>(&["input", "id"]) {
            Ok(message) => {
                let rating = rate::RateMessage {
                    message,
                    rating: input.rating.map(Into::into),
                    comment: input.comment,
                };
                ctx.commands().rate_message(&scope, rating).await
            }
            Err(error) => Err(error),
        };
        Ok(match ctx.settle(rated).await? {
            Ok(id) => MessagePayload {
                message: ctx.reader().load(MessageOf(id)).await?.map(Message::from),
                errors: Vec::new(),
            },
            Err(errors) => MessagePayload {
                errors,
                ..MessagePayload::default()
            },
        })
    }
}
