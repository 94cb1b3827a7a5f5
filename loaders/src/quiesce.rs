//! Batches that never split: the loads of a request wait until nothing else of the request can go on, then all of them go out
//! at once. No timer and no guess at a number of turns, so a page costs one statement per relation and level, be the server
//! idle or busy.
//!
//! [`quiesce`] runs a request (or one event of a subscription) and is what notices that it can't go on; its [`Gate`] is
//! where the loads of that request wait; a [`Batched`] is one relation. Underneath is the `dataloader` crate, which keeps what
//! was loaded: each key is asked for once as long as the [`Batched`] lives, so it must not outlive the request. An error is
//! kept, too.

use std::{
    collections::HashMap,
    fmt::Debug,
    future::{Future, poll_fn},
    hash::Hash,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use dataloader::{BatchFn, cached::Loader};
use futures_util::future::{BoxFuture, JoinAll, join_all};
use tokio::{runtime::Handle, sync::Notify, task};
use tracing::{Instrument, Span};

/// A batch of more keys than these goes out as several, one after the other: above any page, below the parameters that a
/// statement may have (32,766 on SQLite, 65,535 on PostgreSQL).
pub const MAX_BATCH: usize = 10_000;

/// Turns that a request gets in one poll before the other tasks of its thread do.
const TURNS: u32 = 64;

/// A batch ended without an answer: its function panicked, or the program is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a batch of loads ended without an answer")]
pub struct LoadPanicked;

/// No code that panics runs under our locks, so what they hold is whole in any case.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the loads of one request wait. One for each request, and for each event of a subscription.
#[derive(Default)]
pub struct Gate(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    waves: Vec<BoxFuture<'static, ()>>,
    /// A [`quiesce`] looks after the waves.
    driven: bool,
    /// It is being polled, and will look at the waves before it sleeps.
    awake: bool,
    /// Otherwise this wakes it.
    waker: Option<Waker>,
}

impl Gate {
    /// A gate, to be shared by the batches of a request and its [`quiesce`].
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.0)
    }

    /// Lets something wait until nothing of the request can go on.
    pub(crate) fn wait(&self, wave: BoxFuture<'static, ()>) {
        let mut waiting = self.waiting();
        if waiting.driven {
            waiting.waves.push(wave);
            // from a task that the request spawned, say
            let waker = if waiting.awake {
                None
            } else {
                waiting.waker.take()
            };
            drop(waiting);
            if let Some(waker) = waker {
                waker.wake();
            }
        } else {
            drop(waiting);
            spawn(async {
                // the other loads of this moment may come along
                task::yield_now().await;
                wave.await;
            });
        }
    }
}

/// Runs `inner`, a request or an event. Whenever it can't go on and loads wait at the gate, sends all of them off at once.
///
/// Loads go out, too, where nothing runs in a `quiesce`, or when it is over, but then in smaller batches. A second
/// `quiesce` on a gate that has one leaves the loads to the first.
pub async fn quiesce<F: Future>(gate: Arc<Gate>, inner: F) -> F::Output {
    let Some(mut driver) = Driver::new(gate) else {
        return inner.await;
    };
    let mut inner = pin!(inner);
    // tokio's budget for a task would make a large level look as if it couldn't go on
    task::unconstrained(poll_fn(|cx| driver.poll(inner.as_mut(), cx))).await
}

/// What a [`quiesce`] has while it runs.
struct Driver {
    gate: Arc<Gate>,
    woken: Arc<Woken>,
    /// Wakes `inner`, which sets a flag.
    waker: Waker,
    running: Option<JoinAll<BoxFuture<'static, ()>>>,
}

impl Driver {
    fn new(gate: Arc<Gate>) -> Option<Self> {
        if std::mem::replace(&mut gate.waiting().driven, true) {
            return None;
        }
        let woken = Arc::new(Woken {
            flag: AtomicBool::new(true),
            task: Mutex::new(Waker::noop().clone()),
        });
        Some(Self {
            gate,
            waker: woken.clone().into(),
            woken,
            running: None,
        })
    }

