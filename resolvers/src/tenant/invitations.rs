//! Inviting people, and accepting.

use adapters::sealing::Secret;
use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use auth::{Accept, NewInvitation};
use entities::{CommandError, InvitationId};
use loaders::tenancy::InvitationOf;

use super::Invitation;
use crate::{
    asking::{ContextExt, GivenId},
    errors::UserError,
    identity::{DeletePayload, Role, SignInPayload, Viewer, groups, signed_in},
    scalars::DateTime,
};

/// An invitation to make.
#[derive(InputObject)]
pub struct CreateInvitationInput {
    /// The only e-mail address that may accept it, 320 characters at most. Left out: whoever has the token.
    email: Option<String>,
    /// What whoever accepts it becomes: below what the viewer is, or anything by an OWNER.
    #[graphql(default_with = "Role::Member")]
    role: Role,
    /// The ids of groups that whoever accepts it becomes a MEMBER of, 100 at most. Left out: none.
    group_ids: Option<Vec<ID>>,
    /// How often it can be accepted, from 1 to 1,000; above MEMBER once.
    #[graphql(default = 1)]
    uses: i32,
    /// When it runs out: within seven days, above MEMBER within 72 hours. Left out: as late as that.
    expires_at: Option<DateTime>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// An invitation that was made.
#[derive(Default, SimpleObject)]
pub struct InvitationPayload {
    /// The invitation; null where `errors` says why it was not made.
    invitation: Option<Invitation>,
    /// Goes in the link that is sent. Shown here and nowhere else: null where the same `idempotencyKey` asks again.
    token: Option<String>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

/// By what somebody joins a tenant. Who is signed in already gives the token alone.
#[derive(InputObject)]
pub struct AcceptInvitationInput {
    /// The token of the invitation.
    token: String,
    /// The e-mail address of an account that is there, or is made.
    email: Option<String>,
    /// Name shown to people, from 1 to 200 characters, of an account that is made.
    name: Option<String>,
    /// The password of the account that is there; of one that is made, as in `SetUpInput`.
    password: Option<String>,
}

/// An invitation to take back.
#[derive(InputObject)]
pub struct RevokeInvitationInput {
    /// The id of the invitation.
    id: ID,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// Inviting people, and accepting.
#[derive(Default)]
pub struct InvitationMutation;

#[Object]
impl InvitationMutation {
    /// Make an invitation into the tenant that is asked in. It takes MEMBERS_MANAGE; an administrator of the platform invites an OWNER
    /// into any tenant.
    async fn create_invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The invitation to make.")] input: CreateInvitationInput,
    ) -> Result<InvitationPayload> {
        let scope = ctx.scope()?;
        let made = match groups(input.group_ids) {
            Ok(groups) => {
                let new = NewInvitation {
                    email: input.email,
                    role: input.role.into(),
                    groups,
                    uses: input.uses,
                    expires_at: input.expires_at.map(|at| at.0),
                };
                let authority = ctx.authority().asked(ctx.asked());
                authority.create_invitation(&scope, new).await
            }
            Err(error) => Err(error),
        };
        Ok(match ctx.settle(made).await? {
            Ok(made) => InvitationPayload {
                invitation: ctx
                    .reader()
                    .load(InvitationOf(made.id))
                    .await?
                    .map(Invitation),
                token: made.token.map(|token| token.expose().to_owned()),
                errors: Vec::new(),
            },
            Err(errors) => InvitationPayload {
                errors,
                ..InvitationPayload::default()
            },
        })
    }

    /// Join a tenant by an invitation. Who is signed in joins as that account, and goes on with the tokens there are: `refreshSession`
    /// with the tenant's slug, or the header `Weft-Tenant`, asks in the new tenant. Who is not signs in by it: with the password of the
    /// account that has the e-mail address, or to an account that is made; ten wrong passwords spend the invitation. What follows in
    /// the same request is asked in the new tenant.
    async fn accept_invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token, and who accepts.")] input: AcceptInvitationInput,
    ) -> Result<SignInPayload> {
        ctx.sign_in_once()?;
        let token = Secret::new(input.token);
        let Some(identity) = ctx.identity() else {
            let given = Accept {
                token,
                email: input.email,
                name: input.name,
                password: input.password.map(Secret::new),
            };
            let accepted = ctx
                .authority()
                .accept_invitation(given, ctx.request().clone())
                .await;
            return signed_in(ctx, accepted).await;
        };
        let joined = ctx.authority().join(&identity, &token, ctx.request()).await;
        Ok(match ctx.settle(joined).await? {
            Ok(identity) => {
                ctx.become_somebody(identity.clone());
                SignInPayload::of_viewer(Viewer(identity))
            }
            Err(errors) => SignInPayload::refused(errors),
        })
    }

    /// Take an invitation back; one that is over stays as it is. It takes MEMBERS_MANAGE, and a viewer who grants its role.
    async fn revoke_invitation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which invitation.")] input: RevokeInvitationInput,
    ) -> Result<DeletePayload> {
        let scope = ctx.scope()?;
        let revoked: Result<InvitationId, CommandError> =
            match input.id.named::<InvitationId>(&["input", "id"]) {
                Ok(id) => {
                    let authority = ctx.authority().asked(ctx.asked());
                    authority.revoke_invitation(&scope, id).await
                }
                Err(error) => Err(error),
            };
        Ok(DeletePayload::of(
            input.id,
            ctx.settle(revoked.map(drop)).await?,
        ))
    }
}
