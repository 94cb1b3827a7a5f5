//! A browser comes back from a provider.
//!
//! First the flow's row is deleted, so that nothing that comes back comes twice. Then the provider is asked, with no transaction
//! open. What follows of its answer is one transaction: the account, the membership, and our code.

use std::sync::Arc;

use adapters::{
    clock::SharedClock,
    sealing::{Keyring, Place, Secret, digest, equal},
};
use chrono::{DateTime, Utc};
use entities::{
    CommandError, IdentityId, TenantId, Tx, UserId, UserKind, Within,
    db::{self, failure},
    identity, oidc_flow,
    query::*,
    sign_in_code,
    standing::memberships_of,
    user,
};
use events::Command;
use openidconnect::{AuthorizationCode, PkceCodeVerifier, RequestTokenError};
use url::Url;
use uuid::Uuid;

use super::{
    CODE_LASTS, Failure, Onward, SCOPE, Stopped,
    claims::{self, Person, Untrusted},
    joining,
    provider::{Provider, Unavailable},
    return_to,
    start::{self, Kept},
};
use crate::{
    Authority, RequestContext, attempts,
    joining::{Joining, Way, join},
    set_up::email_key,
};

/// Characters of a parameter that a provider sends back.
const PARAMETER: usize = 8_000;

/// With what a browser comes back.
#[derive(Debug, Clone, Default)]
pub struct Callback {
    /// As we sent it along.
    pub state: Option<String>,
    /// The provider's code.
    pub code: Option<Secret>,
    /// Why there is none.
    pub error: Option<String>,
    /// Who answers (RFC 9207).
    pub iss: Option<String>,
    /// What the cookie of the flow holds.
    pub cookie: Option<Secret>,
}

/// A flow that has come back, and that nobody can bring back again.
struct Flow {
    row: oidc_flow::Model,
    return_to: Url,
    kept: Kept,
}

impl From<Unavailable> for Failure {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl Authority {
    /// Ends the flow that a browser comes back with: where it goes on, with a code of ours or with the reason why not.
    ///
    /// # Errors
    /// See [`Stopped`]: where it is no flow of this browser's, it can't be sent anywhere.
    pub async fn back_from_provider(
        &self,
        name: &str,
        back: Callback,
        context: &RequestContext,
    ) -> Result<Onward, Stopped> {
        let provider = self.0.oidc.provider(name).ok_or(Stopped::NoProvider)?;
        let Some(flow) = self.take_flow(&back).await? else {
            self.failed_back(context).await?;
            return Err(Stopped::Parameter(
                "`state` is not of a sign-in that this browser has begun within the last ten minutes".to_owned(),
            ));
        };
        let told = match self.person(provider, &flow, &back).await {
            Ok(person) => self.code_for(provider, &flow, person).await?,
            Err(failure) => Err(failure),
        };
        if told == Err(Failure::NoAccount) && flow.row.invitation_digest.is_some() {
            self.failed_back(context).await?;
        }
        let (name, value) = match &told {
            Ok(code) => ("code", code.expose()),
            Err(failure) => ("error", failure.name()),
        };
        let state = flow.row.client_state.as_deref();
        Ok(Onward {
            location: return_to::with(&flow.return_to, state, name, value),
            cookie: None,
        })
    }

