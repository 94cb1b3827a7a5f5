//! A mutation as it was asked for: by whom, from where, and with which key. What a command does for a client it does for one of
//! these, so that it is done once for its key and stands in the audit log.

use adapters::sealing::Keyring;
use entities::{ApiKeyId, AuditOutcome, Principal, Scope, TenantId, UserId};

use crate::{Once, audit::Entry};

/// A mutation as it was asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    tenant: TenantId,
    actor: UserId,
    api_key: Option<ApiKeyId>,
    on_behalf_of: Option<UserId>,
    mutation: String,
    fields: Vec<String>,
    target: Option<String>,
    address: Option<String>,
    once: Option<Once>,
}

/// What of a mutation's input is told to nobody, or stands elsewhere.
const UNTOLD: [&str; 2] = ["id", "idempotencyKey"];

impl Asked {
    /// `fields` are the names of what its input holds, `target` the id of what it is about, where its input says so, and `address`
    /// is the client's. `None` for the server's own doings.
    #[must_use]
    pub fn new(
        scope: &Scope,
        mutation: impl Into<String>,
        fields: Vec<String>,
        target: Option<String>,
        address: Option<String>,
    ) -> Option<Self> {
        let api_key = match scope.principal() {
            Principal::Session(_) => None,
            Principal::Key(key) => Some(key),
            Principal::Run => return None,
        };
        Some(Self {
            tenant: scope.tenant(),
            actor: scope.behind().unwrap_or(scope.user()),
            api_key,
            on_behalf_of: scope.behind().map(|_| scope.user()),
            mutation: mutation.into(),
            fields,
            target,
            address,
            once: None,
        })
    }

    /// The same with a key, by which it is done once. `input` is written in a form that is the same for the same input; of it only
    /// a keyed digest is stored. A `key` that is empty, longer than 255 characters, or has a NUL is refused when something is to
    /// be done by it.
    #[must_use]
    pub fn with_key(self, scope: &Scope, key: String, input: Vec<u8>, keyring: &Keyring) -> Self {
        let once = Once::new(scope, self.mutation.clone(), key, input, keyring);
        Self { once, ..self }
    }

    /// What makes it be done once, where it came with a key.
    #[must_use]
    pub fn once(&self) -> Option<&Once> {
        self.once.as_ref()
    }

    /// The tenant that it was asked in.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// What the audit log says of it: of what it was about, and how it ended; `errors` are the codes of why it was refused.
    #[must_use]
    pub fn entry(&self, about: Option<String>, outcome: AuditOutcome, errors: &[&str]) -> Entry {
        let told = self
            .fields
            .iter()
            .filter(|field| !UNTOLD.contains(&field.as_str()))
            .collect::<Vec<_>>();
        let mut details = serde_json::json!({ "fields": told });
        if !errors.is_empty() {
            details["errors"] = serde_json::json!(errors);
        }
        Entry {
            tenant: self.tenant,
            actor: Some(self.actor),
            api_key: self.api_key,
            on_behalf_of: self.on_behalf_of,
            action: self.mutation.clone(),
            target: about.or_else(|| self.target.clone()),
            outcome,
            address: self.address.clone(),
            details,
        }
    }
}
