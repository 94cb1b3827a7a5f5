//! Streams over HTTP: server-sent events and parts.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::server::{PATIENCE, Server};

const EVENTS: &str = "Accept: text/event-stream";
const PARTS: &str =
    "Accept: multipart/mixed;boundary=graphql;subscriptionSpec=1.0, application/json";

/// An answer that is read as it comes, its body without the marks of its chunks.
struct Reading {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Reading {
    async fn new(server: &Server, headers: &str, query: &str) -> Self {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let body = serde_json::json!({ "query": query }).to_string();
        let head = format!("POST /graphql\nContent-Type: application/json\n{headers}");
        let request = server.request(&head, body.as_bytes());
        stream.write_all(&request).await.unwrap();
        Self {
            stream,
            bytes: Vec::new(),
        }
    }

    /// Everything up to and with `end`.
    async fn until(&mut self, end: &str) -> String {
        let read = async {
            loop {
                let text = String::from_utf8_lossy(&self.bytes).into_owned();
                if let Some(at) = text.find(end) {
                    self.bytes.drain(..at + end.len());
                    return text[..at + end.len()].to_owned();
                }
                let count = self.stream.read_buf(&mut self.bytes).await.unwrap();
                assert_ne!(count, 0, "the end, and no {end:?} in {text:?}");
            }
        };
        timeout(PATIENCE, read).await.expect("in time")
    }

    /// The rest, up to the end of the body.
    async fn rest(&mut self) -> String {
        self.until("\r\n0\r\n\r\n").await
    }

    /// The rest of an answer whose connection ends before its body does.
    async fn broken_off(mut self) -> String {
        let read = self.stream.read_to_end(&mut self.bytes);
        timeout(PATIENCE, read)
            .await
            .expect("an end in time")
            .unwrap();
        let text = String::from_utf8(self.bytes).unwrap();
        assert!(!text.ends_with("\r\n0\r\n\r\n"), "{text:?}");
        text
    }

    async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await.to_ascii_lowercase()
    }
}

/// A body without the marks of its chunks, each of which is a line of hexadecimal digits between line ends.
fn joined(text: &str) -> String {
    let mut left = text;
    let mut body = String::new();
    while let Some((length, rest)) = left.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body += &rest[..length];
        left = &rest[length + 2..];
    }
    body
}

/// A whole answer: its head, and its body.
async fn whole(server: &Server, headers: &str, query: &str) -> (String, String) {
    let mut reading = Reading::new(server, headers, query).await;
    let head = reading.head().await;
    (head, joined(&reading.rest().await))
}

#[tokio::test]
async fn events() {
    let server = Server::start(&[]).await;
    let (head, body) = whole(&server, EVENTS, "subscription { count(to: 2) }").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(
        head.contains("content-type: text/event-stream; charset=utf-8\r\n"),
        "{head}"
    );
    assert!(head.contains("cache-control: no-store"), "{head}");
    let expected = ":\n\nevent: next\nid: 1\ndata: {\"data\":{\"count\":1}}\n\n\
                    event: next\nid: 2\ndata: {\"data\":{\"count\":2}}\n\nevent: complete\ndata:\n\n";
    assert_eq!(body, expected);
    let (_, body) = whole(
        &server,
        &format!("{EVENTS}\nLast-Event-ID: 1"),
        "subscription { count(to: 2) }",
    )
    .await;
    let expected =
        ":\n\nevent: next\nid: 2\ndata: {\"data\":{\"count\":2}}\n\nevent: complete\ndata:\n\n";
    assert_eq!(body, expected);
    // by GET as well; a query or a mutation is one event
    let get = server.request(
        "GET /graphql?query=%7Bhello%7D\nAccept: text/event-stream",
        b"",
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&get).await.unwrap();
    let mut reading = Reading {
        stream,
        bytes: Vec::new(),
    };
    reading.head().await;
    let body = joined(&reading.rest().await);
    assert_eq!(
        body,
        ":\n\nevent: next\ndata: {\"data\":{\"hello\":\"hello world\"}}\n\nevent: complete\ndata:\n\n"
    );
    let (_, body) = whole(&server, EVENTS, "mutation { double(n: 2) }").await;
    assert!(
        body.contains("\ndata: {\"data\":{\"double\":4}}\n\n"),
        "{body}"
    );
}

