use async_graphql::{Context, Object, Result, SimpleObject};
use entities::{AgentId, CommandError};
use loaders::agents::{AgentOf, VersionOf};

use super::{
    inputs::{
        CreateAgentInput, DeleteAgentInput, PublishAgentInput, RestoreAgentVersionInput,
        UpdateAgentInput,
    },
    objects::{Agent, AgentVersion},
};
use crate::{
    asking::{ContextExt, GivenId},
    errors::UserError,
    identity::DeletePayload,
};

/// An agent that was made or changed.
#[derive(Default, SimpleObject)]
pub struct AgentPayload {
    /// The agent as it is now; null where `errors` says why not.
    agent: Option<Agent>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

/// An agent that was published.
#[derive(Default, SimpleObject)]
pub struct PublishAgentPayload {
    /// The agent as it is now; null where `errors` says why not.
    agent: Option<Agent>,
    /// Its newest version: the one that was there, if the draft had no change.
    version: Option<AgentVersion>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

async fn payload(
    ctx: &Context<'_>,
    outcome: Result<AgentId, CommandError>,
) -> Result<AgentPayload> {
    Ok(match ctx.settle(outcome).await? {
        Ok(id) => AgentPayload {
            agent: ctx.reader().load(AgentOf(id)).await?.map(Agent),
            errors: Vec::new(),
        },
        Err(errors) => AgentPayload {
            agent: None,
            errors,
        },
    })
}

/// Making and changing agents.
#[derive(Default)]
pub struct AgentMutation;

#[Object]
impl AgentMutation {
    /// Make an agent and publish it as version 1. It takes AGENTS_EDIT.
    async fn create_agent(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The agent to make.")] input: CreateAgentInput,
    ) -> Result<AgentPayload> {
        let scope = ctx.scope()?;
        let made = match input.read() {
            Ok(new) => ctx.commands().create_agent(&scope, new).await,
            Err(error) => Err(error),
        };
        payload(ctx, made).await
    }

    /// Change an agent: its draft, and at once what is not versioned (name, slug, description, visibility, whether it is
    /// enabled). It takes AGENTS_EDIT, and EDIT of the agent.
    async fn update_agent(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which one, and what changes of it.")] input: UpdateAgentInput,
    ) -> Result<AgentPayload> {
        let scope = ctx.scope()?;
        let changed = match (input.id.named::<AgentId>(&["input", "id"]), input.read()) {
            (Ok(id), Ok(change)) => ctx.commands().update_agent(&scope, id, change).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        payload(ctx, changed).await
    }

    /// Delete an agent. It takes AGENTS_EDIT, and MANAGE of the agent. Its conversations stay, and still show its name.
    async fn delete_agent(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which agent.")] input: DeleteAgentInput,
    ) -> Result<DeletePayload> {
        let scope = ctx.scope()?;
        let deleted = match input.id.named::<AgentId>(&["input", "id"]) {
            Ok(id) => ctx.commands().delete_agent(&scope, id).await,
            Err(error) => Err(error),
        };
        Ok(DeletePayload::of(
            input.id,
            ctx.settle(deleted).await?.map(drop),
        ))
    }

    /// Make the draft equal to a version of the agent; what runs is still its newest version. It takes AGENTS_EDIT, and EDIT of
    /// the agent.
    async fn restore_agent_version(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which version of which agent.")] input: RestoreAgentVersionInput,
    ) -> Result<AgentPayload> {
        let scope = ctx.scope()?;
        let restored = match input.id.named::<AgentId>(&["input", "id"]) {
            Ok(id) => {
                let commands = ctx.commands();
                commands
                    .restore_agent_version(&scope, id, input.number)
                    .await
            }
            Err(error) => Err(error),
        };
        payload(ctx, restored).await
    }

    /// Freeze the draft as the next version, which new runs take from then on. A draft without a change publishes nothing. It
    /// takes AGENTS_EDIT, and EDIT of the agent.
    async fn publish_agent(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which one, and what its version is called.")] input: PublishAgentInput,
    ) -> Result<PublishAgentPayload> {
        let scope = ctx.scope()?;
        let published = match input.read() {
            Ok((id, called)) => ctx.commands().publish_agent(&scope, id, called).await,
            Err(error) => Err(error),
        };
        Ok(match ctx.settle(published).await? {
            Ok(published) => {
                let reader = ctx.reader();
                let version = reader.load(VersionOf(published.version)).await?;
                PublishAgentPayload {
                    agent: reader.load(AgentOf(published.agent)).await?.map(Agent),
                    version: version.map(|seen| AgentVersion::of(&seen)),
                    errors: Vec::new(),
                }
            }
            Err(errors) => PublishAgentPayload {
                errors,
                ..PublishAgentPayload::default()
            },
        })
    }
}
