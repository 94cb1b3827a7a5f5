//! A log of a test's own, and what is said in it.

use std::time::Duration;

use adapters::{clock::SystemClock, tasks::Tasks};
use entities::{
    Backend, CommandError, ConversationId, Db, MessageId, Permissions, RunId, RunStatus,
    RunTrigger, SystemScope, TenantId, Usage, UserId, conversation, db::Location, query::*, run,
};
use events::{Delta, Draft, Kind, Log, LogOptions, Payload, Record, RunLog, read};
use support::{
    database::{Chosen, Database},
    proxy::Proxy,
};
use uuid::Uuid;

pub const SYSTEM: SystemScope = SystemScope::of("tests");
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct House {
    pub log: Log,
    url: Option<String>,
    pub folder: tempfile::TempDir,
    _database: Option<Database>,
    pub proxy: Option<Proxy>,
}

impl House {
    pub async fn new() -> Self {
        Self::open(false).await
    }

    /// On SQLite, whatever the environment says.
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(folder.path().join("weft.db"));
        Self::at(&location, folder, None).await
    }

    /// On the database at an address.
    pub async fn at(
        location: &Location,
        folder: tempfile::TempDir,
        database: Option<Database>,
    ) -> Self {
        let log = start(location).await;
        let url = if let Location::Postgres(url) = location {
            Some(url.clone())
        } else {
            None
        };
        Self {
            log,
            url,
            folder,
            _database: database,
            proxy: None,
        }
    }

    pub async fn open(behind_proxy: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (location, database, proxy) = match Chosen::from_environment() {
            Chosen::Sqlite => (Location::Sqlite(folder.path().join("weft.db")), None, None),
            Chosen::Postgres(cluster) => {
                let database = Database::create(&cluster).await.unwrap();
                let proxy = if behind_proxy {
                    Some(Proxy::start(database.address().await.unwrap()).await)
                } else {
                    None
                };
                let url = match &proxy {
                    Some(proxy) => database.url_through(proxy.address()).unwrap(),
                    None => database.url().to_owned(),
                };
                (Location::Postgres(url), Some(database), proxy)
            }
        };
        let url = if let Location::Postgres(url) = &location {
            Some(url.clone())
        } else {
            None
        };
        let log = start(&location).await;
        Self {
            log,
            url,
            folder,
            _database: database,
            proxy,
        }
    }

    pub fn is_postgres(&self) -> bool {
        self.log.db().backend() == Backend::Postgres
    }

    /// A second process on the same database; PostgreSQL only.
    pub async fn replica(&self) -> Log {
        start(&Location::Postgres(self.url.clone().unwrap())).await
    }

    pub async fn stream(&self) -> (TenantId, Uuid) {
        let (tenant, stream) = (TenantId(Uuid::now_v7()), Uuid::now_v7());
        let made: Result<(), CommandError> = self
            .log
            .command(entities::Within::Tenant(tenant), move |c| {
                Box::pin(async move {
                    c.create(tenant, stream);
                    Ok(())
                })
            })
            .await;
        made.unwrap();
        (tenant, stream)
    }

    /// A run under way in a new stream, and its worker's line.
    pub async fn run(&self) -> (Uuid, RunId, RunLog) {
        let (tenant, stream) = self.stream().await;
        let id = RunId(Uuid::now_v7());
        let now = SystemClock::shared().now();
        let row = run::Model {
            id,
            tenant_id: tenant,
            conversation_id: ConversationId(stream),
            parent_run_id: None,
            agent_id: None,
            agent_version_id: None,
            draft: None,
            asked_model_id: None,
            primary_model_id: None,
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
            error: None,
            usage: Usage::default(),
            first_seq: 0,
            terminal_seq: None,
            format: 1,
            created_at: now,
            started_at: None,
            first_token_at: None,
            finished_at: None,
        };
        let db = self.log.db().owner(SYSTEM);
        let talk = conversation::Model {
            id: ConversationId(stream),
            tenant_id: tenant,
            owner_id: row.user_id,
            reach: None,
            agent_id: None,
            title: None,
            title_by_person: false,
            title_due_at: None,
            title_failures: 0,
            is_indexed: true,
            is_archived: false,
            leaf_id: None,
            last_message_id: None,
            active_run_id: Some(id),
            last_queue_no: 1,
            last_activity_at: now,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        };
        conversation::Entity::add(db, talk).await.unwrap();
        run::Entity::add(db, row).await.unwrap();
        (stream, id, self.log.open(tenant, stream, (id, 1), 0, 0))
    }

    /// Somebody else takes the run over.
    pub async fn take_over(&self, tenant: TenantId, stream: Uuid, run: RunId) {
        let done: Result<(), CommandError> = self
            .log
            .command(entities::Within::Tenant(tenant), move |c| {
                Box::pin(async move {
                    c.lock(tenant, stream).await?;
                    run::Entity::change_anywhere(SYSTEM)
                        .filter(run::Column::Id.eq(run))
                        .set(run::ActiveModel {
                            attempt: Set(2),
                            ..Default::default()
                        })
                        .exec(&**c.tx())
                        .await?;
                    c.raise_fence(stream);
                    Ok(())
                })
            })
            .await;
        done.unwrap();
    }

    pub async fn tenant_of(&self, stream: Uuid) -> TenantId {
        let row = entities::stream::Entity::anywhere(SYSTEM)
            .filter(entities::stream::Column::Id.eq(stream))
            .one(self.log.db().owner(SYSTEM))
            .await;
        row.unwrap().unwrap().tenant_id
    }

    pub async fn all(&self, stream: Uuid, after: i64) -> read::Page {
        let db = self.log.db().reader(SYSTEM);
        // Some tests break connections, this one's too.
        let pages = support::wait::until(PATIENCE, "the stream is read", async || {
            read::pages(db, &[(stream, after)], 1_000_000).await.ok()
        });
        pages.await.remove(&stream).unwrap()
    }
}

pub async fn start(location: &Location) -> Log {
    let db = Db::connect(location).await.unwrap();
    migration::migrate(db.owner(SYSTEM)).await.unwrap();
    Log::start(
        db,
        SystemClock::shared(),
        Tasks::new(),
        LogOptions::default(),
    )
    .await
    .unwrap()
}

pub fn delta(part: u32, offset: u32, text: &str) -> Payload {
    Payload::Delta(Delta::new(Uuid::nil(), part, offset, text.into()))
}

pub fn whole(text: &str) -> Draft {
    Draft {
        kind: Kind(100),
        payload: Payload::Whole(text.to_owned().into()),
    }
}

/// Says `words` in one part, one word a push.
pub async fn say(line: &mut RunLog, words: impl IntoIterator<Item = String>) -> String {
    let mut said = String::new();
    for word in words {
        line.push(
            Kind::TEXT,
            delta(0, u32::try_from(said.len()).unwrap(), &word),
        )
        .await
        .unwrap();
        said.push_str(&word);
    }
    said
}

pub fn words(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|i| format!("word{i} "))
}

/// The text of part 0, checking that every piece stands where it says.
pub fn text(records: &[Record]) -> String {
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

pub async fn append(log: &Log, tenant: TenantId, stream: Uuid, what: &str) -> i64 {
    let what = what.to_owned();
    let seq: Result<i64, CommandError> = log
        .command(entities::Within::Tenant(tenant), move |c| {
            Box::pin(async move {
                c.lock(tenant, stream).await?;
                Ok(c.append(stream, None, whole(&what)))
            })
        })
        .await;
    seq.unwrap()
}
