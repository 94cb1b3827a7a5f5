use entities::{Access, AgentId, CommandError, Scope, agent, query::*};

use super::{agent_changed, locked, seen};
use crate::Engine;

impl Engine {
    /// Hides an agent: no new run uses it, and its conversations and runs still show its name. Conversations do not stand in
    /// the way, and nothing else refers to agents.
    ///
    /// # Errors
    /// NotFound where the caller does not see it, Forbidden where he may not delete it.
    pub async fn delete_agent(&self, scope: &Scope, id: AgentId) -> Result<AgentId, CommandError> {
        let scope = scope.clone();
        self.command(scope.tenant(), move |c| {
            Box::pin(async move {
                let row = locked(c, &scope, id, Access::Manage).await?;
                agent::Entity::change_in(&scope)
                    .filter(agent::Column::Id.eq(id))
                    .set(agent::ActiveModel {
                        deleted_at: Set(Some(c.now())),
                        updated_at: Set(c.now()),
                        ..Default::default()
                    })
                    .exec(&**c.tx())
                    .await?;
                agent_changed(c, &scope, id, seen(&row), None);
                Ok(id)
            })
        })
        .await
    }
}
