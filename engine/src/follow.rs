//! Following a conversation or one of its runs, for subscriptions.

use std::{sync::Arc, time::Duration};

use adapters::clock::BootInstant;
use entities::{
    ConversationId, DbErr, Permission, Principal, Role, RunId, Scope, UserId, Within, conversation,
    query::*, run,
};
use events::{CursorError, Follow, FollowError, Record};

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
    conversation: ConversationId,
    owner: UserId,
    run: Option<RunId>,
    done: bool,
    /// Of whom it is shared with.
    sight: Option<Box<Sight>>,
}

/// That somebody sees a conversation of another's: it may be shared with him no more by the next event.
struct Sight {
    engine: Engine,
    scope: Scope,
    looked_at: BootInstant,
}

/// For how long that is believed.
const BELIEVED: Duration = Duration::from_secs(2);
/// How often it is looked while nothing happens.
const LOOK: Duration = Duration::from_secs(3);

impl Sight {
    /// Whether he still does.
    async fn holds(&mut self, conversation: ConversationId) -> Result<bool, EventsError> {
        let now = self.engine.clock().instant();
        if now.since(self.looked_at) < BELIEVED {
            return Ok(true);
        }
        let key = match self.scope.principal() {
            Principal::Key(key) => Some(key),
            Principal::Session(_) | Principal::Run => None,
        };
        // As he is now: his groups may be others.
        let (tenant, user, most) = (
            self.scope.tenant(),
            self.scope.user(),
            self.scope.permissions(),
        );
        let authority = self.engine.authority();
        let Some(scope) = authority.scope_of_run(tenant, user, key, most).await? else {
            return Ok(false);
        };
        let snapshot = self.engine.log().snapshot(Within::Tenant(tenant));
        let seen = conversation::Entity::seen(&scope)
            .filter(conversation::Column::Id.eq(conversation))
            .one(&**snapshot.tx().await?)
            .await?;
        self.looked_at = now;
        Ok(seen.is_some())
    }
}

/// What comes next of [`Events`]; it is not taken yet.
#[derive(Debug, Clone)]
pub struct Coming {
    /// As it stands in the log. Of what comes live, all who follow in this process get the same one.
    pub record: Arc<Record>,
    /// Whether it comes as it was written, and not out of the tables.
    pub is_live: bool,
    /// How many records are in memory, this one included.
    pub waiting: usize,
}

impl Events {
    /// The next event; `None` after the last one of a run. Waits as long as it takes; dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`EventsError`]; it is over then.
    pub async fn next(&mut self) -> Result<Option<Event>, EventsError> {
        let Some(coming) = self.coming().await? else {
            return Ok(None);
        };
        let event = Event::read(&coming.record)?;
        self.take(coming.record.seq);
        Ok(Some(event))
    }

    /// What comes next, without taking it; `None` after the last event of a run. Waits as long as it takes; dropping the future
    /// loses nothing.
    ///
    /// # Errors
    /// See [`EventsError`]; it is over then.
    pub async fn coming(&mut self) -> Result<Option<Coming>, EventsError> {
        loop {
            if self.done {
                return Ok(None);
            }
            if let Some(sight) = &mut self.sight {
                tokio::select! {
                    waited = self.follow.wait() => waited?,
                    // Also where nothing is told: he is to know that there is nothing more.
                    () = tokio::time::sleep(LOOK) => {
                        if !sight.holds(self.conversation).await? {
                            self.done = true;
                            return Err(EventsError::NotFound);
                        }
                        continue;
                    }
                }
            } else {
                self.follow.wait().await?;
            }
            let Some(record) = self.follow.records().front() else {
                continue;
            };
            if event::is_deletion(record) {
                self.done = true;
                return Err(EventsError::NotFound);
            }
            if self.run.is_some() && record.run != self.run {
                let other = record.seq;
                self.follow.take(other);
                continue;
            }
            let coming = Coming {
                record: record.clone(),
                is_live: self.follow.is_live(),
                waiting: self.follow.records().len(),
            };
            if let Some(sight) = &mut self.sight
                && !sight.holds(self.conversation).await?
            {
                self.done = true;
                return Err(EventsError::NotFound);
            }
            return Ok(Some(coming));
        }
    }

    /// Looks for more that came meanwhile, without waiting.
    pub fn gather(&mut self) {
        self.follow.gather();
    }

    /// What comes next, joined with what goes on with the same text right after it, and how many records that is. It stands at
    /// the number of the last; only numbers that follow each other are joined.
    #[must_use]
    pub fn joined(&self) -> Option<(Arc<Record>, usize)> {
        let mut records = self.follow.records().iter();
        let first = records.next()?;
        if !first.kind.is_delta() {
            return Some((first.clone(), 1));
        }
        let mut joined = Record::clone(first);
        let mut pieces = 1;
        for next in records {
            if next.seq != joined.seq + 1 || joined.join(Record::clone(next)).is_some() {
                break;
            }
            pieces += 1;
        }
        Some((Arc::new(joined), pieces))
    }

    /// Takes what was [`Events::coming`], up to this number: what others were told as one may reach beyond what was looked at.
    pub fn take(&mut self, through: i64) {
        let last = |record: &Arc<Record>| event::is_last(record);
        self.done |= self.run.is_some() && self.follow.records().front().is_some_and(last);
        self.follow.take(through);
    }

    /// The cursor after an event of these, as clients have it.
    #[must_use]
    pub fn cursor(&self, seq: i64) -> String {
        self.follow.cursor(seq).encode()
    }

    /// The conversation.
    #[must_use]
    pub fn conversation(&self) -> ConversationId {
        self.conversation
    }

    /// The run, where only its events are told.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        self.run
    }

    /// Whether the conversation is this user's own.
    #[must_use]
    pub fn is_of(&self, user: UserId) -> bool {
        self.owner == user
    }

    /// As whom to read what is the same for whichever credential of its owner's sees the conversation: as him, with no other right
    /// than that, and those of `rights` that the viewer has himself.
    #[must_use]
    pub fn anybody(&self, viewer: &Scope, rights: &[Permission]) -> Scope {
        let rights = rights.iter().copied().filter(|right| viewer.may(*right));
        let rights = rights.chain([Permission::ConversationsUse]).collect();
        Scope::new(
            viewer.tenant(),
            self.owner,
            Role::Member,
            rights,
            Principal::Run,
        )
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
        let _turn = self.log().turn().await;
        let snapshot = self.log().snapshot(Within::Tenant(scope.tenant()));
        let tx = snapshot.tx().await?;
        let conversation = conversation::Entity::seen(scope)
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
            conversation: id,
            owner: conversation.owner_id,
            run: None,
            done: false,
            sight: self.sight(scope, conversation.owner_id),
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
        let _turn = self.log().turn().await;
        let snapshot = self.log().snapshot(Within::Tenant(scope.tenant()));
        let tx = snapshot.tx().await?;
        let run = run::Entity::seen(scope)
            .filter(run::Column::Id.eq(id))
            .one(&**tx)
            .await?
            .ok_or(EventsError::NotFound)?;
        let conversation = conversation::Entity::seen(scope)
            .filter(conversation::Column::Id.eq(run.conversation_id))
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
            conversation: conversation.id,
            owner: conversation.owner_id,
            run: Some(id),
            done,
            sight: self.sight(scope, conversation.owner_id),
        })
    }

    fn sight(&self, scope: &Scope, owner: UserId) -> Option<Box<Sight>> {
        (scope.user() != owner).then(|| {
            Box::new(Sight {
                engine: self.clone(),
                scope: scope.clone(),
                looked_at: self.clock().instant(),
            })
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
