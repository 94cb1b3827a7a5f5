//! Making tenants and changing what each decides for itself, and who looks after the installation.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use auth::{ChangeTenant, NewTenant};
use entities::{CommandError, ModelId, TenantId, UserId};
use loaders::identity::{MemberOf, TenantOf};

use super::{objects::User, sessions::UserPayload};
use crate::{
    asking::{ContextExt, GivenId},
    errors::UserError,
    model::{Nulls, cleared},
    tenant::Tenant,
};

/// A tenant to make.
#[derive(InputObject)]
pub struct CreateTenantInput {
    /// Short name, unique in the installation: `[a-z0-9-]{1,63}`. It stays.
    slug: String,
    /// Name shown to people, from 1 to 200 characters.
    name: String,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// What changes of a tenant. What is left out stays; null is refused where nothing else is said.
#[derive(InputObject)]
pub struct UpdateTenantInput {
    /// The id of the tenant that is asked in.
    id: ID,
    /// Another name, from 1 to 200 characters.
    name: MaybeUndefined<String>,
    /// Whether anybody may act in it; by administrators of the platform.
    is_active: MaybeUndefined<bool>,
    /// The CHAT model of agents that name none; null: the built-in one.
    default_model_id: MaybeUndefined<ID>,
    /// The CHAT model that writes titles; null: the model of the run.
    title_model_id: MaybeUndefined<ID>,
    /// Days after which conversations that nobody touched are deleted, from 1 to 36,500; null: they are kept.
    retention_days: MaybeUndefined<i32>,
    /// Runs at once, from 1 on, within what the installation allows; null: as many as that.
    max_concurrent_runs: MaybeUndefined<i32>,
    /// The currency of all prices, three capital letters of ISO 4217. Prices that are set stay the numbers that they are.
    currency: MaybeUndefined<String>,
    /// Whoever a trusted provider proves an address of such a domain for may join as MEMBER; 100 at most. By administrators of the
    /// platform. A CONFLICT for a domain of another tenant.
    oidc_auto_join_domains: MaybeUndefined<Vec<String>>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

impl UpdateTenantInput {
    fn read(self) -> Result<(TenantId, ChangeTenant), CommandError> {
        let id = self.id.named(&["input", "id"])?;
        let mut nulls = Nulls::default();
        let model = |given: MaybeUndefined<ID>, field: &str| {
            cleared(given)
                .map(|id| {
                    id.map(|id| id.named::<ModelId>(&["input", field]))
                        .transpose()
                })
                .transpose()
        };
        let change = ChangeTenant {
            name: nulls.never("name", self.name),
            is_active: nulls.never("isActive", self.is_active),
            default_model: model(self.default_model_id, "defaultModelId")?,
            title_model: model(self.title_model_id, "titleModelId")?,
            retention_days: cleared(self.retention_days),
            max_concurrent_runs: cleared(self.max_concurrent_runs),
            currency: nulls.never("currency", self.currency),
            auto_join_domains: nulls.never("oidcAutoJoinDomains", self.oidc_auto_join_domains),
        };
        nulls.none()?;
        Ok((id, change))
    }
}

/// Who looks after the installation.
#[derive(InputObject)]
pub struct SetPlatformAdministratorInput {
    /// The id of the user.
    id: ID,
    /// Whether the user is an administrator of the platform from now on.
    is_platform_administrator: bool,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// A tenant that was made or changed.
#[derive(Default, SimpleObject)]
pub struct TenantPayload {
    /// The tenant as it is now; null where `errors` says why not.
    tenant: Option<Tenant>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

async fn payload(
    ctx: &Context<'_>,
    outcome: Result<TenantId, CommandError>,
) -> Result<TenantPayload> {
    Ok(match ctx.settle(outcome).await? {
        Ok(id) => TenantPayload {
            tenant: ctx.reader().load(TenantOf(id)).await?.map(Tenant),
            errors: Vec::new(),
        },
        Err(errors) => TenantPayload {
            tenant: None,
            errors,
        },
    })
}

/// Tenants, and who looks after the installation.
#[derive(Default)]
pub struct TenantMutation;

#[Object]
impl TenantMutation {
    /// Make a tenant, which nobody is a member of yet: ask in it by the header `Weft-Tenant`, and invite an OWNER. By administrators
    /// of the platform.
    async fn create_tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant to make.")] input: CreateTenantInput,
    ) -> Result<TenantPayload> {
        let scope = ctx.scope()?;
        let new = NewTenant {
            slug: input.slug,
            name: input.name,
        };
        let engine = ctx.engine().clone();
        let authority = ctx.authority().asked(ctx.asked());
        let made = authority
            .create_tenant(&scope, new, move |tx, scope| {
                Box::pin(async move { engine.seed_models(tx, scope, None).await })
            })
            .await;
        payload(ctx, made).await
    }

    /// Change the tenant that is asked in. It takes TENANT_MANAGE; whether it is active, and its domains, are changed by administrators
    /// of the platform, who change its name as well.
    async fn update_tenant(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What changes of the tenant.")] input: UpdateTenantInput,
    ) -> Result<TenantPayload> {
        let scope = ctx.scope()?;
        let changed = match input.read() {
            Ok((id, change)) => {
                let authority = ctx.authority().asked(ctx.asked());
                authority.update_tenant(&scope, id, change).await
            }
            Err(error) => Err(error),
        };
        payload(ctx, changed).await
    }

    /// Make a user an administrator of the platform, or take that back; the installation keeps one. By administrators of the platform,
    /// by a session only, never by a key.
    async fn set_platform_administrator(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which user, and whether.")] input: SetPlatformAdministratorInput,
    ) -> Result<UserPayload> {
        let scope = ctx.scope()?;
        let changed = match input.id.named::<UserId>(&["input", "id"]) {
            Ok(id) => {
                let authority = ctx.authority().asked(ctx.asked());
                authority
                    .set_platform_administrator(&scope, id, input.is_platform_administrator)
                    .await
            }
            Err(error) => Err(error),
        };
        Ok(match ctx.settle(changed).await? {
            Ok(id) => UserPayload {
                user: ctx.reader().load(MemberOf(id)).await?.map(User),
                errors: Vec::new(),
            },
            Err(errors) => UserPayload { user: None, errors },
        })
    }
}
