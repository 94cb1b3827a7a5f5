//! What stands in the audit log for longer than it is kept.

use chrono::{DateTime, Utc};
use entities::{
    CommandError, TenantId, Tx, Within, audit_chain, audit_entry, audit_link, query::*,
};

use super::SCOPE;
use crate::Authority;

/// Entries that one transaction lets go of.
const AT_ONCE: u64 = 1_000;

impl Authority {
    /// Lets go of the entries written before a time, from the beginning of each chain, whose floor moves up to what is left.
    pub(crate) async fn expire_audit(&self, before: DateTime<Utc>) -> Result<u64, CommandError> {
        let chains = audit_chain::Entity::anywhere(SCOPE)
            .all(self.0.db.reader(SCOPE))
            .await?;
        let mut gone = 0;
        for chain in chains {
            let tenant = chain.tenant_id;
            // Mostly nothing is old enough: that costs no transaction.
            if !self.begins_before(tenant, before).await? {
                continue;
            }
            loop {
                let inner = self.0.clone();
                // What runs may add to the log and read it, no more.
                let some = self
                    .0
                    .log
                    .command::<_, CommandError, _>(Within::Owner(SCOPE), move |c| {
                        Box::pin(async move {
                            let authority = Self::from_inner(inner);
                            authority.expire_in(c.tx(), tenant, before).await
                        })
                    })
                    .await?;
                gone += some;
                if some < AT_ONCE {
                    break;
                }
            }
        }
        Ok(gone)
    }

    /// Whether the first entry of a chain was written before a time.
    async fn begins_before(
        &self,
        tenant: TenantId,
        before: DateTime<Utc>,
    ) -> Result<bool, CommandError> {
        let old = audit_entry::Entity::anywhere(SCOPE)
            .filter(audit_entry::Column::TenantId.eq(tenant))
            .filter(audit_entry::Column::At.lt(before))
            .one(self.0.db.reader(SCOPE))
            .await?;
        Ok(old.is_some())
    }

    async fn expire_in(
        &self,
        tx: &Tx,
        tenant: TenantId,
        before: DateTime<Utc>,
    ) -> Result<u64, CommandError> {
        let row = audit_chain::Entity::anywhere(SCOPE)
            .filter(audit_chain::Column::TenantId.eq(tenant))
            .lock_exclusive()
            .one(&**tx)
            .await?;
        let Some(row) = row else { return Ok(0) };
        let key = self.open_chain(&row)?;
        let links = audit_link::Entity::anywhere(SCOPE)
            .filter(audit_link::Column::TenantId.eq(tenant))
            .order_by_asc(audit_link::Column::Seq)
            .limit(AT_ONCE)
            .all(&**tx)
            .await?;
        let entries = audit_entry::Entity::anywhere(SCOPE)
            .filter(audit_entry::Column::Id.is_in(links.iter().map(|link| link.entry_id)))
            .all(&**tx)
            .await?;
        let is_old = |link: &&audit_link::Model| {
            let entry = entries.iter().find(|entry| entry.id == link.entry_id);
            entry.is_some_and(|entry| entry.at < before)
        };
        let old: Vec<_> = links.iter().take_while(is_old).collect();
        let Some(last) = old.last() else {
            return Ok(0);
        };
        audit_chain::Entity::change_anywhere(SCOPE)
            .filter(audit_chain::Column::TenantId.eq(tenant))
            .set(audit_chain::ActiveModel {
                floor: Set(last.seq),
                floor_mac: Set(last.mac.clone()),
                floor_proof: Set(key.proof(last.seq, &last.mac).to_vec()),
                ..Default::default()
            })
            .exec(&**tx)
            .await?;
        audit_link::Entity::delete_anywhere(SCOPE)
            .filter(audit_link::Column::TenantId.eq(tenant))
            .filter(audit_link::Column::Seq.lte(last.seq))
            .exec(&**tx)
            .await?;
        audit_entry::Entity::delete_anywhere(SCOPE)
            .filter(audit_entry::Column::Id.is_in(old.iter().map(|link| link.entry_id)))
            .exec(&**tx)
            .await?;
        Ok(old.len() as u64)
    }
}
