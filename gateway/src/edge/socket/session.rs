//! A socket from its upgrade to its close frame.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use adapters::{meter, spans};
use axum::extract::ws::{Message, WebSocket};
use futures_util::{
    FutureExt, SinkExt, StreamExt,
    future::{BoxFuture, pending},
    stream::SplitStream,
};
use serde_json::{Map, Value};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite;
use tracing::Instrument;

use super::{
    census::Seat,
    close::Closing,
    message::{self, Incoming},
    operation::{self, End},
    outbox::{Mail, Outbox, outbox},
};
use crate::edge::{
    Client, Code, Edge, Graph, Refused, Transport, client::Given, counted_as, document::Unfit,
    request::Asked,
};

/// Bytes of a message before `connection_init` was accepted.
const MAX_UNKNOWN_BYTES: usize = 16 * 1024;

/// Serves one socket until either side ends it.
pub(in crate::edge) async fn run<G: Graph>(
    edge: Arc<Edge<G>>,
    graph: Arc<G>,
    socket: WebSocket,
    client: Client,
    given: Given,
    request_id: String,
) {
    let _open = meter::Open::socket();
    let spoken = socket.protocol().is_some();
    let (mut sink, mut stream) = socket.split();
    let (outbox, mut outgoing) = outbox();
    let unknown = edge.census().unknown(counted_as(client.address));
    let closing = match unknown {
        _ if !spoken => Some(Closing::no_protocol()),
        None => Some(Closing::too_many_sockets()),
        Some(unknown) => {
            let mut session = Session {
                state: State::Unknown { _seat: unknown },
                ended: pending().boxed(),
                operations: JoinSet::new(),
                open: Arc::default(),
                count: 0,
                edge: edge.clone(),
                graph,
                client,
                given,
                request_id,
                outbox,
            };
            tokio::select! {
                closing = session.listen(&mut stream) => closing,
                () = outgoing.write(&mut sink, edge.times().ping) => None,
            }
            // the session ends here, and its operations with it
        }
    };
    let close = async {
        let Some(closing) = closing else {
            // the answer to the client's close frame; where there was none, nobody takes it
            let _ = sink.close().await;
            return;
        };
        tracing::debug!(?closing, "closing a socket");
        outgoing.rest(&mut sink).await;
        let frame = Message::Close(Some(closing.frame()));
        if sink.send(frame).await.is_ok() {
            // reads on until the client has answered: what lies unread would else reset the connection
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    let _ = timeout(edge.times().close, close).await;
}

/// Who is at the other end. Seats count while they are held.
enum State<C> {
    Unknown {
        _seat: Seat<IpAddr>,
    },
    Known {
        caller: C,
        _seat: Option<Seat<String>>,
    },
}

/// Operations under way, by the client's ids.
type Open = Arc<Mutex<HashMap<String, Running>>>;

struct Running {
    task: AbortHandle,
    live: Arc<AtomicBool>,
}

struct Session<G: Graph> {
    edge: Arc<Edge<G>>,
    graph: Arc<G>,
    client: Client,
    /// What the headers gave, then what `connection_init` made of it.
    given: Given,
    request_id: String,
    outbox: Outbox,
    state: State<G::Caller>,
    /// Resolves when the caller's credential no longer holds.
    ended: BoxFuture<'static, String>,
    operations: JoinSet<()>,
    open: Open,
    count: u64,
}

impl<G: Graph> Session<G> {
    /// Reads until something ends the socket; `None`: the client went away.
    async fn listen(&mut self, stream: &mut SplitStream<WebSocket>) -> Option<Closing> {
        let (edge, times) = (self.edge.clone(), self.edge.times().clone());
        let init = Instant::now() + times.init;
        let mut silence = Instant::now() + times.silence;
        loop {
            let known = matches!(self.state, State::Known { .. });
            let frame = tokio::select! {
                biased;
                () = edge.ending().cancelled() => return Some(Closing::restart()),
                reason = &mut self.ended => return Some(Closing::forbidden(reason)),
                () = sleep_until(init), if !known => return Some(Closing::init_timeout()),
                Some(_) = self.operations.join_next(), if !self.operations.is_empty() => continue,
                frame = stream.next() => frame,
                () = sleep_until(silence) => return Some(Closing::silent()),
            };
            silence = Instant::now() + times.silence;
            let text = match frame {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Binary(_))) => {
                    return Some(Closing::invalid("binary frames are not accepted"));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(_))) | None => return None,
                Some(Err(error)) => return broken(&*error.into_inner()),
            };
            if !known && text.len() > MAX_UNKNOWN_BYTES {
                return Some(Closing::invalid("too large before connection_init"));
            }
            // Waits where the client does not read. In a box: a socket is silent most of the time, and holds no room for it.
            let heard = tokio::select! {
                heard = Box::pin(self.hear(&text)) => heard,
                () = edge.ending().cancelled() => Err(Closing::restart()),
            };
            if let Err(closing) = heard {
                return Some(closing);
            }
        }
    }

    async fn hear(&mut self, text: &str) -> Result<(), Closing> {
        match Incoming::read(text).map_err(Closing::invalid)? {
            Incoming::Init(payload) => self.init(&payload).await?,
            Incoming::Ping(payload) => {
                self.renew(&payload).await?;
                // without the client's payload, which may have held its token
                self.outbox.send(message::plain("pong")).await;
            }
            Incoming::Pong => {}
            Incoming::Subscribe { id, asked } => self.subscribe(id, *asked).await?,
            Incoming::Complete { id } => {
                // one that is not there has ended on its own, and the messages have crossed
                if let Some(running) = self.open().remove(&id) {
                    running.live.store(false, Ordering::Release);
                    running.task.abort();
                }
            }
        }
        Ok(())
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<String, Running>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn init(&mut self, payload: &Map<String, Value>) -> Result<(), Closing> {
        if matches!(self.state, State::Known { .. }) {
            return Err(Closing::too_many_inits());
        }
        let refused = |refused: Refused| Closing::refused(&refused);
        let given = Given::in_payload(payload)
            .and_then(|given| given.over(&self.given))
            .map_err(refused)?;
        let caller = self.authenticate(given.clone()).await.map_err(refused)?;
        let seat = match self.graph.user_key(&caller) {
            Some(key) => Some(
                self.edge
                    .census()
                    .user(key)
                    .ok_or_else(Closing::too_many_sockets)?,
            ),
            None => None,
        };
        self.given = given;
        self.ended = self.graph.ended(&caller);
        self.state = State::Known {
            caller,
            _seat: seat,
        };
        self.outbox.send(message::plain("connection_ack")).await;
        Ok(())
    }

    /// A ping whose payload holds `Authorization` gives the socket a new token.
    async fn renew(&mut self, payload: &Map<String, Value>) -> Result<(), Closing> {
        let State::Known { caller: before, .. } = &self.state else {
            return Ok(());
        };
        let before = before.clone();
        let now = Given::in_payload(payload).map_err(|refused| Closing::refused(&refused))?;
        if !now.has_authorization() {
            return Ok(());
        }
        let given = self.given.renewed_by(now);
        let caller = self
            .authenticate(given.clone())
            .await
            .map_err(|refused| Closing::refused(&refused))?;
        if !self.graph.same_identity(&before, &caller) {
            return Err(Closing::forbidden("The new credential is another's"));
        }
        self.given = given;
        self.ended = self.graph.ended(&caller);
        if let State::Known { caller: known, .. } = &mut self.state {
            *known = caller;
        }
        Ok(())
    }

    // by `&mut`, since a session is held by one task only and `ended` is not `Sync`
    async fn authenticate(&mut self, given: Given) -> Result<G::Caller, Refused> {
        let credentials = given.credentials(self.client.clone(), Transport::WebSocket)?;
        let limit = self.edge.limits().query_timeout;
        let caller = timeout(limit, self.graph.authenticate(credentials)).await;
        caller.unwrap_or_else(|_| Err(Refused::new(Code::Timeout, "sign-in took too long")))
    }

    async fn subscribe(&mut self, id: String, asked: Asked) -> Result<(), Closing> {
        let State::Known { caller, .. } = &self.state else {
            return Err(Closing::unauthorized());
        };
        let caller = caller.clone();
        let count = match &*self.open() {
            open if open.contains_key(&id) => return Err(Closing::subscriber_exists(&id)),
            open => open.len(),
        };
        self.count += 1;
        let request_id = format!("{}-{}", self.request_id, self.count);
        let limit = self.edge.limits().max_subscriptions_per_connection;
        let operation = if count >= limit {
            let message = format!(
                "this connection has {count} operations under way, at most {limit} are allowed"
            );
            let refused = Refused::new(Code::RateLimited, message).over(limit, count + 1);
            Err(Unfit::from(refused))
        } else {
            asked.operation(self.edge.documents(), &*self.graph, request_id.clone())
        };
        let live = Arc::new(AtomicBool::new(true));
        let mail = self.outbox.of(id.clone(), live.clone());
        let operation = match operation {
            // the futures that pass it on hold room for it each
            Ok(operation) => Box::new(operation),
            Err(unfit) => {
                tell(&mail, operation::refusal(unfit, &request_id)).await;
                return Ok(());
            }
        };
        let (edge, graph, open) = (self.edge.clone(), self.graph.clone(), self.open.clone());
        let span = spans::request(&request_id, None);
        // held until the task is entered, so that its end can't come first
        let mut entries = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let task = self.operations.spawn(
            async move {
                let end = operation::run(&edge, &graph, &caller, operation, &mail).await;
                // free before the client knows of the end, which may use the id again at once
                forget(&open, &mail);
                tell(&mail, end).await;
            }
            .instrument(span),
        );
        entries.insert(id, Running { task, live });
        Ok(())
    }
}

/// Frees the id of an operation that has ended, unless the client has given it to another one by now.
fn forget(open: &Open, mail: &Mail) {
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    if open
        .get(&mail.id)
        .is_some_and(|running| mail.is_of(&running.live))
    {
        open.remove(&mail.id);
    }
}

async fn tell(mail: &Mail, end: End) {
    match end {
        End::Complete => mail.send("complete", None).await,
        End::Error(errors) => mail.send("error", Some(&errors)).await,
    }
}

/// What to tell a client whose frame could not be read; most often it is gone.
fn broken(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<Closing> {
    match error.downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => Some(Closing::too_big()),
        Some(tungstenite::Error::Utf8(_)) => Some(Closing::not_text()),
        _ => None,
    }
}
