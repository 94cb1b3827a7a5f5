use async_graphql::{Context, Interface, Result, plain_abstract};
use entities::{Access, ModelId};
use loaders::models::ModelOf;

use super::objects::{Agent, AgentDraft, AgentVersion};
use crate::{asking::ContextExt, model::Model};

/// What a version of an agent is made of. Those who may only use the agent get null for its instructions and settings.
#[derive(Interface)]
#[expect(clippy::duplicated_attributes, reason = "several fields have one type")]
#[graphql(
    crate = "agent_spec_gql",
    field(
        name = "instructions",
        ty = "Option<&str>",
        desc = "What it is told before each conversation."
    ),
    field(
        name = "greeting",
        ty = "Option<&str>",
        desc = "What it says before anybody else does; null: nothing."
    ),
    field(
        name = "starters",
        ty = "&[String]",
        desc = "What a person may begin with, in the order in which they are shown."
    ),
    field(
        name = "model",
        ty = "Result<Option<Model>>",
        desc = "What it speaks through; null: the tenant's default, or one that the viewer may not see."
    ),
    field(
        name = "temperature",
        ty = "Option<f64>",
        desc = "How freely it chooses words, from 0 to 2; null: as the provider does."
    ),
    field(
        name = "max_output_tokens",
        ty = "Option<i32>",
        desc = "The most tokens of one answer; null: as the model allows."
    ),
    field(
        name = "max_steps",
        ty = "i32",
        desc = "Calls of the model in one run, from 1 to 100, before it is asked to conclude."
    )
)]
pub enum AgentSpec {
    /// An agent as it runs.
    Agent(Agent),
    /// What its next version will be.
    AgentDraft(AgentDraft),
    /// A version of it.
    AgentVersion(AgentVersion),
}

plain_abstract!(AgentSpec as agent_spec_gql { Agent, AgentDraft, AgentVersion });

/// The same for all three, by whose right it is read.
pub(super) struct Spec<'a> {
    pub(super) spec: &'a entities::AgentSpec,
    pub(super) model: Option<ModelId>,
    pub(super) access: Access,
}

impl<'a> Spec<'a> {
    /// What those who may only use the agent do not see.
    fn read<T>(&self, value: Option<T>) -> Option<T> {
        value.filter(|_| self.access >= Access::Read)
    }

    pub(super) fn instructions(&self) -> Option<&'a str> {
        self.read(Some(&self.spec.instructions))
    }

    pub(super) fn greeting(&self) -> Option<&'a str> {
        self.spec.greeting.as_deref()
    }

    pub(super) fn starters(&self) -> &'a [String] {
        &self.spec.starters
    }

    pub(super) async fn model(&self, ctx: &Context<'_>) -> Result<Option<Model>> {
        let Some(id) = self.read(self.model) else {
            return Ok(None);
        };
        let found = ctx.reader().load(ModelOf(id)).await?;
        Ok(found.filter(|model| model.is_there()).map(Model))
    }

    pub(super) fn temperature(&self) -> Option<f64> {
        self.read(self.spec.temperature)
    }

    pub(super) fn max_output_tokens(&self) -> Option<i32> {
        self.read(self.spec.max_output_tokens)
    }

    pub(super) fn max_steps(&self) -> i32 {
        self.spec.max_steps
    }
}
