//! What was appended a moment ago, kept in memory for those who follow live. A hint: whoever misses something here reads the
//! tables.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use adapters::clock::BootInstant;
use tokio::sync::watch;
use uuid::Uuid;

use crate::record::Record;

/// The most records that one stream's ring holds.
const RING: usize = 1024;
/// The most bytes of payload that it holds.
const RING_BYTES: usize = 256 * 1024;
/// The most batches that wait for one that they follow on. It comes at once, or, where it is of another process, with a hint or
/// the next look at the table.
const EARLY: usize = 64;
/// How long after its last event a stream is looked at often.
const ACTIVE: Duration = Duration::from_secs(10);

/// The streams that somebody in this process follows.
#[derive(Default)]
pub(crate) struct Hub {
    channels: Mutex<HashMap<Uuid, Weak<Channel>>>,
}

/// One followed stream.
pub(crate) struct Channel {
    pub(crate) stream: Uuid,
    ring: Mutex<Ring>,
    /// The greatest head heard of.
    head: watch::Sender<i64>,
}

#[derive(Default)]
struct Ring {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    /// Whether the numbers below mean anything: somebody read the table, or something was published.
    known: bool,
    /// The ring holds everything after this number …
    after: i64,
    /// … up to this one.
    head: i64,
    /// Batches that came before the ones they follow on: two that commit one after the other may be told of in another order. By
    /// the number before their first.
    early: BTreeMap<i64, Batch>,
    last: Option<BootInstant>,
}

/// What is published together: everything of a stream between two numbers.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) stream: Uuid,
    /// The number before the first of `records`.
    pub(crate) prev_head: i64,
    /// The number of the last.
    pub(crate) head: i64,
    pub(crate) records: Vec<Arc<Record>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// The channel of a stream, made where nobody followed it yet.
    pub(crate) fn channel(&self, stream: Uuid) -> Arc<Channel> {
        let mut channels = lock(&self.channels);
        if let Some(channel) = channels.get(&stream).and_then(Weak::upgrade) {
            return channel;
        }
        if channels.len() > 64 && channels.len().is_power_of_two() {
            channels.retain(|_, channel| channel.strong_count() > 0);
        }
        let channel = Arc::new(Channel {
            stream,
            ring: Mutex::default(),
            head: watch::Sender::new(0),
        });
        channels.insert(stream, Arc::downgrade(&channel));
        channel
    }

    fn followed(&self, stream: Uuid) -> Option<Arc<Channel>> {
        let mut channels = lock(&self.channels);
        let channel = channels.get(&stream)?.upgrade();
        if channel.is_none() {
            channels.remove(&stream);
        }
        channel
    }

    /// Everything that is followed, with the number up to which it was heard of; `active`: only what had events lately.
    pub(crate) fn known(&self, now: BootInstant, active: bool) -> Vec<(Uuid, i64)> {
        let channels: Vec<_> = lock(&self.channels)
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        channels
            .iter()
            .filter_map(|channel| {
                let ring = lock(&channel.ring);
                let lately = ring.last.is_some_and(|last| now.since(last) < ACTIVE);
                // Of a stream that nobody read yet there is nothing to go on from: its followers read it themselves.
                (ring.known && (lately || !active)).then_some((channel.stream, ring.head))
            })
            .collect()
    }

    /// Hands a batch to those who follow its stream.
    pub(crate) fn publish(&self, batch: Batch, now: BootInstant) {
        let Some(channel) = self.followed(batch.stream) else {
            return;
        };
        {
            let mut ring = lock(&channel.ring);
            ring.last = Some(now);
            if ring.known && batch.prev_head > ring.head && ring.early.len() < EARLY {
                // Nobody is woken for it: all would read the table for what is on its way.
                ring.early.insert(batch.prev_head, batch);
                return;
            }
            ring.take(batch);
            channel.heard(ring.head);
        }
    }

    /// Tells those who follow `stream` that it goes up to `head`.
    pub(crate) fn wake(&self, stream: Uuid, head: i64) {
        if let Some(channel) = self.followed(stream) {
            channel.heard(head);
        }
    }

    /// Forgets what a stream has up to `floor`: it is not to be had any more.
    pub(crate) fn forget(&self, stream: Uuid, floor: i64) {
        let Some(channel) = self.followed(stream) else {
            return;
        };
        let mut ring = lock(&channel.ring);
        while ring.records.front().is_some_and(|first| first.seq <= floor) {
            ring.drop_first();
        }
        ring.after = ring.after.max(floor.min(ring.head));
    }

    /// The number up to which the ring of a followed stream goes.
    pub(crate) fn known_head(&self, stream: Uuid) -> Option<i64> {
        let channel = self.followed(stream)?;
        let ring = lock(&channel.ring);
        ring.known.then_some(ring.head)
    }
}

