//! The one value that the rest of the program asks.

use std::{
    net::IpAddr,
    sync::{Arc, Weak},
};

use adapters::{
    clock::SharedClock,
    sealing::{Keyring, Secret},
    tasks::Tasks,
};
use chrono::{DateTime, TimeDelta, Utc};
use entities::{CommandError, Db, SystemScope, TenantId, Tx, Within};
use events::{Asked, Command, Log};
use futures_util::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    audit::Refusals,
    identity::Cache,
    oidc::{Oidc, OidcConfig},
    passwords::Passwords,
    signing::SigningKeys,
    watch::Watched,
};

/// Accounts and credentials are of no one tenant.
const SYSTEM: SystemScope = SystemScope::of("accounts and credentials");

/// What the operator decides.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// The `iss` of access tokens: `public_url`, or `weft:` and the installation's id.
    pub issuer: String,
    /// The token that `setUp` asks for, in place of the one that follows from the secret key.
    pub setup_token: Option<Secret>,
    /// For how long the audit log is kept: `retention.audit_days`.
    pub audit_kept: TimeDelta,
    /// For how long a key signs access tokens before another one takes its place.
    pub signing_key_lasts: TimeDelta,
    /// Sign-in at providers, where there is any.
    pub oidc: Option<OidcConfig>,
}

/// How a request came that has no credential yet, as the edge saw it.
#[derive(Debug, Clone, Default)]
pub struct RequestContext {
    /// Whether the listener is bound to a loopback address.
    pub listener_loopback: bool,
    /// Whether the peer's address is one.
    pub peer_loopback: bool,
    /// Whether the request has any forwarding header, whoever set it.
    pub forwarded: bool,
    /// Whether `Origin` is absent, or names the server itself.
    pub origin_ours_or_absent: bool,
    /// Whether `public_url` or `trusted_proxies` is given.
    pub public_url_or_proxies_set: bool,
    /// The client's address: the rightmost hop that is not a trusted proxy.
    pub address: Option<IpAddr>,
    /// Its `User-Agent`, as it was sent.
    pub user_agent: Option<String>,
}

/// Who is asking and what they may do. Clones are the same.
#[derive(Clone)]
pub struct Authority(pub(crate) Arc<Inner>, pub(crate) Option<Arc<Asked>>);

/// What the modules of this crate share.
pub(crate) struct Inner {
    pub(crate) db: Db,
    pub(crate) log: Log,
    pub(crate) keyring: Keyring,
    pub(crate) clock: SharedClock,
    pub(crate) config: AuthConfig,
    pub(crate) passwords: Passwords,
    pub(crate) signing: SigningKeys,
    pub(crate) cache: Cache,
    pub(crate) watched: Watched,
    pub(crate) refusals: Refusals,
    pub(crate) oidc: Oidc,
}

impl Authority {
    /// Starts the tasks that look every two seconds for what is no longer good, and every minute after the keys that sign; they
    /// end with `tasks`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(
        db: Db,
        log: Log,
        keyring: Keyring,
        clock: SharedClock,
        tasks: &Tasks,
        mut config: AuthConfig,
    ) -> Self {
        let oidc = Oidc::new(config.oidc.take(), &clock);
        let watched = Watched::new(clock.instant());
        let authority = Self(
            Arc::new(Inner {
                db,
                log,
                keyring,
                passwords: Passwords::new(tasks.clone(), clock.clone()),
                clock,
                config,
                signing: SigningKeys::default(),
                cache: Cache::default(),
                watched,
                refusals: Refusals::default(),
                oidc,
            }),
            None,
        );
        authority.keep_watch(tasks);
        authority.keep_chains(tasks);
        authority.keep_signing_keys(tasks);
        authority
    }

    pub(crate) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self(inner, None)
    }

    /// This authority for one mutation: what is done through it stands in the audit log, and is done once for its key.
    #[must_use]
    pub fn asked(&self, asked: Option<Asked>) -> Self {
        Self(self.0.clone(), asked.map(Arc::new))
    }

    /// One transaction of a client's about accounts and credentials, which are of no one tenant; done once where it came with a key. Secrets in `T` are not to be written: serde skips them,
    /// and a repetition is answered without.
    pub(crate) async fn command_for<T, F>(&self, work: F) -> Result<T, CommandError>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: for<'c> FnOnce(&'c mut Command) -> BoxFuture<'c, Result<T, CommandError>>
            + Send
            + 'static,
    {
        self.0
            .log
            .command_for(Within::System(SYSTEM), self.1.clone(), move |command| {
                work(command)
            })
            .await
    }

    /// [`Authority::command_for`] of what is in one tenant, and stays in it.
    pub(crate) async fn command_within<T, F>(
        &self,
        tenant: TenantId,
        work: F,
    ) -> Result<T, CommandError>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: for<'c> FnOnce(&'c mut Command) -> BoxFuture<'c, Result<T, CommandError>>
            + Send
            + 'static,
    {
        let within = Within::Tenant(tenant);
        let asked = self.1.clone();
        self.0
            .log
            .command_for(within, asked, move |command| work(command))
            .await
    }

    /// One transaction, which goes on when its caller is gone.
    pub(crate) async fn command<T, F>(&self, work: F) -> Result<T, CommandError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c Tx, DateTime<Utc>) -> BoxFuture<'c, Result<T, CommandError>>
            + Send
            + 'static,
    {
        self.0
            .log
            .command(Within::System(SYSTEM), move |command| {
                work(command.tx(), command.now())
            })
            .await
    }
}
