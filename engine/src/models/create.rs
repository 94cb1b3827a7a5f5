use adapters::sealing::Secret;
use entities::{
    CommandError, DbErr, GroupId, ModelHealthStatus, ModelId, ModelKind, ModelProvider, Names,
    Refusal, ResourceKind, Scope, SecretId, Visibility,
    db::{Failure, failure},
    input, llm_model, model_fallback,
    query::*,
};
use events::Command;

use super::{
    Checks, Header, NEEDS, Named, Pricing, address,
    changes::{model_changed, seen, set_default},
    known, own_tenant, secrets, settings, slug_for, taken,
};
use crate::{Engine, sharing};

/// To the first token and between tokens, where nothing is said.
pub(super) const TIMEOUT_MS: i32 = 60_000;

/// A model to be. Of what is left out, that holds which is known of the model by its name.
#[derive(Debug, Clone)]
pub struct CreateModel {
    /// Unique in the tenant; else made of the name.
    pub slug: Option<String>,
    /// Shown to people, at most 200 characters; else `model_name`.
    pub name: Option<String>,
    /// CHAT is what is served.
    pub kind: ModelKind,
    /// Whose wire it speaks.
    pub provider: ModelProvider,
    /// The provider's name for it.
    pub model_name: String,
    /// Needed by OPENAI_COMPATIBLE, AZURE_OPENAI and OLLAMA; else the provider's own.
    pub base_url: Option<String>,
    /// Sealed; bound to where the model is called.
    pub api_key: Option<Secret>,
    /// Sealed, too.
    pub headers: Vec<Header>,
    /// Tokens.
    pub context_window: Option<i32>,
    /// Tokens of one answer.
    pub max_output_tokens: Option<i32>,
    /// Of an embedding model.
    pub dimensions: Option<i32>,
    /// Whether tools may be offered to it.
    pub supports_tools: Option<bool>,
    /// Whether it reads images.
    pub supports_vision: Option<bool>,
    /// Whether it thinks before it answers.
    pub supports_reasoning: Option<bool>,
    /// What it costs.
    pub pricing: Pricing,
    /// Calls under way at once; at least 1.
    pub max_concurrency: Option<i32>,
    /// Milliseconds, at least 1.
    pub timeout_ms: Option<i32>,
    /// Tried in this order after it, at most 10.
    pub fallbacks: Vec<ModelId>,
    /// Whether agents that name no model use this one.
    pub is_default: bool,
    /// TENANT where nothing is said.
    pub visibility: Option<Visibility>,
    /// The group that it lives in; else it is its maker\'s own.
    pub group: Option<GroupId>,
}

impl CreateModel {
    /// A model of which nothing is said but what must be.
    #[must_use]
    pub fn new(kind: ModelKind, provider: ModelProvider, model_name: impl Into<String>) -> Self {
        Self {
            slug: None,
            name: None,
            kind,
            provider,
            model_name: model_name.into(),
            base_url: None,
            api_key: None,
            headers: Vec::new(),
            context_window: None,
            max_output_tokens: None,
            dimensions: None,
            supports_tools: None,
            supports_vision: None,
            supports_reasoning: None,
            pricing: Pricing::default(),
            max_concurrency: None,
            timeout_ms: None,
            fallbacks: Vec::new(),
            is_default: false,
            visibility: None,
            group: None,
        }
    }

    fn check(&self, engine: &Engine) -> Result<(), CommandError> {
        let mut checks = Checks::default();
        checks.slug(self.slug.as_deref());
        checks.filled(&["input", "name"], self.name.as_deref(), input::NAME);
        checks.served(self.kind);
        checks.model_name(self.provider, &self.model_name);
        checks.builtin_has_no(self.provider, "baseUrl", self.base_url.is_some());
        checks.builtin_has_no(self.provider, "apiKey", self.api_key.is_some());
        checks.builtin_has_no(self.provider, "headers", !self.headers.is_empty());
        match &self.base_url {
            Some(url) => {
                checks.take(address::check(engine.outbound(), self.provider, url));
            }
            None => {
                checks.take(address::missing(self.provider));
            }
        }
        checks.api_key(self.api_key.as_ref());
        checks.headers(&self.headers);
        checks.positive(&["input", "contextWindow"], self.context_window);
        checks.positive(&["input", "maxOutputTokens"], self.max_output_tokens);
        checks.dimensions(self.kind, self.dimensions);
        checks.pricing(&self.pricing);
        checks.positive(&["input", "maxConcurrency"], self.max_concurrency);
        checks.positive(&["input", "timeoutMs"], self.timeout_ms);
        checks.fallback_count(self.fallbacks.len());
        checks.visibility(self.visibility, self.group.is_some());
        checks.done()
    }
}

impl Engine {
    /// Makes a model of the caller's own.
    ///
    /// # Errors
    /// FORBIDDEN without the right to manage models; refusals for each field that is not acceptable; a Conflict for a slug that
    /// is taken.
    pub async fn create_model(
        &self,
        scope: &Scope,
        new: CreateModel,
    ) -> Result<ModelId, CommandError> {
        if !scope.may(NEEDS) {
            return Err(CommandError::Forbidden(Some(NEEDS)));
        }
        new.check(self)?;
        let (engine, scope) = (self.clone(), scope.clone());
        self.command(scope.tenant(), move |c| {
            Box::pin(async move { create(&engine, c, &scope, new).await })
        })
        .await
    }
}

