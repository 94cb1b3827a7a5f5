//! A schema as a crate that depends on ours by the name `async_graphql` writes it: every kind of type, fields that wait, fail or
//! may not be null, and nowhere a word about whose resolver it is, but for `plain!`. The tests of `graphql` drive it.

use async_graphql::{Schema, SchemaBuilder};

mod input;
mod objects;
mod roots;

pub use roots::{Mutation, Query, Subscription};

/// The schema, without extensions.
pub fn schema() -> SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build(Query::default(), Mutation, Subscription)
}
