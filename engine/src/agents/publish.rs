use entities::{
    Access, AgentId, AgentVersionId, CommandError, Scope, agent, agent_version, input, query::*,
};
use events::Command;
use serde::{Deserialize, Serialize};

use super::{agent_changed, locked, seen};
use crate::{Engine, models::Checks};

/// What a version is called.
#[derive(Debug, Clone, Default)]
pub struct PublishAgent {
    /// At most 200 characters.
    pub name: Option<String>,
    /// What changed and why, at most 10,000 characters.
    pub notes: Option<String>,
}

/// The newest version after publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The agent.
    pub agent: AgentId,
    /// Its newest version.
    pub version: AgentVersionId,
    /// Whether it is a new one: without a change in the draft it is the one there was.
    pub is_new: bool,
}

impl Engine {
    /// Freezes the draft as the next version. A draft without a change publishes nothing.
    ///
    /// # Errors
    /// NotFound where the caller does not see the agent, Forbidden where he may not change it, refusals for a name or notes that
    /// are not acceptable.
    pub async fn publish_agent(
        &self,
        scope: &Scope,
        id: AgentId,
        called: PublishAgent,
    ) -> Result<Published, CommandError> {
        let scope = scope.clone();
        self.command(scope.tenant(), move |c| {
            Box::pin(async move { publish(c, &scope, id, called).await })
        })
        .await
    }
}

async fn publish(
    c: &mut Command,
    scope: &Scope,
    id: AgentId,
    called: PublishAgent,
) -> Result<Published, CommandError> {
    let row = locked(c, scope, id, Access::Edit).await?;
    let mut checks = Checks::default();
    checks.filled(&["input", "name"], called.name.as_deref(), input::NAME);
    checks.filled(
        &["input", "notes"],
        called.notes.as_deref(),
        input::DESCRIPTION,
    );
    checks.done()?;
    let newest = agent_version::Entity::in_tenant(scope)
        .filter(agent_version::Column::Id.eq(row.version_id))
        .one(&**c.tx())
        .await?
        .ok_or_else(|| CommandError::Internal(format!("{id} has no version")))?;
    if newest.spec == row.draft && newest.model_id == row.draft_model_id {
        return Ok(Published {
            agent: id,
            version: newest.id,
            is_new: false,
        });
    }
    let version = agent_version::Model {
        id: AgentVersionId(c.clock().uuid()),
        tenant_id: scope.tenant(),
        agent_id: id,
        number: newest.number + 1,
        name: called.name.map(|name| name.trim().to_owned()),
        notes: called.notes,
        spec: row.draft.clone(),
        model_id: row.draft_model_id,
        published_by: scope.user(),
        published_at: c.now(),
    };
    let published = Published {
        agent: id,
        version: version.id,
        is_new: true,
    };
    agent_version::Entity::add(&**c.tx(), version).await?;
    agent::Entity::change_in(scope)
        .filter(agent::Column::Id.eq(id))
        .set(agent::ActiveModel {
            version_id: Set(published.version),
            updated_at: Set(c.now()),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    agent_changed(c, scope, id, seen(&row), seen(&row));
    Ok(published)
}
