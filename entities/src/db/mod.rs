//! The database: one writer and many readers on SQLite, pools on PostgreSQL, and the two kinds of transaction that there are.

mod transaction;
mod wall;

use std::{ops::Deref, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

pub use sea_orm::DbErr;
pub use transaction::{Outside, Transaction};
pub use wall::Within;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, RuntimeErr, SqlErr, SqliteTransactionMode,
    SqlxPostgresConnector, SqlxSqliteConnector, TransactionOptions, TransactionTrait,
    sqlx::{
        self,
        postgres::{PgConnectOptions, PgPoolOptions},
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
    },
};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::SystemScope;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Embedded: one process, one writer.
    Sqlite,
    /// A server that several processes share.
    Postgres,
}

/// Where the database is.
#[derive(Debug, Clone)]
pub enum Location {
    /// A file, made where it isn't there.
    Sqlite(PathBuf),
    /// `postgres://…`
    Postgres(String),
}

/// A handle on the database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
    /// Who follows takes a place before a connection: thousands are told something at once, and requests need connections as well.
    followers: Arc<Semaphore>,
}

/// Connections for reading on SQLite, and how many of them may be in use to tell events. Those who catch up take others, as many as
/// `events` gives turns; what is left of the first number is always there for requests.
const READERS_SQLITE: (u32, usize) = (8, 3);
/// The same on PostgreSQL.
const READERS_POSTGRES: (u32, usize) = (16, 8);
/// Connections for the system's single statements on PostgreSQL: whose credential it is, what is due.
const SYSTEM: u32 = 8;
/// Connections in the role of the database's user, and how long one stays that nobody uses. Migrating takes two.
const OWNERS: u32 = 2;
const OWNER_IDLE: Duration = Duration::from_secs(10);

enum Inner {
    Sqlite {
        /// Commands: `synchronous = FULL`.
        commands: DatabaseConnection,
        /// Batches of deltas: `synchronous = NORMAL`.
        deltas: DatabaseConnection,
        /// `query_only`.
        readers: DatabaseConnection,
        /// Moves the write-ahead log into the file.
        maintenance: DatabaseConnection,
        /// SQLite has one writer. Whoever wants to write waits here, first come, first served, and not in its busy handler,
        /// which is unfair and sleeps.
        turn: Arc<Semaphore>,
    },
    /// Every connection but the owner's is in one of the two roles from its start, see [`Within`]: what forgets to say which is
    /// in that of a tenant, without one.
    Postgres {
        commands: DatabaseConnection,
        /// REPEATABLE READ READ ONLY by default, so that BEGIN alone is a snapshot.
        readers: DatabaseConnection,
        /// In the system's role and READ ONLY, for single statements.
        system: DatabaseConnection,
        /// Leases are renewed on a connection of their own: nothing that waits may let them lapse.
        leases: DatabaseConnection,
        /// In the role of the login, opened when it is needed.
        owner: DatabaseConnection,
        options: Box<PgConnectOptions>,
    },
}

/// A transaction that may write: READ COMMITTED on PostgreSQL, BEGIN IMMEDIATE on SQLite. Dropped without [`Tx::commit`], it
/// is rolled back.
pub struct Tx {
    inner: Transaction,
    backend: Backend,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Deref for Tx {
    type Target = Transaction;
    fn deref(&self) -> &Transaction {
        &self.inner
    }
}

impl Tx {
    /// Makes it all true at once.
    ///
    /// # Errors
    /// Where the connection breaks meanwhile the outcome is unknown.
    pub async fn commit(self) -> Result<(), DbErr> {
        self.inner.commit().await
    }

    /// Undoes it all. Dropping does the same a little later.
    ///
    /// # Errors
    /// The connection broke; then the server undoes it.
    pub async fn rollback(self) -> Result<(), DbErr> {
        self.inner.rollback().await
    }

