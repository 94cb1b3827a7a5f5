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
    /// By name; of one name, the older first.
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
    /// The agent of this id or slug; null where there is none that the viewer may see. One of the two has to be given, and both
    /// are INVALID_INPUT.
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

    /// The agents that the viewer may see, in the order that is asked for.
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the arguments of the field"
    )]
    async fn agents(
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
        #[graphql(desc = "Only those that fit.")] filter: Option<AgentFilter>,
        #[graphql(
            desc = "In which order. A cursor is good for one order.",
            default_with = "AgentOrder::Name"
        )]
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
