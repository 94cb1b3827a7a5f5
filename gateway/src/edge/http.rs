//! The HTTP side: the rules around every request, and `/graphql`.

use std::{
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Duration,
};

use adapters::{meter, spans, tasks::Tasks};
use async_graphql::{Response as GraphResponse, parser::types::OperationType};
use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{FromRequestParts, Request, State, WebSocketUpgrade},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use ipnet::IpNet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tower_http::{
    CompressionLevel,
    compression::{
        CompressionLayer, Predicate,
        predicate::{NotForContentType, SizeAbove},
    },
};
use tracing::Instrument;

use super::{
    Client, Code, Graph, Operation, Refused, Transport,
    answer::Answer,
    client::{Given, Peer, RequestIds, counted_as},
    document::Documents,
    media::{self, Accepted, Many, Media},
    oidc,
    origin::{Names, Page},
    request::Asked,
    socket::{self, Census},
    stream,
    trusted::{Trusted, TrustedError},
};
use crate::config::{Config, Limits};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What is read of a socket at once. So much is wiped each time that it is asked whether there is something to read, be it only
/// because something was to be written, and stays with it.
const READ_BYTES: usize = 1024;

/// What is read of a body that is too long before it is refused: a client that is still sending would else see its connection
/// reset in place of the answer.
const DRAIN_BYTES: usize = 8 * 1024 * 1024;

/// How long the edge waits for whom. Those of the product are the default.
#[derive(Debug, Clone)]
pub struct Times {
    /// For a request's line and headers; a connection between requests as well.
    pub headers: Duration,
    /// For a request's body.
    pub body: Duration,
    /// For `connection_init`.
    pub init: Duration,
    /// From one protocol ping of a socket to the next.
    pub ping: Duration,
    /// From one sign of life of a stream over HTTP to the next.
    pub beat: Duration,
    /// Without a sign of life from a socket.
    pub silence: Duration,
    /// Without the client taking a byte that is there for it.
    pub stall: Duration,
    /// For the other side's answer to our close frame.
    pub close: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            headers: Duration::from_secs(10),
            body: Duration::from_secs(30),
            init: Duration::from_secs(10),
            ping: Duration::from_secs(20),
            beat: Duration::from_secs(15),
            silence: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            close: Duration::from_secs(3),
        }
    }
}

/// What the edge takes from the configuration.
#[derive(Debug)]
pub struct Settings {
    limits: Limits,
    trusted: Trusted,
    introspection: bool,
    names: Names,
    trusted_proxies: Vec<IpNet>,
    /// Only tests change these.
    pub times: Times,
}

impl Settings {
    /// For a listener at `address`.
    ///
    /// # Errors
    /// The trusted documents can't be read.
    pub fn new(config: &Config, address: SocketAddr) -> Result<Self, TrustedError> {
        Ok(Self {
            limits: config.limits.clone(),
            trusted: Trusted::load(&config.trusted_documents, &config.limits)?,
            introspection: config.introspection,
            names: Names::new(config, address),
            trusted_proxies: config.trusted_proxies.clone(),
            times: Times::default(),
        })
    }
}

/// The edge before a graph. Listens before the graph is there: until [`Edge::open`] it answers `/health` alone, the rest is 503.
pub struct Edge<G: Graph> {
    settings: Settings,
    graph: OnceLock<Arc<G>>,
    documents: Documents,
    ids: RequestIds,
    census: Arc<Census>,
    tasks: Tasks,
    ending: CancellationToken,
}

impl<G: Graph> Edge<G> {
    /// An edge that does not serve a graph yet.
    pub fn new(mut settings: Settings) -> Arc<Self> {
        let tasks = Tasks::new();
        let trusted = std::mem::take(&mut settings.trusted);
        Arc::new(Self {
            documents: Documents::new(&settings.limits, trusted, settings.introspection),
            census: Arc::new(Census::new(settings.limits.max_connections_per_user)),
            settings,
            graph: OnceLock::new(),
            ids: RequestIds::new(),
            ending: tasks.closing(),
            tasks,
        })
    }

    /// From now on requests are served: the schema of the database is current. The first call counts.
    pub fn open(&self, graph: G) {
        let _ = self.graph.set(Arc::new(graph));
    }

