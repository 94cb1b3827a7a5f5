//! How much this process tells those who follow, and whether that is so much that pieces of a text wait for each other.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

/// More events a second than these are many: from then on pieces wait …
const MANY: u64 = 20_000;
/// … until there are fewer than these, so that it does not go to and fro.
const FEW: u64 = 12_000;

/// For how long the pieces of a text that one follows wait for each other.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// Counts what is told live.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    told: AtomicU64,
    is_crowded: AtomicBool,
}

impl Crowd {
    /// So many events were told to one who follows, be it as one.
    pub(super) fn told(&self, events: usize) {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        self.told.fetch_add(events, Ordering::Relaxed);
    }

    /// Whether pieces of a text are to wait for each other.
    pub(super) fn is_crowded(&self) -> bool {
        self.is_crowded.load(Ordering::Relaxed)
    }

    /// Looks at what was told since the last look.
    pub(super) fn look(&self, since: Duration) {
        let told = self.told.swap(0, Ordering::Relaxed);
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = told.saturating_mul(1000) / millis;
        let was = self.is_crowded();
        let is = rate > if was { FEW } else { MANY };
        if was != is {
            tracing::debug!(rate, is, "pieces of text wait for each other, or no longer");
            self.is_crowded.store(is, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_go_to_and_fro() {
        let crowd = Crowd::default();
        let second = |events| {
            crowd.told(events);
            crowd.look(Duration::from_secs(1));
            crowd.is_crowded()
        };
        assert!(!second(20_000));
        assert!(second(20_001));
        assert!(second(13_000));
        assert!(!second(12_000));
        assert!(!second(20_000));
        assert!(!second(0));
    }
}