    /// Which database it is on.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The same transaction for a statement that looks across the wall between tenants: on PostgreSQL it is done in the system's
    /// role, and costs two round trips more.
    #[must_use]
    pub fn system(&self, _: SystemScope) -> Outside<'_> {
        self.inner.system()
    }
}

/// Connections for one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// What they are for.
    pub name: &'static str,
    /// How many are open.
    pub open: usize,
    /// How many of these nobody uses.
    pub idle: usize,
    /// How many may be open.
    pub most: usize,
}

impl Pool {
    fn of<D: sqlx::Database>(name: &'static str, pool: &sqlx::Pool<D>) -> Self {
        let whole = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            name,
            open: whole(pool.size()),
            idle: pool.num_idle(),
            most: whole(pool.options().get_max_connections()),
        }
    }
}

/// One view of the database: a read transaction that is opened at first use and shared by all reads of one request. Cheap to
/// clone; it ends with its last clone.
#[derive(Clone)]
pub struct Snapshot(Arc<View>);

struct View {
    db: Db,
    within: Within,
    is_of_follower: bool,
    tx: OnceCell<Tx>,
}

impl Snapshot {
    /// The transaction, opened now if nothing was read before.
    ///
    /// # Errors
    /// The database can't be reached, or no connection was free within five seconds.
    pub async fn tx(&self) -> Result<&Tx, DbErr> {
        let View {
            db,
            within,
            is_of_follower,
            tx,
        } = &*self.0;
        tx.get_or_try_init(|| db.begin_read(*within, *is_of_follower))
            .await
    }
}

impl Db {
    /// Connects, without looking at the schema.
    ///
    /// # Errors
    /// The file can't be opened or the server can't be reached within five seconds.
    pub async fn connect(location: &Location) -> Result<Self, DbErr> {
        match location {
            Location::Sqlite(path) => Self::sqlite(path.clone()).await,
            Location::Postgres(url) => Self::postgres(url).await,
        }
    }

    async fn sqlite(path: PathBuf) -> Result<Self, DbErr> {
        let base = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            // by a connection of their own, so that no commit pays for one: `events`
            .pragma("wal_autocheckpoint", "0")
            .pragma("temp_store", "memory");
        let pool = |options: SqliteConnectOptions, most| async move {
            SqlitePoolOptions::new()
                .max_connections(most)
                .acquire_timeout(ACQUIRE)
                .idle_timeout(None)
                .max_lifetime(None)
                .connect_with(options)
                .await
        };
        let commands = pool(base.clone().synchronous(SqliteSynchronous::Full), 1)
            .await
            .map_err(connecting)?;
        let deltas = pool(base.clone().synchronous(SqliteSynchronous::Normal), 1)
            .await
            .map_err(connecting)?;
        let maintenance = pool(base.clone().synchronous(SqliteSynchronous::Normal), 1)
            .await
            .map_err(connecting)?;
        let readers = pool(base.pragma("query_only", "1"), READERS_SQLITE.0)
            .await
            .map_err(connecting)?;
        let inner = Inner::Sqlite {
            commands: SqlxSqliteConnector::from_sqlx_sqlite_pool(commands),
            deltas: SqlxSqliteConnector::from_sqlx_sqlite_pool(deltas),
            readers: SqlxSqliteConnector::from_sqlx_sqlite_pool(readers),
            maintenance: SqlxSqliteConnector::from_sqlx_sqlite_pool(maintenance),
            turn: Arc::new(Semaphore::new(1)),
        };
        Ok(Self::of(inner, READERS_SQLITE.1))
    }

