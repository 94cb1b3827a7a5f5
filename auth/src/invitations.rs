//! Invitations into a tenant: a token of 256 random bits, of which the digest is stored. Whoever holds it joins with what the
//! inviter may still give at that time.

use adapters::sealing::{Secret, digest};
use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    CommandError, CredentialKind, GroupId, InvitationId, MembershipId, Permission, Refusal, Role,
    Scope, SessionId, SystemScope, TenantId, Tx, UserId, UserKind, Within, input,
    invitation::{self, FAILURES},
    invitation_group, membership,
    query::*,
    standing::{InTenant, Standing, groups_of, of_session},
    tenant, user,
};
use events::Command;
use serde::{Deserialize, Serialize};

use crate::{
    Authority, Identity, RequestContext, SignedIn,
    api_keys::by_session,
    attempts, audit,
    joining::{self, Joining, Way},
    members::named_groups,
    passwords,
    rank::{NEEDS, grants, outranks},
    resets, sessions,
    set_up::{EMAIL, email, email_key},
    sign_in::{WRONG, knows},
};

const SCOPE: SystemScope = SystemScope::of("invitations");

/// What their tokens begin with.
pub const INVITATION_PREFIX: &str = "weft_in_";
/// For how long one is good at most; above MEMBER.
const LASTS: TimeDelta = TimeDelta::days(7);
const LASTS_ABOVE: TimeDelta = TimeDelta::hours(72);
/// How often one may be accepted at most.
const USES: i32 = 1_000;

/// The token is none, or no longer one. One answer.
const NONE: CommandError =
    CommandError::Unauthenticated("the invitation is not valid, or no longer");

/// An invitation to be.
#[derive(Debug, Clone)]
pub struct NewInvitation {
    /// The only address that may accept it.
    pub email: Option<String>,
    /// What whoever accepts it becomes.
    pub role: Role,
    /// The groups that he becomes a MEMBER of.
    pub groups: Vec<GroupId>,
    /// How often it may be accepted; above MEMBER once.
    pub uses: i32,
    /// Within seven days, above MEMBER within 72 hours; left out: as late as may be.
    pub expires_at: Option<DateTime<Utc>>,
}

/// An invitation that was made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Invited {
    /// Its id.
    pub id: InvitationId,
    /// The first time it is answered: it is nowhere else.
    #[serde(skip)]
    pub token: Option<Secret>,
}

/// What an invitation is accepted with.
#[derive(Debug, Clone)]
pub struct Accept {
    /// As it was made.
    pub token: Secret,
    /// Of an account that is there or to be; of whoever is signed in already none of these is asked.
    pub email: Option<String>,
    /// Of an account to be.
    pub name: Option<String>,
    /// Of the account.
    pub password: Option<Secret>,
}

/// A good invitation, with its tenant.
pub(crate) struct Open {
    pub(crate) row: invitation::Model,
    pub(crate) tenant: tenant::Model,
}

