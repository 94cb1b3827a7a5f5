//! Models: where they are, what is needed to call them, and who may change that.
//!
//! What is written here is checked here; how a provider is spoken to is `providers`' matter. A key or a header's value goes in
//! and never comes out again, but through [`Engine::endpoint`], to where it was meant for.

mod address;
mod changes;
mod check;
mod checks;
mod checkup;
mod create;
mod delete;
mod endpoint;
pub(crate) mod health;
mod known;
mod secrets;
mod seed;
mod settings;
mod slug;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod update;

use entities::{
    Access, CommandError, ModelId, Permission, Refusal, ResourceKind, Scope, SystemScope,
    llm_model, query::*, tenant,
};
use events::Command;

pub use create::CreateModel;
pub use health::status;
pub use known::context_window;
pub use seed::{OperatorEnvironment, OperatorModel};
pub use settings::{Header, Pricing};
pub use update::UpdateModel;

pub(crate) use changes::changed;
pub(crate) use checks::Checks;
pub(crate) use endpoint::counter;
pub(crate) use slug::{Named, slug_for, taken};

#[cfg(doc)]
use crate::Engine;

/// The tenant's own row is read and changed by its id: it has no tenant's column.
const SYSTEM: SystemScope = SystemScope::of("the scope's own tenant");

/// What changing a model asks for.
const NEEDS: Permission = Permission::ModelsManage;

/// The scope's tenant, locked if it is about to change.
async fn own_tenant(c: &Command, scope: &Scope, lock: bool) -> Result<tenant::Model, CommandError> {
    let mut select = tenant::Entity::anywhere(SYSTEM).filter(tenant::Column::Id.eq(scope.tenant()));
    if lock {
        select = select.lock_exclusive();
    }
    let row = select.one(&**c.tx()).await?;
    row.ok_or_else(|| CommandError::Internal(format!("{} is not there", scope.tenant())))
}

/// A model that the caller may change this far, its row locked.
async fn locked(
    c: &Command,
    scope: &Scope,
    id: ModelId,
    least: Access,
) -> Result<llm_model::Model, CommandError> {
    let row = llm_model::Entity::in_tenant(scope)
        .filter(llm_model::Column::Id.eq(id))
        .filter(llm_model::Column::DeletedAt.is_null())
        .lock(LockType::NoKeyUpdate)
        .one(&**c.tx())
        .await?;
    let access = row
        .as_ref()
        .and_then(|row| scope.access(ResourceKind::Model, &row.audience()));
    may(scope, access, least, NEEDS, &["input", "id"], id)?;
    row.ok_or_else(|| Refusal::not_found(&["input", "id"], id).into())
}

/// Whether a thing that the caller has `access` to may be changed by him: unseen it is not there, and both the right and the
/// access are asked for.
pub(crate) fn may(
    scope: &Scope,
    access: Option<Access>,
    least: Access,
    needs: Permission,
    path: &[&str],
    id: impl ToString + Copy,
) -> Result<(), Refusal> {
    match access {
        None => Err(Refusal::not_found(path, id)),
        Some(_) if !scope.may(needs) => Err(Refusal::forbidden(path, Some(needs))),
        Some(access) if access < least => Err(Refusal::forbidden(path, None)),
        Some(_) => Ok(()),
    }
}