    async fn postgres(url: &str) -> Result<Self, DbErr> {
        let options = PgConnectOptions::from_str(url)
            .map_err(connecting)?
            .application_name("weft")
            .options([
                ("synchronous_commit", "on"),
                ("idle_in_transaction_session_timeout", "2s"),
                ("lock_timeout", "5s"),
                ("statement_timeout", "15s"),
                ("tcp_user_timeout", "10s"),
                ("timezone", "UTC"),
            ]);
        let pool = |options: PgConnectOptions, most| {
            PgPoolOptions::new()
                .max_connections(most)
                .acquire_timeout(ACQUIRE)
                .connect_with(options)
        };
        wall::make_roles(&options).await?;
        let (tenant, system) = (
            wall::in_role(&options, wall::TENANT_ROLE),
            wall::in_role(&options, wall::SYSTEM_ROLE),
        );
        let read_only = [
            ("default_transaction_isolation", "repeatable read"),
            ("default_transaction_read_only", "on"),
        ];
        let opened = async |options, most| {
            let pool = pool(options, most).await.map_err(connecting)?;
            Ok::<_, DbErr>(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
        };
        let owner = PgPoolOptions::new()
            .max_connections(OWNERS)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(OWNER_IDLE)
            .connect_lazy_with(options);
        let inner = Inner::Postgres {
            commands: opened(tenant.clone(), 16).await?,
            readers: opened(tenant.options(read_only), READERS_POSTGRES.0).await?,
            system: opened(system.clone().options(read_only), SYSTEM).await?,
            leases: opened(system.clone(), 1).await?,
            owner: SqlxPostgresConnector::from_sqlx_postgres_pool(owner),
            options: Box::new(system),
        };
        Ok(Self::of(inner, READERS_POSTGRES.1))
    }

    fn of(inner: Inner, followers: usize) -> Self {
        Self {
            inner: Arc::new(inner),
            followers: Arc::new(Semaphore::new(followers)),
        }
    }

    /// Which database it is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match &*self.inner {
            Inner::Sqlite { .. } => Backend::Sqlite,
            Inner::Postgres { .. } => Backend::Postgres,
        }
    }

    /// A transaction for a command.
    ///
    /// # Errors
    /// The database can't be reached, or no connection was free within five seconds.
    pub async fn begin(&self, within: Within) -> Result<Tx, DbErr> {
        match &*self.inner {
            Inner::Sqlite { commands, turn, .. } => immediate(commands, turn).await,
            Inner::Postgres { commands, .. } => Ok(Tx {
                inner: begun(commands, within).await?,
                backend: Backend::Postgres,
                _turn: None,
            }),
        }
    }

    /// A transaction for a batch of deltas: on SQLite without a flush to the disk at its end, see `docs/architecture.md`.
    ///
    /// # Errors
    /// As [`Db::begin`].
    pub async fn begin_deltas(&self, scope: SystemScope) -> Result<Tx, DbErr> {
        match &*self.inner {
            Inner::Sqlite { deltas, turn, .. } => immediate(deltas, turn).await,
            Inner::Postgres { .. } => self.begin(Within::System(scope)).await,
        }
    }

    /// A view for one request. Opens nothing yet.
    #[must_use]
    pub fn snapshot(&self, within: Within) -> Snapshot {
        self.view(within, false)
    }

    /// A view for one event that is told to somebody. Opens nothing yet; it waits its turn for one of a few connections, as
    /// long as it takes.
    #[must_use]
    pub fn follower_snapshot(&self, within: Within) -> Snapshot {
        self.view(within, true)
    }

    fn view(&self, within: Within, is_of_follower: bool) -> Snapshot {
        Snapshot(Arc::new(View {
            db: self.clone(),
            within,
            is_of_follower,
            tx: OnceCell::new(),
        }))
    }

    async fn begin_read(&self, within: Within, is_of_follower: bool) -> Result<Tx, DbErr> {
        let place = if is_of_follower {
            let place = self.followers.clone().acquire_owned().await;
            Some(place.map_err(|_| DbErr::Custom("the database is closed".into()))?)
        } else {
            None
        };
        let (readers, backend) = match &*self.inner {
            Inner::Sqlite { readers, .. } => (readers, Backend::Sqlite),
            Inner::Postgres { readers, .. } => (readers, Backend::Postgres),
        };
        Ok(Tx {
            inner: begun(readers, within).await?,
            backend,
            _turn: place,
        })
    }

    /// A connection in the role of the database's user, before which no wall stands: for migrating.
    #[must_use]
    pub fn owner(&self, _: SystemScope) -> &DatabaseConnection {
        match &*self.inner {
            Inner::Sqlite { commands, .. } => commands,
            Inner::Postgres { owner, .. } => owner,
        }
    }

    /// The connection for the system's reads that need no snapshot of more than one statement.
    #[must_use]
    pub fn reader(&self, _: SystemScope) -> &DatabaseConnection {
        match &*self.inner {
            Inner::Sqlite { readers, .. } => readers,
            Inner::Postgres { system, .. } => system,
        }
    }

    pub(crate) fn leases(&self) -> &DatabaseConnection {
        match &*self.inner {
            Inner::Sqlite { commands, .. } => commands,
            Inner::Postgres { leases, .. } => leases,
        }
    }

    /// Runs one writing statement, on SQLite when it is its turn.
    pub(crate) async fn in_turn<T>(
        &self,
        statement: impl AsyncFnOnce() -> Result<T, DbErr>,
    ) -> Result<T, DbErr> {
        let _turn = match &*self.inner {
            Inner::Sqlite { turn, .. } => Some(
                turn.acquire()
                    .await
                    .map_err(|_| DbErr::Custom("the database is closed".into()))?,
            ),
            Inner::Postgres { .. } => None,
        };
        statement().await
    }

    /// The pools of connections, as they are at this moment.
    #[must_use]
    pub fn pools(&self) -> Vec<Pool> {
        match &*self.inner {
            Inner::Sqlite {
                commands,
                deltas,
                readers,
                maintenance,
                ..
            } => [
                ("commands", commands),
                ("deltas", deltas),
                ("readers", readers),
                ("maintenance", maintenance),
            ]
            .map(|(name, pool)| Pool::of(name, pool.get_sqlite_connection_pool()))
            .into(),
            Inner::Postgres {
                commands,
                readers,
                system,
                leases,
                ..
            } => [
                ("commands", commands),
                ("readers", readers),
                ("system", system),
                ("leases", leases),
            ]
            .map(|(name, pool)| Pool::of(name, pool.get_postgres_connection_pool()))
            .into(),
        }
    }

    /// How to open further connections to a PostgreSQL server, in the system's role and with the same settings; `None` on SQLite.
    #[must_use]
    pub fn postgres_options(&self, _: SystemScope) -> Option<PgConnectOptions> {
        match &*self.inner {
            Inner::Sqlite { .. } => None,
            Inner::Postgres { options, .. } => Some((**options).clone()),
        }
    }

    /// Moves what SQLite's write-ahead log holds into the file, as far as no reader stands in the way. Nothing on PostgreSQL.
    ///
    /// # Errors
    /// What the database says.
    pub async fn checkpoint(&self) -> Result<(), DbErr> {
        let Inner::Sqlite {
            maintenance, turn, ..
        } = &*self.inner
        else {
            return Ok(());
        };
        let waiting = checkpoint(maintenance, "passive").await?;
        if waiting < RESTART {
            return Ok(());
        }
        // Beside writers the log is never moved to its end, and so never begun anew: once in a while they wait for it. Readers
        // that stand in the way are waited for a moment only.
        let _turn = turn
            .acquire()
            .await
            .map_err(|_| DbErr::Custom("the database is closed".into()))?;
        maintenance
            .execute_unprepared("pragma busy_timeout = 100")
            .await?;
        checkpoint(maintenance, "restart").await?;
        Ok(())
    }

    /// Closes all connections, once what runs on them is done.
    pub async fn close(&self) {
        match &*self.inner {
            Inner::Sqlite {
                commands,
                deltas,
                readers,
                maintenance,
                ..
            } => {
                for pool in [readers, maintenance, deltas, commands] {
                    pool.get_sqlite_connection_pool().close().await;
                }
            }
            Inner::Postgres {
                commands,
                readers,
                system,
                leases,
                owner,
                ..
            } => {
                for pool in [readers, system, leases, owner, commands] {
                    pool.get_postgres_connection_pool().close().await;
                }
            }
        }
    }
}

