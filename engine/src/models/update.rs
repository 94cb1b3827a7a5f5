use adapters::sealing::Secret;
use entities::{
    Access, CommandError, GroupId, ModelHealthStatus, ModelId, Names, ResourceKind, Scope,
    SecretId, Visibility, input, llm_model, model_fallback, query::*,
};
use events::Command;

use super::{
    Checks, Header, Named, Pricing, address,
    changes::{model_changed, seen, set_default},
    create::{check_fallbacks, fallback_rows, slug_taken},
    locked, own_tenant, secrets, settings, taken,
};
use crate::{
    Engine,
    sharing::{self, Move},
};

/// What changes of a model; `None` leaves it, `Some(None)` takes it off.
#[derive(Debug, Clone, Default)]
pub struct UpdateModel {
    /// Another short name.
    pub slug: Option<String>,
    /// Another name.
    pub name: Option<String>,
    /// Another one at the same provider.
    pub model_name: Option<String>,
    /// Another host or port clears the key and the headers, unless they are given again.
    pub base_url: Option<Option<String>>,
    /// Another key.
    pub api_key: Option<Option<Secret>>,
    /// Merged by name with those there are; `Some(None)` takes all off.
    pub headers: Option<Option<Vec<Header>>>,
    /// Tokens.
    pub context_window: Option<Option<i32>>,
    /// Tokens of one answer.
    pub max_output_tokens: Option<Option<i32>>,
    /// Of an embedding model.
    pub dimensions: Option<Option<i32>>,
    /// Whether tools may be offered to it.
    pub supports_tools: Option<bool>,
    /// Whether it reads images.
    pub supports_vision: Option<bool>,
    /// Whether it thinks before it answers.
    pub supports_reasoning: Option<bool>,
    /// `Some(None)` takes all prices off.
    pub pricing: Option<Option<Pricing>>,
    /// Calls under way at once.
    pub max_concurrency: Option<Option<i32>>,
    /// Milliseconds, at least 1.
    pub timeout_ms: Option<i32>,
    /// The whole list.
    pub fallbacks: Option<Vec<ModelId>>,
    /// `false` leaves the tenant without a default where this one was it.
    pub is_default: Option<bool>,
    /// Who sees it; by whoever may share it, as the group.
    pub visibility: Option<Visibility>,
    /// The group that it lives in; `Some(None)`: it is its owner's own.
    pub group: Option<Option<GroupId>>,
}

impl UpdateModel {
    /// The headers that are given; none where they are left or taken off.
    fn given_headers(&self) -> &[Header] {
        match &self.headers {
            Some(Some(headers)) => headers,
            Some(None) | None => &[],
        }
    }

    fn check(&self, engine: &Engine, row: &llm_model::Model) -> Result<(), CommandError> {
        let mut checks = Checks::default();
        checks.slug(self.slug.as_deref());
        checks.filled(&["input", "name"], self.name.as_deref(), input::NAME);
        if let Some(name) = &self.model_name {
            checks.model_name(row.provider, name);
        }
        checks.builtin_has_no(
            row.provider,
            "baseUrl",
            matches!(self.base_url, Some(Some(_))),
        );
        checks.builtin_has_no(
            row.provider,
            "apiKey",
            matches!(self.api_key, Some(Some(_))),
        );
        checks.builtin_has_no(row.provider, "headers", !self.given_headers().is_empty());
        match &self.base_url {
            // What stands there was checked, or is the operator's.
            Some(Some(url)) if Some(url.trim()) != row.base_url.as_deref() => {
                checks.take(address::check(engine.outbound(), row.provider, url));
            }
            Some(None) => {
                checks.take(address::missing(row.provider));
            }
            Some(_) | None => {}
        }
        checks.api_key(self.api_key.as_ref().and_then(Option::as_ref));
        checks.headers(self.given_headers());
        checks.positive(&["input", "contextWindow"], self.context_window.flatten());
        checks.positive(
            &["input", "maxOutputTokens"],
            self.max_output_tokens.flatten(),
        );
        checks.dimensions(row.kind, self.dimensions.flatten());
        checks.pricing(&self.pricing.flatten().unwrap_or_default());
        checks.positive(&["input", "maxConcurrency"], self.max_concurrency.flatten());
        checks.positive(&["input", "timeoutMs"], self.timeout_ms);
        checks.fallback_count(self.fallbacks.as_ref().map_or(0, Vec::len));
        checks.done()
    }

    /// The row as it will be, but for what is sealed.
    fn apply(&self, before: &llm_model::Model) -> llm_model::Model {
        let mut row = before.clone();
        let text = |given: &Option<String>, before: String| {
            given
                .as_ref()
                .map_or(before, |given| given.trim().to_owned())
        };
        row.slug = text(&self.slug, row.slug);
        row.name = text(&self.name, row.name);
        row.model_name = text(&self.model_name, row.model_name);
        if let Some(url) = &self.base_url {
            row.base_url = url.as_ref().map(|url| url.trim().to_owned());
        }
        row.by_operator &= row.base_url == before.base_url;
        row.context_window = self.context_window.unwrap_or(row.context_window);
        row.max_output_tokens = self.max_output_tokens.unwrap_or(row.max_output_tokens);
        row.dimensions = self.dimensions.unwrap_or(row.dimensions);
        row.supports_tools = self.supports_tools.unwrap_or(row.supports_tools);
        row.supports_vision = self.supports_vision.unwrap_or(row.supports_vision);
        row.supports_reasoning = self.supports_reasoning.unwrap_or(row.supports_reasoning);
        if let Some(pricing) = self.pricing {
            let off = Pricing {
                input_per_million: Some(None),
                output_per_million: Some(None),
                cached_input_per_million: Some(None),
            };
            let pricing = pricing.unwrap_or(off);
            if let Some(price) = pricing.input_per_million {
                row.input_per_million = settings::price(price);
            }
            if let Some(price) = pricing.output_per_million {
                row.output_per_million = settings::price(price);
            }
            if let Some(price) = pricing.cached_input_per_million {
                row.cached_input_per_million = settings::price(price);
            }
        }
        row.max_concurrency = self.max_concurrency.unwrap_or(row.max_concurrency);
        row.timeout_ms = self.timeout_ms.unwrap_or(row.timeout_ms);
        row
    }
}

