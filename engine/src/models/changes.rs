use entities::{Audience, CommandError, ModelId, ResourceKind, Scope, llm_model, query::*, tenant};
use events::Command;
use uuid::Uuid;

use super::SYSTEM;

/// Tells the tenant's `changes` of a resource, and who could see it before and after; from the two follows what was done.
pub(crate) fn changed(
    c: &mut Command,
    scope: &Scope,
    kind: ResourceKind,
    id: Uuid,
    before: Option<Audience>,
    after: Option<Audience>,
) {
    c.changed(scope, kind, id, before, after);
}

pub(super) fn seen(row: &llm_model::Model) -> Option<Audience> {
    Some(row.audience())
}

/// Tells of a model.
pub(super) fn model_changed(
    c: &mut Command,
    scope: &Scope,
    id: ModelId,
    before: Option<Audience>,
    after: Option<Audience>,
) {
    changed(c, scope, ResourceKind::Model, id.0, before, after);
}

/// Tells that a model does otherwise than it did; who may see it stays.
pub(super) fn health_changed(c: &mut Command, row: &llm_model::Model) {
    let seen_by = seen(row);
    c.changed_in(
        row.tenant_id,
        ResourceKind::Model,
        row.id.0,
        seen_by.clone(),
        seen_by,
    );
}

/// Makes a model the tenant's default, or none; the one that was is told of as changed.
pub(super) async fn set_default(
    c: &mut Command,
    scope: &Scope,
    before: Option<ModelId>,
    now: Option<ModelId>,
) -> Result<(), CommandError> {
    if before == now {
        return Ok(());
    }
    tenant::Entity::change_anywhere(SYSTEM)
        .filter(tenant::Column::Id.eq(scope.tenant()))
        .set(tenant::ActiveModel {
            default_model_id: Set(now),
            updated_at: Set(c.now()),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    let Some(before) = before else { return Ok(()) };
    let row = llm_model::Entity::in_tenant(scope)
        .filter(llm_model::Column::Id.eq(before))
        .filter(llm_model::Column::DeletedAt.is_null())
        .one(&**c.tx())
        .await?;
    if let Some(row) = row {
        model_changed(c, scope, row.id, seen(&row), seen(&row));
    }
    Ok(())
}
