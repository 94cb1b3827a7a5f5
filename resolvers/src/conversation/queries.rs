//! Finding conversations.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, Result};
use chrono::Utc;
use entities::{
    AgentId, ConversationId, Refusal, conversation, input, page::Rows, search::terms::Asked,
};
use loaders::{
    conversations::{self, ConversationCountWith, ConversationOf, ConversationsWith},
    listing::Listing,
};
use uuid::Uuid;

use super::{enums::ConversationOrder, object::Conversation};
use crate::{
    asking::{ContextExt, GivenId},
    connection::{Connection, Paging},
    scalars::Cursor,
};

// Names of the list in its cursors, one for each order.
const RECENTLY_ACTIVE: &str = "conversations.RECENTLY_ACTIVE";
const NEWEST: &str = "conversations.NEWEST";
const TITLE: &str = "conversations.TITLE";

/// Characters of what is looked for.
const QUERY: usize = 200;

type ByTime = (chrono::DateTime<Utc>, Uuid);
type ByTitle = (i64, String, Uuid);

/// Which conversations; several conditions are all required, what is left out is none.
#[derive(Default, InputObject)]
pub struct ConversationFilter {
    /// Words to find, all of them in the title or all in one message; the last one may be the beginning of a word. 200 characters
    /// at most. What was just said is found within a second or two.
    query: Option<String>,
    /// The id of the agent that answers in it.
    agent_id: Option<ID>,
    /// True: only those that are archived; false: only the others.
    is_archived: Option<bool>,
    /// True: only those in which a run is under way or waits; false: only the others.
    is_busy: Option<bool>,
}

impl ConversationFilter {
    /// As loaders take it; `None`: nothing passes it.
    fn read(self) -> Result<Option<conversations::ConversationFilter>, Refusal> {
        let query = match &self.query {
            Some(words) if words.trim().is_empty() => None,
            Some(words) => {
                input::text(&["filter", "query"], words, QUERY)?;
                let Some(asked) = Asked::of(words) else {
                    return Ok(None);
                };
                Some(asked)
            }
            None => None,
        };
        let agent = match self.agent_id.map(|id| id.typed::<AgentId>()) {
            Some(None) => return Ok(None),
            agent => agent.flatten(),
        };
        let (is_archived, is_busy) = (self.is_archived, self.is_busy);
        Ok(Some(conversations::ConversationFilter {
            agent,
            is_archived,
            is_busy,
            query,
        }))
    }
}

fn connection(
    order: ConversationOrder,
    rows: Rows<Arc<conversation::Model>>,
) -> Connection<Conversation> {
    type Row = Arc<conversation::Model>;
    let node = Conversation::from;
    match order {
        ConversationOrder::RecentlyActive => {
            let place = |row: &Row| (row.last_activity_at, row.id.0);
            Connection::new(RECENTLY_ACTIVE, rows, place, node)
        }
        ConversationOrder::Newest => {
            Connection::new(NEWEST, rows, |row: &Row| (row.created_at, row.id.0), node)
        }
        ConversationOrder::Title => {
            let place = |row: &Row| {
                let title = row.title.clone();
                (
                    i64::from(title.is_none()),
                    title.unwrap_or_default(),
                    row.id.0,
                )
            };
            Connection::new(TITLE, rows, place, node)
        }
    }
}

/// A page of the viewer's conversations in which an agent answers, most recently active first.
pub(crate) async fn with_agent(
    ctx: &Context<'_>,
    agent: AgentId,
    paging: Paging,
) -> Result<Connection<Conversation>> {
    let page = paging.read::<ByTime>(ctx, RECENTLY_ACTIVE)?;
    let key = ConversationsWith {
        agent,
        listing: Listing::new(page, ()),
    };
    let Some(rows) = ctx.reader().load(key).await? else {
        return Ok(Connection::empty());
    };
    let reader = ctx.reader().clone();
    Ok(
        connection(ConversationOrder::RecentlyActive, rows).counted(move || {
            let reader = reader.clone();
            async move {
                Ok(reader
                    .load(ConversationCountWith(agent))
                    .await?
                    .unwrap_or(Some(0)))
            }
        }),
    )
}

/// Finding conversations.
#[derive(Default)]
pub struct ConversationQuery;

#[Object]
impl ConversationQuery {
    /// The conversation of this id; null where there is none that the viewer may see.
    async fn conversation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of a conversation.")] id: ID,
    ) -> Result<Option<Conversation>> {
        ctx.scope()?;
        let Some(id) = id.typed::<ConversationId>() else {
            return Ok(None);
        };
        Ok(ctx
            .reader()
            .load(ConversationOf(id))
            .await?
            .map(Conversation::from))
    }

    /// The viewer's conversations, in the order that is asked for.
    #[expect(clippy::too_many_arguments, reason = "they are those of the field")]
    async fn conversations(
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
        #[graphql(desc = "Only those that fit.")] filter: Option<ConversationFilter>,
        #[graphql(
            desc = "In which order. A cursor is good for one order.",
            default_with = "ConversationOrder::RecentlyActive"
        )]
        order_by: ConversationOrder,
    ) -> Result<Connection<Conversation>> {
        ctx.scope()?;
        let paging = Paging {
            first,
            after,
            last,
            before,
        };
        let page = match order_by {
            ConversationOrder::RecentlyActive => paging.read::<ByTime>(ctx, RECENTLY_ACTIVE)?,
            ConversationOrder::Newest => paging.read::<ByTime>(ctx, NEWEST)?,
            ConversationOrder::Title => paging.read::<ByTitle>(ctx, TITLE)?,
        };
        let Some(filter) = filter.unwrap_or_default().read()? else {
            return Ok(Connection::empty());
        };
        let rows = ctx
            .reader()
            .conversations(filter.clone(), order_by.into(), page)
            .await?;
        let reader = ctx.reader().clone();
        Ok(connection(order_by, rows).counted(move || {
            let (reader, filter) = (reader.clone(), filter.clone());
            async move { reader.count_conversations(filter).await }
        }))
    }
}
