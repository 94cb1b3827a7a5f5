use async_graphql::{Context, Enum, Error, Object, Result};
use entities::ModelId;
use loaders::{
    identity::TenantOf,
    models::{Callable, CallableOf, DefaultOf, ModelOf},
};

use crate::{asking::ContextExt, model::Model, node::Node};

/// What keeps an agent from running. More kinds may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum AgentProblemKind {
    /// It names no model, and the tenant has none for such agents.
    NoModel,
    /// Its model is gone, or does not answer.
    ModelUnavailable,
    /// A tool of it is gone, or can't be reached.
    ToolUnavailable,
    /// A tool of it is not what it was when the version was published.
    ToolChanged,
    /// A knowledge base of it is gone.
    KnowledgeBaseUnavailable,
    /// An agent that it works with is gone.
    MemberUnavailable,
}

/// Why an agent cannot run as configured.
pub struct AgentProblem {
    kind: AgentProblemKind,
    message: String,
    about: Option<ModelId>,
}

/// Why an agent cannot run as configured.
#[Object]
impl AgentProblem {
    /// What kind of problem it is, for programs.
    async fn kind(&self) -> AgentProblemKind {
        self.kind
    }

    /// The problem for people, in English.
    async fn message(&self) -> &str {
        &self.message
    }

    /// What it is about; null where it is about nothing, or about something that the viewer may not see.
    async fn about(&self, ctx: &Context<'_>) -> Result<Option<Node>> {
        let Some(id) = self.about else {
            return Ok(None);
        };
        let model = ctx.reader().load(ModelOf(id)).await?;
        Ok(model.map(|model| Node::Model(Model(model))))
    }
}

/// Why an agent whose version names this model can't run.
pub(super) async fn problems(
    ctx: &Context<'_>,
    model: Option<ModelId>,
) -> Result<Vec<AgentProblem>> {
    let reader = ctx.reader();
    let default = async || {
        let tenant = reader.load(TenantOf(ctx.scope()?.tenant())).await?;
        let default = tenant.and_then(|tenant| tenant.default_model_id);
        Ok::<_, Error>(reader.load(DefaultOf(default)).await?)
    };
    let id = match model {
        Some(id) => id,
        None => match default().await? {
            Some(id) => id,
            None => {
                return Ok(vec![AgentProblem {
                    kind: AgentProblemKind::NoModel,
                    message: "the agent names no model, and the tenant has no default one".into(),
                    about: None,
                }]);
            }
        },
    };
    let message = match (reader.load(CallableOf(id)).await?, model) {
        (Some(Callable::Yes), _) => return Ok(Vec::new()),
        (Some(Callable::Unhealthy), Some(_)) => "the agent's model does not answer at the moment",
        (Some(Callable::Unhealthy), None) => {
            "the tenant's default model does not answer at the moment"
        }
        (Some(Callable::Deleted) | None, _) => {
            "the agent's model was deleted; it runs with the tenant's default one"
        }
    };
    Ok(vec![AgentProblem {
        kind: AgentProblemKind::ModelUnavailable,
        message: message.into(),
        about: Some(id),
    }])
}
