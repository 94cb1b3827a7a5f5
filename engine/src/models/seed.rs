use std::time::Duration;

use adapters::{outbound::Reach, sealing::Secret};
use entities::{
    CommandError, ModelHealthStatus, ModelId, ModelKind, ModelProvider, Names, Scope, SecretId, Tx,
    Visibility, input, llm_model, query::*, tenant,
};
use providers::{EXTRACTIVE, Endpoint};
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
    /// `GEMINI_API_KEY`
    pub gemini_api_key: Option<Secret>,
    /// `GEMINI_MODEL`
    pub gemini_model: Option<String>,
    /// `AZURE_OPENAI_API_KEY`
    pub azure_api_key: Option<Secret>,
    /// `AZURE_OPENAI_ENDPOINT`
    pub azure_endpoint: Option<String>,
    /// `AZURE_OPENAI_DEPLOYMENT`
    pub azure_deployment: Option<String>,
    /// `OLLAMA_HOST`
    pub ollama_host: Option<String>,
    /// `OLLAMA_MODEL`
    pub ollama_model: Option<String>,
}

/// A model that the operator gives by the environment. Its address is not guarded.
#[derive(Debug, Clone)]
pub struct OperatorModel {
    /// Whose wire it speaks.
    pub provider: ModelProvider,
    /// The provider's own where absent.
    pub base_url: Option<String>,
    /// Its key, where it needs one.
    pub api_key: Option<Secret>,
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
            gemini_api_key: given("GEMINI_API_KEY").map(Secret::new),
            gemini_model: given("GEMINI_MODEL"),
            azure_api_key: given("AZURE_OPENAI_API_KEY").map(Secret::new),
            azure_endpoint: given("AZURE_OPENAI_ENDPOINT"),
            azure_deployment: given("AZURE_OPENAI_DEPLOYMENT"),
            ollama_host: given("OLLAMA_HOST"),
            ollama_model: given("OLLAMA_MODEL"),
        }
    }

    /// What is given, in the order in which it is tried.
    fn candidates(&self) -> impl Iterator<Item = Candidate> {
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
            Candidate {
                provider,
                base_url: self.openai_base_url.clone(),
                api_key: Some(key),
                name: self.openai_model.clone(),
            }
        });
        let keyed = |provider, key: &Option<Secret>, name: &Option<String>| {
            key.clone().map(|key| Candidate {
                provider,
                base_url: None,
                api_key: Some(key),
                name: name.clone(),
            })
        };
        let anthropic = keyed(
            ModelProvider::Anthropic,
            &self.anthropic_api_key,
            &self.anthropic_model,
        );
        let gemini = keyed(
            ModelProvider::Gemini,
            &self.gemini_api_key,
            &self.gemini_model,
        );
        // without an address there is nothing to call
        let azure = keyed(
            ModelProvider::AzureOpenAi,
            &self.azure_api_key,
            &self.azure_deployment,
        )
        .zip(self.azure_endpoint.clone())
        .map(|(candidate, endpoint)| Candidate {
            base_url: Some(endpoint),
            ..candidate
        });
        let ollama = self.ollama_host.as_deref().map(|host| Candidate {
            provider: ModelProvider::Ollama,
            base_url: Some(ollama_address(host)),
            api_key: None,
            name: self.ollama_model.clone(),
        });
        let all = [openai, anthropic, gemini, azure, ollama];
        all.into_iter().flatten()
    }
}

/// What may become the operator's model.
struct Candidate {
    provider: ModelProvider,
    base_url: Option<String>,
    api_key: Option<Secret>,
    name: Option<String>,
}

/// Ollama's own tools take a host with or without scheme and port, and the address that its server listens on for one to call.
fn ollama_address(host: &str) -> String {
    let host = host.replace("0.0.0.0", "127.0.0.1");
    if host.contains("://") {
        return host;
    }
    let with_port = Url::parse(&format!("http://{host}"));
    match with_port {
        Ok(url) if url.port().is_none() && !host.ends_with(":80") => format!("http://{host}:11434"),
        _ => format!("http://{host}"),
    }
}

impl Engine {
    /// The model that the operator's environment names, or the first chat model that its endpoint lists; for
    /// [`Engine::seed_models`]. What fails is logged as a warning: a set-up does not fail by it.
    pub async fn find_operator_model(
        &self,
        environment: &OperatorEnvironment,
    ) -> Option<OperatorModel> {
        for candidate in environment.candidates() {
            let Candidate {
                provider,
                base_url,
                api_key,
                name,
            } = candidate;
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
                        ?provider,
                        "the address that the environment gives is not http or https; no model is made of it"
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
        api_key: Option<Secret>,
    ) -> Option<String> {
        let endpoint = Endpoint {
            provider: super::endpoint::provider(provider),
            base_url,
            model_name: String::new(),
            api_key,
            headers: Vec::new(),
            context_window: None,
            thinks: false,
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
            row.has_api_key = found.api_key.is_some();
            if row.slug == EXTRACTIVE {
                row.slug.push_str("-2");
            }
            let mut held = secrets::Held::default();
            held.set_api_key(found.api_key.as_ref());
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
            group_id: None,
            reach: None,
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
            breaker_until: None,
            check_at: None,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        }
    }
}