    /// The edge's routes and `more`, all under the edge's rules.
    pub fn router(self: &Arc<Self>, more: Router) -> Router {
        Router::new()
            .route("/graphql", any(graphql::<G>))
            .route("/health", get(async || status(StatusCode::OK, "ok")))
            .route("/ready", get(ready::<G>))
            .merge(oidc::routes())
            .with_state(self.clone())
            .merge(more)
            .method_not_allowed_fallback(wrong_method)
            .fallback(not_found)
            .layer(compression())
            .layer(middleware::from_fn_with_state(self.clone(), around::<G>))
    }

    /// `pages` alone, under the same rules: for a listener that serves nothing else.
    pub fn pages(self: &Arc<Self>, pages: Router) -> Router {
        pages
            .method_not_allowed_fallback(wrong_method)
            .fallback(not_found)
            .layer(middleware::from_fn_with_state(self.clone(), around::<G>))
    }

    pub(super) fn graph(&self) -> Result<&Arc<G>, Refused> {
        self.graph.get().ok_or_else(|| {
            Refused::new(Code::Unavailable, "the server is starting")
                .retry_after(Duration::from_secs(1))
        })
    }

    /// For rules that are the same on every path.
    pub(super) fn names(&self) -> &Names {
        &self.settings.names
    }

    /// Whose page asks.
    pub(super) fn page(&self, parts: &Parts) -> Result<Page, (StatusCode, Refused)> {
        let host = self.settings.names.host(parts)?;
        Ok(self.settings.names.page(&parts.headers, &host))
    }

