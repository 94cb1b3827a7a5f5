use async_graphql::{Context, Object, Result, SimpleObject};
use entities::{CommandError, ModelId};
use loaders::models::ModelOf;

use super::{
    inputs::{CheckModelInput, CreateModelInput, DeleteModelInput, UpdateModelInput},
    objects::Model,
};
use crate::{
    asking::{ContextExt, GivenId},
    errors::UserError,
    identity::DeletePayload,
};

/// A model that was made, changed or checked.
#[derive(Default, SimpleObject)]
pub struct ModelPayload {
    /// The model as it is now; null where `errors` says why not.
    model: Option<Model>,
    /// Why nothing was done, each reason by itself; empty where it was done.
    errors: Vec<UserError>,
}

async fn payload(
    ctx: &Context<'_>,
    outcome: Result<ModelId, CommandError>,
) -> Result<ModelPayload> {
    Ok(match ctx.settle(outcome).await? {
        Ok(id) => ModelPayload {
            model: ctx.reader().load(ModelOf(id)).await?.map(Model),
            errors: Vec::new(),
        },
        Err(errors) => ModelPayload {
            model: None,
            errors,
        },
    })
}

/// Making and changing models.
#[derive(Default)]
pub struct ModelMutation;

#[Object]
impl ModelMutation {
    /// Make a model. It takes MODELS_MANAGE.
    async fn create_model(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The model to make.")] input: CreateModelInput,
    ) -> Result<ModelPayload> {
        let scope = ctx.scope()?;
        let made = match input.read() {
            Ok(new) => ctx.commands().create_model(&scope, new).await,
            Err(error) => Err(error),
        };
        payload(ctx, made).await
    }

    /// Change a model. It takes MODELS_MANAGE, and EDIT of the model.
    async fn update_model(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which one, and what changes of it.")] input: UpdateModelInput,
    ) -> Result<ModelPayload> {
        let scope = ctx.scope()?;
        let changed = match (input.id.named::<ModelId>(&["input", "id"]), input.read()) {
            (Ok(id), Ok(change)) => ctx.commands().update_model(&scope, id, change).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        payload(ctx, changed).await
    }

    /// Delete a model. It takes MODELS_MANAGE, and MANAGE of the model. Conversations and runs still show its name.
    async fn delete_model(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which model.")] input: DeleteModelInput,
    ) -> Result<DeletePayload> {
        let scope = ctx.scope()?;
        let deleted = match input.id.named::<ModelId>(&["input", "id"]) {
            Ok(id) => ctx.commands().delete_model(&scope, id, input.force).await,
            Err(error) => Err(error),
        };
        Ok(DeletePayload::of(
            input.id,
            ctx.settle(deleted).await?.map(drop),
        ))
    }

    /// Ask a model's provider for it and record what came of it as the model's health: whether it is listed or else, and where
    /// calls of it have failed of late, whether it says a token, which is booked. That the provider fails is no error: read it in
    /// `health`. It takes MODELS_MANAGE, and EDIT of the model.
    async fn check_model(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which model.")] input: CheckModelInput,
    ) -> Result<ModelPayload> {
        let scope = ctx.scope()?;
        let checked = match input.id.named::<ModelId>(&["input", "id"]) {
            Ok(id) => ctx.commands().check_model(&scope, id).await,
            Err(error) => Err(error),
        };
        payload(ctx, checked).await
    }
}
