//! The server's side of `graphql-transport-ws`, the protocol of the npm package `graphql-ws`
//! (<https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md>).
//!
//! One task reads and writes a socket; each operation has a task of its own, which hands over one message and waits until it is
//! written before it hands over the next. So the socket's queue holds at most one message of each operation, in the order
//! of their coming, and none can crowd out another.

mod census;
mod close;
mod message;
mod operation;
mod outbox;
mod session;

pub(super) use census::{Census, StreamSeat};
pub(super) use session::run;

/// The subprotocol, the only one.
pub(super) const PROTOCOL: &str = "graphql-transport-ws";