    pub(super) fn trusted_proxies(&self) -> &[IpNet] {
        &self.settings.trusted_proxies
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    pub(super) fn times(&self) -> &Times {
        &self.settings.times
    }

    pub(super) fn documents(&self) -> &Documents {
        &self.documents
    }

    pub(super) fn census(&self) -> &Arc<Census> {
        &self.census
    }

    /// Cancelled when the server ends.
    pub(super) fn ending(&self) -> &CancellationToken {
        &self.ending
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Runs a query or mutation within its time.
    pub(super) async fn execute(
        &self,
        graph: &G,
        caller: &G::Caller,
        operation: Operation,
    ) -> GraphResponse {
        let limits = &self.settings.limits;
        let (kind, limit) = match operation.is_mutation() {
            true => ("mutation", limits.mutation_timeout),
            false => ("query", limits.query_timeout),
        };
        match timeout(limit, graph.execute(caller, operation)).await {
            Ok(response) => response,
            Err(_) => {
                let ms = limit.as_millis();
                let refused = Refused::new(
                    Code::Timeout,
                    format!("the {kind} took longer than {ms} ms"),
                );
                let limit = u64::try_from(ms).ok();
                GraphResponse::from_errors(vec![Refused { limit, ..refused }.into_error()])
            }
        }
    }
}

/// Answers below this many bytes are sent as they are.
const COMPRESSED_FROM: u16 = 1024;

/// Compresses answers for clients that take it, but for streams, whose events must not wait for each other. What is secret in an
/// answer can't be guessed from its length: no page can have a request sent with credentials that it does not hold itself.
fn compression() -> CompressionLayer<impl Predicate> {
    let when = SizeAbove::new(COMPRESSED_FROM)
        .and(NotForContentType::const_new("text/event-stream"))
        .and(NotForContentType::const_new("multipart/mixed"))
        .and(NotForContentType::IMAGES);
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(when)
}

/// The id of a request, in its extensions.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

/// What happens around every request: its id, whose name it uses, and that a panic is an answer.
async fn around<G: Graph>(
    State(edge): State<Arc<Edge<G>>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = edge.ids.of(request.headers());
    request.extensions_mut().insert(RequestId(id.clone()));
    let probe = matches!(request.uri().path(), "/health" | "/ready");
    let media = match request.uri().path() {
        "/graphql" => Accepted::of(request.headers()).refusal(),
        _ => Media::Json,
    };
    let (parts, body) = request.into_parts();
    let mut response = match edge.settings.names.host(&parts) {
        Err((status, refused)) if !probe => Rejection::new(status, refused).answer(media, &id),
        _ => {
            let span = match parts.uri.path() {
                "/health" | "/ready" | "/metrics" => spans::probe(&id),
                _ => spans::request(&id, caller_of(&edge, &parts)),
            };
            let answer =
                AssertUnwindSafe(next.run(Request::from_parts(parts, body))).catch_unwind();
            answer.instrument(span).await.unwrap_or_else(|_| {
                // the panic hook has written where
                tracing::error!(%id, "a request panicked");
                Rejection::from(Refused::new(Code::Internal, "internal error")).answer(media, &id)
            })
        }
    };
    meter::response(response.status().as_u16());
    let headers = response.headers_mut();
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers
        .entry(header::X_CONTENT_TYPE_OPTIONS)
        .or_insert(HeaderValue::from_static("nosniff"));
    // tells clients that pool connections how long an idle one lasts, so that they don't send into one that closes
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let idle = HeaderValue::try_from(format!("timeout={}", edge.times().headers.as_secs()));
        response.headers_mut().extend(
            idle.ok()
                .map(|idle| (HeaderName::from_static("keep-alive"), idle)),
        );
    }
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The trace that a request belongs to. A trusted proxy's is gone on with; whoever else names one is only pointed to: he could
/// else have every request of his sampled, or write into the traces of others.
fn caller_of<G: Graph>(edge: &Edge<G>, parts: &Parts) -> Option<spans::Caller> {
    let context = spans::traceparent(parts.headers.get("traceparent")?.to_str().ok()?)?;
    let peer = parts.extensions.get::<Peer>()?.0.ip().to_canonical();
    let proxies = &edge.settings.trusted_proxies;
    Some(spans::Caller {
        context,
        trusted: proxies.iter().any(|network| network.contains(&peer)),
    })
}

async fn ready<G: Graph>(State(edge): State<Arc<Edge<G>>>) -> Response {
    match edge.graph() {
        Ok(_) if edge.ending.is_cancelled() => status(StatusCode::SERVICE_UNAVAILABLE, "ending"),
        Ok(_) => status(StatusCode::OK, "ok"),
        Err(_) => status(StatusCode::SERVICE_UNAVAILABLE, "starting"),
    }
}

fn status(status: StatusCode, text: &'static str) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (status, json, format!("{{\"status\":\"{text}\"}}")).into_response()
}

async fn not_found(Extension(RequestId(id)): Extension<RequestId>) -> Response {
    Rejection::from(Refused::new(
        Code::NotFound,
        "nothing is served at this path",
    ))
    .answer(Media::Json, &id)
}

async fn wrong_method(Extension(RequestId(id)): Extension<RequestId>) -> Response {
    let refused = Refused::invalid("this path does not take that method");
    Rejection::new(StatusCode::METHOD_NOT_ALLOWED, refused).answer(Media::Json, &id)
}

/// An HTTP request refused before anything ran.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) status: StatusCode,
    pub(super) refused: Refused,
    allow: Option<&'static str>,
}

impl Rejection {
    fn new(status: StatusCode, refused: Refused) -> Self {
        Self {
            status,
            refused,
            allow: None,
        }
    }

    fn method(allow: &'static str, message: &str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, Refused::invalid(message))
        }
    }

    fn not_acceptable(message: &str) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, Refused::invalid(message))
    }

    fn answer(self, media: Media, id: &str) -> Response {
        let mut response = write(self.status, media, Answer::refused(self.refused, id));
        if let Some(allow) = self.allow {
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        Self::new(refused.code.status(), refused)
    }
}

fn write(status: StatusCode, media: Media, answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.json));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media.content_type());
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(ms) = answer.retry_after_ms {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
    }
    response
}

async fn graphql<G: Graph>(
    State(edge): State<Arc<Edge<G>>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(RequestId(id)): Extension<RequestId>,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let accepted = Accepted::of(&parts.headers);
    let media = accepted.refusal();
    let page = match edge.settings.names.host(&parts) {
        Ok(host) => edge.settings.names.page(&parts.headers, &host),
        Err((status, refused)) => return Rejection::new(status, refused).answer(media, &id),
    };
    let upgrade = parts.headers.contains_key(header::UPGRADE);
    if page == Page::Foreign && (upgrade || parts.method != Method::GET) {
        return Rejection::from(foreign()).answer(media, &id);
    }
    let ours = page == Page::Ours;
    let client = Client::of(&parts.headers, peer, &edge.settings.trusted_proxies, ours);
    let answered = if parts.method == Method::GET && wants_socket(&parts.headers) {
        upgrade_to_socket(&edge, &mut parts, client, id.clone()).await
    } else if parts.method == Method::OPTIONS {
        Ok(preflight(&page, "GET, POST, OPTIONS", "GET, POST"))
    } else {
        one_request(&edge, &parts, body, accepted, client, &id).await
    };
    let mut response = answered.unwrap_or_else(|rejection| rejection.answer(media, &id));
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin, Accept"));
    admit(headers, page);
    response
}

