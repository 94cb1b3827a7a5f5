//! What the process says of itself, on its standard error.

use std::io;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{Log, LogFormat};

/// What is of no use to an operator unless he asks for it: what the filter says of these goes before.
const QUIET: &str = "sqlx=warn,sea_orm_migration=warn";

/// Starts it.
///
/// # Errors
/// The filter is none.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", log.filter))
        .map_err(|error| anyhow::anyhow!("setting `log.filter`: {:?}: {error}", log.filter))?;
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Text => lines
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("failed to start logging: {error}"))
}
