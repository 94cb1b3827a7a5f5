//! One streamed call over HTTP: its time-outs, its retries, and how the wire's failures are told.
//!
//! The call is a stream that works only while it is polled. It holds one piece of the network, one event and what that
//! event gave; hyper holds one read more. So a slow consumer slows the provider down.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use adapters::outbound::{AddressRefused, clean_error_text};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;

use crate::Shared;
use crate::assembly::Assembly;
use crate::chat::{ChatEvent, ChatRequest};
use crate::endpoint::Endpoint;
use crate::error::{ModelError, ModelErrorKind, TimeoutPhase, error_of};
use crate::frames::Frames;
use crate::retry::retry_after;
use crate::wire::{Decoder, Wire};

/// What is read of an answer that is an error.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// How long that may take.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// A timer this late means that nobody polled, not that the provider was silent.
const AWAY: Duration = Duration::from_millis(250);

/// Streams `request`, with `retries` further calls at most while nothing was shown.
pub(crate) fn stream(
    shared: Arc<Shared>,
    endpoint: Arc<Endpoint>,
    wire: Wire,
    request: &ChatRequest,
    retries: u32,
) -> BoxStream<'static, Result<ChatEvent, ModelError>> {
    let made = prepare(&endpoint, wire, request);
    let (target, failed) = match made {
        Ok(target) => (Some(target), None),
        Err(error) => (None, Some(error)),
    };
    let deadline = Instant::now();
    let call = Call {
        shared,
        endpoint,
        wire,
        target,
        retries,
        retry: 0,
        open: None,
        deadline,
        shown: false,
        failed,
        over: false,
    };
    stream::unfold(call, |mut call| async move {
        call.next().await.map(|item| (item, call))
    })
    .boxed()
}

fn prepare(endpoint: &Endpoint, wire: Wire, request: &ChatRequest) -> Result<Target, ModelError> {
    let mut headers = endpoint.header_map(wire)?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static(wire.accept()));
    let body = wire.chat_body(endpoint, request).to_string();
    Ok(Target {
        url: endpoint.chat_url()?,
        headers,
        body: Bytes::from(body),
    })
}

struct Target {
    url: Url,
    headers: HeaderMap,
    body: Bytes,
}

struct Call {
    shared: Arc<Shared>,
    endpoint: Arc<Endpoint>,
    wire: Wire,
    target: Option<Target>,
    retries: u32,
    /// Calls made before this one.
    retry: u32,
    open: Option<Open>,
    /// Until when the next token must have come.
    deadline: Instant,
    /// Something of the answer was handed on: from here on there is no second call.
    shown: bool,
    /// The error that follows what is still to be handed on.
    failed: Option<ModelError>,
    over: bool,
}

/// An answer that is coming in.
struct Open {
    response: reqwest::Response,
    events: Frames,
    decoder: Box<dyn Decoder>,
}

impl Call {
    async fn next(&mut self) -> Option<Result<ChatEvent, ModelError>> {
        if self.over {
            return None;
        }
        if self.shown {
            // the wait begins when the consumer asks, not when it last got something
            self.deadline = Instant::now() + self.endpoint.timeout;
        }
        loop {
            if let Some(event) = self
                .open
                .as_mut()
                .and_then(|open| open.decoder.assembly().pop())
            {
                self.shown = true;
                if matches!(event, ChatEvent::Finished(_)) {
                    self.close();
                }
                return Some(Ok(event));
            }
            let Some(error) = self.failed.take() else {
                self.failed = self.advance().await.err();
                continue;
            };
            if let Some(wait) = self.before_retry(&error) {
                self.open = None;
                self.retry += 1;
                tracing::debug!(kind = ?error.kind, status = error.status, retry = self.retry, ?wait, "call the model again");
                sleep(wait).await;
                continue;
            }
            self.close();
            return Some(Err(cleaned(error, &self.endpoint)));
        }
    }

    /// How long to wait before the call is made again; `None`: it is not.
    fn before_retry(&self, error: &ModelError) -> Option<Duration> {
        if self.shown || !error.kind.is_passing() || self.retry >= self.retries {
            return None;
        }
        let (policy, clock) = (&self.shared.retry, &*self.shared.clock);
        policy.wait(self.retry, error.kind.retry_after(), clock)
    }

    /// Lets go of the connection.
    fn close(&mut self) {
        self.open = None;
        self.over = true;
    }

