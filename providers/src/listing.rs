//! What an endpoint lists, and whether its model answers at all.

use std::time::Duration;

use adapters::outbound::read_limited;
use futures_util::StreamExt;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

use crate::call;
use crate::chat::{ChatEvent, ChatMessage, ChatRequest, TokenUsage};
use crate::endpoint::{Endpoint, Provider};
use crate::error::{ModelError, ModelErrorKind, TimeoutPhase};
use crate::tokens::TokenCounter;
use crate::wire::Wire;
use crate::{Shared, Token, gemini};

/// Bytes of a list of models.
const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;
/// How long, and for how many pieces, the rest of an answer is heard that was to be one token.
const REST_OF_ANSWER: Duration = Duration::from_secs(2);
const MANY: u64 = 16;

/// Whether the endpoint lists its model.
pub(crate) async fn lists(
    shared: &Shared,
    endpoint: &Endpoint,
    wire: Wire,
) -> Result<bool, ModelError> {
    // imitators know `/models` at best, and by other names than one may ask for
    let by_name = endpoint.base_url.is_none() && endpoint.provider != Provider::OpenAiCompatible;
    let name = endpoint.model_name.as_str();
    let found = match endpoint.provider {
        // it lists what could be deployed, not what is
        Provider::AzureOpenAi => return Ok(false),
        Provider::Ollama => shown(shared, endpoint).await.map(|_| true),
        Provider::Gemini if by_name => {
            let (folder, name) = gemini::model_path(name);
            let path = [folder, name];
            get(shared, endpoint, wire, &path).await.map(|_| true)
        }
        _ if by_name => {
            let path = ["models", name];
            get(shared, endpoint, wire, &path).await.map(|_| true)
        }
        _ => get(shared, endpoint, wire, &["models"])
            .await
            .map(|list| models(&list).iter().any(|model| is_called(model, name))),
    };
    match found {
        // no list, none that this key may read, or none that can be read
        Err(ModelError {
            status: Some(403 | 404 | 405 | 501),
            ..
        })
        | Err(ModelError {
            kind: ModelErrorKind::Malformed,
            ..
        }) => Ok(false),
        Err(error) => Err(call::cleaned(error, endpoint)),
        Ok(listed) => Ok(listed),
    }
}

/// Whether a model of a list is the one that is called so.
fn is_called(model: &Value, name: &str) -> bool {
    let bare = |name: &str| name.strip_prefix("models/").unwrap_or(name).to_owned();
    let name = bare(name);
    let names = [&model["id"], &model["name"], &model["model"]];
    let mut names = names.into_iter().filter_map(Value::as_str);
    names.any(|listed| bare(listed) == name)
}

/// The models of a list, in whichever of its usual shapes.
fn models(list: &Value) -> &[Value] {
    let models = list["data"].as_array().or(list["models"].as_array());
    let models = models.or(list.as_array());
    models.map(Vec::as_slice).unwrap_or_default()
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

/// Has the model say one token.
pub(crate) async fn one_token(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    wire: Wire,
) -> Result<Token, ModelError> {
    let request = ChatRequest {
        messages: vec![ChatMessage::User {
            text: "Hi".to_owned(),
        }],
        max_output_tokens: Some(1),
        ..ChatRequest::default()
    };
    // a letter more or less, and no vocabulary is loaded for it
    let input = TokenCounter::of(endpoint.provider, &endpoint.model_name).at_most(&request);
    let estimate = |output: u64| Token {
        usage: TokenUsage {
            input,
            output,
            ..TokenUsage::default()
        },
        is_estimate: true,
    };
    let endpoint = Arc::new(endpoint.clone());
    let mut answer = call::stream(shared.clone(), endpoint, wire, &request, 0);
    let mut next = answer.next().await;
    let until = Instant::now() + REST_OF_ANSWER;
    for said in 0.. {
        match next {
            Some(Ok(ChatEvent::Finished(answer))) => {
                let token = answer.usage.map(|usage| Token {
                    usage,
                    is_estimate: false,
                });
                return Ok(token.unwrap_or_else(|| estimate(1)));
            }
            // it does not keep to one, and has answered
            Some(Ok(_)) if said == MANY => return Ok(estimate(said)),
            Some(Ok(_)) => {}
            // it would have answered, but thought first
            Some(Err(error)) if error.message.contains("output limit was reached") => {
                return Ok(estimate(1));
            }
            Some(Err(error)) if said == 0 => return Err(error),
            Some(Err(_)) => return Ok(estimate(said)),
            None => break,
        }
        // what it took is told last
        next = match timeout_at(until, answer.next()).await {
            Ok(next) => next,
            Err(_) => return Ok(estimate(said + 1)),
        };
    }
    Err(ModelError::broken_off())
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
    let names = models(&list).iter().filter_map(|model| match wire {
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
    if path == ["models"] {
        // else fifty, or twenty
        match wire {
            Wire::Gemini => drop(url.query_pairs_mut().append_pair("pageSize", "1000")),
            Wire::Anthropic => drop(url.query_pairs_mut().append_pair("limit", "1000")),
            Wire::OpenAi | Wire::Ollama => {}
        }
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
