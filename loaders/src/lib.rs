//! Batched reads for one request in one tenant.
//!
//! A [`Reader`] belongs to one request and to whoever asks it. It answers rows; the graph wraps them. What it reads is of one
//! moment, and what is asked for side by side goes out as one statement for each relation, see [`quiesce`]. One file for each
//! domain names its relations (`UserOf`) and its lists.

mod access;
pub mod agents;
pub mod audit;
mod changes;
pub mod conversations;
pub mod groups;
pub mod identity;
pub mod listing;
mod matching;
pub mod messages;
pub mod models;
pub mod quiesce;
mod reader;
pub mod runs;
pub mod shares;
pub mod tenancy;
pub mod usage;

pub use reader::{Asker, Found, LoadError, Reader, Relation, Source};
