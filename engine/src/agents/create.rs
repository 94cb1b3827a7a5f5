use entities::{
    AgentId, AgentSpec, AgentVersionId, CommandError, GroupId, ModelId, Scope, Visibility, agent,
    agent_version,
    db::{Failure, failure},
    input,
};
use events::Command;

use super::{NEEDS, agent_changed, check_model, seen, spec};
use crate::{
    Engine,
    models::{Checks, Named, slug_for, taken},
    sharing,
};

/// An agent to be.
#[derive(Debug, Clone, Default)]
pub struct CreateAgent {
    /// Unique in the tenant; else made of the name.
    pub slug: Option<String>,
    /// Shown to people, at most 200 characters.
    pub name: String,
    /// At most 10,000 characters.
    pub description: Option<String>,
    /// What it is told before each conversation, at most 100,000 characters.
    pub instructions: String,
    /// What it says first, at most 20,000 characters.
    pub greeting: Option<String>,
    /// What a person may begin with: at most 20, of at most 500 characters.
    pub starters: Vec<String>,
    /// Else the tenant's default, at each run.
    pub model: Option<ModelId>,
    /// 0 to 2; else the provider's.
    pub temperature: Option<f64>,
    /// Tokens, at least 1; else the model's.
    pub max_output_tokens: Option<i32>,
    /// 1 to 100; else 20.
    pub max_steps: Option<i32>,
    /// TENANT where nothing is said.
    pub visibility: Option<Visibility>,
    /// The group that it lives in; else it is its maker\'s own.
    pub group: Option<GroupId>,
}

impl CreateAgent {
    fn check(&self) -> Result<(), CommandError> {
        let mut checks = Checks::default();
        checks.slug(self.slug.as_deref());
        checks.filled(&["input", "name"], Some(&self.name), input::NAME);
        checks.description(self.description.as_deref());
        checks.instructions(Some(&self.instructions));
        checks.greeting(self.greeting.as_deref());
        checks.starters(&self.starters);
        checks.temperature(self.temperature);
        checks.positive(&["input", "maxOutputTokens"], self.max_output_tokens);
        checks.max_steps(self.max_steps);
        checks.visibility(self.visibility, self.group.is_some());
        checks.done()
    }
}

impl Engine {
    /// Makes an agent of the caller's own and publishes it as version 1.
    ///
    /// # Errors
    /// FORBIDDEN without the right to edit agents; refusals for each field that is not acceptable; a Conflict for a slug that is
    /// taken.
    pub async fn create_agent(
        &self,
        scope: &Scope,
        new: CreateAgent,
    ) -> Result<AgentId, CommandError> {
        if !scope.may(NEEDS) {
            return Err(CommandError::Forbidden(Some(NEEDS)));
        }
        new.check()?;
        let scope = scope.clone();
        self.command(scope.tenant(), move |c| {
            Box::pin(async move { create(c, &scope, new).await })
        })
        .await
    }
}

async fn create(c: &mut Command, scope: &Scope, new: CreateAgent) -> Result<AgentId, CommandError> {
    if let Some(model) = new.model {
        check_model(c, scope, model).await?;
    }
    let (id, version) = (AgentId(c.clock().uuid()), AgentVersionId(c.clock().uuid()));
    let name = new.name.trim().to_owned();
    let slug = slug_for(c, scope, Named::Agent, new.slug, &name).await?;
    let reach = sharing::reach(c, scope, new.group).await?;
    let spec = AgentSpec {
        instructions: new.instructions,
        greeting: new.greeting,
        starters: new.starters,
        temperature: new.temperature,
        max_output_tokens: new.max_output_tokens,
        max_steps: new.max_steps.unwrap_or(spec::DEFAULT_STEPS),
    };
    let row = agent::Model {
        id,
        tenant_id: scope.tenant(),
        owner_id: scope.user(),
        slug: slug.clone(),
        name,
        description: new.description.unwrap_or_default(),
        visibility: new.visibility.unwrap_or(Visibility::Tenant),
        group_id: new.group,
        reach,
        is_enabled: true,
        draft: spec.clone(),
        draft_model_id: new.model,
        draft_updated_at: c.now(),
        version_id: version,
        uses: 0,
        created_at: c.now(),
        updated_at: c.now(),
        deleted_at: None,
    };
    let seen = seen(&row);
    agent::Entity::add(&**c.tx(), row)
        .await
        .map_err(|error| match failure(&error) {
            Failure::Taken => CommandError::from(taken(&slug, None)),
            Failure::Transient | Failure::Permanent => error.into(),
        })?;
    let first = agent_version::Model {
        id: version,
        tenant_id: scope.tenant(),
        agent_id: id,
        number: 1,
        name: None,
        notes: None,
        spec,
        model_id: new.model,
        published_by: scope.user(),
        published_at: c.now(),
    };
    agent_version::Entity::add(&**c.tx(), first).await?;
    agent_changed(c, scope, id, None, seen);
    Ok(id)
}
