//! Messages.

use std::{borrow::Cow, sync::Arc};

use async_graphql::{Context, ID, Object, Result, plain};
use engine::event::MessageFacts;
use entities::{MessageStatus as Status, Parts, message, tree};
use loaders::{
    LoadError,
    identity::MemberOf,
    messages::{LivePartsOf, MessageOf, SiblingsOf},
    models::ModelOf,
    runs::{AnsweringAgentOf, RunOf},
};

use super::{
    enums::{MessageRole, MessageStatus, Rating},
    parts::MessagePart,
};
use crate::{
    agent::Agent,
    asking::ContextExt,
    conversation::{self, Conversation},
    identity::User,
    model::Model,
    run::{Run, Usage},
    scalars::DateTime,
};

/// A message of a conversation. It follows another one: a conversation is a tree, and each way from its root to a leaf a branch.
#[derive(Clone)]
pub struct Message {
    row: Arc<message::Model>,
    /// As an event tells of it: what is said by later events is not in it yet.
    told: bool,
}

impl From<Arc<message::Model>> for Message {
    fn from(row: Arc<message::Model>) -> Self {
        Self { row, told: false }
    }
}

impl Message {
    /// As an event tells of it; `None`: it is gone since.
    pub(crate) async fn told(
        ctx: &Context<'_>,
        facts: &MessageFacts,
    ) -> Result<Option<Self>, LoadError> {
        let row = ctx.reader().load(MessageOf(facts.id)).await?;
        Ok(row.map(|row| Self {
            row: Arc::new(facts.onto(Arc::unwrap_or_clone(row))),
            told: true,
        }))
    }

    async fn all_parts(&self, ctx: &Context<'_>) -> Result<Cow<'_, Parts>, LoadError> {
        if self.told || self.row.status != Status::Streaming {
            return Ok(Cow::Borrowed(&self.row.parts));
        }
        Ok(
            match ctx.reader().load(LivePartsOf(self.row.clone())).await? {
                Some(parts) => Cow::Owned(Arc::unwrap_or_clone(parts)),
                None => Cow::Borrowed(&self.row.parts),
            },
        )
    }
}

plain!(Message as message_gql {
    "id" => id, "role" => role, "status" => status, "parentId" => parent_id, "clientId" => client_id, "rating" => rating,
    "ratingComment" => rating_comment, "createdAt" => created_at, "updatedAt" => updated_at,
});

/// A message of a conversation. It follows another one: a conversation is a tree, and each way from its root to a leaf a branch.
#[Object(crate = "message_gql")]
impl Message {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.row.id.into()
    }

    /// The conversation that it is part of.
    async fn conversation(&self, ctx: &Context<'_>) -> Result<Conversation> {
        conversation::conversation(ctx, self.row.conversation_id).await
    }

    /// Who speaks.
    async fn role(&self) -> MessageRole {
        self.row.role.into()
    }

    /// How far it is.
    async fn status(&self) -> MessageStatus {
        self.row.status.into()
    }

    /// Who wrote it, where a person did.
    async fn author(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let Some(id) = self.row.author_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(MemberOf(id)).await?.map(User))
    }

    /// The agent that answers in it, where one does.
    async fn agent(&self, ctx: &Context<'_>) -> Result<Option<Agent>> {
        let Some(id) = self.row.agent_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(AnsweringAgentOf(id)).await?.map(Agent))
    }

    /// The model that writes it, where one does; null for those who may not see it.
    async fn model(&self, ctx: &Context<'_>) -> Result<Option<Model>> {
        let Some(id) = self.row.model_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(ModelOf(id)).await?.map(Model))
    }

    /// All text parts, joined; empty where there is none yet.
    async fn text(&self, ctx: &Context<'_>) -> Result<String> {
        Ok(self.all_parts(ctx).await?.text())
    }

    /// What it is made of, in order.
    async fn parts(&self, ctx: &Context<'_>) -> Result<Vec<MessagePart>> {
        let parts = self.all_parts(ctx).await?.into_owned().0;
        Ok(parts
            .into_iter()
            .enumerate()
            .map(|(at, part)| MessagePart::at(at, part))
            .collect())
    }

    /// The id of the message that it follows; that of an answer whose run has yet to start, where it waits behind one.
    async fn parent_id(&self) -> Option<ID> {
        self.row.parent_id.map(ID::from)
    }

    /// The message that it follows; null for the first one, and while that one's run has yet to start.
    async fn parent(&self, ctx: &Context<'_>) -> Result<Option<Message>> {
        let Some(id) = self.row.parent_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(MessageOf(id)).await?.map(Message::from))
    }

    /// Other answers to the same question, or other wordings of it; in order of creation, this one included; 100 at most.
    async fn siblings(&self, ctx: &Context<'_>) -> Result<Vec<Message>> {
        let rows = ctx
            .reader()
            .load(SiblingsOf::of(&self.row))
            .await?
            .unwrap_or_default();
        let mut siblings: Vec<Message> = rows.into_iter().map(Message::from).collect();
        match siblings
            .iter_mut()
            .find(|sibling| sibling.row.id == self.row.id)
        {
            Some(this) => *this = self.clone(),
            None => {
                // It comes after all that are told.
                siblings.truncate(usize::try_from(tree::SIBLINGS - 1).unwrap_or_default());
                siblings.push(self.clone());
            }
        }
        Ok(siblings)
    }

    /// The run that wrote it, or that it started; null where there is none.
    async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        let Some(id) = self.row.run_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(RunOf(id)).await?.map(Run::from))
    }

    /// Tokens and money of its run, once that is over; null before, and where there is none.
    async fn usage(&self) -> Option<Usage> {
        self.row.usage.clone().map(Usage)
    }

    /// What the viewer thought of it; null: nothing was said.
    async fn rating(&self) -> Option<Rating> {
        self.row.rating.map(Rating::from)
    }

    /// What the viewer said of it, in his own words; null: nothing.
    async fn rating_comment(&self) -> Option<&str> {
        self.row.rating_comment.as_deref()
    }

    /// What the sender called it, to recognise its own message among the events; null: nothing.
    async fn client_id(&self) -> Option<&str> {
        self.row.client_id.as_deref()
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        self.row.created_at.into()
    }

    /// When it last changed.
    async fn updated_at(&self) -> DateTime {
        self.row.updated_at.into()
    }
}
