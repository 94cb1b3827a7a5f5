//! Who knocks, as far as headers and the connection tell: address, request id, credentials not yet looked at.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
};

use axum::http::{HeaderMap, header};
use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{Client, Code, Credentials, Refused, Transport};
use crate::config::Secret;

/// Headers by which proxies say for whom they ask. Only `X-Forwarded-For` is believed, and only from `trusted_proxies`: a
/// proxy that writes one of them passes the others on as the client sent them.
const FORWARDING: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "via",
];

/// The other end of a connection, in a request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// What limits by address count by: an IPv6 network of 64 bits is one client's.
pub fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
        address @ IpAddr::V4(_) => address,
    }
}

impl Client {
    pub(super) fn of(
        headers: &HeaderMap,
        peer: SocketAddr,
        trusted: &[IpNet],
        origin_ours_or_absent: bool,
    ) -> Self {
        let peer = peer.ip().to_canonical();
        let agent = headers
            .get(header::USER_AGENT)
            .and_then(|agent| agent.to_str().ok());
        Self {
            address: client_address(headers, peer, trusted),
            loopback_peer: peer.is_loopback(),
            forwarded: is_forwarded(headers),
            origin_ours_or_absent,
            user_agent: agent.map(|agent| {
                agent
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(256)
                    .collect()
            }),
        }
    }
}

/// Whether a request holds any header by which proxies say for whom they ask, believed or not.
pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDING.iter().any(|name| headers.contains_key(*name))
}

/// The rightmost hop that is no trusted proxy: what stands further left was written by it, or by nobody we know.
fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut address = peer;
    let mut lines = headers.get_all("x-forwarded-for").iter().rev();
    let mut hops = std::iter::from_fn(|| lines.next())
        .flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
    while is_trusted(address) {
        match hops.next().map(|hop| hop_address(hop.trim())) {
            Some(Some(hop)) => address = hop.to_canonical(),
            Some(None) | None => break,
        }
    }
    address
}

fn hop_address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse().ok().or_else(with_port).or_else(bracketed)
}

/// Makes ids for requests that bring none.
#[derive(Debug)]
pub(super) struct RequestIds {
    /// Differs from process to process, so that ids of replicas and restarts don't meet.
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        Self {
            process: RandomState::new().build_hasher().finish(),
            next: AtomicU64::new(1),
        }
    }

    /// The client's id, if it is one that can stand in a log; else a new one.
    pub(super) fn of(&self, headers: &HeaderMap) -> String {
        let given = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        let fits = |id: &&str| {
            (1..=64).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        match given.filter(fits) {
            Some(id) => id.to_owned(),
            None => format!(
                "{:016x}-{:x}",
                self.process,
                self.next.fetch_add(1, Ordering::Relaxed)
            ),
        }
    }
}

/// What is given as credentials, in headers or in a payload, with names in lower case.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    authorization: Option<Secret>,
    api_key: Option<Secret>,
    tenant: Option<String>,
    on_behalf_of: Option<String>,
}