/// The invitation of a token's digest, if it can be accepted, its row locked. What its maker may no longer give is not good either.
pub(crate) async fn open(
    tx: &Tx,
    digest: &[u8],
    now: DateTime<Utc>,
) -> Result<Option<Open>, CommandError> {
    let row = invitation::Entity::anywhere(SCOPE)
        .filter(invitation::Column::Digest.eq(digest))
        .filter(invitation::Column::RevokedAt.is_null())
        .filter(invitation::Column::UsesLeft.gt(0))
        .filter(invitation::Column::ExpiresAt.gt(now))
        .lock_exclusive()
        .one(&**tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let tenant = tenant::Entity::anywhere(SCOPE)
        .filter(tenant::Column::Id.eq(row.tenant_id))
        .filter(tenant::Column::IsActive.eq(true))
        .one(&**tx)
        .await?;
    let inviter = user::Entity::anywhere(SCOPE)
        .filter(user::Column::Id.eq(row.invited_by))
        .filter(user::Column::IsActive.eq(true))
        .one(&**tx)
        .await?;
    let still_may = match inviter {
        None => false,
        Some(inviter) if row.by_platform => inviter.is_platform_administrator,
        Some(inviter) => membership::Entity::anywhere(SCOPE)
            .filter(membership::Column::TenantId.eq(row.tenant_id))
            .filter(membership::Column::UserId.eq(inviter.id))
            .filter(membership::Column::IsActive.eq(true))
            .filter(membership::Column::EndedAt.is_null())
            .one(&**tx)
            .await?
            .is_some_and(|now| {
                let rights = entities::Permissions::of(now.role);
                rights.has(NEEDS) && outranks(Some(now.role), row.role)
            }),
    };
    Ok(tenant
        .filter(|_| still_may)
        .map(|tenant| Open { row, tenant }))
}

/// Uses an open invitation up once, for `user`, who joins by it. A membership that ended begins anew.
///
/// # Errors
/// A Conflict where he is a member; Forbidden where the tenant has suspended him.
async fn join(
    c: &mut Command,
    open: &Open,
    user: UserId,
) -> Result<membership::Model, CommandError> {
    let path = &["input", "token"];
    match joining::join(c, &Way::by(open.row.clone()), user).await? {
        Joining::Joined(membership) => Ok(membership),
        Joining::Was => {
            let message = "you are a member of the tenant already";
            Err(Refusal::conflict(path, message, None).into())
        }
        Joining::MayNot => Err(Refusal::forbidden(path, None).into()),
    }
}

/// Whether the invitation admits this address.
pub(crate) fn admits(row: &invitation::Model, email_key: Option<&str>) -> bool {
    row.email_key
        .as_deref()
        .is_none_or(|bound| Some(bound) == email_key)
}

impl Authority {
    /// Makes an invitation into the caller's tenant; an administrator of the platform invites an OWNER into any.
    ///
    /// # Errors
    /// [`CommandError::Forbidden`] without the right to manage members; refusals of the input, of a role that the caller does not
    /// grant among them.
    pub async fn create_invitation(
        &self,
        scope: &Scope,
        new: NewInvitation,
    ) -> Result<Invited, CommandError> {
        let visits = scope.role().is_none() && scope.may(Permission::PlatformManage);
        if !visits && !scope.may(NEEDS) {
            return Err(CommandError::Forbidden(Some(NEEDS)));
        }
        let now = self.0.clock.now();
        let is_above = new.role > Role::Member;
        let longest = if is_above { LASTS_ABOVE } else { LASTS };
        let expires_at = new.expires_at.unwrap_or(now + longest);
        let mut refusals = Vec::new();
        if let Some(address) = &new.email {
            refusals.extend(email(&["input", "email"], address).err());
        }
        let may_grant = if visits {
            (new.role == Role::Owner)
                .then_some(())
                .ok_or_else(|| Refusal::forbidden(&["input", "role"], None))
        } else {
            grants(scope, new.role, &["input", "role"])
        };
        refusals.extend(may_grant.err());
        let most = if is_above { 1 } else { USES };
        refusals.extend(input::range(&["input", "uses"], new.uses.into(), 1, most.into()).err());
        let path = &["input", "expiresAt"];
        if expires_at <= now {
            refusals.push(Refusal::invalid(path, "expiresAt must be in the future"));
        } else if expires_at > now + longest {
            let hours = (expires_at - now).num_hours();
            let limit = longest.num_hours();
            let message = format!(
                "expiresAt is {hours} hours from now, at most {limit} are allowed for this role"
            );
            refusals.push(Refusal::beyond(path, message, limit, hours));
        }
        if !refusals.is_empty() {
            return Err(CommandError::Refused(refusals));
        }
        let (token, digest) = resets::token(INVITATION_PREFIX, &self.random());
        let by = scope.clone();
        self.command_for(move |c| {
            Box::pin(async move {
                named_groups(c, &by, &new.groups).await?;
                let id = InvitationId(c.clock().uuid());
                c.about(id);
                let row = invitation::Model {
                    id,
                    tenant_id: by.tenant(),
                    digest,
                    email_key: new.email.as_deref().map(email_key),
                    email: new.email.map(|address| address.trim().to_owned()),
                    role: new.role,
                    uses: new.uses,
                    uses_left: new.uses,
                    failures: 0,
                    invited_by: by.user(),
                    by_platform: visits,
                    expires_at,
                    revoked_at: None,
                    created_at: c.now(),
                };
                invitation::Entity::add(&**c.tx(), row).await?;
                let mut groups = new.groups;
                groups.sort_unstable_by_key(|id| id.0);
                groups.dedup();
                let rows = groups.into_iter().map(|group_id| invitation_group::Model {
                    tenant_id: by.tenant(),
                    invitation_id: id,
                    group_id,
                });
                invitation_group::Entity::add_all(&**c.tx(), rows.collect()).await?;
                Ok(Invited {
                    id,
                    token: Some(token),
                })
            })
        })
        .await
    }

    /// Takes an invitation back. One that is over stays as it is.
    ///
    /// # Errors
    /// [`CommandError::Forbidden`] without the right to manage members; NotFound; Forbidden for one whose role the caller does not
    /// grant.
    pub async fn revoke_invitation(
        &self,
        scope: &Scope,
        id: InvitationId,
    ) -> Result<InvitationId, CommandError> {
        let visits = scope.role().is_none() && scope.may(Permission::PlatformManage);
        if !visits && !scope.may(NEEDS) {
            return Err(CommandError::Forbidden(Some(NEEDS)));
        }
        let by = scope.clone();
        self.command_for(move |c| {
            Box::pin(async move {
                let path = &["input", "id"];
                let row = invitation::Entity::in_tenant(&by)
                    .filter(invitation::Column::Id.eq(id))
                    .lock_exclusive()
                    .one(&**c.tx())
                    .await?
                    .filter(|row| !visits || row.by_platform)
                    .ok_or_else(|| Refusal::not_found(path, id))?;
                if !visits {
                    grants(&by, row.role, path)?;
                }
                invitation::Entity::change_in(&by)
                    .filter(invitation::Column::Id.eq(id))
                    .filter(invitation::Column::RevokedAt.is_null())
                    .set(invitation::ActiveModel {
                        revoked_at: Set(Some(c.now())),
                        ..Default::default()
                    })
                    .exec(&**c.tx())
                    .await?;
                Ok(id)
            })
        })
        .await
    }

    /// Joins a tenant as whoever is signed in: a free account, by its person.
    ///
    /// # Errors
    /// [`CommandError::Unauthenticated`] where the invitation is not good, or not for him; a Conflict where he is a member;
    /// Forbidden for an account that a tenant manages, and where he is suspended; [`CommandError::Forbidden`] where he came by a
    /// key.
    pub async fn join(
        &self,
        identity: &Identity,
        token: &Secret,
        context: &RequestContext,
    ) -> Result<Identity, CommandError> {
        let session = by_session(identity.scope())?;
        let (account, by) = (identity.user().clone(), identity.scope().clone());
        let digest = digest(token.expose().as_bytes()).to_vec();
        if account.managed_tenant_id.is_some() {
            return Err(Refusal::forbidden(&["input", "token"], None).into());
        }
        self.count_guess(context).await?;
        let (clock, address) = (self.0.clock.clone(), context.address);
        let at = self.0.clock.instant();
        let standing = self
            .0
            .log
            .command::<_, CommandError, _>(Within::System(SCOPE), move |c| {
                Box::pin(async move {
                    let now = c.now();
                    let open = open(c.tx(), &digest, now).await?;
                    let open = open
                        .filter(|open| admits(&open.row, account.email_key.as_deref()))
                        .ok_or(NONE)?;
                    let membership = join(c, &open, account.id).await?;
                    let (db, named) = (&**c.tx(), InTenant::Id(membership.tenant_id));
                    let standing = of_session(SCOPE, db, session, named).await?.ok_or(NONE)?;
                    let action = "acceptInvitation";
                    audit::signed_in(c.tx(), &clock, now, &standing, action, address).await?;
                    Ok(standing)
                })
            })
            .await?;
        self.forgive_guess(context).await?;
        self.forget_user(by.user());
        Identity::of(standing, identity.expires_at(), at).ok_or(NONE)
    }

    /// Joins a tenant as somebody who is not signed in: by the password of the free account that has the address, or by an account
    /// that is made.
    ///
    /// # Errors
    /// Refusals of the input; [`CommandError::Unauthenticated`] where the invitation is not good, or not for that address, and
    /// for a wrong password as when signing in: ten of these spend the invitation; [`CommandError::RateLimited`] as when signing
    /// in.
    pub async fn accept_invitation(
        &self,
        given: Accept,
        context: RequestContext,
    ) -> Result<SignedIn, CommandError> {
        let missing = |field: &'static str| {
            let message = format!("{field} is needed by whoever is not signed in");
            Refusal::invalid(&["input", field], message)
        };
        let (address, password) = match (given.email, given.password) {
            (Some(address), Some(password)) => (address, password),
            (None, _) => return Err(missing("email").into()),
            (_, None) => return Err(missing("password").into()),
        };
        input::text(&["input", "email"], &address, EMAIL)?;
        email(&["input", "email"], &address)?;
        passwords::possible(&["input", "password"], &password)?;
        if let Some(name) = &given.name {
            input::filled(&["input", "name"], name, input::NAME)?;
        }
        self.signing_key().await?;
        self.count_guess(&context).await?;
        let key = email_key(&address);
        let digest = digest(given.token.expose().as_bytes()).to_vec();
        let counted = attempts::account_key(&self.0.keyring, &key);
        let by_address = context
            .address
            .map(|address| attempts::address_key(&self.0.keyring, address));
        let (token, of, account) = (digest.clone(), key.clone(), counted.clone());
        // Nothing is hashed for an invitation that is none.
        let known = self
            .command(move |tx, now| {
                Box::pin(async move {
                    let open = open(tx, &token, now).await?;
                    open.filter(|open| admits(&open.row, Some(&of)))
                        .ok_or(NONE)?;
                    let known = free_account(tx, &of).await?;
                    if known.is_some() {
                        let exempt = knows(tx, known.as_ref(), by_address.as_deref()).await?;
                        attempts::count(tx, Some(&account), None, exempt, now).await?;
                    }
                    Ok(known)
                })
            })
            .await?;
        let (hash, name) = match &known {
            Some(account) => {
                let hash = account.password_hash.clone();
                if !self.0.passwords.verify(password, hash).await? {
                    let failed = digest.clone();
                    self.command(move |tx, _| Box::pin(fail(tx, failed)))
                        .await?;
                    return Err(WRONG);
                }
                (None, None)
            }
            None => {
                let name = given.name.ok_or_else(|| missing("name"))?;
                passwords::acceptable(&["input", "password"], &password)?;
                (Some(self.0.passwords.hash(password).await?), Some(name))
            }
        };
        let session = SessionId(self.0.clock.uuid());
        let (clock, from) = (self.0.clock.clone(), context.address);
        let as_it_was = context.clone();
        let standing = self
            .0
            .log
            .command::<_, CommandError, _>(Within::System(SCOPE), move |c| {
                Box::pin(async move {
                    let now = c.now();
                    let open = open(c.tx(), &digest, now).await?;
                    let open = open
                        .filter(|open| admits(&open.row, Some(&key)))
                        .ok_or(NONE)?;
                    let account = match (known, hash, name) {
                        (Some(known), _, _) => still(c, known).await?,
                        (None, Some(hash), Some(name)) => make(c, &address, name, hash).await?,
                        (None, _, _) => return Err(NONE),
                    };
                    attempts::forgive(c.tx(), &counted, None, now).await?;
                    let membership = join(c, &open, account.id).await?;
                    let begun = begin(c, account, membership, open.tenant, session, &context);
                    let standing = begun.await?;
                    let action = "acceptInvitation";
                    audit::signed_in(c.tx(), &clock, now, &standing, action, from).await?;
                    Ok(standing)
                })
            })
            .await?;
        self.forgive_guess(&as_it_was).await?;
        self.issue(standing).await
    }

    /// Counts an attempt by the client's address, until it proves to have been a good one.
    pub(crate) async fn count_guess(&self, context: &RequestContext) -> Result<(), CommandError> {
        let Some(address) = context.address else {
            return Ok(());
        };
        let key = attempts::address_key(&self.0.keyring, address);
        self.command(move |tx, now| {
            Box::pin(async move { attempts::count(tx, None, Some(&key), false, now).await })
        })
        .await
    }

    /// Takes it back.
    pub(crate) async fn forgive_guess(&self, context: &RequestContext) -> Result<(), CommandError> {
        let Some(address) = context.address else {
            return Ok(());
        };
        let key = attempts::address_key(&self.0.keyring, address);
        self.command(move |tx, now| {
            Box::pin(async move { attempts::take_back(tx, &key, now).await })
        })
        .await
    }
}

