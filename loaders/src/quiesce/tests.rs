use std::{ops::Range, sync::atomic::AtomicUsize};

use futures_util::{FutureExt, future::try_join_all};

use super::*;

#[derive(Clone, Debug, PartialEq)]
enum Wrong {
    Panicked,
    Database,
}

impl From<LoadPanicked> for Wrong {
    fn from(_: LoadPanicked) -> Self {
        Self::Panicked
    }
}

type Fetched = Result<HashMap<u32, u32>, Wrong>;

type Batches = Arc<Mutex<Vec<Vec<u32>>>>;

/// A relation from each number to the one 1,000 above, and the batches that were asked for.
fn relation(gate: &Arc<Gate>) -> (Batched<u32, u32, Wrong>, Batches) {
    let batches = Arc::new(Mutex::new(Vec::new()));
    let asked = batches.clone();
    let batched = Batched::new(gate, move |keys: Vec<u32>| {
        lock(&asked).push(keys.clone());
        async move {
            task::yield_now().await;
            Ok(keys
                .into_iter()
                .filter(|key| *key < 1_000_000)
                .map(|key| (key, key + 1_000))
                .collect())
        }
        .boxed()
    });
    (batched, batches)
}

fn sizes(batches: &Mutex<Vec<Vec<u32>>>) -> Vec<usize> {
    lock(batches).iter().map(Vec::len).collect()
}

async fn two_levels(
    relation: &Batched<u32, u32, Wrong>,
    keys: Range<u32>,
) -> Result<Vec<Option<u32>>, Wrong> {
    let chains = keys.map(|key| async move {
        let next = relation.load(key).await?.expect("is there");
        relation.load(next).await
    });
    try_join_all(chains).await
}

