//! A schema as a crate that depends on ours by the name `async_graphql` writes it: every kind of type, fields that wait, fail or
//! may not be null, and nowhere a word about whose resolver it is, but for `plain!`. The tests of `graphql` drive it.

use async_graphql::{EmptySubscription, Schema, SchemaBuilder};

mod input;
mod objects;
mod roots;
mod workshop;

pub use roots::{Mutation, Query, Subscription};
pub use workshop::{Work, Workshop};

/// The schema, without extensions.
pub fn schema() -> SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build(Query::default(), Mutation, Subscription)
}

/// The schema that graphql-js serves as well.
pub fn workshop() -> SchemaBuilder<Workshop, Work, EmptySubscription> {
    Schema::build(Workshop, Work::default(), EmptySubscription)
}
