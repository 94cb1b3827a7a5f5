//! The guard where connections are opened.
//!
//! reqwest gives the host's name, but not its port, to a resolver, and gives literal addresses to nobody. What it does ask
//! for each new connection, with scheme, host and port, is which proxy to take. So that question is where a literal
//! is judged and the port noted, for the resolver that is asked next within the same connection.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::task::futures::TaskLocalFuture;
use tower::{Layer, Service};
use url::Url;

use super::client::{AddressRefused, Policy, RefusedBecause, is_localhost};

/// The name of a proxy that stands for "no": it is given where a literal address is refused, and the resolver refuses
/// it. A name under `.invalid` never exists (RFC 6761, 6.4).
const NOWHERE: &str = "http://refused.invalid/";
const NOWHERE_NAME: &str = "refused.invalid";
/// The most addresses of one name that are looked at.
const MOST_ADDRESSES: usize = 64;

tokio::task_local! {
    static DIALLED: Cell<Dialled>;
}

/// What is known of a connection that is being opened.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dialled {
    /// Nothing: the dialer was not asked.
    Unknown,
    /// It goes to this port of the host itself.
    Direct(Option<u16>),
    /// It goes to the operator's proxy.
    Proxied,
    /// It goes nowhere.
    Refused(AddressRefused),
}

/// Judges each new connection before anything is resolved.
#[derive(Debug, Clone)]
pub(super) struct Dialer(Arc<Policy>);

impl Dialer {
    pub(super) fn new(policy: Arc<Policy>) -> Self {
        Self(policy)
    }

    pub(super) fn into_proxy(self) -> reqwest::Proxy {
        reqwest::Proxy::custom(move |url| self.proxy(url))
    }

    fn proxy(&self, url: &Url) -> Option<Url> {
        let (dialled, proxy) = match (self.0.check(url), self.0.proxy_for(url)) {
            (Err(refused), _) => (Dialled::Refused(refused), Url::parse(NOWHERE).ok()),
            (Ok(()), Some(proxy)) => (Dialled::Proxied, Some(proxy.clone())),
            (Ok(()), None) => (Dialled::Direct(url.port_or_known_default()), None),
        };
        // The proxy is also asked for when no connection is opened, for its password; there is nothing to note then.
        let _ = DIALLED.try_with(|cell| cell.set(dialled));
        proxy
    }
}

/// Gives each connection that is opened a note of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct DialLayer;

impl<S> Layer<S> for DialLayer {
    type Service = Noted<S>;

    fn layer(&self, inner: S) -> Noted<S> {
        Noted(inner)
    }
}

/// A connector within the scope of a note.
#[derive(Debug, Clone)]
pub(super) struct Noted<S>(S);

impl<S, R> Service<R> for Noted<S>
where
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TaskLocalFuture<Cell<Dialled>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        // The dialer may be asked within the call or within its future: what the call noted goes on into the future.
        let (future, dialled) = DIALLED.sync_scope(Cell::new(Dialled::Unknown), || {
            (self.0.call(request), DIALLED.with(Cell::get))
        });
        DIALLED.scope(Cell::new(dialled), future)
    }
}

/// Resolves names and lets only judged addresses through.
#[derive(Debug)]
pub(super) struct Resolver(Arc<Policy>);

impl Resolver {
    pub(super) fn new(policy: Arc<Policy>) -> Self {
        Self(policy)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        let dialled = DIALLED.try_with(Cell::get).unwrap_or(Dialled::Unknown);
        Box::pin(async move {
            let name = name.as_str();
            let port = match dialled {
                Dialled::Refused(refused) => return Err(refused.into()),
                _ if name == NOWHERE_NAME => {
                    return Err(AddressRefused::because(RefusedBecause::Address).into());
                }
                Dialled::Proxied => return Ok(addresses(look_up(name).await?)),
                Dialled::Direct(port) => port,
                Dialled::Unknown => None,
            };
            let found = if is_localhost(name) {
                policy.localhost(port)?
            } else {
                let found = look_up(name).await?;
                // One inner address among public ones is how names are turned against us: all must pass.
                found
                    .iter()
                    .try_for_each(|address| policy.check_address(*address, port))?;
                found
            };
            Ok(addresses(found))
        })
    }
}

async fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((name, 0)).await?;
    Ok(found
        .map(|address| address.ip())
        .take(MOST_ADDRESSES)
        .collect())
}

/// The client puts the URL's port in place of the zero.
fn addresses(found: Vec<IpAddr>) -> Addrs {
    Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_name_resolves_to_is_judged() {
        let policy = Arc::new(Policy::new(
            Some(vec![
                "10.0.0.0/8".parse().unwrap(),
                "::1/128".parse().unwrap(),
            ]),
            ["10.0.0.9:5432".parse().unwrap()].into(),
            None,
        ));
        let resolver = Resolver::new(policy);
        // The look-up takes literals too, so no name service is needed to see what is done with its answer.
        for (name, dialled, found) in [
            ("127.0.0.1", Dialled::Direct(Some(80)), None),
            ("169.254.169.254", Dialled::Direct(Some(80)), None),
            ("10.1.1.1", Dialled::Direct(Some(80)), Some("10.1.1.1:0")),
            ("10.0.0.9", Dialled::Direct(Some(80)), Some("10.0.0.9:0")),
            ("10.0.0.9", Dialled::Direct(Some(5432)), None),
            ("10.0.0.9", Dialled::Unknown, None),
            ("8.8.8.8", Dialled::Direct(Some(80)), Some("8.8.8.8:0")),
            ("localhost", Dialled::Direct(Some(80)), Some("[::1]:0")),
            ("x.LocalHost.", Dialled::Direct(Some(80)), Some("[::1]:0")),
            ("127.0.0.1", Dialled::Proxied, Some("127.0.0.1:0")),
            ("refused.invalid", Dialled::Proxied, None),
            ("refused.invalid", Dialled::Direct(Some(80)), None),
            (
                "8.8.8.8",
                Dialled::Refused(AddressRefused::because(RefusedBecause::Port)),
                None,
            ),
        ] {
            let resolving = DIALLED.sync_scope(Cell::new(dialled), || {
                resolver.resolve(name.parse().unwrap())
            });
            match (resolving.await, found) {
                (Ok(addresses), Some(found)) => {
                    assert_eq!(
                        addresses.collect::<Vec<_>>(),
                        [found.parse().unwrap()],
                        "{name} {dialled:?}"
                    );
                }
                (Err(error), None) => assert!(
                    AddressRefused::find(&*error).is_some(),
                    "{name} {dialled:?} {error}"
                ),
                (answer, _) => panic!(
                    "{name} {dialled:?}: {}",
                    if answer.is_ok() {
                        "let through"
                    } else {
                        "refused"
                    }
                ),
            }
        }
    }
}
