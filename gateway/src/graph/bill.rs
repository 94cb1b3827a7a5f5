//! What an operation costs whoever asks for it: refused before it runs, or taken from a bucket, and told in the answer.

use std::{net::IpAddr, sync::Arc};

use async_graphql::{
    Name, PathSegment, Response, Tally, Value, indexmap::IndexMap,
    parser::types::ExecutableDocument,
};
use bytes::Bytes;
use schema::cost::{Cost, Costs, TooWide};

use super::{Caller, allowed::root, counted::Counted};
use crate::{
    budget::{Budgets, Empty, Payer, Standing},
    config::Limits,
    edge::{Code, Event, Operation, Refused, counted_as},
};

/// The greatest integer that every client reads exactly.
const EXACT: u64 = (1 << 53) - 1;

/// What stands before the data of an answer without errors; after it comes a brace.
const DATA: &str = "{\"data\":";

/// Knows prices and buckets.
#[derive(Debug)]
pub(super) struct Till {
    costs: Costs,
    max_complexity: u64,
    max_response_bytes: u64,
    budgets: Arc<Budgets>,
}

/// What was taken for an operation that may run.
#[derive(Debug)]
pub(super) struct Bill {
    cost: Cost,
    payer: Payer,
    standing: Standing,
    budgets: Arc<Budgets>,
    tally: Arc<Tally>,
    room: Room,
    told: bool,
    counted: Counted,
}

/// How long an answer of a document may be.
#[derive(Debug, Clone)]
pub(super) struct Room {
    max_bytes: u64,
    document: Arc<ExecutableDocument>,
    operation: Option<String>,
}

impl Till {
    pub(super) fn new(limits: &Limits, budgets: Arc<Budgets>) -> Self {
        let whole = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Self {
            costs: Costs::new(whole(limits.max_page_size)),
            max_complexity: whole(limits.max_complexity),
            max_response_bytes: whole(limits.max_response_bytes),
            budgets,
        }
    }

    /// Takes `cost`, or what a full bucket holds, from the bucket of an address that asks for something else than an operation.
    ///
    /// # Errors
    /// RATE_LIMITED.
    pub(super) fn charge_address(&self, address: IpAddr, cost: u64) -> Result<(), Refused> {
        let payer = Payer::Address(counted_as(address));
        let cost = cost.min(self.budgets.maximum(payer));
        match self.budgets.take(payer, cost) {
            Ok(_) => Ok(()),
            Err(Empty { retry_after, .. }) => Err(Refused::new(
                Code::RateLimited,
                "this address has asked too much",
            )
            .retry_after(retry_after)),
        }
    }

    /// Takes what `operation` costs from the bucket of whoever asks.
    ///
    /// # Errors
    /// The answer, in place of one that would have run: QUERY_TOO_COMPLEX, or RATE_LIMITED.
    pub(super) fn charge(
        &self,
        caller: &Caller,
        operation: &Operation,
    ) -> Result<Bill, Box<Response>> {
        let mut counted = Counted::begin(caller, operation);
        let payer = caller.payer();
        let request = &operation.request;
        let cost = self.costs.cost(
            &operation.document,
            request.operation_name.as_deref(),
            &request.variables,
        );
        let cost = cost.map_err(|error| {
            let limit = u64::from(TooWide::LIMIT);
            refused(Refused {
                limit: Some(limit),
                actual: Some(limit + 1),
                ..Refused::new(Code::QueryTooComplex, format!("the query {error}"))
            })
        })?;
        let requested = cost.requested.min(EXACT);
        let told = |refusal: Refused, standing| {
            let mut response = refused(refusal);
            tell(&mut response, requested, 0, standing);
            response
        };
        // more than a full bucket holds would have to wait for ever
        let limit = self.max_complexity.min(self.budgets.maximum(payer));
        if requested > limit {
            let message = format!("the request costs {requested}, at most {limit} are allowed");
            let refusal = Refused {
                limit: Some(limit),
                actual: Some(requested),
                ..Refused::new(Code::QueryTooComplex, message)
            };
            return Err(told(refusal, self.budgets.of(payer)));
        }
        match self.budgets.take(payer, requested) {
            Ok(standing) => {
                counted.runs(requested);
                Ok(Bill {
                    cost,
                    payer,
                    standing,
                    budgets: self.budgets.clone(),
                    tally: cost.tally(self.max_response_bytes),
                    room: Room {
                        max_bytes: self.max_response_bytes,
                        document: operation.document.clone(),
                        operation: request.operation_name.clone(),
                    },
                    told: false,
                    counted,
                })
            }
            Err(Empty {
                standing,
                retry_after,
            }) => {
                let (maximum, available) = (standing.maximum, standing.available);
                let message = format!(
                    "the request costs {requested}, and of {maximum} that may be used at once {available} are left"
                );
                let refusal = Refused {
                    limit: Some(maximum),
                    actual: Some(maximum - available + requested),
                    ..Refused::new(Code::RateLimited, message).retry_after(retry_after)
                };
                Err(told(refusal, standing))
            }
        }
    }
}

