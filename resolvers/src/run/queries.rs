//! Finding runs.

use std::{collections::HashSet, sync::Arc};

use async_graphql::{Context, ID, InputObject, Object, Result};
use chrono::Utc;
use entities::{AgentId, RunId, page::Rows, run};
use loaders::runs::{self, RunOf};
use uuid::Uuid;

use super::{enums::RunStatus, object::Run};
use crate::{
    asking::{ContextExt, GivenId},
    connection::{Connection, Paging},
    scalars::{Cursor, DateTime},
};

/// Name of the list in its cursors; the lists of single conversations have the same order, and take the same ones.
const RUNS: &str = "runs";

/// A place in a list of runs.
pub(crate) type Newest = (chrono::DateTime<Utc>, Uuid);

/// Which runs; several conditions are all required, what is left out is none.
#[derive(Default, InputObject)]
pub struct RunFilter {
    /// Where it stands: one of these.
    status: Option<Vec<RunStatus>>,
    /// The id of the agent that answers.
    agent_id: Option<ID>,
    /// Asked for at this time or later.
    since: Option<DateTime>,
    /// Asked for before this time.
    until: Option<DateTime>,
}

impl RunFilter {
    /// As loaders take it; `None`: nothing passes it.
    pub(crate) fn read(self) -> Option<runs::RunFilter> {
        let agent = match self.agent_id {
            Some(id) => Some(id.typed::<AgentId>()?),
            None => None,
        };
        let status = self.status.map(|some| {
            let some: HashSet<_> = some.into_iter().map(entities::RunStatus::from).collect();
            some.into_iter().collect()
        });
        let (since, until) = (self.since.map(|at| at.0), self.until.map(|at| at.0));
        Some(runs::RunFilter {
            status,
            agent,
            since,
            until,
        })
    }
}

/// The page that these arguments ask for.
pub(crate) fn page(ctx: &Context<'_>, paging: &Paging) -> Result<entities::page::Page> {
    paging.read::<Newest>(ctx, RUNS)
}

/// A page of runs.
pub(crate) fn connection(rows: Rows<Arc<run::Model>>) -> Connection<Run> {
    Connection::new(RUNS, rows, |row| (row.created_at, row.id.0), Run::from)
}

/// Finding runs.
#[derive(Default)]
pub struct RunQuery;

#[Object]
impl RunQuery {
    /// The run of this id; null where there is none that the viewer may see.
    async fn run(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of a run.")] id: ID,
    ) -> Result<Option<Run>> {
        ctx.scope()?;
        let Some(id) = id.typed::<RunId>() else {
            return Ok(None);
        };
        Ok(ctx.reader().load(RunOf(id)).await?.map(Run::from))
    }

    /// The viewer's runs, newest first.
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
        ctx.scope()?;
        let page = page(
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
        let rows = ctx.reader().runs(filter.clone(), page).await?;
        let reader = ctx.reader().clone();
        Ok(connection(rows).counted(move || {
            let (reader, filter) = (reader.clone(), filter.clone());
            async move { reader.count_runs(filter).await }
        }))
    }
}
