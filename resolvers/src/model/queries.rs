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
    /// The model of this id or slug; null where there is none that the viewer may see. Give one of the two.
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
        #[graphql(desc = "The first so many: 20 unless said, 100 at most.")] first: Option<i32>,
        #[graphql(desc = "After this place.")] after: Option<Cursor>,
        #[graphql(desc = "The last so many, in place of `first`.")] last: Option<i32>,
        #[graphql(desc = "Before this place.")] before: Option<Cursor>,
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
