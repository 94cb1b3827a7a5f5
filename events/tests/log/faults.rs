//! Ways in which the log could lose, repeat or stall, each tried.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use entities::{db::Location, query::*, run, stream};
use events::Kind;
use sea_orm::ConnectionTrait;
use support::database::{Chosen, Database};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::house::{House, PATIENCE, SYSTEM, delta, text};

/// A record was committed and nobody here was told: as between a COMMIT and its publishing, or when a hint was lost. Somebody
/// else begins to follow just then and reads it. Whoever waited already must hear of it too.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_follower_takes_no_word_from_the_first() {
    let house = House::new().await;
    let (stream, _, mut line) = house.run().await;
    line.push(Kind::TEXT, delta(0, 0, "one")).await.unwrap();
    let head = line.flush().await.unwrap();
    let mut first = house.log.follow(stream, 0);
    timeout(PATIENCE, first.next()).await.unwrap().unwrap();
    let waits = tokio::spawn(async move { first.next().await.unwrap().seq });
    sleep(Duration::from_millis(50)).await;
    let db = house.log.db().owner(SYSTEM);
    let row = stream::Entity::anywhere(SYSTEM)
        .filter(stream::Column::Id.eq(stream))
        .one(db)
        .await
        .unwrap()
        .unwrap();
    let tx = house
        .log
        .db()
        .begin(entities::Within::Owner(SYSTEM))
        .await
        .unwrap();
    let copy = if house.is_postgres() { "$1" } else { "?" };
    let sql =
        format!(
        "insert into events (tenant_id, stream_id, seq, run_id, attempt, n, v, at, kind, payload)
         select tenant_id, id, head + 1, null, 0, 0, 1, {}, 100, {} from streams where id = {copy}",
        if house.is_postgres() { "now()" } else { "'2026-01-01T00:00:00+00:00'" },
        if house.is_postgres() { "'x'::bytea" } else { "x'78'" },
    );
    let backend = tx.get_database_backend();
    tx.execute_raw(sea_orm::Statement::from_sql_and_values(
        backend,
        sql,
        [stream.into()],
    ))
    .await
    .unwrap();
    stream::Entity::change_anywhere(SYSTEM)
        .filter(stream::Column::Id.eq(stream))
        .set(stream::ActiveModel {
            head: Set(row.head + 1),
            ..Default::default()
        })
        .exec(&*tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let mut second = house.log.follow(stream, head);
    assert_eq!(
        timeout(PATIENCE, second.next()).await.unwrap().unwrap().seq,
        head + 1
    );
    assert_eq!(
        timeout(Duration::from_secs(8), waits)
            .await
            .expect("the first hears of it within two seconds")
            .unwrap(),
        head + 1
    );
}

/// A stream that is held for long is waited for, and the others are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_held_for_long_delays_nobody_else() {
    let house = House::new().await;
    if !house.is_postgres() {
        return; // one writer
    }
    let (held_stream, _, mut held) = house.run().await;
    let (_, _, mut free) = house.run().await;
    let tx = house
        .log
        .db()
        .begin(entities::Within::Owner(SYSTEM))
        .await
        .unwrap();
    let lock = sea_orm::Statement::from_sql_and_values(
        sea_orm::DbBackend::Postgres,
        "select 1 from streams where id = $1 for update",
        [held_stream.into()],
    );
    tx.query_one_raw(lock).await.unwrap();
    held.push(Kind::TEXT, delta(0, 0, "waits")).await.unwrap();
    let began = Instant::now();
    let (mut offset, mut worst) = (0, Duration::ZERO);
    let words = async {
        while began.elapsed() < Duration::from_millis(1000) {
            let asked = Instant::now();
            free.push(
                Kind::TEXT,
                delta(0, u32::try_from(offset).unwrap(), "word "),
            )
            .await
            .unwrap();
            offset += 5;
            free.flush().await.unwrap();
            worst = worst.max(asked.elapsed());
            sleep(Duration::from_millis(10)).await;
        }
    };
    // what holds the stream lets go in the end, whoever waits
    let lets_go = async {
        sleep(Duration::from_millis(1500)).await;
        tx.rollback().await.unwrap();
    };
    tokio::join!(words, lets_go);
    timeout(PATIENCE, held.flush()).await.unwrap().unwrap();
    assert!(
        worst < Duration::from_secs(1),
        "another run waited {worst:?} for a stream that is not its own"
    );
}

/// A run whose row can't be read (a later version wrote it) is its own trouble.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_read_stops_nobody_else() {
    let house = House::new().await;
    let (stream, id, mut bad) = house.run().await;
    let (_, _, mut good) = house.run().await;
    let db = house.log.db().owner(SYSTEM);
    run::Entity::change_anywhere(SYSTEM)
        .filter(run::Column::Id.eq(id))
        .col_expr(run::Column::Status, Expr::cust("'OF_A_LATER_VERSION'"))
        .exec(db)
        .await
        .unwrap();
    stream::Entity::change_anywhere(SYSTEM)
        .filter(stream::Column::Id.eq(stream))
        .set(stream::ActiveModel {
            fence: Set(7),
            ..Default::default()
        })
        .exec(db)
        .await
        .unwrap();
    bad.push(Kind::TEXT, delta(0, 0, "refused")).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    good.push(Kind::TEXT, delta(0, 0, "fine")).await.unwrap();
    timeout(Duration::from_secs(5), good.flush())
        .await
        .expect("the writer goes on")
        .unwrap();
    timeout(Duration::from_secs(5), bad.flush())
        .await
        .expect("it is told")
        .unwrap_err();
}

