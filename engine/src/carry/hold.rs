//! Reading and writing for a run that is still this worker's.

use std::time::Duration;

use entities::{CommandError, DbErr, RunStatus, Snapshot, Within, query::*, run};
use events::Command;
use tokio::time::sleep;

use super::{Hand, Stop};
use crate::{reasons::internal, start::SYSTEM};

/// How often a statement is tried again while the database is away; then the run is left to its lease.
const TRIES: u32 = 8;

impl Hand {
    /// A view of the run's tenant.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.engine
            .log()
            .snapshot(Within::Tenant(self.run().tenant_id))
    }

    /// A command on the run, if it is still this worker's: read under the stream's lock.
    pub(super) async fn command<T: Send + 'static>(
        &mut self,
        work: impl for<'c> FnOnce(&'c mut Command, run::Model) -> events::Work<'c, T, CommandError>
        + Send
        + 'static,
    ) -> Result<T, Stop> {
        let (tenant, stream, id, attempt) = (
            self.run().tenant_id,
            self.run().conversation_id.0,
            self.run().id,
            self.run().attempt,
        );
        if self.stop.is_cancelled() {
            return Err(Stop::LetGo);
        }
        let done = self
            .engine
            .log()
            .command(Within::Tenant(tenant), move |c| {
                Box::pin(async move {
                    if c.lock(tenant, stream).await?.is_none() {
                        return Ok(None);
                    }
                    let run = run::Entity::anywhere(SYSTEM)
                        .filter(run::Column::Id.eq(id))
                        .one(&**c.tx())
                        .await?;
                    match run {
                        Some(run) if run.status == RunStatus::Running && run.attempt == attempt => {
                            work(c, run).await.map(Some)
                        }
                        _ => Ok(None),
                    }
                })
            })
            .await;
        match done {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(Stop::LetGo),
            Err(CommandError::Database(error))
                if entities::db::failure(&error) == entities::db::Failure::Transient =>
            {
                // Whether it was done is unknown: the next worker finds out from what is stored.
                tracing::warn!(run = %id, error = &error as &dyn std::error::Error, "a run's checkpoint failed; its lease will lapse");
                Err(Stop::LetGo)
            }
            Err(error) => {
                tracing::error!(run = %id, error = &error as &dyn std::error::Error, "a run's checkpoint failed");
                Err(Stop::Fail(internal("the run could not be stored")))
            }
        }
    }

    /// Reads, again and again while the database is away.
    pub(super) async fn patiently<T, F: Future<Output = Result<T, DbErr>>>(
        &self,
        read: impl Fn() -> F,
    ) -> Result<T, Stop> {
        let mut pause = Duration::from_millis(50);
        for _ in 0..TRIES {
            match read().await {
                Ok(value) => return Ok(value),
                Err(error) if entities::db::failure(&error) == entities::db::Failure::Transient => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "a run waits for the database"
                    );
                    tokio::select! {
                        () = self.stop.cancelled() => return Err(Stop::LetGo),
                        () = sleep(pause) => pause *= 2,
                    }
                }
                Err(error) => {
                    tracing::error!(run = %self.run().id, error = &error as &dyn std::error::Error, "a run could not be read");
                    return Err(Stop::Fail(internal("the run could not be read")));
                }
            }
        }
        Err(Stop::LetGo)
    }
}
