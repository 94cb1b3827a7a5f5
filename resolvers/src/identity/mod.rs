//! Who is who: users, memberships, sessions, API keys, and whoever asks.

mod allowance;
mod enums;
mod members;
mod mutations;
mod objects;
mod oidc;
mod sessions;
mod tenants;
mod viewer;

pub use allowance::{Allowances, RateLimit};
pub use enums::{ApiKeyKind, ApiKeyStatus, CredentialKind, Permission, Role, UserKind};
pub(crate) use members::groups;
pub use members::{CreateUserPayload, MemberMutation, MembershipPayload, ResetPasswordPayload};
pub(crate) use mutations::signed_in;
pub use mutations::{CreateApiKeyPayload, DeletePayload, IdentityMutation, SignInPayload};
pub use objects::{ApiKey, Membership, User};
pub use oidc::{Identity, OidcMutation};
pub use sessions::{Session, SessionMutation, SignOutPayload, UserPayload};
pub use tenants::{TenantMutation, TenantPayload};
pub use viewer::{IdentityQuery, Viewer};
