//! Whether the audit log is as it was written.

use chrono::{DateTime, Utc};
use entities::{
    AuditEntryId, CommandError, TenantId, audit_chain, audit_entry, audit_link, audit_pending,
    query::*, tenant,
};

use super::SCOPE;
use crate::Authority;

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

impl Authority {
    /// Goes through the chains of all tenants, or of the one with this slug, and the installation's.
    ///
    /// # Errors
    /// The database can't be read; a key does not open; there is no such tenant.
    pub async fn verify_audit(&self, slug: Option<&str>) -> Result<Vec<Checked>, CommandError> {
        let db = self.0.db.reader(SCOPE);
        // What was noted and not linked yet is linked first.
        self.link().await?;
        let mut tenants = tenant::Entity::anywhere(SCOPE);
        if let Some(slug) = slug {
            tenants = tenants.filter(tenant::Column::Slug.eq(slug));
        }
        let tenants = tenants.order_by_asc(tenant::Column::Slug).all(db).await?;
        let mut chains: Vec<(TenantId, Option<String>)> = tenants
            .into_iter()
            .map(|row| (row.id, Some(row.slug)))
            .collect();
        if slug.is_none() {
            chains.push((events::audit::INSTALLATION, None));
        }
        let mut found = Vec::with_capacity(chains.len());
        for (tenant, slug) in chains {
            found.push(self.verify(tenant, slug).await?);
        }
        Ok(found)
    }

    async fn verify(
        &self,
        tenant: TenantId,
        slug: Option<String>,
    ) -> Result<Checked, CommandError> {
        let db = self.0.db.reader(SCOPE);
        let pending = audit_pending::Entity::anywhere(SCOPE)
            .filter(audit_pending::Column::TenantId.eq(tenant))
            .count(db)
            .await?;
        let mut checked = Checked {
            tenant: slug,
            entries: 0,
            pending,
            head: (0, super::chain::NOTHING.to_vec()),
            since: None,
            broken: None,
        };
        let chain = audit_chain::Entity::anywhere(SCOPE)
            .filter(audit_chain::Column::TenantId.eq(tenant))
            .one(db)
            .await?;
        if let Some(chain) = chain {
            let key = self.open_chain(&chain)?;
            if key.proof(chain.floor, &chain.floor_mac)[..] != chain.floor_proof[..] {
                checked.broken = Some(Break::Floor);
                return Ok(checked);
            }
            checked.head = (chain.floor, chain.floor_mac);
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
}
