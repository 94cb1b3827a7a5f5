//! The log: numbered streams of events, appended in the transaction that makes a thing true, replayed from a cursor, followed live.
//!
//! A stream (a conversation, say) has consecutive numbers, given under its row's lock; the order of commits is the order of
//! numbers. The tables are the truth, and everything in memory is a hint that may be lost. This crate knows no event by its
//! meaning but [text in pieces](record::Delta), which it may join, and what a tenant's [stream of changes](changes) holds.

mod asked;
pub mod audit;
mod bus;
pub mod changes;
mod command;
pub mod cursor;
mod finished;
mod fold;
mod follow;
mod forget;
mod generation;
mod hub;
mod log;
mod once;
pub mod read;
pub mod record;
mod writer;

pub use asked::Asked;
pub use changes::Change;
pub use command::Command;
pub use cursor::{Cursor, CursorError};
pub use follow::{Follow, FollowError};
pub use log::{Log, LogError, LogOptions, Work};
pub use once::Once;
pub use record::{Delta, Draft, Kind, Payload, Record};
pub use writer::{Fate, RunLog, Shut};