#[tokio::test]
async fn parts() {
    let server = Server::start(&[]).await;
    let (head, body) = whole(&server, PARTS, "subscription { count(to: 2) }").await;
    assert!(
        head.contains(
            "content-type: multipart/mixed; boundary=\"graphql\"; subscriptionspec=1.0\r\n"
        ),
        "{head}"
    );
    let part = "\r\nContent-Type: application/json\r\n\r\n";
    let expected = format!(
        "\r\n--graphql{part}{{\"payload\":{{\"data\":{{\"count\":1}}}}}}\r\n--graphql{part}{{\"payload\":{{\"data\":{{\"count\":2}}}}}}\r\n--graphql--\r\n"
    );
    assert_eq!(body, expected);
    // whoever takes parts as well gets a query's answer as ever
    let answer = server.post(PARTS, r#"{"query":"{ hello }"}"#).await;
    assert_eq!(answer.body, r#"{"data":{"hello":"hello world"}}"#);
    let refused = server
        .post(
            "Accept: multipart/mixed;subscriptionSpec=1.0",
            r#"{"query":"{ hello }"}"#,
        )
        .await;
    assert_eq!(refused.status, 406);
}

#[tokio::test]
async fn what_is_refused_is_told_in_the_stream() {
    let server = Server::start(&[]).await;
    for (query, code) in [
        ("subscription {", "INVALID_INPUT"),
        ("subscription { nope }", "INVALID_INPUT"),
        ("subscription { count(to: 1) forever }", "INVALID_INPUT"),
        (
            "subscription { count(to: 1) @skip(if: true) }",
            "INVALID_INPUT",
        ),
        ("subscription { panics }", "INTERNAL"),
    ] {
        let (head, body) = whole(&server, EVENTS, query).await;
        assert!(head.starts_with("http/1.1 200 "), "{query}: {head}");
        let mut lines = body.lines();
        assert_eq!(
            (lines.next(), lines.next(), lines.next()),
            (Some(":"), Some(""), Some("event: next"))
        );
        let data = lines.next().unwrap().strip_prefix("data: ").unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(
            data["errors"][0]["extensions"]["code"], code,
            "{query}: {data}"
        );
        assert!(
            data["errors"][0]["extensions"]["requestId"].is_string() && data.get("data").is_none()
        );
        assert!(
            body.ends_with("\n\nevent: complete\ndata:\n\n"),
            "{query}: {body}"
        );
    }
    let (_, body) = whole(&server, PARTS, "subscription { nope }").await;
    assert!(
        body.contains("{\"payload\":null,\"errors\":[{\"message\":"),
        "{body}"
    );
    assert!(body.ends_with("\r\n--graphql--\r\n"), "{body}");
}

#[tokio::test]
async fn who_asks_is_told_by_the_status() {
    let server = Server::start(&[("WEFT_LIMITS__MAX_CONNECTIONS_PER_USER", "2")]).await;
    let query = r#"{"query":"subscription { forever }"}"#;
    for (headers, status) in [
        (format!("{EVENTS}\nAuthorization: Bearer bad"), 401),
        (format!("{PARTS}\nAuthorization: Bearer bad"), 401),
        (format!("{EVENTS}\nOrigin: https://evil.example"), 403),
        (format!("{EVENTS}\nHost: evil.example"), 421),
    ] {
        let answer = server.post(&headers, query).await;
        assert_eq!(answer.status, status, "{headers}: {answer:?}");
        assert!(
            answer.headers["content-type"].contains("json"),
            "{answer:?}"
        );
    }
    let mutation = server
        .send(
            "GET /graphql?query=mutation%7Bdouble(n:1)%7D\nAccept: text/event-stream",
            b"",
        )
        .await;
    assert_eq!(mutation.status, 405);
    // a stream is a connection of its user
    let ann = format!("{EVENTS}\nAuthorization: Bearer ann");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut reading = Reading::new(&server, &ann, "subscription { forever }").await;
        reading.until("{\"forever\":true}").await;
        open.push(reading);
    }
    let answer = server.post(&ann, query).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (429, "RATE_LIMITED")
    );
    // and no longer than it lasts
    let dropped = server.toy().dropped.clone();
    drop(open.pop());
    timeout(PATIENCE, dropped.notified())
        .await
        .expect("the stream ends with its client");
    let again = async {
        loop {
            let mut reading = Reading::new(&server, &ann, "subscription { forever }").await;
            if reading.head().await.starts_with("http/1.1 200 ") {
                return;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("a seat that is free");
}

#[tokio::test]
async fn a_stream_shows_that_it_is_there() {
    let server = Server::with(&[], |times| times.beat = Duration::from_millis(50)).await;
    let mut events = Reading::new(&server, EVENTS, "subscription { forever }").await;
    events.until("{\"forever\":true}").await;
    events.until(":\n\n").await;
    events.until(":\n\n").await;
    let mut parts = Reading::new(&server, PARTS, "subscription { forever }").await;
    parts.until("{\"forever\":true}").await;
    parts.until("\r\n\r\n{}\r\n--graphql").await;
    parts.until("\r\n\r\n{}\r\n--graphql").await;
}

#[tokio::test]
async fn what_ends_with_its_credential_or_the_server_is_not_complete() {
    let server = Server::start(&[]).await;
    let forever = "subscription { forever }";
    for (form, end) in [(EVENTS, "complete"), (PARTS, "--graphql--")] {
        let ann = format!("{form}\nAuthorization: Bearer ann/{}", form.len());
        let mut reading = Reading::new(&server, &ann, forever).await;
        reading.until("{\"forever\":true}").await;
        server.toy().end(&format!("ann/{}", form.len()));
        let rest = reading.broken_off().await;
        assert!(!rest.contains(end), "{rest}");
    }
    let mut events = Reading::new(&server, EVENTS, forever).await;
    let mut parts = Reading::new(&server, PARTS, forever).await;
    for reading in [&mut events, &mut parts] {
        reading.until("{\"forever\":true}").await;
    }
    server.end.send(()).unwrap();
    let (events, parts) = (events.broken_off().await, parts.broken_off().await);
    assert!(
        !events.contains("complete") && !parts.contains("--graphql--"),
        "{events} {parts}"
    );
    timeout(PATIENCE, server.serving)
        .await
        .expect("the server ends")
        .unwrap();
}

#[tokio::test]
async fn a_client_that_takes_nothing_holds_up_nobody_and_is_left() {
    let server = Server::with(&[], |times| times.stall = Duration::from_millis(300)).await;
    let query = "subscription { endless(bytes: 65536) }";
    let mut deaf = Reading::new(&server, EVENTS, query).await;
    deaf.head().await;
    let mut other = Reading::new(&server, EVENTS, "subscription { count(to: 500) }").await;
    other.until("event: complete").await;
    let left = async {
        // what is on its way is taken, and then there is no more
        tokio::time::sleep(Duration::from_millis(600)).await;
        let mut bytes = Vec::new();
        let _ = deaf.stream.read_to_end(&mut bytes).await;
        bytes.len()
    };
    let length = timeout(PATIENCE, left).await.expect("it is left");
    assert!(length < 64 * 1024 * 1024, "{length}");
}