impl Given {
    /// # Errors
    /// INVALID_INPUT for a header that is there twice or isn't text.
    pub(super) fn in_headers(headers: &HeaderMap) -> Result<Self, Refused> {
        let one = |name: &str| {
            let mut values = headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (None, _) => Ok(None),
                (Some(_), Some(_)) => Err(Refused::invalid(format!(
                    "the header `{name}` is there twice"
                ))),
                (Some(value), None) => match value.to_str() {
                    Ok(value) => Ok(Some(value.to_owned())),
                    Err(_) => Err(Refused::invalid(format!("the header `{name}` is not text"))),
                },
            }
        };
        Ok(Self {
            authorization: one("authorization")?.map(Secret::new),
            api_key: one("x-api-key")?.map(Secret::new),
            tenant: one("weft-tenant")?,
            on_behalf_of: one("weft-on-behalf-of")?,
        })
    }

    /// From the payload of `connection_init` or `ping`, in which the same names stand in any case.
    ///
    /// # Errors
    /// INVALID_INPUT for a value that isn't text or a name that is there twice.
    pub(super) fn in_payload(payload: &Map<String, Value>) -> Result<Self, Refused> {
        let mut given = Self::default();
        for (name, value) in payload {
            let lower = name.to_ascii_lowercase();
            if !matches!(
                lower.as_str(),
                "authorization" | "x-api-key" | "weft-tenant" | "weft-on-behalf-of"
            ) {
                continue;
            }
            let text = match value {
                Value::Null => continue,
                Value::String(text) if !text.chars().any(char::is_control) => text.clone(),
                _ => {
                    return Err(Refused::invalid(format!(
                        "`{lower}` in the payload must be text"
                    )));
                }
            };
            let there = match lower.as_str() {
                "authorization" => given.authorization.replace(Secret::new(text)).is_some(),
                "x-api-key" => given.api_key.replace(Secret::new(text)).is_some(),
                "weft-tenant" => given.tenant.replace(text).is_some(),
                _ => given.on_behalf_of.replace(text).is_some(),
            };
            if there {
                return Err(Refused::invalid(format!(
                    "`{lower}` is in the payload twice"
                )));
            }
        }
        Ok(given)
    }

    pub(super) fn has_authorization(&self) -> bool {
        self.authorization.is_some()
    }

    /// This, and from `before` what this leaves out.
    ///
    /// # Errors
    /// INVALID_INPUT where both give a credential and not the same.
    pub(super) fn over(self, before: &Self) -> Result<Self, Refused> {
        fn one<T: PartialEq + Clone>(
            now: Option<T>,
            before: Option<&T>,
        ) -> Result<Option<T>, Refused> {
            match (now, before) {
                (Some(now), Some(before)) if now != *before => Err(Refused::invalid(
                    "two different values, in the headers and in the payload",
                )),
                (now, before) => Ok(now.or_else(|| before.cloned())),
            }
        }
        Ok(Self {
            authorization: one(self.authorization, before.authorization.as_ref())?,
            api_key: one(self.api_key, before.api_key.as_ref())?,
            tenant: one(self.tenant, before.tenant.as_ref())?,
            on_behalf_of: one(self.on_behalf_of, before.on_behalf_of.as_ref())?,
        })
    }

    /// What the new token of a socket is given with: all but the credential stays as it was.
    pub(super) fn renewed_by(&self, now: Self) -> Self {
        Self {
            authorization: now.authorization,
            api_key: now.api_key,
            tenant: now.tenant.or_else(|| self.tenant.clone()),
            on_behalf_of: now.on_behalf_of.or_else(|| self.on_behalf_of.clone()),
        }
    }

    /// # Errors
    /// INVALID_INPUT for two credentials, UNAUTHENTICATED for a scheme that isn't `Bearer`.
    pub(super) fn credentials(
        self,
        client: Client,
        transport: Transport,
    ) -> Result<Credentials, Refused> {
        let bearer = match &self.authorization {
            None => None,
            Some(value) => {
                let (scheme, token) = value
                    .expose()
                    .split_once(' ')
                    .unwrap_or((value.expose(), ""));
                let token = token.trim();
                if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains(' ')
                {
                    let message = "`Authorization` must be `Bearer` and an access token or API key";
                    return Err(Refused::new(Code::Unauthenticated, message));
                }
                Some(Secret::new(token))
            }
        };
        if let (Some(bearer), Some(key)) = (&bearer, &self.api_key)
            && bearer != key
        {
            return Err(Refused::invalid(
                "`Authorization` and `X-API-Key` hold two different credentials",
            ));
        }
        let Self {
            api_key,
            tenant,
            on_behalf_of,
            ..
        } = self;
        Ok(Credentials {
            bearer,
            api_key,
            tenant,
            on_behalf_of,
            client,
            transport,
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| {
                (
                    HeaderName::from_static(n),
                    HeaderValue::from_str(v).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn the_client_is_the_rightmost_hop_that_is_not_trusted() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let cases: &[(&str, &[&str], &str)] = &[
            ("192.0.2.9:1", &["198.51.100.1"], "192.0.2.9"),
            ("10.0.0.1:1", &[], "10.0.0.1"),
            ("10.0.0.1:1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1:1", &["203.0.113.7, 198.51.100.1"], "198.51.100.1"),
            (
                "10.0.0.1:1",
                &["203.0.113.7, 198.51.100.1, 10.0.0.2"],
                "198.51.100.1",
            ),
            (
                "10.0.0.1:1",
                &["203.0.113.7", "198.51.100.1,10.0.0.2"],
                "198.51.100.1",
            ),
            ("10.0.0.1:1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1:1", &["198.51.100.1, nonsense"], "10.0.0.1"),
            (
                "[::ffff:10.0.0.1]:1",
                &["198.51.100.1:5555"],
                "198.51.100.1",
            ),
            ("[::1]:1", &["[2001:db8::5]:443"], "2001:db8::5"),
        ];
        for (peer, lines, expected) in cases {
            let pairs: Vec<_> = lines
                .iter()
                .map(|line| ("x-forwarded-for", *line))
                .collect();
            let client = Client::of(&headers(&pairs), peer.parse().unwrap(), &trusted, true);
            assert_eq!(
                client.address,
                expected.parse::<IpAddr>().unwrap(),
                "{peer} {lines:?}"
            );
            assert_eq!(client.forwarded, !lines.is_empty());
        }
        let network = counted_as("2001:db8:1:2:3:4:5:6".parse().unwrap());
        assert_eq!(network, "2001:db8:1:2::".parse::<IpAddr>().unwrap());
        assert_eq!(
            counted_as("::ffff:192.0.2.1".parse().unwrap()),
            "192.0.2.1".parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn request_ids() {
        let ids = RequestIds::new();
        assert_eq!(ids.of(&headers(&[("x-request-id", "abc-1")])), "abc-1");
        for bad in ["", "a b", "a_b", &"a".repeat(65)] {
            assert_ne!(ids.of(&headers(&[("x-request-id", bad)])), bad);
        }
        assert_ne!(ids.of(&HeaderMap::new()), ids.of(&HeaderMap::new()));
        assert!(ids.of(&HeaderMap::new()).len() <= 64);
    }

    #[test]
    fn credentials() {
        let client = Client::of(&HeaderMap::new(), "127.0.0.1:1".parse().unwrap(), &[], true);
        let read = |pairs: &[(&'static str, &str)]| {
            Given::in_headers(&headers(pairs))?.credentials(client.clone(), Transport::Http)
        };
        let both = read(&[
            ("authorization", "bearer abc"),
            ("x-api-key", "abc"),
            ("weft-tenant", "acme"),
        ])
        .unwrap();
        assert_eq!(
            (both.bearer.unwrap().expose(), both.tenant.as_deref()),
            ("abc", Some("acme"))
        );
        let cases: &[(&[(&'static str, &str)], Code)] = &[
            (
                &[("authorization", "Bearer abc"), ("x-api-key", "def")],
                Code::InvalidInput,
            ),
            (
                &[
                    ("authorization", "Bearer abc"),
                    ("authorization", "Bearer abc"),
                ],
                Code::InvalidInput,
            ),
            (
                &[("weft-tenant", "a"), ("weft-tenant", "b")],
                Code::InvalidInput,
            ),
            (&[("weft-tenant", "\u{e9}")], Code::InvalidInput),
            (&[("authorization", "Basic abc")], Code::Unauthenticated),
            (&[("authorization", "Bearer")], Code::Unauthenticated),
            (&[("authorization", "")], Code::Unauthenticated),
        ];
        for (pairs, expected) in cases {
            assert_eq!(read(pairs).unwrap_err().code, *expected, "{pairs:?}");
        }
        let payload = |json: &str| Given::in_payload(&serde_json::from_str(json).unwrap());
        assert!(
            payload(r#"{"AUTHORIZATION": "Bearer a", "other": [1]}"#)
                .unwrap()
                .has_authorization()
        );
        assert!(payload(r#"{"Authorization": "Bearer a", "authorization": "Bearer b"}"#).is_err());
        assert!(payload(r#"{"Authorization": 5}"#).is_err());
        let over = payload(r#"{"x-api-key": "a"}"#)
            .unwrap()
            .over(&payload(r#"{"X-API-KEY": "b"}"#).unwrap());
        assert!(over.is_err());
    }
}