/// Pages in SQLite's write-ahead log above which it is begun anew: 16 MiB.
const RESTART: i64 = 4096;

/// Moves pages of the write-ahead log into the file; answers how many it holds.
async fn checkpoint(connection: &DatabaseConnection, how: &str) -> Result<i64, DbErr> {
    let sql = sea_orm::Statement::from_string(
        sea_orm::DbBackend::Sqlite,
        format!("pragma wal_checkpoint({how})"),
    );
    match connection.query_one_raw(sql).await? {
        Some(row) => row.try_get_by(1),
        None => Ok(0),
    }
}

/// How long to wait for a free connection.
const ACQUIRE: Duration = Duration::from_secs(5);

/// Begins in a task of its own, which comes to its end whoever waits for it: where a BEGIN is given up while it is under way, the
/// driver leaves the transaction open on its connection, and whoever gets that connection next would read what was true then.
async fn begun(connection: &DatabaseConnection, within: Within) -> Result<Transaction, DbErr> {
    let connection = connection.clone();
    #[expect(
        clippy::disallowed_methods,
        reason = "it ends by itself, within the time that a connection is waited for"
    )]
    let begin = tokio::spawn(async move {
        if connection.get_database_backend() == DbBackend::Postgres {
            let pool = connection.get_postgres_connection_pool().clone();
            Transaction::on_postgres(pool, within).await
        } else {
            connection.begin().await.map(Into::into)
        }
    });
    begin.await.unwrap_or_else(|error| {
        Err(DbErr::Custom(format!(
            "a transaction did not begin: {error}"
        )))
    })
}

