use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use url::{Host, Url};

use super::addresses::{is_bad_port, is_in, is_public, reaches};
use super::dial::{DialLayer, Dialer, Resolver};

/// How long a connection, its name look-up and TLS included, may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that nobody uses is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How many connections that nobody uses are kept per host.
const IDLE_PER_HOST: usize = 16;

/// Who chose an address, and with it where the client may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// The operator, in the configuration: not guarded.
    Operator,
    /// Somebody who manages models and tools: public addresses and [`OutboundConfig::allow`].
    Managed,
    /// A model or a user: public addresses and [`OutboundConfig::allow_tools`].
    Chosen,
}

/// Where the guarded client may go, as the operator says.
#[derive(Debug, Clone, Default)]
pub struct OutboundConfig {
    /// Ranges open to [`Reach::Managed`] besides public addresses.
    pub allow: Vec<IpNet>,
    /// Ranges open to [`Reach::Chosen`] besides public addresses.
    pub allow_tools: Vec<IpNet>,
    /// Our own backends and our own listener: refused even inside allowed ranges. A loopback or unspecified address
    /// stands for all of loopback.
    pub own_backends: Vec<SocketAddr>,
    /// An HTTP proxy (`http` or `https`, perhaps with a name and password). Names and public addresses go through it,
    /// `localhost` and allowed addresses do not. It resolves the names, so it is then the one to guard what they
    /// resolve to.
    pub proxy: Option<Url>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// `proxy` is not an `http` or `https` address.
    #[error("the proxy for outbound requests must be an http or https address")]
    Proxy,
    /// The client's TLS could not be prepared.
    #[error("prepare the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// What about an address was refused. For our log; a client is told no more than `address not allowed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBecause {
    /// Neither `http` nor `https`, or without a host.
    Scheme,
    /// It holds a user name or password.
    UserInfo,
    /// The port belongs to another protocol.
    Port,
    /// Not a public address, nor in an allowed range.
    Address,
    /// One of our own backends.
    OwnBackend,
}

/// An address that may not be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("address not allowed")]
pub struct AddressRefused {
    because: RefusedBecause,
}

impl AddressRefused {
    pub(super) fn because(because: RefusedBecause) -> Self {
        Self { because }
    }

    /// What was refused about it.
    #[must_use]
    pub fn reason(&self) -> RefusedBecause {
        self.because
    }

    /// The refusal that made a request or anything else fail, if it was one.
    #[must_use]
    pub fn find(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(refused) = error.downcast_ref::<Self>() {
                return Some(*refused);
            }
            next = error.source();
        }
        None
    }
}

/// The guarded client, one for each [`Reach`]. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Outbound(Arc<Guarded>);

#[derive(Debug)]
struct Guarded {
    policies: [Arc<Policy>; 3],
    clients: [reqwest::Client; 3],
}

impl Outbound {
    /// Prepares the three clients.
    ///
    /// # Errors
    ///
    /// [`OutboundError`] for a proxy that can't be one, or where TLS can't be prepared.
    pub fn new(config: OutboundConfig) -> Result<Self, OutboundError> {
        crate::install_tls();
        let OutboundConfig {
            allow,
            allow_tools,
            own_backends,
            proxy,
        } = config;
        if proxy
            .as_ref()
            .is_some_and(|proxy| !matches!(proxy.scheme(), "http" | "https") || !proxy.has_host())
        {
            return Err(OutboundError::Proxy);
        }
        let own: Arc<[SocketAddr]> = own_backends.into();
        let policies = [None, Some(allow), Some(allow_tools)]
            .map(|allowed| Arc::new(Policy::new(allowed, own.clone(), proxy.clone())));
        let [operator, managed, chosen] = &policies;
        let clients = [client(operator)?, client(managed)?, client(chosen)?];
        Ok(Self(Arc::new(Guarded { policies, clients })))
    }

    /// Says what can be said of `url` without asking the name service: its scheme, user part, port, literal address.
    /// For the moment an address is written; [`Outbound::client`] guards its connections by itself.
    ///
    /// # Errors
    ///
    /// [`AddressRefused`].
    pub fn check(&self, reach: Reach, url: &Url) -> Result<(), AddressRefused> {
        self.0.policies[reach as usize].check(url)
    }

