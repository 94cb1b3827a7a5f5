//! What runs are made of: usage, errors, steps and tool calls.

use std::{str::FromStr, sync::Arc};

use async_graphql::{Context, ID, Object, Result};
use engine::event::{StepFacts, ToolCallFacts};
use entities::{Permission, Refusal, RunId};
use loaders::{
    LoadError,
    models::ModelOf,
    runs::{RunOf, ToolCallsOf},
};

use super::{
    enums::{RunErrorKind, ToolCallStatus},
    object::Run,
};
use crate::{
    asking::ContextExt,
    model::{Model, own_tenant},
    scalars::{DateTime, Decimal, Json, Long},
};

/// Tokens and money.
#[derive(Clone)]
pub struct Usage(pub entities::Usage);

/// Tokens and money.
#[Object]
impl Usage {
    /// Tokens sent, those that the provider had cached included.
    async fn input_tokens(&self) -> Long {
        Long(self.0.input)
    }

    /// Tokens received, those of reasoning included.
    async fn output_tokens(&self) -> Long {
        Long(self.0.output)
    }

    /// Of those sent, the ones that the provider had cached.
    async fn cached_input_tokens(&self) -> Long {
        Long(self.0.cached_input)
    }

    /// Of those received, the ones of reasoning.
    async fn reasoning_tokens(&self) -> Long {
        Long(self.0.reasoning)
    }

    /// What it cost; null where a model has no price.
    async fn cost(&self) -> Option<Decimal> {
        rust_decimal::Decimal::from_str(self.0.cost.as_deref()?)
            .ok()
            .map(Decimal)
    }

    /// The currency of `cost`, as in ISO 4217.
    async fn currency(&self, ctx: &Context<'_>) -> Result<String> {
        if self.0.currency.is_empty() {
            // Nothing was called yet.
            return Ok(own_tenant(ctx).await?.currency.clone());
        }
        Ok(self.0.currency.clone())
    }
}

/// Why a run failed.
#[derive(Clone)]
pub struct RunError(pub entities::RunError);

/// Why a run failed.
#[Object]
impl RunError {
    /// What kind of reason, for programs.
    async fn kind(&self) -> RunErrorKind {
        self.0.kind.into()
    }

    /// The reason for people, in English. Who may manage models reads what the provider said, where it said something.
    async fn message(&self, ctx: &Context<'_>) -> Result<&str> {
        let manages = ctx.scope()?.may(Permission::ModelsManage);
        Ok(self
            .0
            .detail
            .as_deref()
            .filter(|_| manages)
            .unwrap_or(&self.0.message))
    }

    /// Whether the same request may succeed later.
    async fn retryable(&self) -> bool {
        self.0.retryable
    }
}

/// One call of a model in a run, finished.
#[derive(Clone)]
pub struct RunStep {
    pub(crate) run: RunId,
    pub(crate) facts: StepFacts,
}

/// One call of a model in a run, finished.
#[Object]
impl RunStep {
    /// Its place in the run, from 0.
    async fn index(&self) -> i32 {
        self.facts.step
    }

    /// The model that was called; null for those who may not see it.
    async fn model(&self, ctx: &Context<'_>) -> Result<Option<Model>> {
        let Some(id) = self.facts.model else {
            return Ok(None);
        };
        Ok(ctx.reader().load(ModelOf(id)).await?.map(Model))
    }

    /// Tokens and money of this call.
    async fn usage(&self) -> Usage {
        Usage(self.facts.usage.clone())
    }

    /// Milliseconds from the call to its end.
    async fn latency_ms(&self) -> Option<i32> {
        self.facts.latency_ms
    }

    /// Milliseconds from the call to its first token; null where none came.
    async fn time_to_first_token_ms(&self) -> Option<i32> {
        self.facts.time_to_first_token_ms
    }

    /// Why the model stopped, in its provider's words; null where it did not say.
    async fn finish_reason(&self) -> Option<&str> {
        self.facts.finish_reason.as_deref()
    }

    /// The tools that the model called in it, in order.
    async fn tool_calls(&self, ctx: &Context<'_>) -> Result<Vec<ToolCall>> {
        let calls = calls_of(ctx, self.run).await?;
        Ok(calls
            .into_iter()
            .filter(|call| call.0.step == self.facts.step)
            .collect())
    }

    /// When the call was made.
    async fn started_at(&self) -> DateTime {
        self.facts.started_at.into()
    }

    /// When it ended.
    async fn finished_at(&self) -> Option<DateTime> {
        self.facts.finished_at.map(DateTime)
    }
}

/// The tool calls of a run, in order.
pub(super) async fn calls_of(ctx: &Context<'_>, run: RunId) -> Result<Vec<ToolCall>, LoadError> {
    let calls = ctx
        .reader()
        .load(ToolCallsOf(run))
        .await?
        .unwrap_or_default();
    Ok(calls.iter().cloned().map(ToolCall).collect())
}

/// That a model called a tool.
#[derive(Clone)]
pub struct ToolCall(pub Arc<ToolCallFacts>);

/// That a model called a tool.
#[Object]
impl ToolCall {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The run in which it was called.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        run(ctx, self.0.run).await
    }

    /// The tool's name, as the model said it.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What it was called with; null until that is whole, and where it is no JSON.
    async fn arguments(&self) -> Option<Json> {
        self.0.arguments.clone().map(Json)
    }

    /// What came of it; null before, and where nothing did.
    async fn result(&self) -> Option<Json> {
        self.0.result.clone().map(Json)
    }

    /// Why nothing came of it, for people; null where it did.
    async fn error_message(&self) -> Option<&str> {
        self.0.error_message.as_deref()
    }

    /// Where it stands.
    async fn status(&self) -> ToolCallStatus {
        self.0.status.into()
    }

    /// When it was begun; null before.
    async fn started_at(&self) -> Option<DateTime> {
        self.0.started_at.map(DateTime)
    }

    /// When it was over; null before.
    async fn finished_at(&self) -> Option<DateTime> {
        self.0.finished_at.map(DateTime)
    }
}

/// A run that something refers to that was seen: gone only where that went, too, since.
pub(crate) async fn run(ctx: &Context<'_>, id: RunId) -> Result<Run> {
    let row = ctx.reader().load(RunOf(id)).await?;
    Ok(Run::from(row.ok_or_else(|| Refusal::not_found(&[], id))?))
}
