//! Time, ids and chance, handed along as a parameter so that tests can move the clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use uuid::{ContextV7, Timestamp, Uuid};

/// A clock as it is handed along.
pub type SharedClock = Arc<dyn Clock>;

/// Where time, ids and chance come from.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time of day, in whole microseconds, which is what every database keeps. It can jump, so it is for what is shown
    /// and stored, not for measuring.
    fn now(&self) -> DateTime<Utc>;

    /// A time that never goes back and, on Linux, runs while the machine is suspended: what a lease is measured by.
    fn instant(&self) -> BootInstant;

    /// A new id: UUID version 7 (RFC 9562, 5.7) of [`Clock::now`]. Ids of one clock are ordered as they were made.
    fn uuid(&self) -> Uuid;

    /// Fills `bytes` from the system's cryptographic source.
    fn random(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes)
            .expect("the random source of aws-lc answers once it is seeded, which start proves");
    }
}

/// A point on the clock that runs during suspend: `CLOCK_BOOTTIME` on Linux.
///
/// Elsewhere it is the standard library's monotonic clock, which may stand still while the machine is suspended.
/// Points of different processes or machines must not be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// The time from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for BootInstant {
    type Output = Self;

    /// Stops at the end of time instead of overflowing.
    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

impl Sub<Duration> for BootInstant {
    type Output = Self;

    /// Stops at the start of the clock.
    fn sub(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(earlier))
    }
}

impl Sub for BootInstant {
    type Output = Duration;

    /// As [`BootInstant::since`].
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// Makes ids that are ordered as they were made, also within a millisecond and when the time of day goes back.
#[derive(Default)]
struct Ids(Mutex<Option<ContextV7>>);

impl Ids {
    fn make(&self, now: DateTime<Utc>) -> Uuid {
        let mut context = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let context = context.get_or_insert_default();
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        Uuid::new_v7(Timestamp::from_unix(
            &*context,
            seconds,
            now.timestamp_subsec_nanos().min(999_999_999),
        ))
    }
}

/// The machine's own clock and random source.
#[derive(Default)]
pub struct SystemClock(Ids);

impl SystemClock {
    /// The clock as it is handed along.
    #[must_use]
    pub fn shared() -> SharedClock {
        Arc::new(Self::default())
    }
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemClock")
    }
}

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(6)
    }

    #[cfg(target_os = "linux")]
    fn instant(&self) -> BootInstant {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        BootInstant(Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        ))
    }

    #[cfg(not(target_os = "linux"))]
    fn instant(&self) -> BootInstant {
        use std::sync::OnceLock;
        use std::time::Instant;

        static FIRST: OnceLock<Instant> = OnceLock::new();
        BootInstant(FIRST.get_or_init(Instant::now).elapsed())
    }

    fn uuid(&self) -> Uuid {
        self.0.make(self.now())
    }
}

/// A clock that stands still until it is moved, for tests. Its random source is the system's.
pub struct ManualClock {
    ids: Ids,
    time: Mutex<(DateTime<Utc>, BootInstant)>,
}

impl ManualClock {
    /// A clock that stands at `now`, an hour after its machine started.
    #[must_use]
    pub fn new(now: DateTime<Utc>) -> Self {
        Self {
            ids: Ids::default(),
            time: Mutex::new((now, BootInstant(Duration::from_secs(3600)))),
        }
    }

    /// Moves the time of day and the monotonic clock ahead together.
    pub fn advance(&self, by: Duration) {
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        let day = TimeDelta::from_std(by).unwrap_or(TimeDelta::MAX);
        time.0 = time
            .0
            .checked_add_signed(day)
            .unwrap_or(DateTime::<Utc>::MAX_UTC);
        time.1 = time.1 + by;
    }

    /// Sets the time of day alone, as an operator or a time server does; it may go back.
    pub fn set(&self, now: DateTime<Utc>) {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).0 = now;
    }

    fn time(&self) -> (DateTime<Utc>, BootInstant) {
        *self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.time().0).finish()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        self.time().0.trunc_subsecs(6)
    }

    fn instant(&self) -> BootInstant {
        self.time().1
    }

    fn uuid(&self) -> Uuid {
        self.ids.make(self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_ordered_and_of_the_clocks_time() {
        let clock = ManualClock::new(DateTime::from_timestamp_millis(1_700_000_000_123).unwrap());
        let ids: Vec<Uuid> = (0..1000).map(|_| clock.uuid()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert_eq!(ids[0].get_version_num(), 7);
        assert_eq!(
            ids[0].get_timestamp().unwrap().to_unix(),
            (1_700_000_000, 123_000_000)
        );
        clock.set(DateTime::from_timestamp_millis(1_600_000_000_000).unwrap());
        assert!(
            ids[999] < clock.uuid(),
            "an id stays in order when the time of day goes back"
        );
        assert_eq!(
            ManualClock::new(DateTime::<Utc>::MIN_UTC)
                .uuid()
                .get_version_num(),
            7
        );
        assert_eq!(
            ManualClock::new(DateTime::<Utc>::MAX_UTC)
                .uuid()
                .get_version_num(),
            7
        );
    }

    #[test]
    fn a_manual_clock_moves_when_told() {
        let start = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        let clock = ManualClock::new(start);
        let first = clock.instant();
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.now() - start, TimeDelta::seconds(5));
        assert_eq!(clock.instant() - first, Duration::from_secs(5));
        clock.set(start);
        assert_eq!(clock.instant().since(first), Duration::from_secs(5));
        assert_eq!(first.since(clock.instant()), Duration::ZERO);
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), DateTime::<Utc>::MAX_UTC.trunc_subsecs(6));
    }

    #[test]
    fn the_systems_clock_goes_on_and_its_chance_differs() {
        let clock = SystemClock::shared();
        let first = clock.instant();
        assert!(clock.instant() >= first);
        assert!(first.0 > Duration::ZERO || cfg!(not(target_os = "linux")));
        let (mut a, mut b) = ([0; 32], [0; 32]);
        clock.random(&mut a);
        clock.random(&mut b);
        assert_ne!(a, b);
        assert!(clock.uuid() < clock.uuid());
    }
}
