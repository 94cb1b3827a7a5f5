//! Tokens in the form of OAuth 2 (RFC 6749), for tools that know no GraphQL, and the public keys that access tokens are signed by.
//!
//! Knows the form: parameters, error codes, headers. What a password or a refresh token is good for is [`Issuer`]'s to say.
//!
//! There are no clients to authenticate. Tools send a name of theirs all the same, as `client_id` in the body or by
//! `Authorization: Basic`, some of them always; it means nothing here, gives no right, and is passed over. So is every other
//! credential in a header: tokens are given for what stands in the form alone.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use axum::{
    Extension, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use percent_encoding::percent_decode;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    Client, Code, Edge, Graph, Refused,
    client::Peer,
    http::{admit, foreign, preflight, whole},
    media,
    origin::Page,
};
use crate::config::Secret;
use adapters::meter;

/// Bytes of a form: the longest password and address that there may be fit, each byte of them written as three.
const MOST_BYTES: usize = 16 * 1024;

/// What the form may hold; others are passed over, as the specification wants it.
const PARAMETERS: [&str; 8] = [
    "grant_type",
    "username",
    "password",
    "refresh_token",
    "tenant",
    "scope",
    "client_id",
    "client_secret",
];

/// How long others may keep the keys. One is published for much longer before it signs.
const KEYS_ARE_KEPT: &str = "public, max-age=300";

/// What tokens are asked for with.
#[derive(Debug)]
pub enum Grant {
    /// By a password.
    Password {
        /// The e-mail address.
        username: String,
        /// The password.
        password: Secret,
        /// The slug of a tenant.
        tenant: Option<String>,
    },
    /// By the refresh token of an earlier pair.
    RefreshToken {
        /// The token.
        refresh_token: Secret,
        /// The slug of a tenant.
        tenant: Option<String>,
    },
}

/// A pair of tokens.
#[derive(Debug)]
pub struct Granted {
    /// For `Authorization: Bearer`.
    pub access_token: Secret,
    /// For how long that is good.
    pub lasts: Duration,
    /// For the next pair.
    pub refresh_token: Secret,
}

/// A graph whose credentials are given here as well.
pub trait Issuer: Graph {
    /// Gives tokens. May be dropped at any await.
    ///
    /// # Errors
    /// UNAUTHENTICATED for whatever is wrong with the grant, RATE_LIMITED, INVALID_INPUT naming the parameter, UNAVAILABLE.
    fn grant(
        &self,
        grant: Grant,
        client: Client,
    ) -> impl Future<Output = Result<Granted, Refused>> + Send;

    /// The public keys, as a JWK set (RFC 7517).
    ///
    /// # Errors
    /// UNAVAILABLE.
    fn keys(&self) -> impl Future<Output = Result<Value, Refused>> + Send;
}

impl<G: Issuer> Edge<G> {
    /// `/.well-known/jwks.json`.
    pub fn keys_route(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/.well-known/jwks.json", get(keys::<G>))
            .with_state(self.clone())
    }

    /// `/auth/token`.
    pub fn token_route(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/auth/token", post(token::<G>).options(options::<G>))
            .with_state(self.clone())
    }
}

/// Whose page asks. The host was looked at around all of this.
fn page<G: Graph>(edge: &Edge<G>, parts: &Parts) -> Page {
    match edge.names().host(parts) {
        Ok(host) => edge.names().page(&parts.headers, &host),
        Err(_) => Page::Foreign,
    }
}

async fn options<G: Issuer>(State(edge): State<Arc<Edge<G>>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let page = page(&edge, &parts);
    let mut response = preflight(&page, "POST, OPTIONS", "POST");
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    admit(headers, page);
    response
}