    /// The flow, deleted, where this is the browser that began it.
    async fn take_flow(&self, back: &Callback) -> Result<Option<Flow>, Stopped> {
        let Some(state) = back
            .state
            .as_deref()
            .filter(|state| state.len() <= PARAMETER)
        else {
            return Err(Stopped::Parameter(
                "`state` is missing or too long".to_owned(),
            ));
        };
        let state_digest = digest(state.as_bytes());
        let row = self
            .command(move |tx, now| Box::pin(take(tx, state_digest.to_vec(), now)))
            .await?;
        let cookie = back.cookie.as_ref().map(Secret::expose).unwrap_or_default();
        let cookie = digest(cookie.as_bytes());
        let Some(row) = row.filter(|row| equal(&row.cookie_digest, &cookie)) else {
            return Ok(None);
        };
        let place = start::place(&state_digest);
        let kept = self.0.keyring.open_system(&place, &row.sealed);
        let kept =
            kept.map_err(|error| CommandError::Internal(format!("a flow does not open: {error}")))?;
        let kept = serde_json::from_slice(&kept)
            .map_err(|error| CommandError::Internal(format!("a flow can't be read: {error}")))?;
        let return_to = Url::parse(&row.return_to)
            .map_err(|error| CommandError::Internal(format!("no way back: {error}")))?;
        Ok(Some(Flow {
            row,
            return_to,
            kept,
        }))
    }

    /// Counts a failure of the address.
    async fn failed_back(&self, context: &RequestContext) -> Result<(), CommandError> {
        let Some(address) = context.address else {
            return Ok(());
        };
        let address = attempts::address_key(&self.0.keyring, address);
        self.command(move |tx, now| {
            Box::pin(async move { attempts::count(tx, None, Some(&address), false, now).await })
        })
        .await
    }

    /// Whom the provider vouches for.
    async fn person(
        &self,
        provider: &Arc<Provider>,
        flow: &Flow,
        back: &Callback,
    ) -> Result<Person, Failure> {
        let config = provider.config();
        let name = &config.name;
        if flow.row.provider != *name {
            tracing::warn!(provider = %name, "an answer came to the address of another provider");
            return Err(Failure::InvalidResponse);
        }
        let known = provider.known_or_before().await?;
        let iss = back.iss.as_deref();
        if iss != Some(config.issuer.as_str()) && (iss.is_some() || known.names_itself()) {
            tracing::warn!(provider = %name, "an answer says that it is of another provider");
            return Err(Failure::InvalidResponse);
        }
        if let Some(error) = &back.error {
            let error: String = error
                .chars()
                .filter(char::is_ascii_graphic)
                .take(60)
                .collect();
            tracing::info!(provider = %name, error, "a provider signed nobody in");
            return Err(of_provider(&error));
        }
        let code = back.code.as_ref().map(Secret::expose).unwrap_or_default();
        if code.is_empty() || code.len() > PARAMETER {
            return Err(Failure::InvalidResponse);
        }
        let redirect = self.0.oidc.address(name, "callback");
        let client = provider.client(&known, redirect)?;
        let exchange = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|error| provider.tell(&error))?
            .set_pkce_verifier(PkceCodeVerifier::new(flow.kept.verifier.clone()));
        let answer = match exchange.request_async(&provider.asker()).await {
            Ok(answer) => answer,
            Err(RequestTokenError::Request(error)) => {
                return Err(provider.tell(&error).into());
            }
            Err(error) => {
                provider.tell(&error);
                return Err(Failure::InvalidResponse);
            }
        };
        let now = self.0.clock.now();
        let verified = match claims::verify(config, &known, &answer, &flow.kept.nonce, now) {
            Err(Untrusted::Key) => {
                let known = provider.with_new_keys(known).await?;
                claims::verify(config, &known, &answer, &flow.kept.nonce, now)
            }
            verified => verified,
        };
        let mut person = verified.map_err(|error| {
            provider.tell(&error);
            Failure::InvalidResponse
        })?;
        if !person.is_email_said
            && let Some(told) = provider.says_of(&client, &answer, &person.subject).await?
        {
            person.add(&told);
        }
        Ok(person)
    }

