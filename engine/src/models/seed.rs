use std::time::Duration;

use adapters::{outbound::Reach, sealing::Secret};
use entities::{
    CommandError, ModelHealthStatus, ModelId, ModelKind, ModelProvider, Names, Scope, SecretId, Tx,
    Visibility, input, llm_model, query::*, tenant,
};
use providers::{EXTRACTIVE, Endpoint, Provider};
use url::Url;

use super::{SYSTEM, address, create::TIMEOUT_MS, known, secrets};
use crate::Engine;

/// How long an endpoint has to list its models: set-up waits for it.
const LISTING: Duration = Duration::from_secs(10);

/// What the environment says of models at set-up, by the names that these providers' own tools read.
#[derive(Debug, Clone, Default)]
pub struct OperatorEnvironment {
    /// `OPENAI_API_KEY`
    pub openai_api_key: Option<Secret>,
    /// `OPENAI_BASE_URL`
    pub openai_base_url: Option<String>,
    /// `OPENAI_MODEL`
    pub openai_model: Option<String>,
    /// `ANTHROPIC_API_KEY`
    pub anthropic_api_key: Option<Secret>,
    /// `ANTHROPIC_MODEL`
    pub anthropic_model: Option<String>,
}

/// A model that the operator gives by the environment. Its address is not guarded.
#[derive(Debug, Clone)]
pub struct OperatorModel {
    /// Whose wire it speaks.
    pub provider: ModelProvider,
    /// The provider's own where absent.
    pub base_url: Option<String>,
    /// Its key.
    pub api_key: Secret,
    /// The provider's name for it.
    pub model_name: String,
}

impl OperatorEnvironment {
    /// Reads it; what is empty counts as not given.
    #[must_use]
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name| {
            variable(name)
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        Self {
            openai_api_key: given("OPENAI_API_KEY").map(Secret::new),
            openai_base_url: given("OPENAI_BASE_URL"),
            openai_model: given("OPENAI_MODEL"),
            anthropic_api_key: given("ANTHROPIC_API_KEY").map(Secret::new),
            anthropic_model: given("ANTHROPIC_MODEL"),
        }
    }

    /// What is given, in the order in which it is tried: provider, address, key, name.
    fn candidates(
        &self,
    ) -> impl Iterator<Item = (ModelProvider, Option<String>, Secret, Option<String>)> {
        let openai = self.openai_api_key.clone().map(|key| {
            // Servers elsewhere imitate the wire as it was; only OpenAI's own needs its newer words.
            let own = self.openai_base_url.as_deref().is_none_or(|url| {
                let url = Url::parse(url).ok();
                url.is_some_and(|url| url.host_str() == Some("api.openai.com"))
            });
            let provider = if own {
                ModelProvider::OpenAi
            } else {
                ModelProvider::OpenAiCompatible
            };
            (
                provider,
                self.openai_base_url.clone(),
                key,
                self.openai_model.clone(),
            )
        });
        let anthropic = self.anthropic_api_key.clone().map(|key| {
            (
                ModelProvider::Anthropic,
                None,
                key,
                self.anthropic_model.clone(),
            )
        });
        openai.into_iter().chain(anthropic)
    }
}

impl Engine {
    /// The model that the operator's environment names, or the first chat model that its endpoint lists; for
    /// [`Engine::seed_models`]. What fails is logged as a warning: a set-up does not fail by it.
    pub async fn find_operator_model(
        &self,
        environment: &OperatorEnvironment,
    ) -> Option<OperatorModel> {
        for (provider, base_url, api_key, name) in environment.candidates() {
            let url = match base_url.as_deref().map(Url::parse).transpose() {
                Ok(url)
                    if url.as_ref().is_none_or(|url| {
                        matches!(url.scheme(), "http" | "https") && url.has_host()
                    }) =>
                {
                    url
                }
                Ok(_) | Err(_) => {
                    tracing::warn!(
                        "OPENAI_BASE_URL is not an http or https address; no model is made of it"
                    );
                    continue;
                }
            };
            let found = match name {
                Some(name) => Some(name),
                None => self.first_listed(provider, url, api_key.clone()).await,
            };
            if let Some(model_name) = found {
                return Some(OperatorModel {
                    provider,
                    base_url,
                    api_key,
                    model_name,
                });
            }
        }
        None
    }

