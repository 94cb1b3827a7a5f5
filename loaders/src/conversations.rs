//! Conversations, as whoever asks may see them: his own and those shared with him, with the right to have any.

use std::{collections::HashMap, sync::Arc};

use entities::{
    AgentId, ConversationId, Permission, Scope, conversation, each,
    page::{self, Page, Rows, paged},
    query::*,
    search::{self, terms::Asked},
};

use crate::{
    Asker, Found, LoadError, Reader, Relation, Source,
    listing::{Listing, by_listing, dealt},
    reader::{rows_by, values_by},
};

/// Which conversations a list has; what is left out is no condition.
#[derive(Debug, Clone, Default)]
pub struct ConversationFilter {
    /// The agent that answers in it.
    pub agent: Option<AgentId>,
    /// Whether it was put aside.
    pub is_archived: Option<bool>,
    /// Whether a run is under way or waits in it.
    pub is_busy: Option<bool>,
    /// Words that its title or one of its messages holds.
    pub query: Option<Asked>,
}

/// In which order, and so by which columns a place in the list is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConversationOrder {
    /// `last_activity_at, id`, descending.
    RecentlyActive,
    /// `created_at, id`, descending.
    Newest,
    /// `1 where there is no title else 0, title, id`, ascending.
    Title,
}

/// Whoever asks, if he may have conversations.
pub(crate) fn talker(source: &Source) -> Option<&Scope> {
    source
        .scope()
        .filter(|scope| scope.may(Permission::ConversationsUse))
}

/// The conversation of this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConversationOf(pub ConversationId);

impl Relation for ConversationOf {
    type Value = Arc<conversation::Model>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let select = conversation::Entity::seen(scope)
            .filter(conversation::Column::Id.is_in(keys.iter().map(|key| key.0)));
        let rows = select.all(&**source.tx().await?).await?;
        Ok(rows_by(rows, |row| Self(row.id)))
    }
}

/// The number that the log of a conversation stands at, in the view that the rest is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeadOf(pub ConversationId);

impl Relation for HeadOf {
    type Value = i64;

    async fn fetch(_scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let streams: Vec<_> = keys.iter().map(|key| key.0.0).collect();
        let heads = events::read::heads(&**source.tx().await?, &streams).await?;
        Ok(values_by(heads, |stream| Self(ConversationId(stream))))
    }
}

/// A page of the asker's own conversations in which an agent answers, most recently active first: `last_activity_at, id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConversationsWith {
    /// The agent.
    pub agent: AgentId,
    /// Which page.
    pub listing: Listing<()>,
}

impl Relation for ConversationsWith {
    type Value = Rows<Arc<conversation::Model>>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let mut found = HashMap::with_capacity(keys.len());
        for (listing, keys) in by_listing(keys, |key| &key.listing) {
            let select = conversation::Entity::own(scope)
                .filter(conversation::Column::AgentId.is_in(keys.iter().map(|key| key.agent)));
            let of = conversation::Column::AgentId;
            let (order, page, tx) = (&RECENTLY_ACTIVE, listing.page(), &**source.tx().await?);
            let rows = each::pages(select, keys.len(), of, order, true, page, tx).await?;
            found.extend(dealt(page, keys, rows, |row| {
                Some(Self {
                    agent: row.agent_id?,
                    listing: listing.clone(),
                })
            }));
        }
        Ok(found)
    }
}

/// How many of the asker's own conversations an agent answers in, if any; `None` for more than [`page::COUNTED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConversationCountWith(pub AgentId);

impl Relation for ConversationCountWith {
    type Value = Option<u64>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let select = conversation::Entity::own(scope)
            .filter(conversation::Column::AgentId.is_in(keys.iter().map(|key| key.0)));
        let tx = source.tx().await?;
        let counts = each::counts(select, conversation::Column::AgentId, &**tx).await?;
        Ok(values_by(counts, Self))
    }
}

