//! Who is asking, in which tenant, and what they may do: the value that every read and command is handed.

use std::{fmt, sync::Arc};

use sea_orm::{DeriveActiveEnum, EnumIter, FromJsonQueryResult, Iterable};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    Audience, Grantee, ResourceKind,
    ids::{ApiKeyId, GroupId, SessionId, TenantId, UserId},
};

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
    role: Option<Role>,
    groups: Arc<[(GroupId, Role)]>,
    permissions: Permissions,
    principal: Principal,
    behind: Option<UserId>,
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
            role: Some(role),
            groups: Arc::default(),
            permissions,
            principal,
            behind: None,
        }
    }

    /// An administrator of the platform in a tenant that is not his: he sees nothing of its resources.
    #[must_use]
    pub fn visiting(tenant: TenantId, user: UserId, principal: Principal) -> Self {
        Self {
            tenant,
            user,
            role: None,
            groups: Arc::default(),
            permissions: Permissions::NONE.with(Permission::PlatformManage),
            principal,
            behind: None,
        }
    }

    /// The same with the groups that the user is a member of himself, and as what.
    #[must_use]
    pub fn in_groups(self, groups: Arc<[(GroupId, Role)]>) -> Self {
        Self { groups, ..self }
    }

    /// The same where the account of a service key acts for the user.
    #[must_use]
    pub fn on_behalf(self, behind: UserId) -> Self {
        Self {
            behind: Some(behind),
            ..self
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

    /// His role there; `None` for an administrator of the platform who is no member. Compares below every role.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// The groups that he is a member of himself, and as what. He is a member of every group within them as well.
    #[must_use]
    pub fn groups(&self) -> &Arc<[(GroupId, Role)]> {
        &self.groups
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

    /// The account of the service key that acts for the user, where one does.
    #[must_use]
    pub fn behind(&self) -> Option<UserId> {
        self.behind
    }

    /// Whether `permission` is among his rights.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.has(permission)
    }

    /// What he is in a group that is named with those around it: the greatest of his roles in any of them.
    #[must_use]
    pub fn role_in(&self, chain: &[GroupId]) -> Option<Role> {
        let among = |(group, role): &(GroupId, Role)| chain.contains(group).then_some(*role);
        self.groups.iter().filter_map(among).max()
    }

    fn is_reached_by(&self, with: &Grantee) -> bool {
        match with {
            Grantee::User(user) => *user == self.user,
            Grantee::Group(chain) => self.role_in(chain).is_some(),
            Grantee::Tenant => true,
        }
    }

    /// How far he may go with a resource of this tenant; `None`: for him it does not exist. The most of what its owner may,
    /// shares, its visibility, the group that it lives in, and the role in the tenant give: an administrator's reaches into no
    /// conversation of others.
    #[must_use]
    pub fn access(&self, kind: ResourceKind, audience: &Audience) -> Option<Access> {
        let role = self.role?;
        let owns = audience.owner == self.user;
        let administers = role >= Role::Admin && kind.is_administered();
        if owns || administers {
            return Some(Access::Manage);
        }
        let in_group = self.role_in(&audience.reach.group);
        let by_group = in_group.and_then(|role| match role {
            Role::Owner | Role::Admin => Some(Access::Manage),
            Role::Editor => Some(Access::Edit),
            Role::Member => None,
        });
        let is_shown = match audience.visibility {
            Visibility::Private => false,
            Visibility::Group => in_group.is_some(),
            Visibility::Tenant => true,
        };
        let shares = audience.reach.shares.iter();
        let by_shares = shares
            .filter(|share| self.is_reached_by(&share.with))
            .map(|share| share.access);
        by_shares
            .chain(by_group)
            .chain(is_shown.then_some(Access::Read))
            .max()
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
