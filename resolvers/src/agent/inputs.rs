use async_graphql::{ID, InputObject, MaybeUndefined};
use engine::agents::{CreateAgent, PublishAgent, UpdateAgent};
use entities::{AgentId, CommandError, ModelId, Refusal};

use crate::{
    asking::GivenId,
    model::{Nulls, cleared, filter_text},
    sharing::Visibility,
};

const GROUP: &[&str] = &["input", "groupId"];
const MODEL: &[&str] = &["input", "modelId"];

/// An agent to make.
#[derive(InputObject)]
pub struct CreateAgentInput {
    /// Short name, unique among the tenant's agents: `[a-z0-9-]{1,63}`. Left out: made of the name, with a number where it is
    /// taken.
    slug: Option<String>,
    /// Name shown to people, from 1 to 200 characters.
    name: String,
    /// What it is for, for people who choose among agents; 10,000 characters at most.
    description: Option<String>,
    /// What it is told before each conversation, from 1 to 100,000 characters.
    instructions: String,
    /// What it says before anybody else does, 20,000 characters at most.
    greeting: Option<String>,
    /// What a person may begin with: 20 at most, of 500 characters each.
    starters: Option<Vec<String>>,
    /// The CHAT model that it speaks through. Left out: the tenant's default, whichever that is when a run starts.
    model_id: Option<ID>,
    /// How freely it chooses words, from 0 to 2. Left out: as the provider does.
    temperature: Option<f64>,
    /// The most tokens of one answer, at least 1. Left out: as the model allows.
    max_output_tokens: Option<i32>,
    /// Calls of the model in one run, from 1 to 100, before it is asked to conclude. Left out: 20.
    max_steps: Option<i32>,
    /// Who sees it. Left out: TENANT. GROUP needs `groupId`.
    visibility: Option<Visibility>,
    /// The id of the group that it lives in, of which the viewer is EDITOR or more. Left out: the viewer's own.
    group_id: Option<ID>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

impl CreateAgentInput {
    pub(super) fn read(self) -> Result<CreateAgent, CommandError> {
        Ok(CreateAgent {
            slug: self.slug,
            name: self.name,
            description: self.description,
            instructions: self.instructions,
            greeting: self.greeting,
            starters: self.starters.unwrap_or_default(),
            model: self
                .model_id
                .map(|id| id.named::<ModelId>(MODEL))
                .transpose()?,
            temperature: self.temperature,
            max_output_tokens: self.max_output_tokens,
            max_steps: self.max_steps,
            visibility: self.visibility.map(Into::into),
            group: self.group_id.map(|id| id.named(GROUP)).transpose()?,
        })
    }
}

/// What changes of an agent. What is left out stays; lists are replaced whole. Each field has the limits that it has in
/// `CreateAgentInput`; null is refused where nothing else is said.
#[derive(InputObject)]
pub struct UpdateAgentInput {
    /// The id of the agent.
    pub(super) id: ID,
    /// Another short name; at once. A CONFLICT where another agent has it.
    slug: MaybeUndefined<String>,
    /// Another name, shown to people; at once.
    name: MaybeUndefined<String>,
    /// Another description, for people who choose among agents; at once.
    description: MaybeUndefined<String>,
    /// Other instructions, from the next version on.
    instructions: MaybeUndefined<String>,
    /// Another greeting, from the next version on; null takes it off.
    greeting: MaybeUndefined<String>,
    /// Other starters, from the next version on; the whole list.
    starters: MaybeUndefined<Vec<String>>,
    /// Another model, from the next version on; null: the tenant's default.
    model_id: MaybeUndefined<ID>,
    /// How freely it chooses words, from the next version on; null: as the provider does.
    temperature: MaybeUndefined<f64>,
    /// The most tokens of one answer, from the next version on; null: as the model allows.
    max_output_tokens: MaybeUndefined<i32>,
    /// Calls of the model in one run, from the next version on.
    max_steps: MaybeUndefined<i32>,
    /// Who sees it, by whoever may share it; at once.
    visibility: MaybeUndefined<Visibility>,
    /// The id of the group that it lives in from now on, by whoever may share it; null: its owner's own. At once.
    group_id: MaybeUndefined<ID>,
    /// Whether new runs may use it; at once.
    is_enabled: MaybeUndefined<bool>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

impl UpdateAgentInput {
    pub(super) fn read(self) -> Result<UpdateAgent, CommandError> {
        let mut nulls = Nulls::default();
        let group = cleared(self.group_id).map(|id| id.map(|id| id.named(GROUP)).transpose());
        let model =
            cleared(self.model_id).map(|id| id.map(|id| id.named::<ModelId>(MODEL)).transpose());
        let change = UpdateAgent {
            slug: nulls.never("slug", self.slug),
            name: nulls.never("name", self.name),
            description: nulls.never("description", self.description),
            instructions: nulls.never("instructions", self.instructions),
            greeting: cleared(self.greeting),
            starters: nulls.never("starters", self.starters),
            model: model.transpose()?,
            temperature: cleared(self.temperature),
            max_output_tokens: cleared(self.max_output_tokens),
            max_steps: nulls.never("maxSteps", self.max_steps),
            visibility: nulls.never("visibility", self.visibility).map(Into::into),
            group: group.transpose()?,
            is_enabled: nulls.never("isEnabled", self.is_enabled),
        };
        nulls.none()?;
        Ok(change)
    }
}

/// An agent to delete.
#[derive(InputObject)]
pub struct DeleteAgentInput {
    /// The id of the agent.
    pub(super) id: ID,
    /// Delete it although others refer to it. Without, they are told as InUse. Conversations never stand in the way.
    #[graphql(default)]
    pub(super) force: bool,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// An agent to publish.
#[derive(InputObject)]
pub struct PublishAgentInput {
    /// The id of the agent.
    pub(super) id: ID,
    /// What the version is called, 200 characters at most. Left out: nothing.
    name: Option<String>,
    /// What changed and why, 10,000 characters at most. Left out: nothing.
    notes: Option<String>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

impl PublishAgentInput {
    pub(super) fn read(self) -> Result<(AgentId, PublishAgent), CommandError> {
        let id = self.id.named(&["input", "id"])?;
        Ok((
            id,
            PublishAgent {
                name: self.name,
                notes: self.notes,
            },
        ))
    }
}

/// Which agents to list; several conditions are all required, what is left out is none.
#[derive(Default, InputObject)]
pub struct AgentFilter {
    /// A text that its name, its slug or its description holds, whatever the case; 200 characters at most.
    query: Option<String>,
    /// The id of the user who made it.
    owner_id: Option<ID>,
    /// Only those of this visibility.
    visibility: Option<Visibility>,
    /// True: only those that new runs may use; false: only the others.
    is_enabled: Option<bool>,
}

impl AgentFilter {
    /// `None`: it names an owner that can't be, so no agent fits.
    pub(super) fn read(self) -> Result<Option<loaders::agents::AgentFilter>, Refusal> {
        let query = filter_text(self.query)?;
        let owner = match self.owner_id {
            None => None,
            Some(id) => match id.typed() {
                Some(id) => Some(id),
                None => return Ok(None),
            },
        };
        let visibility = self.visibility.map(Into::into);
        Ok(Some(loaders::agents::AgentFilter {
            query,
            owner,
            visibility,
            is_enabled: self.is_enabled,
        }))
    }
}

/// A version of an agent to go back to.
#[derive(InputObject)]
pub struct RestoreAgentVersionInput {
    /// The id of the agent.
    pub id: ID,
    /// The number of the version, from 1.
    pub number: i32,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}