const RECENTLY_ACTIVE: [conversation::Column; 2] = [
    conversation::Column::LastActivityAt,
    conversation::Column::Id,
];
const NEWEST: [conversation::Column; 2] =
    [conversation::Column::CreatedAt, conversation::Column::Id];

/// Conversations that pass the filter: the asker's own, or those of others that are shared with him.
async fn filtered(
    is_own: bool,
    scope: &Scope,
    source: &Source,
    filter: &ConversationFilter,
) -> Result<Select<conversation::Entity>, LoadError> {
    let mut select = if is_own {
        conversation::Entity::own(scope)
    } else {
        conversation::Entity::shared(scope)
    };
    if let Some(agent) = filter.agent {
        select = select.filter(conversation::Column::AgentId.eq(agent));
    }
    if let Some(is_archived) = filter.is_archived {
        select = select.filter(conversation::Column::IsArchived.eq(is_archived));
    }
    if let Some(is_busy) = filter.is_busy {
        select = conversation::Entity::busy(select, scope, is_busy);
    }
    if let Some(asked) = &filter.query {
        let tx = source.tx().await?;
        // By its owner a text is found as fast as if there were no others.
        let whose = if is_own {
            vec![scope.user()]
        } else {
            conversation::Entity::sharers(scope, &**tx).await?
        };
        let holding = conversation::Entity::holding(scope, tx.backend(), asked, &whose);
        select = select.filter(holding);
    }
    Ok(select)
}

/// Narrows and orders conversations to a page.
fn ordered(
    select: Select<conversation::Entity>,
    order: ConversationOrder,
    page: &Page,
) -> Select<conversation::Entity> {
    match order {
        ConversationOrder::RecentlyActive => paged(select, &RECENTLY_ACTIVE, true, page),
        ConversationOrder::Newest => paged(select, &NEWEST, true, page),
        ConversationOrder::Title => conversation::Entity::by_title(select, page),
    }
}

impl Reader {
    /// The conversations that pass the filter, in this order.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn conversations(
        &self,
        filter: ConversationFilter,
        order: ConversationOrder,
        page: Page,
    ) -> Result<Rows<Arc<conversation::Model>>, LoadError> {
        self.run(move |source| async move {
            let Some(scope) = talker(&source) else {
                return Ok(page.cut(Vec::new()));
            };
            // His own and what others share with him are each read as far as the page goes, by the index that fits.
            let own = filtered(true, scope, &source, &filter).await?;
            let own = ordered(own, order, &page);
            let shared = filtered(false, scope, &source, &filter).await?;
            let shared = ordered(shared, order, &page);
            let either = conversation::Entity::either(scope, own, shared);
            let either = ordered(either, order, &page);
            let tx = source.tx().await?;
            let rows = match &filter.query {
                None => either.all(&**tx).await?,
                Some(_) => search::page(scope, tx, either).await?,
            };
            Ok(page.cut(rows.into_iter().map(Arc::new).collect()))
        })
        .await
    }

    /// How many those are; `None` for more than [`page::COUNTED`].
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn count_conversations(
        &self,
        filter: ConversationFilter,
    ) -> Result<Option<u64>, LoadError> {
        self.run(move |source| async move {
            let Some(scope) = talker(&source) else {
                return Ok(Some(0));
            };
            let tx = source.tx().await?;
            let own = filtered(true, scope, &source, &filter).await?;
            let shared = filtered(false, scope, &source, &filter).await?;
            let [own, shared] = match &filter.query {
                None => [
                    page::count(own, &**tx).await?,
                    page::count(shared, &**tx).await?,
                ],
                Some(_) => [
                    search::count(scope, tx, own).await?,
                    search::count(scope, tx, shared).await?,
                ],
            };
            let all = own.zip(shared).map(|(own, shared)| own + shared);
            Ok(all.filter(|all| *all <= page::COUNTED))
        })
        .await
    }
}
