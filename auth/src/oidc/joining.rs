//! How somebody whom a provider vouches for becomes a member: by an invitation, or by a domain that a tenant trusts the provider
//! for. Nobody joins by an address that was not proved.

use adapters::clock::SharedClock;
use chrono::{DateTime, Utc};
use entities::{
    CommandError, GroupMemberId, MembershipId, Role, TenantId, Tx, UserId, auto_join_domain,
    group_member, invitation, invitation_group, membership, query::*, tenant,
};

use super::SCOPE;
use crate::invitations;

/// Where somebody may join, and as what.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) tenant: TenantId,
    role: Role,
    by: Option<invitation::Model>,
}

/// Where an invitation leads, if it is good for whoever has proved `email`. Its row is locked.
pub(super) async fn by_invitation(
    tx: &Tx,
    digest: &[u8],
    email: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Option<Way>, CommandError> {
    let open = invitations::open(tx, digest, now).await?;
    let open = open.filter(|open| invitations::admits(&open.row, email));
    Ok(open.map(|open| Way {
        tenant: open.row.tenant_id,
        role: open.row.role,
        by: Some(open.row),
    }))
}

/// Where the domain of a proven address leads, if the provider is believed for it.
pub(super) async fn by_domain(
    tx: &Tx,
    email: &str,
    believed_for: &[String],
) -> Result<Option<Way>, CommandError> {
    let Some((_, domain)) = email.rsplit_once('@') else {
        return Ok(None);
    };
    if !believed_for.iter().any(|believed| believed == domain) {
        return Ok(None);
    }
    let row = auto_join_domain::Entity::anywhere(SCOPE)
        .filter(auto_join_domain::Column::Domain.eq(domain))
        .one(&**tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(is_active(tx, row.tenant_id).await?.then_some(Way {
        tenant: row.tenant_id,
        role: Role::Member,
        by: None,
    }))
}

async fn is_active(tx: &Tx, id: TenantId) -> Result<bool, CommandError> {
    let tenant = tenant::Entity::anywhere(SCOPE)
        .filter(tenant::Column::Id.eq(id))
        .filter(tenant::Column::IsActive.eq(true))
        .one(&**tx)
        .await?;
    Ok(tenant.is_some())
}

/// Makes the user a member by this way; false where he may not become one, since he is suspended there. Who is one already stays
/// what he is, and uses nothing up.
pub(super) async fn join(
    tx: &Tx,
    clock: &SharedClock,
    user: UserId,
    way: &Way,
    now: DateTime<Utc>,
) -> Result<bool, CommandError> {
    let before = membership::Entity::anywhere(SCOPE)
        .filter(membership::Column::TenantId.eq(way.tenant))
        .filter(membership::Column::UserId.eq(user))
        .lock_exclusive()
        .one(&**tx)
        .await?;
    match before {
        Some(before) if before.ended_at.is_none() => return Ok(before.is_active),
        // Only who is invited comes back: a domain would undo each removal.
        Some(_) if way.by.is_none() => return Ok(false),
        Some(before) => {
            membership::Entity::change_anywhere(SCOPE)
                .set(membership::ActiveModel {
                    role: Set(way.role),
                    is_active: Set(true),
                    ended_at: Set(None),
                    updated_at: Set(now),
                    ..Default::default()
                })
                .filter(membership::Column::Id.eq(before.id))
                .exec(&**tx)
                .await?;
        }
        None => {
            let row = membership::Model {
                id: MembershipId(clock.uuid()),
                tenant_id: way.tenant,
                user_id: user,
                role: way.role,
                is_active: true,
                last_used_at: None,
                last_seen_at: None,
                ended_at: None,
                created_at: now,
                updated_at: now,
            };
            membership::Entity::add(&**tx, row).await?;
        }
    }
    let Some(invitation) = &way.by else {
        return Ok(true);
    };
    let used = invitation::Entity::change_anywhere(SCOPE)
        .col_expr(
            invitation::Column::UsesLeft,
            Expr::value(invitation.uses_left - 1),
        )
        .filter(invitation::Column::Id.eq(invitation.id))
        .filter(invitation::Column::UsesLeft.eq(invitation.uses_left))
        .exec(&**tx)
        .await?;
    if used.rows_affected != 1 {
        return Err(CommandError::Internal(
            "a locked invitation was used by somebody else".into(),
        ));
    }
    join_groups(tx, clock, user, invitation, now).await?;
    Ok(true)
}

async fn join_groups(
    tx: &Tx,
    clock: &SharedClock,
    user: UserId,
    invitation: &invitation::Model,
    now: DateTime<Utc>,
) -> Result<(), CommandError> {
    let groups = invitation_group::Entity::anywhere(SCOPE)
        .filter(invitation_group::Column::InvitationId.eq(invitation.id))
        .all(&**tx)
        .await?;
    let there = group_member::Entity::anywhere(SCOPE)
        .filter(group_member::Column::TenantId.eq(invitation.tenant_id))
        .filter(group_member::Column::UserId.eq(user))
        .all(&**tx)
        .await?;
    let new = groups
        .into_iter()
        .filter(|row| there.iter().all(|there| there.group_id != row.group_id))
        .map(|row| group_member::Model {
            id: GroupMemberId(clock.uuid()),
            tenant_id: row.tenant_id,
            group_id: row.group_id,
            user_id: user,
            role: Role::Member,
            created_at: now,
            updated_at: now,
        });
    group_member::Entity::add_all(&**tx, new.collect()).await?;
    Ok(())
}
