use std::time::Duration;

use chrono::{DateTime, Utc};
use entities::{
    Access, CommandError, DbErr, ModelHealthStatus, ModelId, Scope, SystemScope, llm_model,
    query::*,
};
use events::Command;
use providers::Endpoint;
use tokio::time::timeout;

use super::{
    NEEDS,
    changes::{model_changed, seen},
    locked, may,
};
use crate::Engine;

const SYSTEM: SystemScope = SystemScope::of("what was found of a model that was looked up before");

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
        let found = self.find_out(&endpoint).await;
        let scope = scope.clone();
        self.command(move |c| {
            Box::pin(async move {
                let row = locked(c, &scope, id, Access::Edit).await?;
                if !is_same(&row, &checked) {
                    // It was changed meanwhile: what was found is not of it.
                    return Ok(id);
                }
                let mut after = row.clone();
                found.onto(&mut after, c.now());
                write(c, &after).await?;
                model_changed(c, &scope, id, seen(&row), seen(&row));
                Ok(id)
            })
        })
        .await
    }

    /// Asks a provider once.
    pub(super) async fn find_out(&self, endpoint: &Endpoint) -> Found {
        match timeout(PATIENCE, self.providers().check(endpoint)).await {
            Ok(Ok(found)) => Found {
                health: ModelHealthStatus::Healthy,
                latency_ms: Some(i32::try_from(found.latency.as_millis()).unwrap_or(i32::MAX)),
                message: None,
            },
            Ok(Err(error)) => Found::unhealthy(error.message),
            Err(_) => Found::unhealthy("no answer from the provider in time".to_owned()),
        }
    }
}

/// What came of asking.
pub(super) struct Found {
    health: ModelHealthStatus,
    latency_ms: Option<i32>,
    message: Option<String>,
}

impl Found {
    fn unhealthy(message: String) -> Self {
        Self {
            health: ModelHealthStatus::Unhealthy,
            latency_ms: None,
            message: Some(message),
        }
    }

    /// It could not even be asked.
    pub(super) fn unusable() -> Self {
        Self::unhealthy("the model's settings can't be used as they are stored".to_owned())
    }

    /// Notes it in a row. A model that was left alone for a while and answers may be called again.
    pub(super) fn onto(self, row: &mut llm_model::Model, now: DateTime<Utc>) {
        let answers = self.health == ModelHealthStatus::Healthy;
        if answers && row.breaker_until.is_some_and(|until| until <= now) {
            row.breaker_until = None;
        }
        row.health = self.health;
        row.checked_at = Some(now);
        row.latency_ms = self.latency_ms;
        row.health_message = self.message;
    }
}

/// Whether it is still the same that is called.
pub(super) fn is_same(row: &llm_model::Model, checked: &llm_model::Model) -> bool {
    let called =
        |row: &llm_model::Model| (row.base_url.clone(), row.model_name.clone(), row.secret_id);
    called(row) == called(checked)
}

/// Stores what is known of a model's health; its row is locked.
pub(super) async fn write(c: &Command, row: &llm_model::Model) -> Result<(), DbErr> {
    llm_model::Entity::change_anywhere(SYSTEM)
        .filter(llm_model::Column::Id.eq(row.id))
        .set(llm_model::ActiveModel {
            health: Set(row.health),
            checked_at: Set(row.checked_at),
            latency_ms: Set(row.latency_ms),
            health_message: Set(row.health_message.clone()),
            breaker_until: Set(row.breaker_until),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    Ok(())
}
