//! What changes in the tenant, for lists that stay fresh without asking again.

mod enums;
mod objects;
mod subscriptions;

pub use enums::{ChangeAction, ResourceKind};
pub use objects::Change;
pub use subscriptions::ChangeSubscription;
