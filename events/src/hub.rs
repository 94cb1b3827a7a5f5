//! What was appended a moment ago, kept in memory for those who follow live. A hint: whoever misses something here reads the
//! tables.

use std::{
    collections::{BTreeMap, HashMap, VecDeque, btree_map::Entry},
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
        let mut ring = lock(&channel.ring);
        ring.last = Some(now);
        if ring.known && batch.prev_head > ring.head && ring.early.len() < EARLY {
            // Nobody is woken for it: all would read the table for what is on its way.
            match ring.early.entry(batch.prev_head) {
                Entry::Occupied(waits) if waits.get().head >= batch.head => {}
                Entry::Occupied(mut waits) => _ = waits.insert(batch),
                Entry::Vacant(place) => _ = place.insert(batch),
            }
            return;
        }
        ring.take(batch);
        channel.heard(ring.head);
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
        }
        let mut next = Some(batch);
        while let Some(mut batch) = next {
            match self.overlap(&batch) {
                Some(known) => drop(batch.records.drain(..known)),
                // What it has ahead is found in the table.
                None => {
                    self.begin(batch.head);
                    batch.records.clear();
                }
            }
            let sizes = batch.records.iter().map(|record| record.payload.size());
            self.bytes += sizes.sum::<usize>();
            self.records.extend(batch.records);
            self.head = batch.head;
            next = self.next_early();
        }
        while self.records.len() > RING || self.bytes > RING_BYTES {
            self.drop_first();
        }
    }

    /// What waited and has something that comes next.
    fn next_early(&mut self) -> Option<Batch> {
        loop {
            let first = self.early.first_entry()?;
            if *first.key() > self.head {
                return None;
            }
            let batch = first.remove();
            if batch.head > self.head {
                return Some(batch);
            }
        }
    }

    /// How many of the batch's records the ring has already: somebody read the table into it. `None`: one of them is joined from
    /// what the ring has and what it has not.
    fn overlap(&self, batch: &Batch) -> Option<usize> {
        if batch.prev_head == self.head {
            return Some(0);
        }
        let last = batch
            .records
            .binary_search_by_key(&self.head, |record| record.seq);
        last.ok().map(|last| last + 1)
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.records.pop_front() {
            self.bytes -= first.payload.size();
            self.after = first.seq;
        }
    }

    /// Begins anew after this number; what waits stays.
    fn begin(&mut self, position: i64) {
        *self = Self {
            known: true,
            after: position,
            head: position,
            early: std::mem::take(&mut self.early),
            last: self.last,
            ..Self::default()
        };
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

    /// Somebody read in the table what came after `position`, up to the stream's end: the others take it from here. Where the ring
    /// is not even at `position`, what is between is on its way, and nobody is woken to read it himself.
    pub(crate) fn read(&self, position: i64, head: i64, records: &[Record]) {
        let mut ring = lock(&self.ring);
        let mut batch = Batch {
            stream: self.stream,
            prev_head: head,
            head,
            records: Vec::new(),
        };
        if ring.known {
            if head <= ring.head || position > ring.head {
                return;
            }
            let from = records.partition_point(|record| record.seq < ring.head);
            batch.prev_head = position;
            batch.records = records[from..].iter().cloned().map(Arc::new).collect();
            if ring.overlap(&batch).is_none() {
                return;
            }
        }
        ring.take(batch);
        self.heard(ring.head);
    }
}

#[cfg(test)]
mod tests {
    use adapters::clock::SystemClock;

    use super::*;
    use crate::record::tests::piece;

    fn page(seqs: impl IntoIterator<Item = i64>) -> Vec<Record> {
        seqs.into_iter().map(|seq| piece(seq, 0, "x")).collect()
    }

    fn batch(prev_head: i64, head: i64) -> Batch {
        Batch {
            stream: Uuid::nil(),
            prev_head,
            head,
            records: page(prev_head + 1..=head)
                .into_iter()
                .map(Arc::new)
                .collect(),
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
        channel.read(0, 4, &[]);
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
        // somebody reads the table meanwhile: also what is on its way, and then comes too late
        hub.publish(batch(9, 10), now);
        channel.read(6, 9, &page(7..=9));
        assert_eq!(seqs(&channel, 6), Some(vec![7, 8, 9, 10]));
        hub.publish(batch(8, 9), now);
        assert_eq!(*channel.heads().borrow(), 10);
        // and more than one has read at once
        hub.publish(batch(12, 14), now);
        hub.publish(batch(8, 13), now);
        assert_eq!(seqs(&channel, 9), Some(vec![10, 11, 12, 13, 14]));
        // what is joined from what the ring has and what it has not is left to those who read it
        channel.read(8, 16, &page([16]));
        assert_eq!(seqs(&channel, 14), Some(vec![]));
        // whoever is further than the ring wakes nobody
        channel.read(15, 16, &page([16]));
        assert_eq!(*channel.heads().borrow(), 14);
        let mut joined = batch(8, 16);
        joined.records.retain(|record| record.seq == 16);
        hub.publish(joined, now);
        assert_eq!(
            (seqs(&channel, 16), seqs(&channel, 14)),
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
