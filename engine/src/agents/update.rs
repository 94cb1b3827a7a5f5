use entities::{
    Access, AgentId, CommandError, GroupId, ModelId, ResourceKind, Scope, Visibility, agent,
    db::{Failure, failure},
    input,
    query::*,
};
use events::Command;

use super::{agent_changed, check_model, locked, seen};
use crate::{
    Engine,
    models::{Checks, Named, taken},
    sharing::{self, Move},
};

/// What changes of an agent; `None` leaves it, `Some(None)` takes it off. What a version is made of changes in the draft.
#[derive(Debug, Clone, Default)]
pub struct UpdateAgent {
    /// Another short name.
    pub slug: Option<String>,
    /// Another name.
    pub name: Option<String>,
    /// Another description; it may be empty.
    pub description: Option<String>,
    /// Of the draft.
    pub instructions: Option<String>,
    /// Of the draft.
    pub greeting: Option<Option<String>>,
    /// Of the draft, the whole list.
    pub starters: Option<Vec<String>>,
    /// Of the draft.
    pub model: Option<Option<ModelId>>,
    /// Of the draft, 0 to 2.
    pub temperature: Option<Option<f64>>,
    /// Of the draft, at least 1.
    pub max_output_tokens: Option<Option<i32>>,
    /// Of the draft, 1 to 100.
    pub max_steps: Option<i32>,
    /// Who sees it; by whoever may share it, as the group.
    pub visibility: Option<Visibility>,
    /// The group that it lives in; `Some(None)`: it is its owner's own.
    pub group: Option<Option<GroupId>>,
    /// Whether new runs may use it.
    pub is_enabled: Option<bool>,
}

impl UpdateAgent {
    fn check(&self) -> Result<(), CommandError> {
        let mut checks = Checks::default();
        checks.slug(self.slug.as_deref());
        checks.filled(&["input", "name"], self.name.as_deref(), input::NAME);
        checks.description(self.description.as_deref());
        checks.instructions(self.instructions.as_deref());
        checks.greeting(self.greeting.as_ref().and_then(Option::as_deref));
        checks.starters(self.starters.as_deref().unwrap_or_default());
        checks.temperature(self.temperature.flatten());
        checks.positive(
            &["input", "maxOutputTokens"],
            self.max_output_tokens.flatten(),
        );
        checks.max_steps(self.max_steps);
        checks.done()
    }

    fn apply(self, row: &mut agent::Model) {
        let text = |given: Option<String>, before: &mut String| {
            if let Some(given) = given {
                given.trim().clone_into(before);
            }
        };
        text(self.slug, &mut row.slug);
        text(self.name, &mut row.name);
        row.is_enabled = self.is_enabled.unwrap_or(row.is_enabled);
        if let Some(description) = self.description {
            row.description = description;
        }
        let draft = &mut row.draft;
        if let Some(instructions) = self.instructions {
            draft.instructions = instructions;
        }
        if let Some(greeting) = self.greeting {
            draft.greeting = greeting;
        }
        if let Some(starters) = self.starters {
            draft.starters = starters;
        }
        draft.temperature = self.temperature.unwrap_or(draft.temperature);
        draft.max_output_tokens = self.max_output_tokens.unwrap_or(draft.max_output_tokens);
        draft.max_steps = self.max_steps.unwrap_or(draft.max_steps);
        row.draft_model_id = self.model.unwrap_or(row.draft_model_id);
    }
}

impl Engine {
    /// Changes an agent: its draft, and at once what is not versioned.
    ///
    /// # Errors
    /// NotFound where the caller does not see it, Forbidden where he may not change it, refusals for each field that is not
    /// acceptable, a Conflict for a slug that is taken.
    pub async fn update_agent(
        &self,
        scope: &Scope,
        id: AgentId,
        change: UpdateAgent,
    ) -> Result<AgentId, CommandError> {
        let scope = scope.clone();
        self.command(scope.tenant(), move |c| {
            Box::pin(async move { update(c, &scope, id, change).await })
        })
        .await
    }
}

async fn update(
    c: &mut Command,
    scope: &Scope,
    id: AgentId,
    change: UpdateAgent,
) -> Result<AgentId, CommandError> {
    let before = locked(c, scope, id, Access::Edit).await?;
    change.check()?;
    if let Some(slug) = change.slug.as_ref().filter(|slug| **slug != before.slug)
        && let Some(owner) = Named::Agent.owner(c, scope, slug).await?
    {
        return Err(taken(slug, Some(owner)).into());
    }
    // The one that stands there may be out of the caller's sight and stays.
    if let Some(Some(model)) = change.model
        && before.draft_model_id != Some(model)
    {
        check_model(c, scope, model).await?;
    }
    let access = scope.access(ResourceKind::Agent, &before.audience());
    let moves = Move {
        group: change.group,
        visibility: change.visibility,
    };
    let place = (before.group_id, before.visibility);
    let (group, visibility) = moves.check(c, scope, place, access).await?;
    let mut after = before.clone();
    change.apply(&mut after);
    (after.group_id, after.visibility) = (group, visibility);
    if after.group_id != before.group_id {
        after.reach = sharing::moved(c, scope, before.reach.clone(), group).await?;
    }
    after.updated_at = c.now();
    if (&after.draft, after.draft_model_id) != (&before.draft, before.draft_model_id) {
        after.draft_updated_at = c.now();
    }
    let (seen_before, seen_after, slug) = (seen(&before), seen(&after), after.slug.clone());
    agent::Entity::change_in(scope)
        .filter(agent::Column::Id.eq(id))
        .set(after.into_active_model().reset_all())
        .exec(&**c.tx())
        .await
        .map_err(|error| match failure(&error) {
            Failure::Taken => CommandError::from(taken(&slug, None)),
            Failure::Transient | Failure::Permanent => error.into(),
        })?;
    agent_changed(c, scope, id, seen_before, seen_after);
    Ok(id)
}
