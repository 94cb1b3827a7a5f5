//! A browser goes out to a provider.

use adapters::sealing::{Place, Secret, digest};
use entities::oidc_flow;
use openidconnect::{
    AuthenticationFlow, CsrfToken, LoginHint, Nonce, PkceCodeChallenge, PkceCodeVerifier, Scope,
    core::CoreResponseType,
};
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::{
    FLOW_LASTS, Failure, Onward, Stopped,
    provider::{Provider, Unavailable},
    return_to,
};
use crate::Authority;

/// Characters of `return_to`, of `state` and of `login_hint`.
const RETURN_TO: usize = 2_000;
const STATE: usize = 1_000;
const LOGIN_HINT: usize = 320;
/// Characters of an invitation's token.
const INVITATION: usize = 200;
/// Characters of a challenge by SHA-256.
const CHALLENGE: usize = 43;

/// With what a sign-in begins.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Where the browser comes back to: one of [`OidcConfig::redirect_uris`](super::OidcConfig::redirect_uris).
    pub return_to: Option<String>,
    /// The S256 challenge of the verifier that our code will be redeemed with.
    pub code_challenge: Option<String>,
    /// The token of an invitation that is accepted on the way.
    pub invitation: Option<Secret>,
    /// `true`: the code is to bind the identity to whoever is signed in, and signs nobody in.
    pub link: Option<String>,
    /// Passed on to the provider.
    pub login_hint: Option<String>,
    /// Comes back with the browser.
    pub state: Option<String>,
}

/// What only we know of a flow.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) nonce: String,
    pub(super) verifier: String,
}

/// Where that stands.
pub(crate) fn place(state_digest: &[u8]) -> Place<'static> {
    let mut row = [0; 16];
    let length = row.len().min(state_digest.len());
    row[..length].copy_from_slice(&state_digest[..length]);
    Place {
        table: "oidc_flows",
        column: "sealed",
        tenant: Uuid::nil(),
        row: Uuid::from_bytes(row),
    }
}

impl Authority {
    /// Begins a sign-in at the provider of this name: where the browser goes, and the cookie that it must bring back. Where the
    /// provider can't be asked, it goes straight back with the error `unavailable`.
    ///
    /// # Errors
    /// See [`Stopped`].
    pub async fn start_at_provider(&self, name: &str, start: Start) -> Result<Onward, Stopped> {
        let provider = self.0.oidc.provider(name).ok_or(Stopped::NoProvider)?;
        let return_to = self.return_to(start.return_to.as_deref())?;
        let flow = checked(&start)?;
        let (state, nonce) = (self.random_text(), self.random_text());
        let (verifier, cookie) = (self.random_text(), self.random_text());
        let redirect = self.0.oidc.address(name, "callback");
        let way = way(provider, &start, redirect, [&state, &nonce, &verifier]).await;
        let Ok(way) = way else {
            let (error, state) = (Failure::Unavailable.name(), start.state.as_deref());
            return Ok(Onward {
                location: return_to::with(&return_to, state, "error", error),
                cookie: None,
            });
        };
        let state_digest = digest(state.expose().as_bytes());
        let kept = Kept {
            nonce: nonce.expose().to_owned(),
            verifier: verifier.expose().to_owned(),
        };
        let kept = serde_json::to_vec(&kept).unwrap_or_default();
        let row = oidc_flow::Model {
            state_digest: state_digest.to_vec(),
            cookie_digest: digest(cookie.expose().as_bytes()).to_vec(),
            provider: name.to_owned(),
            sealed: self.0.keyring.seal_system(&place(&state_digest), &kept),
            return_to: return_to.into(),
            client_state: start.state,
            code_challenge: flow.challenge,
            invitation_digest: flow.invitation,
            is_link: flow.is_link,
            expires_at: self.0.clock.now() + FLOW_LASTS,
        };
        self.command(move |tx, _| {
            Box::pin(async move { Ok(oidc_flow::Entity::add(&**tx, row).await?) })
        })
        .await?;
        Ok(Onward {
            location: way.into(),
            cookie: Some((self.flow_cookie(state.expose()), cookie)),
        })
    }

    fn return_to(&self, given: Option<&str>) -> Result<Url, Stopped> {
        let wrong = |text: String| Stopped::Parameter(text);
        let given = given.ok_or_else(|| wrong("`return_to` is missing".to_owned()))?;
        let length = given.chars().count();
        if length > RETURN_TO {
            return Err(wrong(format!(
                "`return_to` has {length} characters, at most {RETURN_TO} are allowed"
            )));
        }
        return_to::allowed(&self.0.oidc.redirect_uris, given).ok_or_else(|| {
            wrong("`return_to` is not one of the addresses in `auth.redirect_uris`".to_owned())
        })
    }
}

/// Of a start, what is kept as it came.
struct Flow {
    challenge: String,
    invitation: Option<Vec<u8>>,
    is_link: bool,
}

fn checked(start: &Start) -> Result<Flow, Stopped> {
    let wrong = |text: String| Err(Stopped::Parameter(text));
    let Some(challenge) = &start.code_challenge else {
        return wrong("`code_challenge` is missing".to_owned());
    };
    let length = challenge.chars().count();
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if length != CHALLENGE || !challenge.bytes().all(fits) {
        return wrong(format!(
            "`code_challenge` must be the SHA-256 of the verifier in base64url, {CHALLENGE} characters, got {length}"
        ));
    }
    let is_link = match start.link.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return wrong("`link` must be true or false".to_owned()),
    };
    let invitation = start.invitation.as_ref().map(Secret::expose);
    if is_link && invitation.is_some() {
        return wrong("`invitation` and `link` exclude each other".to_owned());
    }
    for (name, value, limit) in [
        ("state", start.state.as_deref(), STATE),
        ("login_hint", start.login_hint.as_deref(), LOGIN_HINT),
        ("invitation", invitation, INVITATION),
    ] {
        let Some(value) = value else { continue };
        let length = value.chars().count();
        if length > limit {
            return wrong(format!(
                "`{name}` has {length} characters, at most {limit} are allowed"
            ));
        }
        if value.chars().any(char::is_control) {
            return wrong(format!("`{name}` must not contain control characters"));
        }
    }
    Ok(Flow {
        challenge: challenge.clone(),
        invitation: invitation.map(|token| digest(token.as_bytes()).to_vec()),
        is_link,
    })
}

/// The provider's address to go to.
async fn way(
    provider: &Provider,
    start: &Start,
    redirect: String,
    [state, nonce, verifier]: [&Secret; 3],
) -> Result<Url, Unavailable> {
    let known = provider.known().await?;
    let client = provider.client(&known, redirect)?;
    let (state, nonce) = (state.expose().to_owned(), nonce.expose().to_owned());
    let verifier = PkceCodeVerifier::new(verifier.expose().to_owned());
    let scopes = provider.config().scopes.iter();
    let scopes = scopes.filter(|scope| *scope != "openid").cloned();
    let mut request = client
        .authorize_url(
            AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
            move || CsrfToken::new(state),
            move || Nonce::new(nonce),
        )
        .add_scopes(scopes.map(Scope::new))
        .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
    if let Some(hint) = &start.login_hint {
        request = request.set_login_hint(LoginHint::new(hint.clone()));
    }
    let (url, ..) = request.url();
    Ok(url)
}
