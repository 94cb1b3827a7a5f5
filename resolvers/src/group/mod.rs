//! Groups of people within a tenant, which may stand within each other.

mod mutations;
mod objects;
mod queries;

pub use mutations::{GroupMutation, GroupPayload};
pub(crate) use objects::{GROUPS, Named, connection};
pub use objects::{Group, GroupMember};
pub use queries::GroupQuery;