async fn free_account(tx: &Tx, email_key: &str) -> Result<Option<user::Model>, CommandError> {
    Ok(user::Entity::anywhere(SCOPE)
        .filter(user::Column::EmailKey.eq(email_key))
        .filter(user::Column::ManagedTenantId.is_null())
        .one(&**tx)
        .await?)
}

/// One more wrong password came with the invitation.
async fn fail(tx: &Tx, digest: Vec<u8>) -> Result<(), CommandError> {
    let spent = Expr::cust(format!(
        "case when failures + 1 >= {FAILURES} then 0 else uses_left end"
    ));
    invitation::Entity::change_anywhere(SCOPE)
        .filter(invitation::Column::Digest.eq(digest))
        .col_expr(invitation::Column::Failures, Expr::cust("failures + 1"))
        .col_expr(invitation::Column::UsesLeft, spent)
        .exec(&**tx)
        .await?;
    Ok(())
}

/// The account whose password was right, if it is still that one.
async fn still(c: &Command, known: user::Model) -> Result<user::Model, CommandError> {
    let now = user::Entity::anywhere(SCOPE)
        .filter(user::Column::Id.eq(known.id))
        .lock_exclusive()
        .one(&**c.tx())
        .await?;
    now.filter(|now| now.is_active && now.password_hash == known.password_hash)
        .ok_or(WRONG)
}

