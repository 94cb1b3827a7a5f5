//! Sockets of `graphql-transport-ws`: frame by frame for tests of the protocol, or as one subscription.

use std::{fmt, io, net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async, connect_async,
    tungstenite::{ClientRequestBuilder, Error, Message, http::Uri},
};

use crate::wait::{PATIENCE, within};

/// The subprotocol.
pub const PROTOCOL: &str = "graphql-transport-ws";

/// How a socket, or what ran on it, came to its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Closed {
    /// The operation was complete.
    Complete,
    /// The operation was refused, or failed: the errors.
    Refused(Vec<Value>),
    /// The server closed the socket with this code and reason.
    Code(u16, String),
    /// The upgrade was answered with this HTTP status.
    Status(u16),
    /// The connection broke, or was never made.
    Broken(String),
}

impl Closed {
    /// Whether it says nothing of the operation, so that whoever wants the rest comes back.
    pub fn is_a_break(&self) -> bool {
        match self {
            Self::Complete | Self::Refused(_) => false,
            // 1000 to 1014 are about the connection; 44xx is the server's verdict on the client.
            Self::Code(code, _) => *code < 4400,
            Self::Status(status) => *status >= 500,
            Self::Broken(_) => true,
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::Refused(errors) => write!(f, "refused: {errors:?}"),
            Self::Code(code, reason) => write!(f, "closed with {code} {reason}"),
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::Broken(why) => write!(f, "broken: {why}"),
        }
    }
}

/// What came over a socket.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A message of the protocol.
    Message(Value),
    /// A text that is no JSON.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// WebSocket's own ping, which was answered.
    Ping,
    /// WebSocket's own pong.
    Pong,
    /// The end. Nothing comes after it.
    Closed(Closed),
}

/// A socket, not initialised unless [`Socket::initialise`] is called.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    /// Opens one at the base address of a server, with the protocol's subprotocol.
    ///
    /// # Errors
    ///
    /// How it came to nothing.
    pub async fn open(base: &str) -> Result<Self, Closed> {
        Self::open_with(base, Some(PROTOCOL), &[]).await
    }

    /// Opens one with another subprotocol, or none, and these headers.
    ///
    /// # Errors
    ///
    /// How it came to nothing.
    ///
    /// # Panics
    ///
    /// When the base address is none.
    pub async fn open_with(
        base: &str,
        subprotocol: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Result<Self, Closed> {
        let address = format!("{}/graphql", base.replacen("http", "ws", 1));
        let uri: Uri = address
            .parse()
            .unwrap_or_else(|error| panic!("{address} is no address: {error}"));
        let mut request = ClientRequestBuilder::new(uri);
        if let Some(subprotocol) = subprotocol {
            request = request.with_sub_protocol(subprotocol);
        }
        for (name, value) in headers {
            request = request.with_header(*name, *value);
        }
        match tokio::time::timeout(PATIENCE, connect_async(request)).await {
            Ok(Ok((stream, _))) => Ok(Self { stream }),
            Ok(Err(Error::Http(answer))) => Err(Closed::Status(answer.status().as_u16())),
            Ok(Err(error)) => Err(Closed::Broken(error.to_string())),
            Err(_) => Err(Closed::Broken("no answer to the upgrade".to_owned())),
        }
    }

    /// Opens one whose machine takes in next to nothing that is not read.
    ///
    /// # Panics
    ///
    /// When the server doesn't take it in.
    pub async fn open_narrow(address: SocketAddr) -> Self {
        let opened = async {
            let socket = TcpSocket::new_v4()?;
            socket.set_recv_buffer_size(4096)?;
            let stream = MaybeTlsStream::Plain(socket.connect(address).await?);
            let uri: Uri = format!("ws://{address}/graphql")
                .parse()
                .map_err(io::Error::other)?;
            let request = ClientRequestBuilder::new(uri).with_sub_protocol(PROTOCOL);
            let (stream, _) = client_async(request, stream)
                .await
                .map_err(io::Error::other)?;
            io::Result::Ok(Self { stream })
        };
        let opened = within(PATIENCE, "an answer to the upgrade", opened).await;
        opened.unwrap_or_else(|error| panic!("{address} takes no socket in: {error}"))
    }

    /// Says `connection_init` and waits for its acknowledgement.
    ///
    /// # Errors
    ///
    /// How the server closed the socket instead.
    ///
    /// # Panics
    ///
    /// When it does something else.
    pub async fn initialise(&mut self, payload: Option<Value>) -> Result<(), Closed> {
        let mut message = json!({"type": "connection_init"});
        if let Some(payload) = payload {
            message["payload"] = payload;
        }
        self.send(&message).await?;
        match self.receive(PATIENCE).await {
            Frame::Message(message) if message["type"] == "connection_ack" => Ok(()),
            Frame::Closed(closed) => Err(closed),
            other => panic!("no acknowledgement, but {other:?}"),
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    pub async fn send(&mut self, message: &Value) -> Result<(), Closed> {
        self.send_text(message.to_string()).await
    }

    /// Sends a text, whatever it is.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    pub async fn send_text(&mut self, text: impl Into<String>) -> Result<(), Closed> {
        self.send_frame(Message::text(text.into())).await
    }

    /// Sends bytes.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) -> Result<(), Closed> {
        self.send_frame(Message::binary(bytes)).await
    }

    async fn send_frame(&mut self, frame: Message) -> Result<(), Closed> {
        self.stream
            .send(frame)
            .await
            .map_err(|error| Closed::Broken(error.to_string()))
    }

    /// The next thing that comes. The protocol's own `ping` is not answered here.
    ///
    /// # Panics
    ///
    /// When nothing comes within the deadline.
    pub async fn receive(&mut self, deadline: Duration) -> Frame {
        within(deadline, "a frame on the socket", self.next_frame()).await
    }

    /// As [`Socket::receive`], but waits for ever. May be dropped and called again without a loss.
    async fn next_frame(&mut self) -> Frame {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(message) => Frame::Message(message),
                Err(_) => Frame::Text(text.to_string()),
            },
            Some(Ok(Message::Binary(bytes))) => Frame::Binary(bytes.to_vec()),
            Some(Ok(Message::Ping(_))) => Frame::Ping,
            Some(Ok(Message::Pong(_) | Message::Frame(_))) => Frame::Pong,
            Some(Ok(Message::Close(Some(close)))) => {
                Frame::Closed(Closed::Code(close.code.into(), close.reason.to_string()))
            }
            // 1005 stands for a close without a code.
            Some(Ok(Message::Close(None))) => Frame::Closed(Closed::Code(1005, String::new())),
            Some(Err(error)) => Frame::Closed(Closed::Broken(error.to_string())),
            None => Frame::Closed(Closed::Broken("the connection ended".to_owned())),
        }
    }

    /// Closes it with a code.
    pub async fn close(mut self, code: u16) {
        let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        // Whether the other side still listens is its own affair.
        let _said = self.stream.close(Some(frame)).await;
    }
}

