//! With whom things are shared, and the groups that they live in.

use entities::{
    Access, AgentId, CommandError, ConversationId, GroupId, ModelId, Permission, Reach, Refusal,
    ResourceKind, Role, Scope, ShareId, TenantId, UserId, Visibility, agent, conversation, group,
    ids, llm_model, membership, query::*, share, sharing,
};
use events::Command;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Engine, conversations};

/// With how many somebody shares one thing.
const SHARES: u64 = 100;
const PATH: &[&str] = &["input", "id"];

/// Something that may be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shareable {
    /// What it is.
    pub kind: ResourceKind,
    /// Which one.
    pub id: Uuid,
}

impl Shareable {
    /// What the text of an id names; `None`: nothing that is shared.
    #[must_use]
    pub fn named(id: &str) -> Option<Self> {
        let (prefix, id) = ids::parse(id)?;
        let kind = match prefix {
            AgentId::PREFIX => ResourceKind::Agent,
            ModelId::PREFIX => ResourceKind::Model,
            ConversationId::PREFIX => ResourceKind::Conversation,
            _ => return None,
        };
        Some(Self { kind, id })
    }

    fn needs(self) -> Permission {
        match self.kind {
            ResourceKind::Agent => Permission::AgentsEdit,
            ResourceKind::Model => Permission::ModelsManage,
            _ => Permission::ConversationsUse,
        }
    }

    fn not_found(self) -> Refusal {
        let mut id = String::new();
        let prefix = self.kind.prefix().unwrap_or_default();
        // A text takes whatever is written to it.
        let _ = ids::write(prefix, self.id, &mut id);
        Refusal::not_found(PATH, id.as_str())
    }
}

/// With whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// A user of the tenant.
    User(UserId),
    /// A group that the caller sees.
    Group(GroupId),
    /// Everybody in the tenant: the caller's own.
    Tenant(TenantId),
}

impl With {
    fn path(self) -> &'static [&'static str] {
        match self {
            Self::User(_) => &["input", "with", "userId"],
            Self::Group(_) => &["input", "with", "groupId"],
            Self::Tenant(_) => &["input", "with", "tenantId"],
        }
    }

    fn not_found(self) -> Refusal {
        match self {
            Self::User(id) => Refusal::not_found(self.path(), id),
            Self::Group(id) => Refusal::not_found(self.path(), id),
            Self::Tenant(id) => Refusal::not_found(self.path(), id),
        }
    }

    fn condition(self) -> Condition {
        Condition::all().add(match self {
            Self::User(id) => share::Column::UserId.eq(id),
            Self::Group(id) => share::Column::GroupId.eq(id),
            Self::Tenant(_) => share::Column::WithTenant.eq(true),
        })
    }
}

impl Engine {
    /// Shares something, or changes how far it is shared.
    ///
    /// # Errors
    /// NotFound for what the caller does not see; Forbidden where he may not share it; InvalidInput for a conversation that would
    /// be shared for USE, and with its owner.
    pub async fn share(
        &self,
        scope: &Scope,
        what: Shareable,
        with: With,
        access: Access,
    ) -> Result<Shareable, CommandError> {
        let scope = scope.clone();
        self.command(scope.tenant(), move |c| {
            Box::pin(async move {
                let owner = locked(c, &scope, what).await?;
                if what.kind == ResourceKind::Conversation && access < Access::Read {
                    let message = "a conversation is shared for READ or more: there is nothing to use it through";
                    return Err(Refusal::invalid(&["input", "access"], message).into());
                }
                check_grantee(c, &scope, with).await?;
                if with == With::User(owner) {
                    return Err(Refusal::invalid(with.path(), "its owner has MANAGE").into());
                }
                put(c, &scope, what, with, access).await?;
                renew(c, &scope, what).await?;
                Ok(what)
            })
        })
        .await
    }

