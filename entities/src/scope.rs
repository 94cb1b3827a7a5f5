//! Who is asking, in which tenant, and what they may do: the value that every read and command is handed.

use std::fmt;

use sea_orm::{DeriveActiveEnum, EnumIter, FromJsonQueryResult, Iterable};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::ids::{ApiKeyId, SessionId, TenantId, UserId};

/// What a member is in a tenant. Ordered: OWNER is the greatest.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    EnumIter,
    DeriveActiveEnum,
    Serialize,
    Deserialize,
)]
#[sea_orm(
    rs_type = "String",
    db_type = "Text",
    rename_all = "SCREAMING_SNAKE_CASE"
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// Uses what others made.
    Member,
    /// Makes agents and knowledge bases too.
    Editor,
    /// Manages people, models and tools too.
    Admin,
    /// Everything in the tenant.
    Owner,
}

/// One right. A role and a key each give a set of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(
    missing_docs,
    reason = "the names say it; the graph documents them for clients"
)]
pub enum Permission {
    TenantManage,
    MembersManage,
    ModelsManage,
    AgentsEdit,
    AgentsUse,
    KnowledgeEdit,
    KnowledgeRead,
    ToolsManage,
    ConversationsUse,
    ApprovalsDecide,
    UsageRead,
    AuditRead,
    PlatformManage,
}

/// A set of [`Permission`]s. Stored and sent as a list of their names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, FromJsonQueryResult)]
pub struct Permissions(u32);

impl Permissions {
    /// None at all.
    pub const NONE: Self = Self(0);

    /// Whether it holds `permission`.
    #[must_use]
    pub fn has(self, permission: Permission) -> bool {
        self.0 & 1 << permission as u32 != 0
    }

    /// With one more.
    #[must_use]
    pub fn with(self, permission: Permission) -> Self {
        Self(self.0 | 1 << permission as u32)
    }

    /// With one less.
    #[must_use]
    pub fn without(self, permission: Permission) -> Self {
        Self(self.0 & !(1 << permission as u32))
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether every one of these is in `other`.
    #[must_use]
    pub fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Its members, in the order of the contract.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::iter().filter(move |&permission| self.has(permission))
    }

    /// What a role gives (`PLATFORM_MANAGE` is in no role).
    #[must_use]
    pub fn of(role: Role) -> Self {
        use Permission::{
            AgentsEdit, AgentsUse, ApprovalsDecide, ConversationsUse, KnowledgeEdit, KnowledgeRead,
            PlatformManage, TenantManage, UsageRead,
        };
        let all: Self = Permission::iter()
            .filter(|&permission| permission != PlatformManage)
            .collect();
        match role {
            Role::Owner => all,
            Role::Admin => all.without(TenantManage),
            Role::Editor => [
                AgentsEdit,
                AgentsUse,
                KnowledgeEdit,
                KnowledgeRead,
                ConversationsUse,
                ApprovalsDecide,
                UsageRead,
            ]
            .into_iter()
            .collect(),
            Role::Member => [AgentsUse, KnowledgeRead, ConversationsUse]
                .into_iter()
                .collect(),
        }
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<T: IntoIterator<Item = Permission>>(iter: T) -> Self {
        iter.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Permissions {
    /// Names that this version does not know are left out: a right that nobody checks gives nothing.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names: Vec<serde_json::Value> = Deserialize::deserialize(deserializer)?;
        if names.iter().any(|name| !name.is_string()) {
            return Err(D::Error::custom("a permission is a name"));
        }
        Ok(names
            .into_iter()
            .filter_map(|name| serde_json::from_value(name).ok())
            .collect())
    }
}

/// How far one may go with a resource. Ordered: MANAGE is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Through an agent or a picker.
    Use,
    /// Its content too.
    Read,
    /// Change it.
    Edit,
    /// Share and delete it.
    Manage,
}

/// Who sees a resource besides its owner and those it is shared with.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, Serialize, Deserialize,
)]
#[sea_orm(
    rs_type = "String",
    db_type = "Text",
    rename_all = "SCREAMING_SNAKE_CASE"
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Visibility {
    /// Nobody.
    Private,
    /// The members of its group.
    Group,
    /// Everybody in the tenant.
    Tenant,
}

/// What signed the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A person's session.
    Session(SessionId),
    /// An API key.
    Key(ApiKeyId),
    /// The server itself on behalf of the user: a run going on after its request is gone.
    Run,
}

/// A tenant, who is asking there, and with which rights. Every read and command of a tenant's data starts with one.
///
/// Made by `auth` from a credential, and by `engine` from what is stored of a run's asker or a conversation's owner; nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    tenant: TenantId,
    user: UserId,
    role: Role,
    permissions: Permissions,
    principal: Principal,
}

impl Scope {
    /// The rights are the ones in force: a key's are cut to its owner's before.
    #[must_use]
    pub fn new(
        tenant: TenantId,
        user: UserId,
        role: Role,
        permissions: Permissions,
        principal: Principal,
    ) -> Self {
        Self {
            tenant,
            user,
            role,
            permissions,
            principal,
        }
    }

    /// The tenant that all of it is about.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The user who asks, or for whom a key does.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.user
    }

    /// His role there.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// His rights there.
    #[must_use]
    pub fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// What signed the request.
    #[must_use]
    pub fn principal(&self) -> Principal {
        self.principal
    }

    /// Whether `permission` is among his rights.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.has(permission)
    }

    /// How far he may go with an agent or model of this tenant; `None`: for him it does not exist.
    #[must_use]
    pub fn access(&self, owner: UserId, visibility: Visibility) -> Option<Access> {
        if owner == self.user || self.role >= Role::Admin {
            Some(Access::Manage)
        } else {
            (visibility == Visibility::Tenant).then_some(Access::Read)
        }
    }
}

/// The right to read where there is no tenant yet: sign-in, key lookup, claiming and sweeping.
///
/// Only `auth`, `events`, `engine` and the program's wiring make one; a test of the house holds that.
#[derive(Debug, Clone, Copy)]
pub struct SystemScope(());

impl SystemScope {
    /// Says in the code why: `SystemScope::of("sign-in")`.
    #[must_use]
    pub const fn of(_why: &'static str) -> Self {
        Self(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_nested() {
        let sets: Vec<_> = Role::iter().map(Permissions::of).collect();
        assert!(sets.is_sorted_by(|a, b| a.within(*b)));
        assert!(!Permissions::of(Role::Owner).has(Permission::PlatformManage));
        assert!(!Permissions::of(Role::Admin).has(Permission::TenantManage));
    }

    #[test]
    fn stored_as_names() {
        let some = Permissions::NONE
            .with(Permission::AgentsEdit)
            .with(Permission::UsageRead);
        let text = serde_json::to_string(&some).unwrap();
        assert_eq!(text, r#"["AGENTS_EDIT","USAGE_READ"]"#);
        assert_eq!(
            serde_json::from_str::<Permissions>(
                r#"["USAGE_READ","OF_A_LATER_VERSION","AGENTS_EDIT"]"#
            )
            .unwrap(),
            some
        );
    }
}
