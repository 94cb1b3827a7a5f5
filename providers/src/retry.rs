//! When a call is made again, and after how long.

use std::time::Duration;

use adapters::clock::Clock;
use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// How often and how soon.
#[derive(Debug, Clone)]
pub(crate) struct RetryPolicy {
    /// Calls after the first.
    pub retries: u32,
    /// The wait before the first of them; each further one doubles it.
    pub base: Duration,
    /// The longest such wait.
    pub cap: Duration,
    /// The longest wait that a provider may ask for; where it asks for more, the call is not made again.
    pub retry_after_cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 2,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(8),
            retry_after_cap: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// The wait before the retry number `retry` (from 0). What the provider asks for is kept to and a tenth more at
    /// most; else half of the backoff is certain and half is chance, so that callers part. `None`: it asks for more
    /// than anybody waits here, and to come sooner would be what it asks not to do.
    pub(crate) fn wait(
        &self,
        retry: u32,
        retry_after: Option<Duration>,
        clock: &dyn Clock,
    ) -> Option<Duration> {
        if retry_after.is_some_and(|asked| asked > self.retry_after_cap) {
            return None;
        }
        let mut random = [0; 4];
        clock.random(&mut random);
        let chance = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
        Some(match retry_after {
            Some(asked) => asked + asked.mul_f64(chance / 10.0),
            None => {
                let backoff = self.base.saturating_mul(1 << retry.min(16)).min(self.cap);
                backoff.mul_f64(0.5 + chance / 2.0)
            }
        })
    }
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3), or OpenAI's `retry-after-ms`. Days at most; a date that is
/// past is no wait.
pub(crate) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let longest = Duration::from_secs(7 * 24 * 3600);
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let positive =
        |seconds: f64| Duration::try_from_secs_f64(seconds.clamp(0.0, longest.as_secs_f64())).ok();
    if let Some(milliseconds) = number("retry-after-ms") {
        return positive(milliseconds / 1000.0);
    }
    if let Some(seconds) = number("retry-after") {
        return positive(seconds);
    }
    let date =
        DateTime::parse_from_rfc2822(headers.get(RETRY_AFTER)?.to_str().ok()?.trim()).ok()?;
    Some(
        (date.to_utc() - now)
            .to_std()
            .unwrap_or_default()
            .min(longest),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use adapters::clock::SystemClock;
    use chrono::TimeZone;

    #[test]
    fn waits_grow_within_their_bounds() {
        let (policy, clock) = (RetryPolicy::default(), SystemClock::shared());
        for (retry, longest) in [(0, 500), (1, 1000), (2, 2000), (9, 8000), (40, 8000)] {
            for _ in 0..50 {
                let wait = policy.wait(retry, None, &*clock).expect("a wait");
                let wait = wait.as_millis();
                assert!(
                    (longest / 2..=longest).contains(&wait),
                    "retry {retry}: {wait} ms"
                );
            }
        }
        for asked in [0, 3, 60] {
            let asked = Duration::from_secs(asked);
            let wait = policy.wait(0, Some(asked), &*clock).expect("a wait");
            assert!(wait >= asked && wait <= asked.mul_f64(1.11));
        }
        for asked in [61, 3600] {
            let asked = Some(Duration::from_secs(asked));
            assert_eq!(policy.wait(0, asked, &*clock), None);
        }
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        let now = Utc
            .with_ymd_and_hms(2015, 10, 21, 7, 27, 0)
            .single()
            .expect("a time");
        for (name, value, expected) in [
            ("retry-after", "7", Some(7_000)),
            ("retry-after", "1.5", Some(1_500)),
            ("retry-after-ms", "250", Some(250)),
            ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT", Some(60_000)),
            ("retry-after", "Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("retry-after", "-3", Some(0)),
            ("retry-after", "NaN", None),
            ("retry-after", "soon", None),
            ("retry-after", "1e300", Some(604_800_000)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a value"));
            let read = retry_after(&headers, now).map(|wait| wait.as_millis());
            assert_eq!(read, expected, "{name}: {value}");
        }
    }
}
