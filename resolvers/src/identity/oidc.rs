//! Signing in by an OpenID provider: the end of it, and the accounts there that a user is bound to.

use std::sync::Arc;

use adapters::sealing::Secret;
use async_graphql::{Context, ID, InputObject, Object, Result};
use auth::oidc::{LinkIdentity, RedeemSignInCode};
use entities::{CommandError, IdentityId, UserId, identity};
use loaders::identity::MemberOf;

use super::{
    mutations::{SignInPayload, signed_in},
    objects::User,
    sessions::UserPayload,
};
use crate::{
    asking::{ContextExt, GivenId},
    scalars::DateTime,
};

/// An account at an OpenID provider that the viewer signs in by.
#[derive(Clone)]
pub struct Identity(pub Arc<identity::Model>);

/// An account at an OpenID provider that the viewer signs in by.
#[Object]
impl Identity {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The provider, as it names itself: an address.
    async fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The account, as the provider names it.
    async fn subject(&self) -> &str {
        &self.0.subject
    }

    /// When it was bound to the user.
    async fn linked_at(&self) -> DateTime {
        self.0.linked_at.into()
    }
}

/// What a sign-in at a provider ends with.
#[derive(InputObject)]
pub struct RedeemSignInCodeInput {
    /// The code that the browser came back with: good once, within a minute. 200 characters at most.
    code: String,
    /// What the `code_challenge` at the start was made of (RFC 7636): 128 characters at most.
    code_verifier: String,
}

/// What an identity is bound by.
#[derive(InputObject)]
pub struct LinkIdentityInput {
    /// The code that the browser came back with from a start with `link=true`: good once, within a minute. 200 characters at
    /// most.
    code: String,
    /// What the `code_challenge` at the start was made of (RFC 7636): 128 characters at most.
    code_verifier: String,
}

/// An identity to let go of.
#[derive(InputObject)]
pub struct UnlinkIdentityInput {
    /// The id of one of the viewer's own identities.
    id: ID,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// Signing in by providers, and the accounts there.
#[derive(Default)]
pub struct OidcMutation;

#[Object]
impl OidcMutation {
    /// Finish a sign-in at a provider: begin the session that the browser brought a code for. What follows in the same request is
    /// asked by whoever signed in. Unknown, used, too old, or with another verifier: UNAUTHENTICATED.
    async fn redeem_sign_in_code(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The code, and what proves that it is for whoever began.")]
        input: RedeemSignInCodeInput,
    ) -> Result<SignInPayload> {
        ctx.sign_in_once()?;
        let given = RedeemSignInCode {
            code: Secret::new(input.code),
            verifier: Secret::new(input.code_verifier),
        };
        let redeemed = ctx
            .authority()
            .redeem_sign_in_code(given, ctx.request().clone())
            .await;
        signed_in(ctx, redeemed).await
    }

    /// Bind the account at a provider that the browser brought a code for to the viewer, who can sign in by it from then on. One
    /// that is another user's is a CONFLICT. By a session only, never by a key.
    async fn link_identity(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The code, and what proves that it is for whoever began.")]
        input: LinkIdentityInput,
    ) -> Result<UserPayload> {
        let scope = ctx.scope()?;
        ctx.sign_in_once()?;
        let given = LinkIdentity {
            code: Secret::new(input.code),
            verifier: Secret::new(input.code_verifier),
        };
        let linked = ctx
            .authority()
            .link_identity(&scope, given, ctx.request())
            .await;
        user(ctx, linked).await
    }

    /// Let go of an account at a provider: nobody signs in by it any more, and the sessions that began by it end, but for the one
    /// that asks. A CONFLICT where the viewer could not sign in by anything else. By a session only, never by a key.
    async fn unlink_identity(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which identity.")] input: UnlinkIdentityInput,
    ) -> Result<UserPayload> {
        let scope = ctx.scope()?;
        let unlinked = match input.id.named::<IdentityId>(&["input", "id"]) {
            Ok(id) => {
                let authority = ctx.authority().asked(ctx.asked());
                authority.unlink_identity(&scope, id).await
            }
            Err(error) => Err(error),
        };
        user(ctx, unlinked).await
    }
}

async fn user(ctx: &Context<'_>, outcome: Result<UserId, CommandError>) -> Result<UserPayload> {
    Ok(match ctx.settle(outcome).await? {
        Ok(user) => UserPayload {
            user: ctx.reader().load(MemberOf(user)).await?.map(User),
            errors: Vec::new(),
        },
        Err(errors) => UserPayload { user: None, errors },
    })
}
