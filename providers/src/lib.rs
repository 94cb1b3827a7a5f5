//! The models themselves: how each provider is spoken to, in words that belong to none of them.
//!
//! A call is a stream of [`ChatEvent`]s, made by a [`ChatModel`] that [`Providers`] gives for an [`Endpoint`]. This
//! crate knows no database, no tenant and no run: what a model may see, what its answer means and what a failure leads
//! to (fallbacks, a breaker, a failed run) is the engine's.

mod anthropic;
mod assembly;
mod call;
mod chat;
mod endpoint;
mod error;
mod extractive;
mod frames;
mod gemini;
mod listing;
mod ollama;
mod openai;
mod retry;
mod sse;
pub mod tokens;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use adapters::clock::SharedClock;
use adapters::outbound::Outbound;
use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};

pub use chat::{
    Answer, ChatEvent, ChatMessage, ChatModel, ChatRequest, Passage, Reasoning, TokenUsage,
};
pub use chat::{ToolCallRequest, ToolSpec};
pub use endpoint::{Endpoint, Provider};
pub use error::{ModelError, ModelErrorKind, TimeoutPhase};
pub use extractive::EXTRACTIVE;

use retry::RetryPolicy;
use wire::Wire;

/// Gives models for endpoints. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Providers(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    outbound: Outbound,
    clock: SharedClock,
    retry: RetryPolicy,
}

/// A model answered, as little as it could be made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What that took of tokens.
    pub usage: TokenUsage,
    /// The provider did not say; it is no more than that.
    pub is_estimate: bool,
}

impl Providers {
    /// Providers over the guarded client.
    pub fn new(outbound: Outbound, clock: SharedClock) -> Self {
        Self::with_retries(outbound, clock, RetryPolicy::default())
    }

    pub(crate) fn with_retries(outbound: Outbound, clock: SharedClock, retry: RetryPolicy) -> Self {
        Self(Arc::new(Shared {
            outbound,
            clock,
            retry,
        }))
    }

    /// The chat model at `endpoint`. Nothing is called yet; an endpoint that can't be called as it is configured says
    /// so as [`ModelErrorKind::Unsupported`] at its first call.
    ///
    /// A call that fails before anything of its answer was shown is made up to twice again, after half a second and a
    /// second or as long as the provider asks: on status 429 and 5xx, without a connection, and where the answer broke
    /// off. It is not made again where the provider asks for more than 60 s, nor after silence for as long as it may
    /// last.
    pub fn chat(&self, endpoint: Endpoint) -> Arc<dyn ChatModel> {
        match Wire::of(endpoint.provider) {
            Some(wire) => Arc::new(RemoteChat {
                shared: self.0.clone(),
                endpoint: Arc::new(endpoint),
                wire,
            }),
            None => Arc::new(extractive::Extractive::new(&endpoint.model_name)),
        }
    }

    /// Whether the endpoint lists its model: asked once, without retries, and for nothing. It is there, then; whether it
    /// answers shows by [`Self::one_token`] alone, and so does whether it is there, where the list is without it or can't
    /// be had (Azure lists no deployments). The built-in model is there.
    ///
    /// # Errors
    ///
    /// As of a call, but where there merely is no list.
    pub async fn lists(&self, endpoint: &Endpoint) -> Result<bool, ModelError> {
        match Wire::of(endpoint.provider) {
            Some(wire) => listing::lists(&self.0, endpoint, wire).await,
            None if endpoint.model_name == EXTRACTIVE => Ok(true),
            None => Err(extractive::unknown()),
        }
    }

    /// Has the model say one token, once and without retries: a call as any other, and paid for as one.
    ///
    /// # Errors
    ///
    /// As of a call.
    pub async fn one_token(&self, endpoint: &Endpoint) -> Result<Token, ModelError> {
        match Wire::of(endpoint.provider) {
            Some(wire) => listing::one_token(&self.0, endpoint, wire).await,
            None if endpoint.model_name == EXTRACTIVE => Ok(Token {
                usage: TokenUsage::default(),
                is_estimate: false,
            }),
            None => Err(extractive::unknown()),
        }
    }

    /// The name of the first chat model that the endpoint lists, as far as names tell; `model_name` of the endpoint is
    /// not looked at. Azure lists no deployments, so there is none.
    ///
    /// # Errors
    ///
    /// As of a call.
    pub async fn first_chat_model(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Option<String>, ModelError> {
        match Wire::of(endpoint.provider) {
            Some(wire) => listing::first_chat_model(&self.0, endpoint, wire).await,
            None => Ok(Some(EXTRACTIVE.to_owned())),
        }
    }
}

/// A model behind a wire.
struct RemoteChat {
    shared: Arc<Shared>,
    endpoint: Arc<Endpoint>,
    wire: Wire,
}

#[async_trait]
impl ChatModel for RemoteChat {
    async fn stream(
        &self,
        request: ChatRequest,
    ) -> BoxStream<'static, Result<ChatEvent, ModelError>> {
        let retries = self.shared.retry.retries;
        call::stream(
            self.shared.clone(),
            self.endpoint.clone(),
            self.wire,
            &request,
            retries,
        )
    }
}

/// A stream of one error.
pub(crate) fn failed(error: ModelError) -> BoxStream<'static, Result<ChatEvent, ModelError>> {
    stream::iter([Err(error)]).boxed()
}
