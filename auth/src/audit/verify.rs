//! Whether the audit log is as it was written.

use std::fmt;

use adapters::sealing::Keyring;
use chrono::{DateTime, Utc};
use entities::{
    AuditEntryId, CommandError, Db, TenantId, audit_chain, audit_entry, audit_link, audit_pending,
    query::*, tenant,
};

use super::{SCOPE, chain};

/// Links that are read at once.
const AT_ONCE: u64 = 1_000;

/// Where a chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Break {
    /// The beginning was moved by somebody without the key.
    Floor,
    /// A link is not there.
    Gap {
        /// Its number.
        seq: i64,
    },
    /// The entry of a link is not there.
    Missing {
        /// The link's number.
        seq: i64,
        /// The entry.
        entry: AuditEntryId,
    },
    /// An entry, or its link, is not what it was.
    Changed {
        /// The link's number.
        seq: i64,
        /// The entry.
        entry: AuditEntryId,
    },
    /// An entry that no link leads to, and that none will.
    Foreign {
        /// The entry.
        entry: AuditEntryId,
    },
}

/// What was found of one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The tenant's slug; `None`: of the installation.
    pub tenant: Option<String>,
    /// Entries that were looked at.
    pub entries: i64,
    /// Entries that have no link yet, as they are too new.
    pub pending: u64,
    /// The number of the last link, and what the chain comes to with it: kept elsewhere, it shows later that nothing was cut off.
    pub head: (i64, Vec<u8>),
    /// When the first entry was written.
    pub since: Option<DateTime<Utc>>,
    /// Where it does not hold first.
    pub broken: Option<Break>,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Floor => f.write_str("its beginning was moved by somebody without the key"),
            Self::Gap { seq } => write!(f, "link {seq} is not there"),
            Self::Missing { seq, entry } => write!(f, "{entry}, of link {seq}, is not there"),
            Self::Changed { seq, entry } => {
                write!(f, "{entry}, or link {seq} to it, is not what it was")
            }
            Self::Foreign { entry } => write!(f, "no link leads to {entry}"),
        }
    }
}

#[cfg(test)]
impl crate::Authority {
    /// [`verify_audit`], once everything is linked.
    pub(super) async fn verify_audit(
        &self,
        slug: Option<&str>,
    ) -> Result<Vec<Checked>, CommandError> {
        self.link().await?;
        verify_audit(&self.0.db, &self.0.keyring, slug).await
    }
}

/// Goes through the chains of all tenants and the installation's, or through that of the tenant with this slug; there is none such
/// where nothing is answered. Entries that a running server has not linked yet are told as pending.
///
/// # Errors
/// The database can't be read; a key does not open.
pub async fn verify_audit(
    db: &Db,
    keyring: &Keyring,
    slug: Option<&str>,
) -> Result<Vec<Checked>, CommandError> {
    let mut tenants = tenant::Entity::anywhere(SCOPE);
    if let Some(slug) = slug {
        tenants = tenants.filter(tenant::Column::Slug.eq(slug));
    }
    let tenants = tenants
        .order_by_asc(tenant::Column::Slug)
        .all(db.reader(SCOPE))
        .await?;
    let mut chains: Vec<(TenantId, Option<String>)> = tenants
        .into_iter()
        .map(|row| (row.id, Some(row.slug)))
        .collect();
    if slug.is_none() {
        chains.push((events::audit::INSTALLATION, None));
    }
    let mut found = Vec::with_capacity(chains.len());
    for (tenant, slug) in chains {
        found.push(verify(db, keyring, tenant, slug).await?);
    }
    Ok(found)
}

async fn verify(
    db: &Db,
    keyring: &Keyring,
    tenant: TenantId,
    slug: Option<String>,
) -> Result<Checked, CommandError> {
    let db = db.reader(SCOPE);
    let pending = audit_pending::Entity::anywhere(SCOPE)
        .filter(audit_pending::Column::TenantId.eq(tenant))
        .count(db)
        .await?;
    let mut checked = Checked {
        tenant: slug,
        entries: 0,
        pending,
        head: (0, chain::NOTHING.to_vec()),
        since: None,
        broken: None,
    };
    let found = audit_chain::Entity::anywhere(SCOPE)
        .filter(audit_chain::Column::TenantId.eq(tenant))
        .one(db)
        .await?;
    if let Some(row) = found {
        let key = chain::open(keyring, &row)?;
        if key.proof(row.floor, &row.floor_mac)[..] != row.floor_proof[..] {
            checked.broken = Some(Break::Floor);
            return Ok(checked);
        }
        checked.head = (row.floor, row.floor_mac);
        loop {
            let links = audit_link::Entity::anywhere(SCOPE)
                .filter(audit_link::Column::TenantId.eq(tenant))
                .filter(audit_link::Column::Seq.gt(checked.head.0))
                .order_by_asc(audit_link::Column::Seq)
                .limit(AT_ONCE)
                .all(db)
                .await?;
            let rows = audit_entry::Entity::anywhere(SCOPE)
                .filter(audit_entry::Column::Id.is_in(links.iter().map(|link| link.entry_id)))
                .all(db)
                .await?;
            let is_last = (links.len() as u64) < AT_ONCE;
            for link in links {
                let seq = checked.head.0 + 1;
                if link.seq != seq {
                    checked.broken = Some(Break::Gap { seq });
                    return Ok(checked);
                }
                let entry = link.entry_id;
                let Some(row) = rows.iter().find(|row| row.id == entry) else {
                    checked.broken = Some(Break::Missing { seq, entry });
                    return Ok(checked);
                };
                if key.link(&checked.head.1, seq, row)[..] != link.mac[..] {
                    checked.broken = Some(Break::Changed { seq, entry });
                    return Ok(checked);
                }
                checked.since = checked.since.or(Some(row.at));
                checked.entries += 1;
                checked.head = (seq, link.mac);
            }
            if is_last {
                break;
            }
        }
    }
    let foreign = audit_entry::Entity::unlinked(SCOPE, db, tenant).await?;
    checked.broken = foreign.map(|entry| Break::Foreign { entry });
    Ok(checked)
}
