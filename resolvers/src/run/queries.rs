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

/// Which runs; what is left out is no condition.
#[derive(Default, InputObject)]
pub struct RunFilter {
    /// Where it stands: one of these.
    status: Option<Vec<RunStatus>>,
    /// The agent that answers.
    agent_id: Option<ID>,
    /// Asked for then or later.
    since: Option<DateTime>,
    /// Asked for before.
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
    /// The run of this id, if the viewer may see it.
    async fn run(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Of a run.")] id: ID,
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
        #[graphql(desc = "The first so many: 20 unless said, 100 at most.")] first: Option<i32>,
        #[graphql(desc = "After this place.")] after: Option<Cursor>,
        #[graphql(desc = "The last so many, in place of `first`.")] last: Option<i32>,
        #[graphql(desc = "Before this place.")] before: Option<Cursor>,
        #[graphql(desc = "Which of them.")] filter: Option<RunFilter>,
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
