//! The people of a tenant: making accounts, changing what they are, and the passwords that others let them choose.

use adapters::sealing::Secret;
use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use auth::{NewUser, Redeem};
use entities::{CommandError, GroupId, MembershipId, UserId};
use loaders::identity::{BelongingOf, MemberOf};

use super::{
    enums::Role,
    mutations::{DeletePayload, SignInPayload, signed_in},
    objects::{Membership, User},
    sessions::UserPayload,
};
use crate::{
    asking::{ContextExt, GivenId},
    errors::UserError,
};

/// An account that the tenant manages: it is of this tenant for good.
#[derive(InputObject)]
pub struct CreateUserInput {
    /// E-mail address, unique among the tenant's members; 320 characters at most. It is used to sign in.
    email: String,
    /// Name shown to people, from 1 to 200 characters.
    name: String,
    /// What the user is: below what the viewer is, or anything by an OWNER.
    #[graphql(default_with = "Role::Member")]
    role: Role,
    /// The ids of groups that the user is a MEMBER of, 100 at most. Left out: none.
    group_ids: Option<Vec<ID>>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// An account that was made.
#[derive(Default, SimpleObject)]
pub struct CreateUserPayload {
    /// That the account belongs to the tenant; null where `errors` says why it was not made.
    membership: Option<Membership>,
    /// For `redeemPasswordReset`, by which the person chooses a password. Good once, for an hour. Shown here and nowhere else: null
    /// where the same `idempotencyKey` asks again, and where an API key asks.
    reset_token: Option<String>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

/// What a member is from now on.
#[derive(InputObject)]
pub struct UpdateMembershipInput {
    /// The id of the membership.
    id: ID,
    /// The role: below what the viewer is, or anything by an OWNER.
    role: Role,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// A membership to end.
#[derive(InputObject)]
pub struct RemoveMembershipInput {
    /// The id of the membership.
    id: ID,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// Whether a user may act.
#[derive(InputObject)]
pub struct SetUserActiveInput {
    /// The id of the user.
    id: ID,
    /// False: nothing can be done as the user within five seconds, and what is open is closed.
    is_active: bool,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// Whose sessions to end.
#[derive(InputObject)]
pub struct RevokeUserSessionsInput {
    /// The id of the user.
    id: ID,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// Who is to choose a password anew.
#[derive(InputObject)]
pub struct ResetPasswordInput {
    /// The id of the user.
    id: ID,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// A token to choose a password by.
#[derive(Default, SimpleObject)]
pub struct ResetPasswordPayload {
    /// Whose password; null where `errors` says why not, and where the user is no member of this tenant.
    user: Option<User>,
    /// For `redeemPasswordReset`. Good once, for an hour; it ends those issued before. Shown here and nowhere else: null where the same
    /// `idempotencyKey` asks again.
    reset_token: Option<String>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

/// A password that is chosen by a token.
#[derive(InputObject)]
pub struct RedeemPasswordResetInput {
    /// The token of `createUser` or `resetPassword`.
    token: String,
    /// The password from here on: at least 10 characters, 1,024 bytes at most, and none of the common ones.
    new_password: String,
}

/// A membership that changed.
#[derive(Default, SimpleObject)]
pub struct MembershipPayload {
    /// The membership as it is now; null where `errors` says why not.
    membership: Option<Membership>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

/// The ids of groups that an input lists.
pub(crate) fn groups(ids: Option<Vec<ID>>) -> Result<Vec<GroupId>, CommandError> {
    let ids = ids.unwrap_or_default().into_iter().enumerate();
    ids.map(|(at, id)| id.named(&["input", "groupIds", &at.to_string()]))
        .collect()
}

async fn user(ctx: &Context<'_>, outcome: Result<UserId, CommandError>) -> Result<UserPayload> {
    Ok(match ctx.settle(outcome).await? {
        Ok(id) => UserPayload {
            user: ctx.reader().load(MemberOf(id)).await?.map(User),
            errors: Vec::new(),
        },
        Err(errors) => UserPayload { user: None, errors },
    })
}

/// The people of a tenant.
#[derive(Default)]
pub struct MemberMutation;

#[Object]
impl MemberMutation {
    /// Make an account that this tenant manages, and a token by which the person chooses a password. It takes MEMBERS_MANAGE.
    async fn create_user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account to make.")] input: CreateUserInput,
    ) -> Result<CreateUserPayload> {
        let scope = ctx.scope()?;
        let made = match groups(input.group_ids) {
            Ok(groups) => {
                let new = NewUser {
                    email: input.email,
                    name: input.name,
                    role: input.role.into(),
                    groups,
                };
                let authority = ctx.authority().asked(ctx.asked());
                authority.create_user(&scope, new).await
            }
            Err(error) => Err(error),
        };
        Ok(match ctx.settle(made).await? {
            Ok(made) => CreateUserPayload {
                membership: ctx
                    .reader()
                    .load(BelongingOf(made.membership))
                    .await?
                    .map(Membership),
                reset_token: made.token.map(|token| token.expose().to_owned()),
                errors: Vec::new(),
            },
            Err(errors) => CreateUserPayload {
                errors,
                ..CreateUserPayload::default()
            },
        })
    }