    /// Our code for that person, where there is an account for him or one may be made.
    async fn code_for(
        &self,
        provider: &Arc<Provider>,
        flow: &Flow,
        person: Person,
    ) -> Result<Result<Secret, Failure>, CommandError> {
        let code = self.random_text();
        let settling = Settling {
            clock: self.0.clock.clone(),
            keyring: self.0.keyring.clone(),
            flow: flow.row.clone(),
            believed_for: provider.config().email_domains.clone(),
            label: provider.config().label.clone(),
            digest: digest(code.expose().as_bytes()).to_vec(),
            person,
        };
        let mut settled = self.settle(settling.clone()).await;
        if is_taken(&settled) {
            // In another tab he has just been made; then he is there now.
            settled = self.settle(settling).await;
        }
        match settled {
            Ok(true) => Ok(Ok(code)),
            Ok(false) => Ok(Err(Failure::NoAccount)),
            // Somebody has the address already: an address takes over no account.
            settled if is_taken(&settled) => Ok(Err(Failure::NoAccount)),
            Err(error) => Err(error),
        }
    }

    async fn settle(&self, settling: Settling) -> Result<bool, CommandError> {
        let log = &self.0.log;
        log.command(Within::System(SCOPE), move |c| Box::pin(settling.settle(c)))
            .await
    }
}

fn is_taken(settled: &Result<bool, CommandError>) -> bool {
    matches!(settled, Err(CommandError::Database(error)) if failure(error) == db::Failure::Taken)
}

/// What a provider's error means to whoever comes back.
fn of_provider(error: &str) -> Failure {
    match error {
        "access_denied"
        | "login_required"
        | "consent_required"
        | "interaction_required"
        | "account_selection_required" => Failure::AccessDenied,
        "server_error" | "temporarily_unavailable" => Failure::Unavailable,
        _ => Failure::InvalidResponse,
    }
}

async fn take(
    tx: &Tx,
    state_digest: Vec<u8>,
    now: DateTime<Utc>,
) -> Result<Option<oidc_flow::Model>, CommandError> {
    let row = oidc_flow::Entity::anywhere(SCOPE)
        .filter(oidc_flow::Column::StateDigest.eq(state_digest.clone()))
        .one(&**tx)
        .await?;
    let gone = oidc_flow::Entity::delete_anywhere(SCOPE)
        .filter(oidc_flow::Column::StateDigest.eq(state_digest))
        .exec(&**tx)
        .await?;
    // Of two that come back with it at once, one deletes it.
    Ok(row.filter(|row| gone.rows_affected == 1 && row.expires_at > now))
}

/// Where the provider's token stands of whoever signs in by this identity.
pub(crate) fn token_place(identity: IdentityId) -> Place<'static> {
    Place {
        table: "sessions",
        column: "sealed_id_token",
        tenant: Uuid::nil(),
        row: identity.0,
    }
}

/// All that decides on an account.
#[derive(Clone)]
struct Settling {
    clock: SharedClock,
    keyring: Keyring,
    flow: oidc_flow::Model,
    believed_for: Vec<String>,
    label: String,
    digest: Vec<u8>,
    person: Person,
}

/// Whether he is a member by this way, from now on or since before.
async fn enters(c: &mut Command, way: &Way, user: UserId) -> Result<bool, CommandError> {
    let joining = join(c, way, user).await?;
    Ok(matches!(joining, Joining::Joined(_) | Joining::Was))
}

/// Who signs in, where, and by what.
type Account = (UserId, TenantId, IdentityId);

impl Settling {
    /// Writes the code; false where there is no account.
    async fn settle(self, c: &mut Command) -> Result<bool, CommandError> {
        let account = match self.flow.is_link {
            true => None,
            false => match self.account(c).await? {
                Some(account) => Some(account),
                None => return Ok(false),
            },
        };
        let token = self.person.token_to_keep().zip(account);
        let sealed = token.map(|(token, (.., identity))| {
            let place = token_place(identity);
            self.keyring.seal_system(&place, token.as_bytes())
        });
        let row = sign_in_code::Model {
            digest: self.digest,
            code_challenge: self.flow.code_challenge,
            user_id: account.map(|(user, ..)| user),
            tenant_id: account.map(|(_, tenant, _)| tenant),
            identity_id: account.map(|(.., identity)| identity),
            is_link: self.flow.is_link,
            provider: self.flow.provider,
            issuer: self.person.issuer,
            subject: self.person.subject,
            email: self.person.email,
            provider_sid: self.person.sid,
            sealed_id_token: sealed,
            expires_at: c.now() + CODE_LASTS,
        };
        sign_in_code::Entity::add(&**c.tx(), row).await?;
        Ok(true)
    }