    /// Shares something no more with somebody.
    ///
    /// # Errors
    /// As [`Engine::share`]; NotFound where it is not shared with him.
    pub async fn unshare(
        &self,
        scope: &Scope,
        what: Shareable,
        with: With,
    ) -> Result<Shareable, CommandError> {
        let scope = scope.clone();
        self.command(scope.tenant(), move |c| {
            Box::pin(async move {
                locked(c, &scope, what).await?;
                if let With::Tenant(tenant) = with
                    && tenant != scope.tenant()
                {
                    return Err(with.not_found().into());
                }
                let gone = share::Entity::delete_in(&scope)
                    .filter(share::Column::ResourceId.eq(what.id))
                    .filter(with.condition())
                    .exec(&**c.tx())
                    .await?;
                if gone.rows_affected == 0 {
                    return Err(with.not_found().into());
                }
                renew(c, &scope, what).await?;
                Ok(what)
            })
        })
        .await
    }
}

/// The owner of something that the caller may share, its row locked; of a conversation its stream as well.
async fn locked(c: &mut Command, scope: &Scope, what: Shareable) -> Result<UserId, CommandError> {
    let found = match what.kind {
        ResourceKind::Agent => agent::Entity::in_tenant(scope)
            .filter(agent::Column::Id.eq(what.id))
            .filter(agent::Column::DeletedAt.is_null())
            .lock(LockType::NoKeyUpdate)
            .one(&**c.tx())
            .await?
            .map(|row| (row.owner_id, row.audience())),
        ResourceKind::Model => llm_model::Entity::in_tenant(scope)
            .filter(llm_model::Column::Id.eq(what.id))
            .filter(llm_model::Column::DeletedAt.is_null())
            .lock(LockType::NoKeyUpdate)
            .one(&**c.tx())
            .await?
            .map(|row| (row.owner_id, row.audience())),
        ResourceKind::Conversation => {
            conversations::may(scope)?;
            let id = ConversationId(what.id);
            let row = conversations::find_locked(c, scope, id, Access::Manage, PATH).await?;
            row.map(|row: conversation::Model| (row.owner_id, row.audience()))
        }
        _ => None,
    };
    let (owner, audience) = found.ok_or_else(|| what.not_found())?;
    let access = scope.access(what.kind, &audience);
    match access {
        None => Err(what.not_found().into()),
        Some(_) if !scope.may(what.needs()) => {
            Err(Refusal::forbidden(PATH, Some(what.needs())).into())
        }
        Some(access) if access < Access::Manage => Err(Refusal::forbidden(PATH, None).into()),
        Some(_) => Ok(owner),
    }
}

async fn check_grantee(c: &Command, scope: &Scope, with: With) -> Result<(), CommandError> {
    let is_there = match with {
        With::User(id) => membership::Entity::in_tenant(scope)
            .filter(membership::Column::UserId.eq(id))
            .filter(membership::Column::EndedAt.is_null())
            .one(&**c.tx())
            .await?
            .is_some(),
        With::Group(id) => seen_group(c, scope, id).await?.is_some(),
        With::Tenant(id) => id == scope.tenant(),
    };
    if is_there {
        Ok(())
    } else {
        Err(with.not_found().into())
    }
}

/// A group that the caller sees, as the groups around it, itself first.
async fn seen_group(
    c: &Command,
    scope: &Scope,
    id: GroupId,
) -> Result<Option<Vec<GroupId>>, CommandError> {
    let row = group::Entity::in_tenant(scope)
        .filter(group::Column::Id.eq(id))
        .one(&**c.tx())
        .await?;
    if row.is_none() {
        return Ok(None);
    }
    let chains = sharing::chains(&**c.tx(), scope.tenant(), vec![id]).await?;
    let chain = chains.into_values().next().unwrap_or_default();
    let sees = scope.may(Permission::MembersManage) || scope.role_in(&chain).is_some();
    Ok(sees.then_some(chain))
}

