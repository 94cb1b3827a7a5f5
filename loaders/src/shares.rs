//! With whom things are shared.

use std::sync::Arc;

use entities::{Scope, query::*, share};
use uuid::Uuid;

use crate::{Found, Relation, Source, reader::lists_by};

/// With whom the agent, model or conversation of this id is shared, the first share first. Whoever asks is known to be allowed to
/// see that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SharesOf(pub Uuid);

impl Relation for SharesOf {
    type Value = Arc<Vec<share::Model>>;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let rows = share::Entity::in_tenant(scope)
            .filter(share::Column::ResourceId.is_in(keys.iter().map(|key| key.0)))
            .order_by_asc(share::Column::CreatedAt)
            .order_by_asc(share::Column::Id)
            .all(&**source.tx().await?)
            .await?;
        Ok(lists_by(
            rows.into_iter().map(|row| (Self(row.resource_id), row)),
        ))
    }
}
