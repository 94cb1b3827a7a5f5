//! Lists that can grow: `first`, `after`, `last` and `before`, and the types `XConnection` and `XEdge` of any `X`.
//!
//! ```text
//! /// The viewer's keys, newest first.
//! async fn api_keys(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<Cursor>, …) -> Result<Connection<ApiKey>> {
//!     let page = Paging { first, after, last, before }.read::<(DateTime<Utc>, Uuid)>(ctx, API_KEYS)?;
//!     let rows = ctx.reader().api_keys_of_asker(page).await?;
//!     let reader = ctx.reader().clone();
//!     Ok(Connection::new(API_KEYS, rows, |row| (row.created_at, row.id.0), ApiKey)
//!         .counted(move || { let reader = reader.clone(); async move { reader.count_api_keys_of_asker().await } }))
//! }
//! ```

use std::{borrow::Cow, future::Future, sync::Arc};

use async_graphql::{Context, Object, OutputType, Result, SimpleObject, TypeName};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chrono::{DateTime, Datelike, Utc};
use entities::{
    Refusal,
    page::{self, Key, Page, Rows},
};
use futures_util::{FutureExt, future::BoxFuture};
use loaders::LoadError;
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{asking::ContextExt, scalars::Cursor};

/// Entries of a page that says neither `first` nor `last`.
pub const DEFAULT_PAGE: u64 = page::DEFAULT;

/// Bytes of a cursor's text; the longest of ours holds a name of 200 characters.
const CURSOR: usize = 4096;

/// A value of a list's order, as it goes to the database.
type KeyPart = <Key as IntoIterator>::Item;

/// What a list may be ordered by: a column's value that a cursor can hold.
pub trait Ordinal: Into<KeyPart> + Serialize + DeserializeOwned {
    /// Whether the database can compare it: cursors come from outside.
    fn is_sound(&self) -> bool {
        true
    }
}

impl Ordinal for Uuid {}

impl Ordinal for i64 {}

impl Ordinal for String {
    fn is_sound(&self) -> bool {
        !self.contains('\0')
    }
}

impl Ordinal for DateTime<Utc> {
    fn is_sound(&self) -> bool {
        (0..=9999).contains(&self.year())
    }
}

/// A place in a list: the values of its order at one row, the last of them unique.
pub trait Place: Serialize + DeserializeOwned {
    /// The values; `None` where the database can't compare one.
    fn key(self) -> Option<Key>;
}

macro_rules! places {
    ($(($($part:ident $at:tt),+))*) => {$(
        impl<$($part: Ordinal),+> Place for ($($part,)+) {
            fn key(self) -> Option<Key> {
                ($(self.$at.is_sound())&&+).then(|| vec![$(self.$at.into()),+])
            }
        }
    )*};
}
places! { (A 0) (A 0, B 1) (A 0, B 1, C 2) }

fn write<P: Place>(list: &str, place: &P) -> String {
    BASE64.encode(serde_json::to_vec(&(list, place)).expect("places are texts, numbers and times"))
}

fn read<P: Place>(list: &str, text: &str) -> Option<Key> {
    let json = BASE64.decode(text).ok().filter(|_| text.len() <= CURSOR)?;
    let (of, place): (String, P) = serde_json::from_slice(&json).ok()?;
    if of == list { place.key() } else { None }
}

/// The arguments that every list takes.
#[derive(Debug, Default)]
pub struct Paging {
    /// The first so many.
    pub first: Option<i32>,
    /// After this place.
    pub after: Option<Cursor>,
    /// The last so many.
    pub last: Option<i32>,
    /// Before this place.
    pub before: Option<Cursor>,
}

impl Paging {
    /// The page that they ask for of the list of this name, whose order `P` is. The name stands in its cursors; a list that
    /// can be ordered in several ways has a name for each.
    ///
    /// # Errors
    /// INVALID_INPUT: `first` with `last`, a number out of range, a cursor of another list.
    pub fn read<P: Place>(&self, ctx: &Context<'_>, list: &str) -> Result<Page> {
        Ok(self.page::<P>(list, ctx.limits().max_page_size)?)
    }

