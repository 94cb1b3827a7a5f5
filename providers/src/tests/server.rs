//! A provider that does as it is told, byte by byte, over a real socket.

#![expect(
    clippy::disallowed_methods,
    reason = "the other side of the wire: threads of its own, which no runtime under test can hold up"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use url::Url;

/// What a connection does once it has read a request. At the end it closes.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends bytes.
    Send(Vec<u8>),
    /// Sends nothing for a while.
    Pause(Duration),
    /// Waits until the client closes, and reports it.
    AwaitClose,
    /// Sends the same bytes until they aren't taken any more, and reports how many were.
    Flood(Vec<u8>),
}

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The method and the path.
    pub line: String,
    /// The head, in lower case.
    pub head: String,
    /// The body, null if there is none.
    pub body: Value,
}

/// A scripted provider: one script per connection, in order; then it refuses connections.
pub struct Server {
    /// Its address.
    pub url: Url,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// What [`Step::AwaitClose`] (0) and [`Step::Flood`] (bytes) report.
    pub reports: mpsc::UnboundedReceiver<usize>,
}

impl Server {
    pub fn start(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (report, reports) = mpsc::unbounded_channel();
        let log = asked.clone();
        thread::spawn(move || {
            for script in scripts {
                let Ok((stream, _)) = listener.accept() else {
                    return;
                };
                let Some(request) = read_request(&stream) else {
                    continue;
                };
                log.lock().expect("no panic under the lock").push(request);
                run(stream, script, &report);
            }
        });
        Self {
            url: Url::parse(&format!("http://{address}/v1")).expect("a URL"),
            asked,
            reports,
        }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic under the lock").clone()
    }
}

fn read_request(mut stream: &TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let line = head
        .lines()
        .next()?
        .trim_end_matches(" HTTP/1.1")
        .to_owned();
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(Asked {
        line,
        head,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

fn run(mut stream: TcpStream, script: Vec<Step>, report: &mpsc::UnboundedSender<usize>) {
    stream.set_nodelay(true).expect("a socket");
    for step in script {
        let went_on = match step {
            Step::Send(bytes) => stream.write_all(&bytes).is_ok(),
            Step::Pause(time) => {
                thread::sleep(time);
                true
            }
            Step::AwaitClose => {
                // the end, or a reset
                let _ = stream.read(&mut [0]);
                report.send(0).is_ok()
            }
            Step::Flood(bytes) => {
                stream
                    .set_write_timeout(Some(Duration::from_millis(300)))
                    .expect("a socket");
                let mut sent = 0;
                while let Ok(taken) = stream.write(&bytes) {
                    sent += taken;
                }
                report.send(sent).is_ok()
            }
        };
        if !went_on {
            return;
        }
    }
}

/// The head of a stream that ends when the connection does.
pub fn head() -> Step {
    Step::Send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n".to_vec(),
    )
}

/// Text as it is.
pub fn send(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

/// A whole answer that is no stream.
pub fn reply(status: u16, headers: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    vec![send(&format!(
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ))]
}

/// A stream of `data` events.
pub fn events(data: &[&str]) -> Vec<Step> {
    let mut steps = vec![head()];
    steps.extend(data.iter().map(|data| send(&format!("data: {data}\n\n"))));
    steps
}
