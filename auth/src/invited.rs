//! What an invitation offers, to whoever has its token.

use adapters::sealing::digest;
use chrono::{DateTime, Utc};
use entities::{CommandError, InvitationStatus, Role, SystemScope, invitation, query::*, tenant};

use crate::Authority;

const SCOPE: SystemScope = SystemScope::of("whoever has an invitation belongs to no tenant yet");

/// What an invitation offers, and nothing else of the tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitedTo {
    /// Name of the tenant.
    pub tenant_name: String,
    /// What whoever accepts it becomes.
    pub role: Role,
    /// The only address that may accept it.
    pub email: Option<String>,
    /// Whether it can be accepted.
    pub status: InvitationStatus,
    /// When it runs out.
    pub expires_at: DateTime<Utc>,
}

impl Authority {
    /// What the invitation with this token offers; `None`: there is none, or its tenant is suspended.
    ///
    /// # Errors
    /// What the database says.
    pub async fn invited_to(&self, token: &str) -> Result<Option<InvitedTo>, CommandError> {
        let db = self.0.db.reader(SCOPE);
        let digest = digest(token.as_bytes()).to_vec();
        let row = invitation::Entity::anywhere(SCOPE)
            .filter(invitation::Column::Digest.eq(digest))
            .one(db)
            .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let into = tenant::Entity::anywhere(SCOPE)
            .filter(tenant::Column::Id.eq(row.tenant_id))
            .filter(tenant::Column::IsActive.eq(true))
            .one(db)
            .await?;
        let now = self.0.clock.now();
        Ok(into.map(|tenant| InvitedTo {
            tenant_name: tenant.name,
            role: row.role,
            status: row.status(now),
            email: row.email,
            expires_at: row.expires_at,
        }))
    }
}