    fn page<P: Place>(&self, list: &str, most: i32) -> Result<Page, Refusal> {
        let (argument, number) = match (self.first, self.last) {
            (Some(_), Some(_)) => {
                return Err(Refusal::invalid(
                    &["last"],
                    "give `first` or `last`, not both",
                ));
            }
            (None, Some(last)) => ("last", Some(last)),
            (first, None) => ("first", first),
        };
        let limit = match number {
            None => page::DEFAULT.min(u64::try_from(most).unwrap_or(page::DEFAULT)),
            Some(number) => {
                let limit = if number < 0 { 0 } else { most };
                u64::try_from(number)
                    .ok()
                    .filter(|_| number <= most)
                    .ok_or_else(|| {
                        Refusal::beyond(
                            &[argument],
                            format!("`{argument}` must be from 0 to {most}, got {number}"),
                            limit.into(),
                            number.into(),
                        )
                    })?
            }
        };
        let place = |argument: &str, cursor: &Option<Cursor>| match cursor {
            None => Ok(None),
            Some(Cursor(text)) => match read::<P>(list, text) {
                Some(key) => Ok(Some(key)),
                None => Err(Refusal::invalid(
                    &[argument],
                    format!("`{argument}` is not a cursor of this list"),
                )),
            },
        };
        Ok(Page {
            after: place("after", &self.after)?,
            before: place("before", &self.before)?,
            limit,
            backward: self.last.is_some(),
        })
    }
}

/// Where a page stands in its list.
#[derive(Debug, Default, SimpleObject)]
pub struct PageInfo {
    /// Whether the list goes on after this page.
    has_next_page: bool,
    /// Whether the list begins before this page.
    has_previous_page: bool,
    /// The place of the first one on this page, for `before`.
    start_cursor: Option<Cursor>,
    /// The place of the last one on this page, for `after`.
    end_cursor: Option<Cursor>,
}

type Count = Arc<dyn Fn() -> BoxFuture<'static, Result<Option<u64>, LoadError>> + Send + Sync>;

/// One page of a list.
pub struct Connection<T> {
    edges: Vec<Edge<T>>,
    has_next: bool,
    has_previous: bool,
    count: Option<Count>,
}

/// One of a list, and where it stands.
pub struct Edge<T> {
    cursor: String,
    node: T,
}

impl<T> Connection<T> {
    /// A page of the list of this name. `place` is where a row stands in its order, `node` what the graph makes of it.
    pub fn new<M, P: Place>(
        list: &str,
        rows: Rows<M>,
        place: impl Fn(&M) -> P,
        node: impl Fn(M) -> T,
    ) -> Self {
        let edge = |row| Edge {
            cursor: write(list, &place(&row)),
            node: node(row),
        };
        Self {
            edges: rows.rows.into_iter().map(edge).collect(),
            has_next: rows.has_next,
            has_previous: rows.has_previous,
            count: None,
        }
    }

    /// How all of them are counted, should that be asked for; `None`: there are more than are counted.
    #[must_use]
    pub fn counted<F, Fut>(mut self, count: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<u64>, LoadError>> + Send + 'static,
    {
        self.count = Some(Arc::new(move || count().boxed()));
        self
    }

    /// A list without anything, as whoever may see none of it gets.
    #[must_use]
    pub fn empty() -> Self {
        let connection = Self {
            edges: Vec::new(),
            has_next: false,
            has_previous: false,
            count: None,
        };
        connection.counted(|| async { Ok(Some(0)) })
    }
}

impl<T: OutputType> TypeName for Connection<T> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Connection", T::type_name()).into()
    }
}

impl<T: OutputType> TypeName for Edge<T> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Edge", T::type_name()).into()
    }
}

/// One page of a list.
#[Object(name_type)]
impl<T: OutputType> Connection<T> {
    /// What is on this page, each with its place.
    async fn edges(&self) -> &[Edge<T>] {
        &self.edges
    }

    /// What is on this page.
    async fn nodes(&self) -> Vec<&T> {
        self.edges.iter().map(|edge| &edge.node).collect()
    }

