//! The program `weft`: its commands.

mod admin;
mod budget;
mod config;
mod data_dir;
mod edge;
mod graph;
mod health;
mod logging;
mod metrics;
mod page;
mod rotate_key;
mod serve;
mod traces;
mod wiring;

use std::{
    io::{ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use admin::{Admin, admin};
use anyhow::bail;
use clap::{Parser, Subcommand};
use config::Config;
use traces::Traces;
use wiring::Ground;

/// The backend of AI-agent products: one typed GraphQL API in one program.
#[derive(Parser)]
#[command(name = "weft", version)]
struct Arguments {
    /// A file of settings; left out: `weft.toml` in the working folder, if it is there.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve; what `weft` alone does.
    Serve,
    /// Bring the database up to date, and end.
    Migrate,
    /// Print the schema in the Schema Definition Language.
    Schema,
    /// Print the settings in force, secrets hidden.
    Config,
    /// Seal by the new secret key all that the one before it sealed.
    RotateKey,
    /// What needs no signing in, for whoever runs the server.
    Admin {
        #[command(subcommand)]
        command: Admin,
    },
    /// Ask the running server whether it is well: ends with 0 if so.
    Health,
}

/// How long what can't be cancelled may hold up the end.
const END: Duration = Duration::from_secs(1);

#[expect(
    clippy::print_stderr,
    reason = "whoever started it must see why it ends, whatever the logging is set to"
)]
fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever a library put into its text.
            let line: Vec<_> = error
                .to_string()
                .split_whitespace()
                .map(str::to_owned)
                .collect();
            eprintln!("weft: {}", line.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// Writes what a command answers; a reader that has seen enough is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => bail!("failed to print: {error}"),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let command = arguments.command.unwrap_or(Command::Serve);
    if let Command::Schema = command {
        return print(&schema::sdl());
    }
    let config = Config::load(arguments.config.as_deref(), config::variables())?;
    match command {
        Command::Schema => {}
        Command::Config => print(&config.print())?,
        Command::Health => health::health(&config)?,
        Command::Migrate => {
            logging::start(&config.log, None)?;
            block_on(async {
                let db = Ground::take(&config)?.database().await?;
                db.close().await;
                anyhow::Ok(())
            })?;
            print("The database is up to date.\n")?;
        }
        Command::RotateKey => {
            logging::start(&config.log, None)?;
            print(&block_on(rotate_key::rotate_key(&config))?)?;
        }
        Command::Admin { command } => {
            logging::start(&config.log, None)?;
            print(&block_on(admin(&config, command))?)?;
        }
        Command::Serve => {
            let traces = Traces::start(&config)?;
            logging::start(&config.log, traces.tracer())?;
            let served = block_on(serve::serve(config));
            traces.end();
            served?;
        }
    }
    Ok(())
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    adapters::install_tls();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(END);
    outcome
}
