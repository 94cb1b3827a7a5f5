//! Many answers to one HTTP request: server-sent events, or the parts of a body.
//!
//! - Server-sent events are as in the distinct-connections mode of the npm package `graphql-sse`
//!   (<https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md>), and the `id` of an event is its cursor.
//! - Parts are as in Apollo's protocol of subscriptions over HTTP
//!   (<https://www.apollographql.com/docs/graphos/routing/operations/subscriptions/multipart-protocol>).
//!
//! A client that takes nothing is not made events for: the next one is asked for when the connection has room for it. Where the
//! server ends, or the credential, the stream breaks off without saying that it is complete, so that clients come back: not even
//! the body has an end, since some take that for the end of what was told.

use std::{panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use async_graphql::Response as GraphResponse;
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::{Instrument, Span};

use super::{
    Code, Edge, Event, Graph, Operation, Refused, Told, answer::Answer, media::Many,
    socket::StreamSeat,
};

/// How what is told looks on the wire.
impl Many {
    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Events => "text/event-stream; charset=utf-8",
            Self::Parts => "multipart/mixed; boundary=\"graphql\"; subscriptionSpec=1.0",
        })
    }

    /// What a stream begins with: so that whatever stands in between hands it on.
    fn beginning(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Events => b":\n\n",
            Self::Parts => b"\r\n--graphql",
        })
    }

    /// That it is still there.
    fn beat(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Events => b":\n\n",
            Self::Parts => b"\r\nContent-Type: application/json\r\n\r\n{}\r\n--graphql",
        })
    }

    /// An answer. A part counts as there only when the delimiter after it is.
    fn next(self, json: &[u8], cursor: Option<&str>) -> Bytes {
        match self {
            Self::Events => {
                let id = cursor.map_or_else(String::new, |cursor| format!("\nid: {cursor}"));
                let before = format!("event: next{id}\ndata: ");
                [before.as_bytes(), json, b"\n\n"].concat()
            }
            Self::Parts => part(b"{\"payload\":", json, b"}"),
        }
        .into()
    }

    /// Why there are no more: `errors` is a list, `json` the whole answer.
    fn error(self, json: &[u8], errors: &[u8]) -> Bytes {
        match self {
            Self::Events => self.next(json, None),
            Self::Parts => part(b"{\"payload\":null,\"errors\":", errors, b"}").into(),
        }
    }

    /// There are no more.
    fn end(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Events => b"event: complete\ndata:\n\n",
            Self::Parts => b"--\r\n",
        })
    }
}

fn part(before: &[u8], json: &[u8], after: &[u8]) -> Vec<u8> {
    const HEAD: &[u8] = b"\r\nContent-Type: application/json\r\n\r\n";
    [HEAD, before, json, after, b"\r\n--graphql"].concat()
}

/// Answers `operation`, a subscription or not, in that form.
pub(super) fn answer<G: Graph>(
    edge: &Arc<Edge<G>>,
    graph: &Arc<G>,
    caller: G::Caller,
    operation: Operation,
    many: Many,
    seat: StreamSeat,
) -> Response {
    let id = operation.request_id.clone();
    let ended = graph.ended(&caller);
    let told = if operation.is_subscription() {
        graph.subscribe(&caller, operation)
    } else {
        let (edge, graph) = (edge.clone(), graph.clone());
        let answer = async move { edge.execute(&graph, &caller, operation).await.into() };
        stream::once(answer).boxed()
    };
    stream(edge, told, Some(ended), many, id, Some(seat))
}

/// The answer to an operation that is refused.
pub(super) fn refusal<G: Graph>(
    edge: &Arc<Edge<G>>,
    refused: Refused,
    many: Many,
    id: String,
) -> Response {
    let response = GraphResponse::from_errors(vec![refused.into_error()]);
    let told = stream::once(async { response.into() }).boxed();
    stream(edge, told, None, many, id, None)
}

fn stream<G: Graph>(
    edge: &Arc<Edge<G>>,
    told: BoxStream<'static, Told>,
    ended: Option<BoxFuture<'static, String>>,
    many: Many,
    id: String,
    seat: Option<StreamSeat>,
) -> Response {
    let every = edge.times().beat;
    let mut beats = interval_at(Instant::now() + every, every);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let telling = Telling {
        told: Some(told),
        ended: ended.unwrap_or_else(|| std::future::pending().boxed()),
        ending: Box::pin(CancellationToken::clone(edge.ending()).cancelled_owned()),
        beats,
        many,
        id,
        _seat: seat,
    };
    let span = Span::current();
    let pieces = stream::unfold(telling, move |mut telling| {
        let next = async move { Some((telling.next().await?, telling)) };
        next.instrument(span.clone())
    });
    let first = stream::once(async move { many.beginning() });
    let pieces = first.map(Ok).chain(pieces);
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, many.content_type());
    // a proxy of this family would hold events back
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    response
}

/// The server or the credential ends before the stream does.
#[derive(Debug, thiserror::Error)]
#[error("a stream breaks off: {0}")]
struct BrokenOff(String);

/// A stream on its way.
struct Telling {
    /// `None` once nothing follows.
    told: Option<BoxStream<'static, Told>>,
    /// Resolves when the credential no longer holds.
    ended: BoxFuture<'static, String>,
    ending: Pin<Box<WaitForCancellationFutureOwned>>,
    beats: Interval,
    many: Many,
    id: String,
    /// Counts as a connection of its user.
    _seat: Option<StreamSeat>,
}

impl Telling {
    /// What to send next; `None`: the stream is over.
    async fn next(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        let next = self.piece().await;
        if !matches!(next, Some(Ok(_))) {
            self.told = None;
        }
        next
    }

    async fn piece(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        let told = self.told.as_mut()?;
        let next = AssertUnwindSafe(told.next()).catch_unwind();
        let told = tokio::select! {
            biased;
            () = self.ending.as_mut() => {
                return Some(Err(BrokenOff("the server ends".to_owned())));
            }
            reason = &mut self.ended => return Some(Err(BrokenOff(reason))),
            told = next => told,
            _ = self.beats.tick() => return Some(Ok(self.many.beat())),
        };
        self.beats.reset();
        let Ok(told) = told else {
            tracing::error!(id = self.id, "a stream panicked");
            let refused = Refused::new(Code::Internal, "internal error");
            return Some(Ok(self.last(&Answer::refused(refused, &self.id))));
        };
        let Some(Told { event, cursor }) = told else {
            self.told = None;
            return Some(Ok(self.many.end()));
        };
        let json = match event {
            Event::Shared(json) => json,
            Event::Own(response) => {
                let answer = Answer::of_event(response, &self.id);
                if answer.request_errors.is_some() {
                    return Some(Ok(self.last(&answer)));
                }
                answer.json.into()
            }
        };
        Some(Ok(self.many.next(&json, cursor.as_deref())))
    }

    /// An answer that nothing follows.
    fn last(&mut self, answer: &Answer) -> Bytes {
        self.told = None;
        let errors = answer.request_errors.as_deref().unwrap_or(b"[]");
        let error = self.many.error(&answer.json, errors);
        [error, self.many.end()].concat().into()
    }
}
