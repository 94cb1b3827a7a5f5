//! The product from outside: starts the `weft` binary as a process and drives it over its public wires.
//!
//! Knows none of Weft's crates, so that what it shows is what a stranger would see. [`provider`] is a model
//! provider that does as it is told, [`server`] the process under test, [`client`] somebody who uses it, [`proxy`] a
//! bad network, [`collector`] a taker of traces, [`database`] a database of a test's own, [`fuzz`] input that is almost
//! right, [`wait`] the one place where time is waited for.
//!
//! What a test can't go on without (a server that doesn't start, a broken connection) is a panic that says what
//! happened; what a test is about (an error, a refusal, a socket that closes) is a value.

pub mod client;
pub mod collector;
pub mod database;
pub mod fuzz;
pub mod provider;
pub mod proxy;
pub mod server;
pub mod wait;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, also one that a panicking test has left poisoned: what it guards is whole after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
