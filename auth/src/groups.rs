//! Groups of a tenant, which stand within one another, and who belongs to them. A group never moves: the groups around it stay
//! what they are for as long as there is the group.
//!
//! Whoever manages the tenant's members manages all groups; an ADMIN of a group, or of one around it, manages that one.

use entities::{
    Access, Audience, CommandError, GroupId, GroupMemberId, Permission, Reference, Refusal,
    ResourceKind, Role, Scope, UserId, agent,
    db::{Failure, failure},
    group, group_ancestor, group_member, input, invitation_group, llm_model, membership,
    query::*,
    share, sharing,
};
use events::Command;

use crate::{
    Authority,
    members::{changed, reach_anew},
    rank::{self, NEEDS, outranks},
};

/// Groups within one another.
const DEPTH: usize = 10;
/// Characters of a path: names and the slashes between them.
const PATH_CHARS: usize = DEPTH * (input::NAME + 1);
const PATH: &[&str] = &["input", "id"];

/// A group to be.
#[derive(Debug, Clone)]
pub struct NewGroup {
    /// At most 200 characters, no slash; unique among the groups of one parent.
    pub name: String,
    /// The group that it stands in.
    pub parent: Option<GroupId>,
    /// At most 10,000 characters.
    pub description: String,
}

/// What changes of a group; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct ChangeGroup {
    /// Another name; the paths of the groups within it follow.
    pub name: Option<String>,
    /// Another description.
    pub description: Option<String>,
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let path = &["input", "name"];
    input::filled(path, name, input::NAME)?;
    if name.contains('/') {
        return Err(Refusal::invalid(path, "name must not contain a slash"));
    }
    Ok(())
}

fn taken(path: &str, conflicting: Option<GroupId>) -> CommandError {
    let conflicting = conflicting.map(|id| Reference {
        prefix: GroupId::PREFIX,
        id: id.0,
    });
    let message = format!("there is a group {path:?} already");
    Refusal::conflict(&["input", "name"], message, conflicting).into()
}

/// A group with those around it, itself first.
struct Found {
    row: group::Model,
    chain: Vec<GroupId>,
}

impl Found {
    fn audience(&self) -> Option<Audience> {
        Some(Audience::of_group(self.chain.clone()))
    }

    /// What the caller is with regard to the group: the more of what he is in the tenant, where he manages its members, and in
    /// the group.
    fn rank(&self, scope: &Scope) -> Option<Role> {
        let in_tenant = scope.role().filter(|_| scope.may(NEEDS));
        in_tenant.max(scope.role_in(&self.chain))
    }

    fn changed(&self, c: &mut Command, scope: &Scope) {
        let seen_by = self.audience();
        c.changed(
            scope,
            ResourceKind::Group,
            self.row.id.0,
            seen_by.clone(),
            seen_by,
        );
    }
}

/// A group that the caller sees, its row locked after the tenant's.
async fn found(
    c: &Command,
    scope: &Scope,
    id: GroupId,
    path: &[&str],
) -> Result<Found, CommandError> {
    rank::lock_tenant(c.tx(), scope).await?;
    let not_found = || Refusal::not_found(path, id);
    let row = group::Entity::in_tenant(scope)
        .filter(group::Column::Id.eq(id))
        .lock_exclusive()
        .one(&**c.tx())
        .await?
        .ok_or_else(not_found)?;
    let chain = sharing::chains(&**c.tx(), scope.tenant(), vec![id]).await?;
    let found = Found {
        row,
        chain: chain.into_values().next().unwrap_or_default(),
    };
    if found.rank(scope).is_none() {
        return Err(not_found().into());
    }
    Ok(found)
}

/// A group that the caller manages.
async fn managed(
    c: &Command,
    scope: &Scope,
    id: GroupId,
    path: &[&str],
) -> Result<Found, CommandError> {
    let found = found(c, scope, id, path).await?;
    if found.rank(scope) < Some(Role::Admin) {
        return Err(Refusal::forbidden(path, Some(NEEDS)).into());
    }
    Ok(found)
}

