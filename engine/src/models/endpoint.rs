use std::time::Duration;

use adapters::outbound::Reach;
use entities::{DbErr, ModelProvider, Tx, llm_model};
use providers::{Endpoint, Provider, tokens::TokenCounter};
use url::Url;

use super::{address, known, secrets};
use crate::Engine;

impl Engine {
    /// What is needed to call a model, its key and headers opened. Any transaction that can read will do.
    ///
    /// # Errors
    /// What the database says; [`DbErr::Custom`] where the secrets can't be opened, or belong to another address.
    pub async fn endpoint(&self, tx: &Tx, model: &llm_model::Model) -> Result<Endpoint, DbErr> {
        let provider = provider(model.provider);
        let base_url = model.base_url.as_deref().map(Url::parse).transpose();
        let base_url = base_url.map_err(|error| {
            DbErr::Custom(format!("the base URL of {} is none: {error}", model.id))
        })?;
        let origin = address::origin(model.provider, model.base_url.as_deref());
        let held = match (model.secret_id, &origin) {
            (Some(id), Some(origin)) => {
                secrets::open(tx, self.keyring(), model.tenant_id, id, origin).await?
            }
            _ => secrets::Held::default(),
        };
        let (api_key, headers) = held.into_parts();
        Ok(Endpoint {
            provider,
            base_url,
            model_name: model.model_name.clone(),
            api_key,
            headers,
            context_window: u32::try_from(known::context_window(model)).ok(),
            thinks: model.supports_reasoning,
            timeout: Duration::from_millis(u64::try_from(model.timeout_ms).unwrap_or(1)),
            reach: if model.by_operator {
                Reach::Operator
            } else {
                Reach::Managed
            },
        })
    }
}

/// What counts as a model does.
pub(crate) fn counter(model: &llm_model::Model) -> TokenCounter {
    TokenCounter::of(provider(model.provider), &model.model_name)
}

/// Who serves a model, in the words of those who call it.
pub(crate) fn provider(provider: ModelProvider) -> Provider {
    match provider {
        ModelProvider::OpenAi => Provider::OpenAi,
        ModelProvider::OpenAiCompatible => Provider::OpenAiCompatible,
        ModelProvider::Anthropic => Provider::Anthropic,
        ModelProvider::Gemini => Provider::Gemini,
        ModelProvider::AzureOpenAi => Provider::AzureOpenAi,
        ModelProvider::Ollama => Provider::Ollama,
        ModelProvider::Builtin => Provider::Builtin,
    }
}
