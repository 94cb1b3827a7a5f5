//! Agents: a draft that is edited, and numbered versions of it that are published and never changed.
//!
//! A run takes the newest published version at its start and keeps it, so what is written here changes no run under way.

mod create;
mod delete;
mod diff;
mod publish;
mod restore;
mod spec;
#[cfg(test)]
mod tests;
mod update;

use entities::{
    Access, AgentId, Audience, CommandError, ModelId, ModelKind, Permission, Refusal, ResourceKind,
    Scope, agent, llm_model, query::*,
};
use events::Command;

pub use create::CreateAgent;
pub use diff::diff;
pub use publish::{PublishAgent, Published};
pub use update::UpdateAgent;

use crate::models::{changed, may};

/// What changing an agent asks for.
const NEEDS: Permission = Permission::AgentsEdit;

type Seen = Option<Audience>;

fn seen(row: &agent::Model) -> Seen {
    Some(row.audience())
}

fn agent_changed(c: &mut Command, scope: &Scope, id: AgentId, before: Seen, after: Seen) {
    changed(c, scope, ResourceKind::Agent, id.0, before, after);
}

/// An agent that the caller may change this far, its row locked.
async fn locked(
    c: &Command,
    scope: &Scope,
    id: AgentId,
    least: Access,
) -> Result<agent::Model, CommandError> {
    let row = agent::Entity::in_tenant(scope)
        .filter(agent::Column::Id.eq(id))
        .filter(agent::Column::DeletedAt.is_null())
        .lock(LockType::NoKeyUpdate)
        .one(&**c.tx())
        .await?;
    let access = row
        .as_ref()
        .and_then(|row| scope.access(ResourceKind::Agent, &row.audience()));
    may(scope, access, least, NEEDS, &["input", "id"], id)?;
    row.ok_or_else(|| Refusal::not_found(&["input", "id"], id).into())
}

/// A CHAT model that the caller sees.
async fn check_model(c: &Command, scope: &Scope, id: ModelId) -> Result<(), CommandError> {
    let path = &["input", "modelId"];
    let row = llm_model::Entity::in_tenant(scope)
        .filter(llm_model::Column::Id.eq(id))
        .filter(llm_model::Column::DeletedAt.is_null())
        .one(&**c.tx())
        .await?
        .filter(|row| scope.access(ResourceKind::Model, &row.audience()).is_some())
        .ok_or_else(|| Refusal::not_found(path, id))?;
    if row.kind == ModelKind::Chat {
        Ok(())
    } else {
        Err(Refusal::invalid(path, format!("{:?} is no CHAT model", row.name)).into())
    }
}