async fn create(
    engine: &Engine,
    c: &mut Command,
    scope: &Scope,
    new: CreateModel,
) -> Result<ModelId, CommandError> {
    let id = ModelId(c.clock().uuid());
    check_fallbacks(c, scope, id, &new.fallbacks, &[]).await?;
    let name = new
        .name
        .as_ref()
        .unwrap_or(&new.model_name)
        .trim()
        .to_owned();
    let slug = slug_for(c, scope, Named::Model, new.slug.clone(), &name).await?;
    let mut row = row(c, scope, id, slug, name, &new);
    row.group_id = new.group;
    row.reach = sharing::reach(c, scope, new.group).await?;
    let mut held = secrets::Held::default();
    held.set_api_key(new.api_key.as_ref());
    held.merge(&new.headers);
    let origin = address::origin(row.provider, row.base_url.as_deref());
    let fresh = SecretId(c.clock().uuid());
    row.secret_id = secrets::store(
        c.tx(),
        engine.keyring(),
        scope.tenant(),
        None,
        fresh,
        origin.as_deref(),
        &held,
    )
    .await?;
    row.has_api_key = held.has_api_key();
    row.header_names = Names(held.header_names());
    let seen = seen(&row);
    let (tx, slug) = (c.tx(), row.slug.clone());
    llm_model::Entity::add(&**tx, row)
        .await
        .map_err(|error| slug_taken(error, &slug))?;
    model_fallback::Entity::add_all(&**tx, fallback_rows(scope, id, &new.fallbacks)).await?;
    if new.is_default {
        let before = own_tenant(c, scope, true).await?.default_model_id;
        set_default(c, scope, before, Some(id)).await?;
    }
    model_changed(c, scope, id, None, seen);
    Ok(id)
}

fn row(
    c: &Command,
    scope: &Scope,
    id: ModelId,
    slug: String,
    name: String,
    new: &CreateModel,
) -> llm_model::Model {
    let model_name = new.model_name.trim().to_owned();
    let known = known::of(new.provider, &model_name);
    llm_model::Model {
        group_id: None,
        reach: None,
        id,
        tenant_id: scope.tenant(),
        owner_id: scope.user(),
        slug,
        name,
        kind: new.kind,
        provider: new.provider,
        model_name,
        base_url: new.base_url.as_ref().map(|url| url.trim().to_owned()),
        by_operator: false,
        header_names: Names::default(),
        has_api_key: false,
        secret_id: None,
        context_window: Some(new.context_window.unwrap_or(known.context_window)),
        max_output_tokens: new.max_output_tokens,
        dimensions: new.dimensions,
        supports_tools: new.supports_tools.unwrap_or(known.tools),
        supports_vision: new.supports_vision.unwrap_or(known.vision),
        supports_reasoning: new.supports_reasoning.unwrap_or(known.reasoning),
        input_per_million: settings::price(new.pricing.input_per_million.flatten()),
        output_per_million: settings::price(new.pricing.output_per_million.flatten()),
        cached_input_per_million: settings::price(new.pricing.cached_input_per_million.flatten()),
        max_concurrency: new.max_concurrency,
        timeout_ms: new.timeout_ms.unwrap_or(TIMEOUT_MS),
        visibility: new.visibility.unwrap_or(Visibility::Tenant),
        health: ModelHealthStatus::Unknown,
        checked_at: None,
        latency_ms: None,
        health_message: None,
        breaker_until: None,
        check_at: None,
        created_at: c.now(),
        updated_at: c.now(),
        deleted_at: None,
    }
}

/// A slug that somebody took meanwhile.
pub(super) fn slug_taken(error: DbErr, slug: &str) -> CommandError {
    match failure(&error) {
        Failure::Taken => taken(slug, None).into(),
        Failure::Transient | Failure::Permanent => error.into(),
    }
}

/// Fallbacks are other CHAT models that the caller sees, each once. Those of `kept` stand there already and need not be seen.
pub(super) async fn check_fallbacks(
    c: &Command,
    scope: &Scope,
    id: ModelId,
    fallbacks: &[ModelId],
    kept: &[ModelId],
) -> Result<(), CommandError> {
    if fallbacks.is_empty() {
        return Ok(());
    }
    let rows = llm_model::Entity::in_tenant(scope)
        .filter(llm_model::Column::Id.is_in(fallbacks.iter().copied()))
        .filter(llm_model::Column::DeletedAt.is_null())
        .all(&**c.tx())
        .await?;
    let mut checks = Checks::default();
    for (at, &fallback) in fallbacks.iter().enumerate() {
        let at_text = at.to_string();
        let path = &["input", "fallbackIds", at_text.as_str()];
        let row = rows.iter().find(|row| row.id == fallback);
        let seen = row.filter(|row| {
            kept.contains(&row.id) || scope.access(ResourceKind::Model, &row.audience()).is_some()
        });
        if fallback == id {
            checks.take::<()>(Err(Refusal::invalid(
                path,
                "a model can't be its own fallback",
            )));
        } else if fallbacks[..at].contains(&fallback) {
            checks.take::<()>(Err(Refusal::invalid(
                path,
                format!("{fallback} is given twice"),
            )));
        } else if let Some(row) = seen {
            if row.kind != ModelKind::Chat {
                checks.take::<()>(Err(Refusal::invalid(
                    path,
                    format!("{:?} is no CHAT model", row.name),
                )));
            }
        } else {
            checks.take::<()>(Err(Refusal::not_found(path, fallback)));
        }
    }
    checks.done()
}

pub(super) fn fallback_rows(
    scope: &Scope,
    id: ModelId,
    fallbacks: &[ModelId],
) -> Vec<model_fallback::Model> {
    (0..)
        .zip(fallbacks)
        .map(|(position, &fallback_id)| model_fallback::Model {
            tenant_id: scope.tenant(),
            model_id: id,
            position,
            fallback_id,
        })
        .collect()
}
