//! What the program counts of itself, every metric named here and nowhere else.
//!
//! No label is a tenant's, a user's or a model's name, or anything else that clients choose: every set of labels is bounded by the
//! program. Nothing is counted per token or per event: batches, calls and requests are. Without a recorder, as in tests of single
//! crates, counting does nothing.

use std::time::Duration;

use metrics::{Gauge, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Times, by how long they were.
    Histogram,
}

/// A metric, as operators read of it.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it tells, its labels included.
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    let kind = Kind::Counter;
    Metric { name, kind, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    let kind = Kind::Gauge;
    Metric { name, kind, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Metric {
    let kind = Kind::Histogram;
    Metric { name, kind, help }
}

/// All of them, in the order in which `docs/operating.md` has them.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    counter("weft_http_responses_total", "HTTP answers by `status`, those to probes and refusals included; an upgrade to a WebSocket is a 101."),
    counter("weft_requests_total", "Operations that reached the graph, by `operation` (query, mutation, subscription), `transport` (http, stream, websocket) and `outcome`: ok, partial (data and errors), refused (nothing ran), abandoned (timed out, or nobody waited for it any more)."),
    histogram("weft_request_duration_seconds", "How long queries and mutations took to be answered, by `operation` and `transport`."),
    counter("weft_errors_total", "Errors that clients were told, by `code` as in `extensions.code`, refusals before the graph included."),
    counter("weft_cost_total", "Cost that was charged to callers, by `operation`."),
    gauge("weft_subscriptions", "Subscriptions that are open, by `transport`."),
    gauge("weft_sockets", "WebSockets that are open."),
    gauge("weft_runs", "Runs that are not over, by `status` (QUEUED, RUNNING, WAITING). QUEUED is the depth of the queue. Counted in the database at most every 5 s: with several processes on one database each tells the same number, so take the maximum and not the sum. NaN while it can't be read."),
    gauge("weft_runs_carried", "Runs that this process carries."),
    counter("weft_runs_taken_up_total", "Runs that this process took up: first, after a wait, or from a process that lost them."),
    counter("weft_runs_ended_total", "Runs that this process ended, by `status` (COMPLETED, FAILED, CANCELLED)."),
    counter("weft_model_calls_total", "Calls of models, by `provider` (the kind: OPENAI, ANTHROPIC, …), `purpose` (ANSWER, OTHER) and `outcome` (finished, stopped, or what went wrong)."),
    histogram("weft_model_first_token_seconds", "From a call of a model to its first token, by `provider`."),
    histogram("weft_model_call_seconds", "From a call of a model to its end, calls that failed included, by `provider`."),
    counter("weft_tokens_total", "Tokens that calls of models used, estimates where a provider does not say, by `direction` (input, output)."),
    histogram("weft_log_commit_lag_seconds", "From the append of the oldest piece of a batch to the batch's commit."),
    histogram("weft_log_handover_lag_seconds", "From the append of the oldest piece of a batch until the batch was handed to those who follow it in this process."),
    histogram("weft_log_commit_seconds", "How long the commit of a batch took."),
    counter("weft_log_records_total", "Records that the log's writer committed; a record holds the pieces that waited together."),
    gauge("weft_log_waiting_records", "Records that wait for the log's writer."),
    gauge("weft_log_waiting_bytes", "Bytes that wait for the log's writer."),
    gauge("weft_database_connections", "Connections to the database, by `pool` and `state` (idle, used)."),
    gauge("weft_database_connections_max", "How many connections each `pool` may open."),
    gauge("weft_build_info", "1, with the `version` that runs."),
    gauge("process_resident_memory_bytes", "Memory that the process has resident."),
    gauge("process_open_fds", "File descriptors that are open."),
    counter("process_cpu_seconds_total", "Processor time that the process used, user and system together."),
    gauge("process_uptime_seconds", "How long the process runs."),
];

/// Bounds of all histograms, in seconds: from a commit in memory to a model that thinks for minutes.
pub const BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Tells the recorder what each is about, and begins those at 0 of which the first increase is news.
pub fn begin() {
    for code in CODES {
        counter!("weft_errors_total", "code" => code).increment(0);
    }
    for status in ["COMPLETED", "FAILED", "CANCELLED"] {
        counter!("weft_runs_ended_total", "status" => status).increment(0);
    }
    counter!("weft_runs_taken_up_total").increment(0);
    for transport in ["stream", "websocket"] {
        gauge!("weft_subscriptions", "transport" => transport).set(0);
    }
    gauge!("weft_sockets").set(0);
    for Metric { name, kind, help } in METRICS {
        let unit = if name.ends_with("_seconds") || name.ends_with("_seconds_total") {
            Unit::Seconds
        } else if name.ends_with("_bytes") {
            Unit::Bytes
        } else {
            Unit::Count
        };
        match kind {
            Kind::Counter => describe_counter!(*name, unit, *help),
            Kind::Gauge => describe_gauge!(*name, unit, *help),
            Kind::Histogram => describe_histogram!(*name, unit, *help),
        }
    }
}

/// Every `extensions.code` of the contract. One that is not here counts as OTHER.
pub const CODES: [&str; 13] = [
    "CONFLICT",
    "CURSOR_EXPIRED",
    "FORBIDDEN",
    "INTERNAL",
    "INVALID_INPUT",
    "IN_USE",
    "NOT_FOUND",
    "QUERY_TOO_COMPLEX",
    "QUOTA_EXCEEDED",
    "RATE_LIMITED",
    "TIMEOUT",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
];

/// An HTTP answer.
pub fn response(status: u16) {
    counter!("weft_http_responses_total", "status" => status.to_string()).increment(1);
}

/// An operation that was answered; `took` only of queries and mutations.
pub fn request(
    operation: &'static str,
    transport: &'static str,
    outcome: &'static str,
    took: Option<Duration>,
) {
    counter!("weft_requests_total", "operation" => operation, "transport" => transport, "outcome" => outcome)
        .increment(1);
    if let Some(took) = took {
        metrics::histogram!("weft_request_duration_seconds", "operation" => operation, "transport" => transport)
            .record(took);
    }
}

/// An error that a client is told.
pub fn error(code: &str) {
    let known = CODES.iter().find(|known| **known == code);
    counter!("weft_errors_total", "code" => *known.unwrap_or(&"OTHER")).increment(1);
}

/// What a caller was charged.
pub fn charged(operation: &'static str, cost: u64) {
    counter!("weft_cost_total", "operation" => operation).increment(cost);
}

/// Something that is open: counted until it is dropped.
pub struct Open(Gauge);

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Open")
    }
}

