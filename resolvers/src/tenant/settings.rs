//! What a tenant decided for itself.

use std::sync::Arc;

use async_graphql::{Context, Object, Result};
use entities::{ModelId, tenant};
use loaders::{models::ModelOf, tenancy::AutoJoinDomains};

use crate::{asking::ContextExt, model::Model};

/// What a tenant decided for itself.
#[derive(Clone)]
pub struct TenantSettings(pub Arc<tenant::Model>);

async fn model(ctx: &Context<'_>, id: Option<ModelId>) -> Result<Option<Model>> {
    let Some(id) = id else {
        return Ok(None);
    };
    let found = ctx.reader().load(ModelOf(id)).await?;
    Ok(found.filter(|seen| seen.is_there()).map(Model))
}

/// What a tenant decided for itself.
#[Object]
impl TenantSettings {
    /// The model of agents that name none; null: the built-in one, or one that the viewer may not see.
    async fn default_model(&self, ctx: &Context<'_>) -> Result<Option<Model>> {
        model(ctx, self.0.default_model_id).await
    }

    /// The model that writes titles of conversations; null: the one that answers in them, or one that the viewer may not see.
    async fn title_model(&self, ctx: &Context<'_>) -> Result<Option<Model>> {
        model(ctx, self.0.title_model_id).await
    }

    /// Days after which a conversation that nobody touched is deleted; null: never.
    async fn retention_days(&self) -> Option<i32> {
        self.0.retention_days
    }

    /// Runs that may be under way at once; more wait their turn. Never more than the installation allows.
    async fn max_concurrent_runs(&self, ctx: &Context<'_>) -> i32 {
        let most = i32::try_from(ctx.engine().max_concurrent_runs()).unwrap_or(i32::MAX);
        self.0.max_concurrent_runs.map_or(most, |own| own.min(most))
    }

    /// The currency of all prices and costs, as in ISO 4217.
    async fn currency(&self) -> &str {
        &self.0.currency
    }

    /// Domains of e-mail addresses, sorted: whoever a trusted sign-in provider proves such an address of may join as MEMBER. Set
    /// by administrators of the platform.
    async fn oidc_auto_join_domains(&self, ctx: &Context<'_>) -> Result<Vec<String>> {
        let found = ctx.reader().load(AutoJoinDomains).await?;
        Ok(found.map_or_else(Vec::new, |domains| domains.to_vec()))
    }
}
