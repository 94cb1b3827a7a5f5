//! What goes out on a socket: one queue, one writer, a fair turn for each operation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt, stream::SplitSink};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::message;

/// Messages that may wait; operations beyond it wait for their place.
const QUEUE: usize = 64;

/// Bytes of messages that may wait. A larger one waits until it is alone.
const QUEUE_BYTES: u32 = 1024 * 1024;

/// Messages written before those that wait longest are let go on.
const BATCH: usize = 32;

/// A message that waits, with what it gives back when it is written.
#[derive(Debug)]
struct Parcel {
    text: String,
    /// Its operation, if it is of one: not written any more once that is cancelled.
    live: Option<Arc<AtomicBool>>,
    _turn: Option<OwnedSemaphorePermit>,
    _bytes: OwnedSemaphorePermit,
}

impl Parcel {
    fn is_live(&self) -> bool {
        self.live
            .as_ref()
            .is_none_or(|live| live.load(Ordering::Acquire))
    }
}

/// Where messages of one socket are handed in.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    // in boxes, as the queue holds room for 32 as soon as there is one
    queue: mpsc::Sender<Box<Parcel>>,
    bytes: Arc<Semaphore>,
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct Outgoing(mpsc::Receiver<Box<Parcel>>);

pub(super) fn outbox() -> (Outbox, Outgoing) {
    let (queue, outgoing) = mpsc::channel(QUEUE);
    (
        Outbox {
            queue,
            bytes: Arc::new(Semaphore::new(QUEUE_BYTES as usize)),
        },
        Outgoing(outgoing),
    )
}

impl Outbox {
    /// Hands in a message that is of no operation; waits while the queue is full, so that a client that asks and does not read
    /// isn't heard any more.
    pub(super) async fn send(&self, text: String) {
        self.hand_in(text, None, None).await;
    }

    async fn hand_in(
        &self,
        text: String,
        live: Option<Arc<AtomicBool>>,
        turn: Option<OwnedSemaphorePermit>,
    ) {
        let bytes = u32::try_from(text.len())
            .unwrap_or(u32::MAX)
            .min(QUEUE_BYTES);
        // neither the semaphore nor the queue closes before the socket ends, and then nobody reads
        let Ok(bytes) = self.bytes.clone().acquire_many_owned(bytes).await else {
            return;
        };
        let _ = self
            .queue
            .send(Box::new(Parcel {
                text,
                live,
                _turn: turn,
                _bytes: bytes,
            }))
            .await;
    }

    /// The same for one operation.
    pub(super) fn of(&self, id: String, live: Arc<AtomicBool>) -> Mail {
        Mail {
            outbox: self.clone(),
            id,
            live,
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

/// Where one operation hands in its messages, one at a time.
#[derive(Debug)]
pub(super) struct Mail {
    outbox: Outbox,
    pub(super) id: String,
    live: Arc<AtomicBool>,
    turn: Arc<Semaphore>,
}

impl Mail {
    /// Whether it is of the operation with this flag, and not of another one that has taken its id.
    pub(super) fn is_of(&self, live: &Arc<AtomicBool>) -> bool {
        Arc::ptr_eq(&self.live, live)
    }

    /// Hands in a message, after the one before it was written.
    pub(super) async fn send(&self, kind: &str, payload: Option<&[u8]>) {
        let Ok(turn) = self.turn.clone().acquire_owned().await else {
            return;
        };
        let text = message::about(&self.id, kind, payload);
        self.outbox
            .hand_in(text, Some(self.live.clone()), Some(turn))
            .await;
    }
}

impl Outgoing {
    /// Writes what waits, before a close frame.
    pub(super) async fn rest(&mut self, sink: &mut SplitSink<WebSocket, Message>) {
        while let Ok(parcel) = self.0.try_recv() {
            if parcel.is_live() && sink.feed(Message::Text(parcel.text.into())).await.is_err() {
                return;
            }
        }
    }

    /// Writes until the client is gone.
    pub(super) async fn write(&mut self, sink: &mut SplitSink<WebSocket, Message>, ping: Duration) {
        let mut pings = interval_at(Instant::now() + ping, ping);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written = Vec::new();
        loop {
            let first = tokio::select! {
                biased;
                _ = pings.tick() => None,
                parcel = self.0.recv() => match parcel {
                    Some(parcel) => Some(parcel),
                    None => return,
                },
            };
            let mut next = match first {
                Some(parcel) => Some(parcel),
                None if sink.feed(Message::Ping(Vec::new().into())).await.is_err() => return,
                None => self.0.try_recv().ok(),
            };
            while let Some(mut parcel) = next {
                let live = parcel.is_live();
                if live
                    && sink
                        .feed(Message::Text(std::mem::take(&mut parcel.text).into()))
                        .await
                        .is_err()
                {
                    return;
                }
                written.push(parcel);
                next = if written.len() < BATCH {
                    self.0.try_recv().ok()
                } else {
                    None
                };
            }
            if sink.flush().await.is_err() {
                return;
            }
            // gives turns and bytes back
            written.clear();
        }
    }
}
