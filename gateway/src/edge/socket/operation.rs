//! One operation of a socket, in a task of its own.

use std::{panic::AssertUnwindSafe, sync::Arc};

use async_graphql::Response;
use futures_util::{FutureExt, StreamExt};

use super::outbox::Mail;
use crate::edge::{Code, Edge, Event, Graph, Operation, Refused, answer::Answer, document::Unfit};

/// What is told at the end, after the operation's id is free again.
#[derive(Debug)]
pub(super) enum End {
    Complete,
    Error(Vec<u8>),
}

/// Runs `operation` and hands in all but its last message.
pub(super) async fn run<G: Graph>(
    edge: &Edge<G>,
    graph: &Arc<G>,
    caller: &G::Caller,
    operation: Box<Operation>,
    mail: &Mail,
) -> End {
    let id = operation.request_id.clone();
    let result = AssertUnwindSafe(answer(edge, graph, caller, operation, mail))
        .catch_unwind()
        .await;
    result.unwrap_or_else(|_| {
        tracing::error!(%id, "an operation panicked");
        refusal(Refused::new(Code::Internal, "internal error").into(), &id)
    })
}

/// The end of an operation that is refused.
pub(super) fn refusal(unfit: Unfit, id: &str) -> End {
    End::Error(
        Answer::of(Response::from_errors(unfit.into_errors()), id)
            .request_errors
            .unwrap_or_else(|| b"[]".to_vec()),
    )
}

async fn answer<G: Graph>(
    edge: &Edge<G>,
    graph: &Arc<G>,
    caller: &G::Caller,
    operation: Box<Operation>,
    mail: &Mail,
) -> End {
    let id = operation.request_id.clone();
    if operation.is_subscription() {
        let mut events = graph.subscribe(caller, *operation);
        while let Some(told) = events.next().await {
            match told.event {
                Event::Own(response) => {
                    if let Some(end) = next(Answer::of_event(response, &id), mail).await {
                        return end;
                    }
                }
                Event::Shared(json) => mail.send("next", Some(&json)).await,
            }
        }
        return End::Complete;
    }
    // not in place: whoever follows would hold the room for it, too
    let response = Box::pin(edge.execute(graph, caller, *operation)).await;
    next(Answer::of(response, &id), mail)
        .await
        .unwrap_or(End::Complete)
}

/// Hands in what ran; what did not run is the operation's end.
async fn next(answer: Answer, mail: &Mail) -> Option<End> {
    if let Some(errors) = answer.request_errors {
        return Some(End::Error(errors));
    }
    mail.send("next", Some(&answer.json)).await;
    None
}
