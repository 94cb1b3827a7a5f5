//! Finding groups.

use async_graphql::{Context, ID, Object, Result};
use entities::{GroupId, Refusal};
use loaders::groups::GroupOf;

use super::objects::Group;
use crate::asking::{ContextExt, GivenId};

/// Finding groups.
#[derive(Default)]
pub struct GroupQuery;

#[Object]
impl GroupQuery {
    /// The group of this id or path; null where there is none that the viewer may see: one that he is a member of, or any with
    /// MEMBERS_MANAGE. One of the two has to be given, and both are INVALID_INPUT.
    async fn group(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its id.")] id: Option<ID>,
        #[graphql(
            desc = "Its path, in place of the id: the names from the outermost group on, with slashes between."
        )]
        path: Option<String>,
    ) -> Result<Option<Group>> {
        ctx.scope()?;
        let found = match (id, path) {
            (Some(id), None) => match id.typed::<GroupId>() {
                Some(id) => ctx.reader().load(GroupOf(id)).await?,
                None => None,
            },
            (None, Some(path)) if !path.contains('\0') => ctx.reader().group_by_path(path).await?,
            (None, Some(_)) => None,
            (Some(_), Some(_)) => {
                return Err(Refusal::invalid(&["path"], "give `id` or `path`, not both").into());
            }
            (None, None) => return Err(Refusal::invalid(&["id"], "give `id` or `path`").into()),
        };
        Ok(found.map(Group))
    }
}
