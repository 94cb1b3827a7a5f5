//! Requests and frames that are almost right, many, for as long as is asked for; and what a server must do all the while.
//!
//! A case is something valid with something done to it ([`case`]), made of a seed and its number, so that it can be made again.
//! Each must get an answer or an end. No answer is a fault of the server (a status of 500 and above that says more than
//! "not now", or an error INTERNAL), nothing panics, the process stays and does not grow, and somebody quiet beside it is
//! answered within a second.

mod case;
mod chance;
mod change;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

pub use case::{Case, Known};

use crate::{client::Client, lock};

/// Connections at a time; fewer than an address may have that are not initialised.
const AT_ONCE: usize = 12;

/// How long a connection is waited for that says nothing before it is told that nothing more comes.
const SILENCE: Duration = Duration::from_millis(300);

/// And how long after that it may take until it ends.
const END: Duration = Duration::from_secs(25);

/// What is kept of an answer, to be looked at.
const KEPT: usize = 64 * 1024;

/// How long somebody quiet may wait.
const QUIET: Duration = Duration::from_secs(1);

/// How much more memory than at its beginning the server may have: what its caches and pools hold once they are full, and room.
const GROWTH: u64 = 400 * 1024 * 1024;

/// How many faults end it.
const ENOUGH: usize = 20;

/// What was seen.
#[derive(Debug, Default)]
pub struct Report {
    /// How many cases there were.
    pub cases: u64,
    /// How many connections got each status; 0 ended without one.
    pub statuses: std::collections::BTreeMap<u16, u64>,
    /// What was wrong, each with what to make it again by.
    pub faults: Vec<String>,
    /// The longest that somebody quiet has waited, the machine's own delay taken off.
    pub slowest: Duration,
}

/// The case that number `number` is under `seed`.
pub fn case_of(known: &Known, seed: u64, number: u64) -> Case {
    case::make(known, &mut chance::Chance::of(seed, number))
}

/// Sends cases to the server at `known.host` for so long. `quiet` is somebody else's client, who asks for his role; `resident`
/// says how much memory the server has.
pub async fn run(
    known: &Known,
    quiet: &Client,
    seed: u64,
    time: Duration,
    resident: impl Fn() -> u64,
) -> Report {
    let report = Arc::new(Mutex::new(Report::default()));
    let next = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + time;
    let shared = Arc::new(known.clone());
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (known, next, report) = (shared.clone(), next.clone(), report.clone());
            tokio::spawn(async move {
                while Instant::now() < end && lock(&report).faults.len() < ENOUGH {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let case = case_of(&known, seed, number);
                    let outcome = try_case(&known, &case, END).await;
                    let mut report = lock(&report);
                    report.cases += 1;
                    match outcome {
                        Ok(status) => *report.statuses.entry(status).or_default() += 1,
                        Err(fault) => {
                            let text = format!(
                                "case {number} of seed {seed} ({}): {fault}\n  {}",
                                case.kind,
                                shown(&case)
                            );
                            report.faults.push(text);
                        }
                    }
                }
            })
        })
        .collect();
    let before = resident();
    while Instant::now() < end && lock(&report).faults.len() < ENOUGH {
        let waited = ask_quietly(quiet).await;
        let grown = resident().saturating_sub(before);
        let mut report = lock(&report);
        match waited {
            Ok(waited) => report.slowest = report.slowest.max(waited),
            Err(fault) => report.faults.push(fault),
        }
        if grown > GROWTH {
            let fault = format!(
                "the server has {} MiB more than at its beginning",
                grown >> 20
            );
            report.faults.push(fault);
        }
    }
    for worker in workers {
        if let Err(error) = worker.await {
            lock(&report).faults.push(error.to_string());
        }
    }
    std::mem::take(&mut *lock(&report))
}

/// Asks once; how long that took, less what the machine is late by itself.
async fn ask_quietly(quiet: &Client) -> Result<Duration, String> {
    const REST: Duration = Duration::from_millis(100);
    let began = Instant::now();
    sleep(REST).await;
    let late = began.elapsed().saturating_sub(REST);
    let began = Instant::now();
    let answer = quiet
        .try_query("{ viewer { role } }", json!({}))
        .await
        .map_err(|error| format!("somebody quiet got no answer: {error}"))?;
    let took = began.elapsed().saturating_sub(late);
    match answer {
        Ok(data) if data["viewer"]["role"].is_string() && took <= QUIET => Ok(took),
        Ok(data) => Err(format!(
            "somebody quiet waited {took:?} (the machine itself was {late:?} late) for {data}"
        )),
        Err(errors) => Err(format!("somebody quiet was told {errors:?}")),
    }
}

