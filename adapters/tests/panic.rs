//! What is logged when a task panics. Alone in its process: tracing decides once for all threads whether a line is wanted, and
//! asks only the subscriber of the thread that comes by it first.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use adapters::tasks::Tasks;

#[tokio::test]
async fn a_panic_is_logged_by_name_and_kept_for_the_handle() {
    let log = Log::default();
    let subscriber = tracing::subscriber::set_default(log.clone());
    let tasks = Tasks::new();
    let error = tasks
        .spawn("breaks", async { panic!("on purpose") })
        .await
        .map(|()| "no panic")
        .unwrap_err();
    assert!(error.is_panic());
    let error = tasks.spawn("goes on", async { 1 }).await;
    assert_eq!(error.unwrap(), 1);
    drop(subscriber);
    let log = log.0.lock().unwrap().join("\n");
    assert!(
        log.contains("\"breaks\"") && log.contains("on purpose"),
        "{log}"
    );
    assert!(tasks.close(Duration::from_secs(10)).await);
}

/// Keeps what is logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl tracing::field::Visit for Log {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.lock().unwrap().push(format!("{field}={value:?}"));
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