/// The peer of every open connection is gone without a word, as after a switch of the server's host; new connections are fine.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_end_of_the_connection_is_noticed() {
    let Chosen::Postgres(cluster) = Chosen::from_environment() else {
        return;
    };
    let database = Database::create(&cluster).await.unwrap();
    let network = Network::start(database.address().await.unwrap()).await;
    let url = database.url_through(network.address).unwrap();
    let house = House::at(
        &Location::Postgres(url),
        tempfile::tempdir().unwrap(),
        Some(database),
    )
    .await;
    let (_, _, mut line) = house.run().await;
    line.push(Kind::TEXT, delta(0, 0, "before")).await.unwrap();
    line.flush().await.unwrap();
    network.gone.fetch_add(1, Ordering::SeqCst);
    line.push(Kind::TEXT, delta(0, 6, "after")).await.unwrap();
    timeout(Duration::from_secs(45), line.flush())
        .await
        .expect("the writer finds another connection")
        .unwrap();
}

struct Network {
    address: SocketAddr,
    /// Connections made before this was raised carry nothing any more, and stay open.
    gone: Arc<AtomicUsize>,
}

impl Network {
    async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, gone) = (
            listener.local_addr().unwrap(),
            Arc::new(AtomicUsize::new(0)),
        );
        let made = gone.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(target).await.unwrap();
                let since = made.load(Ordering::SeqCst);
                let ((client_in, client_out), (server_in, server_out)) =
                    (client.into_split(), server.into_split());
                for (mut from, mut to) in [(client_in, server_out), (server_in, client_out)] {
                    let gone = made.clone();
                    tokio::spawn(async move {
                        let mut bytes = vec![0; 16 * 1024];
                        while let Ok(count) = from.read(&mut bytes).await {
                            if gone.load(Ordering::SeqCst) != since {
                                std::future::pending::<()>().await;
                            }
                            if count == 0 || to.write_all(&bytes[..count]).await.is_err() {
                                return;
                            }
                        }
                    });
                }
            }
        });
        Self { address, gone }
    }
}

/// SQLite's write-ahead log does not grow as long as there is something to write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_ahead_log_stays_small_under_load() {
    let house = House::sqlite().await;
    let mut lines = Vec::new();
    for _ in 0..100 {
        lines.push(house.run().await.2);
    }
    let wal = house.folder.path().join("weft.db-wal");
    let began = Instant::now();
    let talk = lines.into_iter().map(|mut line| {
        tokio::spawn(async move {
            let mut offset = 0;
            while began.elapsed() < Duration::from_secs(24) {
                line.push(
                    Kind::TEXT,
                    delta(0, u32::try_from(offset).unwrap(), "some words of a token "),
                )
                .await
                .unwrap();
                offset += 22;
                sleep(Duration::from_millis(20)).await;
            }
        })
    });
    let talk: Vec<_> = talk.collect();
    let mut sizes = Vec::new();
    while began.elapsed() < Duration::from_secs(23) {
        sleep(Duration::from_secs(1)).await;
        sizes.push(std::fs::metadata(&wal).unwrap().len() / 1024);
    }
    for task in talk {
        task.await.unwrap();
    }
    assert!(
        sizes[22] < 3 * sizes[6],
        "it grows and grows, KiB: {sizes:?}"
    );
}

/// The end of the process and the folding of each second at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_while_folding_folds_once() {
    let mut failed = Vec::new();
    for round in 0..12 {
        let house = House::sqlite().await;
        let began = Instant::now();
        let (stream, _, mut line) = house.run().await;
        let log = house.log.clone();
        let talk = tokio::spawn(async move {
            let (mut offset, mut said) = (0, 0);
            // Alternating kinds: nothing is joined, and the folding has something to do. After the end nothing is taken any more.
            'talk: while began.elapsed() < Duration::from_millis(1400) {
                for _ in 0..40 {
                    if line
                        .push(
                            if offset % 2 == 0 {
                                Kind::TEXT
                            } else {
                                Kind::REASONING
                            },
                            delta(0, u32::try_from(offset).unwrap(), "x"),
                        )
                        .await
                        .is_err()
                    {
                        break 'talk;
                    }
                    offset += 1;
                }
                if line.flush().await.is_err() {
                    break;
                }
                said = offset;
            }
            said
        });
        sleep(
            (Duration::from_millis(996) + Duration::from_millis(3 * round))
                .saturating_sub(began.elapsed()),
        )
        .await;
        if let Err(error) = log.close().await {
            failed.push(format!("round {round}: {error}"));
        }
        let said = talk.await.unwrap();
        let page = house.all(stream, 0).await;
        // `text` sees to it that none stands twice.
        if text(&page.records).len() < said {
            failed.push(format!("round {round}: {} of {said}", page.records.len()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A request that is given up while its view opens leaves no view behind that the next one would read by.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_is_given_up_is_nobodys() {
    let house = House::new().await;
    let db = house.log.db();
    if db.backend() == entities::Backend::Sqlite {
        return;
    }
    for asked in 0..200 {
        // given up at one moment or another of its BEGIN
        let snapshot = db.snapshot(entities::Within::Owner(SYSTEM));
        {
            let mut view = std::pin::pin!(snapshot.tx());
            for _ in 0..=asked * 5 {
                if futures_util::poll!(&mut view).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        drop(snapshot);
        let left = "select count(*) as n from pg_stat_activity where datname = current_database() and state = 'idle in transaction'";
        let left = || async {
            let sql = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, left);
            let row = db.owner(SYSTEM).query_one_raw(sql).await.unwrap();
            row.unwrap().try_get_by::<i64, _>("n").unwrap()
        };
        // It is undone in a moment; the server ends by itself after two seconds what is left open.
        let given_up = std::time::Instant::now();
        while left().await > 0 {
            let waited = given_up.elapsed();
            assert!(waited < Duration::from_secs(1), "a view was left open");
            sleep(Duration::from_millis(5)).await;
        }
    }
}
