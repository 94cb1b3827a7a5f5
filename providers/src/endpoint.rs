//! Where a model is, and what is needed to call it.

use std::time::Duration;

use adapters::outbound::Reach;
use adapters::sealing::Secret;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::anthropic;
use crate::error::ModelError;
use crate::wire::Wire;

/// Who serves a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// OpenAI's chat completions.
    OpenAi,
    /// A server that imitates OpenAI's chat completions; it has no default address.
    OpenAiCompatible,
    /// Anthropic's messages.
    Anthropic,
    /// This process itself: no network, no key. Its one chat model is [`crate::EXTRACTIVE`].
    Builtin,
}

/// A model to call.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Who serves it, hence the wire.
    pub provider: Provider,
    /// The address below which the wire's paths are, with its version: `https://api.openai.com/v1`. Left out, the
    /// provider's own. Anthropic's may end in `/v1` or not.
    pub base_url: Option<Url>,
    /// The provider's name for the model.
    pub model_name: String,
    /// Sent as the provider wants it, in a header.
    pub api_key: Option<Secret>,
    /// Headers to send beside; they take the place of ours, so that `Authorization` may be given here. Names that
    /// frame the request or the connection are refused.
    pub headers: Vec<(String, Secret)>,
    /// How long to wait for the first token, and between tokens. Connecting has 10 s in any case.
    pub timeout: Duration,
    /// Which addresses may be called.
    pub reach: Reach,
}

impl Endpoint {
    /// `path` below the base URL, whose query is kept.
    pub(crate) fn url(&self, path: &[&str]) -> Result<Url, ModelError> {
        let mut url = match (&self.base_url, self.provider) {
            (Some(url), _) => url.clone(),
            (None, Provider::OpenAi) => own_address("https://api.openai.com/v1"),
            (None, Provider::Anthropic) => own_address("https://api.anthropic.com/v1"),
            (None, _) => return Err(ModelError::unsupported("the model has no base URL")),
        };
        let versioned = url.path().trim_end_matches('/').ends_with("/v1");
        let mut segments = url
            .path_segments_mut()
            .map_err(|()| ModelError::unsupported("the base URL has no path"))?;
        segments.pop_if_empty();
        if self.provider == Provider::Anthropic && !versioned {
            segments.push("v1");
        }
        segments.extend(path);
        drop(segments);
        Ok(url)
    }

    /// The headers of every request to it, all of them sensitive.
    pub(crate) fn header_map(&self, wire: Wire) -> Result<HeaderMap, ModelError> {
        let mut headers = HeaderMap::new();
        if wire == Wire::Anthropic {
            headers.insert(
                "anthropic-version",
                HeaderValue::from_static(anthropic::VERSION),
            );
        }
        if let Some(key) = self
            .api_key
            .as_ref()
            .map(|key| key.expose().trim())
            .filter(|key| !key.is_empty())
        {
            let (name, value) = match wire {
                Wire::OpenAi => ("authorization", format!("Bearer {key}")),
                Wire::Anthropic => ("x-api-key", key.to_owned()),
            };
            let value = HeaderValue::from_str(&value).map_err(|_| {
                ModelError::unsupported("the API key has characters that no header can carry")
            })?;
            headers.insert(name, sensitive(value));
        }
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.trim().as_bytes())
                .map_err(|_| ModelError::unsupported("a header's name is no name"))?;
            if is_framing(&name) {
                return Err(ModelError::unsupported(format!(
                    "the header {name} can't be set"
                )));
            }
            let value = HeaderValue::from_str(value.expose().trim()).map_err(|_| {
                ModelError::unsupported(format!("the value of the header {name} can't be sent"))
            })?;
            headers.insert(name, sensitive(value));
        }
        Ok(headers)
    }

    /// What must not be seen in a message: the key and the headers' values, whole and word by word.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        let values = self
            .api_key
            .iter()
            .chain(self.headers.iter().map(|(_, value)| value))
            .map(Secret::expose);
        values
            .flat_map(|value| {
                // a scheme's name (`Bearer`) is no secret, and would take words out of innocent sentences
                let words = value
                    .split_ascii_whitespace()
                    .filter(|word| word.len() >= 8);
                std::iter::once(value.trim()).chain(words)
            })
            .filter(|secret| secret.len() >= 4)
            .collect()
    }
}

fn own_address(address: &str) -> Url {
    Url::parse(address).expect("a provider's own address is one")
}

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

fn is_framing(name: &HeaderName) -> bool {
    let framing = [
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "accept-encoding",
        "proxy-connection",
        "proxy-authorization",
    ];
    framing.contains(&name.as_str())
}
