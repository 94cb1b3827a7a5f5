//! The people of a tenant: accounts that it manages, what they are in it, and whether they may act.

use adapters::sealing::Secret;
use entities::{
    Audience, CommandError, GroupId, GroupMemberId, MembershipId, Reference, Refusal, ResourceKind,
    Role, Scope, SessionId, SystemScope, UserId, UserKind,
    db::{Failure, failure},
    group, group_member, input, membership,
    query::*,
    session, share, sharing, user,
};
use events::Command;
use serde::{Deserialize, Serialize};

use crate::{
    Authority,
    api_keys::by_session,
    rank::{self, NEEDS, grants, manages, outranks},
    resets,
    set_up::{email, email_key},
    sign_out,
};

const SCOPE: SystemScope = SystemScope::of("the people of a tenant");

/// Groups that somebody is put into at once.
pub(crate) const GROUPS: usize = 100;

/// An account that the tenant manages.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Unique among those that the tenant manages.
    pub email: String,
    /// Shown to people, at most 200 characters.
    pub name: String,
    /// What it is in the tenant.
    pub role: Role,
    /// The groups that it is a MEMBER of.
    pub groups: Vec<GroupId>,
}

/// An account that was made.
#[derive(Debug, Serialize, Deserialize)]
pub struct NewMember {
    /// That it belongs to the tenant.
    pub membership: MembershipId,
    /// By which the person chooses a password; the first time it is answered, and to a session alone.
    #[serde(skip)]
    pub token: Option<Secret>,
}

/// Who sees a membership: who manages members, and whose it is.
pub(crate) fn seen_by(user: UserId) -> Option<Audience> {
    Some(Audience::owner(user))
}

/// Says in the tenant's `changes` that a membership changed.
pub(crate) fn changed(c: &mut Command, row: &membership::Model) {
    let seen_by = seen_by(row.user_id);
    c.changed_in(
        row.tenant_id,
        ResourceKind::Membership,
        row.id.0,
        seen_by.clone(),
        seen_by,
    );
}

/// Groups of the tenant that an input names, all of them there and seen by the caller.
pub(crate) async fn named_groups(
    c: &Command,
    scope: &Scope,
    groups: &[GroupId],
) -> Result<(), CommandError> {
    let given = groups.len();
    if given > GROUPS {
        let message = format!("groupIds has {given} entries, at most {GROUPS} are allowed");
        let (limit, actual) = (GROUPS as i64, i64::try_from(given).unwrap_or(i64::MAX));
        return Err(Refusal::beyond(&["input", "groupIds"], message, limit, actual).into());
    }
    if groups.is_empty() {
        return Ok(());
    }
    let there = group::Entity::in_tenant(scope)
        .filter(group::Column::Id.is_in(groups.iter().copied()))
        .all(&**c.tx())
        .await?;
    let mut refusals = Vec::new();
    for (at, id) in groups.iter().enumerate() {
        if !there.iter().any(|row| row.id == *id) {
            let at = at.to_string();
            refusals.push(Refusal::not_found(&["input", "groupIds", &at], *id));
        }
    }
    if refusals.is_empty() {
        Ok(())
    } else {
        Err(CommandError::Refused(refusals))
    }
}

/// Makes a user a MEMBER of groups that he is not in yet.
pub(crate) async fn put_into(
    c: &Command,
    membership: &membership::Model,
    mut groups: Vec<GroupId>,
) -> Result<(), CommandError> {
    groups.sort_unstable_by_key(|id| id.0);
    groups.dedup();
    let of_tenant = group_member::Entity::anywhere(SCOPE)
        .filter(group_member::Column::TenantId.eq(membership.tenant_id))
        .filter(group_member::Column::UserId.eq(membership.user_id));
    let there = of_tenant.all(&**c.tx()).await?;
    groups.retain(|id| !there.iter().any(|row| row.group_id == *id));
    let rows = groups.into_iter().map(|group_id| group_member::Model {
        id: GroupMemberId(c.clock().uuid()),
        tenant_id: membership.tenant_id,
        group_id,
        user_id: membership.user_id,
        role: Role::Member,
        created_at: c.now(),
        updated_at: c.now(),
    });
    Ok(group_member::Entity::add_all(&**c.tx(), rows.collect()).await?)
}