impl Open {
    fn new(gauge: Gauge) -> Self {
        gauge.increment(1);
        Self(gauge)
    }

    /// A subscription.
    #[must_use]
    pub fn subscription(transport: &'static str) -> Self {
        Self::new(gauge!("weft_subscriptions", "transport" => transport))
    }

    /// A WebSocket.
    #[must_use]
    pub fn socket() -> Self {
        Self::new(gauge!("weft_sockets"))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// A run was taken up.
pub fn run_taken_up() {
    counter!("weft_runs_taken_up_total").increment(1);
}

/// A run has ended.
pub fn run_ended(status: &'static str) {
    counter!("weft_runs_ended_total", "status" => status).increment(1);
}

/// A call of a model is over.
pub fn model_call(
    provider: &'static str,
    purpose: &'static str,
    outcome: &'static str,
    first_token: Option<Duration>,
    took: Duration,
) {
    counter!("weft_model_calls_total", "provider" => provider, "purpose" => purpose, "outcome" => outcome)
        .increment(1);
    if let Some(first) = first_token {
        metrics::histogram!("weft_model_first_token_seconds", "provider" => provider).record(first);
    }
    metrics::histogram!("weft_model_call_seconds", "provider" => provider).record(took);
}

/// Tokens were booked.
pub fn tokens(input: i64, output: i64) {
    let whole = |tokens: i64| u64::try_from(tokens).unwrap_or(0);
    counter!("weft_tokens_total", "direction" => "input").increment(whole(input));
    counter!("weft_tokens_total", "direction" => "output").increment(whole(output));
}

/// A batch of the log's writer was committed: how long that took, how long its oldest piece had waited by then, and how long until
/// it was handed over.
pub fn batch(records: u64, commit: Duration, committed: Duration, handed_over: Duration) {
    counter!("weft_log_records_total").increment(records);
    metrics::histogram!("weft_log_commit_seconds").record(commit);
    metrics::histogram!("weft_log_commit_lag_seconds").record(committed);
    metrics::histogram!("weft_log_handover_lag_seconds").record(handed_over);
}

/// What is looked at when somebody asks, as it is then.
pub mod now {
    use metrics::{counter, gauge};

    /// Runs of a status; `None`: it could not be read.
    pub fn runs(status: &'static str, count: Option<u64>) {
        gauge!("weft_runs", "status" => status).set(count.map_or(f64::NAN, |count| count as f64));
    }

    /// Runs that this process carries.
    pub fn carried(runs: usize) {
        gauge!("weft_runs_carried").set(runs as f64);
    }

    /// What waits for the log's writer.
    pub fn waiting(records: usize, bytes: usize) {
        gauge!("weft_log_waiting_records").set(records as f64);
        gauge!("weft_log_waiting_bytes").set(bytes as f64);
    }

    /// The connections of a pool.
    pub fn connections(pool: &'static str, idle: usize, open: usize, most: usize) {
        let used = open.saturating_sub(idle);
        gauge!("weft_database_connections", "pool" => pool, "state" => "idle").set(idle as f64);
        gauge!("weft_database_connections", "pool" => pool, "state" => "used").set(used as f64);
        gauge!("weft_database_connections_max", "pool" => pool).set(most as f64);
    }

    /// The version that runs.
    pub fn version(version: &'static str) {
        gauge!("weft_build_info", "version" => version).set(1);
    }

    /// The process itself; what the system does not say is left out.
    pub fn process(resident: Option<u64>, files: Option<usize>, cpu: Option<u64>, uptime: f64) {
        if let Some(bytes) = resident {
            gauge!("process_resident_memory_bytes").set(bytes as f64);
        }
        if let Some(files) = files {
            gauge!("process_open_fds").set(files as f64);
        }
        if let Some(seconds) = cpu {
            counter!("process_cpu_seconds_total").absolute(seconds);
        }
        gauge!("process_uptime_seconds").set(uptime);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_the_conventions_and_stand_once() {
        let mut seen = HashSet::new();
        for Metric { name, kind, help } in METRICS {
            assert!(seen.insert(name), "{name} stands twice");
            assert!(
                name.starts_with("weft_") || name.starts_with("process_"),
                "{name}"
            );
            assert!(help.ends_with('.'), "{name}");
            match kind {
                Kind::Counter => assert!(name.ends_with("_total"), "{name}"),
                Kind::Histogram => assert!(name.ends_with("_seconds"), "{name}"),
                Kind::Gauge => assert!(!name.ends_with("_total"), "{name}"),
            }
        }
    }
}
