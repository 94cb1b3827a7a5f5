//! Beginning and changing conversations, and saying something in them.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use engine::{
    conversations::{CreateConversation, UpdateConversation},
    send::{SendMessage, Sent},
};
use entities::{AgentId, CommandError, ConversationId, MessageId, ModelId, Refusal};
use loaders::{conversations::ConversationOf, messages::MessageOf, runs::RunOf};

use super::{enums::WhenBusy, object::Conversation};
use crate::{
    asking::{ContextExt, GivenId},
    errors::UserError,
    identity::DeletePayload,
    message::Message,
    run::Run,
    scalars::Cursor,
};

/// A conversation to begin.
#[derive(InputObject)]
pub struct CreateConversationInput {
    /// The id of the agent that is to answer in it; it can be named with the first message, too.
    agent_id: Option<ID>,
    /// Its name, from 1 to 200 characters; left out, a model writes one after the first answer.
    title: Option<String>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// What to change of a conversation; what is left out stays. Null is refused where nothing else is said.
#[derive(InputObject)]
pub struct UpdateConversationInput {
    /// The id of the conversation.
    id: ID,
    /// Its name, from 1 to 200 characters; null takes it off, and a model may write one again.
    title: MaybeUndefined<String>,
    /// The id of the agent that answers in it from now on; null: none, until a message names one.
    agent_id: MaybeUndefined<ID>,
    /// Whether it is archived: put aside, out of the way.
    is_archived: MaybeUndefined<bool>,
    /// The id of a message: go on from its branch, from the latest message below it. Null: from nothing, so that the next
    /// message begins anew.
    leaf_id: MaybeUndefined<ID>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// A conversation to delete.
#[derive(InputObject)]
pub struct DeleteConversationInput {
    /// The id of the conversation.
    id: ID,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// A message to send.
#[derive(InputObject)]
pub struct SendMessageInput {
    /// The id of the conversation; left out: a new one, for which `agentId` is needed.
    conversation_id: Option<ID>,
    /// The id of the agent that answers, from now on; left out: the conversation's.
    agent_id: Option<ID>,
    /// What is said: from 1 to `ServiceLimits.maxMessageChars` characters.
    text: String,
    /// The id of the message that this one follows; left out: the end of the branch last used.
    parent_id: Option<ID>,
    /// The id of the model that answers this time; left out: the agent's, else the tenant's default.
    model_id: Option<ID>,
    /// Use the agent's draft instead of its published version; for those who may edit it.
    #[graphql(default)]
    use_draft: bool,
    /// What to do while a run is under way there.
    #[graphql(default_with = "WhenBusy::Enqueue")]
    when_busy: WhenBusy,
    /// What the sender calls it: comes back on the message and its events. 200 characters at most.
    client_id: Option<String>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// A conversation that was begun or changed.
#[derive(Default, SimpleObject)]
pub struct ConversationPayload {
    /// The conversation as it is now; null where `errors` says why not.
    conversation: Option<Conversation>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

/// A question, and the run that answers it.
#[derive(Default, SimpleObject)]
pub struct SendMessagePayload {
    /// Where it was asked; null where `errors` says why it was not, as are the others.
    conversation: Option<Conversation>,
    /// The question: the message that was sent, or the one that is answered again.
    message: Option<Message>,
    /// The run that answers it.
    run: Option<Run>,
    /// Just before the first event of all this: subscribe to `conversationEvents` after it.
    cursor: Option<Cursor>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

fn named<T: std::str::FromStr>(id: Option<&ID>, path: &[&str]) -> Result<Option<T>, CommandError> {
    id.map(|id| id.named(path)).transpose()
}

impl UpdateConversationInput {
    fn read(self) -> Result<(ConversationId, UpdateConversation), CommandError> {
        let agent = match self.agent_id {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(id) => Some(Some(id.named::<AgentId>(&["input", "agentId"])?)),
        };
        let is_archived = match self.is_archived {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => {
                let path = &["input", "isArchived"];
                return Err(Refusal::invalid(path, "isArchived must not be null").into());
            }
            MaybeUndefined::Value(is_archived) => Some(is_archived),
        };
        let leaf = match self.leaf_id {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(id) => Some(Some(id.named::<MessageId>(&["input", "leafId"])?)),
        };
        let id = self.id.named(&["input", "id"])?;
        Ok((
            id,
            UpdateConversation {
                title: self.title.into(),
                agent,
                is_archived,
                leaf,
            },
        ))
    }
}

impl SendMessageInput {
    fn read(self) -> Result<SendMessage, CommandError> {
        Ok(SendMessage {
            conversation: named(self.conversation_id.as_ref(), &["input", "conversationId"])?,
            agent: named(self.agent_id.as_ref(), &["input", "agentId"])?,
            text: self.text,
            parent: named::<MessageId>(self.parent_id.as_ref(), &["input", "parentId"])?,
            model: named::<ModelId>(self.model_id.as_ref(), &["input", "modelId"])?,
            use_draft: self.use_draft,
            when_busy: self.when_busy.into(),
            client_id: self.client_id,
        })
    }
}

async fn changed(
    ctx: &Context<'_>,
    outcome: Result<ConversationId, CommandError>,
) -> Result<ConversationPayload> {
    Ok(match ctx.settle(outcome).await? {
        Ok(id) => {
            let row = ctx.reader().load(ConversationOf(id)).await?;
            ConversationPayload {
                conversation: row.map(Conversation::from),
                errors: Vec::new(),
            }
        }
        Err(errors) => ConversationPayload {
            errors,
            ..ConversationPayload::default()
        },
    })
}

impl SendMessagePayload {
    /// What was made of what was asked for, or why nothing was.
    pub(crate) async fn of(ctx: &Context<'_>, outcome: Result<Sent, CommandError>) -> Result<Self> {
        let sent = match ctx.settle(outcome).await? {
            Ok(sent) => sent,
            Err(errors) => {
                return Ok(Self {
                    errors,
                    ..Self::default()
                });
            }
        };
        let reader = ctx.reader();
        let (conversation, message, run) = futures_util::future::try_join3(
            reader.load(ConversationOf(sent.conversation)),
            reader.load(MessageOf(sent.message)),
            reader.load(RunOf(sent.run)),
        )
        .await?;
        let cursor = ctx.engine().log().cursor(sent.conversation.0, sent.before);
        Ok(Self {
            conversation: conversation.map(Conversation::from),
            message: message.map(Message::from),
            run: run.map(Run::from),
            cursor: Some(Cursor(cursor.encode())),
            errors: Vec::new(),
        })
    }
}

/// Beginning and changing conversations, and saying something in them.
#[derive(Default)]
pub struct ConversationMutation;

#[Object]
impl ConversationMutation {
    /// Begin a conversation, still without a message. `sendMessage` begins one, too. It takes CONVERSATIONS_USE, and AGENTS_USE
    /// where an agent is named.
    async fn create_conversation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What it is to be.")] input: CreateConversationInput,
    ) -> Result<ConversationPayload> {
        let scope = ctx.scope()?;
        let made = match named(input.agent_id.as_ref(), &["input", "agentId"]) {
            Ok(agent) => {
                let new = CreateConversation {
                    agent,
                    title: input.title,
                };
                ctx.commands().create_conversation(&scope, new).await
            }
            Err(error) => Err(error),
        };
        changed(ctx, made).await
    }

