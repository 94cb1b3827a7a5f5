//! The keys that sign access tokens: made at first use, sealed at rest, and followed by others when their time is over.
//!
//! A key is published for an hour before it signs, signs for as long as the operator says, still verifies until the last token
//! that it signed has run out, and is then deleted. Which one signs follows from the rows and the time alone, so that all replicas
//! choose the same: none signs by rows that it read longer ago than the half of that hour, within which it knows of the next key.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use adapters::{
    clock::BootInstant,
    sealing::{Keyring, Place},
    tasks::Tasks,
};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use entities::{CommandError, SystemScope, Tx, meta, query::*, signing_key};
use jsonwebtoken::{DecodingKey, EncodingKey};
use uuid::Uuid;

use crate::{ACCESS_TOKEN_LASTS, Authority};

/// For how long a key is published before it signs: longer than anybody keeps the set, caches in between included.
const AHEAD: TimeDelta = TimeDelta::hours(1);
/// For how long a process signs by what it read.
const SIGNS_BY: Duration = Duration::from_secs(30 * 60);
/// For how long it answers the published set from what it read.
const SHOWS: Duration = Duration::from_secs(2 * 60);
/// How far apart a process looks whether something is due, and what others did.
const LOOKS_APART: Duration = Duration::from_secs(60);
/// How much later than a key ceases to sign, and than an hour, its last token runs out: by clocks that differ.
const SLACK: TimeDelta = TimeDelta::minutes(1);
/// An unknown `kid` makes the table be read, but not more often than this: anybody can make one up.
const READ_APART: Duration = Duration::from_millis(100);

const SCOPE: SystemScope = SystemScope::of("signing keys");

/// When a key does what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    id: Uuid,
    signs_from: DateTime<Utc>,
    /// From then on it only verifies.
    retired_at: Option<DateTime<Utc>>,
}

impl Times {
    fn of(row: &signing_key::Model) -> Self {
        Self {
            id: row.id,
            signs_from: row.signs_from,
            retired_at: row.retired_at,
        }
    }

    fn may_sign(&self, now: DateTime<Utc>) -> bool {
        self.retired_at.is_none_or(|at| now < at)
    }

    fn verifies(&self, now: DateTime<Utc>) -> bool {
        self.retired_at
            .is_none_or(|at| now < at + ACCESS_TOKEN_LASTS + SLACK)
    }
}

/// What is to be done with the keys.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    /// Another one is to be made, which signs from then on in place of all that there are.
    next_from: Option<DateTime<Utc>>,
    /// These are done with.
    gone: Vec<Uuid>,
}

impl Due {
    /// Where each key signs for `lasts`.
    fn of(keys: &[Times], lasts: TimeDelta, now: DateTime<Utc>) -> Self {
        let newest = keys
            .iter()
            .filter(|key| key.retired_at.is_none())
            .map(|key| key.signs_from)
            .max();
        let next_from = match newest {
            // The first one, or all were retired by hand: nothing signs meanwhile, so nobody can be told before.
            None => keys.iter().all(|key| !key.may_sign(now)).then_some(now),
            Some(from) => (from + lasts <= now + AHEAD).then(|| (from + lasts).max(now + AHEAD)),
        };
        let gone = keys.iter().filter(|key| !key.verifies(now));
        Self {
            next_from,
            gone: gone.map(|key| key.id).collect(),
        }
    }

    fn is_nothing(&self) -> bool {
        self.next_from.is_none() && self.gone.is_empty()
    }
}

/// A key as it is used.
pub(crate) struct SigningKey {
    times: Times,
    public: Vec<u8>,
    verifies: DecodingKey,
    /// Absent once it is retired.
    signs: Option<EncodingKey>,
}

impl SigningKey {
    /// What signs, with the `kid` to write.
    pub(crate) fn signer(&self) -> Result<(String, &EncodingKey), CommandError> {
        let key = self
            .signs
            .as_ref()
            .ok_or_else(|| CommandError::Internal("a retired key was to sign".into()))?;
        Ok((self.times.id.to_string(), key))
    }

    pub(crate) fn verifier(&self) -> &DecodingKey {
        &self.verifies
    }
}

