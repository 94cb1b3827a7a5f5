//! What the process says of itself, on its standard error; and which of its spans are sent as traces.

use std::io::{self, Write};

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
    let lines = match log.format {
        LogFormat::Text => {
            let coloured = io::IsTerminal::is_terminal(&io::stderr());
            fmt::layer()
                .with_writer(move || OneLine {
                    to: io::stderr(),
                    coloured,
                })
                .with_ansi(coloured)
                .boxed()
        }
        LogFormat::Json => fmt::layer()
            .with_writer(io::stderr)
            .json()
            .flatten_event(true)
            .boxed(),
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
    // The filter stands before all of them. As one of the lines' own, it would lose the spans of what SQLite's driver tells from its
    // threads: that asks whether a line is wanted before it writes one.
    tracing_subscriber::registry()
        .with(filter)
        .with(Requests)
        .with(traces)
        .with(lines)
        .try_init()
        .map_err(|error| anyhow::anyhow!("failed to start logging: {error}"))
}

/// Writes what is handed over at once as one line, whatever it holds: a break within a value would begin a line of its own, which
/// could then say anything. Colours may be there where there are any, and nothing else that a terminal obeys.
struct OneLine<W> {
    to: W,
    coloured: bool,
}

impl<W> OneLine<W> {
    /// Whether the byte at `at` may not be written as it is.
    fn is_unfit(&self, text: &[u8], at: usize) -> bool {
        let is_colour = |rest: &[u8]| match rest {
            [b'[', rest @ ..] => {
                let mut rest = rest.iter();
                rest.find(|byte| !byte.is_ascii_digit() && **byte != b';') == Some(&b'm')
            }
            _ => false,
        };
        match text[at] {
            b'\x1b' => !(self.coloured && is_colour(&text[at + 1..])),
            byte => byte.is_ascii_control(),
        }
    }
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (text, end) = match line {
            [text @ .., b'\n'] => (text, &b"\n"[..]),
            text => (text, &b""[..]),
        };
        if !(0..text.len()).any(|at| self.is_unfit(text, at)) {
            self.to.write_all(line)?;
            return Ok(line.len());
        }
        let mut escaped = Vec::with_capacity(line.len() + 16);
        for (at, byte) in text.iter().enumerate() {
            if self.is_unfit(text, at) {
                escaped.extend(byte.escape_ascii());
            } else {
                escaped.push(*byte);
            }
        }
        escaped.extend(end);
        self.to.write_all(&escaped)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_value_makes_no_line_of_its_own() {
        let written = Written::default();
        let writer = written.clone();
        let lines = fmt::layer().with_ansi(false).with_writer(move || OneLine {
            to: writer.clone(),
            coloured: false,
        });
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, || {
            let forged = "no\r\n2026-01-01T00:00:00Z ERROR weft: forged\u{7}\u{1b}[31m é";
            tracing::info!(error = %forged, "{forged}");
        });
        let bytes = written.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains("no\\r\\n2026") && text.contains('é'),
            "{text}"
        );
        assert!(
            !text.trim_end().contains(|c: char| c.is_control()),
            "{text:?}"
        );
    }

    #[test]
    fn of_what_a_terminal_obeys_colours_stay() {
        let mut line = OneLine {
            to: Vec::new(),
            coloured: true,
        };
        let whole = b"\x1b[2mdim\x1b[0m \x1b]0;title\x07 \x1b[2J \x1b\n";
        line.write_all(whole).unwrap();
        let written = String::from_utf8(line.to).unwrap();
        let expected = "\u{1b}[2mdim\u{1b}[0m \\x1b]0;title\\x07 \\x1b[2J \\x1b\n";
        assert_eq!(written, expected);
    }
}