    /// Change what a member is. It takes MEMBERS_MANAGE, and a viewer above the member, or an OWNER. The tenant keeps an OWNER.
    async fn update_membership(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which membership, and the role.")] input: UpdateMembershipInput,
    ) -> Result<MembershipPayload> {
        let scope = ctx.scope()?;
        let changed = match input.id.named::<MembershipId>(&["input", "id"]) {
            Ok(id) => {
                let authority = ctx.authority().asked(ctx.asked());
                authority
                    .update_membership(&scope, id, input.role.into())
                    .await
            }
            Err(error) => Err(error),
        };
        Ok(match ctx.settle(changed).await? {
            Ok(id) => MembershipPayload {
                membership: ctx.reader().load(BelongingOf(id)).await?.map(Membership),
                errors: Vec::new(),
            },
            Err(errors) => MembershipPayload {
                membership: None,
                errors,
            },
        })
    }

    /// End a membership: the user can act in the tenant no more, and what he made stays. It takes MEMBERS_MANAGE, and a viewer above
    /// the member, or an OWNER; one's own, of an account that no tenant manages, anybody ends. The tenant keeps an OWNER.
    async fn remove_membership(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which membership.")] input: RemoveMembershipInput,
    ) -> Result<DeletePayload> {
        let scope = ctx.scope()?;
        let removed = match input.id.named::<MembershipId>(&["input", "id"]) {
            Ok(id) => {
                let authority = ctx.authority().asked(ctx.asked());
                authority.remove_membership(&scope, id).await
            }
            Err(error) => Err(error),
        };
        Ok(DeletePayload::of(
            input.id,
            ctx.settle(removed.map(drop)).await?,
        ))
    }

    /// Deactivate a user or bring one back: an account that this tenant manages wholly, another's membership in this tenant. It takes
    /// MEMBERS_MANAGE, and a viewer above the member, or an OWNER. The tenant keeps an OWNER.
    async fn set_user_active(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which user, and whether it may act.")] input: SetUserActiveInput,
    ) -> Result<UserPayload> {
        let scope = ctx.scope()?;
        let changed = match input.id.named::<UserId>(&["input", "id"]) {
            Ok(id) => {
                let authority = ctx.authority().asked(ctx.asked());
                authority.set_user_active(&scope, id, input.is_active).await
            }
            Err(error) => Err(error),
        };
        user(ctx, changed).await
    }

    /// End the sessions of a user: of an account that this tenant manages all of them, of another those that are in this tenant. It
    /// takes MEMBERS_MANAGE, and a viewer above the member, or an OWNER. By a session only, never by a key.
    async fn revoke_user_sessions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whose sessions.")] input: RevokeUserSessionsInput,
    ) -> Result<DeletePayload> {
        let scope = ctx.scope()?;
        let revoked = match input.id.named::<UserId>(&["input", "id"]) {
            Ok(id) => {
                let authority = ctx.authority().asked(ctx.asked());
                authority.revoke_user_sessions(&scope, id).await
            }
            Err(error) => Err(error),
        };
        Ok(match ctx.settle(revoked).await? {
            Ok(ended) => DeletePayload {
                deleted_ids: ended.into_iter().map(ID::from).collect(),
                errors: Vec::new(),
            },
            Err(errors) => DeletePayload {
                errors,
                ..DeletePayload::default()
            },
        })
    }

    /// Issue a token by which a user chooses a password anew: of an account that this tenant manages by MEMBERS_MANAGE and a viewer
    /// above the member, or an OWNER; of another by an administrator of the platform alone. By a session only, never by a key.
    async fn reset_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whose password.")] input: ResetPasswordInput,
    ) -> Result<ResetPasswordPayload> {
        let scope = ctx.scope()?;
        let reset = match input.id.named::<UserId>(&["input", "id"]) {
            Ok(id) => {
                let authority = ctx.authority().asked(ctx.asked());
                authority.reset_password(&scope, id).await
            }
            Err(error) => Err(error),
        };
        Ok(match ctx.settle(reset).await? {
            Ok(reset) => ResetPasswordPayload {
                user: ctx.reader().load(MemberOf(reset.user)).await?.map(User),
                reset_token: reset.token.map(|token| token.expose().to_owned()),
                errors: Vec::new(),
            },
            Err(errors) => ResetPasswordPayload {
                errors,
                ..ResetPasswordPayload::default()
            },
        })
    }

    /// Choose a password with the token of `createUser` or `resetPassword`, and sign in. All other sessions of the user end. What
    /// follows in the same request is asked by whoever signed in.
    async fn redeem_password_reset(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token and the password.")] input: RedeemPasswordResetInput,
    ) -> Result<SignInPayload> {
        ctx.sign_in_once()?;
        let given = Redeem {
            token: Secret::new(input.token),
            new: Secret::new(input.new_password),
        };
        let redeemed = ctx
            .authority()
            .redeem_password_reset(given, ctx.request().clone())
            .await;
        signed_in(ctx, redeemed).await
    }
}
