//! Enums of who may do what, as clients see them.

use async_graphql::{Enum, json_enum};

/// What a member is in a tenant: OWNER > ADMIN > EDITOR > MEMBER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::Role")]
pub enum Role {
    /// Everything in the tenant.
    Owner,
    /// Manages people, models and tools, too.
    Admin,
    /// Makes agents and knowledge bases, too.
    Editor,
    /// Uses what others made.
    Member,
}
json_enum!(Role);

/// One right in a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::Permission")]
pub enum Permission {
    /// Change the tenant itself.
    TenantManage,
    /// Invite, change and remove people.
    MembersManage,
    /// Make and change models.
    ModelsManage,
    /// Make and change agents.
    AgentsEdit,
    /// See the agents that one may use, and talk to them.
    AgentsUse,
    /// Make and change knowledge bases.
    KnowledgeEdit,
    /// Search knowledge bases.
    KnowledgeRead,
    /// Make and change tools.
    ToolsManage,
    /// Have conversations: see those that one may see, with their messages and runs, and say something in them.
    ConversationsUse,
    /// Decide approvals that others asked for.
    ApprovalsDecide,
    /// See what was used and what it cost.
    UsageRead,
    /// See who did what.
    AuditRead,
    /// Look after the whole installation.
    PlatformManage,
}
json_enum!(Permission);

/// What an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::UserKind")]
pub enum UserKind {
    /// A person.
    Person,
    /// The account of a service key.
    Service,
}
json_enum!(UserKind);

/// How a request showed who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::CredentialKind")]
pub enum CredentialKind {
    /// A session that began with a password.
    PasswordSession,
    /// A session that began at a sign-in provider (OpenID Connect).
    OidcSession,
    /// A person's API key.
    PersonalKey,
    /// An API key of a service.
    ServiceKey,
}
json_enum!(CredentialKind);

/// Whose an API key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::ApiKeyKind")]
pub enum ApiKeyKind {
    /// It acts as the person who made it.
    Personal,
    /// It acts as an account of its own.
    Service,
}
json_enum!(ApiKeyKind);

/// Whether an API key can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum ApiKeyStatus {
    /// It can be used.
    Active,
    /// It ran out.
    Expired,
    /// Somebody ended it.
    Revoked,
}
json_enum!(ApiKeyStatus);
