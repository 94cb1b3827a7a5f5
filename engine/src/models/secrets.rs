use adapters::sealing::{DataKey, Keyring, Place, SealError, Secret};
use entities::{
    CommandError, DbErr, SecretId, SystemScope, TenantId, Tx, query::*, secret, tenant,
};
use serde::{Deserialize, Serialize};

use super::Header;

/// Sealed values are read where a run goes on without a request: by the tenant's id, which is in the seal, too.
const SYSTEM: SystemScope = SystemScope::of("sealed values of one tenant");

/// A model's key and the values of its headers, as they are sealed together.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Held {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
}

impl Held {
    pub(super) fn set_api_key(&mut self, key: Option<&Secret>) {
        self.api_key = key.map(|key| key.expose().trim().to_owned());
    }

    /// Merges by name, whose case does not matter; without a value, takes off.
    pub(super) fn merge(&mut self, headers: &[Header]) {
        for header in headers {
            self.headers
                .retain(|(name, _)| !name.eq_ignore_ascii_case(&header.name));
            if let Some(value) = &header.value {
                self.headers
                    .push((header.name.clone(), value.expose().trim().to_owned()));
            }
        }
    }

    pub(super) fn clear_headers(&mut self) {
        self.headers.clear();
    }

    pub(super) fn has_api_key(&self) -> bool {
        self.api_key.is_some()
    }

    pub(super) fn header_names(&self) -> Vec<String> {
        self.headers.iter().map(|(name, _)| name.clone()).collect()
    }

    fn is_empty(&self) -> bool {
        self.api_key.is_none() && self.headers.is_empty()
    }

    /// The key and the headers, to be sent.
    pub(super) fn into_parts(self) -> (Option<Secret>, Vec<(String, Secret)>) {
        let headers = self
            .headers
            .into_iter()
            .map(|(name, value)| (name, Secret::new(value)));
        (self.api_key.map(Secret::new), headers.collect())
    }
}

/// Why what was sealed can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretsError {
    #[error("failed to use the database")]
    Database(#[from] DbErr),
    #[error("failed to open the secrets of a model")]
    Seal(#[from] SealError),
    #[error("failed to read the opened secrets of a model")]
    Form(#[from] serde_json::Error),
    #[error("the secrets of a model are bound to another address")]
    Elsewhere,
    #[error("the secrets of a model, or its tenant, are not there")]
    Missing,
}

impl From<SecretsError> for CommandError {
    fn from(error: SecretsError) -> Self {
        match error {
            SecretsError::Database(error) => Self::Database(error),
            error => Self::Internal(error.to_string()),
        }
    }
}

impl From<SecretsError> for DbErr {
    /// To whoever reads a model, its secrets are a part of the row.
    fn from(error: SecretsError) -> Self {
        match error {
            SecretsError::Database(error) => error,
            error => Self::Custom(error.to_string()),
        }
    }
}

async fn data_key(tx: &Tx, keyring: &Keyring, tenant: TenantId) -> Result<DataKey, SecretsError> {
    let row = tenant::Entity::anywhere(SYSTEM)
        .filter(tenant::Column::Id.eq(tenant))
        .one(&**tx)
        .await?;
    let row = row.ok_or(SecretsError::Missing)?;
    Ok(keyring.open_data_key(tenant.0, &row.data_key)?)
}

fn place(tenant: TenantId, id: SecretId) -> Place<'static> {
    Place {
        table: "secrets",
        column: "sealed",
        tenant: tenant.0,
        row: id.0,
    }
}

/// Opens what is sealed for `origin`, and for it alone.
pub(super) async fn open(
    tx: &Tx,
    keyring: &Keyring,
    tenant: TenantId,
    id: SecretId,
    origin: &str,
) -> Result<Held, SecretsError> {
    let row = secret::Entity::anywhere(SYSTEM)
        .filter(secret::Column::Id.eq(id))
        .filter(secret::Column::TenantId.eq(tenant))
        .one(&**tx)
        .await?
        .ok_or(SecretsError::Missing)?;
    if row.bound_to != origin {
        return Err(SecretsError::Elsewhere);
    }
    let opened = data_key(tx, keyring, tenant)
        .await?
        .open(&place(tenant, id), &row.sealed)?;
    Ok(serde_json::from_slice(&opened)?)
}

/// Seals in the place of `before`, under the new id `fresh`, and answers the id that is now in force; nothing held is no row.
pub(super) async fn store(
    tx: &Tx,
    keyring: &Keyring,
    tenant: TenantId,
    before: Option<SecretId>,
    fresh: SecretId,
    origin: Option<&str>,
    held: &Held,
) -> Result<Option<SecretId>, SecretsError> {
    if let Some(before) = before {
        secret::Entity::delete_anywhere(SYSTEM)
            .filter(secret::Column::Id.eq(before))
            .filter(secret::Column::TenantId.eq(tenant))
            .exec(&**tx)
            .await?;
    }
    if held.is_empty() {
        return Ok(None);
    }
    let origin = origin.ok_or(SecretsError::Elsewhere)?;
    let sealed = data_key(tx, keyring, tenant)
        .await?
        .seal(&place(tenant, fresh), &serde_json::to_vec(held)?);
    secret::Entity::add(
        &**tx,
        secret::Model {
            id: fresh,
            tenant_id: tenant,
            bound_to: origin.to_owned(),
            sealed,
        },
    )
    .await?;
    Ok(Some(fresh))
}
