use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result, SimpleObject, plain};
use chrono::{DurationRound, TimeDelta};
use engine::models::status;
use entities::{CommandError, Permission, tenant};
use loaders::{
    identity::TenantOf,
    models::{FallbacksOf, SeenModel, TallyOf},
};

use super::enums::{ModelHealthStatus, ModelKind, ModelProvider};
use crate::{
    asking::ContextExt,
    group::Group,
    scalars::{DateTime, Decimal},
    sharing::{Access, Share, Visibility, lives_in, shares_of},
};

/// Shown to those who may not see a provider's own words.
const UNHEALTHY: &str = "the model does not answer at the moment";
/// Shown while its breaker is open.
const LEFT_ALONE: &str = "too many of its calls failed, so it is not called for a moment";

/// A model at a provider: what agents speak through.
#[derive(Clone)]
pub struct Model(pub Arc<SeenModel>);

impl Model {
    /// Where it is called is for those who may change it.
    fn may_change(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(self.0.access >= entities::Access::Edit && ctx.scope()?.may(Permission::ModelsManage))
    }
}

plain!(Model as model_gql {
    "id" => id, "slug" => slug, "name" => name, "kind" => kind, "provider" => provider, "modelName" => model_name,
    "hasApiKey" => has_api_key, "contextWindow" => context_window, "maxOutputTokens" => max_output_tokens,
    "supportsTools" => supports_tools, "supportsVision" => supports_vision, "supportsReasoning" => supports_reasoning,
    "timeoutMs" => timeout_ms, "visibility" => visibility, "viewerAccess" => viewer_access,
    "createdAt" => created_at, "updatedAt" => updated_at,
});

