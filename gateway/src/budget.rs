//! How much may be asked in a time: a bucket of cost for each session and key, and for each address that asks without one.
//!
//! Kept in this process: each replica counts what it is asked itself. A bucket that is full again is forgotten, so that what is
//! kept is bounded by what can be asked in the time that an empty one takes to fill.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use entities::{ApiKeyId, SessionId};
use tokio::time::Instant;

use crate::config::Limits;

/// So many locks that requests side by side seldom want the same.
const SHARDS: usize = 16;

/// Buckets of a shard before it is looked through for full ones.
const FEW: usize = 1024;

/// What the events of streams leave of a bucket: one part of so many. They don't stop for an empty one, so whoever follows
/// much could else no longer ask for anything, not even to stop it.
const LEFT_BY_STREAMS: u64 = 10;

/// Whose bucket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Payer {
    /// A session's.
    Session(SessionId),
    /// An API key's.
    Key(ApiKeyId),
    /// An address's, as [`counted_as`](crate::edge::counted_as) gives it, for requests without a credential.
    Address(IpAddr),
}

/// How a bucket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What a full one holds.
    pub maximum: u64,
    /// What is in it.
    pub available: u64,
    /// What comes back each second.
    pub restore_per_s: u64,
}

/// There is not as much in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Empty {
    /// How it stands.
    pub standing: Standing,
    /// When there will be as much, if nothing else is asked.
    pub retry_after: Duration,
}

/// All buckets.
#[derive(Debug)]
pub struct Budgets {
    began: Instant,
    credential: u64,
    address: u64,
    restore_per_s: u64,
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

#[derive(Debug)]
struct Shard {
    buckets: HashMap<Payer, Bucket>,
    /// How many there may be before full ones are looked for.
    many: usize,
}

/// What was taken and has not come back, in thousandths, as of a time.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    taken: u64,
    /// Milliseconds since `began`.
    at: u64,
}

impl Budgets {
    /// All full.
    pub fn new(limits: &Limits) -> Self {
        Self {
            began: Instant::now(),
            credential: limits.cost_bucket,
            address: limits.address_cost_bucket,
            restore_per_s: limits.cost_restore_per_s,
            shards: std::array::from_fn(|_| {
                Mutex::new(Shard {
                    buckets: HashMap::new(),
                    many: FEW,
                })
            }),
            hasher: RandomState::new(),
        }
    }

    /// What a full bucket of this one holds.
    pub fn maximum(&self, payer: Payer) -> u64 {
        match payer {
            Payer::Session(_) | Payer::Key(_) => self.credential,
            Payer::Address(_) => self.address,
        }
    }

    /// Takes `cost`, if there is as much; how the bucket stands then.
    ///
    /// # Errors
    /// [`Empty`], and nothing is taken.
    pub fn take(&self, payer: Payer, cost: u64) -> Result<Standing, Empty> {
        let (now, maximum) = (self.now(), self.maximum(payer));
        let mut shard = self.shard(payer);
        let mut bucket = shard.bucket(payer, now, self.restore_per_s);
        let wanted = bucket.taken.saturating_add(cost.saturating_mul(1000));
        let over = wanted.saturating_sub(maximum.saturating_mul(1000));
        if over > 0 {
            return Err(Empty {
                standing: self.standing(maximum, bucket),
                // a thousandth comes back as often each millisecond as a whole one does each second
                retry_after: Duration::from_millis(over.div_ceil(self.restore_per_s.max(1))),
            });
        }
        bucket.taken = wanted;
        shard.put(payer, bucket, now, self.restore_per_s);
        Ok(self.standing(maximum, bucket))
    }

    /// Takes what an event of a stream costs, as far as streams may: it is delivered in any case.
    pub fn take_event(&self, payer: Payer, cost: u64) {
        let (now, maximum) = (self.now(), self.maximum(payer));
        let most = maximum
            .saturating_sub(maximum / LEFT_BY_STREAMS)
            .saturating_mul(1000);
        let mut shard = self.shard(payer);
        let mut bucket = shard.bucket(payer, now, self.restore_per_s);
        let wanted = bucket.taken.saturating_add(cost.saturating_mul(1000));
        bucket.taken = wanted.min(most).max(bucket.taken);
        shard.put(payer, bucket, now, self.restore_per_s);
    }

    /// How a bucket stands now.
    pub fn of(&self, payer: Payer) -> Standing {
        let bucket = self
            .shard(payer)
            .bucket(payer, self.now(), self.restore_per_s);
        self.standing(self.maximum(payer), bucket)
    }