async fn immediate(connection: &DatabaseConnection, turn: &Arc<Semaphore>) -> Result<Tx, DbErr> {
    let turn = turn
        .clone()
        .acquire_owned()
        .await
        .map_err(|_| DbErr::Custom("the database is closed".into()))?;
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..Default::default()
    };
    Ok(Tx {
        inner: connection.begin_with_options(options).await?.into(),
        backend: Backend::Sqlite,
        _turn: Some(turn),
    })
}

fn connecting(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error)))
}

/// What a failed statement means for whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A unique index refused it.
    Taken,
    /// It may pass when tried again: a broken connection, a deadlock, no free connection, a time-out.
    Transient,
    /// It will never pass.
    Permanent,
}

/// Sorts an error of the database.
#[must_use]
pub fn failure(error: &DbErr) -> Failure {
    if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) {
        return Failure::Taken;
    }
    let (DbErr::Conn(RuntimeErr::SqlxError(inner))
    | DbErr::Exec(RuntimeErr::SqlxError(inner))
    | DbErr::Query(RuntimeErr::SqlxError(inner))) = error
    else {
        return if matches!(error, DbErr::ConnectionAcquire(_)) {
            Failure::Transient
        } else {
            Failure::Permanent
        };
    };
    failure_of(inner)
}

/// The same of the driver's own error.
#[must_use]
pub fn failure_of(error: &sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(error) if error.is_unique_violation() => Failure::Taken,
        sqlx::Error::Database(error) => match error.code().as_deref() {
            // lost connections, serialisation, deadlocks, shutdown, resources, cancelled by a time-out; SQLite: busy, locked
            Some(code)
                if ["08", "40", "53", "57", "55", "25P03"]
                    .iter()
                    .any(|class| code.starts_with(class)) =>
            {
                Failure::Transient
            }
            Some("5" | "6" | "261" | "262" | "517") => Failure::Transient,
            _ => Failure::Permanent,
        },
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Failure::Transient,
        _ => Failure::Permanent,
    }
}
