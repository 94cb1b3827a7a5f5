//! By which name the server is called, and by whose page.
//!
//! A server on loopback is reachable for every page in a browser on the machine, by rebinding of names too; so there a request
//! must call it by a name that is its own, and a page must be its own or one that the operator named.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts, uri::Authority};

use super::{Code, Refused};
use crate::config::Config;

/// The names of the server and of the pages that may call it.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Whether `Host` is looked at: on a loopback listener, and with `public_url`.
    guarded: bool,
    public_host: Option<String>,
    public_origin: Option<String>,
    allowed_hosts: Vec<String>,
    cors_origins: Vec<String>,
}

/// Whose page asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    /// No browser, or no other origin's.
    Ours,
    /// One of `cors_origins`, to be named in the answer.
    Allowed(HeaderValue),
    /// Any other.
    Foreign,
}

impl Names {
    pub(super) fn new(config: &Config, address: SocketAddr) -> Self {
        Self {
            guarded: address.ip().to_canonical().is_loopback() || config.public_url.is_some(),
            public_host: config
                .public_url
                .as_ref()
                .and_then(|url| Some(url.host_str()?.to_ascii_lowercase())),
            public_origin: config
                .public_url
                .as_ref()
                .map(|url| url.origin().ascii_serialization()),
            allowed_hosts: config.allowed_hosts.clone(),
            cors_origins: config.cors_origins.clone(),
        }
    }

    /// The name by which the request calls the server.
    ///
    /// # Errors
    /// 400 for none or several, 421 for one that is not ours.
    pub(super) fn host(&self, parts: &Parts) -> Result<Authority, (StatusCode, Refused)> {
        let bad = |message: &str| (StatusCode::BAD_REQUEST, Refused::invalid(message));
        let mut hosts = parts.headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host,
            (None, _) => return Err(bad("the header `Host` is missing")),
            (_, Some(_)) => return Err(bad("the header `Host` is there twice")),
        };
        // RFC 9112, 3.2.2: in the absolute form the target goes before the header
        let authority = match parts.uri.authority() {
            Some(authority) => authority.clone(),
            None => Authority::try_from(host.as_bytes())
                .map_err(|_| bad("the header `Host` is malformed"))?,
        };
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(bad("the header `Host` is malformed"));
        }
        if self.guarded && !self.is_own(&authority) {
            let refused = Refused::new(
                Code::Forbidden,
                "this server is not known by that host name: see `allowed_hosts`",
            );
            return Err((StatusCode::MISDIRECTED_REQUEST, refused));
        }
        Ok(authority)
    }

    fn is_own(&self, authority: &Authority) -> bool {
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let with_port = authority.port_u16().map(|port| format!("{host}:{port}"));
        is_loopback(&host)
            || self.public_host.as_ref() == Some(&host)
            || self
                .allowed_hosts
                .iter()
                .any(|allowed| *allowed == host || with_port.as_ref() == Some(allowed))
    }

    /// Whose page asks, by `Origin`, given the name that [`Names::host`] found.
    pub(super) fn page(&self, headers: &HeaderMap, host: &Authority) -> Page {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let origin = match (origins.next(), origins.next()) {
            (None, _) => return Page::Ours,
            (Some(origin), None) => origin,
            (_, Some(_)) => return Page::Foreign,
        };
        let Ok(text) = origin.to_str() else {
            return Page::Foreign;
        };
        let lower = text.to_ascii_lowercase();
        let same_host = ["http://", "https://"].iter().any(|scheme| {
            lower
                .strip_prefix(scheme)
                .is_some_and(|rest| rest.eq_ignore_ascii_case(host.as_str()))
        });
        if same_host || self.public_origin.as_ref() == Some(&lower) {
            Page::Ours
        } else if self.cors_origins.contains(&lower) {
            Page::Allowed(origin.clone())
        } else {
            Page::Foreign
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn names(address: &str, variables: &[(&str, &str)]) -> Names {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Names::new(
            &Config::load(None, variables).unwrap(),
            address.parse().unwrap(),
        )
    }

    fn parts(target: &str, host: Option<&str>, origin: Option<&str>) -> Parts {
        let mut request = Request::builder().uri(target);
        for (name, value) in [("host", host), ("origin", origin)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn hosts() {
        let loopback = names(
            "127.0.0.1:8080",
            &[("WEFT_ALLOWED_HOSTS", "Box.lan,other.lan:81")],
        );
        let open = names("0.0.0.0:8080", &[]);
        let public = names(
            "0.0.0.0:8080",
            &[("WEFT_PUBLIC_URL", "https://weft.example.com")],
        );
        let cases: &[(&Names, &str, Option<&str>, u16)] = &[
            (&loopback, "/", Some("127.0.0.1:8080"), 0),
            (&loopback, "/", Some("localhost"), 0),
            (&loopback, "/", Some("LOCALHOST.:9"), 0),
            (&loopback, "/", Some("app.localhost"), 0),
            (&loopback, "/", Some("[::1]:8080"), 0),
            (&loopback, "/", Some("127.8.9.1"), 0),
            (&loopback, "/", Some("box.lan:4"), 0),
            (&loopback, "/", Some("other.lan:81"), 0),
            (&loopback, "/", Some("other.lan"), 421),
            (&loopback, "/", Some("evil.example"), 421),
            (&loopback, "/", Some("localhost.evil.example"), 421),
            (&loopback, "/", Some("127.0.0.1.evil.example"), 421),
            (&loopback, "/", Some("192.168.0.1"), 421),
            (&loopback, "/", Some("a@localhost"), 400),
            (&loopback, "/", Some(""), 400),
            (&loopback, "/", None, 400),
            (&loopback, "http://evil.example/", Some("localhost"), 421),
            (&open, "/", Some("anything.example"), 0),
            (&public, "/", Some("weft.example.com"), 0),
            (&public, "/", Some("localhost:8080"), 0),
            (&public, "/", Some("evil.example"), 421),
        ];
        for (names, target, host, expected) in cases {
            let got = names
                .host(&parts(target, *host, None))
                .map_or_else(|(status, _)| status.as_u16(), |_| 0);
            assert_eq!(got, *expected, "{target} {host:?}");
        }
    }

    #[test]
    fn pages() {
        let given = [
            ("WEFT_PUBLIC_URL", "https://weft.example.com"),
            ("WEFT_CORS_ORIGINS", "https://app.example.com"),
        ];
        let names = names("127.0.0.1:8080", &given);
        let allowed = Page::Allowed(HeaderValue::from_static("https://app.example.com"));
        let cases = [
            (None, Page::Ours),
            (Some("https://weft.example.com"), Page::Ours),
            (Some("http://localhost:8080"), Page::Ours),
            (Some("http://localhost:3000"), Page::Foreign),
            (Some("http://weft.example.com"), Page::Foreign),
            (Some("https://app.example.com"), allowed),
            (Some("https://app.example.com.evil.example"), Page::Foreign),
            (Some("null"), Page::Foreign),
            (Some(""), Page::Foreign),
        ];
        for (origin, expected) in cases {
            let parts = parts("/graphql", Some("localhost:8080"), origin);
            let host = names.host(&parts).unwrap();
            assert_eq!(names.page(&parts.headers, &host), expected, "{origin:?}");
        }
    }
}
