//! Signing in at providers, as browsers and providers see it: out, back, and the provider's word that somebody has signed out.
//!
//! Where a browser goes and what it must bring back is decided by [`auth::oidc`]; here it is put into redirects and cookies, and
//! whoever can't be sent anywhere is told why in a line of text. The cookie says that it is the same browser that comes back. It
//! is no credential: nobody can ask for anything by it.

use std::{collections::HashMap, sync::Arc};

use adapters::sealing::Secret;
use auth::{
    Authority, RequestContext,
    oidc::{Callback, FLOW_LASTS, LogoutError, Onward, Start, Stopped},
};
use axum::{
    Extension, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use entities::{
    CommandError,
    db::{Failure, failure},
};
use percent_encoding::percent_decode;

use super::{
    Client, Code, Edge, Graph, Refused,
    client::Peer,
    http::{Rejection, whole},
    origin::Page,
};

/// The routes of all providers.
pub(super) fn routes<G: Graph>() -> Router<Arc<Edge<G>>> {
    Router::new()
        .route("/auth/oidc/{name}/start", get(start::<G>))
        .route("/auth/oidc/{name}/callback", get(back::<G>))
        .route(
            "/auth/oidc/{name}/backchannel-logout",
            post(signed_out::<G>),
        )
}

async fn start<G: Graph>(
    State(edge): State<Arc<Edge<G>>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let begun = async {
        let (authority, _) = asked(&edge, &parts, peer)?;
        let mut given = parameters(parts.uri.query().unwrap_or_default())?;
        if given
            .get("code_challenge_method")
            .is_some_and(|by| by != "S256")
        {
            return Err(Refused::invalid("`code_challenge_method` must be S256"));
        }
        let start = Start {
            return_to: given.remove("return_to"),
            code_challenge: given.remove("code_challenge"),
            invitation: given.remove("invitation").map(Secret::new),
            link: given.remove("link"),
            login_hint: given.remove("login_hint"),
            state: given.remove("state"),
        };
        let onward = authority.start_at_provider(&name, start).await;
        let onward = onward.map_err(stopped)?;
        let cookie = onward.cookie.as_ref().map(|(name, value)| {
            let age = FLOW_LASTS.num_seconds();
            cookie(&authority, name, value.expose(), age)
        });
        Ok(redirect(&onward, cookie))
    };
    begun.await.unwrap_or_else(told)
}

async fn back<G: Graph>(
    State(edge): State<Arc<Edge<G>>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let asked = asked(&edge, &parts, peer)
        .and_then(|asked| Ok((asked, parameters(parts.uri.query().unwrap_or_default())?)));
    let ((authority, context), mut given) = match asked {
        Ok(asked) => asked,
        Err(refused) => return told(refused),
    };
    let state = given.remove("state");
    let flow = state.as_deref().map(|state| authority.flow_cookie(state));
    let held = flow.as_deref().and_then(|name| held(&parts.headers, name));
    let back = Callback {
        state,
        code: given.remove("code").map(Secret::new),
        error: given.remove("error"),
        iss: given.remove("iss"),
        cookie: held.map(Secret::new),
    };
    // It has served, whatever comes of it.
    let ended = flow.map(|name| cookie(&authority, &name, "", 0));
    match authority.back_from_provider(&name, back, &context).await {
        Ok(onward) => redirect(&onward, ended),
        Err(error) => with_cookie(told(stopped(error)), ended),
    }
}

async fn signed_out<G: Graph>(
    State(edge): State<Arc<Edge<G>>>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let (authority, _) = match asked(&edge, &parts, peer) {
        Ok(asked) => asked,
        Err(refused) => return told(refused),
    };
    let is_form = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|media| media.to_str().ok())
        .and_then(|media| media.split(';').next())
        .is_some_and(|media| {
            media
                .trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
    if !is_form {
        return not_done("the body must be application/x-www-form-urlencoded");
    }
    let body = match whole(&edge, body, edge.limits().max_request_bytes).await {
        Ok(body) => body,
        Err(rejection) => return told(rejection.refused),
    };
    let token = std::str::from_utf8(&body)
        .map_err(|_| Refused::invalid("the body is not UTF-8"))
        .and_then(parameters)
        .map(|mut given| given.remove("logout_token"));
    let token = match token {
        Ok(Some(token)) => token,
        Ok(None) => return not_done("`logout_token` is missing"),
        Err(refused) => return not_done(&refused.message),
    };
    match authority.logout_by_provider(&name, &token).await {
        Ok(()) => (StatusCode::OK, NO_STORE).into_response(),
        Err(LogoutError::NoProvider) => told(no_provider()),
        Err(LogoutError::Failed(error)) => told(failed(error)),
        Err(error @ (LogoutError::Invalid(_) | LogoutError::Unavailable)) => {
            tracing::warn!(provider = %name, %error, "a provider's sign-out was refused");
            not_done(&error.to_string())
        }
    }
}

/// Who answers, and how the request came. A page of another origin may send a browser here, but not ask.
fn asked<G: Graph>(
    edge: &Edge<G>,
    parts: &Parts,
    Peer(peer): Peer,
) -> Result<(Authority, RequestContext), Refused> {
    let page = edge.page(parts).map_err(|(_, refused)| refused)?;
    if page == Page::Foreign && !parts.method.is_safe() {
        return Err(Refused::new(
            Code::Forbidden,
            "pages of this origin may not call the server: see `cors_origins`",
        ));
    }
    let proxies = edge.trusted_proxies();
    let client = Client::of(&parts.headers, peer, proxies, page == Page::Ours);
    edge.graph()?.sign_in(client)
}

/// What a query or a form holds, each name once (RFC 6749, 3.1).
fn parameters(text: &str) -> Result<HashMap<String, String>, Refused> {
    let mut given = HashMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let [name, value] = [name, value].map(|part| {
            let part = part.replace('+', " ");
            let part = percent_decode(part.as_bytes()).decode_utf8();
            part.map(std::borrow::Cow::into_owned)
        });
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Refused::invalid("a parameter is not UTF-8"));
        };
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        if given.insert(name, value).is_some() {
            return Err(Refused::invalid(format!(
                "parameter `{shown}` is there twice"
            )));
        }
    }
    // One without a value counts as left out.
    given.retain(|_, value| !value.is_empty());
    Ok(given)
}