#[tokio::test]
async fn a_level_is_one_batch() {
    let gate = Gate::new();
    let (relation, batches) = relation(&gate);
    let found = quiesce(gate, two_levels(&relation, 0..500)).await;
    assert_eq!(found.unwrap(), (2_000..2_500).map(Some).collect::<Vec<_>>());
    assert_eq!(sizes(&batches), [500, 500]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_side_by_side_do_not_split_batches() {
    let requests = (0..64).map(|_| {
        spawn(async {
            let gate = Gate::new();
            let (relation, batches) = relation(&gate);
            let found = quiesce(gate, two_levels(&relation, 0..500)).await;
            (found.map(|found| found.len()), sizes(&batches))
        })
    });
    for (found, sizes) in try_join_all(requests).await.unwrap() {
        assert_eq!((found, sizes), (Ok(500), vec![500, 500]));
    }
}

#[tokio::test]
async fn each_key_is_asked_for_once() {
    let gate = Gate::new();
    let (relation, batches) = relation(&gate);
    let found = quiesce(gate, async {
        let first = try_join_all([7, 7, 2_000_000, 8].map(|key| relation.load(key))).await?;
        let again = relation.load(7).await?;
        let many = relation.load_many([8, 7, 7, 2_000_000]).await?;
        assert_eq!(relation.load_many([]).await?, HashMap::new());
        Ok::<_, Wrong>((first, again, many))
    });
    let (first, again, many) = found.await.unwrap();
    assert_eq!(first, [Some(1_007), Some(1_007), None, Some(1_008)]);
    assert_eq!(again, Some(1_007));
    assert_eq!(many, HashMap::from([(7, 1_007), (8, 1_008)]));
    assert_eq!(sizes(&batches), [3]);
}

#[tokio::test]
async fn an_error_or_a_panic_reaches_every_key() {
    let fetches: [fn(Vec<u32>) -> BoxFuture<'static, Fetched>; 3] = [
        |_| async { Err(Wrong::Database) }.boxed(),
        |_| async { panic!("in the future") }.boxed(),
        |_| panic!("before the future"),
    ];
    for (fetch, failure) in
        fetches
            .into_iter()
            .zip([Wrong::Database, Wrong::Panicked, Wrong::Panicked])
    {
        let gate = Gate::new();
        let relation = Batched::<u32, u32, Wrong>::new(&gate, fetch);
        let found = quiesce(gate, async {
            let ones = join_all([1, 2].map(|key| relation.load(key))).await;
            (ones, relation.load_many([1, 3]).await)
        });
        assert_eq!(
            found.await,
            (
                vec![Err(failure.clone()), Err(failure.clone())],
                Err(failure)
            )
        );
    }
}

#[tokio::test]
async fn a_load_that_is_dropped_takes_no_other_along() {
    let gate = Gate::new();
    let (relation, batches) = relation(&gate);
    let found = quiesce(gate, async {
        let mut dropped = Box::pin(relation.load(1));
        assert!(dropped.as_mut().now_or_never().is_none());
        let kept = relation.load(2);
        let drop_it = async { drop(dropped) };
        futures_util::join!(kept, drop_it).0
    });
    assert_eq!(found.await, Ok(Some(1_002)));
    assert_eq!(lock(&batches).len(), 1);
}

#[tokio::test]
async fn loads_go_out_without_a_request() {
    let gate = Gate::new();
    let (relation, batches) = relation(&gate);
    assert_eq!(two_levels(&relation, 0..100).await.unwrap().len(), 100);
    assert!(lock(&batches).len() < 10, "{:?}", sizes(&batches));
    quiesce(gate.clone(), async {}).await;
    assert_eq!(relation.load(5_000).await, Ok(Some(6_000)));
    // and one inside of the other is as one
    let found = quiesce(gate.clone(), async {
        quiesce(gate.clone(), two_levels(&relation, 100..103)).await
    })
    .await;
    assert_eq!(found.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_of_spawned_tasks_go_out() {
    let gate = Gate::new();
    let (relation, _) = relation(&gate);
    for key in 0..200 {
        let relation = relation.clone();
        let found = quiesce(gate.clone(), async move {
            spawn(async move { relation.load(key).await }).await
        });
        assert_eq!(found.await.unwrap(), Ok(Some(key + 1_000)));
    }
}

#[tokio::test]
async fn a_cancelled_request_loses_neither_its_statement_nor_loads_that_live_on() {
    let gate = Gate::new();
    let (begun, go, ended) = (
        Arc::new(Notify::new()),
        Arc::new(Notify::new()),
        Arc::new(AtomicUsize::new(0)),
    );
    let relation = Batched::<u32, u32, Wrong>::new(&gate, {
        let (begun, go, ended) = (begun.clone(), go.clone(), ended.clone());
        move |keys| {
            let (begun, go, ended) = (begun.clone(), go.clone(), ended.clone());
            async move {
                begun.notify_one();
                go.notified().await;
                ended.fetch_add(1, Ordering::SeqCst);
                Ok(keys.into_iter().map(|key| (key, key)).collect())
            }
            .boxed()
        }
    });
    let mut elsewhere = None;
    let request = quiesce(gate, async {
        let (one, two) = (relation.clone(), relation.clone());
        let under_way = spawn(async move { one.load(1).await });
        begun.notified().await;
        let waiting = spawn(async move { two.load(2).await });
        task::yield_now().await;
        elsewhere = Some((under_way, waiting));
    });
    // ends while one load is under way and one waits
    request.await;
    let (under_way, waiting) = elsewhere.expect("both were spawned");
    let release = async {
        loop {
            go.notify_one();
            task::yield_now().await;
        }
    };
    let loads = async { (under_way.await.unwrap(), waiting.await.unwrap()) };
    let found = tokio::select! { found = loads => found, () = release => unreachable!() };
    assert_eq!(found, (Ok(Some(1)), Ok(Some(2))));
    assert!(
        ended.load(Ordering::SeqCst) >= 2,
        "the statement under way was lost"
    );
}
