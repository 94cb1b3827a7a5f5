//! Runs, their steps and their tool calls, as whoever asks may see them: those of conversations that he sees.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use engine::event::{StepFacts, ToolCallFacts};
use entities::{
    Access, AgentId, ConversationId, ModelId, RunId, RunStatus, Scope, ToolCallId, Usage, agent,
    each,
    page::{self, Page, Rows, paged},
    query::*,
    run, run_step, tool_call,
};

use crate::{
    Asker, Found, LoadError, Reader, Relation, Source,
    agents::{SeenAgent, access_to, viewer, with_versions},
    conversations::talker,
    listing::{Listing, by_listing, dealt},
    reader::{lists_by, rows_by, values_by},
};

/// Which runs a list has; what is left out is no condition.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Where it stands: one of these.
    pub status: Option<Vec<RunStatus>>,
    /// The agent.
    pub agent: Option<AgentId>,
    /// Made then or later.
    pub since: Option<DateTime<Utc>>,
    /// Made before.
    pub until: Option<DateTime<Utc>>,
}

/// The order of lists of runs, descending.
const NEWEST: [run::Column; 2] = [run::Column::CreatedAt, run::Column::Id];

/// The run of this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunOf(pub RunId);

impl Relation for RunOf {
    type Value = Arc<run::Model>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let select =
            run::Entity::seen(scope).filter(run::Column::Id.is_in(keys.iter().map(|key| key.0)));
        let rows = select.all(&**source.tx().await?).await?;
        Ok(rows_by(rows, |row| Self(row.id)))
    }
}

/// The newest run of an agent that whoever asks asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NewestRunOf(pub AgentId);

impl Relation for NewestRunOf {
    type Value = Arc<run::Model>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let agents: Vec<AgentId> = keys.iter().map(|key| key.0).collect();
        let rows = run::Entity::newest_of(scope, &**source.tx().await?, &agents).await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| Some((Self(row.agent_id?), Arc::new(row))))
            .collect())
    }
}

/// The agent that answers in what whoever asks has seen; where he would not see the agent itself, or not any more, with USE: its
/// name stays what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AnsweringAgentOf(pub AgentId);

impl Relation for AnsweringAgentOf {
    type Value = Arc<SeenAgent>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let rows = agent::Entity::in_tenant(scope)
            .filter(agent::Column::Id.is_in(keys.iter().map(|key| key.0)))
            .all(&**source.tx().await?)
            .await?;
        let sees = viewer(source).is_some();
        let answering = rows.into_iter().map(|row| {
            let access = access_to(scope, &row).filter(|_| sees);
            (row, access.unwrap_or(Access::Use))
        });
        let seen = with_versions(source, scope, answering.collect()).await?;
        let found = seen.into_iter().map(|seen| (Self(seen.agent.id), seen));
        Ok(found.collect())
    }
}

/// How many runs stand before one that is QUEUED, if any does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlaceInQueueOf(pub RunId);

impl Relation for PlaceInQueueOf {
    type Value = i64;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let runs: Vec<RunId> = keys.iter().map(|key| key.0).collect();
        let ahead = run::Entity::ahead_of(scope, &**source.tx().await?, &runs).await?;
        Ok(values_by(ahead, Self))
    }
}

/// The finished steps of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepsOf(pub RunId);

/// The columns of a step without what the model said in it, which a message shows.
type StepRow = (
    RunId,
    i32,
    Option<ModelId>,
    Usage,
    Option<i32>,
    Option<i32>,
    Option<String>,
    DateTime<Utc>,
    Option<DateTime<Utc>>,
);

impl Relation for StepsOf {
    type Value = Arc<Vec<StepFacts>>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let select = run_step::Entity::in_tenant(scope)
            .filter(run_step::Column::RunId.is_in(keys.iter().map(|key| key.0)))
            .order_by_asc(run_step::Column::RunId)
            .order_by_asc(run_step::Column::Number)
            .select_only()
            .columns([
                run_step::Column::RunId,
                run_step::Column::Number,
                run_step::Column::ModelId,
                run_step::Column::Usage,
                run_step::Column::LatencyMs,
                run_step::Column::TimeToFirstTokenMs,
                run_step::Column::FinishReason,
                run_step::Column::StartedAt,
                run_step::Column::FinishedAt,
            ]);
        let rows: Vec<StepRow> = select.into_tuple().all(&**source.tx().await?).await?;
        Ok(lists_by(rows.into_iter().map(
            |(run, step, model, usage, latency_ms, first_ms, finish_reason, started, finished)| {
                let facts = StepFacts {
                    step,
                    model,
                    usage,
                    latency_ms,
                    time_to_first_token_ms: first_ms,
                    finish_reason,
                    started_at: started,
                    finished_at: finished,
                };
                (Self(run), facts)
            },
        )))
    }
}

