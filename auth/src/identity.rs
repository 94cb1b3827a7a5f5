//! Who is asking, once it is known, and what of it is kept for two seconds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use adapters::clock::BootInstant;
use chrono::{DateTime, Utc};
use entities::{
    ApiKeyId, ApiKeyKind, CredentialKind, Permission, Permissions, Principal, Scope, SessionId,
    membership, standing::Standing, tenant, user,
};

use crate::api_keys::{self, Acting};

/// For how long what was read is believed.
const KEPT: Duration = Duration::from_secs(2);
/// How many are kept.
const CACHED: usize = 10_000;

/// A session or key, whichever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CredentialId {
    Session(SessionId),
    Key(ApiKeyId),
}

/// Who is asking. Clones are the same.
#[derive(Debug, Clone)]
pub struct Identity(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    scope: Scope,
    user: user::Model,
    membership: membership::Model,
    tenant: tenant::Model,
    credential: CredentialKind,
    id: CredentialId,
    expires_at: Option<DateTime<Utc>>,
}

impl Identity {
    /// `None` where the user may not act in the tenant, or no credential stands behind it.
    pub(crate) fn of(standing: Standing, expires_at: Option<DateTime<Utc>>) -> Option<Self> {
        let (tenant, membership) = standing.member()?;
        let role = membership.role;
        let (id, credential, rights) = match (&standing.session, &standing.key) {
            (Some(session), None) => {
                let rights = Permissions::of(role);
                let rights = if standing.user.is_platform_administrator {
                    rights.with(Permission::PlatformManage)
                } else {
                    rights
                };
                (
                    CredentialId::Session(session.id),
                    session.credential,
                    rights,
                )
            }
            (None, Some(key)) => {
                let kind = match key.kind {
                    ApiKeyKind::Personal => CredentialKind::PersonalKey,
                    ApiKeyKind::Service => CredentialKind::ServiceKey,
                };
                (
                    CredentialId::Key(key.id),
                    kind,
                    api_keys::effective(key, role),
                )
            }
            _ => return None,
        };
        let principal = match id {
            CredentialId::Session(id) => Principal::Session(id),
            CredentialId::Key(id) => Principal::Key(id),
        };
        let scope = Scope::new(tenant.id, standing.user.id, role, rights, principal);
        Some(Self(Arc::new(Parts {
            scope,
            user: standing.user,
            membership: standing.membership?,
            tenant: standing.tenant?,
            credential,
            id,
            expires_at,
        })))
    }

    /// Where, who, with which rights.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.0.scope
    }

    /// The account.
    #[must_use]
    pub fn user(&self) -> &user::Model {
        &self.0.user
    }

    /// The membership that is acted by.
    #[must_use]
    pub fn membership(&self) -> &membership::Model {
        &self.0.membership
    }

    /// The tenant that is acted in.
    #[must_use]
    pub fn tenant(&self) -> &tenant::Model {
        &self.0.tenant
    }

    /// What showed who it is.
    #[must_use]
    pub fn credential(&self) -> CredentialKind {
        self.0.credential
    }

    /// When the token or key runs out; `None`: not by itself.
    #[must_use]
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.0.expires_at
    }

    /// The session, where it is one.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self.0.id {
            CredentialId::Session(id) => Some(id),
            CredentialId::Key(_) => None,
        }
    }

    /// The API key, where it is one.
    #[must_use]
    pub fn key(&self) -> Option<ApiKeyId> {
        match self.0.id {
            CredentialId::Key(id) => Some(id),
            CredentialId::Session(_) => None,
        }
    }

    pub(crate) fn acting(&self) -> Acting {
        (self.0.id, self.0.membership.id)
    }
}

/// What was read lately, by the SHA-256 of what the request carried.
#[derive(Default)]
pub(crate) struct Cache(Mutex<HashMap<[u8; 32], (BootInstant, Identity)>>);

impl Cache {
    pub(crate) fn get(&self, key: &[u8; 32], at: BootInstant) -> Option<Identity> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .get(key)
            .filter(|(read_at, _)| at.since(*read_at) < KEPT)
            .map(|(_, identity)| identity.clone())
    }

    pub(crate) fn put(&self, key: [u8; 32], read_at: BootInstant, identity: Identity) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CACHED {
            entries.retain(|_, (at, _)| read_at.since(*at) < KEPT);
        }
        if entries.len() < CACHED {
            entries.insert(key, (read_at, identity));
        }
    }

    pub(crate) fn forget(&self, id: CredentialId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, (_, identity)| identity.0.id != id);
    }
}
