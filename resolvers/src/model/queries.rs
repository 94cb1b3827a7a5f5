use async_graphql::{Context, ID, Object, Result};
use entities::ModelId;
use loaders::models::ModelOf;
use uuid::Uuid;

use super::{
    inputs::{ModelFilter, one_of},
    objects::Model,
};
use crate::{
    asking::{ContextExt, GivenId},
    connection::{Connection, Paging},
    scalars::Cursor,
};

/// Name of the list in its cursors.
const MODELS: &str = "models";

/// Finding models.
#[derive(Default)]
pub struct ModelQuery;

#[Object]
impl ModelQuery {
    /// The model of this id or slug; null where there is none that the viewer may see. One of the two has to be given, and both
    /// are INVALID_INPUT.
    async fn model(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its id.")] id: Option<ID>,
        #[graphql(desc = "Its slug, in place of the id.")] slug: Option<String>,
    ) -> Result<Option<Model>> {
        ctx.scope()?;
        let found = match one_of(id, slug)? {
            Ok(id) => match id.typed::<ModelId>() {
                Some(id) => ctx.reader().load(ModelOf(id)).await?,
                None => None,
            },
            Err(slug) => ctx.reader().model_by_slug(slug).await?,
        };
        Ok(found.filter(|model| model.is_there()).map(Model))
    }

    /// The models that the viewer may see, by name.
    async fn models(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "How many at most, from the beginning of the list or from `after` on: 20 where neither this nor `last` is \
                    given. From 0 to `ServiceLimits.maxPageSize`, which is 100 unless set otherwise."
        )]
        first: Option<i32>,
        #[graphql(
            desc = "Only what stands after this place: a cursor of this list in this order, such as the `endCursor` of the \
                    page before."
        )]
        after: Option<Cursor>,
        #[graphql(
            desc = "How many at most, from the end of the list or from `before` back; they come in the list's order all the \
                    same. As many as `first` may be, and not together with it."
        )]
        last: Option<i32>,
        #[graphql(
            desc = "Only what stands before this place: a cursor of this list in this order, such as the `startCursor` of the \
                    page after."
        )]
        before: Option<Cursor>,
        #[graphql(desc = "Only those that fit.")] filter: Option<ModelFilter>,
    ) -> Result<Connection<Model>> {
        ctx.scope()?;
        let page = Paging {
            first,
            after,
            last,
            before,
        }
        .read::<(String, Uuid)>(ctx, MODELS)?;
        let filter = filter.unwrap_or_default().read()?;
        let rows = ctx.reader().models(page, filter.clone()).await?;
        let reader = ctx.reader().clone();
        let models = Connection::new(
            MODELS,
            rows,
            |seen| (seen.row.name.clone(), seen.row.id.0),
            Model,
        );
        Ok(models.counted(move || {
            let (reader, filter) = (reader.clone(), filter.clone());
            async move { reader.count_models(filter).await }
        }))
    }
}
