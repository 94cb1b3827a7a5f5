//! Setting up, signing in, and API keys.

use adapters::sealing::Secret;
use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use auth::{NewApiKey, SetUp, SignIn, SignedIn};
use entities::{ApiKeyId, CommandError};
use loaders::identity::ApiKeyOf;

use super::{
    enums::{ApiKeyKind, Permission},
    objects::ApiKey,
    viewer::Viewer,
};
use crate::{
    asking::{ContextExt, FirstContent, GivenId, Seed},
    errors::UserError,
    scalars::DateTime,
};

/// What the first user and the first tenant are.
#[derive(InputObject)]
pub struct SetUpInput {
    /// The first user's e-mail address, to sign in with; 320 characters at most.
    email: String,
    /// Its password: at least 10 characters, 1,024 bytes at most, and none of the common ones.
    password: String,
    /// Name shown to people, from 1 to 200 characters.
    name: String,
    /// Name of the first tenant, from 1 to 200 characters. Its slug is made of it.
    tenant_name: String,
    /// Printed by the server at its start; not needed by a client on the same machine, unless the server is meant for others.
    token: Option<String>,
}

/// Who signs in, and where.
#[derive(InputObject)]
pub struct SignInInput {
    /// The user's e-mail address.
    email: String,
    /// The user's password.
    password: String,
    /// Slug of the tenant; left out: the one last used.
    tenant: Option<String>,
}

/// An API key to make.
#[derive(InputObject)]
pub struct CreateApiKeyInput {
    /// Name shown to people, from 1 to 200 characters.
    name: String,
    /// Whose it is to be: PERSONAL, the viewer's own, or SERVICE, with an account of its own, which stays when its maker goes. A
    /// SERVICE key is made by ADMIN or OWNER.
    kind: ApiKeyKind,
    /// The most that it may do: at least one, and none that the viewer has not. Left out, of a PERSONAL key: what the viewer may,
    /// without TENANT_MANAGE, MEMBERS_MANAGE and AUDIT_READ; a SERVICE key must name them. PLATFORM_MANAGE is on no key.
    permissions: Option<Vec<Permission>>,
    /// Whether it may act for an EDITOR or MEMBER of the tenant, named by the header `Weft-On-Behalf-Of`, with no more than both
    /// may; a SERVICE key alone. Left out: no.
    may_impersonate: Option<bool>,
    /// And make the user, as a managed MEMBER, where the e-mail address that the header names is nobody's; with
    /// `mayImpersonate`, by a viewer with MEMBERS_MANAGE. 100 users an hour at most. Left out: no.
    may_create_users: Option<bool>,
    /// When it runs out, a time to come; left out: not by itself.
    expires_at: Option<DateTime>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// An API key to end.
#[derive(InputObject)]
pub struct RevokeApiKeyInput {
    /// The id of the key.
    id: ID,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// A session that began, and the tokens for it.
#[derive(Default, SimpleObject)]
pub struct SignInPayload {
    /// For the header `Authorization: Bearer …`, for an hour; null where `errors` says why nobody signed in, as are the others.
    access_token: Option<String>,
    /// For the next pair of tokens, by `refreshSession`. Good once, while the session lasts.
    refresh_token: Option<String>,
    /// When the access token runs out.
    expires_at: Option<DateTime>,
    /// Who signed in.
    viewer: Option<Viewer>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

/// An API key that was made.
#[derive(Default, SimpleObject)]
pub struct CreateApiKeyPayload {
    /// What is known of it; null where `errors` says why it was not made.
    api_key: Option<ApiKey>,
    /// The key itself, for the header `Authorization: Bearer …` or `X-API-Key`. It is shown here and nowhere else, ever: null
    /// where the same `idempotencyKey` asks again.
    secret: Option<String>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

/// What was deleted or ended.
#[derive(Default, SimpleObject)]
pub struct DeletePayload {
    /// The ids of what is gone; empty where `errors` says why nothing is.
    pub deleted_ids: Vec<ID>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    pub errors: Vec<UserError>,
}

impl SignInPayload {
    /// Somebody who goes on with the tokens that he has.
    pub(crate) fn of_viewer(viewer: Viewer) -> Self {
        Self {
            viewer: Some(viewer),
            ..Self::default()
        }
    }

