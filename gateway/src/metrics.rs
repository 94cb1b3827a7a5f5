//! `/metrics`: what the program counts, as Prometheus reads it.

use std::{
    fs,
    sync::{Arc, OnceLock},
    time::Duration,
};

use adapters::{meter, tasks::Tasks};
use entities::{Db, RunStatus, SystemScope, run};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    sync::Mutex,
    time::{Instant, interval, timeout},
};

use crate::wiring::App;

const SCOPE: SystemScope = SystemScope::of("counting runs for the operator");

/// How long a count of runs is told again before it is made anew, and how long it may take.
const FRESH: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(2);

/// How often what was counted is joined, whether anybody asks or not: it would else gather.
const JOIN: Duration = Duration::from_secs(5);

/// What is counted from the start of the program on.
pub struct Metrics {
    handle: PrometheusHandle,
    began: Instant,
    watched: OnceLock<Watched>,
    /// When runs were counted last. Whoever asks holds it, so that many who ask are one to the database.
    counted: Mutex<Option<Instant>>,
}

/// What is looked at when somebody asks.
struct Watched {
    db: Db,
    log: events::Log,
    engine: engine::Engine,
}

impl Metrics {
    /// Begins to count. Once in a process.
    ///
    /// # Errors
    /// Something counts already.
    pub fn start() -> anyhow::Result<Arc<Self>> {
        let recorder = PrometheusBuilder::new()
            .set_buckets(meter::BUCKETS)?
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder)
            .map_err(|_| anyhow::anyhow!("failed to begin counting"))?;
        meter::begin();
        meter::now::version(env!("CARGO_PKG_VERSION"));
        Ok(Arc::new(Self {
            handle,
            began: Instant::now(),
            watched: OnceLock::new(),
            counted: Mutex::default(),
        }))
    }

    /// From now on there is something to look at.
    pub fn watch(&self, app: &App) {
        let _ = self.watched.set(Watched {
            db: app.db.clone(),
            log: app.log.clone(),
            engine: app.engine.clone(),
        });
    }

    /// Joins what was counted from time to time, until `tasks` close.
    pub fn keep(self: &Arc<Self>, tasks: &Tasks) {
        let (this, closing) = (self.clone(), tasks.closing());
        drop(tasks.spawn("joining what was counted", async move {
            let mut tick = interval(JOIN);
            loop {
                tokio::select! {
                    () = closing.cancelled() => return,
                    _ = tick.tick() => this.handle.run_upkeep(),
                }
            }
        }));
    }

    /// All of it, in Prometheus' text format.
    pub async fn text(&self) -> String {
        let mut counted = self.counted.lock().await;
        if let Some(watched) = self.watched.get() {
            if counted.is_none_or(|at| at.elapsed() >= FRESH) {
                count_runs(&watched.db).await;
                *counted = Some(Instant::now());
            }
            meter::now::carried(watched.engine.carries());
            let (records, bytes) = watched.log.waits();
            meter::now::waiting(records, bytes);
            for pool in watched.db.pools() {
                meter::now::connections(pool.name, pool.idle, pool.open, pool.most);
            }
        }
        self.look_at_process();
        self.handle.render()
    }

    fn look_at_process(&self) {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        meter::now::process(
            resident_bytes(),
            // of which one is the folder that is read
            fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| files.count().saturating_sub(1)),
            u64::try_from(cpu.tv_sec).ok(),
            self.began.elapsed().as_secs_f64(),
        );
    }
}

async fn count_runs(db: &Db) {
    let counting = timeout(PATIENCE, run::Entity::open(SCOPE, db.reader(SCOPE)));
    match counting.await {
        Ok(Ok(counts)) => {
            for (status, count) in counts {
                meter::now::runs(status.name(), Some(count));
            }
        }
        failed => {
            if let Ok(Err(error)) = failed {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "failed to count runs"
                );
            }
            for status in [RunStatus::Queued, RunStatus::Running, RunStatus::Waiting] {
                meter::now::runs(status.name(), None);
            }
        }
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_stands_in_the_document_for_operators() {
        let document = include_str!("../../docs/operating.md");
        let rows: Vec<&str> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(name, _)| name)
            .filter(|name| name.starts_with("weft_") || name.starts_with("process_"))
            .collect();
        let names: Vec<&str> = meter::METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(rows, names);
    }

    #[test]
    fn the_system_says_how_much_memory_there_is() {
        assert!(resident_bytes().unwrap() > 1024 * 1024);
    }
}
