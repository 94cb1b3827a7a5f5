//! Groups of people within a tenant, which may stand within each other.

mod objects;
mod queries;

pub(crate) use objects::{GROUPS, Named, connection};
pub use objects::{Group, GroupMember};
pub use queries::GroupQuery;