    /// The account of this identity; else one that is made, where an invitation or a domain lets it in.
    async fn account(&self, c: &mut Command) -> Result<Option<Account>, CommandError> {
        let now = c.now();
        let email = self.person.email.as_deref().map(email_key);
        let invited = match &self.flow.invitation_digest {
            Some(digest) => joining::by_invitation(c.tx(), digest, email.as_deref(), now).await?,
            None => None,
        };
        let known = identity::Entity::anywhere(SCOPE)
            .filter(identity::Column::Issuer.eq(self.person.issuer.as_str()))
            .filter(identity::Column::Subject.eq(self.person.subject.as_str()))
            .one(&**c.tx())
            .await?;
        if let Some(known) = known {
            return self.known(c, known, invited, email).await;
        }
        let way = match (invited, &self.flow.invitation_digest, &email) {
            (Some(way), ..) => way,
            (None, None, Some(email)) => {
                match joining::by_domain(c.tx(), email, &self.believed_for).await? {
                    Some(way) => way,
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        let (user, identity) = (UserId(self.clock.uuid()), IdentityId(self.clock.uuid()));
        user::Entity::add(&**c.tx(), self.user(user, email, now)).await?;
        let row = identity::Model {
            id: identity,
            user_id: user,
            issuer: self.person.issuer.clone(),
            subject: self.person.subject.clone(),
            linked_at: now,
        };
        identity::Entity::add(&**c.tx(), row).await?;
        let joined = enters(c, &way, user).await?;
        Ok(joined.then_some((user, way.tenant, identity)))
    }

    /// An account that is there already. It joins where it may; else it goes where it was last.
    async fn known(
        &self,
        c: &mut Command,
        known: identity::Model,
        invited: Option<Way>,
        email: Option<String>,
    ) -> Result<Option<Account>, CommandError> {
        let user = user::Entity::anywhere(SCOPE)
            .filter(user::Column::Id.eq(known.user_id))
            .filter(user::Column::IsActive.eq(true))
            .one(&**c.tx())
            .await?;
        let Some(user) = user else { return Ok(None) };
        // A managed account is of its tenant for ever.
        let is_free = user.managed_tenant_id.is_none();
        if let Some(way) = invited.filter(|_| is_free)
            && enters(c, &way, user.id).await?
        {
            return Ok(Some((user.id, way.tenant, known.id)));
        }
        let there = memberships_of(SCOPE, &**c.tx(), user.id).await?;
        if let Some((_, tenant)) = there.first() {
            return Ok(Some((user.id, tenant.id, known.id)));
        }
        let way = match email.filter(|_| is_free) {
            Some(email) => joining::by_domain(c.tx(), &email, &self.believed_for).await?,
            None => None,
        };
        let Some(way) = way else { return Ok(None) };
        let joined = enters(c, &way, user.id).await?;
        Ok(joined.then_some((user.id, way.tenant, known.id)))
    }

    /// A free account, whose address is the one that was proved, or none.
    fn user(&self, id: UserId, email_key: Option<String>, now: DateTime<Utc>) -> user::Model {
        let name = self.person.name.clone();
        let local = |email: &String| email.split('@').next().unwrap_or_default().to_owned();
        let name = name.or_else(|| self.person.email.as_ref().map(local));
        user::Model {
            id,
            kind: UserKind::Person,
            name: name.unwrap_or_else(|| self.label.clone()),
            email: self.person.email.clone(),
            is_email_proven: email_key.is_some(),
            email_key,
            password_hash: None,
            managed_tenant_id: None,
            created_by_key_id: None,
            is_active: true,
            is_platform_administrator: false,
            last_seen_at: None,
            created_at: now,
            updated_at: now,
        }
    }
}
