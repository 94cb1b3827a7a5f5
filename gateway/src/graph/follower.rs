//! One who follows.

use std::sync::Arc;

use engine::{
    event::Event,
    follow::{Coming, Events, EventsError},
};
use futures_util::{Stream, stream};
use tokio::time::{Instant, sleep_until};

use super::{
    crowd::PAUSE,
    followers::{Made, Maker, Renewed, Topic},
};

/// With so many records waiting one is behind, and gets pieces of a text joined.
const BEHIND: usize = 16;

/// One who follows: his place in the log, and what he shares with others.
pub(super) struct Follower {
    topic: Arc<Topic>,
    events: Events,
    /// What he may do by now, where that has changed.
    renewed: Renewed,
    /// While he reads what was before he came, which others don't wait for.
    own: Option<Box<Maker>>,
    /// When he was last told something live, as long as pieces wait.
    last: Option<Instant>,
    is_over: bool,
    wants_cursors: bool,
}

/// An event as he is told it, and where to go on after it, where he wants to know.
pub(super) type At = (Made, Option<String>);

impl Follower {
    pub(super) fn new(
        topic: Arc<Topic>,
        events: Events,
        renewed: Renewed,
        wants_cursors: bool,
    ) -> Self {
        Self {
            topic,
            events,
            renewed,
            wants_cursors,
            own: None,
            last: None,
            is_over: false,
        }
    }

    /// What he is told.
    pub(super) fn told(self) -> impl Stream<Item = At> + Send + 'static {
        stream::unfold(self, |mut follower| async move {
            let made = follower.next().await?;
            Some((made, follower))
        })
    }

    async fn next(&mut self) -> Option<At> {
        if self.is_over {
            return None;
        }
        let coming = match self.coming().await {
            Ok(coming) => coming?,
            Err(error) => {
                self.is_over = true;
                return Some((self.topic.make(Err(error)).await, None));
            }
        };
        if let Some(identity) = self.renewed.taken() {
            self.topic = self.topic.for_viewer(identity, &self.events);
            self.own = None;
        }
        // what takes room while it is made is not kept while he waits
        Some(if coming.is_live {
            Box::pin(self.live(coming)).await
        } else {
            Box::pin(self.replayed(coming)).await
        })
    }

    /// What comes next. Where the process has much to tell, pieces of a text wait for each other first.
    async fn coming(&mut self) -> Result<Option<Coming>, EventsError> {
        let coming = self.events.coming().await?;
        let waits = self.topic.crowd().is_crowded()
            && coming
                .as_ref()
                .is_some_and(|coming| coming.is_live && coming.record.kind.is_delta());
        match self.last.map(|last| last + PAUSE) {
            Some(until) if waits && until > Instant::now() => {
                sleep_until(until).await;
                self.events.gather();
                self.events.coming().await
            }
            _ => Ok(coming),
        }
    }

    async fn live(&mut self, coming: Coming) -> At {
        if let Some(own) = self.own.take() {
            self.topic.leave(*own);
        }
        let is_crowded = self.topic.crowd().is_crowded();
        let join = is_crowded || coming.waiting >= BEHIND;
        let piece = self.topic.piece(&coming, &self.events, join);
        let made = self.topic.made(coming.record.seq, &piece).await;
        self.events.take(piece.record.seq);
        self.topic.crowd().told(piece.records);
        self.last = is_crowded.then(Instant::now);
        self.end(&made);
        (made, self.cursor(piece.record.seq))
    }

    async fn replayed(&mut self, coming: Coming) -> At {
        let own = self.own.get_or_insert_with(|| Box::new(self.topic.maker()));
        let made = own
            .make(Event::read(&coming.record).map_err(EventsError::from))
            .await;
        self.events.take(coming.record.seq);
        self.end(&made);
        (made, self.cursor(coming.record.seq))
    }

    fn cursor(&self, seq: i64) -> Option<String> {
        self.wants_cursors.then(|| self.events.cursor(seq))
    }

    /// An error of the root is the last that he is told.
    fn end(&mut self, made: &Made) {
        self.is_over |= matches!(made, Made::Badly(response) if response.errors.iter().all(|error| error.path.len() <= 1));
    }
}