/// The one that signs: of those that are not retired the last whose time has come. Where a clock is behind all of them, the first.
fn signs_at(keys: &[Arc<SigningKey>], now: DateTime<Utc>) -> Option<Arc<SigningKey>> {
    let mut able = keys
        .iter()
        .filter(|key| key.signs.is_some() && key.times.may_sign(now));
    let mut chosen = able.next()?;
    for key in able {
        if key.times.signs_from <= now {
            chosen = key;
        }
    }
    Some(chosen.clone())
}

/// The keys that this process knows.
#[derive(Default)]
pub(crate) struct SigningKeys(RwLock<Known>);

#[derive(Default, Clone)]
struct Known {
    /// In the order in which they sign.
    keys: Vec<Arc<SigningKey>>,
    read_at: Option<BootInstant>,
}

impl Known {
    fn is_younger(&self, than: Duration, now: BootInstant) -> bool {
        self.read_at.is_some_and(|at| now.since(at) < than)
    }
}

impl SigningKeys {
    fn known(&self) -> Known {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

pub(crate) fn place(id: Uuid) -> Place<'static> {
    Place {
        table: "signing_keys",
        column: "sealed",
        tenant: Uuid::nil(),
        row: id,
    }
}

fn open(
    keyring: &Keyring,
    row: signing_key::Model,
    now: DateTime<Utc>,
) -> Result<SigningKey, CommandError> {
    let times = Times::of(&row);
    let signs = if times.may_sign(now) {
        let private = keyring
            .open_system(&place(row.id), &row.sealed)
            .map_err(|error| {
                CommandError::Internal(format!(
                    "the key of access tokens does not open with this secret key: {error}"
                ))
            })?;
        Some(EncodingKey::from_ed_der(&private))
    } else {
        None
    };
    Ok(SigningKey {
        times,
        verifies: DecodingKey::from_ed_der(&row.public),
        public: row.public,
        signs,
    })
}

/// A new one, sealed.
struct NewKey {
    id: Uuid,
    sealed: Vec<u8>,
    public: Vec<u8>,
}

impl NewKey {
    fn make(keyring: &Keyring, id: Uuid) -> Result<Self, CommandError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let pkcs8 = pkcs8
            .map_err(|_| CommandError::Internal("no key of access tokens could be made".into()))?;
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref());
        let pair = pair
            .map_err(|_| CommandError::Internal("the new key of access tokens is none".into()))?;
        Ok(Self {
            id,
            sealed: keyring.seal_system(&place(id), pkcs8.as_ref()),
            public: pair.public_key().as_ref().to_vec(),
        })
    }

    async fn add(
        self,
        tx: &Tx,
        signs_from: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), CommandError> {
        let row = signing_key::Model {
            id: self.id,
            sealed: self.sealed,
            public: self.public,
            created_at: now,
            signs_from,
            retired_at: None,
        };
        Ok(signing_key::Entity::add(&**tx, row).await?)
    }
}

/// Does what is due, unless another replica did meanwhile. Whether another key was made.
async fn tend(
    tx: &Tx,
    new: NewKey,
    lasts: TimeDelta,
    now: DateTime<Utc>,
) -> Result<bool, CommandError> {
    // Replicas wait for each other at the installation's row; the statement after it sees what the one before did.
    meta::Entity::anywhere(SCOPE)
        .lock_exclusive()
        .one(&**tx)
        .await?;
    let rows = signing_key::Entity::anywhere(SCOPE).all(&**tx).await?;
    let keys: Vec<_> = rows.iter().map(Times::of).collect();
    let due = Due::of(&keys, lasts, now);
    if !due.gone.is_empty() {
        signing_key::Entity::delete_anywhere(SCOPE)
            .filter(signing_key::Column::Id.is_in(due.gone))
            .exec(&**tx)
            .await?;
    }
    let Some(from) = due.next_from else {
        return Ok(false);
    };
    signing_key::Entity::change_anywhere(SCOPE)
        .col_expr(signing_key::Column::RetiredAt, Expr::value(from))
        .filter(signing_key::Column::RetiredAt.is_null())
        .exec(&**tx)
        .await?;
    new.add(tx, from, now).await?;
    Ok(true)
}