    /// Where this page stands in the list.
    async fn page_info(&self) -> PageInfo {
        let cursor = |edge: Option<&Edge<T>>| edge.map(|edge| Cursor(edge.cursor.clone()));
        PageInfo {
            has_next_page: self.has_next,
            has_previous_page: self.has_previous,
            start_cursor: cursor(self.edges.first()),
            end_cursor: cursor(self.edges.last()),
        }
    }

    /// How many are in the whole list; counted only when asked for, and null above 10,000.
    async fn total_count(&self) -> Result<Option<i32>> {
        let Some(count) = &self.count else {
            return Ok(None);
        };
        Ok(count().await?.and_then(|count| i32::try_from(count).ok()))
    }
}

/// One of a list, and where it stands.
#[Object(name_type)]
impl<T: OutputType> Edge<T> {
    /// Its place in the list, for `after` and `before`.
    async fn cursor(&self) -> Cursor {
        Cursor(self.cursor.clone())
    }

    /// The thing itself.
    async fn node(&self) -> &T {
        &self.node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type ByName = (String, Uuid);

    fn asked(
        first: Option<i32>,
        after: Option<&str>,
        last: Option<i32>,
        before: Option<&str>,
    ) -> Result<Page, Refusal> {
        let cursor = |text: Option<&str>| text.map(|text| Cursor(text.to_owned()));
        Paging {
            first,
            after: cursor(after),
            last,
            before: cursor(before),
        }
        .page::<ByName>("agents", 100)
    }

    #[test]
    fn pages() {
        let key = |page: Option<Key>| page.map(|key| key.len());
        let cursor = write("agents", &("Ada \"é\"".to_owned(), Uuid::from_u128(7)));
        for (page, limit, backward, after, before) in [
            (asked(None, None, None, None), 20, false, None, None),
            (
                asked(Some(100), Some(&cursor), None, None),
                100,
                false,
                Some(2),
                None,
            ),
            (asked(Some(0), None, None, None), 0, false, None, None),
            (
                asked(None, None, Some(3), Some(&cursor)),
                3,
                true,
                None,
                Some(2),
            ),
            (
                asked(Some(3), Some(&cursor), None, Some(&cursor)),
                3,
                false,
                Some(2),
                Some(2),
            ),
        ] {
            let page = page.unwrap();
            assert_eq!(
                (page.limit, page.backward, key(page.after), key(page.before)),
                (limit, backward, after, before)
            );
        }
    }

    #[test]
    fn what_is_refused() {
        let other = write("models", &("x".to_owned(), Uuid::nil()));
        let other_order = write("agents", &(5i64, Uuid::nil()));
        let nul = write("agents", &("a\0b".to_owned(), Uuid::nil()));
        let long = write("agents", &("x".repeat(5000), Uuid::nil()));
        for (page, path, limit, actual) in [
            (
                asked(Some(101), None, None, None),
                "first",
                Some(100),
                Some(101),
            ),
            (
                asked(Some(-1), None, None, None),
                "first",
                Some(0),
                Some(-1),
            ),
            (
                asked(None, None, Some(i32::MAX), None),
                "last",
                Some(100),
                Some(i64::from(i32::MAX)),
            ),
            (asked(Some(1), None, Some(1), None), "last", None, None),
            (asked(None, Some(""), None, None), "after", None, None),
            (asked(None, Some("!"), None, None), "after", None, None),
            (asked(None, Some(&other), None, None), "after", None, None),
            (
                asked(None, Some(&other_order), None, None),
                "after",
                None,
                None,
            ),
            (asked(None, None, None, Some(&nul)), "before", None, None),
            (asked(None, None, None, Some(&long)), "before", None, None),
        ] {
            let refusal = page.unwrap_err();
            let Refusal::InvalidInput {
                path: at,
                limit: against,
                actual: value,
                message,
            } = &refusal
            else {
                panic!("{refusal:?}")
            };
            assert_eq!(
                (at.as_slice(), *against, *value),
                ([path.to_owned()].as_slice(), limit, actual),
                "{message}"
            );
        }
    }

    #[test]
    fn times_out_of_range_are_no_places() {
        let far = write("runs", &(DateTime::<Utc>::MAX_UTC, Uuid::nil()));
        assert!(read::<(DateTime<Utc>, Uuid)>("runs", &far).is_none());
    }
}
