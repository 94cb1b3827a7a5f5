//! A token that lets a person choose a password: good once, for an hour. Whoever issues one never knows the password.

use adapters::sealing::{Secret, digest};
use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    CommandError, CredentialKind, Permission, Refusal, Scope, SessionId, SystemScope, TenantId, Tx,
    UserId, membership, password_reset,
    query::*,
    standing::{Standing, groups_of, memberships_of},
    user,
};
use serde::{Deserialize, Serialize};

use crate::{
    Authority, RequestContext, SignedIn,
    api_keys::by_session,
    attempts, audit, base62, passwords,
    rank::{NEEDS, outranks},
    sessions, sign_out,
};

const SCOPE: SystemScope = SystemScope::of("choosing a password by a token");
const WRONG: CommandError = CommandError::Unauthenticated("the token is not valid, or no longer");

/// What such tokens begin with.
pub const RESET_PREFIX: &str = "weft_pr_";
/// For how long one is good.
pub const RESET_LASTS: TimeDelta = TimeDelta::hours(1);

/// Whose password is to be chosen, and the token for it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reset {
    /// The account.
    pub user: UserId,
    /// The first time it is answered: it is nowhere else.
    #[serde(skip)]
    pub token: Option<Secret>,
}

/// What a password is chosen with.
#[derive(Debug, Clone)]
pub struct Redeem {
    /// As it was issued.
    pub token: Secret,
    /// At least 10 characters.
    pub new: Secret,
}

/// Random bytes as a token of this kind, and what of it is stored.
pub(crate) fn token(prefix: &str, random: &[u8; 32]) -> (Secret, Vec<u8>) {
    let token = Secret::new(format!("{prefix}{}", base62::encode(random)));
    let digest = digest(token.expose().as_bytes()).to_vec();
    (token, digest)
}

/// Issues a token for `user`, in place of those he has; he is signed in to `tenant` by it.
pub(crate) async fn issue(
    tx: &Tx,
    user: UserId,
    tenant: TenantId,
    random: &[u8; 32],
    now: DateTime<Utc>,
) -> Result<Secret, CommandError> {
    let (token, digest) = token(RESET_PREFIX, random);
    let over = Condition::any()
        .add(password_reset::Column::UserId.eq(user))
        .add(password_reset::Column::ExpiresAt.lte(now));
    password_reset::Entity::delete_anywhere(SCOPE)
        .filter(over)
        .exec(&**tx)
        .await?;
    let row = password_reset::Model {
        digest,
        user_id: user,
        tenant_id: tenant,
        expires_at: now + RESET_LASTS,
        created_at: now,
    };
    password_reset::Entity::add(&**tx, row).await?;
    Ok(token)
}

impl Authority {
    /// 256 random bits.
    pub(crate) fn random(&self) -> [u8; 32] {
        let mut random = [0; 32];
        self.0.clock.random(&mut random);
        random
    }

    /// Issues a token by which a user chooses a password: of an account that the tenant manages by who manages members and
    /// outranks it, of a free one by an administrator of the platform alone.
    ///
    /// # Errors
    /// NotFound where the caller does not see the user, Forbidden where he may not do this to him; [`CommandError::Forbidden`]
    /// where he came by a key.
    pub async fn reset_password(&self, scope: &Scope, id: UserId) -> Result<Reset, CommandError> {
        by_session(scope)?;
        let (by, random) = (scope.clone(), self.random());
        self.command_for(move |c| {
            Box::pin(async move {
                let path = &["input", "id"];
                let not_found = || Refusal::not_found(path, id);
                let of_platform = by.may(Permission::PlatformManage);
                let belongs = membership::Entity::in_tenant(&by)
                    .filter(membership::Column::UserId.eq(id))
                    .filter(membership::Column::EndedAt.is_null())
                    .one(&**c.tx())
                    .await?;
                // To a visitor nobody is there but whom the platform looks after.
                let belongs = belongs.filter(|_| by.role().is_some());
                let account = user::Entity::anywhere(SCOPE)
                    .filter(user::Column::Id.eq(id))
                    .filter(user::Column::Kind.eq(entities::UserKind::Person))
                    .lock_exclusive()
                    .one(&**c.tx())
                    .await?
                    .filter(|account| {
                        belongs.is_some() || of_platform && account.managed_tenant_id.is_none()
                    })
                    .ok_or_else(not_found)?;
                let tenant = match (account.managed_tenant_id, belongs) {
                    (Some(tenant), Some(belongs)) if tenant == by.tenant() => {
                        if !by.may(NEEDS) {
                            return Err(Refusal::forbidden(path, Some(NEEDS)).into());
                        }
                        if !outranks(by.role(), belongs.role) {
                            return Err(Refusal::forbidden(path, None).into());
                        }
                        tenant
                    }
                    _ if !of_platform => {
                        let needs = Some(Permission::PlatformManage);
                        return Err(Refusal::forbidden(path, needs).into());
                    }
                    (_, Some(belongs)) => belongs.tenant_id,
                    (_, None) => by.tenant(),
                };
                let token = issue(c.tx(), id, tenant, &random, c.now()).await?;
                Ok(Reset {
                    user: id,
                    token: Some(token),
                })
            })
        })
        .await
    }

