//! Conversations.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, Result, plain};
use engine::event::ConversationFacts;
use entities::{
    ConversationId, Grantee, MessageId, Refusal, ResourceKind, conversation,
    page::Rows,
    tree::{Path, Stop},
};
use loaders::{
    LoadError,
    conversations::{ConversationOf, HeadOf},
    identity::MemberOf,
    listing::Listing,
    messages::{MessageOf, PathThrough, PathTo, ShownOf},
    runs::{AnsweringAgentOf, RunCountIn, RunOf, RunsIn},
};

use super::paths;
use crate::{
    agent::Agent,
    asking::{ContextExt, GivenId},
    connection::{Connection, Paging},
    group::Group,
    identity::User,
    message::Message,
    run::{Run, RunFilter, queries as runs},
    scalars::{Cursor, DateTime},
    sharing::{Access, Share, Visibility, shares_of},
    usage::{self, UsageSummary},
};

/// A conversation with an agent: a tree of messages, and the runs that answer in it.
#[derive(Clone)]
pub struct Conversation {
    row: Arc<conversation::Model>,
    /// The number of the event that tells of it.
    told_at: Option<i64>,
}

impl From<Arc<conversation::Model>> for Conversation {
    fn from(row: Arc<conversation::Model>) -> Self {
        Self { row, told_at: None }
    }
}

/// A conversation that something refers to that was seen: gone only where that went, too, since.
pub(crate) async fn conversation(ctx: &Context<'_>, id: ConversationId) -> Result<Conversation> {
    let row = ctx.reader().load(ConversationOf(id)).await?;
    Ok(Conversation::from(
        row.ok_or_else(|| Refusal::not_found(&[], id))?,
    ))
}

impl Conversation {
    /// As an event of this number tells of it; `None`: it is gone since.
    pub(crate) async fn told(
        ctx: &Context<'_>,
        id: ConversationId,
        seq: i64,
        facts: &ConversationFacts,
    ) -> Result<Option<Self>, LoadError> {
        let row = ctx.reader().load(ConversationOf(id)).await?;
        Ok(row.map(|row| Self {
            row: Arc::new(facts.onto(Arc::unwrap_or_clone(row))),
            told_at: Some(seq),
        }))
    }

    /// How far whoever asks may go with it. It was read, so he may use it at least.
    fn access(&self, ctx: &Context<'_>) -> Result<entities::Access> {
        let audience = self.row.audience();
        let access = ctx.scope()?.access(ResourceKind::Conversation, &audience);
        Ok(access.unwrap_or(entities::Access::Use))
    }

    /// The messages along the branch that is asked for.
    async fn path(&self, ctx: &Context<'_>, through: Option<ID>) -> Result<Option<Arc<Path>>> {
        let Some(given) = through else {
            let Some(leaf) = self.row.leaf_id else {
                return Ok(None);
            };
            return Ok(ctx.reader().load(PathTo(leaf)).await?);
        };
        let path = match given.typed::<MessageId>() {
            Some(id) => ctx.reader().load(PathThrough(id)).await?,
            None => None,
        };
        let path = path.filter(|path| path.conversation == self.row.id);
        Ok(Some(path.ok_or_else(|| {
            Refusal::not_found(&["through"], given.as_str())
        })?))
    }
}

plain!(Conversation as conversation_gql {
    "id" => id, "title" => title, "isArchived" => is_archived, "visibility" => visibility, "viewerAccess" => viewer_access,
    "lastActivityAt" => last_activity_at, "createdAt" => created_at, "updatedAt" => updated_at,
});

/// A conversation with an agent: a tree of messages, and the runs that answer in it.
#[Object(crate = "conversation_gql")]
impl Conversation {
    /// Its id.
    pub async fn id(&self) -> ID {
        self.row.id.into()
    }

    /// Its name, by a person, or else by a model; null before.
    async fn title(&self) -> Option<&str> {
        self.row.title.as_deref()
    }

