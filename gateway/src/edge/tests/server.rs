//! A server for one test, and requests to it byte by byte.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use adapters::tasks::Tasks;
use axum::{Router, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use super::toy::Toy;
use crate::{
    config::Config,
    edge::{Edge, Listener, Settings, Times, serve},
};

/// Nothing in these tests takes as long on a machine that works.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) edge: Arc<Edge<Toy>>,
    pub(super) serving: JoinHandle<()>,
    /// Ends the server when it is sent to or dropped.
    pub(super) end: oneshot::Sender<()>,
}

impl Server {
    pub(super) async fn start(variables: &[(&str, &str)]) -> Self {
        Self::with(variables, |_| {}).await
    }

    pub(super) async fn with(variables: &[(&str, &str)], set: impl FnOnce(&mut Times)) -> Self {
        let server = Self::closed(variables, set).await;
        server.edge.open(Toy::new());
        server
    }

    /// Without a graph yet.
    pub(super) async fn closed(variables: &[(&str, &str)], set: impl FnOnce(&mut Times)) -> Self {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = Config::load(None, variables).unwrap();
        let listener = Listener::bind("listen", "127.0.0.1:0").await.unwrap();
        let address = listener.address();
        let mut settings = Settings::new(&config, address).unwrap();
        set(&mut settings.times);
        let edge = Edge::new(settings);
        let more = Router::new().route(
            "/panic",
            get(async || -> &'static str { panic!("in a handler") }),
        );
        let more = more.merge(edge.token_route()).merge(edge.keys_route());
        let (end, ended) = oneshot::channel();
        let ended = async move {
            let _ = ended.await;
        };
        let serving = Tasks::new().spawn("server", serve(listener, edge.clone(), more, ended));
        Self {
            address,
            edge,
            serving,
            end,
        }
    }

    pub(super) fn toy(&self) -> &Toy {
        self.edge.graph().unwrap()
    }

    /// Sends `request` on a connection of its own and reads the answer to its end.
    pub(super) async fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        Answer::read(&mut stream).await
    }

    /// A request with `Host` and, unless it says what it accepts, the newer form of answers, as `head` begins it: a line and headers.
    pub(super) async fn send(&self, head: &str, body: &[u8]) -> Answer {
        self.raw(&self.request(head, body)).await
    }

    pub(super) fn request(&self, head: &str, body: &[u8]) -> Vec<u8> {
        let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
        let mut text = format!("{line} HTTP/1.1\r\n");
        for header in headers
            .lines()
            .map(str::trim)
            .filter(|header| !header.is_empty())
        {
            text += &format!("{header}\r\n");
        }
        let has = |name: &str| headers.lines().any(|line| line.trim().starts_with(name));
        if !has("Host:") {
            text += &format!("Host: {}\r\n", self.address);
        }
        if !has("Accept:") {
            text += "Accept: application/graphql-response+json\r\n";
        }
        text += &format!("Content-Length: {}\r\n\r\n", body.len());
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    /// A POST of JSON, with further headers.
    pub(super) async fn post(&self, headers: &str, body: &str) -> Answer {
        self.send(
            &format!("POST /graphql\nContent-Type: application/json\n{headers}"),
            body.as_bytes(),
        )
        .await
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Answer {
    pub(super) async fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let read = async {
            let (end, length) = loop {
                if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                    break (end + 4, length.unwrap_or(0_usize));
                }
                assert_ne!(
                    stream.read_buf(&mut bytes).await.unwrap(),
                    0,
                    "closed before an answer"
                );
            };
            while bytes.len() < end + length {
                assert_ne!(
                    stream.read_buf(&mut bytes).await.unwrap(),
                    0,
                    "closed within an answer"
                );
            }
            end
        };
        let end = timeout(PATIENCE, read).await.expect("an answer in time");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self {
            status,
            headers,
            body: String::from_utf8(bytes[end..].to_vec()).unwrap(),
        }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `extensions.code` of the first error, or an empty text.
    pub(super) fn code(&self) -> String {
        if self.body.is_empty() {
            return String::new();
        }
        self.json()["errors"][0]["extensions"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}