    /// Sets the password that a token is good for, ends the user's other sessions, and signs him in.
    ///
    /// # Errors
    /// Refusals of the new password; [`CommandError::Unauthenticated`] for whatever is wrong with the token;
    /// [`CommandError::RateLimited`] for that after ten failures of an address within a minute.
    pub async fn redeem_password_reset(
        &self,
        input: Redeem,
        context: RequestContext,
    ) -> Result<SignedIn, CommandError> {
        passwords::acceptable(&["input", "newPassword"], &input.new)?;
        self.signing_key().await?;
        let digest = digest(input.token.expose().as_bytes()).to_vec();
        let key = context
            .address
            .map(|address| attempts::address_key(&self.0.keyring, address));
        let given = digest.clone();
        // Counted before it is looked at, taken back where it is good; nothing is hashed for one that is not.
        let is_good = self
            .command(move |tx, now| {
                Box::pin(async move {
                    attempts::count(tx, None, key.as_deref(), false, now).await?;
                    let is_good = find(tx, &given, now).await?.is_some();
                    if is_good && let Some(key) = key {
                        attempts::take_back(tx, &key, now).await?;
                    }
                    Ok(is_good)
                })
            })
            .await?;
        if !is_good {
            return Err(WRONG);
        }
        let hash = self.0.passwords.hash(input.new).await?;
        let session = SessionId(self.0.clock.uuid());
        let (clock, address) = (self.0.clock.clone(), context.address);
        let (standing, ended) = self
            .command(move |tx, now| {
                Box::pin(async move {
                    let row = find(tx, &digest, now).await?.ok_or(WRONG)?;
                    let (standing, ended) = redeem(tx, row, hash, session, &context, now).await?;
                    let action = "redeemPasswordReset";
                    audit::signed_in(tx, &clock, now, &standing, action, address).await?;
                    Ok((standing, ended))
                })
            })
            .await?;
        self.forget_sessions(&ended);
        self.issue(standing).await
    }
}

/// The token of this digest, if it is good, its row locked.
async fn find(
    tx: &Tx,
    digest: &[u8],
    now: DateTime<Utc>,
) -> Result<Option<password_reset::Model>, CommandError> {
    Ok(password_reset::Entity::anywhere(SCOPE)
        .filter(password_reset::Column::Digest.eq(digest))
        .filter(password_reset::Column::ExpiresAt.gt(now))
        .lock_exclusive()
        .one(&**tx)
        .await?)
}

async fn redeem(
    tx: &Tx,
    row: password_reset::Model,
    hash: String,
    session: SessionId,
    context: &RequestContext,
    now: DateTime<Utc>,
) -> Result<(Standing, Vec<SessionId>), CommandError> {
    let memberships = memberships_of(SCOPE, &**tx, row.user_id).await?;
    let there = memberships
        .iter()
        .position(|(membership, _)| membership.tenant_id == row.tenant_id)
        .unwrap_or(0);
    let (membership, tenant) = memberships.into_iter().nth(there).ok_or(WRONG)?;
    let account = user::Entity::anywhere(SCOPE)
        .filter(user::Column::Id.eq(row.user_id))
        .filter(user::Column::IsActive.eq(true))
        .lock_exclusive()
        .one(&**tx)
        .await?
        .ok_or(WRONG)?;
    let gone = password_reset::Entity::delete_anywhere(SCOPE)
        .filter(password_reset::Column::UserId.eq(row.user_id))
        .exec(&**tx)
        .await?;
    if gone.rows_affected == 0 {
        return Err(WRONG);
    }
    user::Entity::change_anywhere(SCOPE)
        .filter(user::Column::Id.eq(account.id))
        .set(user::ActiveModel {
            password_hash: Set(Some(hash)),
            last_seen_at: Set(Some(now)),
            updated_at: Set(now),
            ..Default::default()
        })
        .exec(&**tx)
        .await?;
    membership::Entity::change_anywhere(SCOPE)
        .filter(membership::Column::Id.eq(membership.id))
        .set(membership::ActiveModel {
            last_used_at: Set(Some(now)),
            last_seen_at: Set(Some(now)),
            ..Default::default()
        })
        .exec(&**tx)
        .await?;
    let ended = sign_out::live(tx, account.id, now).await?;
    sign_out::end(tx, &ended, now).await?;
    let session = sessions::begin(
        tx,
        session,
        account.id,
        tenant.id,
        CredentialKind::PasswordSession,
        context,
        now,
    )
    .await?;
    let standing = Standing {
        user: account,
        session: Some(session),
        key: None,
        groups: groups_of(&**tx, &membership).await?,
        tenant: Some(tenant),
        membership: Some(membership),
    };
    Ok((standing, ended))
}
