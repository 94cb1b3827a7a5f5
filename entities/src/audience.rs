//! Who could see a resource as of a change: kept with the change, since the resource itself may be gone or hidden later.

use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

use crate::{Access, GroupId, Permission, ResourceKind, Scope, UserId, Visibility};

/// Who sees a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audience {
    /// Its owner.
    pub(crate) owner: UserId,
    /// Who else does.
    #[serde(default = "private", skip_serializing_if = "is_private")]
    pub(crate) visibility: Visibility,
    /// Where it lives and with whom it is shared.
    #[serde(default, flatten)]
    pub(crate) reach: Reach,
}

/// Where a resource lives and with whom it is shared. A group is named with those around it, the innermost first: they stay as
/// they are for as long as there is the group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Reach {
    /// The group that it lives in; empty where it is its owner's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<GroupId>,
    /// With whom it is shared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<Shared>,
}

impl Reach {
    /// Whether it lives nowhere and is shared with nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.group.is_empty() && self.shares.is_empty()
    }
}

/// That a resource is shared, and how far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// With whom.
    pub with: Grantee,
    /// How far they may go.
    pub access: Access,
}

/// With whom something is shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grantee {
    /// A user.
    User(UserId),
    /// The members of a group, which is named with those around it.
    Group(Vec<GroupId>),
    /// Everybody in the tenant.
    Tenant,
}

fn private() -> Visibility {
    Visibility::Private
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "how serde asks whether a field is written"
)]
fn is_private(visibility: &Visibility) -> bool {
    *visibility == Visibility::Private
}

impl Audience {
    /// Its owner, and whom `visibility` covers.
    #[must_use]
    pub fn new(owner: UserId, visibility: Visibility) -> Self {
        Self {
            owner,
            visibility,
            reach: Reach::default(),
        }
    }

    /// Its owner alone: of a conversation and of its runs that are not shared.
    #[must_use]
    pub fn owner(owner: UserId) -> Self {
        Self::new(owner, Visibility::Private)
    }

    /// Whether this user is the owner.
    #[must_use]
    pub fn is_owned_by(&self, user: UserId) -> bool {
        self.owner == user
    }

    /// The members of a group, which is named with those around it, and whoever manages members.
    #[must_use]
    pub fn of_group(chain: Vec<GroupId>) -> Self {
        let nobody = UserId(uuid::Uuid::nil());
        Self {
            reach: Reach {
                group: chain,
                shares: Vec::new(),
            },
            ..Self::new(nobody, Visibility::Group)
        }
    }

    /// The same where it lives in a group, or is shared.
    #[must_use]
    pub fn reaching(self, reach: Option<&Reach>) -> Self {
        match reach {
            Some(reach) => Self {
                reach: reach.clone(),
                ..self
            },
            None => self,
        }
    }

    /// Whether who asks by `scope`, in the tenant of the resource, sees a resource of this kind that has this audience: what
    /// lists of that kind would have.
    #[must_use]
    pub fn covers(&self, kind: ResourceKind, scope: &Scope) -> bool {
        use Permission::{
            AgentsEdit, AgentsUse, ConversationsUse, KnowledgeEdit, KnowledgeRead, MembersManage,
            ToolsManage,
        };
        let any = |permissions: &[Permission]| permissions.iter().any(|&it| scope.may(it));
        let access = scope.access(kind, self);
        match kind {
            ResourceKind::Conversation | ResourceKind::Run => {
                access >= Some(Access::Read) && any(&[ConversationsUse])
            }
            ResourceKind::Approval | ResourceKind::File => access.is_some(),
            ResourceKind::Agent => access.is_some() && any(&[AgentsUse, AgentsEdit]),
            ResourceKind::KnowledgeBase | ResourceKind::Document => {
                access.is_some() && any(&[KnowledgeRead, KnowledgeEdit])
            }
            ResourceKind::Tool | ResourceKind::McpServer | ResourceKind::Skill => {
                access.is_some() && any(&[AgentsUse, AgentsEdit, ToolsManage])
            }
            ResourceKind::Model => access.is_some(),
            ResourceKind::Group => {
                any(&[MembersManage]) || scope.role_in(&self.reach.group).is_some()
            }
            ResourceKind::Membership => any(&[MembersManage]) || self.owner == scope.user(),
        }
    }
}

/// Who saw a resource before a change of it, and who does after it; `None`: it was not there, or is gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Audiences {
    /// Before.
    #[serde(default)]
    pub before: Option<Audience>,
    /// After.
    #[serde(default)]
    pub after: Option<Audience>,
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{Permissions, Principal, Role, SessionId, TenantId};

    fn scope(user: u128, role: Role, permissions: Permissions) -> Scope {
        let session = Principal::Session(SessionId(Uuid::nil()));
        let (tenant, user) = (TenantId(Uuid::nil()), UserId(Uuid::from_u128(user)));
        Scope::new(tenant, user, role, permissions, session)
    }

    #[test]
    fn covers_whom_lists_would_show_it() {
        let of = |user, role| scope(user, role, Permissions::of(role));
        let (owner, admin, member) = (of(1, Role::Member), of(2, Role::Admin), of(3, Role::Member));
        let private = Audience::owner(UserId(Uuid::from_u128(1)));
        let everybody = Audience::new(UserId(Uuid::from_u128(1)), Visibility::Tenant);
        let sees = |audience: &Audience, kind| {
            [&owner, &admin, &member].map(|scope| audience.covers(kind, scope))
        };
        for (audience, kind, expected) in [
            (&private, ResourceKind::Agent, [true, true, false]),
            (&private, ResourceKind::Model, [true, true, false]),
            (&private, ResourceKind::Conversation, [true, false, false]),
            (&private, ResourceKind::Run, [true, false, false]),
            (&everybody, ResourceKind::Agent, [true, true, true]),
            (&everybody, ResourceKind::Model, [true, true, true]),
        ] {
            assert_eq!(sees(audience, kind), expected, "{kind:?} {audience:?}");
        }
        // A key that may do less sees less.
        let key = scope(
            1,
            Role::Member,
            Permissions::NONE.with(Permission::KnowledgeRead),
        );
        assert!(!private.covers(ResourceKind::Run, &key));
        assert!(!everybody.covers(ResourceKind::Agent, &key));
    }

    #[test]
    fn reads_what_was_written_before_it_had_types() {
        let owner = UserId(Uuid::from_u128(7));
        let text = r#"{"before":null,"after":{"owner":"00000000-0000-0000-0000-000000000007"}}"#;
        let read: Audiences = serde_json::from_str(text).unwrap();
        let expected = Audiences {
            before: None,
            after: Some(Audience::owner(owner)),
        };
        assert_eq!(read, expected);
        let text = r#"{"before":{"owner":"00000000-0000-0000-0000-000000000007","visibility":"TENANT"},"after":null}"#;
        let read: Audiences = serde_json::from_str(text).unwrap();
        assert_eq!(read.before, Some(Audience::new(owner, Visibility::Tenant)));
    }
}
