//! What an endpoint lists, and whether it answers at all.

use std::time::Duration;

use adapters::outbound::read_limited;
use futures_util::StreamExt;
use serde_json::Value;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

use crate::call;
use crate::chat::{ChatMessage, ChatRequest};
use crate::endpoint::{Endpoint, Provider};
use crate::error::{ModelError, ModelErrorKind, TimeoutPhase};
use crate::wire::Wire;
use crate::{Checked, Shared};

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
    let name = endpoint.model_name.as_str();
    let path: &[&str] = if by_name {
        &["models", name]
    } else {
        &["models"]
    };
    match get(shared, endpoint, wire, path).await {
        Err(ModelError {
            status: Some(404 | 405 | 501),
            ..
        }) if !by_name => one_token(shared, endpoint, wire).await?,
        Err(error) => return Err(call::cleaned(error, endpoint)),
        Ok(_) => {}
    }
    Ok(Checked {
        latency: begun.elapsed(),
    })
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
    let list = get(shared, endpoint, wire, &["models"])
        .await
        .map_err(|error| call::cleaned(error, endpoint))?;
    let models = list["data"]
        .as_array()
        .or(list.as_array())
        .map(Vec::as_slice)
        .unwrap_or_default();
    let names = models.iter().filter_map(|model| model["id"].as_str());
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
    let deadline = Instant::now() + endpoint.timeout.min(Duration::from_secs(60));
    let (url, headers) = (endpoint.url(path)?, endpoint.header_map(wire)?);
    let response = call::send(shared, endpoint, deadline, |client| {
        client.get(url).headers(headers)
    })
    .await?;
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
            ("", false),
        ] {
            assert_eq!(chats(name), expected, "{name}");
        }
    }
}
