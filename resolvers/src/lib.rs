//! The graph: its types and the functions that answer their fields, a file or folder for each domain.
//!
//! Resolvers are thin: they read through the [`Reader`](loaders::Reader) of their request, which knows the tenant, and hand
//! commands to the crates below. [`errors`] turns refusals into what a client can act on, [`connection`] makes lists,
//! [`node`] is where a type says how it is found by its id. The roots are put together in the crate `schema`.

// The types of the graph refer to each other in circles, and whether their futures are `Send` is looked for along these.
#![recursion_limit = "1024"]

pub mod agent;
pub mod asking;
pub mod audit;
pub mod change;
pub mod connection;
pub mod conversation;
pub mod errors;
pub mod following;
pub mod group;
pub mod identity;
pub mod message;
pub mod model;
pub mod node;
pub mod run;
pub mod scalars;
pub mod service;
pub mod sharing;
pub mod tenant;
pub mod usage;

pub use asking::{Asking, ContextExt, FirstContent, GivenId, Seed};
