use async_graphql::{Context, ID, InputObject, Object, OneofObject, Result, SimpleObject};
use engine::sharing::{Shareable as What, With};
use entities::{CommandError, Refusal};

use super::{Access, Shareable};
use crate::{
    asking::{ContextExt, GivenId},
    errors::UserError,
    node::{self, Node},
};

/// With whom something is shared: exactly one of these.
#[derive(OneofObject)]
#[expect(
    clippy::enum_variant_names,
    reason = "they are the names of the input's fields"
)]
pub enum GranteeInput {
    /// The id of a user of the tenant.
    UserId(ID),
    /// The id of a group that the viewer sees: its members, and those of the groups around it.
    GroupId(ID),
    /// The id of the tenant that is asked in: everybody in it.
    TenantId(ID),
}

impl GranteeInput {
    fn read(self) -> Result<With, CommandError> {
        Ok(match self {
            Self::UserId(id) => With::User(id.named(&["input", "with", "userId"])?),
            Self::GroupId(id) => With::Group(id.named(&["input", "with", "groupId"])?),
            Self::TenantId(id) => With::Tenant(id.named(&["input", "with", "tenantId"])?),
        })
    }
}

/// What to share, with whom, and how far they may go.
#[derive(InputObject)]
pub struct ShareInput {
    /// The id of an agent, a model or a conversation.
    id: ID,
    /// With whom; with 100 at most.
    with: GranteeInput,
    /// How far they may go, in place of what was shared with them before. A conversation is shared for READ or more.
    access: Access,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// What to share no more, and with whom.
#[derive(InputObject)]
pub struct UnshareInput {
    /// The id of an agent, a model or a conversation.
    id: ID,
    /// With whom it was shared.
    with: GranteeInput,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// What is shared, or no more.
#[derive(Default, SimpleObject)]
pub struct SharePayload {
    /// The thing as it is now; null where `errors` says why not.
    resource: Option<Shareable>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

fn named(id: &ID) -> Result<What, CommandError> {
    What::named(id).ok_or_else(|| Refusal::not_found(&["input", "id"], id.as_str()).into())
}

async fn payload(ctx: &Context<'_>, outcome: Result<What, CommandError>) -> Result<SharePayload> {
    Ok(match ctx.settle(outcome).await? {
        Ok(what) => {
            let prefix = what.kind.prefix().unwrap_or_default();
            let resource = match node::find(ctx, prefix, what.id).await? {
                Some(Node::Agent(agent)) => Some(Shareable::Agent(agent)),
                Some(Node::Model(model)) => Some(Shareable::Model(model)),
                Some(Node::Conversation(talk)) => Some(Shareable::Conversation(talk)),
                _ => None,
            };
            SharePayload {
                resource,
                errors: Vec::new(),
            }
        }
        Err(errors) => SharePayload {
            resource: None,
            errors,
        },
    })
}

/// Sharing things.
#[derive(Default)]
pub struct ShareMutation;

#[Object]
impl ShareMutation {
    /// Share an agent, a model or a conversation with a user, the members of a group, or everybody in the tenant, or change how far they
    /// may go. It takes MANAGE of it, and AGENTS_EDIT, MODELS_MANAGE or CONVERSATIONS_USE.
    async fn share(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What, with whom, how far.")] input: ShareInput,
    ) -> Result<SharePayload> {
        let scope = ctx.scope()?;
        let shared = match (named(&input.id), input.with.read()) {
            (Ok(what), Ok(with)) => {
                let commands = ctx.commands();
                commands
                    .share(&scope, what, with, input.access.into())
                    .await
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        payload(ctx, shared).await
    }

    /// Share it no more with them: within five seconds they see it no more, unless they do by something else. It takes what `share` does.
    async fn unshare(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What, and with whom.")] input: UnshareInput,
    ) -> Result<SharePayload> {
        let scope = ctx.scope()?;
        let unshared = match (named(&input.id), input.with.read()) {
            (Ok(what), Ok(with)) => ctx.commands().unshare(&scope, what, with).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        payload(ctx, unshared).await
    }
}