impl Authority {
    /// The key that signs now; the first one is made here.
    pub(crate) async fn signing_key(&self) -> Result<Arc<SigningKey>, CommandError> {
        let now = self.0.clock.now();
        let known = self.0.signing.known();
        if known.is_younger(SIGNS_BY, self.0.clock.instant())
            && let Some(key) = signs_at(&known.keys, now)
        {
            return Ok(key);
        }
        if let Some(key) = signs_at(&self.read_signing_keys().await?, now) {
            return Ok(key);
        }
        self.tend_signing_keys().await?;
        signs_at(&self.read_signing_keys().await?, self.0.clock.now())
            .ok_or_else(|| CommandError::Internal("the key of access tokens is gone".into()))
    }

    /// The key that a token names; `None` where there is none, or none any more.
    pub(crate) async fn verifying_key(
        &self,
        id: Uuid,
    ) -> Result<Option<Arc<SigningKey>>, CommandError> {
        let now = self.0.clock.now();
        let named = |keys: &[Arc<SigningKey>]| keys.iter().find(|key| key.times.id == id).cloned();
        let known = self.0.signing.known();
        let key = match named(&known.keys) {
            Some(key) => Some(key),
            None if known.is_younger(READ_APART, self.0.clock.instant()) => None,
            None => named(&self.read_signing_keys().await?),
        };
        Ok(key.filter(|key| key.times.verifies(now)))
    }

    /// The public keys as a JWK set (RFC 7517, 8037): those to come and those that are retired included, as long as tokens may be
    /// signed by them.
    ///
    /// # Errors
    /// The database can't be read.
    pub async fn jwks(&self) -> Result<serde_json::Value, CommandError> {
        self.signing_key().await?;
        let known = self.0.signing.known();
        let keys = match known.is_younger(SHOWS, self.0.clock.instant()) {
            true => known.keys,
            false => self.read_signing_keys().await?,
        };
        let now = self.0.clock.now();
        let keys: Vec<_> = keys
            .iter()
            .filter(|key| key.times.verifies(now))
            .map(|key| {
                serde_json::json!({
                    "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
                    "kid": key.times.id.to_string(), "x": URL_SAFE_NO_PAD.encode(&key.public),
                })
            })
            .collect();
        Ok(serde_json::json!({ "keys": keys }))
    }

    /// Starts the task that looks once a minute what is due, and what other processes did.
    pub(crate) fn keep_signing_keys(&self, tasks: &Tasks) {
        let closing = tasks.closing();
        let inner = self.downgrade();
        drop(tasks.spawn("signing keys", async move {
            while closing
                .run_until_cancelled(tokio::time::sleep(LOOKS_APART))
                .await
                .is_some()
            {
                let Some(authority) = inner.upgrade().map(Self::from_inner) else {
                    return;
                };
                if let Err(error) = authority.tend_signing_keys().await {
                    tracing::warn!(%error, "the keys of access tokens could not be looked at");
                }
            }
        }));
    }

    /// Reads the keys, and does what is due.
    pub(crate) async fn tend_signing_keys(&self) -> Result<(), CommandError> {
        let lasts = self.0.config.signing_key_lasts;
        let keys = self.read_signing_keys().await?;
        let times: Vec<_> = keys.iter().map(|key| key.times).collect();
        if Due::of(&times, lasts, self.0.clock.now()).is_nothing() {
            return Ok(());
        }
        // Made before anything is locked; where another replica was first, it is thrown away.
        let new = NewKey::make(&self.0.keyring, self.0.clock.uuid())?;
        let id = new.id;
        if self
            .command(move |tx, now| Box::pin(tend(tx, new, lasts, now)))
            .await?
        {
            tracing::info!(key = %id, "another key of access tokens was made");
        }
        self.read_signing_keys().await?;
        Ok(())
    }

    async fn read_signing_keys(&self) -> Result<Vec<Arc<SigningKey>>, CommandError> {
        let read_at = Some(self.0.clock.instant());
        let now = self.0.clock.now();
        let rows = signing_key::Entity::anywhere(SCOPE)
            .order_by_asc(signing_key::Column::SignsFrom)
            .order_by_asc(signing_key::Column::Id)
            .all(self.0.db.reader(SCOPE))
            .await?;
        let keys = rows
            .into_iter()
            .map(|row| open(&self.0.keyring, row, now).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let mut known = self
            .0
            .signing
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Another look may have begun later and come back before.
        if known.read_at <= read_at {
            *known = Known {
                keys: keys.clone(),
                read_at,
            };
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests;
