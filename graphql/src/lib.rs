//! async-graphql as we use it: objects answer in the document's order, with the nulls of the specification, plain fields cost
//! no future, and a response can be written as JSON text without a tree in between.
//!
//! This is no fork. Every derive of async-graphql calls `<crate>::resolver_utils::resolve_container(ctx, self)`, and `<crate>`
//! is whatever the crate that uses the derive calls its dependency `async-graphql`. This crate re-exports all of
//! async-graphql and puts its own function in that place, so a crate with a schema depends on it by that name
//! (`async-graphql.workspace = true`), must not depend on async-graphql itself, and writes its types as ever.
//!
//! - `#[Object]`, `SimpleObject` and `MergedObject` need nothing more. [`plain!`] names fields of hot leaf types that need no
//!   future; [`plain_abstract!`] does the same service for interfaces and unions, which otherwise go through async-graphql's
//!   own resolver (and are then put in order).
//! - Registration, SDL, introspection, validation, complexity, arguments and guards stay with the derives.
//! - The root of an operation stays with async-graphql, too: [`finish()`] puts its keys in order and its nulls right, for the
//!   answer of a query or mutation and for each event of a subscription alike. An answer must not be shown before that.
//! - A [`Tally`] in a request's data counts the objects that are answered, at no cost to speak of.
//! - Hooks of extensions on `resolve` run for the root and for elements of lists, not for the fields of other objects.
//! - A scalar must not resolve to [`Value::Binary`], which stands for JSON text here.
//!
//! What is done with a request: parse the document, refuse it if [`selections`] exceeds the limit (async-graphql spreads fragments
//! before any of its own limits count), [`check_typenames`], [`Rules::check`], [`merge_root`]; for each request [`Rules::coerce`],
//! [`coerce_variables`], add [`Mode::Raw`] to the request's data if [`may_be_raw`], execute, [`finish()`], [`to_json`].
//!
//! The upstream version is pinned: its registry is hidden from its documentation and may change in any release.

mod document;
mod finish;
mod json;
mod nulls;
pub mod plain;
mod plan;
mod resolve;
mod roots;
mod rules;
mod tally;
mod typename;
mod variables;

/// A value as it stands in a document: it may be a variable, or hold one.
pub use async_graphql_value::Value as Written;
pub use document::{may_be_raw, selections};
pub use finish::{finish, refused};
pub use json::{to_json, tree};
pub use resolve::Mode;
pub use roots::merge_root;
pub use rules::Rules;
pub use tally::Tally;
pub use typename::check_typenames;
pub use upstream_async_graphql::*;
pub use variables::{chosen, coerce_variables};

/// The module that derives look into; ours is its `resolve_container`.
pub mod resolver_utils {
    pub use crate::resolve::resolve_container;
    pub use upstream_async_graphql::resolver_utils::*;
}
