use async_graphql::{Context, Enum, ID, Object, Result};
use chrono::Utc;
use entities::AgentId;
use loaders::agents::{AgentOf, AgentOrder as Order};
use uuid::Uuid;

use super::{inputs::AgentFilter, objects::Agent};
use crate::{
    asking::{ContextExt, GivenId},
    connection::{Connection, Paging},
    model::one_of,
    scalars::Cursor,
};

/// In which order agents are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum AgentOrder {
    /// By name.
    Name,
    /// The one that changed last comes first.
    RecentlyUpdated,
    /// The one with the most runs comes first; runs count within two seconds of their end.
    MostUsed,
}

/// Names of the list in its cursors, one for each order.
const BY_NAME: &str = "agents.name";
const RECENTLY_UPDATED: &str = "agents.recentlyUpdated";
const MOST_USED: &str = "agents.mostUsed";

/// Finding agents.
#[derive(Default)]
pub struct AgentQuery;

#[Object]
impl AgentQuery {
    /// The agent of this id or slug; null where there is none that the viewer may see. Give one of the two.
    async fn agent(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its id.")] id: Option<ID>,
        #[graphql(desc = "Its slug, in place of the id.")] slug: Option<String>,
    ) -> Result<Option<Agent>> {
        ctx.scope()?;
        let found = match one_of(id, slug)? {
            Ok(id) => match id.typed::<AgentId>() {
                Some(id) => ctx.reader().load(AgentOf(id)).await?,
                None => None,
            },
            Err(slug) => ctx.reader().agent_by_slug(slug).await?,
        };
        Ok(found.filter(|agent| agent.is_there()).map(Agent))
    }

    /// The agents that the viewer may see.
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the arguments of the field"
    )]
    async fn agents(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The first so many: 20 unless said, 100 at most.")] first: Option<i32>,
        #[graphql(desc = "After this place.")] after: Option<Cursor>,
        #[graphql(desc = "The last so many, in place of `first`.")] last: Option<i32>,
        #[graphql(desc = "Before this place.")] before: Option<Cursor>,
        #[graphql(desc = "Only those that fit.")] filter: Option<AgentFilter>,
        #[graphql(desc = "In which order.", default_with = "AgentOrder::Name")]
        order_by: AgentOrder,
    ) -> Result<Connection<Agent>> {
        ctx.scope()?;
        let paging = Paging {
            first,
            after,
            last,
            before,
        };
        let (order, page) = match order_by {
            AgentOrder::Name => (Order::Name, paging.read::<(String, Uuid)>(ctx, BY_NAME)?),
            AgentOrder::RecentlyUpdated => (
                Order::RecentlyUpdated,
                paging.read::<(chrono::DateTime<Utc>, Uuid)>(ctx, RECENTLY_UPDATED)?,
            ),
            AgentOrder::MostUsed => (Order::MostUsed, paging.read::<(i64, Uuid)>(ctx, MOST_USED)?),
        };
        let Some(filter) = filter.unwrap_or_default().read()? else {
            return Ok(Connection::empty());
        };
        let rows = ctx.reader().agents(page, order, filter.clone()).await?;
        let agents = match order {
            Order::Name => Connection::new(
                BY_NAME,
                rows,
                |seen| (seen.agent.name.clone(), seen.agent.id.0),
                Agent,
            ),
            Order::RecentlyUpdated => Connection::new(
                RECENTLY_UPDATED,
                rows,
                |seen| (seen.agent.updated_at, seen.agent.id.0),
                Agent,
            ),
            Order::MostUsed => Connection::new(
                MOST_USED,
                rows,
                |seen| (seen.agent.uses, seen.agent.id.0),
                Agent,
            ),
        };
        let reader = ctx.reader().clone();
        Ok(agents.counted(move || {
            let (reader, filter) = (reader.clone(), filter.clone());
            async move { reader.count_agents(filter).await }
        }))
    }
}
