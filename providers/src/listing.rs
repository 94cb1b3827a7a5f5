//! What an endpoint lists, and whether it answers at all.

use std::time::Duration;

use adapters::outbound::read_limited;
use futures_util::StreamExt;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

use crate::call;
use crate::chat::{ChatMessage, ChatRequest};
use crate::endpoint::{Endpoint, Provider};
use crate::error::{ModelError, ModelErrorKind, TimeoutPhase};
use crate::wire::Wire;
use crate::{Checked, Shared, gemini};

/// Bytes of a list of models.
const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;

/// Asks the endpoint for its model, which costs nothing; where it lists none, for one token.
pub(crate) async fn check(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    wire: Wire,
) -> Result<Checked, ModelError> {
    let begun = Instant::now();
    // imitators know `/models` at best, and by other names than one may ask for
    let by_name = endpoint.base_url.is_none() && endpoint.provider != Provider::OpenAiCompatible;
    let listed = match endpoint.provider {
        // it lists what could be deployed, not what is
        Provider::AzureOpenAi => None,
        Provider::Ollama => Some(shown(shared, endpoint).await),
        Provider::Gemini if by_name => {
            let (folder, name) = gemini::model_path(&endpoint.model_name);
            Some(get(shared, endpoint, wire, &[folder, name]).await)
        }
        _ if by_name => {
            let path = ["models", endpoint.model_name.as_str()];
            Some(get(shared, endpoint, wire, &path).await)
        }
        _ => Some(get(shared, endpoint, wire, &["models"]).await),
    };
    match listed {
        None => one_token(shared, endpoint, wire).await?,
        Some(Err(ModelError {
            status: Some(404 | 405 | 501),
            ..
        })) if !by_name => one_token(shared, endpoint, wire).await?,
        Some(Err(error)) => return Err(call::cleaned(error, endpoint)),
        Some(Ok(_)) => {}
    }
    Ok(Checked {
        latency: begun.elapsed(),
    })
}

/// What Ollama knows of its model, which it need not load for this.
async fn shown(shared: &Shared, endpoint: &Endpoint) -> Result<Value, ModelError> {
    let body = json!({ "model": endpoint.model_name }).to_string();
    let mut headers = endpoint.header_map(Wire::Ollama)?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let url = endpoint.url(&["show"])?;
    ask(shared, endpoint, |client| {
        client.post(url).headers(headers).body(body)
    })
    .await
}

async fn one_token(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    wire: Wire,
) -> Result<(), ModelError> {
    let request = ChatRequest {
        messages: vec![ChatMessage::User {
            text: "Hi".to_owned(),
        }],
        max_output_tokens: Some(1),
        ..ChatRequest::default()
    };
    let mut answer = call::stream(
        shared.clone(),
        Arc::new(endpoint.clone()),
        wire,
        &request,
        0,
    );
    match answer.next().await {
        Some(Ok(_)) => Ok(()),
        // it would have answered, but thought first
        Some(Err(error)) if error.message.contains("output limit was reached") => Ok(()),
        Some(Err(error)) => Err(error),
        None => Err(ModelError::broken_off()),
    }
}

/// The first model of the endpoint's list that seems to chat.
pub(crate) async fn first_chat_model(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    wire: Wire,
) -> Result<Option<String>, ModelError> {
    if endpoint.provider == Provider::AzureOpenAi {
        // deployments, by which models are called there, are in no list that a key can read
        return Ok(None);
    }
    let path = match wire {
        Wire::Ollama => "tags",
        Wire::OpenAi | Wire::Anthropic | Wire::Gemini => "models",
    };
    let list = get(shared, endpoint, wire, &[path])
        .await
        .map_err(|error| call::cleaned(error, endpoint))?;
    let models = list["data"]
        .as_array()
        .or(list["models"].as_array())
        .or(list.as_array())
        .map(Vec::as_slice)
        .unwrap_or_default();
    let names = models.iter().filter_map(|model| match wire {
        Wire::OpenAi | Wire::Anthropic => model["id"].as_str(),
        Wire::Ollama => model["name"].as_str(),
        Wire::Gemini => {
            let methods = model["supportedGenerationMethods"].as_array();
            let chats =
                methods.is_none_or(|methods| methods.iter().any(|one| one == "generateContent"));
            let name = model["name"].as_str().filter(|_| chats)?;
            Some(name.strip_prefix("models/").unwrap_or(name))
        }
    });
    Ok(names
        .filter(|name| name.len() <= 256 && chats(name))
        .map(str::to_owned)
        .next())
}

/// Lists don't say what a model is for, so names must.
fn chats(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let others = [
        "embed",
        "rerank",
        "whisper",
        "tts",
        "transcribe",
        "speech",
        "audio",
        "realtime",
        "dall-e",
        "image",
        "sora",
        "moderation",
        "guard",
        "babbage",
        "davinci",
        "gpt-3.5-turbo-instruct",
        "minilm",
        "bge-",
        "computer-use",
        "deep-research",
        "imagen",
        "veo-",
        "robotics",
        "aqa",
        "codex",
    ];
    !name.trim().is_empty() && !others.iter().any(|other| name.contains(other))
}

async fn get(
    shared: &Shared,
    endpoint: &Endpoint,
    wire: Wire,
    path: &[&str],
) -> Result<Value, ModelError> {
    let (mut url, headers) = (endpoint.url(path)?, endpoint.header_map(wire)?);
    if wire == Wire::Gemini && path == ["models"] {
        // else fifty
        url.query_pairs_mut().append_pair("pageSize", "1000");
    }
    ask(shared, endpoint, |client| client.get(url).headers(headers)).await
}

async fn ask(
    shared: &Shared,
    endpoint: &Endpoint,
    request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder,
) -> Result<Value, ModelError> {
    let deadline = Instant::now() + endpoint.timeout.min(Duration::from_secs(60));
    let response = call::send(shared, endpoint, deadline, request).await?;
    let status = response.status().as_u16();
    let body = timeout_at(deadline, read_limited(response, MAX_LIST_BYTES))
        .await
        .map_err(|_| ModelError::timeout(TimeoutPhase::Gap))?
        .map_err(|_| ModelError::malformed("the list of models can't be read"))?;
    serde_json::from_slice(&body).map_err(|_| ModelError {
        kind: ModelErrorKind::Malformed,
        message: "the provider's answer is no list of models".to_owned(),
        status: Some(status),
    })
}

#[cfg(test)]
mod tests {
    use super::chats;

    #[test]
    fn names_tell_what_chats() {
        for (name, expected) in [
            ("gpt-4o-mini", true),
            ("claude-sonnet-4-5", true),
            ("llama-3.1-8b-instruct", true),
            ("gpt-3.5-turbo-instruct", false),
            ("text-embedding-3-small", false),
            ("whisper-1", false),
            ("dall-e-3", false),
            ("gpt-4o-realtime-preview", false),
            ("gemini-2.5-flash", true),
            ("gemini-2.5-flash-image", false),
            ("imagen-4.0-generate-001", false),
            ("nomic-embed-text:latest", false),
            ("", false),
        ] {
            assert_eq!(chats(name), expected, "{name}");
        }
    }
}