/// A model at a provider: what agents speak through.
#[Object(crate = "model_gql")]
impl Model {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.0.row.id.into()
    }

    /// Short name, unique among the tenant's models: `[a-z0-9-]{1,63}`.
    async fn slug(&self) -> &str {
        &self.0.row.slug
    }

    /// Name shown to people.
    async fn name(&self) -> &str {
        &self.0.row.name
    }

    /// What it does.
    async fn kind(&self) -> ModelKind {
        self.0.row.kind.into()
    }

    /// Who serves it, and so how it is spoken to.
    async fn provider(&self) -> ModelProvider {
        self.0.row.provider.into()
    }

    /// The provider's name for it.
    async fn model_name(&self) -> &str {
        &self.0.row.model_name
    }

    /// Where it is called, if not at the provider's own address. Null for those who may not change the model.
    async fn base_url(&self, ctx: &Context<'_>) -> Result<Option<&str>> {
        let may = self.may_change(ctx)?;
        Ok(self.0.row.base_url.as_deref().filter(|_| may))
    }

    /// Names of the headers that are sent with each call; their values are never shown. Null for those who may not change the
    /// model.
    async fn header_names(&self, ctx: &Context<'_>) -> Result<Option<&[String]>> {
        Ok(self
            .may_change(ctx)?
            .then_some(self.0.row.header_names.0.as_slice()))
    }

    /// Whether there is an API key, which itself is never shown.
    async fn has_api_key(&self) -> bool {
        self.0.row.has_api_key
    }

    /// Tokens that it takes in at once, its answer included; null: 32,768, or what is known of `modelName`.
    async fn context_window(&self) -> Option<i32> {
        self.0.row.context_window
    }

    /// The most tokens of one answer; null: as many as the provider gives.
    async fn max_output_tokens(&self) -> Option<i32> {
        self.0.row.max_output_tokens
    }

    /// Numbers in a vector of an embedding model; null for other kinds.
    async fn dimensions(&self) -> Option<i32> {
        self.0.row.dimensions
    }

    /// Whether agents may offer it tools.
    async fn supports_tools(&self) -> bool {
        self.0.row.supports_tools
    }

    /// Whether it reads images.
    async fn supports_vision(&self) -> bool {
        self.0.row.supports_vision
    }

    /// Whether it thinks before it answers.
    async fn supports_reasoning(&self) -> bool {
        self.0.row.supports_reasoning
    }

    /// What it costs; null where no price is set.
    async fn pricing(&self, ctx: &Context<'_>) -> Result<Option<ModelPricing>> {
        let row = &self.0.row;
        let prices = [
            &row.input_per_million,
            &row.output_per_million,
            &row.cached_input_per_million,
        ];
        if prices.iter().all(|price| price.is_none()) {
            return Ok(None);
        }
        let [input, output, cached] = prices.map(|price| {
            price
                .as_ref()
                .and_then(|price| price.parse().ok())
                .map(Decimal)
        });
        Ok(Some(ModelPricing {
            input_per_million: input,
            output_per_million: output,
            cached_input_per_million: cached,
            currency: own_tenant(ctx).await?.currency.clone(),
        }))
    }

    /// Calls that may be under way at once; more wait their turn. Null: no limit.
    async fn max_concurrency(&self) -> Option<i32> {
        self.0.row.max_concurrency
    }

    /// Milliseconds that it has to begin an answer, and between two tokens of it.
    async fn timeout_ms(&self) -> i32 {
        self.0.row.timeout_ms
    }

    /// Tried in this order when this one does not answer. Those that the viewer does not see are left out.
    async fn fallbacks(&self, ctx: &Context<'_>) -> Result<Vec<Model>> {
        let found = ctx.reader().load(FallbacksOf(self.0.row.id)).await?;
        Ok(found
            .iter()
            .flat_map(|list| list.iter())
            .map(|model| Model(model.clone()))
            .collect())
    }

    /// How it does: by its last check, by its calls of the last hour, and by whether it failed so often that it is left alone
    /// for a moment.
    async fn health(&self, ctx: &Context<'_>) -> Result<ModelHealth> {
        let row = &self.0.row;
        // The same time for all models of a request, so that they are read at once.
        let now = ctx.clock().now();
        let minute = now.duration_trunc(TimeDelta::minutes(1)).unwrap_or(now);
        let since = minute - TimeDelta::hours(1);
        let tally = ctx.reader().load(TallyOf(row.id, since)).await?;
        let own_words = self.may_change(ctx)?;
        let status = status(row, tally);
        let message = match &row.health_message {
            Some(words) if own_words => Some(words.clone()),
            Some(_) => Some(UNHEALTHY.to_owned()),
            None if row.breaker_until.is_some() => Some(LEFT_ALONE.to_owned()),
            None => None,
        };
        let error_rate = tally
            .filter(|tally| tally.calls > 0)
            .map(|tally| tally.failed as f64 / tally.calls as f64);
        Ok(ModelHealth {
            status: status.into(),
            checked_at: row.checked_at.map(DateTime),
            latency_ms: row.latency_ms,
            message,
            error_rate,
        })
    }

    /// Whether agents that name no model use this one.
    async fn is_default(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(own_tenant(ctx).await?.default_model_id == Some(self.0.row.id))
    }

    /// Who sees it.
    pub async fn visibility(&self) -> Visibility {
        self.0.row.visibility.into()
    }

    /// How far the viewer may go with it. Changing it also takes the permission MODELS_MANAGE.
    pub async fn viewer_access(&self) -> Access {
        self.0.access.into()
    }

    /// Where it lives; null: it is its owner's own, or lives in a group that the viewer may not see.
    pub async fn group(&self, ctx: &Context<'_>) -> Result<Option<Group>> {
        lives_in(ctx, self.0.row.group_id).await
    }

    /// With whom it is shared, the first share first; null for those who may not share it.
    pub async fn shares(&self, ctx: &Context<'_>) -> Result<Option<Vec<Share>>> {
        shares_of(ctx, self.0.row.id.0, self.0.access).await
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime {
        self.0.row.created_at.into()
    }

    /// When its settings last changed.
    async fn updated_at(&self) -> DateTime {
        self.0.row.updated_at.into()
    }
}

/// The tenant that is asked in.
pub(crate) async fn own_tenant(ctx: &Context<'_>) -> Result<Arc<tenant::Model>> {
    let id = ctx.scope()?.tenant();
    let row = ctx.reader().load(TenantOf(id)).await?;
    row.ok_or_else(|| CommandError::Internal(format!("{id} is not there")).into())
}

/// How a model does.
#[derive(SimpleObject)]
pub struct ModelHealth {
    /// The state it is in.
    status: ModelHealthStatus,
    /// When it was last checked; null: not yet.
    checked_at: Option<DateTime>,
    /// Milliseconds that the last check took; null where it failed.
    latency_ms: Option<i32>,
    /// Why it is not healthy: the provider's words for those who may change the model, ours for others; null where it is.
    message: Option<String>,
    /// Failed calls in the last hour, 0 to 1; null where there were none.
    error_rate: Option<f64>,
}

/// Prices of a million tokens, in the tenant's currency.
#[derive(SimpleObject)]
pub struct ModelPricing {
    /// Of tokens sent; null: not known.
    input_per_million: Option<Decimal>,
    /// Of tokens received; null: not known.
    output_per_million: Option<Decimal>,
    /// Of tokens sent that the provider had cached; null: as those sent.
    cached_input_per_million: Option<Decimal>,
    /// The currency, as in ISO 4217.
    currency: String,
}
