use entities::{Access, AgentId, CommandError, Refusal, Scope, agent, agent_version, query::*};

use super::{agent_changed, locked, seen};
use crate::Engine;

impl Engine {
    /// Makes the draft of an agent equal to one of its versions. The versions stay as they are.
    ///
    /// # Errors
    /// NotFound where the caller does not see the agent, Forbidden where he may not change it, a refusal where there is no version
    /// of this number.
    pub async fn restore_agent_version(
        &self,
        scope: &Scope,
        id: AgentId,
        number: i32,
    ) -> Result<AgentId, CommandError> {
        let scope = scope.clone();
        self.command(scope.tenant(), move |c| {
            Box::pin(async move {
                let row = locked(c, &scope, id, Access::Edit).await?;
                let version = agent_version::Entity::in_tenant(&scope)
                    .filter(agent_version::Column::AgentId.eq(id))
                    .filter(agent_version::Column::Number.eq(number))
                    .one(&**c.tx())
                    .await?
                    .ok_or_else(|| {
                        let message = format!("{:?} has no version {number}", row.name);
                        Refusal::invalid(&["input", "number"], message)
                    })?;
                if row.draft == version.spec && row.draft_model_id == version.model_id {
                    return Ok(id);
                }
                agent::Entity::change_in(&scope)
                    .filter(agent::Column::Id.eq(id))
                    .set(agent::ActiveModel {
                        draft: Set(version.spec),
                        draft_model_id: Set(version.model_id),
                        draft_updated_at: Set(c.now()),
                        updated_at: Set(c.now()),
                        ..Default::default()
                    })
                    .exec(&**c.tx())
                    .await?;
                agent_changed(c, &scope, id, seen(&row), seen(&row));
                Ok(id)
            })
        })
        .await
    }
}