async fn put(
    c: &Command,
    scope: &Scope,
    what: Shareable,
    with: With,
    access: Access,
) -> Result<(), CommandError> {
    let of_it = || share::Entity::in_tenant(scope).filter(share::Column::ResourceId.eq(what.id));
    let there = of_it().filter(with.condition()).one(&**c.tx()).await?;
    if let Some(there) = there {
        share::Entity::change_in(scope)
            .filter(share::Column::Id.eq(there.id))
            .set(share::ActiveModel {
                access: Set(access),
                ..Default::default()
            })
            .exec(&**c.tx())
            .await?;
        return Ok(());
    }
    let count = of_it().count(&**c.tx()).await?;
    if count >= SHARES {
        let message = format!(
            "it is shared with {count} already, at most {SHARES} are allowed: share it with a group"
        );
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let path = &["input", "with"];
        return Err(Refusal::beyond(path, message, signed(SHARES), signed(count + 1)).into());
    }
    let (user_id, group_id) = match with {
        With::User(id) => (Some(id), None),
        With::Group(id) => (None, Some(id)),
        With::Tenant(_) => (None, None),
    };
    let row = share::Model {
        id: ShareId(c.clock().uuid()),
        tenant_id: scope.tenant(),
        kind: what.kind,
        resource_id: what.id,
        user_id,
        group_id,
        with_tenant: matches!(with, With::Tenant(_)),
        access,
        created_at: c.now(),
    };
    Ok(share::Entity::add(&**c.tx(), row).await?)
}

/// Writes whom it reaches beside its row, and says so.
async fn renew(c: &mut Command, scope: &Scope, what: Shareable) -> Result<(), CommandError> {
    let renewed = sharing::renew(&**c.tx(), scope.tenant(), what.kind, &[what.id]).await?;
    for reached in renewed {
        let (before, after) = (Some(reached.before), Some(reached.after));
        c.changed(scope, reached.kind, reached.id, before, after);
    }
    Ok(())
}

/// The groups around the one that something is to live in, itself first: one in which the caller makes things, as EDITOR or more, or
/// as whoever manages the tenant's members.
pub(crate) async fn home(
    c: &Command,
    scope: &Scope,
    id: GroupId,
) -> Result<Vec<GroupId>, CommandError> {
    let path = &["input", "groupId"];
    let chain = seen_group(c, scope, id).await?;
    let chain = chain.ok_or_else(|| Refusal::not_found(path, id))?;
    let manages = scope.may(Permission::MembersManage);
    if !manages && scope.role_in(&chain) < Some(Role::Editor) {
        return Err(Refusal::forbidden(path, None).into());
    }
    Ok(chain)
}

/// What changes of where something lives and who sees it: by whoever may share it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Move {
    /// The group from now on; `Some(None)`: its owner's own.
    pub(crate) group: Option<Option<GroupId>>,
    /// Who sees it from now on.
    pub(crate) visibility: Option<Visibility>,
}

/// Where something lives and who sees it.
pub(crate) type Place = (Option<GroupId>, Visibility);

impl Move {
    /// Where it lives and who sees it then; refused where the caller may not decide that, of something that he has `access` to.
    pub(crate) async fn check(
        self,
        c: &Command,
        scope: &Scope,
        before: Place,
        access: Option<Access>,
    ) -> Result<Place, CommandError> {
        let after = (
            self.group.unwrap_or(before.0),
            self.visibility.unwrap_or(before.1),
        );
        if after == before {
            return Ok(after);
        }
        let field = if after.0 == before.0 {
            "visibility"
        } else {
            "groupId"
        };
        if access < Some(Access::Manage) {
            return Err(Refusal::forbidden(&["input", field], None).into());
        }
        if let Some(group) = after.0.filter(|_| after.0 != before.0) {
            home(c, scope, group).await?;
        }
        if after.1 == Visibility::Group && after.0.is_none() {
            let message = "visibility GROUP needs a group: give groupId";
            return Err(Refusal::invalid(&["input", "visibility"], message).into());
        }
        Ok(after)
    }
}

/// The groups around the one that something new lives in, written beside it.
pub(crate) async fn reach(
    c: &Command,
    scope: &Scope,
    group: Option<GroupId>,
) -> Result<Option<Reach>, CommandError> {
    Ok(match group {
        Some(group) => Some(Reach {
            group: home(c, scope, group).await?,
            shares: Vec::new(),
        }),
        None => None,
    })
}

/// What is written beside something that moves to another group, or out of one: whom it is shared with stays.
pub(crate) async fn moved(
    c: &Command,
    scope: &Scope,
    before: Option<Reach>,
    group: Option<GroupId>,
) -> Result<Option<Reach>, CommandError> {
    let there = reach(c, scope, group).await?.unwrap_or_default();
    let reach = Reach {
        shares: before.map(|before| before.shares).unwrap_or_default(),
        ..there
    };
    Ok((!reach.is_empty()).then_some(reach))
}
