//! An invitation into a tenant. The token is not here, only its digest.

#![expect(
    missing_docs,
    reason = "the query library derives items that take no comments"
)]

use chrono::{DateTime, Utc};
use sea_orm::entity::prelude::*;

use crate::{InvitationId, InvitationStatus, Role, TenantId, UserId};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "invitations")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: InvitationId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// SHA-256 of the token.
    #[sea_orm(column_type = "Blob")]
    pub digest: Vec<u8>,
    /// The only address that may accept it, as it was given.
    #[sea_orm(column_type = "Text", nullable)]
    pub email: Option<String>,
    /// The same in lower case, for comparing.
    #[sea_orm(column_type = "Text", nullable)]
    pub email_key: Option<String>,
    /// What whoever accepts it becomes.
    pub role: Role,
    /// How often it could be accepted.
    pub uses: i32,
    /// How often it still can.
    pub uses_left: i32,
    /// Wrong passwords that came with it.
    pub failures: i32,
    /// Who made it.
    pub invited_by: UserId,
    /// Whether he did so as an administrator of the platform.
    pub by_platform: bool,
    /// When it runs out.
    pub expires_at: DateTime<Utc>,
    /// When it was taken back.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Wrong passwords that spend an invitation.
pub const FAILURES: i32 = 10;

impl Model {
    /// Whether it can be accepted at `now`, and why not.
    #[must_use]
    pub fn status(&self, now: DateTime<Utc>) -> InvitationStatus {
        if self.revoked_at.is_some() || self.failures >= FAILURES {
            InvitationStatus::Revoked
        } else if self.uses_left <= 0 {
            InvitationStatus::Accepted
        } else if self.expires_at <= now {
            InvitationStatus::Expired
        } else {
            InvitationStatus::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn what_ended_it_first_is_said() {
        let now = DateTime::<Utc>::UNIX_EPOCH;
        let open = Model {
            id: InvitationId(Uuid::nil()),
            tenant_id: TenantId(Uuid::nil()),
            digest: Vec::new(),
            email: None,
            email_key: None,
            role: Role::Member,
            uses: 2,
            uses_left: 1,
            failures: 0,
            invited_by: UserId(Uuid::nil()),
            by_platform: false,
            expires_at: now + TimeDelta::seconds(1),
            revoked_at: None,
            created_at: now,
        };
        assert_eq!(open.status(now), InvitationStatus::Open);
        assert_eq!(open.status(open.expires_at), InvitationStatus::Expired);
        let used = Model {
            uses_left: 0,
            ..open.clone()
        };
        assert_eq!(used.status(used.expires_at), InvitationStatus::Accepted);
        let guessed = Model {
            failures: FAILURES,
            ..used.clone()
        };
        assert_eq!(guessed.status(now), InvitationStatus::Revoked);
        let revoked = Model {
            revoked_at: Some(now),
            ..used
        };
        assert_eq!(revoked.status(now), InvitationStatus::Revoked);
    }
}
