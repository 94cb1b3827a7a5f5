//! Following a stream from a position: pages of the table until the ring reaches back far enough, then live.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use entities::{DbErr, SystemScope};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    cursor::Cursor,
    hub::Channel,
    log::Log,
    read::{self, PAGE},
    record::{Record, joined},
};

/// How long to wait before a table that is behind what was heard is read again.
const AGAIN: Duration = Duration::from_millis(250);
/// The most records that are taken off the ring at once: whoever does not go on holds them.
const TAKEN: usize = 256;
/// The most bytes of payload that a page leaves in memory; what is beyond is read again when its turn comes.
const HELD: usize = 64 * 1024;
/// How many records are asked for at first: they may all be large.
const FIRST: i64 = 64;

/// Why following ends.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// What comes next is gone, or the position is beyond the stream's end.
    #[error("the position is not in the stream any more")]
    Expired,
    /// There is no such stream (any more).
    #[error("the stream is gone")]
    Gone,
    /// The table could not be read.
    #[error("failed to read the log")]
    Database(#[from] DbErr),
}

/// A stream that is followed. Reads nothing between two calls of [`Follow::next`], however long they are apart.
pub struct Follow {
    log: Log,
    channel: Arc<Channel>,
    heads: watch::Receiver<i64>,
    stream: Uuid,
    position: i64,
    /// The stream's end as the last page told it: a full page ends before it.
    head: i64,
    ready: VecDeque<Arc<Record>>,
    /// A head that was heard of and that the table does not have: nothing to hurry for.
    ahead: i64,
    /// Whether the position is known to be good: the table was read, or the ring has it.
    begun: bool,
    /// Whether `ready` was taken off the ring.
    live: bool,
    /// Records to ask for at once: fewer where they are large.
    page: i64,
}

impl Follow {
    pub(crate) fn new(log: Log, stream: Uuid, after: i64) -> Self {
        let channel = log.hub().channel(stream);
        let heads = channel.heads();
        Self {
            log,
            channel,
            heads,
            stream,
            position: after,
            head: 0,
            ahead: 0,
            ready: VecDeque::new(),
            begun: false,
            live: false,
            page: FIRST,
        }
    }

    /// The cursor after a number of the stream.
    #[must_use]
    pub fn cursor(&self, seq: i64) -> Cursor {
        self.log.cursor(self.stream, seq)
    }

    /// The next record after the position, waiting for it where there is none yet. Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`FollowError`]; it is over then.
    pub async fn next(&mut self) -> Result<Arc<Record>, FollowError> {
        loop {
            self.wait().await?;
            if let Some(record) = self.ready.pop_front() {
                return Ok(record);
            }
        }
    }

    /// Waits until [`Follow::records`] has one, and takes none. Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`FollowError`]; it is over then.
    pub async fn wait(&mut self) -> Result<(), FollowError> {
        loop {
            if !self.ready.is_empty() {
                return Ok(());
            }
            // Before the look, so that nothing that comes during it is missed.
            let heard = *self.heads.borrow_and_update();
            if let Some((records, position)) = self.channel.since(self.position, TAKEN) {
                // Within the ring a position is good, and whoever begins there reads nothing: many come at once.
                if !self.begun {
                    self.begun = true;
                    self.head = self.position;
                }
                self.live = true;
                if !records.is_empty() {
                    self.ready.extend(records);
                    self.position = position;
                    continue;
                }
            }
            if self.begun {
                if heard > self.position && heard <= self.ahead {
                    // The table went back under a living server: look again, without haste.
                    let _ = tokio::time::timeout(AGAIN, self.heads.changed()).await;
                } else if self.head.max(heard) <= self.position {
                    // The sender lives in `self.channel`.
                    let _ = self.heads.changed().await;
                    continue;
                }
            }
            self.read().await?;
        }
    }

    /// What comes next, as far as it is in memory; in order, and everything that there is between two of them.
    #[must_use]
    pub fn records(&self) -> &VecDeque<Arc<Record>> {
        &self.ready
    }

    /// Whether [`Follow::records`] were taken off the ring, where all who follow live get the same ones.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Adds to [`Follow::records`] what the ring has got meanwhile.
    pub fn gather(&mut self) {
        let room = TAKEN.saturating_sub(self.ready.len());
        if self.live
            && room > 0
            && let Some((records, position)) = self.channel.since(self.position, room)
        {
            self.ready.extend(records);
            self.position = position;
        }
    }

    /// Takes everything up to `through`, also what has not been looked at: others were told of it as one.
    pub fn take(&mut self, through: i64) {
        while self.ready.front().is_some_and(|next| next.seq <= through) {
            self.ready.pop_front();
        }
        if self.ready.is_empty() {
            self.position = self.position.max(through);
        }
    }

    /// Reads a page; where it was behind for long, pieces of a text are joined.
    async fn read(&mut self) -> Result<(), FollowError> {
        let turn = self.log.turn().await;
        let db = self.log.db().reader(SystemScope::of("following a stream"));
        let pages = read::pages(db, &[(self.stream, self.position)], self.page).await?;
        drop(turn);
        let mut page = pages.into_values().next().ok_or(FollowError::Gone)?;
        if self.position < page.floor || self.position > page.head {
            return Err(FollowError::Expired);
        }
        let mut held = 0;
        let mut fits = |record: &Record| {
            let before = held;
            held += record.payload.size();
            before < HELD
        };
        let kept = page
            .records
            .iter()
            .take_while(|record| fits(record))
            .count();
        if kept < page.records.len() {
            page.records.truncate(kept);
            page.position = page.records.last().map_or(page.head, |record| record.seq);
            self.page = i64::try_from(kept).unwrap_or(PAGE);
        } else {
            self.page = (self.page * 2).min(PAGE);
        }
        self.begun = true;
        self.live = false;
        if page.position == page.head {
            self.channel.read(self.position, page.head, &page.records);
        }
        self.position = page.position;
        self.head = page.head;
        self.ahead = if page.position == page.head {
            (*self.heads.borrow()).max(page.head)
        } else {
            0
        };
        self.ready
            .extend(joined(page.records).into_iter().map(Arc::new));
        Ok(())
    }
}
