//! Who is who: users, memberships, sessions, API keys, and whoever asks.

mod allowance;
mod enums;
mod mutations;
mod objects;
mod sessions;
mod viewer;

pub use allowance::{Allowances, RateLimit};
pub use enums::{ApiKeyKind, ApiKeyStatus, CredentialKind, Permission, Role, UserKind};
pub use mutations::{CreateApiKeyPayload, DeletePayload, IdentityMutation, SignInPayload};
pub use objects::{ApiKey, Membership, User};
pub use sessions::{Session, SessionMutation, SignOutPayload, UserPayload};
pub use viewer::{IdentityQuery, Viewer};