impl Engine {
    /// Changes a model.
    ///
    /// # Errors
    /// NotFound where the caller does not see it, Forbidden where he may not change it, refusals for each field that is not
    /// acceptable, a Conflict for a slug that is taken.
    pub async fn update_model(
        &self,
        scope: &Scope,
        id: ModelId,
        change: UpdateModel,
    ) -> Result<ModelId, CommandError> {
        let (engine, scope) = (self.clone(), scope.clone());
        self.command(scope.tenant(), move |c| {
            Box::pin(async move { update(&engine, c, &scope, id, change).await })
        })
        .await
    }
}

async fn update(
    engine: &Engine,
    c: &mut Command,
    scope: &Scope,
    id: ModelId,
    change: UpdateModel,
) -> Result<ModelId, CommandError> {
    let before = locked(c, scope, id, Access::Edit).await?;
    change.check(engine, &before)?;
    if let Some(slug) = change.slug.as_ref().filter(|slug| **slug != before.slug)
        && let Some(owner) = Named::Model.owner(c, scope, slug).await?
    {
        return Err(taken(slug, Some(owner)).into());
    }
    let access = scope.access(ResourceKind::Model, &before.audience());
    let moves = Move {
        group: change.group,
        visibility: change.visibility,
    };
    let place = (before.group_id, before.visibility);
    let (group, visibility) = moves.check(c, scope, place, access).await?;
    let mut after = change.apply(&before);
    after.updated_at = c.now();
    (after.group_id, after.visibility) = (group, visibility);
    if after.group_id != before.group_id {
        after.reach = sharing::moved(c, scope, before.reach.clone(), group).await?;
    }
    seal(engine, c, scope, &change, &before, &mut after).await?;
    if let Some(fallbacks) = &change.fallbacks {
        set_fallbacks(c, scope, id, fallbacks).await?;
    }
    let called =
        |row: &llm_model::Model| (row.base_url.clone(), row.model_name.clone(), row.secret_id);
    if called(&before) != called(&after) {
        // What was found of it was found elsewhere.
        after.health = ModelHealthStatus::Unknown;
        (after.checked_at, after.latency_ms, after.health_message) = (None, None, None);
        after.breaker_until = None;
    }
    let (seen_before, seen_after, slug) = (seen(&before), seen(&after), after.slug.clone());
    llm_model::Entity::change_in(scope)
        .filter(llm_model::Column::Id.eq(id))
        .set(after.into_active_model().reset_all())
        .exec(&**c.tx())
        .await
        .map_err(|error| slug_taken(error, &slug))?;
    if let Some(wanted) = change.is_default {
        let default = own_tenant(c, scope, true).await?.default_model_id;
        if wanted {
            set_default(c, scope, default, Some(id)).await?;
        } else if default == Some(id) {
            set_default(c, scope, default, None).await?;
        }
    }
    model_changed(c, scope, id, seen_before, seen_after);
    Ok(id)
}

/// The key and the headers as they will be. They are bound to where they go: under another origin only what is given with it
/// is kept.
async fn seal(
    engine: &Engine,
    c: &Command,
    scope: &Scope,
    change: &UpdateModel,
    before: &llm_model::Model,
    after: &mut llm_model::Model,
) -> Result<(), CommandError> {
    let origin = |row: &llm_model::Model| address::origin(row.provider, row.base_url.as_deref());
    let (from, to) = (origin(before), origin(after));
    if change.api_key.is_none() && change.headers.is_none() && from == to {
        return Ok(());
    }
    let mut held = match (before.secret_id, &from) {
        (Some(id), Some(origin)) if from == to => {
            secrets::open(c.tx(), engine.keyring(), scope.tenant(), id, origin).await?
        }
        _ => secrets::Held::default(),
    };
    if let Some(key) = &change.api_key {
        held.set_api_key(key.as_ref());
    }
    match &change.headers {
        Some(Some(headers)) => held.merge(headers),
        Some(None) => held.clear_headers(),
        None => {}
    }
    let mut checks = Checks::default();
    checks.header_count(held.header_names().len());
    checks.done()?;
    let fresh = SecretId(c.clock().uuid());
    after.secret_id = secrets::store(
        c.tx(),
        engine.keyring(),
        scope.tenant(),
        before.secret_id,
        fresh,
        to.as_deref(),
        &held,
    )
    .await?;
    after.has_api_key = held.has_api_key();
    after.header_names = Names(held.header_names());
    Ok(())
}

async fn set_fallbacks(
    c: &Command,
    scope: &Scope,
    id: ModelId,
    fallbacks: &[ModelId],
) -> Result<(), CommandError> {
    let of = model_fallback::Column::ModelId.eq(id);
    let before = model_fallback::Entity::in_tenant(scope)
        .filter(of.clone())
        .all(&**c.tx())
        .await?;
    let before: Vec<ModelId> = before.into_iter().map(|row| row.fallback_id).collect();
    check_fallbacks(c, scope, id, fallbacks, &before).await?;
    model_fallback::Entity::delete_in(scope)
        .filter(of)
        .exec(&**c.tx())
        .await?;
    model_fallback::Entity::add_all(&**c.tx(), fallback_rows(scope, id, fallbacks)).await?;
    Ok(())
}
