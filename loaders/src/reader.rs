//! The reader of a request: its view of the database, who asks, and its relations.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use entities::{Db, DbErr, Scope, Snapshot, Tx, Within};
use tokio::sync::oneshot;

use crate::quiesce::{Batched, Gate, Key, LoadPanicked, Value, spawn};

/// Why something could not be read. Each load of a batch that failed gets a clone.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// What the database says.
    #[error("failed to read the database")]
    Database(#[source] Arc<DbErr>),
    /// A batch or a read ended without an answer.
    #[error("failed to read")]
    Panicked(#[from] LoadPanicked),
}

impl From<DbErr> for LoadError {
    fn from(error: DbErr) -> Self {
        Self::Database(Arc::new(error))
    }
}

/// What is loaded by key: the type of the key names the relation (`UserOf`), and what it answers for a key.
///
/// ```text
/// impl Relation for ToolsOf {
///     type Value = Arc<Vec<tool::Model>>;
///     const ASKER: Asker = viewer;
///     async fn fetch(scope: &Scope, source: &Source, keys: Vec<Self>) -> Found<Self> { … one statement … }
/// }
/// ```
pub trait Relation: Key {
    /// What a key has, cheap to clone.
    type Value: Value;

    /// For whom a key may have a value at all; where it is left out, for everybody with a credential.
    const ASKER: Asker = Source::scope;

    /// Answers up to [`MAX_BATCH`](crate::quiesce::MAX_BATCH) keys, each there once, in a number of statements that does not
    /// depend on how many they are. A key that is not in the answer has no value: there is none, or whoever asks may not know
    /// of it.
    fn fetch(
        scope: &Scope,
        source: &Source,
        keys: Vec<Self>,
    ) -> impl Future<Output = Found<Self>> + Send;
}

/// Who asks, if he may ask this.
pub type Asker = fn(&Source) -> Option<&Scope>;

/// What those keys have that have a value.
pub type Found<R> = Result<HashMap<R, <R as Relation>::Value>, LoadError>;

/// Each row as the value of its key.
pub(crate) fn rows_by<K: Key, M>(rows: Vec<M>, key: impl Fn(&M) -> K) -> HashMap<K, Arc<M>> {
    let keyed = rows.into_iter().map(|row| (key(&row), Arc::new(row)));
    keyed.collect()
}

/// Each value as that of the key which is made of its id.
pub(crate) fn values_by<K: Key, I, V>(
    values: impl IntoIterator<Item = (I, V)>,
    key: impl Fn(I) -> K,
) -> HashMap<K, V> {
    let keyed = values.into_iter().map(|(id, value)| (key(id), value));
    keyed.collect()
}

/// What is of one key as a list, in the order in which it comes.
pub(crate) fn lists_by<K: Key, T>(
    items: impl IntoIterator<Item = (K, T)>,
) -> HashMap<K, Arc<Vec<T>>> {
    let mut lists: HashMap<K, Vec<T>> = HashMap::new();
    for (key, item) in items {
        lists.entry(key).or_default().push(item);
    }
    let whole = lists.into_iter().map(|(key, list)| (key, Arc::new(list)));
    whole.collect()
}

/// What a read is made from: one view of the database, and who asks.
#[derive(Clone)]
pub struct Source {
    snapshot: Snapshot,
    scope: Option<Arc<Scope>>,
}

impl Source {
    /// Who asks and where; `None` without a credential, for whom no tenant's row exists.
    #[must_use]
    pub fn scope(&self) -> Option<&Scope> {
        self.scope.as_deref()
    }

    /// The view itself, for reads of other crates.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The read transaction, opened by the first read of the request.
    ///
    /// # Errors
    /// The database can't be reached.
    pub async fn tx(&self) -> Result<&Tx, LoadError> {
        Ok(self.snapshot.tx().await?)
    }
}

/// Reads for one request (or for one event of a subscription), in one tenant and of one moment. Clones are the same.
#[derive(Clone)]
pub struct Reader(Arc<Inner>);

struct Inner {
    db: Db,
    open: fn(&Db, Within) -> Snapshot,
    gate: Arc<Gate>,
    view: Mutex<View>,
}

/// What is exchanged by [`Reader::renew`].
struct View {
    source: Source,
    /// By the type of the key: a [`Batched`] of it.
    relations: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
}

impl View {
    /// A view of the tenant that `scope` is in, and of nothing but that.
    fn open(open: fn(&Db, Within) -> Snapshot, db: &Db, scope: Option<Arc<Scope>>) -> Self {
        let tenant = scope.as_ref().map(|scope| scope.tenant());
        let snapshot = open(db, tenant.map_or(Within::Nowhere, Within::Tenant));
        Self {
            source: Source { snapshot, scope },
            relations: HashMap::new(),
        }
    }
}

impl Reader {
    /// A reader for whoever has this scope; `None`: no credential. Opens nothing yet.
    #[must_use]
    pub fn new(db: &Db, scope: Option<Scope>) -> Self {
        Self::opening(Db::snapshot, db, scope)
    }

    /// [`Reader::new`] for whoever is told events: they leave connections to those who ask for something, see
    /// [`Db::follower_snapshot`].
    #[must_use]
    pub fn following(db: &Db, scope: Option<Scope>) -> Self {
        Self::opening(Db::follower_snapshot, db, scope)
    }

    fn opening(open: fn(&Db, Within) -> Snapshot, db: &Db, scope: Option<Scope>) -> Self {
        Self(Arc::new(Inner {
            db: db.clone(),
            open,
            gate: Gate::new(),
            view: Mutex::new(View::open(open, db, scope.map(Arc::new))),
        }))
    }

    /// A view of its own moment, which opens nothing yet.
    fn fresh(&self, scope: Option<Arc<Scope>>) -> View {
        View::open(self.0.open, &self.0.db, scope)
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.0.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where its loads wait, for [`quiesce`](crate::quiesce::quiesce).
    #[must_use]
    pub fn gate(&self) -> Arc<Gate> {
        self.0.gate.clone()
    }

    /// Who asks and where; `None` without a credential.
    #[must_use]
    pub fn scope(&self) -> Option<Arc<Scope>> {
        self.view().source.scope.clone()
    }

    /// Looks anew from here on: another view of the database, nothing remembered. A mutation's payload then sees what the
    /// command did, and each event of a subscription is of its own moment. Nothing is held of the view before, so who waits for
    /// an event renews first.
    pub fn renew(&self) {
        let mut view = self.view();
        let scope = view.source.scope.clone();
        let before = std::mem::replace(&mut *view, self.fresh(scope));
        drop(view);
        drop(before);
    }

    /// [`Reader::renew`], as another: whoever has just signed in.
    pub fn renew_as(&self, scope: Scope) {
        let fresh = self.fresh(Some(Arc::new(scope)));
        let before = std::mem::replace(&mut *self.view(), fresh);
        drop(before);
    }

    /// The value of a key, if it has one. Loads that are waited for side by side go out together.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn load<R: Relation>(&self, key: R) -> Result<Option<R::Value>, LoadError> {
        self.relation::<R>().load(key).await
    }

    /// The values of those keys that have one.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn load_many<R: Relation>(
        &self,
        keys: impl IntoIterator<Item = R>,
    ) -> Result<HashMap<R, R::Value>, LoadError> {
        self.relation::<R>().load_many(keys).await
    }

    fn relation<R: Relation>(&self) -> Batched<R, R::Value, LoadError> {
        let mut view = self.view();
        let source = view.source.clone();
        let known = view.relations.entry(TypeId::of::<R>()).or_insert_with(|| {
            let batched = Batched::new(&self.0.gate, move |keys: Vec<R>| {
                let source = source.clone();
                Box::pin(async move {
                    match R::ASKER(&source) {
                        Some(scope) => R::fetch(scope, &source, keys).await,
                        None => Ok(HashMap::new()),
                    }
                })
            });
            Box::new(batched)
        });
        let known: &Batched<R, R::Value, LoadError> = known
            .downcast_ref()
            .expect("a relation is kept by the type of its key");
        known.clone()
    }

    /// A read of its own: a page of a list, a count. It runs in a task, in the span of the request, so a request that is
    /// cancelled never leaves the connection in the middle of a statement.
    ///
    /// # Errors
    /// What `work` answers; [`LoadError::Panicked`] if it gave no answer.
    pub async fn run<T, F, Fut>(&self, work: F) -> Result<T, LoadError>
    where
        T: Send + 'static,
        F: FnOnce(Source) -> Fut,
        Fut: Future<Output = Result<T, LoadError>> + Send + 'static,
    {
        let read = work(self.view().source.clone());
        let (tell, told) = oneshot::channel();
        // It goes out with the loads that wait beside it, and what its rows need with what the rows of those do: one connection
        // reads one after the other in any case.
        self.0.gate.wait(Box::pin(async move {
            // Whoever asked may have left.
            let _heard = tell.send(spawn(read).await);
        }));
        let error = match told.await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the request ended before".to_owned(),
        };
        tracing::error!(error, "a read ended without an answer");
        Err(LoadPanicked.into())
    }
}

#[cfg(test)]
mod tests;
