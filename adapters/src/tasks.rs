//! Tasks that a shutdown waits for.

use std::any::Any;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

/// A group of tasks: each has a name, keeps the span of who started it, and is waited for by [`Tasks::close`].
///
/// Clones are the same group.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    closing: CancellationToken,
}

impl Tasks {
    /// A group without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts `future` in the group, in the current tracing span. A panic is logged with `name` and comes out of the
    /// handle as its `JoinError`. Dropping the handle lets the task go on.
    ///
    /// Works also while the group closes: who must not start then looks at [`Tasks::closing`] first.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // The panic goes on to whoever joins; nothing of the future is looked at in between. An async block would hold room for
        // the future twice: where it is given, and where it is awaited.
        let watched = AssertUnwindSafe(future)
            .catch_unwind()
            .map(move |result| match result {
                Ok(output) => output,
                Err(panic) => {
                    log_panic(name, panic.as_ref());
                    resume_unwind(panic)
                }
            });
        self.tracker.spawn(watched.instrument(Span::current()))
    }

    /// Runs `work` on a thread that may block, in the group and the current tracing span. It can't be cancelled.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn_blocking<T>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T>
    where
        T: Send + 'static,
    {
        let span = Span::current();
        self.tracker.spawn_blocking(move || {
            let _entered = span.entered();
            match std::panic::catch_unwind(AssertUnwindSafe(work)) {
                Ok(output) => output,
                Err(panic) => {
                    log_panic(name, panic.as_ref());
                    resume_unwind(panic)
                }
            }
        })
    }

    /// Cancelled once the group closes: long tasks select on it and end.
    #[must_use]
    pub fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Tells all tasks to end and waits for them, at most for `within`. Answers whether all ended; those that did not
    /// go on until the runtime is dropped.
    pub async fn close(&self, within: Duration) -> bool {
        self.closing.cancel();
        self.tracker.close();
        tokio::time::timeout(within, self.tracker.wait())
            .await
            .is_ok()
    }
}

fn log_panic(name: &'static str, panic: &(dyn Any + Send)) {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("");
    tracing::error!(task = name, message, "a task panicked");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn close_waits_for_tasks_that_heed_it() {
        let tasks = Tasks::new();
        let closing = tasks.closing();
        let task = tasks.spawn("heeds", async move {
            closing.cancelled().await;
            tokio::task::yield_now().await;
            7
        });
        assert!(tasks.close(Duration::from_secs(10)).await);
        assert!(task.is_finished());
        assert_eq!(task.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn close_gives_up_on_a_task_that_does_not() {
        let tasks = Tasks::new();
        drop(tasks.spawn("deaf", std::future::pending::<()>()));
        assert!(!tasks.close(Duration::from_millis(1)).await);
    }

    #[tokio::test]
    async fn blocking_work_is_waited_for_and_its_panic_kept() {
        let tasks = Tasks::new();
        assert_eq!(tasks.spawn_blocking("adds", || 1 + 1).await.unwrap(), 2);
        assert!(
            tasks
                .spawn_blocking("breaks", || panic!("on purpose"))
                .await
                .unwrap_err()
                .is_panic()
        );
        assert!(tasks.close(Duration::from_secs(10)).await);
    }
}
