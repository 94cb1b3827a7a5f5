//! What whoever runs the program may do to accounts without being signed in, from a process of its own beside the server.

use adapters::{clock::SharedClock, sealing::Secret};
use chrono::{DateTime, Utc};
use entities::{
    AuditOutcome, CommandError, Db, DbErr, SystemScope, TenantId, Tx, UserId, Within, query::*,
    standing::memberships_of, tenant, user,
};
use events::audit::{self, Entry, INSTALLATION};

use crate::{RESET_LASTS, platform, resets, set_up::email_key};

const SCOPE: SystemScope = SystemScope::of("commands of the operator");

/// Why an operator's command did nothing: one line, for him.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// Nobody made the first user yet.
    #[error("nobody has set this installation up yet")]
    NotSetUp,
    /// There is no tenant of that slug.
    #[error("no tenant has the slug {0:?}")]
    NoTenant(String),
    /// No free account has the address.
    #[error("no account has the e-mail address {email:?}{}", managed(*.is_managed))]
    NoAccount {
        /// As it was given.
        email: String,
        /// Whether a tenant manages one that has it.
        is_managed: bool,
    },
    /// The tenant manages none that has the address.
    #[error("the tenant {slug:?} manages no account with the e-mail address {email:?}")]
    NotManaged {
        /// As it was given.
        email: String,
        /// The tenant's slug.
        slug: String,
    },
    /// It may not be used.
    #[error("the account {0:?} is deactivated")]
    Deactivated(String),
    /// There is no tenant that it could be signed in to.
    #[error("the account {0:?} is a member of no tenant that may be used")]
    Nowhere(String),
    /// Nobody would be left.
    #[error("{0:?} is the last administrator of the platform: name another one first")]
    LastAdministrator(String),
    /// The database can't be used.
    #[error("failed to use the database: {0}")]
    Failed(#[source] CommandError),
}

fn managed(is_managed: bool) -> &'static str {
    match is_managed {
        true => {
            ", but for one that a tenant manages: its password is reset with `--tenant SLUG`, and it can't administer the platform"
        }
        false => "",
    }
}

impl<E: Into<CommandError>> From<E> for OperatorError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A token that lets somebody choose a password.
#[derive(Debug)]
pub struct IssuedReset {
    /// The token; it is nowhere else.
    pub token: Secret,
    /// Until when it is good.
    pub expires_at: DateTime<Utc>,
    /// The address of the account, as its person wrote it.
    pub email: String,
    /// The slug of the tenant that it signs in to.
    pub tenant: String,
}

/// Makes a token by which the person of an account chooses a password: of the account that the tenant with the slug `tenant`
/// manages, else of the free one with that address.
///
/// # Errors
/// See [`OperatorError`].
pub async fn reset_password(
    db: &Db,
    clock: &SharedClock,
    email: &str,
    tenant: Option<&str>,
) -> Result<IssuedReset, OperatorError> {
    let tx = db.begin(Within::System(SCOPE)).await?;
    let account = find(&tx, email, tenant).await?;
    if !account.is_active {
        return Err(OperatorError::Deactivated(email.to_owned()));
    }
    let memberships = memberships_of(SCOPE, &*tx, account.id).await?;
    let (_, place) = memberships
        .into_iter()
        .find(|(_, place)| account.managed_tenant_id.is_none_or(|of| of == place.id))
        .ok_or_else(|| OperatorError::Nowhere(email.to_owned()))?;
    let now = clock.now();
    let mut random = [0; 32];
    clock.random(&mut random);
    let token = resets::issue(&tx, account.id, place.id, &random, now).await?;
    note(&tx, clock, "admin reset-password", place.id, account.id).await?;
    tx.commit().await?;
    Ok(IssuedReset {
        token,
        expires_at: now + RESET_LASTS,
        email: account.email.unwrap_or_else(|| email.to_owned()),
        tenant: place.slug,
    })
}

/// Makes the free account with that address an administrator of the platform, or no longer one. Whether that changed anything.
///
/// # Errors
/// See [`OperatorError`].
pub async fn set_platform_administrator(
    db: &Db,
    clock: &SharedClock,
    email: &str,
    is_administrator: bool,
) -> Result<bool, OperatorError> {
    let tx = db.begin(Within::System(SCOPE)).await?;
    let account = find(&tx, email, None).await?;
    if is_administrator && !account.is_active {
        return Err(OperatorError::Deactivated(email.to_owned()));
    }
    match platform::set(&tx, account.id, is_administrator, clock.now()).await? {
        platform::Outcome::WasSo => Ok(false),
        platform::Outcome::Last => Err(OperatorError::LastAdministrator(email.to_owned())),
        platform::Outcome::Done => {
            note(&tx, clock, "admin grant-platform", INSTALLATION, account.id).await?;
            tx.commit().await?;
            Ok(true)
        }
    }
}

/// Adds to the audit log that the secret key was changed.
pub(crate) async fn note_rotation(tx: &Tx, clock: &SharedClock) -> Result<(), DbErr> {
    note(tx, clock, "rotate-key", INSTALLATION, None).await
}

/// Adds to the audit log what the operator did.
async fn note(
    tx: &Tx,
    clock: &SharedClock,
    action: &str,
    tenant: TenantId,
    user: impl Into<Option<UserId>>,
) -> Result<(), DbErr> {
    let entry = Entry {
        tenant,
        actor: None,
        api_key: None,
        on_behalf_of: None,
        action: action.to_owned(),
        target: user.into().map(|user: UserId| user.to_string()),
        outcome: AuditOutcome::Allowed,
        address: None,
        details: serde_json::json!({ "fields": [] }),
    };
    audit::write(tx, clock, clock.now(), entry).await
}

/// The account that is meant. Nobody is to be told less than there is to know: who asks has the database.
async fn find(tx: &Tx, email: &str, slug: Option<&str>) -> Result<user::Model, OperatorError> {
    let with_it = user::Entity::anywhere(SCOPE)
        .filter(user::Column::EmailKey.eq(email_key(email)))
        .all(&**tx)
        .await?;
    let of = match slug {
        Some(slug) => {
            let tenant = tenant::Entity::anywhere(SCOPE)
                .filter(tenant::Column::Slug.eq(slug))
                .one(&**tx)
                .await?;
            let tenant = tenant.ok_or_else(|| OperatorError::NoTenant(slug.to_owned()))?;
            Some(tenant.id)
        }
        None => None,
    };
    let is_managed = with_it.iter().any(|one| one.managed_tenant_id.is_some());
    let found = with_it.into_iter().find(|one| one.managed_tenant_id == of);
    match (found, slug) {
        (Some(account), _) => Ok(account),
        (None, Some(slug)) => Err(OperatorError::NotManaged {
            email: email.to_owned(),
            slug: slug.to_owned(),
        }),
        (None, None) if !is_managed && is_empty(tx).await? => Err(OperatorError::NotSetUp),
        (None, None) => Err(OperatorError::NoAccount {
            email: email.to_owned(),
            is_managed,
        }),
    }
}

async fn is_empty(tx: &Tx) -> Result<bool, CommandError> {
    let one = user::Entity::anywhere(SCOPE).one(&**tx).await?;
    Ok(one.is_none())
}

#[cfg(test)]
mod tests;