    fn standing(&self, maximum: u64, bucket: Bucket) -> Standing {
        Standing {
            maximum,
            available: maximum.saturating_sub(bucket.taken.div_ceil(1000)),
            restore_per_s: self.restore_per_s,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn shard(&self, payer: Payer) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(payer);
        let at = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        self.shards[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn bucket(&self, payer: Payer, now: u64, restore: u64) -> Bucket {
        let known = self.buckets.get(&payer).copied().unwrap_or_default();
        known.at(now, restore)
    }

    fn put(&mut self, payer: Payer, bucket: Bucket, now: u64, restore: u64) {
        self.buckets.insert(payer, bucket);
        if self.buckets.len() > self.many {
            self.buckets
                .retain(|_, bucket| bucket.at(now, restore).taken > 0);
            self.many = FEW.max(self.buckets.len().saturating_mul(2));
        }
    }
}

impl Bucket {
    fn at(self, now: u64, restore: u64) -> Self {
        let back = now.saturating_sub(self.at).saturating_mul(restore);
        Self {
            taken: self.taken.saturating_sub(back),
            at: now.max(self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::advance;

    use super::*;
    use crate::config::Config;

    fn budgets() -> Budgets {
        let settings = [
            ("WEFT_LIMITS__COST_BUCKET", "100"),
            ("WEFT_LIMITS__COST_RESTORE_PER_S", "10"),
            ("WEFT_LIMITS__ADDRESS_COST_BUCKET", "30"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Budgets::new(&Config::load(None, settings).unwrap().limits)
    }

    fn address(last: u32) -> Payer {
        Payer::Address(Ipv4Addr::from_bits(last).into())
    }

    fn session(n: u128) -> Payer {
        Payer::Session(SessionId(uuid::Uuid::from_u128(n)))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_comes_back_with_time() {
        let budgets = budgets();
        let standing = budgets.take(session(1), 60).unwrap();
        assert_eq!(
            (standing.available, standing.maximum, standing.restore_per_s),
            (40, 100, 10)
        );
        let empty = budgets.take(session(1), 55).unwrap_err();
        assert_eq!(
            (empty.standing.available, empty.retry_after),
            (40, Duration::from_millis(1500))
        );
        // what was refused was not taken, and others have their own
        assert_eq!(budgets.of(session(1)).available, 40);
        assert_eq!(budgets.of(session(2)).available, 100);
        advance(Duration::from_millis(1499)).await;
        assert!(budgets.take(session(1), 55).is_err());
        advance(Duration::from_millis(1)).await;
        assert_eq!(budgets.take(session(1), 55).unwrap().available, 0);
        advance(Duration::from_secs(3600)).await;
        assert_eq!(budgets.of(session(1)).available, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_have_a_smaller_one() {
        let budgets = budgets();
        assert_eq!(budgets.take(address(1), 30).unwrap().available, 0);
        assert_eq!(
            budgets.take(address(1), 1).unwrap_err().retry_after,
            Duration::from_millis(100)
        );
        assert_eq!(budgets.take(address(2), 1).unwrap().available, 29);
    }

    #[tokio::test(start_paused = true)]
    async fn streams_leave_something_for_whoever_wants_to_stop_them() {
        let budgets = budgets();
        for _ in 0..1000 {
            budgets.take_event(session(1), 3);
        }
        assert_eq!(budgets.of(session(1)).available, 10);
        assert_eq!(budgets.take(session(1), 8).unwrap().available, 2);
        budgets.take_event(session(1), 3);
        assert_eq!(budgets.of(session(1)).available, 2);
        advance(Duration::from_millis(500)).await;
        assert_eq!(budgets.of(session(1)).available, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn full_ones_are_forgotten() {
        let budgets = budgets();
        for last in 0..100_000 {
            budgets.take(address(last), 1).unwrap();
            advance(Duration::from_millis(1)).await;
        }
        let kept: usize = budgets
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap().buckets.len())
            .sum();
        assert!(kept <= SHARDS * (FEW + 1), "{kept}");
        assert_eq!(budgets.of(address(99_999)).available, 29);
    }

    #[test]
    fn numbers_beyond_all_bounds_are_refused() {
        let budgets = budgets();
        assert!(budgets.take(address(1), u64::MAX).is_err());
        budgets.take_event(address(1), u64::MAX);
        assert_eq!(budgets.of(address(1)).available, 3);
    }
}
