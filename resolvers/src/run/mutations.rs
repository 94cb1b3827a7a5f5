//! Stopping runs.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use entities::RunId;
use loaders::runs::RunOf;

use super::object::Run;
use crate::{
    asking::{ContextExt, GivenId},
    errors::UserError,
};

/// A run to stop.
#[derive(InputObject)]
pub struct CancelRunInput {
    /// Which one.
    id: ID,
}

/// A run that was changed.
#[derive(Default, SimpleObject)]
pub struct RunPayload {
    /// The run as it is now.
    run: Option<Run>,
    /// Why not.
    errors: Vec<UserError>,
}

/// Stopping runs.
#[derive(Default)]
pub struct RunMutation;

#[Object]
impl RunMutation {
    /// Stop a run within a second, even if the model is silent. What it said so far is kept; one that is over stays as it is.
    async fn cancel_run(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which one.")] input: CancelRunInput,
    ) -> Result<RunPayload> {
        let scope = ctx.scope()?;
        let cancelled = match input.id.named::<RunId>(&["input", "id"]) {
            Ok(id) => ctx.engine().cancel_run(&scope, id).await,
            Err(error) => Err(error),
        };
        Ok(match ctx.settle(cancelled)? {
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