    /// The client for `reach`. It follows no redirect, reads no proxy from the environment, sends no `Referer`, and
    /// does not decompress. A connection has 10 s to open; all other times are the caller's to set. Where a
    /// connection was refused, [`AddressRefused::find`] finds that in the error.
    #[must_use]
    pub fn client(&self, reach: Reach) -> reqwest::Client {
        self.0.clients[reach as usize].clone()
    }
}

fn client(policy: &Arc<Policy>) -> Result<reqwest::Client, OutboundError> {
    let dialer = Dialer::new(policy.clone());
    let builder = || {
        reqwest::Client::builder()
            .user_agent(concat!("weft/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .proxy(dialer.clone().into_proxy())
            .connector_layer(DialLayer)
            .dns_resolver(Arc::new(Resolver::new(policy.clone())))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
    };
    // A machine without any certificate authority can still be served over plain HTTP.
    builder().build().or_else(|error| {
        tracing::warn!(%error, "no certificate authorities found: outbound HTTPS will fail");
        builder()
            .tls_certs_only([])
            .build()
            .map_err(OutboundError::Client)
    })
}

/// What one reach allows.
#[derive(Debug)]
pub(super) struct Policy {
    /// The ranges allowed besides public addresses; none: not guarded.
    allowed: Option<Vec<IpNet>>,
    own: Arc<[SocketAddr]>,
    proxy: Option<Url>,
}

impl Policy {
    pub(super) fn new(
        allowed: Option<Vec<IpNet>>,
        own: Arc<[SocketAddr]>,
        proxy: Option<Url>,
    ) -> Self {
        Self {
            allowed,
            own,
            proxy,
        }
    }

    /// See [`Outbound::check`].
    pub(super) fn check(&self, url: &Url) -> Result<(), AddressRefused> {
        let refuse = |because| Err(AddressRefused::because(because));
        let (Some(host), "http" | "https") = (url.host(), url.scheme()) else {
            return refuse(RefusedBecause::Scheme);
        };
        if self.allowed.is_none() {
            return Ok(());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse(RefusedBecause::UserInfo);
        }
        let port = url.port_or_known_default();
        if port.is_none_or(is_bad_port) {
            return refuse(RefusedBecause::Port);
        }
        match host {
            Host::Ipv4(address) => self.check_address(IpAddr::V4(address), port),
            Host::Ipv6(address) => self.check_address(IpAddr::V6(address), port),
            Host::Domain(name) if is_localhost(name) => self.localhost(port).map(drop),
            Host::Domain(_) => Ok(()),
        }
    }

    /// Whether `address` may be connected to. An unknown `port` counts as each of our backends' ports.
    pub(super) fn check_address(
        &self,
        address: IpAddr,
        port: Option<u16>,
    ) -> Result<(), AddressRefused> {
        let Some(allowed) = &self.allowed else {
            return Ok(());
        };
        if self
            .own
            .iter()
            .any(|backend| reaches(*backend, address, port))
        {
            return Err(AddressRefused::because(RefusedBecause::OwnBackend));
        }
        if is_public(address) || is_in(allowed, address) {
            return Ok(());
        }
        Err(AddressRefused::because(RefusedBecause::Address))
    }

    /// The addresses of `localhost` that may be connected to. The name service is not asked (RFC 6761, 6.3), and of
    /// the two addresses one alone may be allowed.
    pub(super) fn localhost(&self, port: Option<u16>) -> Result<Vec<IpAddr>, AddressRefused> {
        let (mut addresses, mut refused) = (Vec::new(), None);
        for address in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ] {
            match self.check_address(address, port) {
                Ok(()) => addresses.push(address),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(refused) if addresses.is_empty() => Err(refused),
            _ => Ok(addresses),
        }
    }

    /// The proxy that a connection to `url` goes through, if it does.
    pub(super) fn proxy_for(&self, url: &Url) -> Option<&Url> {
        let proxy = self.proxy.as_ref()?;
        let proxied = match url.host()? {
            Host::Ipv4(address) => is_public(IpAddr::V4(address)),
            Host::Ipv6(address) => is_public(IpAddr::V6(address)),
            Host::Domain(name) => !is_localhost(name),
        };
        proxied.then_some(proxy)
    }
}

/// Whether `name` is `localhost` or below it (RFC 6761, 6.3).
pub(super) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost")
}
