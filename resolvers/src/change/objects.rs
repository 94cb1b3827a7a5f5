//! A change, of each kind of thing.

use async_graphql::{Context, ID, Interface, Object, Result, plain, plain_abstract};
use entities::{AgentId, ConversationId, GroupId, MembershipId, ModelId, RunId};
use loaders::{
    agents::AgentOf, conversations::ConversationOf, groups::GroupOf, identity::BelongingOf,
    models::ModelOf, runs::RunOf,
};

use super::enums::{ChangeAction, ResourceKind};
use crate::{
    agent::Agent,
    asking::ContextExt,
    conversation::Conversation,
    group::Group,
    identity::Membership,
    model::Model,
    run::Run,
    scalars::{Cursor, DateTime},
};

/// What every change says.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) change: events::Change,
    pub(super) action: entities::ChangeAction,
}

macro_rules! changes {
    ($(
        $(#[$doc:meta])*
        $name:ident of $id:ident as $module:ident $module_name:tt { $($methods:tt)* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(pub(super) Told);

        plain!($name as $module { "cursor" => cursor, "at" => at, "action" => action, "kind" => kind, "id" => id });

        $(#[$doc])*
        #[Object(crate = $module_name)]
        impl $name {
            /// Its place among the changes of the tenant: go on after it, and this one is not told again.
            pub(crate) async fn cursor(&self, ctx: &Context<'_>) -> Cursor {
                let events::Change { tenant, seq, .. } = self.0.change;
                Cursor(ctx.engine().log().cursor(tenant.0, seq).encode())
            }

            /// When it happened; of several at once, the last.
            pub(crate) async fn at(&self) -> DateTime {
                self.0.change.at.into()
            }

            /// How it changed, for the viewer.
            pub(crate) async fn action(&self) -> ChangeAction {
                self.0.action.into()
            }

            /// What changed.
            pub(crate) async fn kind(&self) -> ResourceKind {
                self.0.change.kind.into()
            }

            /// The id of what changed.
            pub(crate) async fn id(&self) -> ID {
                $id(self.0.change.id).into()
            }

            $($methods)*
        }
    )*};
}

changes! {
    /// An agent changed.
    AgentChange of AgentId as agent_change_gql "agent_change_gql" {
        /// The agent as it is at delivery; null where it is gone.
        async fn agent(&self, ctx: &Context<'_>) -> Result<Option<Agent>> {
            let found = ctx.reader().load(AgentOf(AgentId(self.0.change.id))).await?;
            Ok(found.filter(|seen| seen.is_there()).map(Agent))
        }
    }

    /// A model changed.
    ModelChange of ModelId as model_change_gql "model_change_gql" {
        /// The model as it is at delivery; null where it is gone.
        async fn model(&self, ctx: &Context<'_>) -> Result<Option<Model>> {
            let found = ctx.reader().load(ModelOf(ModelId(self.0.change.id))).await?;
            Ok(found.filter(|seen| seen.is_there()).map(Model))
        }
    }

    /// A conversation changed: its title, its agent, what runs in it, when something was last said.
    ConversationChange of ConversationId as conversation_change_gql "conversation_change_gql" {
        /// The conversation as it is at delivery; null where it is gone.
        async fn conversation(&self, ctx: &Context<'_>) -> Result<Option<Conversation>> {
            let id = ConversationId(self.0.change.id);
            Ok(ctx.reader().load(ConversationOf(id)).await?.map(Conversation::from))
        }
    }

    /// A run changed: where it stands.
    RunChange of RunId as run_change_gql "run_change_gql" {
        /// The run as it is at delivery; null where it is gone.
        async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
            Ok(ctx.reader().load(RunOf(RunId(self.0.change.id))).await?.map(Run::from))
        }
    }

    /// A group changed: its name, its description, its members.
    GroupChange of GroupId as group_change_gql "group_change_gql" {
        /// The group as it is at delivery; null where it is gone.
        async fn group(&self, ctx: &Context<'_>) -> Result<Option<Group>> {
            Ok(ctx.reader().load(GroupOf(GroupId(self.0.change.id))).await?.map(Group))
        }
    }

    /// A membership changed: that a user belongs to the tenant, as what, and whether it can be used.
    MembershipChange of MembershipId as membership_change_gql "membership_change_gql" {
        /// The membership as it is at delivery; null where the viewer may not see it any more. One that ended is not active.
        async fn membership(&self, ctx: &Context<'_>) -> Result<Option<Membership>> {
            let id = MembershipId(self.0.change.id);
            Ok(ctx.reader().load(BelongingOf(id)).await?.map(Membership))
        }
    }
}

/// That something changed which the viewer may see, or could see before. Applying one twice changes nothing. More kinds may come:
/// ignore what you don't know.
#[derive(Clone, Interface)]
#[graphql(
    crate = "change_gql",
    field(
        name = "cursor",
        ty = "Cursor",
        desc = "Its place among the changes of the tenant: go on after it, and this one is not told again."
    ),
    field(
        name = "at",
        ty = "DateTime",
        desc = "When it happened; of several at once, the last."
    ),
    field(
        name = "action",
        ty = "ChangeAction",
        desc = "How it changed, for the viewer."
    ),
    field(name = "kind", ty = "ResourceKind", desc = "What changed."),
    field(name = "id", ty = "ID", desc = "The id of what changed.")
)]
#[expect(missing_docs, reason = "each variant is the change of its name")]
pub enum Change {
    AgentChange(AgentChange),
    ModelChange(ModelChange),
    ConversationChange(ConversationChange),
    RunChange(RunChange),
    GroupChange(GroupChange),
    MembershipChange(MembershipChange),
}

plain_abstract!(Change as change_gql {
    AgentChange, ModelChange, ConversationChange, RunChange, GroupChange, MembershipChange,
});

impl Change {
    /// `None`: of something that there is no type for yet.
    pub(super) fn of(change: events::Change, action: entities::ChangeAction) -> Option<Self> {
        let kind = change.kind;
        let told = Told { change, action };
        match kind {
            entities::ResourceKind::Agent => Some(Self::AgentChange(AgentChange(told))),
            entities::ResourceKind::Model => Some(Self::ModelChange(ModelChange(told))),
            entities::ResourceKind::Conversation => {
                Some(Self::ConversationChange(ConversationChange(told)))
            }
            entities::ResourceKind::Run => Some(Self::RunChange(RunChange(told))),
            entities::ResourceKind::Group => Some(Self::GroupChange(GroupChange(told))),
            entities::ResourceKind::Membership => {
                Some(Self::MembershipChange(MembershipChange(told)))
            }
            _ => None,
        }
    }
}
