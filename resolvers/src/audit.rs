//! The audit log: who did what, and what was refused.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, Result, json_enum};
use entities::{audit_entry, ids};
use loaders::identity::{ApiKeyOf, MemberOf};

use crate::{
    asking::{ContextExt, GivenId},
    identity::{ApiKey, User},
    node::{self, Node},
    scalars::{DateTime, Json},
};

/// How what was asked for ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::AuditOutcome")]
pub enum AuditOutcome {
    /// It was done.
    Allowed,
    /// It was refused.
    Refused,
}
json_enum!(AuditOutcome);

/// That something was done in the tenant, or refused.
#[derive(Clone)]
pub struct AuditEntry(pub Arc<audit_entry::Model>);

/// That something was done in the tenant, or refused.
#[Object]
impl AuditEntry {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// When.
    async fn at(&self) -> DateTime {
        self.0.at.into()
    }

    /// Who asked for it: a person, or the account of a service key. Null where nobody known did, and for somebody who never
    /// belonged to the tenant, such as an administrator of the platform.
    async fn actor(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let Some(id) = self.0.actor_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(MemberOf(id)).await?.map(User))
    }

    /// The API key that it was asked for by; null: by none, or by one that the viewer may not see.
    async fn api_key(&self, ctx: &Context<'_>) -> Result<Option<ApiKey>> {
        let Some(id) = self.0.api_key_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(ApiKeyOf(id)).await?.map(ApiKey))
    }

    /// The user for whom a service key asked.
    async fn on_behalf_of(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let Some(id) = self.0.on_behalf_of_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(MemberOf(id)).await?.map(User))
    }

    /// What, as the graph names it: `updateAgent`.
    async fn action(&self) -> &str {
        &self.0.action
    }

    /// What it was done with, as it is now; null where it is gone, and where the viewer may not see it.
    async fn target(&self, ctx: &Context<'_>) -> Result<Option<Node>> {
        let target = self.0.target_id.as_deref();
        match target.and_then(ids::parse) {
            Some((prefix, id)) => Ok(node::find(ctx, prefix, id).await?),
            None => Ok(None),
        }
    }

    /// The id of what it was done with, as whoever asked gave it or as it was made; null: nothing of its own.
    async fn target_id(&self) -> Option<ID> {
        self.0.target_id.clone().map(ID)
    }

    /// Whether it was done.
    async fn outcome(&self) -> AuditOutcome {
        self.0.outcome.into()
    }

    /// The address that it was asked for from.
    async fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }

    /// More about it: names of the fields that changed, codes of refusals, never values.
    async fn details(&self) -> Json {
        Json(self.0.details.clone())
    }
}

/// Which entries of the audit log; several conditions are all required, what is left out is none.
#[derive(Default, InputObject)]
pub struct AuditFilter {
    /// The id of the user who asked for it.
    actor_id: Option<ID>,
    /// What, as the graph names it: `updateAgent`.
    action: Option<String>,
    /// The id of what it was done with.
    target_id: Option<ID>,
    /// At this time or later.
    since: Option<DateTime>,
    /// Before this time.
    until: Option<DateTime>,
    /// Whether it was done.
    outcome: Option<AuditOutcome>,
}

impl AuditFilter {
    /// As loaders take it; `None`: nothing passes it.
    pub(crate) fn read(self) -> Option<loaders::audit::AuditFilter> {
        let actor = match self.actor_id {
            Some(id) => Some(id.typed()?),
            None => None,
        };
        let target = self.target_id.map(|id| id.0);
        let texts = [&self.action, &target];
        // The databases hold none with NUL.
        if texts.into_iter().flatten().any(|text| text.contains('\0')) {
            return None;
        }
        Some(loaders::audit::AuditFilter {
            actor,
            action: self.action,
            target,
            since: self.since.map(|at| at.0),
            until: self.until.map(|at| at.0),
            outcome: self.outcome.map(Into::into),
        })
    }
}
