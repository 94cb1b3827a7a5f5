//! Where a model is, and what is needed to call it.

use std::time::Duration;

use adapters::outbound::Reach;
use adapters::sealing::Secret;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::error::ModelError;
use crate::wire::Wire;
use crate::{anthropic, gemini};

/// The version of Azure's wire where the address names none: the last that is dated. The older ones that count as stable
/// know neither usage in streams nor the newer word for the limit of an answer.
const AZURE_VERSION: &str = "2025-04-01-preview";

/// Who serves a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// OpenAI's chat completions.
    OpenAi,
    /// A server that imitates OpenAI's chat completions; it has no default address.
    OpenAiCompatible,
    /// Anthropic's messages.
    Anthropic,
    /// Google's Gemini.
    Gemini,
    /// OpenAI's models at Azure, each under the name of its deployment; the address is the resource's.
    AzureOpenAi,
    /// Ollama's own protocol. It has no default address, as its usual one is this machine itself.
    Ollama,
    /// This process itself: no network, no key. Its one chat model is [`crate::EXTRACTIVE`].
    Builtin,
}

impl Provider {
    /// Its kind, as clients and operators read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "OPENAI",
            Self::OpenAiCompatible => "OPENAI_COMPATIBLE",
            Self::Anthropic => "ANTHROPIC",
            Self::Gemini => "GEMINI",
            Self::AzureOpenAi => "AZURE_OPENAI",
            Self::Ollama => "OLLAMA",
            Self::Builtin => "BUILTIN",
        }
    }
}

/// A model to call.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Who serves it, hence the wire.
    pub provider: Provider,
    /// The address below which the wire's paths are, with its version: `https://api.openai.com/v1`. Left out, the
    /// provider's own. Anthropic's and Gemini's may end in a version or not, Ollama's in `/api` or not. Azure's is that
    /// of the resource, with an `api-version` in its query where another than the usual is wanted; or it ends in
    /// `/openai/v1`, where there are none.
    pub base_url: Option<Url>,
    /// The provider's name for the model.
    pub model_name: String,
    /// Sent as the provider wants it, in a header.
    pub api_key: Option<Secret>,
    /// Headers to send beside; they take the place of ours, so that `Authorization` may be given here. Names that
    /// frame the request or the connection are refused.
    pub headers: Vec<(String, Secret)>,
    /// The context window to ask for, in tokens, where the server allots it by request (Ollama).
    pub context_window: Option<u32>,
    /// Whether the model is known to think: where thoughts are shown only if they are asked for (Gemini, Ollama), they
    /// are.
    pub thinks: bool,
    /// How long to wait for the first token, and between tokens. Connecting has 10 s in any case.
    pub timeout: Duration,
    /// Which addresses may be called.
    pub reach: Reach,
}

impl Endpoint {
    /// Where a streamed chat is asked for.
    pub(crate) fn chat_url(&self) -> Result<Url, ModelError> {
        match self.provider {
            Provider::Anthropic => self.url(&["messages"]),
            Provider::Ollama => self.url(&["chat"]),
            Provider::Gemini => {
                let (folder, name) = gemini::model_path(&self.model_name);
                let mut url = self.url(&[folder, &format!("{name}:streamGenerateContent")])?;
                url.query_pairs_mut().append_pair("alt", "sse");
                Ok(url)
            }
            Provider::AzureOpenAi if !self.is_unversioned_azure() => {
                let mut url =
                    self.url(&["deployments", &self.model_name, "chat", "completions"])?;
                if !url.query_pairs().any(|(name, _)| name == "api-version") {
                    url.query_pairs_mut()
                        .append_pair("api-version", AZURE_VERSION);
                }
                Ok(url)
            }
            Provider::OpenAi
            | Provider::OpenAiCompatible
            | Provider::AzureOpenAi
            | Provider::Builtin => self.url(&["chat", "completions"]),
        }
    }

    /// `path` below the base URL, whose query is kept.
    pub(crate) fn url(&self, path: &[&str]) -> Result<Url, ModelError> {
        let mut url = match (&self.base_url, self.provider) {
            (Some(url), _) => url.clone(),
            (None, Provider::OpenAi) => own_address("https://api.openai.com/v1"),
            (None, Provider::Anthropic) => own_address("https://api.anthropic.com/v1"),
            (None, Provider::Gemini) => {
                own_address("https://generativelanguage.googleapis.com/v1beta")
            }
            (None, _) => return Err(ModelError::unsupported("the model has no base URL")),
        };
        let below = match self.provider {
            Provider::Anthropic if !has_last(&url, |last| last == "v1") => Some("v1"),
            // those of the cloud end in a publisher, after their version
            Provider::Gemini if !has_any(&url, is_version) => Some("v1beta"),
            Provider::Ollama if !has_last(&url, |last| last == "api") => Some("api"),
            Provider::AzureOpenAi
                if !self.is_unversioned_azure() && !has_last(&url, |last| last == "openai") =>
            {
                Some("openai")
            }
            _ => None,
        };
        let mut segments = url
            .path_segments_mut()
            .map_err(|()| ModelError::unsupported("the base URL has no path"))?;
        segments.pop_if_empty().extend(below).extend(path);
        drop(segments);
        Ok(url)
    }

    /// Azure's newer address, below which everything is as at OpenAI.
    fn is_unversioned_azure(&self) -> bool {
        let url = self.base_url.as_ref();
        url.is_some_and(|url| url.path().trim_end_matches('/').ends_with("/openai/v1"))
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
                Wire::OpenAi if self.provider == Provider::AzureOpenAi => {
                    ("api-key", key.to_owned())
                }
                Wire::OpenAi | Wire::Ollama => ("authorization", format!("Bearer {key}")),
                Wire::Anthropic => ("x-api-key", key.to_owned()),
                // it would also be taken in the URL, which ends in logs
                Wire::Gemini => ("x-goog-api-key", key.to_owned()),
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

/// Whether the last segment of the path is such.
fn has_last(url: &Url, is_such: impl Fn(&str) -> bool) -> bool {
    let path = url.path().trim_end_matches('/');
    path.rsplit('/').next().is_some_and(is_such)
}

fn has_any(url: &Url, is_such: impl Fn(&str) -> bool) -> bool {
    url.path().split('/').any(is_such)
}

/// `v1`, `v1beta`, `v1alpha2`.
fn is_version(segment: &str) -> bool {
    let mut chars = segment.chars();
    chars.next() == Some('v') && chars.next().is_some_and(|char| char.is_ascii_digit())
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