    /// The agent that answers in it, whether or not it is still there; null: none was named yet.
    async fn agent(&self, ctx: &Context<'_>) -> Result<Option<Agent>> {
        let Some(id) = self.row.agent_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(AnsweringAgentOf(id)).await?.map(Agent))
    }

    /// Whose it is.
    async fn owner(&self, ctx: &Context<'_>) -> Result<User> {
        let id = self.row.owner_id;
        let member = ctx.reader().load(MemberOf(id)).await?;
        Ok(User(member.ok_or_else(|| Refusal::not_found(&[], id))?))
    }

    /// Whether it is archived: put aside, out of the way.
    async fn is_archived(&self) -> bool {
        self.row.is_archived
    }

    /// From the root along one branch: through the message named, on to its latest leaf; left out, the branch last used.
    async fn messages(
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
        #[graphql(
            desc = "The id of a message of this conversation, which is to be on the branch."
        )]
        through: Option<ID>,
    ) -> Result<Connection<Message>> {
        let page = paths::page(
            ctx,
            &Paging {
                first,
                after,
                last,
                before,
            },
        )?;
        let Some(path) = self.path(ctx, through).await? else {
            return Ok(Connection::empty());
        };
        let stops = path.page(&page);
        let keys = stops.rows.iter().map(|stop| MessageOf(stop.message));
        let found = ctx.reader().load_many(keys).await?;
        let rows = stops.rows.into_iter().filter_map(|stop: Stop| {
            let row = found.get(&MessageOf(stop.message))?.clone();
            Some((stop, row))
        });
        let (has_next, has_previous) = (stops.has_next, stops.has_previous);
        let rows = Rows {
            rows: rows.collect(),
            has_next,
            has_previous,
        };
        Ok(paths::connection(rows, path.stops.len()))
    }

    /// The end of the branch last used.
    async fn leaf(&self, ctx: &Context<'_>) -> Result<Option<Message>> {
        let Some(leaf) = self.row.leaf_id else {
            return Ok(None);
        };
        let Some(shown) = ctx.reader().load(ShownOf(leaf)).await? else {
            return Ok(None);
        };
        Ok(ctx
            .reader()
            .load(MessageOf(shown))
            .await?
            .map(Message::from))
    }

    /// The newest message of all branches.
    async fn last_message(&self, ctx: &Context<'_>) -> Result<Option<Message>> {
        let Some(id) = self.row.last_message_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(MessageOf(id)).await?.map(Message::from))
    }

    /// The runs that answer in it, newest first.
    async fn runs(
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
        #[graphql(desc = "Only those that fit.")] filter: Option<RunFilter>,
    ) -> Result<Connection<Run>> {
        let page = runs::page(
            ctx,
            &Paging {
                first,
                after,
                last,
                before,
            },
        )?;
        let Some(filter) = filter.unwrap_or_default().read() else {
            return Ok(Connection::empty());
        };
        let conversation = self.row.id;
        let listing = Listing::new(page, filter);
        let key = RunsIn {
            conversation,
            listing: listing.clone(),
        };
        let Some(rows) = ctx.reader().load(key).await? else {
            return Ok(Connection::empty());
        };
        // The count takes no notice of the page, so that several pages share one.
        let whole = Listing::new(entities::page::Page::default(), listing.filter().clone());
        let reader = ctx.reader().clone();
        Ok(runs::connection(rows).counted(move || {
            let (reader, key) = (
                reader.clone(),
                RunCountIn {
                    conversation,
                    listing: whole.clone(),
                },
            );
            async move { Ok(reader.load(key).await?.unwrap_or(Some(0))) }
        }))
    }

    /// The run that is under way: RUNNING or WAITING.
    async fn active_run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        let Some(id) = self.row.active_run_id else {
            return Ok(None);
        };
        Ok(ctx.reader().load(RunOf(id)).await?.map(Run::from))
    }

    /// Where its log stands: subscribe to `conversationEvents` after it, having read the rest with it, and nothing is missed or
    /// repeated.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<Cursor> {
        let id = self.row.id;
        let head = match self.told_at {
            Some(seq) => Some(seq),
            None => ctx.reader().load(HeadOf(id)).await?,
        };
        let head = head.ok_or_else(|| Refusal::not_found(&[], id))?;
        Ok(Cursor(ctx.engine().log().cursor(id.0, head).encode()))
    }

    /// Runs, tokens, cost and latency of all that was said in it.
    async fn usage(&self, ctx: &Context<'_>) -> Result<UsageSummary> {
        usage::ever(ctx, self.row.id.0).await
    }

    /// PRIVATE, unless it is shared with a group (GROUP) or with everybody in the tenant (TENANT).
    pub async fn visibility(&self) -> Visibility {
        let shares = self.row.reach.iter().flat_map(|reach| &reach.shares);
        let mut seen = Visibility::Private;
        for share in shares {
            match share.with {
                Grantee::Tenant => return Visibility::Tenant,
                Grantee::Group(_) => seen = Visibility::Group,
                Grantee::User(_) => {}
            }
        }
        seen
    }

    /// How far the viewer may go with it.
    pub async fn viewer_access(&self, ctx: &Context<'_>) -> Result<Access> {
        Ok(self.access(ctx)?.into())
    }

    /// Null: it is its owner's own.
    pub async fn group(&self) -> Result<Option<Group>> {
        Ok(None)
    }

    /// With whom it is shared, the first share first; null for those who may not share it.
    pub async fn shares(&self, ctx: &Context<'_>) -> Result<Option<Vec<Share>>> {
        shares_of(ctx, self.row.id.0, self.access(ctx)?).await
    }

    /// When something was last said in it.
    async fn last_activity_at(&self) -> DateTime {
        self.row.last_activity_at.into()
    }

    /// When it was begun.
    async fn created_at(&self) -> DateTime {
        self.row.created_at.into()
    }

    /// When it last changed.
    async fn updated_at(&self) -> DateTime {
        self.row.updated_at.into()
    }
}
