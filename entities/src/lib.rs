//! The tables as Rust sees them: typed ids, [`Scope`] and roles, and selects that cannot begin without a tenant.
//!
//! This is where the wall between tenants is built. Crates to the left do not depend on the query library; what they get of it
//! stands in [`query`], and nothing there starts a select. A read begins with [`in_tenant`](agent::Entity::in_tenant) or one
//! of the named reads beside an entity; reads that have no tenant yet take a [`SystemScope`].

mod audience;
pub mod db;
pub mod each;
pub mod groups;
pub mod health;
pub mod ids;
pub mod input;
pub mod outcome;
pub mod page;
pub mod query;
pub mod runs;
pub mod scope;
pub mod search;
pub mod sharing;
mod tables;
pub mod tree;
pub mod turns;
pub mod usage;

pub use audience::{Audience, Audiences, Grantee, Reach, Shared};
pub use db::{Backend, Db, DbErr, Snapshot, Tx, Within};
pub use ids::{
    AgentId, AgentVersionId, ApiKeyId, AuditEntryId, ConversationId, GroupId, GroupMemberId,
    IdError, IdentityId, InvitationId, MembershipId, MessageId, ModelId, RunId, SecretId,
    SessionId, ShareId, TenantId, ToolCallId, UserId, WorkerId,
};
pub use outcome::{CommandError, Reference, Refusal};
pub use scope::{Access, Permission, Permissions, Principal, Role, Scope, SystemScope, Visibility};
pub use tables::*;
