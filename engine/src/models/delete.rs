use entities::{
    Access, AgentId, CommandError, ModelId, Permission, Reference, Refusal, ResourceKind, Scope,
    TenantId, agent, agent_version, llm_model, model_fallback, query::*, tenant,
};
use events::Command;

use super::{
    Checks, NEEDS,
    changes::{changed, model_changed, seen, set_default},
    locked, own_tenant,
};
use crate::Engine;

/// The most referrers that are named.
const NAMED: u64 = 100;

/// What refers to a model, as far as it could be called by it.
struct Referrers {
    /// Agents whose draft or newest version names it.
    agents: Vec<agent::Model>,
    /// Models that fall back to it.
    models: Vec<llm_model::Model>,
    /// The tenant, whose default it is.
    tenant: Option<tenant::Model>,
}

impl Engine {
    /// Hides a model: no new run uses it, and its name stays where it was used. What refers to it stands in the way; `force`
    /// takes the references off, those of drafts, fallbacks and the default. Published versions are never changed: one that
    /// names it runs with the tenant's default from then on.
    ///
    /// # Errors
    /// NotFound where the caller does not see it, Forbidden where he may not delete it or, with `force`, may not change all
    /// that refers to it; InUse without.
    pub async fn delete_model(
        &self,
        scope: &Scope,
        id: ModelId,
        force: bool,
    ) -> Result<ModelId, CommandError> {
        let scope = scope.clone();
        self.command(scope.tenant(), move |c| {
            Box::pin(async move { delete(c, &scope, id, force).await })
        })
        .await
    }
}

async fn delete(
    c: &mut Command,
    scope: &Scope,
    id: ModelId,
    force: bool,
) -> Result<ModelId, CommandError> {
    let row = locked(c, scope, id, Access::Manage).await?;
    let referrers = referrers(c, scope, id, force).await?;
    let by = referrers.references();
    if !force && !by.is_empty() {
        return Err(Refusal::InUse {
            path: vec!["input".into(), "id".into()],
            by,
        }
        .into());
    }
    referrers.may_be_changed(scope)?;
    if referrers.tenant.is_some() {
        set_default(c, scope, Some(id), None).await?;
    }
    let either = Condition::any()
        .add(model_fallback::Column::FallbackId.eq(id))
        .add(model_fallback::Column::ModelId.eq(id));
    model_fallback::Entity::delete_in(scope)
        .filter(either)
        .exec(&**c.tx())
        .await?;
    for model in &referrers.models {
        model_changed(c, scope, model.id, seen(model), seen(model));
    }
    agent::Entity::change_in(scope)
        .filter(agent::Column::DraftModelId.eq(id))
        .filter(agent::Column::DeletedAt.is_null())
        .set(agent::ActiveModel {
            draft_model_id: Set(None),
            draft_updated_at: Set(c.now()),
            updated_at: Set(c.now()),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    for agent in &referrers.agents {
        let seen = Some(agent.audience());
        changed(
            c,
            scope,
            ResourceKind::Agent,
            agent.id.0,
            seen.clone(),
            seen,
        );
    }
    llm_model::Entity::change_in(scope)
        .filter(llm_model::Column::Id.eq(id))
        .set(llm_model::ActiveModel {
            deleted_at: Set(Some(c.now())),
            updated_at: Set(c.now()),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    model_changed(c, scope, id, seen(&row), None);
    Ok(id)
}

/// All of them where they will be changed, else as many as are named.
async fn referrers(
    c: &Command,
    scope: &Scope,
    id: ModelId,
    all: bool,
) -> Result<Referrers, CommandError> {
    let tx = &**c.tx();
    let limit = if all { None } else { Some(NAMED) };
    let mut versions = agent_version::Entity::in_tenant(scope)
        .filter(agent_version::Column::ModelId.eq(id))
        .select_only()
        .column(agent_version::Column::Id);
    let names = Condition::any()
        .add(agent::Column::DraftModelId.eq(id))
        .add(agent::Column::VersionId.in_subquery(QuerySelect::query(&mut versions).to_owned()));
    let agents = agent::Entity::in_tenant(scope)
        .filter(agent::Column::DeletedAt.is_null())
        .filter(names)
        .order_by_asc(agent::Column::Name)
        .order_by_asc(agent::Column::Id)
        .limit(limit)
        .all(tx)
        .await?;
    let mut fallbacks = model_fallback::Entity::in_tenant(scope)
        .filter(model_fallback::Column::FallbackId.eq(id))
        .select_only()
        .column(model_fallback::Column::ModelId);
    let models = llm_model::Entity::in_tenant(scope)
        .filter(llm_model::Column::DeletedAt.is_null())
        .filter(llm_model::Column::Id.in_subquery(QuerySelect::query(&mut fallbacks).to_owned()))
        .order_by_asc(llm_model::Column::Name)
        .order_by_asc(llm_model::Column::Id)
        .limit(limit)
        .all(tx)
        .await?;
    let tenant = own_tenant(c, scope, true).await?;
    Ok(Referrers {
        agents,
        models,
        tenant: Some(tenant).filter(|tenant| tenant.default_model_id == Some(id)),
    })
}

impl Referrers {
    fn references(&self) -> Vec<Reference> {
        let agents = self.agents.iter().map(|row| Reference {
            prefix: AgentId::PREFIX,
            id: row.id.0,
        });
        let models = self.models.iter().map(|row| Reference {
            prefix: ModelId::PREFIX,
            id: row.id.0,
        });
        let tenant = self.tenant.iter().map(|row| Reference {
            prefix: TenantId::PREFIX,
            id: row.id.0,
        });
        agents.chain(models).chain(tenant).collect()
    }

    /// Whoever takes references off changes what holds them. The tenant's default is changed by who manages models.
    fn may_be_changed(&self, scope: &Scope) -> Result<(), CommandError> {
        let agents = self
            .agents
            .iter()
            .map(|row| (ResourceKind::Agent, row.audience(), Permission::AgentsEdit));
        let models = self
            .models
            .iter()
            .map(|row| (ResourceKind::Model, row.audience(), NEEDS));
        let mut checks = Checks::default();
        for (kind, audience, needs) in agents.chain(models) {
            let path = &["input", "force"];
            if !scope.may(needs) {
                checks.take::<()>(Err(Refusal::forbidden(path, Some(needs))));
            } else if scope
                .access(kind, &audience)
                .is_none_or(|access| access < Access::Edit)
            {
                checks.take::<()>(Err(Refusal::forbidden(path, None)));
            } else {
                continue;
            }
            // One says it.
            break;
        }
        checks.done()
    }
}
