use std::time::Duration;

use entities::{Access, CommandError, ModelHealthStatus, ModelId, Scope, llm_model, query::*};
use tokio::time::timeout;

use super::{
    NEEDS,
    changes::{model_changed, seen},
    locked, may,
};
use crate::Engine;

/// How long a check may take, whatever the model's own patience: somebody waits for its answer.
const PATIENCE: Duration = Duration::from_secs(20);

impl Engine {
    /// Calls a model's provider once and records what came of it as the model's health: HEALTHY, or UNHEALTHY with the
    /// provider's words, cleaned.
    ///
    /// # Errors
    /// NotFound where the caller does not see it, Forbidden where he may not change it. That the provider fails is no error.
    pub async fn check_model(&self, scope: &Scope, id: ModelId) -> Result<ModelId, CommandError> {
        let (endpoint, checked) = {
            let snapshot = self.log().snapshot();
            let tx = snapshot.tx().await?;
            let select = llm_model::Entity::in_tenant(scope).filter(llm_model::Column::Id.eq(id));
            let row = select
                .filter(llm_model::Column::DeletedAt.is_null())
                .one(&**tx)
                .await?;
            let access = row
                .as_ref()
                .and_then(|row| scope.access(row.owner_id, row.visibility));
            may(scope, access, Access::Edit, NEEDS, &["input", "id"], id)?;
            let Some(row) = row else { return Ok(id) };
            (self.endpoint(tx, &row).await?, row)
        };
        // No transaction is open meanwhile.
        let answer = timeout(PATIENCE, self.providers().check(&endpoint)).await;
        let (health, latency, message) = match answer {
            Ok(Ok(found)) => {
                let latency = i32::try_from(found.latency.as_millis()).unwrap_or(i32::MAX);
                (ModelHealthStatus::Healthy, Some(latency), None)
            }
            Ok(Err(error)) => (ModelHealthStatus::Unhealthy, None, Some(error.message)),
            Err(_) => (
                ModelHealthStatus::Unhealthy,
                None,
                Some("no answer from the provider in time".to_owned()),
            ),
        };
        let scope = scope.clone();
        self.log()
            .command(move |c| {
                Box::pin(async move {
                    let row = locked(c, &scope, id, Access::Edit).await?;
                    let called = |row: &llm_model::Model| {
                        (row.base_url.clone(), row.model_name.clone(), row.secret_id)
                    };
                    if called(&row) != called(&checked) {
                        // It was changed meanwhile: what was found is not of it.
                        return Ok(id);
                    }
                    llm_model::Entity::change_in(&scope)
                        .filter(llm_model::Column::Id.eq(id))
                        .set(llm_model::ActiveModel {
                            health: Set(health),
                            checked_at: Set(Some(c.now())),
                            latency_ms: Set(latency),
                            health_message: Set(message),
                            ..Default::default()
                        })
                        .exec(&**c.tx())
                        .await?;
                    model_changed(c, &scope, id, seen(&row), seen(&row));
                    Ok(id)
                })
            })
            .await
    }
}
