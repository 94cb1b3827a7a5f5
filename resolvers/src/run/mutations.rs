//! Stopping runs, and doing them again.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use engine::send::RetryRun;
use entities::{CommandError, ModelId, RunId};
use loaders::runs::RunOf;

use super::object::Run;
use crate::{
    asking::{ContextExt, GivenId},
    conversation::SendMessagePayload,
    errors::UserError,
};

/// A run to stop.
#[derive(InputObject)]
pub struct CancelRunInput {
    /// The id of the run.
    id: ID,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

/// A run to do again.
#[derive(InputObject)]
pub struct RetryRunInput {
    /// The id of the run. It FAILED or was CANCELLED; another is a CONFLICT.
    id: ID,
    /// The id of the model that answers this time; left out: the one that was asked for then, else the agent's.
    model_id: Option<ID>,
    /// The same key with the same input is the same thing done once, for 24 hours; with another input it is a CONFLICT. 255
    /// characters at most.
    #[graphql(name = "idempotencyKey")]
    _idempotency_key: Option<String>,
}

impl RetryRunInput {
    fn read(self) -> Result<RetryRun, CommandError> {
        let model = self
            .model_id
            .map(|id| id.named::<ModelId>(&["input", "modelId"]));
        Ok(RetryRun {
            run: self.id.named(&["input", "id"])?,
            model: model.transpose()?,
        })
    }
}

/// A run that was changed.
#[derive(Default, SimpleObject)]
pub struct RunPayload {
    /// The run as it is now; null where `errors` says why not.
    run: Option<Run>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

/// Stopping runs, and doing them again.
#[derive(Default)]
pub struct RunMutation;

#[Object]
impl RunMutation {
    /// Run the same request again after a failure: the same question, answered beside the answer that came to nothing. It waits
    /// for its turn. It takes CONVERSATIONS_USE and AGENTS_USE.
    async fn retry_run(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which one, and with which model.")] input: RetryRunInput,
    ) -> Result<SendMessagePayload> {
        let scope = ctx.scope()?;
        let outcome = match input.read() {
            Ok(again) => ctx.commands().retry_run(&scope, again).await,
            Err(error) => Err(error),
        };
        SendMessagePayload::of(ctx, outcome).await
    }

    /// Stop a run within a second, even if the model is silent. What it said so far is kept; one that is over stays as it is. It
    /// takes CONVERSATIONS_USE.
    async fn cancel_run(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which run.")] input: CancelRunInput,
    ) -> Result<RunPayload> {
        let scope = ctx.scope()?;
        let cancelled = match input.id.named::<RunId>(&["input", "id"]) {
            Ok(id) => ctx.commands().cancel_run(&scope, id).await,
            Err(error) => Err(error),
        };
        Ok(match ctx.settle(cancelled).await? {
            Ok(id) => RunPayload {
                run: ctx.reader().load(RunOf(id)).await?.map(Run::from),
                errors: Vec::new(),
            },
            Err(errors) => RunPayload {
                errors,
                ..RunPayload::default()
            },
        })
    }
}
