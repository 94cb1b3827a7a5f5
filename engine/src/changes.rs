//! Following what changes in a tenant, for subscriptions.

use entities::Scope;
use events::{Change, Follow};

use crate::{Engine, follow::EventsError};

/// Changes to come, of the whole tenant: whose they are to see is asked of each ([`Change::action_for`]).
pub struct Changes {
    follow: Follow,
}

impl Changes {
    /// The next change. Waits as long as it takes; dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`EventsError`]; it is over then.
    pub async fn next(&mut self) -> Result<Change, EventsError> {
        loop {
            let record = self.follow.next().await?;
            if let Some(change) = Change::read(&record)? {
                return Ok(change);
            }
        }
    }

    /// The cursor after a change of these, as clients have it.
    #[must_use]
    pub fn cursor(&self, seq: i64) -> String {
        self.follow.cursor(seq).encode()
    }
}

impl Engine {
    /// The changes in a tenant after a cursor, or from now.
    ///
    /// # Errors
    /// See [`EventsError`].
    pub async fn changes(
        &self,
        scope: &Scope,
        after: Option<&str>,
    ) -> Result<Changes, EventsError> {
        let stream = scope.tenant().0;
        let turn = self.log().turn().await;
        let head = self.log().head_of_changes(scope.tenant()).await?;
        drop(turn);
        let after = match after {
            Some(cursor) => self.log().position(cursor, stream)?,
            None => head,
        };
        Ok(Changes {
            follow: self.log().follow(stream, after),
        })
    }
}
