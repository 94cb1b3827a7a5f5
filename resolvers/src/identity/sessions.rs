//! Sessions: refreshing, listing and ending them, and the password that they begin with.

use std::sync::Arc;

use adapters::sealing::Secret;
use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use auth::{ChangePassword, Refresh};
use entities::{CommandError, Principal, SessionId, session};
use loaders::identity::{Member, MemberOf};

use super::{
    enums::CredentialKind,
    mutations::{DeletePayload, SignInPayload, signed_in},
    objects::User,
};
use crate::{
    asking::{ContextExt, GivenId},
    errors::UserError,
    scalars::DateTime,
};

/// A sign-in that lasts, of the viewer's own.
#[derive(Clone)]
pub struct Session(pub Arc<session::Model>);

/// A sign-in that lasts, of the viewer's own.
#[Object]
impl Session {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// Who signed in: the viewer's own user.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        // Nobody sees another's session, so it is whoever asks.
        let identity = ctx
            .identity()
            .filter(|identity| identity.user().id == self.0.user_id)
            .ok_or(CommandError::Unauthenticated("this needs a credential"))?;
        Ok(User(Arc::new(Member {
            user: identity.user().clone(),
            membership: identity.membership().cloned(),
        })))
    }

    /// How it began.
    async fn credential(&self) -> CredentialKind {
        self.0.credential.into()
    }

    /// The program that signed in or refreshed it last, as that named itself.
    async fn user_agent(&self) -> Option<&str> {
        self.0.user_agent.as_deref()
    }

    /// The address that it was signed in or refreshed from last.
    async fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }

    /// When it began.
    async fn created_at(&self) -> DateTime {
        self.0.created_at.into()
    }

    /// When it was last used, give or take a minute.
    async fn last_seen_at(&self) -> DateTime {
        self.0.last_seen_at.into()
    }

    /// When it ends unless it is used: 30 days after its last use, 90 days after its beginning at the latest, and 24 hours after
    /// its beginning, unless set otherwise, where that was at a provider.
    async fn expires_at(&self) -> DateTime {
        self.0.expires_at.into()
    }

    /// Whether it is the one that asks.
    async fn is_current(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(ctx.scope()?.principal() == Principal::Session(self.0.id))
    }
}

/// By what a session goes on.
#[derive(InputObject)]
pub struct RefreshSessionInput {
    /// The refresh token of the last answer.
    refresh_token: String,
    /// Slug of another tenant of the user's, to go on in; left out: the session's.
    tenant: Option<String>,
}

/// What to end.
#[derive(InputObject)]
pub struct SignOutInput {
    /// All sessions of the user, not only the one that asks.
    #[graphql(default = false)]
    everywhere: bool,
}

/// A session to end.
#[derive(InputObject)]
pub struct RevokeSessionInput {
    /// The id of a session of the viewer's own.
    id: ID,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// Another password.
#[derive(InputObject)]
pub struct ChangePasswordInput {
    /// The one in use.
    current_password: String,
    /// The one from here on: at least 10 characters, 1,024 bytes at most, and none of the common ones.
    new_password: String,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// Sessions that ended.
#[derive(Default, SimpleObject)]
pub struct SignOutPayload {
    /// How many ended.
    ended: i32,
    /// Where a browser goes to sign out of the provider as well that the session began at; null where it began at none, or that
    /// has no such address or can't be asked at the moment.
    provider_logout_url: Option<String>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

/// A user that changed.
#[derive(Default, SimpleObject)]
pub struct UserPayload {
    /// The user as it is now; null where `errors` says why not.
    pub user: Option<User>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    pub errors: Vec<UserError>,
}

/// Sessions and passwords of one's own.
#[derive(Default)]
pub struct SessionMutation;

#[Object]
impl SessionMutation {
    /// Exchange a refresh token for the next pair of tokens. It is good for one exchange, but the last one gets the same pair
    /// again for half a minute, and for as long as nobody has used that: two tabs may refresh at once, and an answer may be
    /// lost. An older one ends the session. What follows in the same request is asked by whoever signed in.
    async fn refresh_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "By what, and where.")] input: RefreshSessionInput,
    ) -> Result<SignInPayload> {
        ctx.sign_in_once()?;
        let given = Refresh {
            refresh_token: Secret::new(input.refresh_token),
            tenant: input.tenant,
        };
        let refreshed = ctx
            .authority()
            .refresh_session(given, ctx.request().clone())
            .await;
        signed_in(ctx, refreshed).await
    }

    /// End the session that asks: within five seconds nothing can be asked by it any more, and what it has open is closed. By a
    /// session only, never by a key.
    async fn sign_out(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "This session or all.")] input: SignOutInput,
    ) -> Result<SignOutPayload> {
        let scope = ctx.scope()?;
        let ended = ctx
            .authority()
            .asked(ctx.asked())
            .sign_out(&scope, input.everywhere)
            .await;
        Ok(match ctx.settle(ended).await? {
            Ok(done) => SignOutPayload {
                ended: i32::try_from(done.ended).unwrap_or(i32::MAX),
                provider_logout_url: done.provider_logout_url,
                errors: Vec::new(),
            },
            Err(errors) => SignOutPayload {
                errors,
                ..SignOutPayload::default()
            },
        })
    }

    /// End a session of the viewer's: within five seconds nothing can be asked by it any more, and what it has open is closed.
    /// By a session only, never by a key.
    async fn revoke_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which session.")] input: RevokeSessionInput,
    ) -> Result<DeletePayload> {
        let scope = ctx.scope()?;
        let revoked = match input.id.named::<SessionId>(&["input", "id"]) {
            Ok(id) => {
                let authority = ctx.authority().asked(ctx.asked());
                authority.revoke_session(&scope, id).await
            }
            Err(error) => Err(error),
        };
        Ok(DeletePayload::of(input.id, ctx.settle(revoked).await?))
    }

    /// Change the viewer's password. All other sessions of the user end. By a session only, never by a key.
    async fn change_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "From what to what.")] input: ChangePasswordInput,
    ) -> Result<UserPayload> {
        let scope = ctx.scope()?;
        ctx.sign_in_once()?;
        let given = ChangePassword {
            current: Secret::new(input.current_password),
            new: Secret::new(input.new_password),
        };
        let authority = ctx.authority().asked(ctx.asked());
        let changed = authority
            .change_password(&scope, given, ctx.request())
            .await;
        Ok(match ctx.settle(changed).await? {
            Ok(user) => UserPayload {
                user: ctx.reader().load(MemberOf(user)).await?.map(User),
                errors: Vec::new(),
            },
            Err(errors) => UserPayload { user: None, errors },
        })
    }
}
