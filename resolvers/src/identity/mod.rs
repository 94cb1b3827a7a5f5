//! Who is who: users, memberships, tenants, sessions, API keys, and whoever asks.

mod allowance;
mod enums;
mod mutations;
mod objects;
mod oidc;
mod sessions;
mod viewer;

pub use allowance::{Allowances, RateLimit};
pub use enums::{ApiKeyKind, ApiKeyStatus, CredentialKind, Permission, Role, UserKind};
pub use mutations::{CreateApiKeyPayload, DeletePayload, IdentityMutation, SignInPayload};
pub use objects::{ApiKey, Membership, Tenant, User};
pub use oidc::{Identity, OidcMutation};
pub use sessions::{Session, SessionMutation, SignOutPayload, UserPayload};
pub use viewer::{IdentityQuery, Viewer};