/// Lets the page that asks read the answer, where it may.
pub(super) fn admit(headers: &mut HeaderMap, page: Page) {
    if let Page::Allowed(origin) = page {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("X-Request-Id, Retry-After"),
        );
    }
}

/// What a page is told that may not call the server.
pub(super) fn foreign() -> Refused {
    Refused::new(
        Code::Forbidden,
        "pages of this origin may not call the server: see `cors_origins`",
    )
}

/// Whether an upgrade to a WebSocket is asked for. Other upgrades may be passed over (RFC 9110, section 7.8): clients that could
/// speak HTTP/2 say so in the same header.
fn wants_socket(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::UPGRADE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case("websocket"))
}

/// The browser's question whether a page of another origin may ask. Credentials are never of the kind that browsers add.
pub(super) fn preflight(page: &Page, allow: &'static str, methods: &'static str) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    if let Page::Allowed(_) = page {
        let allowed = "Accept, Content-Type, Authorization, X-API-Key, X-Request-Id, Weft-Tenant, Weft-On-Behalf-Of, Last-Event-ID, Traceparent, Tracestate, Apollo-Require-Preflight, Weft-Csrf, Apollographql-Client-Name, Apollographql-Client-Version";
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(methods),
        );
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(allowed),
        );
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("600"),
        );
    }
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn one_request<G: Graph>(
    edge: &Arc<Edge<G>>,
    parts: &Parts,
    body: Body,
    accepted: Accepted,
    client: Client,
    id: &str,
) -> Result<Response, Rejection> {
    let Accepted { one, many } = accepted;
    if one.is_none() && many.is_none() {
        return Err(Rejection::not_acceptable(
            "`Accept` must allow application/graphql-response+json, application/json, text/event-stream or \
             multipart/mixed;subscriptionSpec=1.0",
        ));
    }
    let given = Given::in_headers(&parts.headers)?;
    let graph = edge.graph()?;
    let asked = match parts.method {
        Method::POST if !media::is_json(&parts.headers) => {
            let refused = Refused::invalid("`Content-Type` must be application/json, in UTF-8");
            return Err(Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, refused));
        }
        Method::POST if media::is_encoded(&parts.headers) => {
            let refused = Refused::invalid("a body with a `Content-Encoding` is not accepted");
            return Err(Rejection::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, refused));
        }
        Method::POST => {
            let limit = edge.limits().max_request_bytes;
            Asked::from_json(&whole(edge, body, limit).await?)?
        }
        Method::GET => Asked::from_query(parts.uri.query().unwrap_or_default())?,
        _ => {
            return Err(Rejection::method(
                "GET, POST, OPTIONS",
                "`/graphql` takes GET and POST",
            ));
        }
    };
    let asked = asked.operation(edge.documents(), &**graph, id.to_owned());
    let mut operation = match (asked, one, many) {
        (Ok(operation), ..) => operation,
        (Err(unfit), None, Some(many)) => {
            return Ok(stream::refusal(edge, unfit, many, id.to_owned()));
        }
        (Err(unfit), one, _) => {
            let response = GraphResponse::from_errors(unfit.into_errors());
            return Ok(respond(
                one.unwrap_or(Media::Json),
                Answer::of(response, id),
            ));
        }
    };
    if parts.method == Method::GET && operation.kind != OperationType::Query {
        return Err(Rejection::method(
            "POST",
            "mutations and subscriptions are sent by POST",
        ));
    }
    let many = match (operation.is_subscription(), one, many) {
        (true, _, Some(many)) | (false, None, Some(many @ Many::Events)) => Some(many),
        (true, Some(media), None) => {
            let refused = Refused::invalid(
                "a subscription is made over a WebSocket with graphql-transport-ws, or with `Accept: text/event-stream` or \
                 `multipart/mixed;subscriptionSpec=1.0`",
            );
            return Ok(respond(media, Answer::refused(refused, id)));
        }
        (false, Some(_), _) => None,
        (_, None, _) => {
            return Err(Rejection::not_acceptable(
                "`Accept` must allow application/graphql-response+json or application/json",
            ));
        }
    };
    let transport = match many {
        Some(_) => Transport::Stream,
        None => Transport::Http,
    };
    let credentials = given.credentials(client, transport)?;
    let address = counted_as(credentials.client.address);
    let caller = graph.authenticate(credentials).await?;
    let Some(many) = many else {
        let response = edge.execute(graph, &caller, operation).await;
        let media = one.unwrap_or(Media::Json);
        return Ok(respond(media, Answer::of(response, id)));
    };
    operation.wants_cursors = many == Many::Events;
    if operation.is_subscription() {
        operation.after = last_event_id(&parts.headers)?;
    }
    let user = graph.user_key(&caller);
    let seat = edge.census().stream(user, address).ok_or_else(|| {
        let limit = edge.limits().max_connections_per_user;
        let message = format!("at most {limit} connections at once are allowed");
        Refused::new(Code::RateLimited, message).over(limit, limit + 1)
    })?;
    Ok(stream::answer(edge, graph, caller, operation, many, seat))
}

