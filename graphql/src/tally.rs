//! What an answer has come to, counted while it is made.

use std::sync::atomic::{AtomicU64, Ordering};

use upstream_async_graphql::parser::types::Field;

use crate::plan::Planned;

/// The weight of an object: its type's name, and whether a field is asked of it.
type Weigh = fn(&str, &dyn Fn(&str) -> bool) -> u64;

/// Adds up the objects that are answered, each by its weight; goes into the data of a request, in an `Arc`. Objects below the root that
/// async-graphql resolves itself (introspection) do not count, nor does the root.
#[derive(Debug)]
pub struct Tally {
    weigh: Weigh,
    sum: AtomicU64,
}

impl Tally {
    /// One that stands at zero.
    #[must_use]
    pub fn new(weigh: Weigh) -> Self {
        Self {
            weigh,
            sum: AtomicU64::new(0),
        }
    }

    /// What it has come to so far.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// Adds what was answered elsewhere.
    pub fn add(&self, weight: u64) {
        self.sum.fetch_add(weight, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, name: &str, fields: &[Planned<'_>]) {
        let asked = |wanted: &str| {
            fields.iter().any(|field| {
                let field: &Field = &field.node;
                field.name.node == wanted
            })
        };
        self.sum
            .fetch_add((self.weigh)(name, &asked), Ordering::Relaxed);
    }
}
