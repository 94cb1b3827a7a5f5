//! Waiting, always for something and never longer than a deadline.

use std::{fmt::Debug, future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout};

/// How long between two looks at something that can't be awaited.
const BETWEEN: Duration = Duration::from_millis(5);

/// What a test waits for unless it has a reason to wait shorter or longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until the answer is there.
///
/// For what another process does and can't be awaited: a file, a state behind a query.
///
/// # Panics
///
/// With `what` when it has not come within the deadline.
pub async fn until<T, F, A>(deadline: Duration, what: &str, mut ask: F) -> T
where
    F: FnMut() -> A,
    A: Future<Output = Option<T>>,
{
    let end = Instant::now() + deadline;
    loop {
        match tokio::time::timeout_at(end, ask()).await {
            Ok(Some(answer)) => return answer,
            Ok(None) if Instant::now() < end => sleep(BETWEEN).await,
            _ => panic!("waited {deadline:?} in vain: {what}"),
        }
    }
}

/// Asks again and again until it is so.
///
/// # Panics
///
/// With `what`, and with what it still was not so for at the last look, when it has not come within the deadline.
pub async fn until_so<E, F, A>(deadline: Duration, what: &str, mut ask: F)
where
    E: Debug,
    F: FnMut() -> A,
    A: Future<Output = Result<(), E>>,
{
    let mut last = None;
    let looks = async {
        while let Err(wrong) = ask().await {
            last = Some(wrong);
            sleep(BETWEEN).await;
        }
    };
    if timeout(deadline, looks).await.is_err() {
        panic!("waited {deadline:?} in vain: {what}: {last:#?}");
    }
}

/// Awaits a future, but not for ever.
///
/// # Panics
///
/// With `what` when it has not ended within the deadline.
pub async fn within<T>(deadline: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match timeout(deadline, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {deadline:?} in vain: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn asks_until_there_is_an_answer() {
        let mut asked = 0;
        let answer = until(PATIENCE, "the third answer", || {
            asked += 1;
            let now = asked;
            async move { (now == 3).then_some(now) }
        })
        .await;
        assert_eq!(answer, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "in vain: what never comes")]
    async fn gives_up_at_the_deadline() {
        until(Duration::from_millis(20), "what never comes", || async {
            None::<()>
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "in vain: what is never so: Some(\n    \"not yet\",\n)")]
    async fn says_what_was_wrong_at_the_deadline() {
        until_so(Duration::from_millis(20), "what is never so", || async {
            Err("not yet")
        })
        .await;
    }
}
