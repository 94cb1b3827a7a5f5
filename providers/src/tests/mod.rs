//! The wires against a provider that speaks them over a real socket, well and badly.

mod anthropic;
mod faults;
mod gemini;
mod ollama;
mod openai;
mod requests;
mod server;
mod timing;

use std::time::Duration;

use adapters::clock::SystemClock;
use adapters::outbound::{Outbound, OutboundConfig, Reach};
use adapters::sealing::Secret;
use futures_util::StreamExt;

use self::server::{Server, Step};
use crate::retry::RetryPolicy;
use crate::{
    Answer, ChatEvent, ChatMessage, ChatRequest, Endpoint, ModelError, Provider, Providers,
};

/// What a call gave.
struct Told {
    /// The events in short, the error last: `t:`ext, `r:`easoning, `c`all, `a`rguments, `f`inished, `e`rror.
    events: Vec<String>,
    answer: Option<Answer>,
    error: Option<ModelError>,
    /// How often it was called.
    calls: usize,
}

fn providers() -> Providers {
    let retry = RetryPolicy {
        base: Duration::from_millis(4),
        retry_after_cap: Duration::from_millis(40),
        ..RetryPolicy::default()
    };
    let outbound = Outbound::new(OutboundConfig::default()).expect("a client");
    Providers::with_retries(outbound, SystemClock::shared(), retry)
}

fn endpoint(provider: Provider, server: &Server) -> Endpoint {
    Endpoint {
        provider,
        base_url: Some(server.url.clone()),
        model_name: "m-1".to_owned(),
        api_key: Some(Secret::new("sk-verysecret")),
        headers: Vec::new(),
        context_window: None,
        thinks: false,
        timeout: Duration::from_millis(900),
        reach: Reach::Operator,
    }
}

/// As whoever looks after models: is it listed, or does it answer.
async fn check(endpoint: &Endpoint) -> Result<(), ModelError> {
    let providers = providers();
    if !providers.lists(endpoint).await? {
        providers.one_token(endpoint).await?;
    }
    Ok(())
}

fn question(text: &str) -> ChatRequest {
    ChatRequest {
        messages: vec![ChatMessage::User {
            text: text.to_owned(),
        }],
        ..ChatRequest::default()
    }
}

fn short(item: &Result<ChatEvent, ModelError>) -> String {
    match item {
        Ok(ChatEvent::Text(text)) => format!("t:{text}"),
        Ok(ChatEvent::Reasoning(text)) => format!("r:{text}"),
        Ok(ChatEvent::ToolCall { index, id, name }) => format!("c{index}:{id}/{name}"),
        Ok(ChatEvent::ToolArguments { index, text }) => format!("a{index}:{text}"),
        Ok(ChatEvent::Finished(answer)) => format!("f:{}", answer.finish_reason),
        Err(error) => format!("e:{:?}", error.kind),
    }
}

/// One call to a server with these scripts. The pieces must join to the answer.
async fn call(provider: Provider, scripts: Vec<Vec<Step>>) -> Told {
    let server = Server::start(scripts);
    let told = listen(&endpoint(provider, &server)).await;
    Told {
        calls: server.asked().len(),
        ..told
    }
}

/// What comes of an answer whose connection breaks after each number of its bytes, each time it is given.
async fn broken_everywhere(provider: Provider, head: Step, whole: &str) -> Vec<(usize, Told)> {
    let providers = providers();
    let mut all = Vec::new();
    for cut in 0..=whole.len() {
        let script = vec![head.clone(), Step::Send(whole.as_bytes()[..cut].to_vec())];
        let server = Server::start(vec![script; 3]);
        let mut endpoint = endpoint(provider, &server);
        // nobody is silent here
        endpoint.timeout = Duration::from_secs(20);
        let told = listen_by(&providers, &endpoint).await;
        let calls = server.asked().len();
        all.push((cut, Told { calls, ..told }));
    }
    all
}

async fn listen(endpoint: &Endpoint) -> Told {
    listen_by(&providers(), endpoint).await
}

async fn listen_by(providers: &Providers, endpoint: &Endpoint) -> Told {
    let mut stream = providers
        .chat(endpoint.clone())
        .stream(question("hello"))
        .await;
    let mut told = Told {
        events: Vec::new(),
        answer: None,
        error: None,
        calls: 0,
    };
    let (mut text, mut reasoning, mut arguments) =
        (String::new(), String::new(), Vec::<String>::new());
    while let Some(item) = stream.next().await {
        assert!(
            told.answer.is_none() && told.error.is_none(),
            "something follows the end"
        );
        told.events.push(short(&item));
        match item {
            Ok(ChatEvent::Text(piece)) => text.push_str(&piece),
            Ok(ChatEvent::Reasoning(piece)) => reasoning.push_str(&piece),
            Ok(ChatEvent::ToolCall { index, .. }) => {
                assert_eq!(index as usize, arguments.len());
                arguments.push(String::new());
            }
            Ok(ChatEvent::ToolArguments { index, text }) => {
                arguments[index as usize].push_str(&text);
            }
            Ok(ChatEvent::Finished(answer)) => told.answer = Some(answer),
            Err(error) => told.error = Some(error),
        }
    }
    if let Some(answer) = &told.answer {
        assert_eq!(answer.text, text);
        assert_eq!(
            answer
                .reasoning
                .iter()
                .map(|thought| thought.text.as_str())
                .collect::<String>(),
            reasoning
        );
        let told: Vec<&str> = answer
            .tool_calls
            .iter()
            .map(|call| call.arguments.as_str())
            .collect();
        assert_eq!(told, arguments);
    }
    told
}
