//! Following, against a server of a few lines that speaks the protocol and breaks off where it is told to.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::CloseFrame,
    },
};

use super::*;
use crate::wait::{PATIENCE, within};

/// What a server does on one connection after the events from `after` on, `count` of them.
#[derive(Clone, Copy)]
enum Then {
    Break,
    Close(u16),
    Refuse,
    Complete,
    Wait,
}

struct Server {
    events: Vec<Value>,
    /// For the n-th connection: how many events it gets, and what follows. The last is for all after it.
    plan: Vec<(usize, Then)>,
    /// Events that each connection gets once more at its beginning.
    repeats: usize,
}

async fn serve(server: Server) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let server = Arc::new(server);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut connections, mut sockets) = (JoinSet::new(), 0);
        while let Ok((stream, _)) = listener.accept().await {
            let mut first = [0; 4];
            stream.peek(&mut first).await.unwrap();
            if &first == b"POST" {
                connections.spawn(introspect(stream));
            } else {
                connections.spawn(socket(stream, server.clone(), sockets));
                sockets += 1;
            }
        }
    });
    (format!("http://{address}"), tasks)
}

async fn introspect(mut stream: TcpStream) {
    let kinds = [
        "MessageCreated",
        "MessageCompleted",
        "RunStarted",
        "TextDelta",
        "RunCompleted",
    ];
    let kinds = kinds.map(|name| json!({"name": name}));
    let body = json!({"data": {"__type": {"possibleTypes": kinds}}}).to_string();
    let mut request = vec![0; 64 * 1024];
    let mut length = 0;
    // The body is the last thing that comes, and ends with its brace.
    while !request[..length].ends_with(b"}") {
        length += stream.read(&mut request[length..]).await.unwrap();
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
}

#[expect(clippy::result_large_err, reason = "the signature is the library's")]
fn with_protocol(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let name = "sec-websocket-protocol";
    if let Some(protocol) = request.headers().get(name) {
        response.headers_mut().insert(name, protocol.clone());
    }
    Ok(response)
}

async fn socket(stream: TcpStream, server: Arc<Server>, number: usize) {
    let mut socket = accept_hdr_async(stream, with_protocol).await.unwrap();
    let (count, then) = server.plan[number.min(server.plan.len() - 1)];
    while let Some(Ok(Message::Text(text))) = socket.next().await {
        let message: Value = serde_json::from_str(&text).unwrap();
        match message["type"].as_str().unwrap() {
            "connection_init" => {
                assert_eq!(message["payload"]["Authorization"], "Bearer token");
                say(&mut socket, &json!({"type": "connection_ack"})).await;
            }
            "subscribe" => {
                let after = message["payload"]["variables"]["after"]
                    .as_str()
                    .unwrap_or("0");
                let from = after
                    .parse::<usize>()
                    .unwrap()
                    .saturating_sub(server.repeats);
                // One `ping` in between, which the client must answer without taking it for an event.
                say(&mut socket, &json!({"type": "ping"})).await;
                for event in server.events[from..].iter().take(count) {
                    let payload = json!({"data": {"conversationEvents": event}});
                    say(
                        &mut socket,
                        &json!({"id": message["id"], "type": "next", "payload": payload}),
                    )
                    .await;
                }
            }
            "pong" => match then {
                Then::Break => return,
                Then::Close(code) => {
                    let frame = CloseFrame {
                        code: code.into(),
                        reason: "test".into(),
                    };
                    let _said = socket.close(Some(frame)).await;
                }
                Then::Refuse => {
                    say(
                        &mut socket,
                        &json!({"id": "1", "type": "error", "payload": [{"message": "no"}]}),
                    )
                    .await;
                }
                Then::Complete => say(&mut socket, &json!({"id": "1", "type": "complete"})).await,
                Then::Wait => {}
            },
            _ => return,
        }
    }
}

async fn say(socket: &mut tokio_tungstenite::WebSocketStream<TcpStream>, message: &Value) {
    // A client that has what it wanted may be gone.
    let _said = socket.send(Message::text(message.to_string())).await;
}

/// A run that says `words` words, its events numbered from 1 by their cursors.
fn run(words: usize) -> Vec<Value> {
    let mut events = vec![
        json!({"__typename": "RunStarted", "attempt": 1}),
        json!({"__typename": "MessageCreated", "messageId": "m", "message": {"role": "ASSISTANT"}}),
    ];
    let mut text = String::new();
    for n in 0..words {
        let word = format!("🧵{n} ");
        let offset = text.encode_utf16().count();
        events.push(json!({"__typename": "TextDelta", "messageId": "m", "part": 0, "offset": offset, "text": word}));
        text += &word;
    }
    let message = json!({"role": "ASSISTANT", "text": text});
    events.push(json!({"__typename": "MessageCompleted", "messageId": "m", "message": message}));
    events.push(json!({"__typename": "RunCompleted"}));
    for (at, event) in events.iter_mut().enumerate() {
        event["cursor"] = json!((at + 1).to_string());
        event["runId"] = json!("r");
    }
    events
}

fn client(base: &str) -> Client {
    Client::new(base).with_token(Some("token"))
}

#[tokio::test]
async fn comes_back_after_every_break() {
    let plan = vec![
        (3, Then::Break),
        (4, Then::Close(1012)),
        (0, Then::Break),
        (1, Then::Close(1001)),
        (99, Then::Wait),
    ];
    let (base, _server) = serve(Server {
        events: run(12),
        plan,
        repeats: 0,
    })
    .await;
    let mut follower = Follower::new(&client(&base), "c", None).await;
    assert_eq!(
        follower.until_end_of("r", PATIENCE).await.unwrap(),
        "RunCompleted"
    );
    follower.transcript.assert_faultless();
    assert_eq!(follower.transcript.events.len(), 16);
    assert_eq!(follower.breaks, 4);
    assert!(follower.transcript.said("r").ends_with("🧵11 "));
}

#[tokio::test]
async fn notices_a_repeat_across_a_break() {
    let plan = vec![(6, Then::Break), (99, Then::Wait)];
    let (base, _server) = serve(Server {
        events: run(12),
        plan,
        repeats: 1,
    })
    .await;
    let mut follower = Follower::new(&client(&base), "c", None).await;
    follower.until_end_of("r", PATIENCE).await.unwrap();
    assert_eq!(
        follower.transcript.faults,
        [Fault::Repeated("6".to_owned())]
    );
}

#[tokio::test]
async fn stops_where_coming_back_would_not_help() {
    for (then, closed) in [
        (
            Then::Refuse,
            Closed::Refused(vec![json!({"message": "no"})]),
        ),
        (Then::Complete, Closed::Complete),
        (Then::Close(4403), Closed::Code(4403, "test".to_owned())),
    ] {
        let (base, _server) = serve(Server {
            events: run(3),
            plan: vec![(1, then)],
            repeats: 0,
        })
        .await;
        let mut follower = Follower::new(&client(&base), "c", None).await;
        assert_eq!(
            follower.until_end_of("r", PATIENCE).await.unwrap_err(),
            Stopped(closed)
        );
    }
}

#[tokio::test]
async fn goes_to_the_next_replica() {
    let one = serve(Server {
        events: run(5),
        plan: vec![(4, Then::Break)],
        repeats: 0,
    })
    .await;
    let two = serve(Server {
        events: run(5),
        plan: vec![(99, Then::Wait)],
        repeats: 0,
    })
    .await;
    let mut follower = Follower::across(&[client(&one.0), client(&two.0)], "c", None).await;
    follower.until_end_of("r", PATIENCE).await.unwrap();
    follower.transcript.assert_faultless();
    assert_eq!(follower.breaks, 1);
}

#[tokio::test]
async fn one_subscription_event_by_event() {
    let (base, _server) = serve(Server {
        events: run(2),
        plan: vec![(3, Then::Wait)],
        repeats: 0,
    })
    .await;
    let mut subscription = client(&base)
        .subscribe("subscription { x }", json!({}))
        .await;
    let first = subscription.next(PATIENCE).await.unwrap();
    assert_eq!(first["conversationEvents"]["cursor"], "1");
    let rest = subscription
        .until(|event| event["conversationEvents"]["cursor"] == "3")
        .await;
    assert_eq!(rest.len(), 2);
    subscription.quiet(Duration::from_millis(20)).await;
    assert_eq!(subscription.ended(), None);
    subscription.close().await;
}

#[tokio::test]
async fn a_server_that_is_away_is_a_break() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let away = client(&base)
        .try_subscribe("subscription { x }", json!({}))
        .await
        .unwrap_err();
    assert!(away.is_a_break(), "{away}");
    let away = within(
        PATIENCE,
        "an error",
        client(&base).try_query("{ x }", json!({})),
    )
    .await;
    assert!(away.unwrap_err().is_connect());
}