/// The tool calls of a run, in order. Of runs that whoever asks has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ToolCallsOf(pub RunId);

impl Relation for ToolCallsOf {
    type Value = Arc<Vec<Arc<ToolCallFacts>>>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let rows = tool_call::Entity::in_tenant(scope)
            .filter(tool_call::Column::RunId.is_in(keys.iter().map(|key| key.0)))
            .order_by_asc(tool_call::Column::Step)
            .order_by_asc(tool_call::Column::Position)
            .all(&**source.tx().await?)
            .await?;
        let calls = rows
            .iter()
            .map(|row| (Self(row.run_id), Arc::new(ToolCallFacts::of(row))));
        Ok(lists_by(calls))
    }
}

/// The tool call of this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ToolCallOf(pub ToolCallId);

impl Relation for ToolCallOf {
    type Value = Arc<ToolCallFacts>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let select = tool_call::Entity::seen(scope)
            .filter(tool_call::Column::Id.is_in(keys.iter().map(|key| key.0)));
        let rows = select.all(&**source.tx().await?).await?;
        Ok(rows
            .iter()
            .map(|row| (Self(row.id), Arc::new(ToolCallFacts::of(row))))
            .collect())
    }
}

/// A page of the runs in a conversation that pass the filter, newest first: `created_at, id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunsIn {
    /// The conversation.
    pub conversation: ConversationId,
    /// Which page, and which runs.
    pub listing: Listing<RunFilter>,
}

impl Relation for RunsIn {
    type Value = Rows<Arc<run::Model>>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let mut found = HashMap::with_capacity(keys.len());
        for (listing, keys) in by_listing(keys, |key| &key.listing) {
            let of = run::Column::ConversationId;
            let select = filtered(scope, listing.filter())
                .filter(of.is_in(keys.iter().map(|key| key.conversation)));
            let (page, tx) = (listing.page(), &**source.tx().await?);
            let rows = each::pages(select, keys.len(), of, &NEWEST, true, page, tx).await?;
            found.extend(dealt(page, keys, rows, |row| {
                Some(Self {
                    conversation: row.conversation_id,
                    listing: listing.clone(),
                })
            }));
        }
        Ok(found)
    }
}

/// How many runs in a conversation pass the filter, if any does; `None` for more than [`page::COUNTED`]. The page is not looked
/// at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunCountIn {
    /// The conversation.
    pub conversation: ConversationId,
    /// Which runs.
    pub listing: Listing<RunFilter>,
}

impl Relation for RunCountIn {
    type Value = Option<u64>;
    const ASKER: Asker = talker;

    async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> {
        let mut found = HashMap::with_capacity(keys.len());
        for (listing, keys) in by_listing(keys, |key| &key.listing) {
            let of = run::Column::ConversationId;
            let select = filtered(scope, listing.filter())
                .filter(of.is_in(keys.iter().map(|key| key.conversation)));
            let counts = each::counts(select, of, &**source.tx().await?).await?;
            found.extend(values_by(counts, |conversation| Self {
                conversation,
                listing: listing.clone(),
            }));
        }
        Ok(found)
    }
}

fn filtered(scope: &Scope, filter: &RunFilter) -> Select<run::Entity> {
    let mut select = run::Entity::seen(scope);
    if let Some(status) = &filter.status {
        select = select.filter(run::Column::Status.is_in(status.iter().copied()));
    }
    if let Some(agent) = filter.agent {
        select = select.filter(run::Column::AgentId.eq(agent));
    }
    if let Some(since) = filter.since {
        select = select.filter(run::Column::CreatedAt.gte(since));
    }
    if let Some(until) = filter.until {
        select = select.filter(run::Column::CreatedAt.lt(until));
    }
    select
}

/// Those that the asker himself asked for.
fn own(scope: &Scope, filter: &RunFilter) -> Select<run::Entity> {
    filtered(scope, filter).filter(run::Column::UserId.eq(scope.user()))
}

impl Reader {
    /// The runs of the asker's own that pass the filter, newest first: `created_at, id`.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn runs(
        &self,
        filter: RunFilter,
        page: Page,
    ) -> Result<Rows<Arc<run::Model>>, LoadError> {
        self.run(move |source| async move {
            let Some(scope) = talker(&source) else {
                return Ok(page.cut(Vec::new()));
            };
            let rows = paged(own(scope, &filter), &NEWEST, true, &page)
                .all(&**source.tx().await?)
                .await?;
            Ok(page.cut(rows.into_iter().map(Arc::new).collect()))
        })
        .await
    }

    /// How many those are; `None` for more than [`page::COUNTED`].
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn count_runs(&self, filter: RunFilter) -> Result<Option<u64>, LoadError> {
        self.run(move |source| async move {
            let Some(scope) = talker(&source) else {
                return Ok(Some(0));
            };
            Ok(page::count(own(scope, &filter), &**source.tx().await?).await?)
        })
        .await
    }
}