/// A member that the caller acts on, the tenant's row and his locked; `named` is how the input names him.
async fn acted_on(
    c: &Command,
    scope: &Scope,
    named: Condition,
    not_found: impl Fn() -> Refusal,
) -> Result<(membership::Model, user::Model), CommandError> {
    rank::lock_tenant(c.tx(), scope).await?;
    let row = membership::Entity::in_tenant(scope)
        .filter(named)
        .filter(membership::Column::EndedAt.is_null())
        .lock_exclusive()
        .one(&**c.tx())
        .await?
        .ok_or_else(&not_found)?;
    let account = user::Entity::anywhere(SCOPE)
        .filter(user::Column::Id.eq(row.user_id))
        .lock_exclusive()
        .one(&**c.tx())
        .await?
        .ok_or_else(not_found)?;
    Ok((row, account))
}

const PATH: &[&str] = &["input", "id"];

impl Authority {
    /// Makes an account that the caller's tenant manages, and a token by which its person chooses a password.
    ///
    /// # Errors
    /// [`CommandError::Forbidden`] without the right to manage members; refusals of the input: of a role that the caller does not
    /// grant, of an address that a member has.
    pub async fn create_user(
        &self,
        scope: &Scope,
        new: NewUser,
    ) -> Result<NewMember, CommandError> {
        manages(scope)?;
        let refusals: Vec<_> = [
            email(&["input", "email"], &new.email).err(),
            input::filled(&["input", "name"], &new.name, input::NAME).err(),
            grants(scope, new.role, &["input", "role"]).err(),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !refusals.is_empty() {
            return Err(CommandError::Refused(refusals));
        }
        let (by, random) = (scope.clone(), self.random());
        self.command_for(move |c| Box::pin(async move { create(c, &by, new, &random).await }))
            .await
    }

    /// Changes what a member is.
    ///
    /// # Errors
    /// [`CommandError::Forbidden`] without the right to manage members; NotFound; Forbidden for a role, of then or from now on,
    /// that the caller does not act on; a Conflict where no OWNER would be left.
    pub async fn update_membership(
        &self,
        scope: &Scope,
        id: MembershipId,
        role: Role,
    ) -> Result<MembershipId, CommandError> {
        manages(scope)?;
        let by = scope.clone();
        let (user, id) = self
            .command_for(move |c| {
                Box::pin(async move {
                    let named = Condition::all().add(membership::Column::Id.eq(id));
                    let not_found = || Refusal::not_found(PATH, id);
                    let (row, account) = acted_on(c, &by, named, not_found).await?;
                    if !outranks(by.role(), row.role) {
                        return Err(Refusal::forbidden(PATH, None).into());
                    }
                    grants(&by, role, &["input", "role"])?;
                    if account.kind == UserKind::Service {
                        let message =
                            "what a service key may is in the key; its account has no other role";
                        return Err(Refusal::invalid(PATH, message).into());
                    }
                    if row.role == Role::Owner && role != Role::Owner {
                        rank::another_owner(c.tx(), &by, row.user_id, &["input", "role"]).await?;
                    }
                    membership::Entity::change_in(&by)
                        .filter(membership::Column::Id.eq(id))
                        .set(membership::ActiveModel {
                            role: Set(role),
                            updated_at: Set(c.now()),
                            ..Default::default()
                        })
                        .exec(&**c.tx())
                        .await?;
                    changed(c, &row);
                    Ok((row.user_id, id))
                })
            })
            .await?;
        self.forget_user(user);
        Ok(id)
    }

    /// Ends a membership: the user acts in the tenant no more, and what he made stays. Anybody may end his own, but for an account
    /// that the tenant manages.
    ///
    /// # Errors
    /// As [`Authority::update_membership`].
    pub async fn remove_membership(
        &self,
        scope: &Scope,
        id: MembershipId,
    ) -> Result<MembershipId, CommandError> {
        let by = scope.clone();
        let (user, id) = self
            .command_for(move |c| {
                Box::pin(async move {
                    let named = Condition::all().add(membership::Column::Id.eq(id));
                    let not_found = || Refusal::not_found(PATH, id);
                    let (row, account) = acted_on(c, &by, named, not_found).await?;
                    let leaves = row.user_id == by.user() && account.managed_tenant_id.is_none();
                    if row.user_id != by.user() && !by.may(NEEDS) {
                        return Err(not_found().into());
                    }
                    if leaves {
                        by_session(&by)?;
                    } else if !by.may(NEEDS) {
                        return Err(Refusal::forbidden(PATH, Some(NEEDS)).into());
                    } else if !outranks(by.role(), row.role) {
                        return Err(Refusal::forbidden(PATH, None).into());
                    }
                    if row.role == Role::Owner {
                        rank::another_owner(c.tx(), &by, row.user_id, PATH).await?;
                    }
                    end(c, &by, &row).await?;
                    Ok((row.user_id, id))
                })
            })
            .await?;
        self.forget_user(user);
        Ok(id)
    }

    /// Deactivates a user or brings him back: an account that the tenant manages wholly, another's membership in this tenant.
    ///
    /// # Errors
    /// As [`Authority::update_membership`].
    pub async fn set_user_active(
        &self,
        scope: &Scope,
        id: UserId,
        is_active: bool,
    ) -> Result<UserId, CommandError> {
        manages(scope)?;
        let by = scope.clone();
        self.command_for(move |c| {
            Box::pin(async move {
                let named = Condition::all().add(membership::Column::UserId.eq(id));
                let not_found = || Refusal::not_found(PATH, id);
                let (row, account) = acted_on(c, &by, named, not_found).await?;
                if !outranks(by.role(), row.role) {
                    return Err(Refusal::forbidden(PATH, None).into());
                }
                if row.role == Role::Owner && !is_active {
                    rank::another_owner(c.tx(), &by, row.user_id, PATH).await?;
                }
                if account.managed_tenant_id == Some(by.tenant()) {
                    user::Entity::change_anywhere(SCOPE)
                        .filter(user::Column::Id.eq(id))
                        .set(user::ActiveModel {
                            is_active: Set(is_active),
                            updated_at: Set(c.now()),
                            ..Default::default()
                        })
                        .exec(&**c.tx())
                        .await?;
                } else {
                    membership::Entity::change_in(&by)
                        .filter(membership::Column::Id.eq(row.id))
                        .set(membership::ActiveModel {
                            is_active: Set(is_active),
                            updated_at: Set(c.now()),
                            ..Default::default()
                        })
                        .exec(&**c.tx())
                        .await?;
                }
                changed(c, &row);
                Ok(())
            })
        })
        .await?;
        self.forget_user(id);
        Ok(id)
    }

    /// Ends the sessions of a user, and answers which: of an account that the tenant manages all, of another those that are in this tenant.
    ///
    /// # Errors
    /// As [`Authority::update_membership`]; [`CommandError::Forbidden`] where the caller came by a key.
    pub async fn revoke_user_sessions(
        &self,
        scope: &Scope,
        id: UserId,
    ) -> Result<Vec<SessionId>, CommandError> {
        by_session(scope)?;
        manages(scope)?;
        let by = scope.clone();
        let ended = self
            .command_for(move |c| {
                Box::pin(async move {
                    let named = Condition::all().add(membership::Column::UserId.eq(id));
                    let not_found = || Refusal::not_found(PATH, id);
                    let (row, account) = acted_on(c, &by, named, not_found).await?;
                    if id != by.user() && !outranks(by.role(), row.role) {
                        return Err(Refusal::forbidden(PATH, None).into());
                    }
                    let mut ended = sign_out::live(c.tx(), id, c.now()).await?;
                    if account.managed_tenant_id != Some(by.tenant()) {
                        let here = session::Entity::anywhere(SCOPE)
                            .filter(session::Column::UserId.eq(id))
                            .filter(session::Column::TenantId.eq(by.tenant()))
                            .all(&**c.tx())
                            .await?;
                        ended.retain(|id| here.iter().any(|row| row.id == *id));
                    }
                    sign_out::end(c.tx(), &ended, c.now()).await?;
                    Ok(ended)
                })
            })
            .await?;
        self.forget_sessions(&ended);
        Ok(ended)
    }
}

async fn create(
    c: &mut Command,
    by: &Scope,
    new: NewUser,
    random: &[u8; 32],
) -> Result<NewMember, CommandError> {
    let path = &["input", "email"];
    rank::lock_tenant(c.tx(), by).await?;
    named_groups(c, by, &new.groups).await?;
    let key = email_key(&new.email);
    if let Some(there) = member_with(c, by, &key).await? {
        let conflicting = Some(Reference {
            prefix: MembershipId::PREFIX,
            id: there.0,
        });
        let message = "a member of the tenant has this address";
        return Err(Refusal::conflict(path, message, conflicting).into());
    }
    let id = UserId(c.clock().uuid());
    let account = user::Model {
        id,
        kind: UserKind::Person,
        name: new.name.trim().to_owned(),
        email: Some(new.email.trim().to_owned()),
        email_key: Some(key),
        password_hash: None,
        managed_tenant_id: Some(by.tenant()),
        is_email_proven: false,
        created_by_key_id: None,
        is_active: true,
        is_platform_administrator: false,
        last_seen_at: None,
        created_at: c.now(),
        updated_at: c.now(),
    };
    user::Entity::add(&**c.tx(), account)
        .await
        .map_err(|error| match failure(&error) {
            Failure::Taken => {
                let message = "an account that was a member of the tenant has this address";
                CommandError::from(Refusal::conflict(path, message, None))
            }
            Failure::Transient | Failure::Permanent => error.into(),
        })?;
    let row = joined(c, by.tenant(), id, new.role).await?;
    put_into(c, &row, new.groups).await?;
    // A key that leaked must not become a session.
    let token = match by_session(by) {
        Ok(_) => Some(resets::issue(c.tx(), id, by.tenant(), random, c.now()).await?),
        Err(_) => None,
    };
    Ok(NewMember {
        membership: row.id,
        token,
    })
}

/// A member of the tenant with this address.
async fn member_with(
    c: &Command,
    scope: &Scope,
    email_key: &str,
) -> Result<Option<MembershipId>, CommandError> {
    let whose = Condition::any()
        .add(user::Column::ManagedTenantId.is_null())
        .add(user::Column::ManagedTenantId.eq(scope.tenant()));
    let accounts = user::Entity::anywhere(SCOPE)
        .filter(user::Column::EmailKey.eq(email_key))
        .filter(whose)
        .all(&**c.tx())
        .await?;
    let row = membership::Entity::in_tenant(scope)
        .filter(membership::Column::UserId.is_in(accounts.iter().map(|account| account.id)))
        .filter(membership::Column::EndedAt.is_null())
        .one(&**c.tx())
        .await?;
    Ok(row.map(|row| row.id))
}

/// A new membership.
pub(crate) async fn joined(
    c: &mut Command,
    tenant: entities::TenantId,
    user: UserId,
    role: Role,
) -> Result<membership::Model, CommandError> {
    let row = membership::Model {
        id: MembershipId(c.clock().uuid()),
        tenant_id: tenant,
        user_id: user,
        role,
        is_active: true,
        last_used_at: None,
        last_seen_at: None,
        ended_at: None,
        created_at: c.now(),
        updated_at: c.now(),
    };
    membership::Entity::add(&**c.tx(), row.clone()).await?;
    let after = seen_by(user);
    c.changed_in(tenant, ResourceKind::Membership, row.id.0, None, after);
    Ok(row)
}

/// Ends a membership, and what was given to the user by it: his groups, and what others share with him.
async fn end(c: &mut Command, by: &Scope, row: &membership::Model) -> Result<(), CommandError> {
    membership::Entity::change_in(by)
        .filter(membership::Column::Id.eq(row.id))
        .set(membership::ActiveModel {
            ended_at: Set(Some(c.now())),
            updated_at: Set(c.now()),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    group_member::Entity::delete_in(by)
        .filter(group_member::Column::UserId.eq(row.user_id))
        .exec(&**c.tx())
        .await?;
    let shared = share::Entity::in_tenant(by)
        .filter(share::Column::UserId.eq(row.user_id))
        .all(&**c.tx())
        .await?;
    share::Entity::delete_in(by)
        .filter(share::Column::UserId.eq(row.user_id))
        .exec(&**c.tx())
        .await?;
    let shared = shared.iter().map(|share| (share.kind, share.resource_id));
    reach_anew(c, by, shared.collect()).await?;
    c.changed_in(
        row.tenant_id,
        ResourceKind::Membership,
        row.id.0,
        seen_by(row.user_id),
        None,
    );
    Ok(())
}

/// Writes beside resources whom they reach by now, and says so in the tenant's `changes`.
pub(crate) async fn reach_anew(
    c: &mut Command,
    by: &Scope,
    those: Vec<(ResourceKind, uuid::Uuid)>,
) -> Result<(), CommandError> {
    for kind in [
        ResourceKind::Agent,
        ResourceKind::Model,
        ResourceKind::Conversation,
    ] {
        let ids: Vec<_> = those
            .iter()
            .filter(|(of, _)| *of == kind)
            .map(|(_, id)| *id)
            .collect();
        if ids.is_empty() {
            continue;
        }
        for reached in sharing::renew(&**c.tx(), by.tenant(), kind, &ids).await? {
            let (before, after) = (Some(reached.before), Some(reached.after));
            c.changed(by, kind, reached.id, before, after);
        }
    }
    Ok(())
}
