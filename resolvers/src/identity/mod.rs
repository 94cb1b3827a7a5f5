//! Who is who: users, memberships, tenants, API keys, and whoever asks.

mod enums;
mod mutations;
mod objects;
mod viewer;

pub use enums::{ApiKeyKind, ApiKeyStatus, CredentialKind, Permission, Role, UserKind};
pub use mutations::{CreateApiKeyPayload, DeletePayload, IdentityMutation, SignInPayload};
pub use objects::{ApiKey, Membership, Tenant, User};
pub use viewer::{IdentityQuery, Viewer};
