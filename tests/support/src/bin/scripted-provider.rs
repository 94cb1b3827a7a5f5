//! The scripted provider as a program, for tests that are not written in Rust.
//!
//! `scripted-provider [--port N]` listens on the loopback interface (a free port where none is given), prints
//! `LISTENING 127.0.0.1:PORT`, and is controlled below `/control/`.

use anyhow::{Context, bail};
use support::provider::Provider;

#[tokio::main]
#[expect(
    clippy::print_stdout,
    reason = "the address on standard output is this program's interface"
)]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => 0,
        (Some("--port"), Some(port)) => port
            .parse()
            .context("--port takes a number from 0 to 65535")?,
        _ => bail!("usage: scripted-provider [--port N]"),
    };
    let provider = Provider::on(port)
        .await
        .with_context(|| format!("port {port} is not to be had"))?;
    println!("LISTENING {}", provider.address());
    std::future::pending().await
}