    async fn first_listed(
        &self,
        provider: ModelProvider,
        base_url: Option<Url>,
        api_key: Secret,
    ) -> Option<String> {
        let wire = match provider {
            ModelProvider::OpenAi => Provider::OpenAi,
            ModelProvider::Anthropic => Provider::Anthropic,
            _ => Provider::OpenAiCompatible,
        };
        let endpoint = Endpoint {
            provider: wire,
            base_url,
            model_name: String::new(),
            api_key: Some(api_key),
            headers: Vec::new(),
            timeout: LISTING,
            reach: Reach::Operator,
        };
        match self.providers().first_chat_model(&endpoint).await {
            Ok(Some(name)) => Some(name),
            Ok(None) => {
                tracing::warn!(
                    ?provider,
                    "the endpoint that the environment gives lists no chat model; name one"
                );
                None
            }
            Err(error) => {
                tracing::warn!(?provider, error = %error, "failed to list the models of the endpoint that the environment gives");
                None
            }
        }
    }

    /// The models of a new tenant, in the transaction that makes it: the built-in one, and the operator's, which is then the
    /// default. The tenant's row is there already.
    ///
    /// # Errors
    /// What the database says.
    pub async fn seed_models(
        &self,
        tx: &Tx,
        scope: &Scope,
        found: Option<OperatorModel>,
    ) -> Result<(), CommandError> {
        let mut builtin = self.seeded(scope, ModelProvider::Builtin, EXTRACTIVE);
        "Extractive".clone_into(&mut builtin.name);
        let mut default = builtin.id;
        llm_model::Entity::add(&**tx, builtin).await?;
        if let Some(found) = found {
            let mut row = self.seeded(scope, found.provider, &found.model_name);
            row.base_url = found.base_url;
            row.by_operator = true;
            row.has_api_key = true;
            if row.slug == EXTRACTIVE {
                row.slug.push_str("-2");
            }
            let mut held = secrets::Held::default();
            held.set_api_key(Some(&found.api_key));
            let origin = address::origin(row.provider, row.base_url.as_deref());
            let fresh = SecretId(self.clock().uuid());
            row.secret_id = secrets::store(
                tx,
                self.keyring(),
                scope.tenant(),
                None,
                fresh,
                origin.as_deref(),
                &held,
            )
            .await?;
            default = row.id;
            llm_model::Entity::add(&**tx, row).await?;
        }
        tenant::Entity::change_anywhere(SYSTEM)
            .filter(tenant::Column::Id.eq(scope.tenant()))
            .set(tenant::ActiveModel {
                default_model_id: Set(Some(default)),
                ..Default::default()
            })
            .exec(&**tx)
            .await?;
        Ok(())
    }

    fn seeded(&self, scope: &Scope, provider: ModelProvider, model_name: &str) -> llm_model::Model {
        let (known, now) = (known::of(provider, model_name), self.clock().now());
        llm_model::Model {
            id: ModelId(self.clock().uuid()),
            tenant_id: scope.tenant(),
            owner_id: scope.user(),
            slug: input::slug_of(model_name, "model"),
            name: model_name.chars().take(input::NAME).collect(),
            kind: ModelKind::Chat,
            provider,
            model_name: model_name.to_owned(),
            base_url: None,
            by_operator: false,
            header_names: Names::default(),
            has_api_key: false,
            secret_id: None,
            context_window: Some(known.context_window),
            max_output_tokens: None,
            dimensions: None,
            supports_tools: known.tools,
            supports_vision: known.vision,
            supports_reasoning: known.reasoning,
            input_per_million: None,
            output_per_million: None,
            cached_input_per_million: None,
            max_concurrency: None,
            timeout_ms: TIMEOUT_MS,
            visibility: Visibility::Tenant,
            health: ModelHealthStatus::Unknown,
            checked_at: None,
            latency_ms: None,
            health_message: None,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        }
    }
}
