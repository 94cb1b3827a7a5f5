//! How models do: what their calls came to, and which of them are in use.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbErr, Value};

use crate::{
    ModelId, Scope, SystemScope, Tx, llm_model, model_call, model_minute, runs::statement,
};

/// An answer that came to its end, as the outcome of a call.
pub const FINISHED: &str = "finished";
/// Outcomes that say nothing about a model: somebody stopped the call, or our own worker was lost, or the request was at fault.
const NO_VERDICT: [&str; 5] = [
    "cancelled",
    "interrupted",
    "lost",
    "ContextTooLong",
    "RequestRefused",
];

/// Whether a call that ended so counts against its model.
#[must_use]
pub fn is_failure(outcome: &str) -> bool {
    outcome != FINISHED && !NO_VERDICT.contains(&outcome)
}

/// How many calls there were, and how many of them failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// All that say something about the model.
    pub calls: i64,
    /// Those that failed.
    pub failed: i64,
}

fn places(from: usize, values: &[Value]) -> String {
    let places: Vec<_> = (from..=values.len()).map(|at| format!("${at}")).collect();
    places.join(", ")
}

impl model_call::Entity {
    /// The calls of a model that ended after `since`.
    ///
    /// # Errors
    /// What the database says.
    pub async fn tally(
        _: SystemScope,
        tx: &Tx,
        model: ModelId,
        since: DateTime<Utc>,
    ) -> Result<Tally, DbErr> {
        let mut values: Vec<Value> = vec![model.0.into(), since.into(), FINISHED.into()];
        values.extend(NO_VERDICT.iter().map(|&outcome| Value::from(outcome)));
        let sql = format!(
            "select count(*) as calls, count(case when outcome <> $3 then 1 end) as failed from model_calls
             where model_id = $1 and finished_at > $2 and outcome not in ({})",
            places(4, &values)
        );
        let row = tx.query_one_raw(statement(&**tx, &sql, values)).await?;
        let Some(row) = row else {
            return Ok(Tally::default());
        };
        Ok(Tally {
            calls: row.try_get_by("calls")?,
            failed: row.try_get_by("failed")?,
        })
    }

    /// Whether a call of a model that ended after `since` was answered, those apart that were to show just that.
    ///
    /// # Errors
    /// What the database says.
    pub async fn was_answered(
        _: SystemScope,
        tx: &Tx,
        model: ModelId,
        since: DateTime<Utc>,
    ) -> Result<bool, DbErr> {
        let values = vec![model.0.into(), since.into(), FINISHED.into()];
        let sql = "select id from model_calls where model_id = $1 and finished_at > $2 and outcome = $3 and purpose <> 'CHECK' limit 1";
        let row = tx.query_one_raw(statement(&**tx, sql, values)).await?;
        Ok(row.is_some())
    }
}

impl model_minute::Entity {
    /// What the calls of these models came to in the minutes that began after `since`; those without any are left out. One
    /// statement.
    ///
    /// # Errors
    /// What the database says.
    pub async fn tallies(
        scope: &Scope,
        tx: &Tx,
        models: &[ModelId],
        since: DateTime<Utc>,
    ) -> Result<HashMap<ModelId, Tally>, DbErr> {
        if models.is_empty() {
            return Ok(HashMap::new());
        }
        let mut values: Vec<Value> = vec![scope.tenant().0.into(), since.into()];
        values.extend(models.iter().map(|model| Value::from(model.0)));
        let sql = format!(
            "select model_id, sum(calls) as calls, sum(failed) as failed from model_minutes
             where tenant_id = $1 and minute > $2 and model_id in ({}) group by model_id",
            places(3, &values)
        );
        let rows = tx.query_all_raw(statement(&**tx, &sql, values)).await?;
        let tallies = rows.iter().map(|row| {
            let tally = Tally {
                calls: row.try_get_by("calls")?,
                failed: row.try_get_by("failed")?,
            };
            Ok((ModelId(row.try_get_by("model_id")?), tally))
        });
        tallies.collect()
    }
}

impl llm_model::Entity {
    /// Which of these models somebody may come to call: the default of its tenant, that of an enabled agent's draft or version,
    /// or one that is tried when such a model fails.
    ///
    /// # Errors
    /// What the database says.
    pub async fn in_use(
        _: SystemScope,
        tx: &Tx,
        models: &[ModelId],
    ) -> Result<HashSet<ModelId>, DbErr> {
        if models.is_empty() {
            return Ok(HashSet::new());
        }
        let values: Vec<Value> = models.iter().map(|model| Value::from(model.0)).collect();
        let these = places(1, &values);
        let sql = format!(
            "with houses(id) as (select distinct tenant_id from models where id in ({these})), used(id) as (
               select t.default_model_id from tenants t join houses h on h.id = t.id where t.is_active and t.default_model_id is not null
               union select a.draft_model_id from agents a join houses h on h.id = a.tenant_id
                 where a.deleted_at is null and a.is_enabled and a.draft_model_id is not null
               union select v.model_id from agents a join houses h on h.id = a.tenant_id join agent_versions v on v.id = a.version_id
                 where a.deleted_at is null and a.is_enabled and v.model_id is not null)
             select id from used where id in ({these})
             union select f.fallback_id from model_fallbacks f join used u on u.id = f.model_id where f.fallback_id in ({these})"
        );
        let rows = tx.query_all_raw(statement(&**tx, &sql, values)).await?;
        rows.iter()
            .map(|row| Ok(ModelId(row.try_get_by("id")?)))
            .collect()
    }
}
