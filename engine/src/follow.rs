//! Following a conversation or one of its runs, for subscriptions.

use entities::{ConversationId, DbErr, Permission, RunId, Scope, conversation, query::*, run};
use events::{CursorError, Follow, FollowError};

use crate::{
    Engine,
    event::{self, Event},
};

/// Why a subscription does not begin or ends.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// There is no such thing, or the caller may not know of it.
    #[error("not found")]
    NotFound,
    /// The caller may not use conversations.
    #[error("forbidden")]
    Forbidden,
    /// The cursor is no good.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The log can't be read, or holds something that this version does not know: come back elsewhere.
    #[error("failed to read the log")]
    Database(#[from] DbErr),
}

impl From<FollowError> for EventsError {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Expired => Self::Cursor(CursorError::Expired),
            FollowError::Gone => Self::NotFound,
            FollowError::Database(error) => Self::Database(error),
        }
    }
}

/// Events to come.
pub struct Events {
    follow: Follow,
    run: Option<RunId>,
    done: bool,
}

impl Events {
    /// The next event; `None` after the last one of a run. Waits as long as it takes; dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`EventsError`]; it is over then.
    pub async fn next(&mut self) -> Result<Option<Event>, EventsError> {
        while !self.done {
            let record = self.follow.next().await?;
            if event::is_deletion(&record) {
                self.done = true;
                return Err(EventsError::NotFound);
            }
            if self.run.is_some() && record.run != self.run {
                continue;
            }
            let event = Event::read(&record)?;
            self.done = self.run.is_some() && event.body.is_terminal();
            return Ok(Some(event));
        }
        Ok(None)
    }
}

impl Engine {
    /// The events of a conversation after a cursor, or from now.
    ///
    /// # Errors
    /// See [`EventsError`].
    pub async fn conversation_events(
        &self,
        scope: &Scope,
        id: ConversationId,
        after: Option<&str>,
    ) -> Result<Events, EventsError> {
        may(scope)?;
        let snapshot = self.log().snapshot();
        let tx = snapshot.tx().await?;
        conversation::Entity::seen(scope)
            .filter(conversation::Column::Id.eq(id))
            .one(&**tx)
            .await?
            .ok_or(EventsError::NotFound)?;
        let after = match after {
            Some(cursor) => self.log().position(cursor, id.0)?,
            None => events::read::heads(&**tx, &[id.0])
                .await?
                .get(&id.0)
                .copied()
                .ok_or(EventsError::NotFound)?,
        };
        Ok(Events {
            follow: self.log().follow(id.0, after),
            run: None,
            done: false,
        })
    }

    /// The events of a run after a cursor, or from its beginning, up to its last.
    ///
    /// # Errors
    /// See [`EventsError`].
    pub async fn run_events(
        &self,
        scope: &Scope,
        id: RunId,
        after: Option<&str>,
    ) -> Result<Events, EventsError> {
        may(scope)?;
        let snapshot = self.log().snapshot();
        let tx = snapshot.tx().await?;
        let run = run::Entity::seen(scope)
            .filter(run::Column::Id.eq(id))
            .one(&**tx)
            .await?
            .ok_or(EventsError::NotFound)?;
        let stream = run.conversation_id.0;
        let after = match after {
            Some(cursor) => self.log().position(cursor, stream)?,
            None => run.first_seq,
        };
        let done = run.terminal_seq.is_some_and(|last| after >= last);
        Ok(Events {
            follow: self.log().follow(stream, after),
            run: Some(id),
            done,
        })
    }
}

fn may(scope: &Scope) -> Result<(), EventsError> {
    if scope.may(Permission::ConversationsUse) {
        Ok(())
    } else {
        Err(EventsError::Forbidden)
    }
}
