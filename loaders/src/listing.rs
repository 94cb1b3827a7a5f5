//! A page of a list that many things have each of their own, as part of a loader's key.

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::{Hash, Hasher},
    sync::Arc,
};

use entities::page::{Page, Rows};

/// Which page of a list, and which of its rows. Two are equal where they say the same: those of one field of a document.
#[derive(Debug, Clone)]
pub struct Listing<F>(Arc<Said<F>>);

#[derive(Debug)]
struct Said<F> {
    page: Page,
    filter: F,
    text: String,
}

impl<F: Debug> Listing<F> {
    /// This page of the rows that pass the filter.
    #[must_use]
    pub fn new(page: Page, filter: F) -> Self {
        let text = format!("{page:?} {filter:?}");
        Self(Arc::new(Said { page, filter, text }))
    }
}

impl<F> Listing<F> {
    /// Which page.
    #[must_use]
    pub fn page(&self) -> &Page {
        &self.0.page
    }

    /// Which rows.
    #[must_use]
    pub fn filter(&self) -> &F {
        &self.0.filter
    }
}

impl<F> PartialEq for Listing<F> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl<F> Eq for Listing<F> {}

impl<F> Hash for Listing<F> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

/// Keys of lists, sorted by the listing: each is a statement of its own, and they are as many as the fields that ask for one.
pub(crate) fn by_listing<K, F: Clone>(
    keys: Vec<K>,
    listing: impl Fn(&K) -> &Listing<F>,
) -> HashMap<Listing<F>, Vec<K>> {
    let mut sorted: HashMap<Listing<F>, Vec<K>> = HashMap::new();
    for key in keys {
        sorted.entry(listing(&key).clone()).or_default().push(key);
    }
    sorted
}

/// Deals the rows of several lists out to the keys that they are of, each a page.
pub(crate) fn dealt<K: Eq + Hash, M>(
    page: &Page,
    keys: Vec<K>,
    rows: Vec<M>,
    of: impl Fn(&M) -> Option<K>,
) -> HashMap<K, Rows<Arc<M>>> {
    let mut lists: HashMap<K, Vec<Arc<M>>> =
        keys.into_iter().map(|key| (key, Vec::new())).collect();
    for row in rows {
        if let Some(list) = of(&row).and_then(|key| lists.get_mut(&key)) {
            list.push(Arc::new(row));
        }
    }
    lists
        .into_iter()
        .map(|(key, rows)| (key, page.cut(rows)))
        .collect()
}