impl Bill {
    /// What counts the answer; goes into the request's data.
    pub(super) fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    /// Says in an answer what it cost; one that has grown too long is refused.
    pub(super) fn tell(&mut self, response: &mut Response) {
        self.room.hold(response, &self.tally);
        self.counted.answered(response);
        let actual = self.cost.actual(&self.tally).min(EXACT);
        tell(response, self.cost.requested, actual, self.standing);
    }

    /// How long an answer may be.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// What the operation costs.
    pub(super) fn cost(&self) -> &Cost {
        &self.cost
    }

    /// [`Bill::event`] of one that was made for several: `{"data": …}`, and what it weighs. The first one says what it cost this
    /// follower, and so is his own.
    pub(super) fn shared(&mut self, json: Bytes, weight: u64) -> Event {
        if self.told {
            self.charge_event();
            return Event::Shared(json);
        }
        self.tally.add(weight);
        let data = json.slice(DATA.len()..json.len().saturating_sub(1));
        let mut response = Response::new(Value::Binary(data));
        self.event(&mut response);
        Event::Own(response)
    }

    /// For each event of a subscription: the first one is paid for and says what it cost, the others are taken from the bucket.
    pub(super) fn event(&mut self, response: &mut Response) {
        if std::mem::replace(&mut self.told, true) {
            self.room.hold(response, &self.tally);
            self.charge_event();
        } else {
            self.tell(response);
        }
    }

    fn charge_event(&mut self) {
        self.budgets.take_event(self.payer, self.cost.event);
        self.counted.charge(self.cost.event);
    }
}

impl Room {
    /// Bytes of an answer.
    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Puts an error in place of an answer, or event, that is longer than it may be, and lets the next one begin. What was asked
    /// has been done by then, so that the error stands at a field of it.
    pub(super) fn hold(&self, response: &mut Response, tally: &Tally) {
        if tally.is_too_long() {
            let limit = self.max_bytes;
            let message = format!("the answer has more than {limit} bytes: ask for less at once");
            let refusal = Refused {
                // how much more nobody knows: it was not made
                limit: Some(limit),
                ..Refused::new(Code::QueryTooComplex, message)
            };
            let mut error = refusal.into_error();
            let key = root(&self.document, self.operation.as_deref())
                .map(|root| root.alias.as_ref().unwrap_or(&root.name).node.to_string());
            error.path = key.into_iter().map(PathSegment::Field).collect();
            *response = Response::from_errors(vec![error]);
        }
        tally.begin();
    }
}

fn refused(refused: Refused) -> Box<Response> {
    Box::new(Response::from_errors(vec![refused.into_error()]))
}

fn tell(response: &mut Response, requested: u64, actual: u64, standing: Standing) {
    let numbers = [
        ("requested", requested),
        ("actual", actual),
        ("available", standing.available),
        ("restorePerSecond", standing.restore_per_s),
    ];
    let cost: IndexMap<Name, Value> = numbers
        .into_iter()
        .map(|(name, number)| (Name::new(name), Value::from(number)))
        .collect();
    response
        .extensions
        .insert("cost".to_owned(), Value::Object(cost));
}
