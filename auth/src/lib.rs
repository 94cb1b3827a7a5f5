//! Who is asking and what they may do: passwords, sessions, tokens and API keys, and the [`Scope`](entities::Scope) that follows
//! from them.
//!
//! It knows no transport: headers, sockets and their rules are the edge's, which hands over what a request carried. It knows no
//! resource either: what a scope may do with one stands where the resource is.

mod api_keys;
mod attempts;
mod audit;
mod authority;
mod base62;
mod change_password;
mod groups;
mod identify;
mod identity;
mod installation_key;
mod invitations;
mod invited;
mod joining;
mod members;
pub mod oidc;
mod on_behalf;
pub mod operator;
mod passwords;
mod platform;
mod rank;
mod refresh;
mod resets;
pub mod rotation;
mod seen;
mod sessions;
mod set_up;
mod setup_token;
mod sign_in;
mod sign_out;
mod signing;
mod tenants;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tokens;
mod watch;

pub use api_keys::{NewApiKey, PERSONAL_PREFIX, SERVICE_PREFIX};
pub use audit::{Break, Checked, verify_audit};
pub use authority::{AuthConfig, Authority, RequestContext};
pub use change_password::ChangePassword;
pub use groups::{ChangeGroup, NewGroup};
pub use identify::Credential;
pub use identity::Identity;
pub use installation_key::with_installation_key;
pub use invitations::{Accept, INVITATION_PREFIX, Invited, NewInvitation};
pub use invited::InvitedTo;
pub use members::{NewMember, NewUser};
pub use refresh::Refresh;
pub use resets::{RESET_LASTS, RESET_PREFIX, Redeem, Reset};
pub use sessions::{SESSION_IDLE, SESSION_LASTS, SignedIn};
pub use set_up::SetUp;
pub use sign_in::SignIn;
pub use sign_out::SignedOut;
pub use tenants::{ChangeTenant, NewTenant};
pub use tokens::{ACCESS_TOKEN_LASTS, AUDIENCE, REFRESH_PREFIX};
pub use watch::Rights;
