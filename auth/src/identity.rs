//! Who is asking, once it is known, and what of it is kept for two seconds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use adapters::clock::BootInstant;
use chrono::{DateTime, Utc};
use entities::{
    ApiKeyId, ApiKeyKind, CredentialKind, Permission, Permissions, Principal, Role, Scope,
    SessionId, TenantId, UserId, api_key, membership,
    standing::{Groups, Standing, VISITING},
    tenant, user,
};

use crate::api_keys::Acting;

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

#[derive(Debug, Clone)]
struct Parts {
    scope: Scope,
    user: user::Model,
    membership: Option<membership::Model>,
    tenant: tenant::Model,
    credential: CredentialKind,
    api_key: Option<api_key::Model>,
    id: CredentialId,
    expires_at: Option<DateTime<Utc>>,
    read_at: BootInstant,
}

/// What a role gives whoever comes by a session, or by a key with these rights of its own.
pub(crate) fn rights(
    role: Option<Role>,
    is_platform_administrator: bool,
    of_key: Option<Permissions>,
) -> Permissions {
    let of_role = role.map_or(Permissions::NONE, Permissions::of);
    match of_key {
        Some(of_key) => of_key.and(of_role),
        None if is_platform_administrator => of_role.with(Permission::PlatformManage),
        None => of_role,
    }
}

/// What somebody is and may in a tenant at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Power {
    pub(crate) role: Option<Role>,
    pub(crate) permissions: Permissions,
    pub(crate) groups: Groups,
}

impl Power {
    pub(crate) fn of(scope: &Scope) -> Self {
        Self {
            role: scope.role(),
            permissions: scope.permissions(),
            groups: scope.groups().clone(),
        }
    }

    fn scope(self, tenant: TenantId, user: UserId, principal: Principal) -> Scope {
        match self.role {
            Some(role) => {
                Scope::new(tenant, user, role, self.permissions, principal).in_groups(self.groups)
            }
            None => Scope::visiting(tenant, user, principal),
        }
    }
}

impl Identity {
    /// `None` where the user may not act in the tenant, or no credential stands behind it. `read_at` is a moment before it was
    /// read.
    pub(crate) fn of(
        standing: Standing,
        expires_at: Option<DateTime<Utc>>,
        read_at: BootInstant,
    ) -> Option<Self> {
        let (tenant, role) = match standing.member() {
            Some((tenant, membership)) => (tenant, Some(membership.role)),
            None => (standing.visited()?, None),
        };
        let (id, credential) = match (&standing.session, &standing.key) {
            (Some(session), None) => (CredentialId::Session(session.id), session.credential),
            (None, Some(key)) => {
                let kind = match key.kind {
                    ApiKeyKind::Personal => CredentialKind::PersonalKey,
                    ApiKeyKind::Service => CredentialKind::ServiceKey,
                };
                (CredentialId::Key(key.id), kind)
            }
            _ => return None,
        };
        let rights = rights(
            role,
            standing.user.is_platform_administrator,
            standing.key.as_ref().map(|key| key.permissions),
        );
        let principal = match id {
            CredentialId::Session(id) => Principal::Session(id),
            CredentialId::Key(id) => Principal::Key(id),
        };
        let power = Power {
            role,
            permissions: rights,
            groups: standing.groups.clone(),
        };
        let mut scope = power.scope(tenant.id, standing.user.id, principal);
        // A key of another's: it acts for this one.
        let behind = standing.key.as_ref().map(|key| key.user_id);
        if let Some(behind) = behind.filter(|behind| *behind != standing.user.id) {
            scope = scope.on_behalf(behind);
        }
        Some(Self(Arc::new(Parts {
            scope,
            user: standing.user,
            membership: standing.membership.filter(|_| role.is_some()),
            tenant: standing.tenant?,
            api_key: standing.key,
            credential,
            id,
            expires_at,
            read_at,
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

    /// The membership that is acted by; `None` for an administrator of the platform in a tenant that is not his.
    #[must_use]
    pub fn membership(&self) -> Option<&membership::Model> {
        self.0.membership.as_ref()
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

    /// The same asker with other rights.
    pub(crate) fn with(&self, power: Power) -> Self {
        let scope = self.scope();
        if Power::of(scope) == power {
            return self.clone();
        }
        let role = power.role;
        let mut changed = power.scope(scope.tenant(), scope.user(), scope.principal());
        if let Some(behind) = scope.behind() {
            changed = changed.on_behalf(behind);
        }
        let scope = changed;
        let mut membership = self.0.membership.clone();
        if let (Some(membership), Some(role)) = (&mut membership, role) {
            membership.role = role;
        }
        Self(Arc::new(Parts {
            scope,
            membership,
            ..Parts::clone(&self.0)
        }))
    }

    /// The API key's row, where it is one.
    pub(crate) fn api_key(&self) -> Option<&api_key::Model> {
        self.0.api_key.as_ref()
    }

    /// A moment before it was read.
    pub(crate) fn read_at(&self) -> BootInstant {
        self.0.read_at
    }

    /// Whether it was read so lately that it is believed.
    pub(crate) fn is_fresh(&self, at: BootInstant) -> bool {
        at.since(self.0.read_at) < KEPT
    }

    pub(crate) fn id(&self) -> CredentialId {
        self.0.id
    }

    pub(crate) fn acting(&self) -> Acting {
        let membership = self.0.membership.as_ref();
        (self.0.id, membership.map_or(VISITING, |it| it.id))
    }
}

/// What was read lately, by the SHA-256 of what the request carried.
#[derive(Default)]
pub(crate) struct Cache(Mutex<HashMap<[u8; 32], Identity>>);

impl Cache {
    pub(crate) fn get(&self, key: &[u8; 32], at: BootInstant) -> Option<Identity> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .get(key)
            .filter(|identity| identity.is_fresh(at))
            .cloned()
    }

    pub(crate) fn put(&self, key: [u8; 32], identity: Identity) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CACHED {
            entries.retain(|_, kept| kept.is_fresh(identity.0.read_at));
        }
        if entries.len() < CACHED {
            entries.insert(key, identity);
        }
    }

    pub(crate) fn forget(&self, id: CredentialId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, identity| identity.0.id != id);
    }

    pub(crate) fn forget_user(&self, user: UserId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, identity| identity.0.scope.user() != user);
    }

    pub(crate) fn forget_tenant(&self, tenant: TenantId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, identity| identity.0.scope.tenant() != tenant);
    }
}