async fn make(
    c: &Command,
    address: &str,
    name: String,
    hash: String,
) -> Result<user::Model, CommandError> {
    let row = user::Model {
        id: UserId(c.clock().uuid()),
        kind: UserKind::Person,
        name: name.trim().to_owned(),
        email: Some(address.trim().to_owned()),
        email_key: Some(email_key(address)),
        password_hash: Some(hash),
        managed_tenant_id: None,
        is_email_proven: false,
        created_by_key_id: None,
        is_active: true,
        is_platform_administrator: false,
        last_seen_at: Some(c.now()),
        created_at: c.now(),
        updated_at: c.now(),
    };
    // Of two who accept for one address at once, the second comes again and finds the account.
    user::Entity::add(&**c.tx(), row.clone()).await?;
    Ok(row)
}

async fn begin(
    c: &Command,
    account: user::Model,
    membership: membership::Model,
    tenant: tenant::Model,
    session: SessionId,
    context: &RequestContext,
) -> Result<Standing, CommandError> {
    let now = c.now();
    used(c.tx(), membership.id, now).await?;
    let kind = CredentialKind::PasswordSession;
    let of: (UserId, TenantId) = (account.id, tenant.id);
    let session = sessions::begin(c.tx(), session, of.0, of.1, kind, context, now).await?;
    Ok(Standing {
        user: account,
        session: Some(session),
        key: None,
        groups: groups_of(&**c.tx(), &membership).await?,
        tenant: Some(tenant),
        membership: Some(membership),
    })
}

/// That a membership is the one last used.
async fn used(tx: &Tx, id: MembershipId, now: DateTime<Utc>) -> Result<(), CommandError> {
    membership::Entity::change_anywhere(SCOPE)
        .filter(membership::Column::Id.eq(id))
        .set(membership::ActiveModel {
            last_used_at: Set(Some(now)),
            last_seen_at: Set(Some(now)),
            ..Default::default()
        })
        .exec(&**tx)
        .await?;
    Ok(())
}