async fn token<G: Issuer>(
    State(edge): State<Arc<Edge<G>>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let page = page(&edge, &parts);
    let answered = match page {
        // a form is what any page may send without being asked
        Page::Foreign => Err(Denied::from(foreign())),
        Page::Ours | Page::Allowed(_) => {
            let ours = page == Page::Ours;
            let client = Client::of(&parts.headers, peer, edge.trusted_proxies(), ours);
            granted(&edge, &parts, body, client).await
        }
    };
    let mut response = match answered {
        Ok(granted) => json_of(&json!({
            "access_token": granted.access_token.expose(),
            "token_type": "Bearer",
            "expires_in": granted.lasts.as_secs(),
            "refresh_token": granted.refresh_token.expose(),
        })),
        Err(denied) => denied.answer(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    admit(headers, page);
    response
}

async fn granted<G: Issuer>(
    edge: &Arc<Edge<G>>,
    parts: &Parts,
    body: Body,
    client: Client,
) -> Result<Granted, Denied> {
    if parts.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(Denied::request(
            "parameters are sent in the body, never in the address, which others log",
        ));
    }
    if !media::is_form(&parts.headers) || media::is_encoded(&parts.headers) {
        return Err(Denied::request(
            "the body must be of the type application/x-www-form-urlencoded, in UTF-8, and not compressed",
        ));
    }
    if parts.headers.contains_key("weft-on-behalf-of") {
        return Err(Denied::request(
            "`Weft-On-Behalf-Of` goes with a service key alone",
        ));
    }
    let graph = edge.graph()?;
    let limit = MOST_BYTES.min(edge.limits().max_request_bytes);
    let body = whole(edge, body, limit)
        .await
        .map_err(|rejection| Denied::request(&rejection.refused.message))?;
    let grant = Form::read(&body)?.grant()?;
    let limit = edge.limits().mutation_timeout;
    match timeout(limit, graph.grant(grant, client)).await {
        Ok(granted) => Ok(granted?),
        Err(_) => {
            let ms = limit.as_millis();
            let message = format!("it took longer than {ms} ms");
            Err(Refused::new(Code::Timeout, message).into())
        }
    }
}

/// What the body holds.
struct Form(HashMap<&'static str, String>);

impl Form {
    fn read(body: &[u8]) -> Result<Self, Denied> {
        let mut form = HashMap::new();
        for pair in body.split(|&byte| byte == b'&') {
            let mut halves = pair.splitn(2, |&byte| byte == b'=');
            let mut half = || decoded(halves.next().unwrap_or_default());
            let Some(name) = half().and_then(|name| known(&name)) else {
                continue;
            };
            let value = half()
                .ok_or_else(|| Denied::request(&format!("the parameter `{name}` is not UTF-8")))?;
            // one without a value counts as left out, but it is there
            if form.insert(name, value).is_some() {
                return Err(Denied::request(&format!(
                    "the parameter `{name}` is there twice"
                )));
            }
        }
        Ok(Self(form))
    }

    fn maybe(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }

    fn needed(&mut self, name: &str) -> Result<String, Denied> {
        self.maybe(name)
            .ok_or_else(|| Denied::request(&format!("the parameter `{name}` is missing")))
    }

    fn grant(mut self) -> Result<Grant, Denied> {
        let kind = self.needed("grant_type")?;
        match kind.as_str() {
            "password" => Ok(Grant::Password {
                username: self.needed("username")?,
                password: Secret::new(self.needed("password")?),
                tenant: self.maybe("tenant"),
            }),
            "refresh_token" => Ok(Grant::RefreshToken {
                refresh_token: Secret::new(self.needed("refresh_token")?),
                tenant: self.maybe("tenant"),
            }),
            _ => Err(Denied::new(
                Code::InvalidInput,
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "`grant_type` must be password or refresh_token",
            )),
        }
    }
}

fn known(name: &str) -> Option<&'static str> {
    PARAMETERS.into_iter().find(|known| *known == name)
}

/// Of one half of a pair; `None` where it is no text.
fn decoded(half: &[u8]) -> Option<String> {
    let spaces: Vec<u8> = half
        .iter()
        .map(|&byte| if byte == b'+' { b' ' } else { byte })
        .collect();
    let text = percent_decode(&spaces).decode_utf8().ok()?;
    Some(text.into_owned())
}

/// A refusal in the words of RFC 6749, section 5.2; it has none for what is too fast, or not possible now, so those of its
/// section 4.1.2.1 are taken.
#[derive(Debug)]
struct Denied {
    status: StatusCode,
    error: &'static str,
    description: String,
    retry_after: Option<Duration>,
}

impl Denied {
    /// `code` is what it is counted as.
    fn new(code: Code, status: StatusCode, error: &'static str, description: &str) -> Self {
        meter::error(code.as_str());
        // the specification leaves out quotes, backslashes and what is not ASCII
        let description = description.chars().map(|letter| match letter {
            '"' => '\'',
            ' '..='~' if letter != '\\' => letter,
            _ => '?',
        });
        Self {
            status,
            error,
            description: description.collect(),
            retry_after: None,
        }
    }

    fn request(description: &str) -> Self {
        let (code, status) = (Code::InvalidInput, StatusCode::BAD_REQUEST);
        Self::new(code, status, "invalid_request", description)
    }

    fn answer(self) -> Response {
        let mut response = json_of(&json!({
            "error": self.error,
            "error_description": self.description,
        }));
        *response.status_mut() = self.status;
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000);
            if let Ok(seconds) = HeaderValue::try_from(seconds.to_string()) {
                response.headers_mut().insert(header::RETRY_AFTER, seconds);
            }
        }
        response
    }
}

impl From<Refused> for Denied {
    fn from(refused: Refused) -> Self {
        let (status, error) = match refused.code {
            Code::Unauthenticated => (StatusCode::BAD_REQUEST, "invalid_grant"),
            Code::Forbidden => (StatusCode::FORBIDDEN, "access_denied"),
            Code::RateLimited | Code::Unavailable | Code::Timeout => {
                (refused.code.status(), "temporarily_unavailable")
            }
            Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
            Code::NotFound | Code::InvalidInput | Code::QueryTooComplex => {
                (StatusCode::BAD_REQUEST, "invalid_request")
            }
        };
        Self {
            retry_after: refused.retry_after,
            ..Self::new(refused.code, status, error, &refused.message)
        }
    }
}

fn json_of(value: &Value) -> Response {
    let media_type = [(header::CONTENT_TYPE, "application/json")];
    (media_type, value.to_string()).into_response()
}

async fn keys<G: Issuer>(State(edge): State<Arc<Edge<G>>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let page = page(&edge, &parts);
    let keys = async { edge.graph()?.keys().await };
    let mut response = match keys.await {
        Ok(keys) => key_set(&keys.to_string(), &parts.headers),
        Err(refused) => Denied::from(refused).answer(),
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    admit(headers, page);
    response
}

fn key_set(keys: &str, asked: &HeaderMap) -> Response {
    let digest = digest::digest(&digest::SHA256, keys.as_bytes());
    let digits: String = digest.as_ref()[..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // weak, since it may be compressed on its way
    let tag = format!("W/\"{digits}\"");
    let kept = [
        (header::CACHE_CONTROL, KEYS_ARE_KEPT.to_owned()),
        (header::ETAG, tag),
    ];
    let is_known = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim().trim_start_matches("W/").trim_matches('"') == digits);
    if is_known {
        return (StatusCode::NOT_MODIFIED, kept).into_response();
    }
    let media_type = [(header::CONTENT_TYPE, "application/json")];
    (kept, media_type, keys.to_owned()).into_response()
}
