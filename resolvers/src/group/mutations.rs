//! Making and changing groups, and who belongs to them.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use auth::{ChangeGroup, NewGroup};
use entities::{CommandError, GroupId, UserId};
use loaders::groups::GroupOf;

use super::Group;
use crate::{
    asking::{ContextExt, GivenId},
    errors::UserError,
    identity::{DeletePayload, Role},
    model::Nulls,
};

/// A group to make.
#[derive(InputObject)]
pub struct CreateGroupInput {
    /// Name shown to people, from 1 to 200 characters, without a slash; unique among the groups of one parent.
    name: String,
    /// The id of the group that it stands in, which the viewer manages; ten within one another at most. Left out: at the top.
    parent_id: Option<ID>,
    /// What it is for, 10,000 characters at most. Left out: nothing.
    description: Option<String>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// What changes of a group. What is left out stays; null is refused.
#[derive(InputObject)]
pub struct UpdateGroupInput {
    /// The id of the group.
    id: ID,
    /// Another name; the paths of the groups within it follow.
    name: MaybeUndefined<String>,
    /// Another description.
    description: MaybeUndefined<String>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// A group to delete.
#[derive(InputObject)]
pub struct DeleteGroupInput {
    /// The id of the group.
    id: ID,
    /// Delete it although groups stand in it, or things live in it or are shared with it: groups within it go as well, and things are
    /// their owners' own from then on. It takes the right to change all of them. Without, they are told as InUse.
    #[graphql(default)]
    force: bool,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// Who belongs to a group, and as what.
#[derive(InputObject)]
pub struct SetGroupMemberInput {
    /// The id of the group.
    group_id: ID,
    /// The id of a user of the tenant.
    user_id: ID,
    /// What the user is in it and in the groups within it: below what the viewer is there, or anything by an OWNER.
    role: Role,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// Who belongs to a group no more.
#[derive(InputObject)]
pub struct RemoveGroupMemberInput {
    /// The id of the group.
    group_id: ID,
    /// The id of the user, who is a member of the group itself.
    user_id: ID,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// A group that was made or changed.
#[derive(Default, SimpleObject)]
pub struct GroupPayload {
    /// The group as it is now; null where `errors` says why not, and for whoever has just left it.
    group: Option<Group>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

async fn payload(
    ctx: &Context<'_>,
    outcome: Result<GroupId, CommandError>,
) -> Result<GroupPayload> {
    Ok(match ctx.settle(outcome).await? {
        Ok(id) => GroupPayload {
            group: ctx.reader().load(GroupOf(id)).await?.map(Group),
            errors: Vec::new(),
        },
        Err(errors) => GroupPayload {
            group: None,
            errors,
        },
    })
}

fn both(group: &ID, user: &ID) -> Result<(GroupId, UserId), CommandError> {
    Ok((
        group.named(&["input", "groupId"])?,
        user.named(&["input", "userId"])?,
    ))
}

/// Groups, and who belongs to them.
#[derive(Default)]
pub struct GroupMutation;

#[Object]
impl GroupMutation {
    /// Make a group: at the top it takes MEMBERS_MANAGE, within another one also an ADMIN of that one does.
    async fn create_group(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The group to make.")] input: CreateGroupInput,
    ) -> Result<GroupPayload> {
        let scope = ctx.scope()?;
        let parent = input.parent_id.map(|id| id.named(&["input", "parentId"]));
        let made = match parent.transpose() {
            Ok(parent) => {
                let new = NewGroup {
                    name: input.name,
                    parent,
                    description: input.description.unwrap_or_default(),
                };
                let authority = ctx.authority().asked(ctx.asked());
                authority.create_group(&scope, new).await
            }
            Err(error) => Err(error),
        };
        payload(ctx, made).await
    }

    /// Change a group. It takes MEMBERS_MANAGE, or an ADMIN of the group or of one around it.
    async fn update_group(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What changes of the group.")] input: UpdateGroupInput,
    ) -> Result<GroupPayload> {
        let scope = ctx.scope()?;
        let mut nulls = Nulls::default();
        let change = ChangeGroup {
            name: nulls.never("name", input.name),
            description: nulls.never("description", input.description),
        };
        let changed = match (input.id.named::<GroupId>(&["input", "id"]), nulls.none()) {
            (Ok(id), Ok(())) => {
                let authority = ctx.authority().asked(ctx.asked());
                authority.update_group(&scope, id, change).await
            }
            (Err(error), _) => Err(error),
            (_, Err(error)) => Err(error),
        };
        payload(ctx, changed).await
    }

    /// Delete a group, and with `force` those within it. It takes MEMBERS_MANAGE, or an ADMIN of the group or of one around it.
    async fn delete_group(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which group.")] input: DeleteGroupInput,
    ) -> Result<DeletePayload> {
        let scope = ctx.scope()?;
        let deleted = match input.id.named::<GroupId>(&["input", "id"]) {
            Ok(id) => {
                let authority = ctx.authority().asked(ctx.asked());
                authority.delete_group(&scope, id, input.force).await
            }
            Err(error) => Err(error),
        };
        Ok(match ctx.settle(deleted).await? {
            Ok(ids) => DeletePayload {
                deleted_ids: ids.into_iter().map(ID::from).collect(),
                errors: Vec::new(),
            },
            Err(errors) => DeletePayload {
                errors,
                ..DeletePayload::default()
            },
        })
    }

    /// Make a user a member of a group, or another kind of member. It takes MEMBERS_MANAGE, or an ADMIN of the group or of one around
    /// it, who is above the member, or an OWNER.
    async fn set_group_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who, of which group, and as what.")] input: SetGroupMemberInput,
    ) -> Result<GroupPayload> {
        let scope = ctx.scope()?;
        let set = match both(&input.group_id, &input.user_id) {
            Ok((group, user)) => {
                let authority = ctx.authority().asked(ctx.asked());
                authority
                    .set_group_member(&scope, group, user, input.role.into())
                    .await
            }
            Err(error) => Err(error),
        };
        payload(ctx, set).await
    }

    /// Take a user out of a group: of one of which the user is a member itself. It takes what `setGroupMember` does; oneself anybody
    /// takes out.
    async fn remove_group_member(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who, of which group.")] input: RemoveGroupMemberInput,
    ) -> Result<GroupPayload> {
        let scope = ctx.scope()?;
        let removed = match both(&input.group_id, &input.user_id) {
            Ok((group, user)) => {
                let authority = ctx.authority().asked(ctx.asked());
                authority.remove_group_member(&scope, group, user).await
            }
            Err(error) => Err(error),
        };
        payload(ctx, removed).await
    }
}
