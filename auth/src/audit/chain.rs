//! Each tenant's entries as a chain: a link says which entry comes next, and holds a keyed digest of it and of the link before.
//! Whoever changes, takes out, puts in or moves an entry would have to make all later links anew, for which he lacks the key.
//!
//! A command only adds its entry: links are made afterwards, in the order in which the entries were noted, by one process at a
//! time, so that commands of one tenant do not wait for each other.

use std::{collections::HashMap, time::Duration};

use adapters::{
    sealing::{Keyring, Place, digest, keyed_digest},
    tasks::Tasks,
};
use entities::{
    AuditEntryId, CommandError, TenantId, Tx, audit_chain, audit_entry, audit_link, audit_pending,
    query::*,
};

use super::SCOPE;
use crate::{Authority, authority::Inner};

/// How often it is looked for entries without a link.
const EVERY: Duration = Duration::from_secs(1);
/// Entries that one transaction links.
const AT_ONCE: u64 = 500;

/// What a chain comes to before its first link.
pub(super) const NOTHING: [u8; 32] = [0; 32];

/// The key of a chain, and what it is.
pub(super) struct Key([u8; 32]);

impl Key {
    /// What the chain comes to with this entry, as the `seq`th.
    pub(super) fn link(&self, before: &[u8], seq: i64, entry: &audit_entry::Model) -> [u8; 32] {
        let mut bytes = before.to_vec();
        bytes.extend(seq.to_be_bytes());
        bytes.extend(digest(&told(entry)));
        keyed_digest(&self.0, &bytes)
    }

    /// What shows that a floor was set by whoever has the key.
    pub(super) fn proof(&self, floor: i64, mac: &[u8]) -> [u8; 32] {
        let mut bytes = b"floor".to_vec();
        bytes.extend(floor.to_be_bytes());
        bytes.extend(mac);
        keyed_digest(&self.0, &bytes)
    }
}

/// All that an entry says, as bytes that are the same for the same entry on every database.
fn told(entry: &audit_entry::Model) -> Vec<u8> {
    // Objects of JSON are written in the order of their names, whatever the database made of it.
    let said = serde_json::json!([
        entry.id.0,
        entry.tenant_id.0,
        entry.at.timestamp_micros(),
        entry.actor_id.map(|id| id.0),
        entry.api_key_id.map(|id| id.0),
        entry.on_behalf_of_id.map(|id| id.0),
        entry.action,
        entry.target_id,
        entry.outcome,
        entry.address,
        sorted(&entry.details),
    ]);
    said.to_string().into_bytes()
}

fn sorted(value: &serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let pairs = fields
                .into_iter()
                .map(|(name, value)| serde_json::json!([name, sorted(value)]));
            serde_json::Value::Array(pairs.collect())
        }
        serde_json::Value::Array(items) => {
            serde_json::Value::Array(items.iter().map(sorted).collect())
        }
        plain => plain.clone(),
    }
}

pub(crate) fn place(tenant: TenantId) -> Place<'static> {
    Place {
        table: "audit_chains",
        column: "sealed_key",
        tenant: tenant.0,
        row: tenant.0,
    }
}

impl Authority {
    /// Starts the task that links.
    pub(crate) fn keep_chains(&self, tasks: &Tasks) {
        let closing = tasks.closing();
        let inner: std::sync::Weak<Inner> = self.downgrade();
        drop(tasks.spawn("the audit log's chains", async move {
            loop {
                let closes = closing
                    .run_until_cancelled(tokio::time::sleep(EVERY))
                    .await
                    .is_none();
                let Some(authority) = inner.upgrade().map(Self::from_inner) else {
                    return;
                };
                let kept = async {
                    authority.write_down_refusals(closes).await?;
                    authority.link().await
                };
                if let Err(error) = kept.await {
                    tracing::warn!(%error, "the audit log's chains could not be carried on");
                }
                if closes {
                    return;
                }
            }
        }));
    }

    /// Links every entry that has no link yet.
    pub(crate) async fn link(&self) -> Result<(), CommandError> {
        while self.link_some().await? >= AT_ONCE {}
        Ok(())
    }

    async fn link_some(&self) -> Result<u64, CommandError> {
        // Mostly there are none: that costs no transaction.
        let one = audit_pending::Entity::anywhere(SCOPE)
            .one(self.0.db.reader(SCOPE))
            .await?;
        if one.is_none() {
            return Ok(0);
        }
        let inner = self.0.clone();
        self.command(move |tx, _| {
            Box::pin(async move { Self::from_inner(inner).link_in(tx).await })
        })
        .await
    }

