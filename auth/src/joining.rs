//! How somebody becomes a member of a tenant: by an invitation, whichever way he signs in, or by a domain that the tenant trusts a
//! provider for.

use entities::{
    CommandError, ResourceKind, Role, SystemScope, TenantId, UserId, invitation, invitation_group,
    membership, query::*,
};
use events::Command;

use crate::members::{joined, put_into, seen_by};

const SCOPE: SystemScope = SystemScope::of("joining a tenant");

/// Where somebody may join, and as what.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) tenant: TenantId,
    pub(crate) role: Role,
    /// The invitation, its row locked; without one it is by a domain.
    pub(crate) by: Option<invitation::Model>,
}

impl Way {
    /// By an invitation that is open.
    pub(crate) fn by(invitation: invitation::Model) -> Self {
        Self {
            tenant: invitation.tenant_id,
            role: invitation.role,
            by: Some(invitation),
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Joining {
    /// He is a member from now on.
    Joined(membership::Model),
    /// He was one before, stays what he is, and has used nothing up.
    Was,
    /// He may not: the tenant has suspended him, or has ended his membership and did not invite him anew.
    MayNot,
}

/// Makes `user` a member by this way, with the groups of an invitation, which is used up once. A membership that ended begins anew
/// by an invitation alone: a domain would undo each removal. One that is suspended stays so, whatever became of it since.
pub(crate) async fn join(
    c: &mut Command,
    way: &Way,
    user: UserId,
) -> Result<Joining, CommandError> {
    let there = membership::Entity::anywhere(SCOPE)
        .filter(membership::Column::TenantId.eq(way.tenant))
        .filter(membership::Column::UserId.eq(user))
        .lock_exclusive()
        .one(&**c.tx())
        .await?;
    let membership = match there {
        None => joined(c, way.tenant, user, way.role).await?,
        Some(there) if !there.is_active => return Ok(Joining::MayNot),
        Some(there) if there.ended_at.is_none() => return Ok(Joining::Was),
        Some(_) if way.by.is_none() => return Ok(Joining::MayNot),
        Some(there) => again(c, there, way.role).await?,
    };
    if let Some(invitation) = &way.by {
        use_up(c, invitation).await?;
        let groups = invitation_group::Entity::anywhere(SCOPE)
            .filter(invitation_group::Column::InvitationId.eq(invitation.id))
            .all(&**c.tx())
            .await?;
        let groups = groups.into_iter().map(|row| row.group_id).collect();
        put_into(c, &membership, groups).await?;
    }
    Ok(Joining::Joined(membership))
}

async fn again(
    c: &mut Command,
    there: membership::Model,
    role: Role,
) -> Result<membership::Model, CommandError> {
    let again = membership::Model {
        role,
        ended_at: None,
        updated_at: c.now(),
        ..there
    };
    membership::Entity::change_anywhere(SCOPE)
        .filter(membership::Column::Id.eq(again.id))
        .set(membership::ActiveModel {
            role: Set(again.role),
            ended_at: Set(None),
            updated_at: Set(again.updated_at),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    let (kind, after) = (ResourceKind::Membership, seen_by(again.user_id));
    c.changed_in(again.tenant_id, kind, again.id.0, None, after);
    Ok(again)
}

async fn use_up(c: &Command, invitation: &invitation::Model) -> Result<(), CommandError> {
    let used = invitation::Entity::change_anywhere(SCOPE)
        .filter(invitation::Column::Id.eq(invitation.id))
        .filter(invitation::Column::UsesLeft.eq(invitation.uses_left))
        .set(invitation::ActiveModel {
            uses_left: Set(invitation.uses_left - 1),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    match used.rows_affected {
        1 => Ok(()),
        _ => Err(CommandError::Internal(
            "a locked invitation was used by somebody else".into(),
        )),
    }
}
