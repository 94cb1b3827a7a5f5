//! Who may read `/metrics`.
//!
//! Where there is a token, whoever shows it. Else, at a listener that serves nothing else, everybody; at the server's own, whoever
//! stands at the machine: by the rule of the first user's set-up, so that a proxy on the same machine is not taken for it.

use std::sync::Arc;

use adapters::sealing::equal;
use axum::{
    Extension, Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::BoxFuture;

use super::client::{Peer, is_forwarded};
use crate::config::Secret;

/// Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Who may read what is counted without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Whoever reaches the listener.
    Everybody,
    /// Whoever stands at the machine.
    AtTheMachine,
    /// Nobody.
    Nobody,
}

/// The page `/metrics`.
pub struct Scrape {
    /// What is asked for, if anything is: from everybody then.
    pub token: Option<Secret>,
    /// Who may read it where there is no token.
    pub readers: Readers,
    /// What is shown.
    pub text: Box<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>,
}

impl Scrape {
    /// Its route.
    pub fn route(self) -> Router {
        let this = Arc::new(self);
        let answer = async move |Extension(peer): Extension<Peer>, headers: HeaderMap| match this
            .refusal(peer, &headers)
        {
            Some(refusal) => refusal,
            None => {
                let text = (this.text)().await;
                ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
            }
        };
        Router::new().route("/metrics", get(answer))
    }

    fn refusal(&self, Peer(peer): Peer, headers: &HeaderMap) -> Option<Response> {
        if let Some(token) = &self.token {
            let given = bearer(headers)
                .is_some_and(|given| equal(given.as_bytes(), token.expose().as_bytes()));
            return (!given).then(|| {
                let bearer = [(header::WWW_AUTHENTICATE, "Bearer")];
                (StatusCode::UNAUTHORIZED, bearer, "needs `metrics_token`\n").into_response()
            });
        }
        let may = match self.readers {
            Readers::Everybody => true,
            Readers::Nobody => false,
            Readers::AtTheMachine => {
                peer.ip().to_canonical().is_loopback()
                    && !is_forwarded(headers)
                    && !headers.contains_key(header::ORIGIN)
            }
        };
        (!may).then(|| {
            let text = "read from this machine alone: set `metrics_token` or `metrics_listen`\n";
            (StatusCode::FORBIDDEN, text).into_response()
        })
    }
}

/// The token of the one `Authorization` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(
        token: Option<&str>,
        readers: Readers,
        peer: &str,
        headers: &[(&'static str, &str)],
    ) -> u16 {
        let scrape = Scrape {
            token: token.map(Secret::new),
            readers,
            text: Box::new(|| unreachable!("nothing is shown yet")),
        };
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let peer = Peer(format!("{peer}:4000").parse().unwrap());
        let refusal = scrape.refusal(peer, &headers);
        refusal.map_or(200, |refusal| refusal.status().as_u16())
    }

    #[test]
    fn without_a_token_whoever_stands_at_the_machine() {
        let read = |peer, headers: &[_]| status(None, Readers::AtTheMachine, peer, headers);
        assert_eq!(read("127.0.0.1", &[]), 200);
        assert_eq!(read("[::1]", &[]), 200);
        assert_eq!(read("[::ffff:127.0.0.1]", &[]), 200);
        assert_eq!(read("10.0.0.1", &[]), 403);
        // a proxy on this machine, and a page in a browser on it
        for name in ["x-forwarded-for", "forwarded", "via", "x-real-ip", "origin"] {
            assert_eq!(read("127.0.0.1", &[(name, "10.0.0.1")]), 403, "{name}");
        }
        assert_eq!(status(None, Readers::Nobody, "127.0.0.1", &[]), 403);
        assert_eq!(status(None, Readers::Everybody, "10.0.0.1", &[]), 200);
    }

    #[test]
    fn with_a_token_whoever_shows_it() {
        for readers in [Readers::Everybody, Readers::AtTheMachine, Readers::Nobody] {
            let read = |headers: &[_]| status(Some("t0ken"), readers, "127.0.0.1", headers);
            assert_eq!(read(&[]), 401);
            assert_eq!(read(&[("authorization", "Bearer t0ken")]), 200);
            assert_eq!(read(&[("authorization", "bearer t0ken")]), 200);
            assert_eq!(read(&[("authorization", "Bearer t0ke")]), 401);
            assert_eq!(read(&[("authorization", "Basic t0ken")]), 401);
            assert_eq!(read(&[("x-api-key", "t0ken")]), 401);
        }
    }
}
