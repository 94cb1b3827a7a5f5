//! Signing in at OpenID providers (OpenID Connect Core 1.0, by code).
//!
//! A browser goes out by [`Start`] and comes back by [`Callback`]; from there a one-time code of ours goes to the front end, which
//! redeems it with the verifier that it kept. What a provider says is believed when its token is: `claims` has the rules. It knows
//! no transport of its own: cookies and redirects are told by the edge.

mod callback;
mod claims;
mod code;
mod http;
mod joining;
mod link;
mod logout;
mod provider;
mod redeem;
mod return_to;
mod start;

use std::{collections::BTreeMap, sync::Arc};

use adapters::{
    clock::SharedClock,
    outbound::Outbound,
    sealing::{Secret, digest},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use entities::{CommandError, SystemScope, Tx, logout_token, oidc_flow, query::*, sign_in_code};
use url::Url;

pub use callback::Callback;
pub(crate) use callback::token_place;
pub use link::LinkIdentity;
pub use logout::LogoutError;
pub use redeem::RedeemSignInCode;
pub use start::Start;
pub(crate) use start::place as flow_place;

use crate::Authority;
use provider::Provider;

const SCOPE: SystemScope = SystemScope::of("sign-in at a provider");

/// For how long somebody may be at the provider.
pub const FLOW_LASTS: TimeDelta = TimeDelta::minutes(10);
/// For how long a one-time code is good.
const CODE_LASTS: TimeDelta = TimeDelta::seconds(60);

/// What the operator decides about sign-in at providers.
#[derive(Debug, Clone)]
pub struct OidcConfig {
    /// The server's own address, as browsers reach it; without a slash at its end.
    pub base_url: String,
    /// Where a sign-in may return to. A literal loopback address matches on any port.
    pub redirect_uris: Vec<Url>,
    /// How long a session lasts that began at a provider.
    pub session_lasts: TimeDelta,
    /// The providers, by name.
    pub providers: Vec<ProviderConfig>,
    /// By which they are asked.
    pub outbound: Outbound,
}

/// A provider, as the operator names it.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// Its name in addresses.
    pub name: String,
    /// As its own documents and tokens write it, to the letter.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    /// `None` for a public client.
    pub client_secret: Option<Secret>,
    /// What to write on its button.
    pub label: String,
    /// What is asked for; `openid` always is.
    pub scopes: Vec<String>,
    /// Domains, in lower case, whose proven addresses it may let join.
    pub email_domains: Vec<String>,
}

/// A way to sign in, as clients are told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignInProvider {
    /// Its name.
    pub name: String,
    /// What to write on its button.
    pub label: String,
    /// Where a browser starts.
    pub url: String,
}

/// Where a browser goes on.
#[derive(Debug, Clone)]
pub struct Onward {
    /// The address.
    pub location: String,
    /// A cookie to set for [`FLOW_LASTS`]: its name, and what it holds.
    pub cookie: Option<(String, Secret)>,
}

/// Why a browser goes nowhere.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// There is no provider of this name.
    #[error("there is no sign-in provider of this name")]
    NoProvider,
    /// A parameter is missing or wrong; the text names it.
    #[error("{0}")]
    Parameter(String),
    /// Too many attempts, or the database.
    #[error(transparent)]
    Failed(#[from] CommandError),
}

/// Why somebody comes back without a code (RFC 6749, 4.1.2.1, as far as it has a name).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// He, or the provider, said no.
    AccessDenied,
    /// He is known there, and has no account here.
    NoAccount,
    /// What the provider said can't be believed.
    InvalidResponse,
    /// The provider can't be asked at the moment.
    Unavailable,
}

impl Failure {
    fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "access_denied",
            Self::NoAccount => "no_account",
            Self::InvalidResponse => "invalid_response",
            Self::Unavailable => "unavailable",
        }
    }
}

/// All that is kept of providers.
pub(crate) struct Oidc {
    base_url: String,
    redirect_uris: Vec<Url>,
    session_lasts: TimeDelta,
    providers: BTreeMap<String, Arc<Provider>>,
}

impl Oidc {
    /// None, where `config` is not there.
    pub(crate) fn new(config: Option<OidcConfig>, clock: &SharedClock) -> Self {
        let Some(config) = config else {
            return Self {
                base_url: String::new(),
                redirect_uris: Vec::new(),
                session_lasts: TimeDelta::hours(24),
                providers: BTreeMap::new(),
            };
        };
        let providers = config.providers.into_iter().map(|provider| {
            let name = provider.name.clone();
            let provider = Provider::new(provider, config.outbound.clone(), clock.clone());
            (name, Arc::new(provider))
        });
        Self {
            providers: providers.collect(),
            base_url: config.base_url,
            redirect_uris: config.redirect_uris,
            session_lasts: config.session_lasts,
        }
    }

    fn provider(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.get(name)
    }

    /// The address of one of a provider's routes.
    fn address(&self, provider: &str, route: &str) -> String {
        format!("{}/auth/oidc/{provider}/{route}", self.base_url)
    }

    /// Whether browsers reach us by TLS alone.
    fn is_secure(&self) -> bool {
        self.base_url.starts_with("https:")
    }

    /// The cookie of a flow. Each has one of its own, so that two tabs don't take each other's.
    fn cookie_name(&self, state: &str) -> String {
        let digits: String = digest(state.as_bytes())[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        match self.is_secure() {
            true => format!("__Host-weft-oidc-{digits}"),
            false => format!("weft-oidc-{digits}"),
        }
    }
}

impl Authority {
    /// The providers that one can sign in at, by name.
    #[must_use]
    pub fn sign_in_providers(&self) -> Vec<SignInProvider> {
        let oidc = &self.0.oidc;
        let shown = |(name, provider): (&String, &Arc<Provider>)| SignInProvider {
            name: name.clone(),
            label: provider.config().label.clone(),
            url: oidc.address(name, "start"),
        };
        oidc.providers.iter().map(shown).collect()
    }

    /// The name of the cookie that a browser must bring back with `state`.
    #[must_use]
    pub fn flow_cookie(&self, state: &str) -> String {
        self.0.oidc.cookie_name(state)
    }

    /// Whether that cookie is for TLS alone.
    #[must_use]
    pub fn flow_cookie_is_secure(&self) -> bool {
        self.0.oidc.is_secure()
    }

    /// 256 random bits, as a text of 43 characters that may stand in an address.
    fn random_text(&self) -> Secret {
        let mut bytes = [0; 32];
        self.0.clock.random(&mut bytes);
        Secret::new(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// What `verifier` is proved by (RFC 7636, S256).
fn challenge_of(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest(verifier.as_bytes()))
}

/// Deletes what is too old to be of use.
pub(crate) async fn sweep(tx: &Tx, now: DateTime<Utc>) -> Result<(), CommandError> {
    oidc_flow::Entity::delete_anywhere(SCOPE)
        .filter(oidc_flow::Column::ExpiresAt.lt(now))
        .exec(&**tx)
        .await?;
    sign_in_code::Entity::delete_anywhere(SCOPE)
        .filter(sign_in_code::Column::ExpiresAt.lt(now))
        .exec(&**tx)
        .await?;
    logout_token::Entity::delete_anywhere(SCOPE)
        .filter(logout_token::Column::ExpiresAt.lt(now))
        .exec(&**tx)
        .await?;
    Ok(())
}