/// What the browser's cookie of this name holds.
fn held(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(given, _)| *given == name)
        .map(|(_, value)| value.to_owned())
}

/// A cookie that no script reads, and that other sites' requests don't carry but for the provider's sending the browser back.
fn cookie(authority: &Authority, name: &str, value: &str, age: i64) -> String {
    let secure = if authority.flow_cookie_is_secure() {
        "; Secure"
    } else {
        ""
    };
    format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}")
}

const NO_STORE: [(HeaderName, HeaderValue); 2] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    // What stands in the address is for nobody else.
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
];

fn redirect(onward: &Onward, cookie: Option<String>) -> Response {
    let Ok(location) = HeaderValue::try_from(&onward.location) else {
        tracing::error!("an address to go on to can't stand in a header");
        return told(Refused::new(Code::Internal, "internal error"));
    };
    let location = [(header::LOCATION, location)];
    let response = (StatusCode::SEE_OTHER, NO_STORE, location).into_response();
    with_cookie(response, cookie)
}

fn with_cookie(mut response: Response, cookie: Option<String>) -> Response {
    let cookie = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok());
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// A line of text for whoever sits before the browser.
fn told(refused: Refused) -> Response {
    let text = [(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    )];
    let retry_after = refused.retry_after;
    let rejection = Rejection::from(refused);
    let body = format!("{}\n", rejection.refused.message);
    let mut response = (rejection.status, NO_STORE, text, body).into_response();
    if let Some(after) = retry_after {
        let seconds = after.as_millis().div_ceil(1000);
        let seconds = HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// What a provider is told whose token was not taken (OpenID Connect Back-Channel Logout 1.0, 2.8).
fn not_done(why: &str) -> Response {
    let json = [(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    )];
    let body = serde_json::json!({ "error": "invalid_request", "error_description": why });
    (StatusCode::BAD_REQUEST, NO_STORE, json, body.to_string()).into_response()
}

fn no_provider() -> Refused {
    Refused::new(Code::NotFound, Stopped::NoProvider.to_string())
}

fn stopped(why: Stopped) -> Refused {
    match why {
        Stopped::NoProvider => no_provider(),
        Stopped::Parameter(text) => Refused::invalid(text),
        Stopped::Failed(error) => failed(error),
    }
}

fn failed(error: CommandError) -> Refused {
    match error {
        CommandError::RateLimited { retry_after } => {
            Refused::new(Code::RateLimited, "too many attempts").retry_after(retry_after)
        }
        CommandError::Database(cause) if failure(&cause) == Failure::Transient => Refused::new(
            Code::Unavailable,
            "the database can't be used at the moment",
        )
        .retry_after(std::time::Duration::from_secs(1)),
        error => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a sign-in at a provider failed"
            );
            Refused::new(Code::Internal, "internal error")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_there_once() {
        let given = parameters("a=b+c%26&empty=&x=%C3%A9&y").unwrap();
        assert_eq!(given["a"], "b c&");
        assert_eq!(given["x"], "é");
        assert_eq!(given.len(), 2, "{given:?}");
        for wrong in ["a=1&a=2", "a=1&%61=2", "a=&a=2", "a=%ff"] {
            assert!(parameters(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cookie_among_others() {
        let mut headers = HeaderMap::new();
        for line in ["a=1; weft-oidc-0=x=y", "weft-oidc-1=z;b=2"] {
            headers.append(header::COOKIE, HeaderValue::from_static(line));
        }
        assert_eq!(held(&headers, "weft-oidc-0").as_deref(), Some("x=y"));
        assert_eq!(held(&headers, "weft-oidc-1").as_deref(), Some("z"));
        assert_eq!(held(&headers, "oidc-1"), None);
    }
}
