//! What a request costs: foretold from its document before anything of it is executed, and counted while it is answered.
//!
//! | | |
//! | --- | --- |
//! | scalar, enum, or a list of them | 0 |
//! | object | 1 + what is selected of it |
//! | interface, union | as the dearest object that it can be |
//! | connection | 2 + (`first` or `last`, 20 if neither; a page's maximum at most) × child |
//! | list of objects | 5 × each; as many as there are `ids`, where these are more |
//! | field of a mutation | 10 + what is selected of its payload |
//! | subscription | 10, and what each event costs as an object |
//! | operation | 1 at least |
//!
//! A connection's child is what one entry costs: with `nodes` the object; with `edges` the same, since an edge counts only
//! where its `node` is not asked for. `pageInfo` and `totalCount` are in the 2. Introspection is free: the edge bounds what it
//! may answer.
//!
//! Fields that meet under one key count once, as they are answered once. What is left out by `@skip` or `@include` costs
//! nothing. Whether the document is valid is not looked at: what is not in the schema costs nothing, and validation refuses it.

mod prices;
mod walk;

use std::sync::Arc;

use async_graphql::{Tally, Variables, parser::types::ExecutableDocument, registry::Registry};

use prices::Prices;
use walk::Walk;

/// What each field of a mutation costs besides its payload, and the beginning of a subscription besides its events.
const COMMAND: u64 = 10;

/// Knows what everything in the schema costs.
#[derive(Debug)]
pub struct Costs {
    prices: Prices,
    max_page_size: u64,
}

/// What an operation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// The whole; of a subscription its beginning and one event.
    pub requested: u64,
    /// Each event of a subscription; else 0.
    pub event: u64,
    /// What of `requested` is not counted by a [`Tally`].
    fixed: u64,
}

/// A document whose fragments would take too long to look through for all types of objects that they may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "takes more than {} steps to look through for all types that its fragments may stand for",
    Self::LIMIT
)]
pub struct TooWide;

impl TooWide {
    /// Selections that are looked at, each as often as there are types of objects to look at it for. A hundred times what the
    /// largest query of a front end takes, and still done in a few milliseconds.
    pub const LIMIT: u32 = 50_000;
}

impl Costs {
    /// Of the served schema, where pages have at most so many entries.
    #[must_use]
    pub fn new(max_page_size: u64) -> Self {
        Self::of(&crate::registry(), max_page_size)
    }

    fn of(registry: &Registry, max_page_size: u64) -> Self {
        Self {
            prices: Prices::of(registry, crate::roots()),
            max_page_size,
        }
    }

    /// What the operation of this name costs; where none is given, the document's only one.
    ///
    /// # Errors
    /// [`TooWide`].
    pub fn cost(
        &self,
        document: &ExecutableDocument,
        operation: Option<&str>,
        variables: &Variables,
    ) -> Result<Cost, TooWide> {
        let mut operations = document.operations.iter();
        let named = operations.find(|(name, _)| {
            operation.is_none() || name.map(async_graphql::Name::as_str) == operation
        });
        let Some((_, operation)) = named else {
            return Ok(Cost::of(1, 0, 0));
        };
        let operation = &operation.node;
        Walk::new(
            &self.prices,
            self.max_page_size,
            document,
            operation,
            variables,
        )
        .operation(operation)
    }
}

impl Cost {
    fn of(requested: u64, event: u64, fixed: u64) -> Self {
        Self {
            requested: requested.max(1),
            event,
            fixed,
        }
    }

    /// What counts the answer; goes into the request's data.
    #[must_use]
    pub fn tally(&self, most_bytes: u64) -> Arc<Tally> {
        Arc::new(Tally::new(prices::weight, most_bytes))
    }

    /// What the answer came to, by the same prices and the real lengths of its lists.
    #[must_use]
    pub fn actual(&self, tally: &Tally) -> u64 {
        tally.sum().saturating_add(self.fixed).max(1)
    }
}
