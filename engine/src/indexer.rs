//! Keeping what is said findable: the index of words follows the rows, a moment later and off the path of what is said.

use entities::{CommandError, Within, search};

use crate::{Engine, start::SYSTEM};

/// Texts of one transaction: short, as SQLite has one writer.
const BATCH: u64 = 50;

impl Engine {
    /// Keeps the index up to date, until the process closes.
    pub(crate) async fn index_texts(self) {
        let mut written = self.log().written();
        written.mark_changed();
        while self.something_written(&mut written).await {
            if let Err(error) = self.catch_up_index().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to index what was said; it is tried again"
                );
            }
        }
    }

    /// Makes all that is said by now findable, and what is gone not.
    ///
    /// # Errors
    /// What the database says.
    pub async fn catch_up_index(&self) -> Result<(), CommandError> {
        while search::is_behind(SYSTEM, self.log().db().reader(SYSTEM)).await?
            && !self.closing().is_cancelled()
        {
            let taken = self
                .log()
                .command::<_, CommandError, _>(Within::System(SYSTEM), |c| {
                    Box::pin(async move { Ok(search::catch_up(SYSTEM, c.tx(), BATCH).await?) })
                })
                .await?;
            if taken == 0 {
                // Another process is at what is left.
                return Ok(());
            }
        }
        Ok(())
    }
}