    async fn link_in(&self, tx: &Tx) -> Result<u64, CommandError> {
        let waiting = audit_pending::Entity::anywhere(SCOPE)
            .order_by_asc(audit_pending::Column::Id)
            .limit(AT_ONCE)
            .all(&**tx)
            .await?;
        let mut of: HashMap<TenantId, Vec<(i64, AuditEntryId)>> = HashMap::new();
        for row in &waiting {
            of.entry(row.tenant_id)
                .or_default()
                .push((row.id, row.entry_id));
        }
        let mut tenants: Vec<_> = of.keys().copied().collect();
        // In one order, as others may do the same at this moment.
        tenants.sort_unstable_by_key(|tenant| tenant.0);
        for tenant in tenants {
            let key = self.locked(tx, tenant).await?;
            // After the lock: whoever held it before has linked what stood here.
            let ids: Vec<_> = of.remove(&tenant).unwrap_or_default();
            let still = audit_pending::Entity::anywhere(SCOPE)
                .filter(audit_pending::Column::Id.is_in(ids.iter().map(|(id, _)| *id)))
                .order_by_asc(audit_pending::Column::Id)
                .all(&**tx)
                .await?;
            let rows = audit_entry::Entity::anywhere(SCOPE)
                .filter(audit_entry::Column::Id.is_in(still.iter().map(|row| row.entry_id)))
                .all(&**tx)
                .await?;
            let rows: HashMap<_, _> = rows.into_iter().map(|row| (row.id, row)).collect();
            let (mut seq, mut mac) = key.1;
            let mut links = Vec::with_capacity(still.len());
            for row in &still {
                let Some(entry) = rows.get(&row.entry_id) else {
                    continue;
                };
                seq += 1;
                mac = key.0.link(&mac, seq, entry).to_vec();
                links.push(audit_link::Model {
                    tenant_id: tenant,
                    seq,
                    entry_id: entry.id,
                    mac: mac.clone(),
                });
            }
            audit_link::Entity::add_all(&**tx, links).await?;
            audit_pending::Entity::delete_anywhere(SCOPE)
                .filter(audit_pending::Column::Id.is_in(still.iter().map(|row| row.id)))
                .exec(&**tx)
                .await?;
        }
        Ok(waiting.len() as u64)
    }

    /// The chain of a tenant, its row locked, and made where there is none: its key, and what it comes to.
    async fn locked(
        &self,
        tx: &Tx,
        tenant: TenantId,
    ) -> Result<(Key, (i64, Vec<u8>)), CommandError> {
        let find = || {
            audit_chain::Entity::anywhere(SCOPE)
                .filter(audit_chain::Column::TenantId.eq(tenant))
                .lock_exclusive()
        };
        let mut row = find().one(&**tx).await?;
        if row.is_none() {
            audit_chain::Entity::add_unless_there(SCOPE, &**tx, self.new_chain(tenant)).await?;
            row = find().one(&**tx).await?;
        }
        let row = row.ok_or_else(|| CommandError::Internal("a chain is not there".into()))?;
        let key = self.open_chain(&row)?;
        let last = audit_link::Entity::anywhere(SCOPE)
            .filter(audit_link::Column::TenantId.eq(tenant))
            .order_by_desc(audit_link::Column::Seq)
            .one(&**tx)
            .await?;
        let stands = last.map_or((row.floor, row.floor_mac), |last| (last.seq, last.mac));
        Ok((key, stands))
    }

    fn new_chain(&self, tenant: TenantId) -> audit_chain::Model {
        let mut random = [0; 32];
        self.0.clock.random(&mut random);
        audit_chain::Model {
            tenant_id: tenant,
            sealed_key: self.0.keyring.seal_system(&place(tenant), &random),
            floor: 0,
            floor_mac: NOTHING.to_vec(),
            floor_proof: Key(random).proof(0, &NOTHING).to_vec(),
        }
    }

    pub(super) fn open_chain(&self, row: &audit_chain::Model) -> Result<Key, CommandError> {
        open(&self.0.keyring, row)
    }
}

/// The key of a chain.
pub(super) fn open(keyring: &Keyring, row: &audit_chain::Model) -> Result<Key, CommandError> {
    let opened = keyring.open_system(&place(row.tenant_id), &row.sealed_key);
    let opened = opened.map_err(|error| {
        CommandError::Internal(format!("the key of an audit chain does not open: {error}"))
    })?;
    let key = <[u8; 32]>::try_from(opened.as_slice());
    key.map(Key)
        .map_err(|_| CommandError::Internal("the key of an audit chain is none".into()))
}