/// An answer, with the status that its form asks for.
fn respond(media: Media, answer: Answer) -> Response {
    let status = match (&answer.code, media) {
        (Some(code), Media::GraphqlResponse) => Code::status_of(code),
        _ => StatusCode::OK,
    };
    write(status, media, answer)
}

/// The last event that the client has seen (HTML, section 9.2.4): empty is none.
fn last_event_id(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let Some(id) = headers.get("last-event-id") else {
        return Ok(None);
    };
    match id.to_str() {
        Ok(id) => Ok((!id.is_empty()).then(|| id.to_owned())),
        Err(_) => Err(Refused::invalid("the header `Last-Event-ID` is not text")),
    }
}

/// The whole body, within its size and time.
pub(super) async fn whole<G: Graph>(
    edge: &Edge<G>,
    mut body: Body,
    limit: usize,
) -> Result<Vec<u8>, Rejection> {
    let (mut bytes, mut length) = (Vec::new(), 0_usize);
    let deadline = Instant::now() + edge.times().body;
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(Refused::invalid("the body broke off").into()),
            Err(_) if length > limit => break,
            Err(_) => {
                let refused = Refused::new(Code::Timeout, "the body took too long");
                return Err(Rejection::new(StatusCode::REQUEST_TIMEOUT, refused));
            }
        };
        let Ok(piece): Result<Bytes, _> = frame.into_data() else {
            continue;
        };
        length = length.saturating_add(piece.len());
        if length <= limit {
            bytes.extend_from_slice(&piece);
        } else if length > limit.saturating_add(DRAIN_BYTES) {
            break;
        }
    }
    if length > limit {
        let refused =
            Refused::invalid(format!("the body has more than {limit} bytes")).over(limit, length);
        return Err(Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, refused));
    }
    Ok(bytes)
}

async fn upgrade_to_socket<G: Graph>(
    edge: &Arc<Edge<G>>,
    parts: &mut Parts,
    client: Client,
    id: String,
) -> Result<Response, Rejection> {
    let given = Given::in_headers(&parts.headers)?;
    let graph = edge.graph()?.clone();
    let upgrade = WebSocketUpgrade::from_request_parts(parts, &())
        .await
        .map_err(|rejection| {
            Rejection::new(
                rejection.status(),
                Refused::invalid("not a WebSocket upgrade of version 13"),
            )
        })?;
    let limit = edge.limits().max_request_bytes;
    let edge = edge.clone();
    Ok(upgrade
        .protocols([socket::PROTOCOL])
        .max_message_size(limit)
        .max_frame_size(limit)
        .read_buffer_size(READ_BYTES)
        .on_upgrade(async move |socket| {
            let span = spans::socket(&id);
            let tasks = edge.tasks().clone();
            let session = socket::run(edge, graph, socket, client, given, id).instrument(span);
            // in the group that shutdown waits for, which logs a panic; the task of the upgrade ends here
            drop(tasks.spawn("socket", session));
        }))
}
