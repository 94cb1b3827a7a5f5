//! What operators are told of an operation: which kind, which way it came, how it came out, what was charged.

use adapters::{meter, spans};
use async_graphql::{
    Name, Response,
    parser::types::{DocumentOperations, OperationType},
};
use tokio::time::Instant;
use tracing::Span;

use super::Caller;
use crate::edge::{Operation, Transport};

/// What is charged of a subscription is counted by so much, and the rest at its end: not for each event.
const SUM: u64 = 1000;

/// An operation, counted when it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    operation: &'static str,
    transport: &'static str,
    began: Instant,
    outcome: &'static str,
    charged: u64,
    /// Of a subscription.
    open: Option<meter::Open>,
}

impl Counted {
    /// One that is refused, unless it is let [run](Self::runs).
    pub(super) fn begin(caller: &Caller, operation: &Operation) -> Self {
        let kind = match operation.kind {
            OperationType::Query => "query",
            OperationType::Mutation => "mutation",
            OperationType::Subscription => "subscription",
        };
        let transport = match caller.0.transport {
            Transport::Http => "http",
            Transport::Stream => "stream",
            Transport::WebSocket => "websocket",
        };
        spans::operation(kind, name(operation), transport);
        Self {
            operation: kind,
            transport,
            began: Instant::now(),
            outcome: "refused",
            charged: 0,
            open: None,
        }
    }

    /// It was paid for.
    pub(super) fn runs(&mut self, cost: u64) {
        self.charged += cost;
        self.outcome = "abandoned";
        if self.operation == "subscription" {
            self.outcome = "ok";
            spans::outcome(&Span::current(), self.outcome, false);
            self.open = Some(meter::Open::subscription(self.transport));
        }
    }

    /// It was answered so; of a subscription, for the first time.
    pub(super) fn answered(&mut self, response: &Response) {
        self.outcome = if async_graphql::refused(response) {
            "refused"
        } else if response.errors.is_empty() {
            "ok"
        } else {
            "partial"
        };
        spans::outcome(&Span::current(), self.outcome, self.outcome == "partial");
    }

    /// Something more was charged for it.
    pub(super) fn charge(&mut self, cost: u64) {
        self.charged += cost;
        if self.charged >= SUM {
            meter::charged(self.operation, std::mem::take(&mut self.charged));
        }
    }
}

/// The client's name for what it asks, which has letters, digits and underscores alone.
fn name(operation: &Operation) -> Option<&str> {
    let only = || match &operation.document.operations {
        DocumentOperations::Multiple(operations) => operations.keys().next().map(Name::as_str),
        DocumentOperations::Single(_) => None,
    };
    operation.request.operation_name.as_deref().or_else(only)
}

impl Drop for Counted {
    fn drop(&mut self) {
        meter::charged(self.operation, self.charged);
        let took = match (self.operation, self.outcome) {
            ("subscription", _) | (_, "refused") => None,
            _ => Some(self.began.elapsed()),
        };
        meter::request(self.operation, self.transport, self.outcome, took);
        if self.outcome == "abandoned" {
            spans::outcome(&Span::current(), self.outcome, true);
        }
    }
}