    fn poll<F: Future>(&mut self, mut inner: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        lock(&self.woken.task).clone_from(cx.waker());
        self.gate.waiting().awake = true;
        for _ in 0..TURNS {
            // the end of a wave wakes the loads that wait for it, and so `inner`
            if let Some(waves) = &mut self.running
                && Pin::new(waves).poll(cx).is_ready()
            {
                self.running = None;
            }
            if self.woken.flag.swap(false, Ordering::AcqRel) {
                if let Poll::Ready(output) =
                    inner.as_mut().poll(&mut Context::from_waker(&self.waker))
                {
                    return Poll::Ready(output);
                }
                continue; // it may have been woken meanwhile
            }
            let mut waiting = self.gate.waiting();
            if self.running.is_some() || waiting.waves.is_empty() {
                waiting.awake = false;
                waiting.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            self.running = Some(join_all(std::mem::take(&mut waiting.waves)));
        }
        // still going strong: next turn
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let mut waiting = self.gate.waiting();
        waiting.driven = false;
        waiting.awake = false;
        waiting.waker = None;
        let abandoned = std::mem::take(&mut waiting.waves);
        drop(waiting);
        // their loads, if any live on in other tasks, are told by that, and then do without us
        drop(abandoned);
        self.running = None;
    }
}

struct Woken {
    flag: AtomicBool,
    task: Mutex<Waker>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.flag.swap(true, Ordering::AcqRel) {
            lock(&self.task).wake_by_ref();
        }
    }
}

/// What a relation is asked by.
pub trait Key: Hash + Eq + Clone + Debug + Send + Sync + 'static {}

impl<K: Hash + Eq + Clone + Debug + Send + Sync + 'static> Key for K {}

/// What a relation answers; cheap to clone, an `Arc` as a rule.
pub trait Value: Clone + Send + Sync + 'static {}

impl<V: Clone + Send + Sync + 'static> Value for V {}

/// Why a relation doesn't; each key of a batch gets a clone.
pub trait Failure: From<LoadPanicked> + Clone + Send + Sync + 'static {}

impl<E: From<LoadPanicked> + Clone + Send + Sync + 'static> Failure for E {}

type Answer<V, E> = Result<Option<V>, E>;
type Fetch<K, V, E> =
    Arc<dyn Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, E>> + Send + Sync>;

/// One relation of one request: loads by key, which go out together and each key once. Clones share all of it.
pub struct Batched<K: Key, V: Value, E: Failure>(Arc<Relation<K, V, E>>);

struct Relation<K: Key, V: Value, E: Failure> {
    gate: Arc<Gate>,
    /// The wave that waits at the gate.
    next: Mutex<Option<Wave<K, V, E>>>,
    loader: Loader<K, Answer<V, E>, Batch<K, V, E>>,
}

/// Loads that go out together.
struct Wave<K, V, E> {
    keys: Vec<K>,
    end: Arc<End<K, V, E>>,
}

/// How a wave ends: with the answers, or abandoned, without.
struct End<K, V, E> {
    answers: OnceLock<HashMap<K, Answer<V, E>>>,
    over: AtomicBool,
    told: Notify,
}

impl<K, V, E> End<K, V, E> {
    async fn wait(&self) -> Option<&HashMap<K, Answer<V, E>>> {
        let told = self.told.notified(); // from here on it would hear
        if !self.over.load(Ordering::Acquire) {
            told.await;
        }
        self.answers.get()
    }
}

/// Tells the loads of a wave that it is over, however it ends.
struct Tell<K: Key, V: Value, E: Failure> {
    relation: Weak<Relation<K, V, E>>,
    end: Arc<End<K, V, E>>,
}

impl<K: Key, V: Value, E: Failure> Drop for Tell<K, V, E> {
    fn drop(&mut self) {
        if let Some(relation) = self.relation.upgrade() {
            // never went out: nobody must join it any more
            lock(&relation.next).take_if(|wave| Arc::ptr_eq(&wave.end, &self.end));
        }
        self.end.over.store(true, Ordering::Release);
        self.end.told.notify_waiters();
    }
}

impl<K: Key, V: Value, E: Failure> Clone for Batched<K, V, E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Key, V: Value, E: Failure> Batched<K, V, E> {
    /// A relation whose `fetch` answers up to [`MAX_BATCH`] keys, each there once and in no order; a key that is missing in its
    /// map has no value. It runs in a task of its own, in the span of the request, and so to its end when the request is
    /// cancelled.
    pub fn new(
        gate: &Arc<Gate>,
        fetch: impl Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, E>> + Send + Sync + 'static,
    ) -> Self {
        let loader = Loader::new(Batch(Arc::new(fetch)))
            .with_yield_count(0)
            .with_max_batch_size(MAX_BATCH);
        Self(Arc::new(Relation {
            gate: gate.clone(),
            next: Mutex::default(),
            loader,
        }))
    }

