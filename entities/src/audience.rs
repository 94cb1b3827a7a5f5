//! Who could see a resource as of a change: kept with the change, since the resource itself may be gone or hidden later.

use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

use crate::{Permission, ResourceKind, Scope, UserId, Visibility};

/// Who sees a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audience {
    /// Its owner.
    owner: UserId,
    /// Who else does.
    #[serde(default = "private", skip_serializing_if = "is_private")]
    visibility: Visibility,
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
        Self { owner, visibility }
    }

    /// Its owner alone: of a conversation and of its runs.
    #[must_use]
    pub fn owner(owner: UserId) -> Self {
        Self::new(owner, Visibility::Private)
    }

    /// Whether who asks by `scope`, in the tenant of the resource, sees a resource of this kind that has this audience: what
    /// lists of that kind would have.
    #[must_use]
    pub fn covers(&self, kind: ResourceKind, scope: &Scope) -> bool {
        use Permission::{
            AgentsEdit, AgentsUse, ConversationsUse, KnowledgeEdit, KnowledgeRead, ToolsManage,
        };
        let any = |permissions: &[Permission]| permissions.iter().any(|&it| scope.may(it));
        let owns = self.owner == scope.user();
        let has_access = scope.access(self.owner, self.visibility).is_some();
        match kind {
            // Nobody's role reaches into the conversations of others.
            ResourceKind::Conversation | ResourceKind::Run => owns && any(&[ConversationsUse]),
            ResourceKind::Approval | ResourceKind::File => owns,
            ResourceKind::Agent => has_access && any(&[AgentsUse, AgentsEdit]),
            ResourceKind::KnowledgeBase | ResourceKind::Document => {
                has_access && any(&[KnowledgeRead, KnowledgeEdit])
            }
            ResourceKind::Tool | ResourceKind::McpServer | ResourceKind::Skill => {
                has_access && any(&[AgentsUse, AgentsEdit, ToolsManage])
            }
            ResourceKind::Model | ResourceKind::Group | ResourceKind::Membership => has_access,
        }
    }
}

/// Who saw a resource before a change of it, and who does after it; `None`: it was not there, or is gone.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, FromJsonQueryResult,
)]
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
