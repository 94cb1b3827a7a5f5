//! The keys that sign access tokens: made at first use, sealed at rest, read again when a token names one that is not known.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use adapters::{
    clock::BootInstant,
    sealing::{Keyring, Place},
};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use entities::{CommandError, SystemScope, meta, query::*, signing_key};
use jsonwebtoken::{DecodingKey, EncodingKey};
use uuid::Uuid;

use crate::Authority;

/// An unknown `kid` makes the table be read, but not more often than this: anybody can make one up.
const READ_APART: Duration = Duration::from_millis(100);

const SCOPE: SystemScope = SystemScope::of("signing keys");

/// A key as it is used.
pub(crate) struct SigningKey {
    id: Uuid,
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
        Ok((self.id.to_string(), key))
    }

    pub(crate) fn verifier(&self) -> &DecodingKey {
        &self.verifies
    }
}

/// The keys that this process knows.
#[derive(Default)]
pub(crate) struct SigningKeys(RwLock<Known>);

#[derive(Default, Clone)]
struct Known {
    /// The oldest first.
    keys: Vec<Arc<SigningKey>>,
    read_at: Option<BootInstant>,
}

impl SigningKeys {
    fn known(&self) -> Known {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn place(id: Uuid) -> Place<'static> {
    Place {
        table: "signing_keys",
        column: "sealed",
        tenant: Uuid::nil(),
        row: id,
    }
}

fn open(keyring: &Keyring, row: signing_key::Model) -> Result<SigningKey, CommandError> {
    let signs = if row.retired_at.is_none() {
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
        id: row.id,
        verifies: DecodingKey::from_ed_der(&row.public),
        public: row.public,
        signs,
    })
}

impl Authority {
    /// The key that signs now; the first one is made here. All replicas choose the same, the oldest that is not retired.
    pub(crate) async fn signing_key(&self) -> Result<Arc<SigningKey>, CommandError> {
        let signs = |keys: &[Arc<SigningKey>]| keys.iter().find(|key| key.signs.is_some()).cloned();
        if let Some(key) = signs(&self.0.signing.known().keys) {
            return Ok(key);
        }
        if let Some(key) = signs(&self.read_signing_keys().await?) {
            return Ok(key);
        }
        self.make_signing_key().await?;
        signs(&self.read_signing_keys().await?)
            .ok_or_else(|| CommandError::Internal("the key of access tokens is gone".into()))
    }

    /// The key that a token names; `None` where there is none.
    pub(crate) async fn verifying_key(
        &self,
        id: Uuid,
    ) -> Result<Option<Arc<SigningKey>>, CommandError> {
        let named = |keys: &[Arc<SigningKey>]| keys.iter().find(|key| key.id == id).cloned();
        let known = self.0.signing.known();
        if let Some(key) = named(&known.keys) {
            return Ok(Some(key));
        }
        if known
            .read_at
            .is_some_and(|at| self.0.clock.instant().since(at) < READ_APART)
        {
            return Ok(None);
        }
        Ok(named(&self.read_signing_keys().await?))
    }

    /// The public keys as a JWK set (RFC 7517, 8037), retired ones included.
    ///
    /// # Errors
    /// The database can't be read.
    pub async fn jwks(&self) -> Result<serde_json::Value, CommandError> {
        self.signing_key().await?;
        let keys = self.read_signing_keys().await?;
        let keys: Vec<_> = keys
            .iter()
            .map(|key| {
                serde_json::json!({
                    "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
                    "kid": key.id.to_string(), "x": URL_SAFE_NO_PAD.encode(&key.public),
                })
            })
            .collect();
        Ok(serde_json::json!({ "keys": keys }))
    }

    async fn read_signing_keys(&self) -> Result<Vec<Arc<SigningKey>>, CommandError> {
        let read_at = Some(self.0.clock.instant());
        let rows = signing_key::Entity::anywhere(SCOPE)
            .order_by_asc(signing_key::Column::CreatedAt)
            .order_by_asc(signing_key::Column::Id)
            .all(self.0.db.reader(SCOPE))
            .await?;
        let keys = rows
            .into_iter()
            .map(|row| open(&self.0.keyring, row).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        *self
            .0
            .signing
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Known {
            keys: keys.clone(),
            read_at,
        };
        Ok(keys)
    }

    /// Makes one, unless another replica did meanwhile.
    async fn make_signing_key(&self) -> Result<(), CommandError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let pkcs8 = pkcs8
            .map_err(|_| CommandError::Internal("no key of access tokens could be made".into()))?;
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref());
        let pair = pair
            .map_err(|_| CommandError::Internal("the new key of access tokens is none".into()))?;
        let id = self.0.clock.uuid();
        let row = signing_key::Model {
            id,
            sealed: self.0.keyring.seal_system(&place(id), pkcs8.as_ref()),
            public: pair.public_key().as_ref().to_vec(),
            created_at: self.0.clock.now(),
            retired_at: None,
        };
        self.command(move |tx, _| {
            Box::pin(async move {
                // Replicas wait for each other at the installation's row.
                meta::Entity::anywhere(SCOPE)
                    .lock_exclusive()
                    .one(&**tx)
                    .await?;
                let there = signing_key::Entity::anywhere(SCOPE)
                    .filter(signing_key::Column::RetiredAt.is_null())
                    .one(&**tx)
                    .await?;
                if there.is_none() {
                    signing_key::Entity::add(&**tx, row).await?;
                }
                Ok(())
            })
        })
        .await
    }
}
