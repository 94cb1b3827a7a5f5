//! Runs.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result, plain};
use engine::event::RunFacts;
use entities::{Refusal, RunStatus as Status, run};
use loaders::{
    LoadError,
    agents::VersionOf,
    messages::MessageOf,
    models::ModelOf,
    runs::{AnsweringAgentOf, PlaceInQueueOf, RunOf, StepsOf},
};

use super::{
    enums::{RunStatus, RunTrigger},
    parts::{RunError, RunStep, ToolCall, Usage, calls_of},
};
use crate::{
    agent::{Agent, AgentVersion},
    asking::ContextExt,
    conversation::{self, Conversation},
    message::Message,
    model::Model,
    scalars::{Cursor, DateTime},
};

/// One answer of an agent, in the making or made. It belongs to no connection and no process: whatever ends, it goes on, or
/// ends with a reason.
#[derive(Clone)]
pub struct Run {
    row: Arc<run::Model>,
    /// How many stood before it when an event told of it.
    position: Option<i32>,
}

impl From<Arc<run::Model>> for Run {
    fn from(row: Arc<run::Model>) -> Self {
        Self {
            row,
            position: None,
        }
    }
}

impl Run {
    /// As an event tells of it; `None`: it is gone since.
    pub(crate) async fn told(
        ctx: &Context<'_>,
        facts: &RunFacts,
    ) -> Result<Option<Self>, LoadError> {
        let row = ctx.reader().load(RunOf(facts.id)).await?;
        Ok(row.map(|row| Self {
            row: Arc::new(facts.onto(Arc::unwrap_or_clone(row))),
            position: facts.position,
        }))
    }
}

plain!(Run as run_gql {
    "id" => id, "status" => status, "trigger" => trigger, "attempts" => attempts, "createdAt" => created_at,
    "startedAt" => started_at, "firstTokenAt" => first_token_at, "finishedAt" => finished_at, "cursor" => cursor,
});

/// One answer of an agent, in the making or made. It belongs to no connection and no process: whatever ends, it goes on, or
/// ends with a reason.
#[Object(crate = "run_gql")]
impl Run {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.row.id.into()
    }

    /// The conversation that it is part of.
    async fn conversation(&self, ctx: &Context<'_>) -> Result<Conversation> {
        conversation::conversation(ctx, self.row.conversation_id).await
    }

    /// The agent that answers, whether or not it is still there.
    async fn agent(&self, ctx: &Context<'_>) -> Result<Agent> {
        let agent = match self.row.agent_id {
            Some(id) => ctx.reader().load(AnsweringAgentOf(id)).await?,
            None => None,
        };
        Ok(Agent(
            agent.ok_or_else(|| Refusal::not_found(&[], self.row.id))?,
        ))
    }

    /// The agent's version that it was started with; null before, and where it uses a draft.
    async fn agent_version(&self, ctx: &Context<'_>) -> Result<Option<AgentVersion>> {
        let Some(id) = self.row.agent_version_id else {
            return Ok(None);
        };
        Ok(ctx
            .reader()
            .load(VersionOf(id))
            .await?
            .map(|seen| AgentVersion::of(&seen)))
    }

    /// The model that it was started with; null before, and for those who may not see it.
    async fn model(&self, ctx: &Context<'_>) -> Result<Option<Model>> {
        let Some(id) = self.row.model_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(ModelOf(id)).await?.map(Model))
    }

    /// Where it stands.
    async fn status(&self) -> RunStatus {
        self.row.status.into()
    }

    /// What asked for it.
    async fn trigger(&self) -> RunTrigger {
        self.row.trigger.into()
    }

    /// How many runs stand before it in its conversation, from 0; null where it is not QUEUED.
    async fn queue_position(&self, ctx: &Context<'_>) -> Result<Option<i32>> {
        if self.row.status != Status::Queued {
            return Ok(None);
        }
        if self.position.is_some() {
            return Ok(self.position);
        }
        let ahead = ctx
            .reader()
            .load(PlaceInQueueOf(self.row.id))
            .await?
            .unwrap_or(0);
        Ok(i32::try_from(ahead).ok())
    }

    /// The message that it answers.
    async fn input(&self, ctx: &Context<'_>) -> Result<Option<Message>> {
        let Some(id) = self.row.input_message_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(MessageOf(id)).await?.map(Message::from))
    }

    /// Its answer; null before it started.
    async fn output(&self, ctx: &Context<'_>) -> Result<Option<Message>> {
        Ok(ctx
            .reader()
            .load(MessageOf(self.row.output_message_id))
            .await?
            .map(Message::from))
    }

    /// The calls of a model that are finished, in order.
    async fn steps(&self, ctx: &Context<'_>) -> Result<Vec<RunStep>> {
        let steps = ctx
            .reader()
            .load(StepsOf(self.row.id))
            .await?
            .unwrap_or_default();
        Ok(steps
            .iter()
            .map(|facts| RunStep {
                run: self.row.id,
                facts: facts.clone(),
            })
            .collect())
    }

    /// The tools that models called in it, in order.
    async fn tool_calls(&self, ctx: &Context<'_>) -> Result<Vec<ToolCall>> {
        Ok(calls_of(ctx, self.row.id).await?)
    }

    /// Why it FAILED; null where it did not.
    async fn error(&self) -> Option<RunError> {
        self.row.error.clone().map(RunError)
    }

    /// Tokens and money of its finished steps.
    async fn usage(&self) -> Usage {
        Usage(self.row.usage.clone())
    }

    /// How often a worker took it up after another was lost, and 1 for the first; more than 1 means that one was lost.
    async fn attempts(&self) -> i32 {
        self.row.losses.saturating_add(1)
    }

    /// When it was asked for.
    async fn created_at(&self) -> DateTime {
        self.row.created_at.into()
    }

    /// When it first was taken up; null before.
    async fn started_at(&self) -> Option<DateTime> {
        self.row.started_at.map(DateTime)
    }

    /// When it first said something; null before.
    async fn first_token_at(&self) -> Option<DateTime> {
        self.row.first_token_at.map(DateTime)
    }

    /// When it was over; null before.
    async fn finished_at(&self) -> Option<DateTime> {
        self.row.finished_at.map(DateTime)
    }

    /// Just before its first event: what `runEvents` begins after, unless told otherwise.
    async fn cursor(&self, ctx: &Context<'_>) -> Cursor {
        let (stream, seq) = (self.row.conversation_id.0, self.row.first_seq);
        Cursor(ctx.engine().log().cursor(stream, seq).encode())
    }
}