    /// The value of a key, if it has one.
    ///
    /// # Errors
    /// Those of the batch that the key was in, for each of its keys; [`LoadPanicked`] if it gave no answer.
    pub async fn load(&self, key: K) -> Result<Option<V>, E> {
        let answers = self.answers(vec![key.clone()]).await?;
        answers
            .get(&key)
            .cloned()
            .unwrap_or_else(|| Err(LoadPanicked.into()))
    }

    /// The values of those keys that have one.
    ///
    /// # Errors
    /// As [`load`](Self::load), the first of them.
    pub async fn load_many(&self, keys: impl IntoIterator<Item = K>) -> Result<HashMap<K, V>, E> {
        let keys: Vec<K> = keys.into_iter().collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let answers = self.answers(keys.clone()).await?;
        let mut values = HashMap::with_capacity(keys.len());
        for key in keys {
            match answers.get(&key) {
                Some(Ok(Some(value))) => {
                    values.insert(key, value.clone());
                }
                Some(Ok(None)) => {}
                Some(Err(error)) => return Err(error.clone()),
                None => return Err(LoadPanicked.into()),
            }
        }
        Ok(values)
    }

    /// The answers of a wave that has these keys.
    async fn answers(&self, keys: Vec<K>) -> Result<Answers<K, V, E>, E> {
        // A wave can be abandoned by a request that ends while its tasks live on; the next is in nobody's hand, and is so
        // only if the runtime ends.
        for _ in 0..3 {
            let end = self.join(&keys);
            if end.wait().await.is_some() {
                return Ok(Answers(end));
            }
        }
        Err(LoadPanicked.into())
    }

    /// Adds keys to the wave that waits, or to a new one.
    fn join(&self, keys: &[K]) -> Arc<End<K, V, E>> {
        let mut next = lock(&self.0.next);
        if let Some(wave) = &mut *next {
            wave.keys.extend_from_slice(keys);
            return wave.end.clone();
        }
        let end = Arc::new(End {
            answers: OnceLock::new(),
            over: AtomicBool::new(false),
            told: Notify::new(),
        });
        *next = Some(Wave {
            keys: keys.to_vec(),
            end: end.clone(),
        });
        drop(next);
        let tell = Tell {
            relation: Arc::downgrade(&self.0),
            end: end.clone(),
        };
        let relation = self.0.clone();
        self.0.gate.wait(Box::pin(async move {
            let wave = lock(&relation.next).take_if(|wave| Arc::ptr_eq(&wave.end, &tell.end));
            // each key has an answer then, unless another wave took it along and was abandoned
            if let Some(wave) = wave
                && let Ok(answers) = relation.loader.try_load_many(wave.keys).await
            {
                // can't be set: this is the only place that does
                tell.end.answers.get_or_init(|| answers);
            }
            drop(tell);
        }));
        end
    }
}

/// The end of a wave that was not abandoned.
struct Answers<K, V, E>(Arc<End<K, V, E>>);

impl<K: Hash + Eq, V, E> Answers<K, V, E> {
    fn get(&self, key: &K) -> Option<&Answer<V, E>> {
        self.0.answers.get()?.get(key)
    }
}

struct Batch<K, V, E>(Fetch<K, V, E>);

impl<K: Key, V: Value, E: Failure> BatchFn<K, Answer<V, E>> for Batch<K, V, E> {
    fn load(&mut self, keys: &[K]) -> impl Future<Output = HashMap<K, Answer<V, E>>> {
        let (fetch, keys) = (self.0.clone(), keys.to_vec());
        async move {
            let asked = keys.clone();
            // inside of the task, so that a panic stays there
            let found = spawn(async move { fetch(asked).await }).await;
            let found = found.unwrap_or_else(|error| {
                tracing::error!(%error, "a batch of loads ended without an answer");
                Err(LoadPanicked.into())
            });
            match found {
                Ok(mut found) => keys
                    .into_iter()
                    .map(|key| {
                        let value = found.remove(&key);
                        (key, Ok(value))
                    })
                    .collect(),
                Err(error) => keys
                    .into_iter()
                    .map(|key| (key, Err(error.clone())))
                    .collect(),
            }
        }
    }
}

/// A task in the span of the request. Not of a group that a shutdown waits for: a shutdown waits for requests, and they for
/// their loads.
pub(crate) fn spawn<F>(work: F) -> task::JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    Handle::current().spawn(work.instrument(Span::current()))
}

#[cfg(test)]
mod tests;
