//! What an answer has come to, counted while it is made.

use std::sync::atomic::{AtomicU64, Ordering};

use upstream_async_graphql::parser::types::Field;

use crate::plan::Planned;

/// The weight of an object: its type's name, and whether a field is asked of it.
type Weigh = fn(&str, &dyn Fn(&str) -> bool) -> u64;

/// Adds up the objects that are answered, each by its weight, and the bytes of what they hold; goes into the data of a request, in an `Arc`. Objects below the root that
/// async-graphql resolves itself (introspection) do not count, nor does the root.
#[derive(Debug)]
pub struct Tally {
    weigh: Weigh,
    sum: AtomicU64,
    most_bytes: u64,
    bytes: AtomicU64,
}

impl Tally {
    /// One that stands at zero. Of one answer no more is made than about `most_bytes`: objects that come after that are null.
    #[must_use]
    pub fn new(weigh: Weigh, most_bytes: u64) -> Self {
        Self {
            weigh,
            sum: AtomicU64::new(0),
            most_bytes,
            bytes: AtomicU64::new(0),
        }
    }

    /// Whether the answer would have had more bytes than it may: it is not whole then, and not to be shown.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.most_bytes
    }

    /// Another answer begins: the next event of a subscription.
    pub fn begin(&self) {
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// Counts what an object holds itself, and says whether the answer may have it.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        before.saturating_add(bytes) <= self.most_bytes
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
