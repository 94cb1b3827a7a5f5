//! Who is asking and what they may do: passwords, sessions, tokens and API keys, and the [`Scope`](entities::Scope) that follows
//! from them.
//!
//! It knows no transport: headers, sockets and their rules are the edge's, which hands over what a request carried. It knows no
//! resource either: what a scope may do with one stands where the resource is.

mod api_keys;
mod attempts;
mod authority;
mod base62;
mod change_password;
mod identify;
mod identity;
pub mod oidc;
mod on_behalf;
mod passwords;
mod refresh;
mod seen;
mod sessions;
mod set_up;
mod setup_token;
mod sign_in;
mod sign_out;
mod signing;
#[cfg(test)]
mod testing;
mod tokens;
mod watch;

pub use api_keys::{NewApiKey, PERSONAL_PREFIX, SERVICE_PREFIX};
pub use authority::{AuthConfig, Authority, RequestContext};
pub use change_password::ChangePassword;
pub use identify::Credential;
pub use identity::Identity;
pub use refresh::Refresh;
pub use sessions::{SESSION_IDLE, SESSION_LASTS, SignedIn};
pub use set_up::SetUp;
pub use sign_in::SignIn;
pub use sign_out::SignedOut;
pub use tokens::{ACCESS_TOKEN_LASTS, AUDIENCE, REFRESH_PREFIX};
pub use watch::Rights;
