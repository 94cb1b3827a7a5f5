//! A provider: what it says of itself, kept for a while, and its keys.
//!
//! It is first asked when somebody wants to sign in, so a provider that is down keeps nobody from starting. Its keys are read
//! again when a token names one that is not known: that is how providers rotate them.

use std::{
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use adapters::{
    clock::{BootInstant, SharedClock},
    outbound::Outbound,
};
use futures_util::future::BoxFuture;
use openidconnect::{
    AdditionalProviderMetadata, AuthType, ClientId, ClientSecret, EmptyExtraTokenFields,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IdTokenFields,
    IssuerUrl, JsonWebKeySet, LogoutProviderMetadata, OAuth2TokenResponse, ProviderMetadata,
    RedirectUrl, StandardErrorResponse, StandardTokenResponse, SubjectIdentifier, TokenUrl,
    UserInfoError, UserInfoUrl,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreClaimName, CoreClaimType, CoreClientAuthMethod,
        CoreErrorResponseType, CoreGenderClaim, CoreGrantType, CoreJsonWebKey, CoreJsonWebKeySet,
        CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm,
        CoreResponseMode, CoreResponseType, CoreRevocableToken, CoreRevocationErrorResponse,
        CoreSubjectIdentifierType, CoreTokenIntrospectionResponse, CoreTokenType,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    Failure, ProviderConfig,
    claims::{Session, Told},
    http::{self, HttpError},
};

/// After this long it is asked again what it says of itself.
const OLD: Duration = Duration::from_secs(300);
/// One that did not answer is not asked again before.
const PAUSE: Duration = Duration::from_secs(1);
/// Keys are not read again for the sake of an unknown one before: anybody can name one.
const KEYS_APART: Duration = Duration::from_secs(10);

/// What is read of a provider's document besides what the library knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct More {
    /// RFC 9207: its answers say who they are of.
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for More {}

/// A provider's document.
pub(super) type Metadata = ProviderMetadata<
    LogoutProviderMetadata<More>,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// An answer of its token endpoint.
pub(super) type TokenAnswer = StandardTokenResponse<
    IdTokenFields<
        Session,
        EmptyExtraTokenFields,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    >,
    CoreTokenType,
>;

/// Ourselves, as its client.
pub(super) type Client = openidconnect::Client<
    Session,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    TokenAnswer,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// It can't be asked, or what it says of itself can't be used. The log says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unavailable;

/// What is known of a provider at a moment.
#[derive(Debug)]
pub(super) struct Known {
    /// Its document, without its keys.
    pub(super) metadata: Metadata,
    /// Its keys.
    pub(super) keys: CoreJsonWebKeySet,
    read_at: BootInstant,
}

impl Known {
    pub(super) fn new(metadata: Metadata, keys: CoreJsonWebKeySet, read_at: BootInstant) -> Self {
        Self {
            metadata,
            keys,
            read_at,
        }
    }

    /// Whether its answers say who they are of.
    pub(super) fn names_itself(&self) -> bool {
        let more = &self.metadata.additional_metadata().additional_metadata;
        more.authorization_response_iss_parameter_supported
    }
}

#[derive(Default)]
struct Kept {
    known: Option<Arc<Known>>,
    failed_at: Option<BootInstant>,
    keys_asked_at: Option<BootInstant>,
}

/// A provider.
pub(super) struct Provider {
    config: ProviderConfig,
    outbound: Outbound,
    clock: SharedClock,
    kept: Mutex<Kept>,
}

impl Provider {
    pub(super) fn new(config: ProviderConfig, outbound: Outbound, clock: SharedClock) -> Self {
        Self {
            config,
            outbound,
            clock,
            kept: Mutex::default(),
        }
    }

    pub(super) fn config(&self) -> &ProviderConfig {
        &self.config
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks it something, as the library wants it asked.
    pub(super) fn asker(
        &self,
    ) -> impl Fn(HttpRequest) -> BoxFuture<'static, Result<HttpResponse, HttpError>> + Send + Sync + use<>
    {
        let outbound = self.outbound.clone();
        move |request| Box::pin(http::ask(outbound.clone(), request))
    }

    /// What is known of it, not older than a few minutes.
    pub(super) async fn known(&self) -> Result<Arc<Known>, Unavailable> {
        let now = self.clock.instant();
        {
            let kept = self.kept();
            if let Some(known) = &kept.known
                && now.since(known.read_at) < OLD
            {
                return Ok(known.clone());
            }
            if kept.failed_at.is_some_and(|at| now.since(at) < PAUSE) {
                return Err(Unavailable);
            }
        }
        let read = self.read(now).await;
        let mut kept = self.kept();
        match read {
            Ok(known) => {
                kept.known = Some(known.clone());
                kept.failed_at = None;
                Ok(known)
            }
            Err(Unavailable) => {
                kept.failed_at = Some(now);
                Err(Unavailable)
            }
        }
    }

    /// The same, or what was known before where it can't be asked: enough for somebody who is on his way already.
    pub(super) async fn known_or_before(&self) -> Result<Arc<Known>, Unavailable> {
        match self.known().await {
            Ok(known) => Ok(known),
            Err(Unavailable) => self.kept().known.clone().ok_or(Unavailable),
        }
    }

    /// What is known of it with keys read anew, unless that was done a moment ago.
    pub(super) async fn with_new_keys(&self, known: Arc<Known>) -> Result<Arc<Known>, Unavailable> {
        let now = self.clock.instant();
        {
            let mut kept = self.kept();
            if kept
                .keys_asked_at
                .is_some_and(|at| now.since(at) < KEYS_APART)
            {
                // Somebody else may have found them.
                return kept.known.clone().ok_or(Unavailable);
            }
            kept.keys_asked_at = Some(now);
        }
        let keys = JsonWebKeySet::fetch_async(known.metadata.jwks_uri(), &self.asker()).await;
        let keys = keys.map_err(|error| self.tell(&error))?;
        let known = Arc::new(Known::new(known.metadata.clone(), keys, known.read_at));
        self.kept().known = Some(known.clone());
        Ok(known)
    }

    async fn read(&self, now: BootInstant) -> Result<Arc<Known>, Unavailable> {
        let issuer =
            IssuerUrl::new(self.config.issuer.clone()).map_err(|error| self.tell(&error))?;
        let metadata = Metadata::discover_async(issuer, &self.asker()).await;
        let metadata = metadata.map_err(|error| self.tell(&error))?;
        let is_plain = |url: &url::Url| url.scheme() != "https";
        // One that is reached by TLS sends nobody elsewhere without.
        let endpoints = [
            Some(metadata.authorization_endpoint().url()),
            metadata.token_endpoint().map(TokenUrl::url),
            metadata.userinfo_endpoint().map(UserInfoUrl::url),
            Some(metadata.jwks_uri().url()),
        ];
        if self.config.issuer.starts_with("https:") && endpoints.into_iter().flatten().any(is_plain)
        {
            return Err(self.tell(&Unfit::Plain));
        }
        if metadata.token_endpoint().is_none() {
            return Err(self.tell(&Unfit::NoTokens));
        }
        let keys = metadata.jwks().clone();
        let metadata = metadata.set_jwks(JsonWebKeySet::default());
        Ok(Arc::new(Known::new(metadata, keys, now)))
    }

    /// Ourselves as its client, who is called back at `redirect`.
    pub(super) fn client(&self, known: &Known, redirect: String) -> Result<Client, Unavailable> {
        let redirect = RedirectUrl::new(redirect).map_err(|error| self.tell(&error))?;
        let secret = self.config.client_secret.as_ref();
        let secret = secret.map(|secret| ClientSecret::new(secret.expose().to_owned()));
        let id = ClientId::new(self.config.client_id.clone());
        let client = Client::from_provider_metadata(known.metadata.clone(), id, secret);
        let ways = known.metadata.token_endpoint_auth_methods_supported();
        let by_body = ways.is_some_and(|ways| {
            ways.contains(&CoreClientAuthMethod::ClientSecretPost)
                && !ways.contains(&CoreClientAuthMethod::ClientSecretBasic)
        });
        Ok(client
            .set_redirect_uri(redirect)
            .set_auth_type(match by_body {
                true => AuthType::RequestBody,
                false => AuthType::BasicAuth,
            }))
    }

    /// What it says of the person whom `answer` is about; `None` where it has no address for that.
    pub(super) async fn says_of(
        &self,
        client: &Client,
        answer: &TokenAnswer,
        subject: &str,
    ) -> Result<Option<Told>, Failure> {
        let token = answer.access_token().clone();
        // The library takes it for granted that it can stand in a header.
        let fits = token.secret().bytes().all(|b| b.is_ascii_graphic());
        let subject = SubjectIdentifier::new(subject.to_owned());
        let Some(asked) = client.user_info(token, Some(subject)).ok().filter(|_| fits) else {
            return Ok(None);
        };
        let told = asked.request_async(&self.asker()).await;
        told.map(Some).map_err(|error| {
            self.tell(&error);
            match error {
                UserInfoError::Request(_) => Failure::Unavailable,
                _ => Failure::InvalidResponse,
            }
        })
    }

    /// Writes down why it can't be used.
    pub(super) fn tell(&self, why: &dyn Error) -> Unavailable {
        let mut text = why.to_string();
        let mut next = why.source();
        while let Some(error) = next {
            text = format!("{text}: {error}");
            next = error.source();
        }
        let why: String = text.chars().filter(|c| !c.is_control()).take(500).collect();
        tracing::warn!(provider = %self.config.name, why, "a sign-in provider can't be used");
        Unavailable
    }
}

/// What in a provider's document keeps it from being used.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("an endpoint is not reached by https")]
    Plain,
    #[error("it has no token endpoint")]
    NoTokens,
}