    /// Nobody signed in.
    pub(crate) fn refused(errors: Vec<UserError>) -> Self {
        Self {
            errors,
            ..Self::default()
        }
    }
}

impl DeletePayload {
    /// One thing is gone, or the reasons why it is not.
    pub fn of(id: impl Into<ID>, outcome: Result<(), Vec<UserError>>) -> Self {
        match outcome {
            Ok(()) => Self {
                deleted_ids: vec![id.into()],
                errors: Vec::new(),
            },
            Err(errors) => Self {
                deleted_ids: Vec::new(),
                errors,
            },
        }
    }
}

pub(crate) async fn signed_in(
    ctx: &Context<'_>,
    outcome: Result<SignedIn, CommandError>,
) -> Result<SignInPayload> {
    Ok(match ctx.settle(outcome).await? {
        Ok(signed_in) => {
            ctx.become_signed_in(&signed_in);
            SignInPayload {
                access_token: Some(signed_in.access_token.expose().to_owned()),
                refresh_token: Some(signed_in.refresh_token.expose().to_owned()),
                expires_at: Some(signed_in.expires_at.into()),
                viewer: Some(Viewer(signed_in.identity)),
                errors: Vec::new(),
            }
        }
        Err(errors) => SignInPayload {
            errors,
            ..SignInPayload::default()
        },
    })
}

/// Beginning, signing in, and API keys.
#[derive(Default)]
pub struct IdentityMutation;

#[Object]
impl IdentityMutation {
    /// Make the first user, as owner of the first tenant, and sign in. Works once in the life of an installation.
    async fn set_up(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who and what comes first.")] input: SetUpInput,
    ) -> Result<SignInPayload> {
        ctx.only_by_post()?;
        ctx.sign_in_once()?;
        let new = SetUp {
            email: input.email,
            password: Secret::new(input.password),
            name: input.name,
            tenant_name: input.tenant_name,
            token: input.token.map(Secret::new),
        };
        let seed: Seed = match ctx.data_opt::<FirstContent>() {
            // Nobody makes the server look for models any more once it is set up.
            Some(first) if ctx.authority().needs_setup().await? => (first.0)().await,
            Some(_) | None => Box::new(|_, _| Box::pin(async { Ok(()) })),
        };
        signed_in(
            ctx,
            ctx.authority()
                .set_up(new, ctx.request().clone(), seed)
                .await,
        )
        .await
    }

    /// Begin a session. What follows in the same request is asked by whoever signed in.
    async fn sign_in(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who, and where.")] input: SignInInput,
    ) -> Result<SignInPayload> {
        ctx.sign_in_once()?;
        let given = SignIn {
            email: input.email,
            password: Secret::new(input.password),
            tenant: input.tenant,
        };
        signed_in(
            ctx,
            ctx.authority().sign_in(given, ctx.request().clone()).await,
        )
        .await
    }

    /// Make an API key. By a session only, never by another key.
    async fn create_api_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The key to make.")] input: CreateApiKeyInput,
    ) -> Result<CreateApiKeyPayload> {
        let scope = ctx.scope()?;
        let new = NewApiKey {
            name: input.name,
            kind: input.kind.into(),
            permissions: input
                .permissions
                .map(|some| some.into_iter().map(entities::Permission::from).collect()),
            may_impersonate: input.may_impersonate.unwrap_or(false),
            may_create_users: input.may_create_users.unwrap_or(false),
            expires_at: input.expires_at.map(|at| at.0),
        };
        let authority = ctx.authority().asked(ctx.asked());
        let made = authority.create_api_key(&scope, new).await;
        Ok(match ctx.settle(made).await? {
            Ok(made) => CreateApiKeyPayload {
                api_key: ctx.reader().load(ApiKeyOf(made.id)).await?.map(ApiKey),
                secret: made.secret.map(|secret| secret.expose().to_owned()),
                errors: Vec::new(),
            },
            Err(errors) => CreateApiKeyPayload {
                errors,
                ..CreateApiKeyPayload::default()
            },
        })
    }

    /// End an API key: within five seconds nothing can be asked by it any more. By a session only, never by a key.
    async fn revoke_api_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which key.")] input: RevokeApiKeyInput,
    ) -> Result<DeletePayload> {
        let scope = ctx.scope()?;
        let revoked = match input.id.named::<ApiKeyId>(&["input", "id"]) {
            Ok(id) => {
                let authority = ctx.authority().asked(ctx.asked());
                authority.revoke_api_key(&scope, id).await
            }
            Err(error) => Err(error),
        };
        Ok(DeletePayload::of(input.id, ctx.settle(revoked).await?))
    }
}
