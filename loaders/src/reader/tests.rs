use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use entities::{Db, Permissions, Principal, Role, SessionId, TenantId, UserId, db::Location};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::timeout;
use uuid::Uuid;

use super::*;
use crate::quiesce::quiesce;

async fn db(folder: &tempfile::TempDir) -> Db {
    Db::connect(&Location::Sqlite(folder.path().join("weft.db")))
        .await
        .unwrap()
}

fn scope(user: u128) -> Scope {
    let session = Principal::Session(SessionId(Uuid::from_u128(9)));
    Scope::new(
        TenantId(Uuid::from_u128(1)),
        UserId(Uuid::from_u128(user)),
        Role::Member,
        Permissions::of(Role::Member),
        session,
    )
}

/// The batches that went out.
static BATCHES: Mutex<Vec<Vec<u32>>> = Mutex::new(Vec::new());

/// The double of an even number, with who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct DoubleOf(u32);

impl Relation for DoubleOf {
    type Value = (u32, UserId);

    async fn fetch(scope: &Scope, source: &Source, mut keys: Vec<Self>) -> Found<Self> {
        source.tx().await?;
        keys.sort_by_key(|key| key.0);
        BATCHES
            .lock()
            .unwrap()
            .push(keys.iter().map(|key| key.0).collect());
        let user = scope.user();
        Ok(keys
            .into_iter()
            .filter(|key| key.0 % 2 == 0)
            .map(|key| (key, (key.0 * 2, user)))
            .collect())
    }
}

#[tokio::test]
async fn loads_go_out_together_once_and_again_after_a_renewal() {
    let folder = tempfile::tempdir().unwrap();
    let db = db(&folder).await;
    let reader = Reader::new(&db, Some(scope(5)));
    let five = UserId(Uuid::from_u128(5));
    quiesce(reader.gate(), async {
        let (one, two, many) = tokio::join!(
            reader.load(DoubleOf(1)),
            reader.load(DoubleOf(2)),
            reader.load_many([DoubleOf(2), DoubleOf(3), DoubleOf(4)])
        );
        assert_eq!((one.unwrap(), two.unwrap()), (None, Some((4, five))));
        assert_eq!(
            many.unwrap(),
            HashMap::from([(DoubleOf(2), (4, five)), (DoubleOf(4), (8, five))])
        );
        assert_eq!(reader.load(DoubleOf(2)).await.unwrap(), Some((4, five)));
        assert_eq!(*BATCHES.lock().unwrap(), [vec![1, 2, 3, 4]]);
        reader.renew();
        assert_eq!(reader.load(DoubleOf(2)).await.unwrap(), Some((4, five)));
        reader.renew_as(scope(6));
        assert_eq!(
            reader.load(DoubleOf(2)).await.unwrap(),
            Some((4, UserId(Uuid::from_u128(6))))
        );
        assert_eq!(
            *BATCHES.lock().unwrap(),
            [vec![1, 2, 3, 4], vec![2], vec![2]]
        );
    })
    .await;
    // without a credential nothing is there, and nothing is asked
    let nobody = Reader::new(&db, None);
    quiesce(nobody.gate(), async {
        assert_eq!(nobody.load(DoubleOf(2)).await.unwrap(), None);
    })
    .await;
    assert_eq!(BATCHES.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_read_runs_to_its_end_and_its_panic_stays_there() {
    let folder = tempfile::tempdir().unwrap();
    let reader = Reader::new(&db(&folder).await, None);
    let (done, ended) = tokio::sync::oneshot::channel();
    let work = reader.run(|source| async move {
        assert!(source.scope().is_none());
        tokio::task::yield_now().await;
        done.send(()).unwrap();
        Ok(())
    });
    // begun, then dropped
    let mut work = Box::pin(work);
    assert!(futures_util::poll!(work.as_mut()).is_pending());
    drop(work);
    ended.await.unwrap();

    let panicked = reader
        .run(|_| async {
            if std::hint::black_box(true) {
                panic!("on purpose")
            } else {
                Ok(())
            }
        })
        .await;
    assert!(
        matches!(panicked, Err(LoadError::Panicked(_))),
        "{panicked:?}"
    );
    let failed: Result<(), _> = reader
        .run(|_| async { Err(DbErr::Custom("no".into()).into()) })
        .await;
    assert!(matches!(failed, Err(LoadError::Database(_))), "{failed:?}");
}

#[tokio::test]
async fn the_view_is_one_until_it_is_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let reader = Reader::new(&db(&folder).await, None);
    let seen = Arc::new(Mutex::new(Vec::new()));
    for renewed in [false, false, true] {
        if renewed {
            reader.renew();
        }
        let seen = seen.clone();
        reader
            .run(|source| async move {
                let tx: *const Tx = source.tx().await?;
                seen.lock().unwrap().push(tx as usize);
                // kept, so that no other transaction stands at the same address
                std::mem::forget(source.clone());
                Ok(())
            })
            .await
            .unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[1], seen[2]);
}

#[tokio::test]
async fn who_follows_leaves_connections_to_who_asks() {
    let folder = tempfile::tempdir().unwrap();
    let db = db(&folder).await;
    let told: Vec<_> = (0..20)
        .map(|_| db.follower_snapshot(entities::Within::Nowhere))
        .collect();
    let mut opening: FuturesUnordered<_> = told.iter().map(entities::Snapshot::tx).collect();
    let mut open = 0;
    while let Ok(Some(view)) = timeout(Duration::from_millis(500), opening.next()).await {
        view.unwrap();
        open += 1;
    }
    assert!((1..=4).contains(&open), "{open} of 8");
    drop(opening);
    // more than the rest of them, one after the other
    for _ in 0..8 {
        let asked = db.snapshot(entities::Within::Nowhere);
        timeout(Duration::from_secs(4), asked.tx())
            .await
            .unwrap()
            .unwrap();
    }
    // who was told makes room for the next
    drop(told);
    let next: Vec<_> = (0..open)
        .map(|_| db.follower_snapshot(entities::Within::Nowhere))
        .collect();
    for view in &next {
        timeout(Duration::from_secs(4), view.tx())
            .await
            .unwrap()
            .unwrap();
    }
}
