//! Many who follow the same: sockets with several subscriptions on each.

use std::sync::Arc;

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};

use super::{Client, Frame, Socket};
use crate::wait::PATIENCE;

/// Sockets that are opened at once: an address may have twenty that have not yet said who they are.
const AT_ONCE: usize = 10;

/// Many who follow the same.
#[derive(Debug)]
pub struct Viewers {
    sockets: Vec<Socket>,
    each: usize,
}

impl Viewers {
    /// Seats `each` subscriptions on each of so many sockets, which belong to these clients in turn.
    ///
    /// # Panics
    ///
    /// When the server doesn't take them in.
    pub async fn seat(
        clients: &[Client],
        sockets: usize,
        each: usize,
        document: &str,
        variables: &Value,
    ) -> Self {
        let mut viewers = Self::open(clients, sockets).await;
        viewers.subscribe(each, document, variables).await;
        viewers
    }

    /// Opens sockets for them, on which nobody follows anything yet.
    ///
    /// # Panics
    ///
    /// When the server doesn't take them in.
    pub async fn open(clients: &[Client], sockets: usize) -> Self {
        let sockets: Vec<_> = stream::iter(0..sockets)
            .map(|at| {
                let client = &clients[at % clients.len()];
                async move {
                    let mut socket = Socket::open(&client.base)
                        .await
                        .unwrap_or_else(|closed| panic!("no socket: {closed}"));
                    client.initialise(&mut socket).await;
                    socket
                }
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        Self { sockets, each: 0 }
    }

    /// Seats `each` subscriptions on each socket.
    ///
    /// # Panics
    ///
    /// When a connection is broken.
    pub async fn subscribe(&mut self, each: usize, document: &str, variables: &Value) {
        let payload = json!({"query": document, "variables": variables});
        self.subscribe_to(each, |_| payload.clone()).await;
    }

    /// The same, where each has a payload of its own, by its number.
    ///
    /// # Panics
    ///
    /// When a connection is broken.
    pub async fn subscribe_to(&mut self, each: usize, payload: impl Fn(usize) -> Value) {
        let mut number = 0;
        for socket in &mut self.sockets {
            for id in self.each..self.each + each {
                let message =
                    json!({"id": id.to_string(), "type": "subscribe", "payload": payload(number)});
                number += 1;
                let sent = socket.send(&message).await;
                sent.unwrap_or_else(|closed| panic!("no subscription: {closed}"));
            }
        }
        self.each += each;
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.sockets.len() * self.each
    }

    /// Reads until `fold` has said of each viewer that this is all; answers what it made of the payloads of each.
    ///
    /// # Panics
    ///
    /// When a subscription ends, or nothing comes in time.
    pub async fn read<S: Default + Send + 'static>(
        &mut self,
        fold: impl Fn(&mut S, &Value) -> bool + Send + Sync + 'static,
    ) -> Vec<S> {
        let fold = Arc::new(fold);
        let each = self.each;
        let reading = std::mem::take(&mut self.sockets)
            .into_iter()
            .map(|mut socket| {
                let fold = fold.clone();
                tokio::spawn(async move {
                    let mut seen: Vec<S> = (0..each).map(|_| S::default()).collect();
                    let mut done = vec![false; each];
                    while done.contains(&false) {
                        match socket.receive(PATIENCE).await {
                            Frame::Message(message) if message["type"] == "next" => {
                                let id: usize = message["id"]
                                    .as_str()
                                    .and_then(|id| id.parse().ok())
                                    .unwrap_or(usize::MAX);
                                done[id] |= fold(&mut seen[id], &message["payload"]);
                            }
                            Frame::Message(message) if message["type"] == "ping" => {
                                drop(socket.send(&json!({"type": "pong"})).await);
                            }
                            Frame::Ping | Frame::Pong => {}
                            Frame::Message(message) if message["type"] == "pong" => {}
                            other => panic!("a viewer got {other:?}"),
                        }
                    }
                    (socket, seen)
                })
            });
        let mut all = Vec::with_capacity(self.count());
        for read in join_all(reading).await {
            let (socket, seen) = read.unwrap_or_else(|error| panic!("a viewer: {error}"));
            self.sockets.push(socket);
            all.extend(seen);
        }
        all
    }
}

impl Client {
    /// Says `connection_init` with this client's credential.
    ///
    /// # Panics
    ///
    /// When it is not taken in.
    pub async fn initialise(&self, socket: &mut Socket) {
        let payload = self
            .token
            .as_ref()
            .map(|token| json!({"Authorization": format!("Bearer {token}")}));
        let taken = socket.initialise(payload).await;
        taken.unwrap_or_else(|closed| panic!("{} took no socket in: {closed}", self.base));
    }
}
