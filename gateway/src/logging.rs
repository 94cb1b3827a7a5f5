//! What the process says of itself, on its standard error; and which of its spans are sent as traces.

use std::io;

use adapters::spans::{Requests, TARGET};
use opentelemetry_sdk::trace::SdkTracer;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{LevelFilter, filter_fn},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::{Log, LogFormat};

/// What is of no use to an operator unless he asks for it: what the filter says of these goes before.
const QUIET: &str = "sqlx=warn,sea_orm_migration=warn";

/// Starts it.
///
/// # Errors
/// The filter is none.
pub fn start(log: &Log, tracer: Option<SdkTracer>) -> anyhow::Result<()> {
    // whatever lines are wanted, each is wanted with its request and its run
    let filter = EnvFilter::try_new(format!("{QUIET},{},{TARGET}=error", log.filter))
        .map_err(|error| anyhow::anyhow!("setting `log.filter`: {:?}: {error}", log.filter))?;
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = match log.format {
        LogFormat::Text => lines
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // spans of ours alone, and no line of the log: what libraries say of themselves may hold anything
    let is_ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET);
    let traces = tracer.map(|tracer| {
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(is_ours.with_max_level_hint(LevelFilter::ERROR))
    });
    tracing_subscriber::registry()
        .with(Requests)
        .with(traces)
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|error| anyhow::anyhow!("failed to start logging: {error}"))
}