/// Writes a case on a connection of its own and sees what comes of it: the status, 0 for an end without an answer.
async fn try_case(known: &Known, case: &Case, until_end: Duration) -> Result<u16, String> {
    let address: SocketAddr = known
        .host
        .parse()
        .map_err(|error| format!("{}: {error}", known.host))?;
    let stream = match timeout(END, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("no connection: {error}")),
        Err(_) => return Err("no connection in time".into()),
    };
    let (mut reader, mut writer) = stream.into_split();
    let pieces = case.pieces.clone();
    let writing = async {
        for piece in &pieces {
            writer.write_all(piece).await?;
            writer.flush().await?;
            tokio::task::yield_now().await;
        }
        io::Result::Ok(())
    };
    let mut answer = Vec::new();
    let mut is_over = false;
    // An end while writing is an answer, too: what is too long is not read to its end.
    let reading = read_on(&mut reader, &mut answer, SILENCE, &mut is_over);
    let (_written, ()) = tokio::join!(timeout(END, writing), reading);
    let _closed = writer.shutdown().await;
    let last = Instant::now() + until_end;
    while !is_over && Instant::now() < last {
        read_on(&mut reader, &mut answer, SILENCE, &mut is_over).await;
    }
    if !is_over {
        let said = if answer.is_empty() {
            "neither answered nor ended"
        } else {
            "answered and left open"
        };
        return Err(format!(
            "{said} {until_end:?} after the client's end: {}",
            text(&answer)
        ));
    }
    judged(&answer)
}

/// Reads until nothing comes for so long.
async fn read_on(
    reader: &mut (impl AsyncReadExt + Unpin),
    answer: &mut Vec<u8>,
    silence: Duration,
    is_over: &mut bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    // a stream may go on for ever, and is not listened to for so long
    let end = Instant::now() + 10 * silence;
    while Instant::now() < end {
        match timeout(silence, reader.read(&mut buffer)).await {
            Err(_) => return,
            Ok(Ok(0) | Err(_)) => {
                *is_over = true;
                return;
            }
            Ok(Ok(n)) => {
                let room = KEPT.saturating_sub(answer.len()).min(n);
                answer.extend_from_slice(&buffer[..room]);
            }
        }
    }
}

/// The status of the answer, or of the worst of several.
fn judged(answer: &[u8]) -> Result<u16, String> {
    if answer.is_empty() {
        return Ok(0);
    }
    let starts = answer
        .windows(7)
        .enumerate()
        .filter(|(_, window)| *window == b"HTTP/1.")
        .map(|(at, _)| at);
    let statuses: Vec<u16> = starts
        .filter_map(|at| {
            let digits = answer.get(at + 9..at + 12)?;
            std::str::from_utf8(digits).ok()?.parse().ok()
        })
        .collect();
    if !answer.starts_with(b"HTTP/1.") || statuses.is_empty() {
        return Err(format!("no answer of HTTP: {}", text(answer)));
    }
    if let Some(status) = statuses
        .iter()
        .find(|&&status| status >= 500 && !matches!(status, 503 | 504))
    {
        return Err(format!("answered {status}: {}", text(answer)));
    }
    // as it stands in an error: `/metrics` names the code, too
    let internal = b"\"code\":\"INTERNAL\"";
    if answer
        .windows(internal.len())
        .any(|window| window == internal)
    {
        return Err(format!("a fault of the server's own: {}", text(answer)));
    }
    Ok(statuses[0])
}

fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1_500)]);
    text.escape_debug().to_string()
}

fn shown(case: &Case) -> String {
    let pieces: Vec<String> = case.pieces.iter().map(|piece| text(piece)).collect();
    pieces.join("\n  ")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn known(host: &str) -> Known {
        Known {
            host: host.to_owned(),
            token: "token".into(),
            conversation: "c".into(),
            documents: vec![
                ("{ a(b: 1) { c } }".into(), json!({})),
                (
                    "query Q($x: Int) { d(x: $x) ...F } fragment F on Query { e }".into(),
                    json!({"x": 1}),
                ),
            ],
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_cases_and_they_differ() {
        let known = known("127.0.0.1:1");
        let mut all = std::collections::HashSet::new();
        for number in 0..2_000 {
            let case = case_of(&known, 7, number);
            assert_eq!(case.pieces, case_of(&known, 7, number).pieces);
            all.insert(case.pieces);
        }
        assert!(all.len() > 1_900, "{}", all.len());
    }

    /// A server that does this with each connection.
    async fn server(answer: &'static [u8], holds: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _sent = stream.write_all(answer).await;
                if holds {
                    held.push(stream);
                }
            }
        });
        host
    }

    #[tokio::test]
    async fn what_is_wrong_is_seen() {
        let outcome = async |answer, holds| {
            let known = known(&server(answer, holds).await);
            try_case(&known, &case_of(&known, 1, 1), END).await
        };
        assert_eq!(outcome(b"HTTP/1.1 400 Bad\r\n\r\n", false).await, Ok(400));
        assert_eq!(
            outcome(b"HTTP/1.1 503 Not now\r\n\r\n", false).await,
            Ok(503)
        );
        assert!(outcome(b"HTTP/1.1 500 Oh\r\n\r\n", false).await.is_err());
        assert!(
            outcome(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 502 Oh\r\n\r\n", false)
                .await
                .is_err()
        );
        assert!(
            outcome(b"HTTP/1.1 200 OK\r\n\r\n{\"code\":\"INTERNAL\"}", false)
                .await
                .is_err()
        );
        assert!(outcome(b"what?", false).await.is_err());
    }

    #[tokio::test]
    async fn a_connection_that_is_left_open_is_seen() {
        for answer in [&b""[..], b"HTTP/1.1 200 OK\r\n\r\n"] {
            let known = known(&server(answer, true).await);
            let soon = Duration::from_millis(200);
            let outcome = try_case(&known, &case_of(&known, 1, 1), soon).await;
            assert!(outcome.is_err_and(|fault| fault.contains("client's end")));
        }
    }
}