impl Ring {
    /// Goes on with a batch, and with those that waited for it.
    fn take(&mut self, batch: Batch) {
        if self.known && batch.head <= self.head {
            // Late: somebody read past it already.
            return;
        }
        if !self.known || batch.prev_head > self.head {
            self.begin(batch.prev_head);
        } else if batch.prev_head < self.head {
            // Somebody read into it: what it still has ahead is found in the table.
            self.begin(batch.head);
            self.go_on();
            return;
        }
        let mut next = Some(batch);
        while let Some(batch) = next {
            let sizes = batch.records.iter().map(|record| record.payload.size());
            self.bytes += sizes.sum::<usize>();
            self.records.extend(batch.records);
            self.head = batch.head;
            next = self.early.remove(&self.head);
        }
        self.early.retain(|before, _| *before > self.head);
        while self.records.len() > RING || self.bytes > RING_BYTES {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.records.pop_front() {
            self.bytes -= first.payload.size();
            self.after = first.seq;
        }
    }

    /// Begins anew after this number; what waits for it stays.
    fn begin(&mut self, position: i64) {
        let mut early = std::mem::take(&mut self.early);
        early.retain(|before, _| *before >= position);
        *self = Self {
            known: true,
            after: position,
            head: position,
            early,
            last: self.last,
            ..Self::default()
        };
    }

    /// What waited for just this place.
    fn go_on(&mut self) {
        if let Some(batch) = self.early.remove(&self.head) {
            self.take(batch);
        }
    }
}

impl Channel {
    fn heard(&self, head: i64) {
        self.head.send_if_modified(|known| {
            let more = head > *known;
            *known = head.max(*known);
            more
        });
    }

    /// Tells of every head that is greater than those before.
    pub(crate) fn heads(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
    }

    /// What came after `position`, at most so many, with the new position, where the ring reaches back so far.
    pub(crate) fn since(&self, position: i64, most: usize) -> Option<(Vec<Arc<Record>>, i64)> {
        let ring = lock(&self.ring);
        if !ring.known || position < ring.after || position > ring.head {
            return None;
        }
        let from = ring
            .records
            .partition_point(|record| record.seq <= position);
        let to = ring.records.len().min(from + most);
        let position = match ring.records.get(to) {
            Some(_) => ring.records.get(to.checked_sub(1)?)?.seq,
            None => ring.head,
        };
        Some((ring.records.range(from..to).cloned().collect(), position))
    }

    /// Somebody read the table up to `position`: the ring may begin there.
    pub(crate) fn begin(&self, position: i64) {
        let mut ring = lock(&self.ring);
        if position > ring.head || !ring.known {
            ring.begin(position);
            ring.go_on();
        }
        let head = ring.head;
        drop(ring);
        // Others may wait for what this reader found: the hint that would have told them comes too late now.
        self.heard(head.max(position));
    }
}

#[cfg(test)]
mod tests {
    use adapters::clock::SystemClock;
    use chrono::DateTime;
    use entities::TenantId;

    use super::*;
    use crate::record::{Delta, Kind, Payload, VERSION};

    fn batch(prev_head: i64, head: i64) -> Batch {
        let stream = Uuid::nil();
        let records = (prev_head + 1..=head)
            .map(|seq| {
                Arc::new(Record {
                    tenant: TenantId(Uuid::nil()),
                    stream,
                    seq,
                    run: None,
                    attempt: 1,
                    n: 0,
                    v: VERSION,
                    at: DateTime::UNIX_EPOCH,
                    kind: Kind::TEXT,
                    payload: Payload::Delta(Delta::new(stream, 0, 0, "x".into())),
                })
            })
            .collect();
        Batch {
            stream,
            prev_head,
            head,
            records,
        }
    }

    fn seqs(channel: &Channel, position: i64) -> Option<Vec<i64>> {
        channel
            .since(position, usize::MAX / 2)
            .map(|(records, _)| records.iter().map(|record| record.seq).collect())
    }

    #[test]
    fn batches_out_of_order_leave_no_gap() {
        let (hub, now) = (Hub::default(), SystemClock::shared().instant());
        let channel = hub.channel(Uuid::nil());
        channel.begin(4);
        hub.publish(batch(4, 6), now);
        assert_eq!(seqs(&channel, 4), Some(vec![5, 6]));
        assert_eq!(seqs(&channel, 5), Some(vec![6]));
        assert_eq!(seqs(&channel, 3), None);
        // 7 was committed before 8 and is published after it
        hub.publish(batch(7, 8), now);
        assert_eq!(seqs(&channel, 6), Some(vec![]), "7 is on its way");
        assert_eq!(*channel.heads().borrow(), 6);
        hub.publish(batch(6, 7), now);
        assert_eq!(seqs(&channel, 6), Some(vec![7, 8]));
        assert_eq!(*channel.heads().borrow(), 8);
        // somebody reads the table meanwhile, and further than what waits
        hub.publish(batch(9, 10), now);
        channel.begin(9);
        assert_eq!(seqs(&channel, 9), Some(vec![10]));
        hub.publish(batch(11, 12), now);
        channel.begin(12);
        hub.publish(batch(10, 11), now);
        assert_eq!(
            (seqs(&channel, 12), seqs(&channel, 10)),
            (Some(vec![]), None)
        );
        // what never comes is not waited for without end
        for early in 0..=64 {
            hub.publish(batch(20 + 2 * early, 22 + 2 * early), now);
        }
        assert_eq!(*channel.heads().borrow(), 150);
    }

    #[test]
    fn the_ring_forgets_its_oldest() {
        let (hub, now) = (Hub::default(), SystemClock::shared().instant());
        let channel = hub.channel(Uuid::nil());
        hub.publish(batch(0, 3000), now);
        assert_eq!(seqs(&channel, 0), None);
        assert_eq!(seqs(&channel, 3000 - 1024).map(|s| s.len()), Some(1024));
        drop(channel);
        hub.publish(batch(3000, 3001), now);
        assert!(hub.followed(Uuid::nil()).is_none());
    }
}
