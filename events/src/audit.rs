//! What the audit log is told: written in the transaction of what was done, and never changed. A trigger of the database notes
//! each entry for its tenant's chain, whoever wrote it.

use adapters::clock::SharedClock;
use chrono::{DateTime, SubsecRound, Utc};
use entities::{ApiKeyId, AuditEntryId, AuditOutcome, DbErr, TenantId, Tx, UserId, audit_entry};
use uuid::Uuid;

/// In place of a tenant: of the installation, where nobody knows of which tenant it is.
pub const INSTALLATION: TenantId = TenantId(Uuid::nil());

/// That something was done, or refused.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where.
    pub tenant: TenantId,
    /// Who did it: of a key that acts for somebody, the key's account.
    pub actor: Option<UserId>,
    /// By which key.
    pub api_key: Option<ApiKeyId>,
    /// For whom a key acted.
    pub on_behalf_of: Option<UserId>,
    /// What, as the graph names it.
    pub action: String,
    /// With what, as clients write its id.
    pub target: Option<String>,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// From which address.
    pub address: Option<String>,
    /// Names of what changed, and never values.
    pub details: serde_json::Value,
}

/// Adds an entry, as of `now`.
///
/// # Errors
/// What the database says.
pub async fn write(
    tx: &Tx,
    clock: &SharedClock,
    now: DateTime<Utc>,
    entry: Entry,
) -> Result<(), DbErr> {
    let row = audit_entry::Model {
        id: AuditEntryId(clock.uuid()),
        tenant_id: entry.tenant,
        // As fine as every database keeps it: the chain is made of what is read again.
        at: now.trunc_subsecs(6),
        actor_id: entry.actor,
        api_key_id: entry.api_key,
        on_behalf_of_id: entry.on_behalf_of,
        action: entry.action,
        target_id: entry.target,
        outcome: entry.outcome,
        address: entry.address,
        details: entry.details,
    };
    audit_entry::Entity::add(&**tx, row).await
}