    /// One step towards the next event: the request, one event of the wire, or one piece of the network.
    async fn advance(&mut self) -> Result<(), ModelError> {
        let Some(open) = &mut self.open else {
            let Some(target) = &self.target else {
                return Err(ModelError::unsupported("the model can't be called"));
            };
            self.deadline = Instant::now() + self.endpoint.timeout;
            let response = send(&self.shared, &self.endpoint, self.deadline, |client| {
                client
                    .post(target.url.clone())
                    .headers(target.headers.clone())
                    .body(target.body.clone())
            });
            let response = response.await?;
            let response = must_be_events(response, self.wire, self.deadline).await?;
            // the random part of the id is enough, and some providers take no more than 40 characters
            let id = self.shared.clock.uuid().simple().to_string();
            let decoder = self
                .wire
                .decoder(Assembly::new(format!("call_{}", &id[12..])));
            self.open = Some(Open {
                response,
                events: self.wire.frames(),
                decoder,
            });
            return Ok(());
        };
        let event = open
            .events
            .next_event()
            .map_err(|_| ModelError::malformed("one event of the stream exceeds 1 MiB"))?;
        if let Some(event) = event {
            if open.decoder.event(&event)? {
                self.deadline = Instant::now() + self.endpoint.timeout;
            }
            return Ok(());
        }
        loop {
            let read = timeout_at(self.deadline, open.response.chunk()).await;
            return match read {
                Ok(Ok(Some(piece))) => {
                    open.events.feed(piece);
                    Ok(())
                }
                // a connection that breaks is no other end than one that closes
                Ok(Ok(None) | Err(_)) => match open.events.last_event() {
                    Some(event) => open.decoder.event(&event).map(drop),
                    None => open.decoder.end(),
                },
                Err(_) if open.decoder.could_end() => open.decoder.end(),
                Err(_) if Instant::now() > self.deadline + AWAY => {
                    self.deadline = Instant::now() + self.endpoint.timeout;
                    continue;
                }
                Err(_) if self.shown => Err(ModelError::timeout(TimeoutPhase::Gap)),
                Err(_) => Err(ModelError::timeout(TimeoutPhase::FirstToken)),
            };
        }
    }
}

/// Sends a request and waits for the head of its answer, which is a success or an error here.
pub(crate) async fn send(
    shared: &Shared,
    endpoint: &Endpoint,
    deadline: Instant,
    request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder,
) -> Result<reqwest::Response, ModelError> {
    let refused = |refused: AddressRefused| {
        ModelError::new(ModelErrorKind::AddressRefused, refused.to_string())
    };
    let client = shared.outbound.client(endpoint.reach);
    let request = request(&client).build().map_err(|error| failure(&error))?;
    shared
        .outbound
        .check(endpoint.reach, request.url())
        .map_err(refused)?;
    let answered = in_time(deadline, TimeoutPhase::FirstToken, client.execute(request)).await?;
    let response = answered.map_err(|error| match AddressRefused::find(&error) {
        Some(address) => refused(address),
        None => failure(&error),
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let wait = retry_after(response.headers(), shared.clock.now());
    let body = beginning_of(response, deadline).await;
    Err(ModelError::from_status(status.as_u16(), wait, &body))
}

async fn in_time<T>(
    deadline: Instant,
    phase: TimeoutPhase,
    future: impl Future<Output = T>,
) -> Result<T, ModelError> {
    timeout_at(deadline, future)
        .await
        .map_err(|_| ModelError::timeout(phase))
}

/// A failure of the client. Its own text names the URL, so the innermost cause is told.
fn failure(error: &reqwest::Error) -> ModelError {
    if error.is_builder() {
        return ModelError::unsupported("the model's address can't be called");
    }
    if error.is_timeout() {
        return ModelError::timeout(if error.is_connect() {
            TimeoutPhase::Connect
        } else {
            TimeoutPhase::FirstToken
        });
    }
    if !error.is_connect() {
        return ModelError::broken_off();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    ModelError::new(
        ModelErrorKind::Unreachable,
        format!("no connection to the provider: {cause}"),
    )
}

/// Passes a stream of events on. JSON or a page in its place is an error, whatever the status says.
async fn must_be_events(
    response: reqwest::Response,
    wire: Wire,
    deadline: Instant,
) -> Result<reqwest::Response, ModelError> {
    let header = |name| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let encoding = header(CONTENT_ENCODING);
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        return Err(ModelError::malformed(
            "the provider compresses its answer, which it was not asked to",
        ));
    }
    let kind = header(CONTENT_TYPE).to_ascii_lowercase();
    // where events are lines of JSON, one JSON is one event
    let json = wire != Wire::Ollama && kind.starts_with("application/json");
    let other = ["application/problem+json", "text/html", "application/xml"];
    if !json && !other.iter().any(|other| kind.starts_with(other)) {
        return Ok(response);
    }
    let status = response.status().as_u16();
    let body: Value =
        serde_json::from_slice(&beginning_of(response, deadline).await).unwrap_or_default();
    let mut error = match error_of(&body) {
        Value::Null => ModelError::malformed("the provider answered without a stream"),
        error => ModelError::from_object(error),
    };
    error.status = Some(status);
    Err(error)
}

/// The beginning of an error's body, as much as comes in time.
async fn beginning_of(mut response: reqwest::Response, deadline: Instant) -> Vec<u8> {
    let deadline = deadline.min(Instant::now() + ERROR_BODY_TIMEOUT);
    let mut body = Vec::new();
    while let Ok(Ok(Some(piece))) = timeout_at(deadline, response.chunk()).await {
        let room = MAX_ERROR_BYTES - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if body.len() == MAX_ERROR_BYTES {
            break;
        }
    }
    body
}

/// `error` as it may be shown.
pub(crate) fn cleaned(mut error: ModelError, endpoint: &Endpoint) -> ModelError {
    error.message = clean_error_text(&error.message, &endpoint.secrets());
    error
}