/// A subscription on a socket of its own.
#[derive(Debug)]
pub struct Subscription {
    socket: Socket,
    ended: Option<Closed>,
}

/// The only operation on a subscription's socket.
const ID: &str = "1";

impl Subscription {
    /// Subscribes on a socket that is initialised.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    pub async fn on(mut socket: Socket, document: &str, variables: Value) -> Result<Self, Closed> {
        let payload = json!({"query": document, "variables": variables});
        socket
            .send(&json!({"id": ID, "type": "subscribe", "payload": payload}))
            .await?;
        Ok(Self {
            socket,
            ended: None,
        })
    }

    /// The data of the next event; nothing when there will be none, and [`Subscription::ended`] tells why.
    ///
    /// # Panics
    ///
    /// When neither comes within the deadline, or when an event has errors.
    pub async fn next(&mut self, deadline: Duration) -> Option<Value> {
        let payload = self.next_payload(deadline).await?;
        assert!(
            payload.get("errors").is_none(),
            "an event with errors: {payload:#}"
        );
        Some(payload["data"].clone())
    }

    /// The next event as it came, with its errors.
    ///
    /// # Panics
    ///
    /// When nothing comes within the deadline, or what is not of the protocol.
    pub async fn next_payload(&mut self, deadline: Duration) -> Option<Value> {
        within(
            deadline,
            "an event, or the end of the subscription",
            self.payload(),
        )
        .await
    }

    /// Waits for ever. May be dropped and called again without a loss.
    async fn payload(&mut self) -> Option<Value> {
        while self.ended.is_none() {
            match self.socket.next_frame().await {
                Frame::Message(mut message) => match message["type"].as_str().unwrap_or_default() {
                    "next" => return Some(message["payload"].take()),
                    "complete" => self.ended = Some(Closed::Complete),
                    "error" => {
                        let errors = message["payload"].as_array().cloned().unwrap_or_default();
                        self.ended = Some(Closed::Refused(errors));
                    }
                    // A break shows at the next read.
                    "ping" => drop(self.socket.send(&json!({"type": "pong"})).await),
                    "pong" => {}
                    _ => panic!("not of the protocol: {message}"),
                },
                Frame::Ping | Frame::Pong => {}
                Frame::Closed(closed) => self.ended = Some(closed),
                other => panic!("not of the protocol: {other:?}"),
            }
        }
        None
    }

    /// The events up to the first that is wanted, that one included.
    ///
    /// # Panics
    ///
    /// When it doesn't come within [`PATIENCE`], or the subscription ends before.
    pub async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        let all = async {
            loop {
                match self.next(PATIENCE).await {
                    Some(event) => events.push(event),
                    None => panic!(
                        "ended ({:?}) before the wanted event; so far: {events:#?}",
                        self.ended
                    ),
                }
                if events.last().is_some_and(&wanted) {
                    return events;
                }
            }
        };
        within(PATIENCE, "the wanted event", all).await
    }

    /// Makes sure that nothing comes for a while, neither an event nor the end.
    ///
    /// # Panics
    ///
    /// When something does.
    pub async fn quiet(&mut self, while_: Duration) {
        if let Ok(payload) = tokio::time::timeout(while_, self.payload()).await {
            panic!("not quiet: {payload:?}, ended: {:?}", self.ended);
        }
    }

    /// How it ended, once it has.
    pub fn ended(&self) -> Option<&Closed> {
        self.ended.as_ref()
    }

    /// Sends a message of the protocol on its socket, such as a `ping` with a new credential.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    pub async fn send(&mut self, message: &Value) -> Result<(), Closed> {
        self.socket.send(message).await
    }

    /// Says that no more is wanted and closes the socket. To break it off instead, drop it.
    pub async fn close(mut self) {
        // Whether the other side still listens is its own affair.
        let _said = self
            .socket
            .send(&json!({"id": ID, "type": "complete"}))
            .await;
        self.socket.close(1000).await;
    }
}
