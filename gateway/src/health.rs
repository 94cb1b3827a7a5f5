//! `weft health`: whether the server of this configuration answers, for containers.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};

use crate::{config::Config, data_dir::ADDRESS, serve::reachable};

const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks `/health`.
///
/// # Errors
/// It doesn't answer, or not well.
pub fn health(config: &Config) -> anyhow::Result<()> {
    let address = reachable(address(config)?);
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .map_err(|error| anyhow!("nothing listens at {address}: {error}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .map_err(|error| anyhow!("{address} takes no request: {error}"))?;
    let mut status = [0; 12];
    stream
        .read_exact(&mut status)
        .map_err(|error| anyhow!("{address} does not answer: {error}"))?;
    if &status != b"HTTP/1.1 200" {
        bail!("{address} answers {:?}", String::from_utf8_lossy(&status));
    }
    Ok(())
}

/// The one that the server wrote down; it differs from the configured one where that has port 0.
///
/// # Errors
/// It has no address.
pub fn address(config: &Config) -> anyhow::Result<SocketAddr> {
    if let Some(written) = fs::read_to_string(config.data_dir.join(ADDRESS))
        .ok()
        .and_then(|text| text.trim().parse().ok())
    {
        return Ok(written);
    }
    let mut found = config
        .listen
        .to_socket_addrs()
        .map_err(|error| anyhow!("setting `listen`: {}: {error}", config.listen))?;
    found
        .next()
        .with_context(|| format!("setting `listen`: {} has no address", config.listen))
}