impl Authority {
    /// Makes a group: at the top by who manages members, within another one by who manages that.
    ///
    /// # Errors
    /// Refusals of the input; a Conflict where the parent has one of that name.
    pub async fn create_group(
        &self,
        scope: &Scope,
        new: NewGroup,
    ) -> Result<GroupId, CommandError> {
        if new.parent.is_none() {
            rank::manages(scope)?;
        }
        let refusals: Vec<_> = [
            check_name(&new.name).err(),
            input::text(
                &["input", "description"],
                &new.description,
                input::DESCRIPTION,
            )
            .err(),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !refusals.is_empty() {
            return Err(CommandError::Refused(refusals));
        }
        let by = scope.clone();
        self.command_within(by.tenant(), move |c| {
            Box::pin(async move { create(c, &by, new).await })
        })
        .await
    }

    /// Changes a group's name or description.
    ///
    /// # Errors
    /// NotFound where the caller does not see it, Forbidden where he does not manage it, and as [`Authority::create_group`].
    pub async fn update_group(
        &self,
        scope: &Scope,
        id: GroupId,
        change: ChangeGroup,
    ) -> Result<GroupId, CommandError> {
        let by = scope.clone();
        self.command_within(by.tenant(), move |c| {
            Box::pin(async move {
                let group = managed(c, &by, id, PATH).await?;
                if let Some(description) = &change.description {
                    input::text(&["input", "description"], description, input::DESCRIPTION)?;
                }
                if let Some(name) = &change.name {
                    check_name(name)?;
                    rename(c, &by, &group, name.trim()).await?;
                }
                let description = change.description.unwrap_or(group.row.description.clone());
                group::Entity::change_in(&by)
                    .filter(group::Column::Id.eq(id))
                    .set(group::ActiveModel {
                        description: Set(description),
                        updated_at: Set(c.now()),
                        ..Default::default()
                    })
                    .exec(&**c.tx())
                    .await?;
                group.changed(c, &by);
                Ok(id)
            })
        })
        .await
    }

    /// Deletes a group that nothing stands or lives in and nothing is shared with; with `force` what does is let go of first: groups
    /// within it are deleted as well, and what lives in them is its owner's own from then on.
    ///
    /// # Errors
    /// As [`Authority::update_group`]; InUse without `force`; Forbidden with it, where the caller may not change all that.
    pub async fn delete_group(
        &self,
        scope: &Scope,
        id: GroupId,
        force: bool,
    ) -> Result<Vec<GroupId>, CommandError> {
        let by = scope.clone();
        self.command_within(by.tenant(), move |c| {
            Box::pin(async move { delete(c, &by, id, force).await })
        })
        .await
    }

    /// Makes somebody a member of a group, or another kind of member.
    ///
    /// # Errors
    /// As [`Authority::update_group`]; NotFound for a user who is no member of the tenant; Forbidden for a role, of then or from
    /// now on, that the caller does not act on.
    pub async fn set_group_member(
        &self,
        scope: &Scope,
        id: GroupId,
        user: UserId,
        role: Role,
    ) -> Result<GroupId, CommandError> {
        let by = scope.clone();
        self.command_within(by.tenant(), move |c| {
            Box::pin(async move {
                let group = managed(c, &by, id, &["input", "groupId"]).await?;
                let there = member(c, &by, id, user).await?;
                let own = group.rank(&by);
                if !outranks(own, role) {
                    return Err(Refusal::forbidden(&["input", "role"], None).into());
                }
                let path = &["input", "userId"];
                match there {
                    Some(there) if !outranks(own, there.role) => {
                        return Err(Refusal::forbidden(path, None).into());
                    }
                    Some(there) => {
                        group_member::Entity::change_in(&by)
                            .filter(group_member::Column::Id.eq(there.id))
                            .set(group_member::ActiveModel {
                                role: Set(role),
                                updated_at: Set(c.now()),
                                ..Default::default()
                            })
                            .exec(&**c.tx())
                            .await?;
                    }
                    None => {
                        let belongs = membership::Entity::in_tenant(&by)
                            .filter(membership::Column::UserId.eq(user))
                            .filter(membership::Column::EndedAt.is_null())
                            .one(&**c.tx())
                            .await?;
                        belongs.ok_or_else(|| Refusal::not_found(path, user))?;
                        let row = group_member::Model {
                            id: GroupMemberId(c.clock().uuid()),
                            tenant_id: by.tenant(),
                            group_id: id,
                            user_id: user,
                            role,
                            created_at: c.now(),
                            updated_at: c.now(),
                        };
                        group_member::Entity::add(&**c.tx(), row).await?;
                    }
                }
                group.changed(c, &by);
                tell(c, &by, user).await?;
                Ok(id)
            })
        })
        .await?;
        self.forget_user(user);
        Ok(id)
    }

    /// Takes somebody out of a group; anybody may take himself out.
    ///
    /// # Errors
    /// As [`Authority::set_group_member`].
    pub async fn remove_group_member(
        &self,
        scope: &Scope,
        id: GroupId,
        user: UserId,
    ) -> Result<GroupId, CommandError> {
        let by = scope.clone();
        self.command_within(by.tenant(), move |c| {
            Box::pin(async move {
                let group = found(c, &by, id, &["input", "groupId"]).await?;
                let there = member(c, &by, id, user).await?;
                let path = &["input", "userId"];
                let there = there.ok_or_else(|| Refusal::not_found(path, user))?;
                let own = group.rank(&by);
                if user != by.user() {
                    if own < Some(Role::Admin) {
                        return Err(Refusal::forbidden(&["input", "groupId"], Some(NEEDS)).into());
                    }
                    if !outranks(own, there.role) {
                        return Err(Refusal::forbidden(path, None).into());
                    }
                }
                group_member::Entity::delete_in(&by)
                    .filter(group_member::Column::Id.eq(there.id))
                    .exec(&**c.tx())
                    .await?;
                group.changed(c, &by);
                tell(c, &by, user).await?;
                Ok(id)
            })
        })
        .await?;
        self.forget_user(user);
        Ok(id)
    }
}

async fn create(c: &mut Command, by: &Scope, new: NewGroup) -> Result<GroupId, CommandError> {
    rank::lock_tenant(c.tx(), by).await?;
    let above = match new.parent {
        Some(parent) => Some(managed(c, by, parent, &["input", "parentId"]).await?),
        None => None,
    };
    let name = new.name.trim();
    let (path, chain) = match &above {
        Some(above) => (format!("{}/{name}", above.row.path), above.chain.clone()),
        None => (name.to_owned(), Vec::new()),
    };
    let depth = chain.len() + 1;
    if depth > DEPTH {
        let message = format!(
            "the group would be the {depth}th within one another, at most {DEPTH} are allowed"
        );
        let actual = i64::try_from(depth).unwrap_or(i64::MAX);
        return Err(Refusal::beyond(&["input", "parentId"], message, DEPTH as i64, actual).into());
    }
    input::text(&["input", "name"], &path, PATH_CHARS)?;
    free(c, by, &path).await?;
    let id = GroupId(c.clock().uuid());
    let row = group::Model {
        id,
        tenant_id: by.tenant(),
        parent_id: new.parent,
        name: name.to_owned(),
        path: path.clone(),
        description: new.description,
        created_at: c.now(),
        updated_at: c.now(),
    };
    group::Entity::add(&**c.tx(), row)
        .await
        .map_err(|error| match failure(&error) {
            Failure::Taken => taken(&path, None),
            Failure::Transient | Failure::Permanent => error.into(),
        })?;
    let chain: Vec<GroupId> = std::iter::once(id).chain(chain).collect();
    let rows = (0..)
        .zip(&chain)
        .map(|(distance, &ancestor_id)| group_ancestor::Model {
            tenant_id: by.tenant(),
            group_id: id,
            ancestor_id,
            distance,
        });
    group_ancestor::Entity::add_all(&**c.tx(), rows.collect()).await?;
    let after = Some(Audience::of_group(chain));
    c.changed(by, ResourceKind::Group, id.0, None, after);
    Ok(id)
}

/// That no group has this path; the tenant's row is locked.
async fn free(c: &Command, by: &Scope, path: &str) -> Result<(), CommandError> {
    let there = group::Entity::in_tenant(by)
        .filter(group::Column::Path.eq(path))
        .one(&**c.tx())
        .await?;
    match there {
        Some(there) => Err(taken(path, Some(there.id))),
        None => Ok(()),
    }
}

async fn rename(
    c: &mut Command,
    by: &Scope,
    group: &Found,
    name: &str,
) -> Result<(), CommandError> {
    if name == group.row.name {
        return Ok(());
    }
    let before = &group.row.path;
    let after = match before.rsplit_once('/') {
        Some((above, _)) => format!("{above}/{name}"),
        None => name.to_owned(),
    };
    free(c, by, &after).await?;
    let within = within(c, by, group.row.id).await?;
    for row in &within {
        let path = format!("{after}{}", &row.path[before.len()..]);
        let mut set = group::ActiveModel {
            path: Set(path),
            updated_at: Set(c.now()),
            ..Default::default()
        };
        if row.id == group.row.id {
            set.name = Set(name.to_owned());
        }
        group::Entity::change_in(by)
            .filter(group::Column::Id.eq(row.id))
            .set(set)
            .exec(&**c.tx())
            .await?;
    }
    let inner = within.iter().filter(|row| row.id != group.row.id);
    let ids: Vec<_> = inner.map(|row| row.id).collect();
    for (id, chain) in sharing::chains(&**c.tx(), by.tenant(), ids).await? {
        let seen_by = Some(Audience::of_group(chain));
        c.changed(by, ResourceKind::Group, id.0, seen_by.clone(), seen_by);
    }
    Ok(())
}

/// A group and those within it, the inner ones after the outer ones.
async fn within(c: &Command, by: &Scope, id: GroupId) -> Result<Vec<group::Model>, CommandError> {
    let inner = group_ancestor::Entity::in_tenant(by)
        .filter(group_ancestor::Column::AncestorId.eq(id))
        .all(&**c.tx())
        .await?;
    Ok(group::Entity::in_tenant(by)
        .filter(group::Column::Id.is_in(inner.iter().map(|row| row.group_id)))
        .order_by_asc(group::Column::Path)
        .all(&**c.tx())
        .await?)
}

/// Says that a membership changed, whose groups are others than before: who sees no group any more still sees that.
async fn tell(c: &mut Command, by: &Scope, user: UserId) -> Result<(), CommandError> {
    let row = membership::Entity::in_tenant(by)
        .filter(membership::Column::UserId.eq(user))
        .one(&**c.tx())
        .await?;
    if let Some(row) = row {
        changed(c, &row);
    }
    Ok(())
}

async fn member(
    c: &Command,
    by: &Scope,
    group: GroupId,
    user: UserId,
) -> Result<Option<group_member::Model>, CommandError> {
    Ok(group_member::Entity::in_tenant(by)
        .filter(group_member::Column::GroupId.eq(group))
        .filter(group_member::Column::UserId.eq(user))
        .lock_exclusive()
        .one(&**c.tx())
        .await?)
}

async fn delete(
    c: &mut Command,
    by: &Scope,
    id: GroupId,
    force: bool,
) -> Result<Vec<GroupId>, CommandError> {
    managed(c, by, id, PATH).await?;
    let those = within(c, by, id).await?;
    let ids: Vec<GroupId> = those.iter().map(|row| row.id).collect();
    let chains = sharing::chains(&**c.tx(), by.tenant(), ids.clone()).await?;
    let agents = agent::Entity::in_tenant(by)
        .filter(agent::Column::GroupId.is_in(ids.iter().copied()))
        .order_by_asc(agent::Column::Id)
        .lock(LockType::NoKeyUpdate)
        .all(&**c.tx())
        .await?;
    let models = llm_model::Entity::in_tenant(by)
        .filter(llm_model::Column::GroupId.is_in(ids.iter().copied()))
        .order_by_asc(llm_model::Column::Id)
        .lock(LockType::NoKeyUpdate)
        .all(&**c.tx())
        .await?;
    let shares = share::Entity::in_tenant(by)
        .filter(share::Column::GroupId.is_in(ids.iter().copied()))
        .all(&**c.tx())
        .await?;
    let there = |deleted: Option<_>| deleted.is_none();
    let agents_there = agents.iter().filter(|row| there(row.deleted_at));
    let models_there = models.iter().filter(|row| there(row.deleted_at));
    if !force {
        let inner = those.iter().filter(|row| row.id != id);
        let groups = inner.map(|row| (ResourceKind::Group, row.id.0));
        let agents = agents_there.map(|row| (ResourceKind::Agent, row.id.0));
        let models = models_there.map(|row| (ResourceKind::Model, row.id.0));
        let shared = shares.iter().map(|share| (share.kind, share.resource_id));
        let by: Vec<Reference> = groups
            .chain(agents)
            .chain(models)
            .chain(shared)
            .filter_map(|(kind, id)| {
                Some(Reference {
                    prefix: kind.prefix()?,
                    id,
                })
            })
            .collect();
        if !by.is_empty() {
            let path = PATH.iter().map(|&step| step.to_owned()).collect();
            return Err(Refusal::InUse { path, by }.into());
        }
    } else {
        let agents =
            agents_there.map(|row| (ResourceKind::Agent, row.audience(), Permission::AgentsEdit));
        let models = models_there.map(|row| {
            (
                ResourceKind::Model,
                row.audience(),
                Permission::ModelsManage,
            )
        });
        for (kind, audience, needs) in agents.chain(models) {
            let path = &["input", "force"];
            if !by.may(needs) {
                return Err(Refusal::forbidden(path, Some(needs)).into());
            }
            if by.access(kind, &audience) < Some(Access::Edit) {
                return Err(Refusal::forbidden(path, None).into());
            }
        }
    }
    agent::Entity::change_in(by)
        .filter(agent::Column::Id.is_in(agents.iter().map(|row| row.id)))
        .col_expr(agent::Column::GroupId, Expr::cust("null"))
        .exec(&**c.tx())
        .await?;
    llm_model::Entity::change_in(by)
        .filter(llm_model::Column::Id.is_in(models.iter().map(|row| row.id)))
        .col_expr(llm_model::Column::GroupId, Expr::cust("null"))
        .exec(&**c.tx())
        .await?;
    share::Entity::delete_in(by)
        .filter(share::Column::GroupId.is_in(ids.iter().copied()))
        .exec(&**c.tx())
        .await?;
    let left = |kind, ids: Vec<uuid::Uuid>| ids.into_iter().map(move |id| (kind, id));
    let left = left(
        ResourceKind::Agent,
        agents.iter().map(|row| row.id.0).collect(),
    )
    .chain(left(
        ResourceKind::Model,
        models.iter().map(|row| row.id.0).collect(),
    ))
    .chain(shares.iter().map(|share| (share.kind, share.resource_id)));
    reach_anew(c, by, left.collect()).await?;
    invitation_group::Entity::delete_in(by)
        .filter(invitation_group::Column::GroupId.is_in(ids.iter().copied()))
        .exec(&**c.tx())
        .await?;
    group_member::Entity::delete_in(by)
        .filter(group_member::Column::GroupId.is_in(ids.iter().copied()))
        .exec(&**c.tx())
        .await?;
    group_ancestor::Entity::delete_in(by)
        .filter(group_ancestor::Column::GroupId.is_in(ids.iter().copied()))
        .exec(&**c.tx())
        .await?;
    // The inner ones first.
    for row in those.iter().rev() {
        group::Entity::delete_in(by)
            .filter(group::Column::Id.eq(row.id))
            .exec(&**c.tx())
            .await?;
        let before = chains.get(&row.id).cloned().map(Audience::of_group);
        c.changed(by, ResourceKind::Group, row.id.0, before, None);
    }
    Ok(ids)
}
