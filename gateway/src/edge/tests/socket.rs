//! Every rule of `graphql-transport-ws`, tried with a client of another make.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        protocol::frame::{
            CloseFrame, Frame,
            coding::{Data, OpCode},
        },
    },
};

use super::server::{PATIENCE, Server};

/// What a client gets.
#[derive(Debug, PartialEq)]
enum Got {
    Message(Value),
    Closed(u16, String),
    /// Without a close frame.
    Gone,
}

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn try_open(server: &Server, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let mut request = format!("ws://{}/graphql", server.address)
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        Ok(Self(connect_async(request).await?.0))
    }

    async fn open(server: &Server) -> Self {
        Self::try_open(
            server,
            &[("sec-websocket-protocol", "graphql-transport-ws")],
        )
        .await
        .unwrap()
    }

    /// Open and initialised.
    async fn of(server: &Server, token: &str) -> Self {
        let mut socket = Self::open(server).await;
        socket.send(json!({"type": "connection_init", "payload": {"authorization": format!("Bearer {token}")}})).await;
        socket.expect(json!({"type": "connection_ack"})).await;
        socket
    }

    async fn send(&mut self, message: Value) {
        self.text(message.to_string()).await;
    }

    async fn text(&mut self, text: impl Into<String>) {
        self.0
            .send(Message::Text(text.into().into()))
            .await
            .unwrap();
    }

    async fn subscribe(&mut self, id: &str, query: &str) {
        self.send(json!({"id": id, "type": "subscribe", "payload": {"query": query}}))
            .await;
    }

    /// Subscribes to what never ends, and waits until it runs.
    async fn forever(&mut self, id: &str) {
        self.subscribe(id, "subscription { forever }").await;
        self.expect(json!({"id": id, "type": "next", "payload": {"data": {"forever": true}}}))
            .await;
    }

    async fn next(&mut self) -> Got {
        loop {
            match timeout(PATIENCE, self.0.next())
                .await
                .expect("a message in time")
            {
                Some(Ok(Message::Text(text))) => {
                    return Got::Message(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Got::Closed(frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) | None => return Got::Gone,
            }
        }
    }

    async fn expect(&mut self, message: Value) {
        assert_eq!(self.next().await, Got::Message(message));
    }

    async fn expect_close(&mut self, code: u16, reason: &str) {
        match self.next().await {
            Got::Closed(got, why) => assert!(
                got == code && why.contains(reason),
                "{got} {why}; not {code} {reason}"
            ),
            other => panic!("{other:?}; not {code} {reason}"),
        }
    }

    /// The code and message of an `error` about `id`.
    async fn expect_error(&mut self, id: &str, code: &str) -> Value {
        let Got::Message(message) = self.next().await else {
            panic!("no message")
        };
        assert_eq!(
            (&message["id"], &message["type"]),
            (&json!(id), &json!("error")),
            "{message}"
        );
        assert_eq!(
            message["payload"][0]["extensions"]["code"],
            json!(code),
            "{message}"
        );
        assert!(message["payload"][0]["extensions"]["requestId"].is_string());
        message
    }
}

const INIT: &str = r#"{"type":"connection_init"}"#;
const NEVER: &str = r#"{"id":"1","type":"subscribe","payload":{"query":"{ never }"}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_the_protocol_closes_the_socket() {
    let server = Server::start(&[("WEFT_LIMITS__MAX_REQUEST_BYTES", "65536")]).await;
    let large = |bytes: usize| {
        format!(
            r#"{{"type":"connection_init","payload":{{"x":"{}"}}}}"#,
            "x".repeat(bytes)
        )
    };
    let (large_init, too_large) = (large(17_000), large(70_000));
    let cases: &[(&[&str], u16, &str)] = &[
        (&["nonsense"], 4400, "Invalid message: not JSON"),
        (&["[]"], 4400, "not an object"),
        (&[INIT, r#"{"type":"start"}"#], 4400, "unknown `type`"),
        (
            &[
                INIT,
                r#"{"type":"subscribe","id":"1","payload":{"query":5}}"#,
            ],
            4400,
            "`query`",
        ),
        (
            &[r#"{"type":"connection_init","payload":[]}"#],
            4400,
            "`payload`",
        ),
        (&[&large_init], 4400, "too large before connection_init"),
        (&[&too_large], 1009, "too big"),
        (&[INIT, &too_large], 1009, "too big"),
        (&[NEVER], 4401, "Unauthorized"),
        (&[INIT, INIT], 4429, "Too many initialisation requests"),
        (
            &[INIT, NEVER, NEVER],
            4409,
            "Subscriber for 1 already exists",
        ),
        (
            &[r#"{"type":"connection_init","payload":{"Authorization":"Bearer bad"}}"#],
            4403,
            "not valid",
        ),
        (
            &[r#"{"type":"connection_init","payload":{"Authorization":"Basic x"}}"#],
            4403,
            "Bearer",
        ),
        (
            &[r#"{"type":"connection_init","payload":{"Authorization":5}}"#],
            4403,
            "authorization",
        ),
        (
            &[
                r#"{"type":"connection_init","payload":{"Authorization":"Bearer a","x-api-key":"b"}}"#,
            ],
            4403,
            "two different",
        ),
        (
            &[r#"{"type":"connection_init","payload":{"Authorization":"Bearer broken"}}"#],
            1013,
            "try again",
        ),
    ];
    for (messages, code, reason) in cases {
        let mut socket = Socket::open(&server).await;
        for message in *messages {
            socket.text(*message).await;
        }
        if messages.len() > 1 {
            socket.expect(json!({"type": "connection_ack"})).await;
        }
        socket.expect_close(*code, reason).await;
    }
    let binary = Message::Binary(INIT.as_bytes().to_vec().into());
    let not_utf8 = Message::Frame(Frame::message(
        vec![b'"', 0xff],
        OpCode::Data(Data::Text),
        true,
    ));
    for (message, code, reason) in [(binary, 4400, "binary"), (not_utf8, 1007, "UTF-8")] {
        let mut socket = Socket::open(&server).await;
        socket.0.send(message).await.unwrap();
        socket.expect_close(code, reason).await;
    }
}

/// Python's `gql`, left to itself, finds the protocol only under the name as it wrote it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_protocol_is_answered_by_the_name_that_asked_for_it() {
    let server = Server::start(&[]).await;
    for name in [
        "Sec-WebSocket-Protocol",
        "sec-websocket-protocol",
        "SEC-WebSocket-protocol",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!(
            "GET /graphql HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{name}: graphql-transport-ws, graphql-ws\r\n\r\n",
            server.address
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let line = format!("\r\n{name}: graphql-transport-ws\r\n");
        assert!(head.contains(&line), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades() {
    let server = Server::start(&[]).await;
    let mut without = Socket::try_open(&server, &[]).await.unwrap();
    without
        .expect_close(4406, "Subprotocol not acceptable")
        .await;
    let protocol = ("sec-websocket-protocol", "graphql-transport-ws");
    let cases: &[(&'static str, &str, u16)] = &[
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("host", "evil.example", 421),
        ("sec-websocket-version", "12", 400),
    ];
    for (name, value, status) in cases {
        match Socket::try_open(&server, &[protocol, (name, value)]).await {
            Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), *status, "{name}"),
            other => panic!("{name}: {:?}", other.map(|_| ())),
        }
    }
    let several = ("sec-websocket-protocol", "graphql-ws, graphql-transport-ws");
    let mut socket = Socket::try_open(&server, &[several, ("authorization", "Bearer ann")])
        .await
        .unwrap();
    // a credential of the upgrade counts where the payload has none
    socket.text(INIT).await;
    socket.expect(json!({"type": "connection_ack"})).await;
    socket.subscribe("1", "{ me }").await;
    socket.expect(json!({"id": "1", "type": "next", "payload": {"data": {"me": "ann - 127.0.0.1 true WebSocket"}}})).await;
    let mut socket = Socket::try_open(&server, &[protocol, ("authorization", "Bearer ann")])
        .await
        .unwrap();
    socket
        .send(json!({"type": "connection_init", "payload": {"Authorization": "Bearer bob"}}))
        .await;
    socket.expect_close(4403, "two different").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations() {
    let server = Server::start(&[]).await;
    let mut socket = Socket::of(&server, "ann").await;
    socket
        .send(json!({"type": "ping", "payload": {"x": 1}}))
        .await;
    socket.expect(json!({"type": "pong"})).await;
    socket.send(json!({"type": "pong"})).await;
    let answers = [
        ("{ hello }", vec![json!({"hello": "hello world"})]),
        ("mutation { double(n: 2) }", vec![json!({"double": 4})]),
        (
            "subscription { count(to: 3) }",
            vec![
                json!({"count": 1}),
                json!({"count": 2}),
                json!({"count": 3}),
            ],
        ),
        ("subscription { count(to: 0) }", vec![]),
    ];
    for (query, expected) in answers {
        // the same id, free again as soon as it has ended
        socket.subscribe("1", query).await;
        for data in expected {
            socket
                .expect(json!({"id": "1", "type": "next", "payload": {"data": data}}))
                .await;
        }
        socket.expect(json!({"id": "1", "type": "complete"})).await;
    }
    let deep = format!("{}x{}", "{a".repeat(15) + "{", "}".repeat(16));
    let refused = [
        ("{ hello", "INVALID_INPUT"),
        ("{ nope }", "INVALID_INPUT"),
        ("subscription { nope }", "INVALID_INPUT"),
        ("subscription($n: Int!) { count(to: $n) }", "INVALID_INPUT"),
        ("subscription { count(to: 1) forever }", "INVALID_INPUT"),
        (
            "subscription { count(to: 1) @skip(if: true) ...f } fragment f on Events { forever }",
            "INVALID_INPUT",
        ),
        (&deep, "QUERY_TOO_COMPLEX"),
        ("{ panics }", "INTERNAL"),
        ("subscription { panics }", "INTERNAL"),
    ];
    for (query, code) in refused {
        socket.subscribe("e", query).await;
        let message = socket.expect_error("e", code).await;
        assert!(!message.to_string().contains("in a "), "{message}");
    }
    // what ran and failed is an answer
    socket.subscribe("f", "{ denied }").await;
    let Got::Message(message) = socket.next().await else {
        panic!()
    };
    assert_eq!(
        (&message["type"], &message["payload"]["errors"][0]["path"]),
        (&json!("next"), &json!(["denied"]))
    );
    socket.expect(json!({"id": "f", "type": "complete"})).await;
    // one that is not there has only crossed its end
    socket.send(json!({"id": "f", "type": "complete"})).await;
    socket.subscribe("g", "{ hello }").await;
    socket
        .expect(json!({"id": "g", "type": "next", "payload": {"data": {"hello": "hello world"}}}))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsubscribing_ends_the_stream_and_frees_the_id() {
    let server = Server::start(&[]).await;
    let mut socket = Socket::of(&server, "ann").await;
    for _ in 0..3 {
        socket.forever("1").await;
        socket.send(json!({"id": "1", "type": "complete"})).await;
        timeout(PATIENCE, server.toy().dropped.notified())
            .await
            .unwrap();
    }
    // nothing of a cancelled operation is taken for one of its successor
    socket
        .subscribe("1", "subscription { endless(bytes: 9) }")
        .await;
    assert!(matches!(socket.next().await, Got::Message(_)));
    socket.send(json!({"id": "1", "type": "complete"})).await;
    socket.send(json!({"type": "ping"})).await;
    while socket.next().await != Got::Message(json!({"type": "pong"})) {}
    socket.subscribe("1", "{ hello }").await;
    socket
        .expect(json!({"id": "1", "type": "next", "payload": {"data": {"hello": "hello world"}}}))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits() {
    let variables = [
        ("WEFT_LIMITS__MAX_SUBSCRIPTIONS_PER_CONNECTION", "2"),
        ("WEFT_LIMITS__MAX_CONNECTIONS_PER_USER", "2"),
    ];
    let server = Server::start(&variables).await;
    let mut first = Socket::of(&server, "ann/1").await;
    for id in ["1", "2"] {
        first.forever(id).await;
    }
    first.subscribe("3", "subscription { forever }").await;
    let message = first.expect_error("3", "RATE_LIMITED").await;
    let extensions = &message["payload"][0]["extensions"];
    assert_eq!(
        (&extensions["limit"], &extensions["actual"]),
        (&json!(2), &json!(3))
    );

    let _second = Socket::of(&server, "ann/2").await;
    let _another = Socket::of(&server, "bob").await;
    let mut third = Socket::open(&server).await;
    third
        .send(json!({"type": "connection_init", "payload": {"X-API-Key": "ann/3"}}))
        .await;
    third.expect_close(4429, "Too many connections").await;
    drop(first);
    // both of its subscriptions end with it; then there is room again
    timeout(PATIENCE, server.toy().dropped.notified())
        .await
        .unwrap();
    let room = async {
        loop {
            let mut socket = Socket::open(&server).await;
            socket
                .send(json!({"type": "connection_init", "payload": {"X-API-Key": "ann/3"}}))
                .await;
            if socket.next().await == Got::Message(json!({"type": "connection_ack"})) {
                break;
            }
        }
    };
    timeout(PATIENCE, room).await.unwrap();

    // without a credential nobody is counted as a user, but all as an address until they are initialised
    let mut unknown = Vec::new();
    for _ in 0..20 {
        unknown.push(Socket::open(&server).await);
    }
    Socket::open(&server)
        .await
        .expect_close(4429, "Too many connections")
        .await;
    let known = &mut unknown[0];
    known.text(INIT).await;
    known.expect(json!({"type": "connection_ack"})).await;
    let mut next = Socket::open(&server).await;
    next.text(INIT).await;
    next.expect(json!({"type": "connection_ack"})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_without_init_is_closed() {
    let server = Server::with(&[], |times| times.init = Duration::from_millis(50)).await;
    let mut socket = Socket::open(&server).await;
    socket.send(json!({"type": "ping"})).await;
    socket.expect(json!({"type": "pong"})).await;
    socket
        .expect_close(4408, "Connection initialisation timeout")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_end_and_are_renewed() {
    let server = Server::start(&[]).await;
    let ping = |token: &str| json!({"type": "ping", "payload": {"Authorization": format!("Bearer {token}")}});
    let mut socket = Socket::of(&server, "ann/1").await;
    socket.forever("1").await;
    socket.send(ping("ann/2")).await;
    socket.expect(json!({"type": "pong"})).await;
    // the old one's end is nothing to the socket any more
    server.toy().end("ann/1");
    socket.subscribe("2", "{ me }").await;
    socket.expect(json!({"id": "2", "type": "next", "payload": {"data": {"me": "ann - 127.0.0.1 true WebSocket"}}})).await;
    socket.expect(json!({"id": "2", "type": "complete"})).await;
    server.toy().end("ann/2");
    socket.expect_close(4403, "Session ended").await;
    timeout(PATIENCE, server.toy().dropped.notified())
        .await
        .unwrap();

    for (token, reason) in [("bob", "another"), ("bad", "not valid")] {
        let mut socket = Socket::of(&server, "ann/3").await;
        socket.send(ping(token)).await;
        socket.expect_close(4403, reason).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_always_has_more_leaves_the_others_their_turn() {
    let server = Server::start(&[]).await;
    let mut socket = Socket::of(&server, "ann").await;
    socket
        .subscribe("noisy", "subscription { endless(bytes: 100) }")
        .await;
    assert!(matches!(socket.next().await, Got::Message(_)));
    socket
        .subscribe("quiet", "subscription { count(to: 200) }")
        .await;
    let (mut noisy, mut quiet) = (0, 0);
    loop {
        let Got::Message(message) = socket.next().await else {
            panic!("closed")
        };
        match (
            message["id"].as_str().unwrap(),
            message["type"].as_str().unwrap(),
        ) {
            ("noisy", "next") if quiet > 0 => noisy += 1,
            ("noisy", _) => {}
            ("quiet", "next") => quiet += 1,
            (_, "complete") => break,
            _ => panic!("{message}"),
        }
    }
    assert_eq!(quiet, 200);
    assert!(noisy < 1000, "{noisy} of one for 200 of the other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_left() {
    let server = Server::with(&[], |times| times.stall = Duration::from_millis(200)).await;
    let mut socket = Socket::of(&server, "ann").await;
    socket.forever("1").await;
    for id in 2..10 {
        socket
            .subscribe(&id.to_string(), "subscription { endless(bytes: 100000) }")
            .await;
    }
    timeout(PATIENCE, server.toy().dropped.notified())
        .await
        .unwrap();
    drop(socket);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_answer_is_left_and_one_that_does_stays() {
    let silence = Duration::from_millis(400);
    let server = Server::with(&[], |times| {
        (times.ping, times.silence) = (silence / 4, silence);
    })
    .await;
    let mut alive = Socket::of(&server, "bob").await;
    // while it reads it answers pings
    let end = async { while let Some(Ok(Message::Ping(_))) = alive.0.next().await {} };
    assert!(timeout(silence * 3, end).await.is_err());
    alive.send(json!({"type": "ping"})).await;
    alive.expect(json!({"type": "pong"})).await;
    let mut silent = Socket::of(&server, "ann").await;
    silent.forever("1").await;
    timeout(PATIENCE, server.toy().dropped.notified())
        .await
        .unwrap();
    silent.expect_close(1001, "No answer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_takes_its_operations_along() {
    let server = Server::start(&[]).await;
    let leaving = CloseFrame {
        code: 1000.into(),
        reason: "Normal Closure".into(),
    };
    for half in [true, false] {
        let mut socket = Socket::of(&server, "ann").await;
        socket.forever("1").await;
        match (half, socket.0.get_mut()) {
            (true, MaybeTlsStream::Plain(stream)) => stream.shutdown().await.unwrap(),
            _ => socket.0.close(Some(leaving.clone())).await.unwrap(),
        }
        timeout(PATIENCE, server.toy().dropped.notified())
            .await
            .unwrap();
        let end = match half {
            true => Got::Gone,
            // its close frame is answered, else clients take it for a broken connection
            false => Got::Closed(1000, "Normal Closure".to_owned()),
        };
        assert_eq!(socket.next().await, end);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_tells_clients_to_come_back() {
    let server = Server::start(&[]).await;
    let mut quiet = Socket::of(&server, "ann").await;
    quiet.forever("1").await;
    let mut unknown = Socket::open(&server).await;
    let mut noisy = Socket::of(&server, "bob").await;
    noisy
        .subscribe("1", "subscription { endless(bytes: 1000) }")
        .await;
    assert!(matches!(noisy.next().await, Got::Message(_)));
    server.end.send(()).unwrap();
    for socket in [&mut quiet, &mut unknown] {
        socket.expect_close(1012, "Service Restart").await;
    }
    let end = async {
        loop {
            match noisy.next().await {
                Got::Message(_) => {}
                end => return end,
            }
        }
    };
    assert!(matches!(
        timeout(PATIENCE, end).await.unwrap(),
        Got::Closed(1012, _)
    ));
    drop((quiet, unknown, noisy));
    timeout(PATIENCE, server.serving).await.unwrap().unwrap();
}
