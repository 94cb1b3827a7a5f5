//! Ways in which the log could lose, repeat or stall, each tried.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests stand outside of what they drive: on the machine's clock, with tasks of their own"
)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use adapters::{clock::SystemClock, tasks::Tasks};
use entities::{
    Backend, CommandError, ConversationId, Db, MessageId, Permissions, RunId, RunStatus,
    RunTrigger, SystemScope, TenantId, Usage, UserId, db::Location, query::*, run, stream,
};
use events::{Delta, Kind, Log, LogOptions, Payload, Record, RunLog, read};
use sea_orm::ConnectionTrait;
use support::database::{Chosen, Database};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use uuid::Uuid;

const SYSTEM: SystemScope = SystemScope::of("tests");
const PATIENCE: Duration = Duration::from_secs(20);

struct House {
    log: Log,
    folder: tempfile::TempDir,
    _database: Option<Database>,
}

impl House {
    async fn new() -> Self {
        match Chosen::from_environment() {
            Chosen::Sqlite => Self::sqlite().await,
            Chosen::Postgres(cluster) => {
                let database = Database::create(&cluster).await.unwrap();
                let url = database.url().to_owned();
                Self::at(
                    &Location::Postgres(url),
                    tempfile::tempdir().unwrap(),
                    Some(database),
                )
                .await
            }
        }
    }

    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::at(
            &Location::Sqlite(folder.path().join("weft.db")),
            folder,
            None,
        )
        .await
    }

    async fn at(
        location: &Location,
        folder: tempfile::TempDir,
        database: Option<Database>,
    ) -> Self {
        let db = Db::connect(location).await.unwrap();
        migration::migrate(db.system(SYSTEM)).await.unwrap();
        let log = Log::start(
            db,
            SystemClock::shared(),
            Tasks::new(),
            LogOptions::default(),
        )
        .await
        .unwrap();
        Self {
            log,
            folder,
            _database: database,
        }
    }

    fn is_postgres(&self) -> bool {
        self.log.db().backend() == Backend::Postgres
    }

    /// A run under way in a new stream, and its worker's line.
    async fn run(&self) -> (Uuid, RunId, RunLog) {
        let (tenant, stream) = (TenantId(Uuid::now_v7()), Uuid::now_v7());
        let made: Result<(), CommandError> = self
            .log
            .command(move |c| {
                Box::pin(async move {
                    c.create(tenant, stream);
                    Ok(())
                })
            })
            .await;
        made.unwrap();
        let id = RunId(Uuid::now_v7());
        let row = run::Model {
            id,
            tenant_id: tenant,
            conversation_id: ConversationId(stream),
            parent_run_id: None,
            agent_id: None,
            agent_version_id: None,
            draft: None,
            asked_model_id: None,
            model_id: None,
            status: RunStatus::Running,
            trigger: RunTrigger::Message,
            user_id: UserId(Uuid::now_v7()),
            api_key_id: None,
            permissions: Permissions::NONE,
            queue_no: 1,
            input_message_id: None,
            output_message_id: MessageId(Uuid::now_v7()),
            attempt: 1,
            losses: 0,
            losses_in_step: 0,
            owner: None,
            lease_until: None,
            progress_at: None,
            steps: 0,
            step_seq: 0,
            error: None,
            usage: Usage::default(),
            first_seq: 0,
            terminal_seq: None,
            format: 1,
            created_at: SystemClock::shared().now(),
            started_at: None,
            first_token_at: None,
            finished_at: None,
        };
        run::Entity::add(self.log.db().system(SYSTEM), row)
            .await
            .unwrap();
        (stream, id, self.log.open(tenant, stream, (id, 1), 0, 0))
    }

    async fn all(&self, stream: Uuid) -> read::Page {
        read::pages(self.log.db().reader(SYSTEM), &[(stream, 0)], 1_000_000)
            .await
            .unwrap()
            .remove(&stream)
            .unwrap()
    }
}

fn delta(offset: usize, text: &str) -> Payload {
    Payload::Delta(Delta::new(
        Uuid::nil(),
        0,
        u32::try_from(offset).unwrap(),
        text.into(),
    ))
}

/// The text of part 0, by the rule of clients: a piece that does not go on where the text ends is not taken.
fn text(records: &[Record]) -> String {
    let mut text = String::new();
    for record in records {
        if let Payload::Delta(delta) = &record.payload {
            assert_eq!(
                delta.offset as usize,
                text.len(),
                "a piece is lost or said twice"
            );
            text.push_str(delta.text());
        }
    }
    text
}

/// A record was committed and nobody here was told: as between a COMMIT and its publishing, or when a hint was lost. Somebody
/// else begins to follow just then and reads it. Whoever waited already must hear of it too.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_follower_takes_no_word_from_the_first() {
    let house = House::new().await;
    let (stream, _, mut line) = house.run().await;
    line.push(Kind::TEXT, delta(0, "one")).await.unwrap();
    let head = line.flush().await.unwrap();
    let mut first = house.log.follow(stream, 0);
    timeout(PATIENCE, first.next()).await.unwrap().unwrap();
    let waits = tokio::spawn(async move { first.next().await.unwrap().seq });
    sleep(Duration::from_millis(50)).await;
    let db = house.log.db().system(SYSTEM);
    let row = stream::Entity::anywhere(SYSTEM)
        .filter(stream::Column::Id.eq(stream))
        .one(db)
        .await
        .unwrap()
        .unwrap();
    let tx = house.log.db().begin().await.unwrap();
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
    let tx = house.log.db().begin().await.unwrap();
    let lock = sea_orm::Statement::from_sql_and_values(
        sea_orm::DbBackend::Postgres,
        "select 1 from streams where id = $1 for update",
        [held_stream.into()],
    );
    tx.query_one_raw(lock).await.unwrap();
    held.push(Kind::TEXT, delta(0, "waits")).await.unwrap();
    let began = Instant::now();
    let (mut offset, mut worst) = (0, Duration::ZERO);
    let words = async {
        while began.elapsed() < Duration::from_millis(1000) {
            let asked = Instant::now();
            free.push(Kind::TEXT, delta(offset, "word ")).await.unwrap();
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
        worst < Duration::from_millis(300),
        "another run waited {worst:?} for a stream that is not its own"
    );
}

/// A run whose row can't be read (a later version wrote it) is its own trouble.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_read_stops_nobody_else() {
    let house = House::new().await;
    let (stream, id, mut bad) = house.run().await;
    let (_, _, mut good) = house.run().await;
    let db = house.log.db().system(SYSTEM);
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
    bad.push(Kind::TEXT, delta(0, "refused")).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    good.push(Kind::TEXT, delta(0, "fine")).await.unwrap();
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
    line.push(Kind::TEXT, delta(0, "before")).await.unwrap();
    line.flush().await.unwrap();
    network.gone.fetch_add(1, Ordering::SeqCst);
    line.push(Kind::TEXT, delta(6, "after")).await.unwrap();
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
                line.push(Kind::TEXT, delta(offset, "some words of a token "))
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
                            delta(offset, "x"),
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
        let page = house.all(stream).await;
        // `text` sees to it that none stands twice.
        if text(&page.records).len() < said {
            failed.push(format!("round {round}: {} of {said}", page.records.len()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