    /// Change a conversation's title, its agent or the branch that it goes on from, or put it aside. It takes CONVERSATIONS_USE,
    /// and AGENTS_USE where another agent is named.
    async fn update_conversation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which one, and what of it.")] input: UpdateConversationInput,
    ) -> Result<ConversationPayload> {
        let scope = ctx.scope()?;
        let updated = match input.read() {
            Ok((id, update)) => ctx.commands().update_conversation(&scope, id, update).await,
            Err(error) => Err(error),
        };
        changed(ctx, updated).await
    }

    /// Delete a conversation with all its messages and runs; those under way are cancelled. It takes CONVERSATIONS_USE.
    async fn delete_conversation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which conversation.")] input: DeleteConversationInput,
    ) -> Result<DeletePayload> {
        let scope = ctx.scope()?;
        let deleted = match input.id.named::<ConversationId>(&["input", "id"]) {
            Ok(id) => ctx.commands().delete_conversation(&scope, id).await,
            Err(error) => Err(error),
        };
        Ok(DeletePayload::of(
            input.id,
            ctx.settle(deleted.map(|_| ())).await?,
        ))
    }

    /// Say something; the agent's answer is a run. Subscribe with the payload's cursor and nothing is missed. It takes
    /// CONVERSATIONS_USE and AGENTS_USE.
    async fn send_message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What, and where.")] input: SendMessageInput,
    ) -> Result<SendMessagePayload> {
        let scope = ctx.scope()?;
        let outcome = match input.read() {
            Ok(message) => ctx.commands().send_message(&scope, message).await,
            Err(error) => Err(error),
        };
        SendMessagePayload::of(ctx, outcome).await
    }
}
