//! A transaction under way, and the wall that it stands behind on PostgreSQL.

use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult,
    QueryResult, RuntimeErr, Statement,
    prelude::async_trait::async_trait,
    sqlx::{self, AssertSqlSafe, Executor, PgPool, Postgres},
};
use sea_query_sqlx::SqlxValues;
use tokio::sync::Mutex;

use super::Within;

/// A transaction: what `sea_orm` queries run on. PostgreSQL's is the driver's own, as `sea_orm` has no way to begin one with more
/// than BEGIN, and role and tenant are to be set in the same round trip.
pub struct Transaction(Kind);

enum Kind {
    Sqlite(DatabaseTransaction),
    Postgres(Mutex<Held>),
}

struct Held {
    tx: sqlx::Transaction<'static, Postgres>,
    within: Within,
    /// A statement of the system's was given up, or failed, before the role was put back.
    strayed: bool,
}

type Query<'q> = sqlx::query::Query<'q, Postgres, SqlxValues>;

impl Held {
    /// The connection in the role that the transaction began in.
    async fn home(&mut self) -> Result<&mut sqlx::PgConnection, sqlx::Error> {
        if self.strayed {
            let back = format!("set local role {}", self.within.role());
            self.tx.execute(AssertSqlSafe(back)).await?;
            self.strayed = false;
        }
        Ok(&mut self.tx)
    }

    /// The connection in the system's role; `strayed` until [`Held::home`].
    async fn away(&mut self) -> Result<&mut sqlx::PgConnection, sqlx::Error> {
        if !matches!(self.within, Within::System(_)) {
            // Also where it has strayed: nobody knows how far it came.
            self.strayed = true;
            self.tx.execute(Within::AS_SYSTEM).await?;
        }
        Ok(&mut self.tx)
    }
}

impl From<DatabaseTransaction> for Transaction {
    fn from(tx: DatabaseTransaction) -> Self {
        Self(Kind::Sqlite(tx))
    }
}

impl Transaction {
    /// Begins on PostgreSQL: role and tenant come with the BEGIN.
    pub(super) async fn on_postgres(pool: PgPool, within: Within) -> Result<Self, DbErr> {
        let begin = AssertSqlSafe(within.begin());
        let tx = pool.begin_with(begin).await.map_err(acquiring)?;
        let held = Held {
            tx,
            within,
            strayed: false,
        };
        Ok(Self(Kind::Postgres(Mutex::new(held))))
    }

    pub(super) async fn commit(self) -> Result<(), DbErr> {
        match self.0 {
            Kind::Sqlite(tx) => tx.commit().await,
            Kind::Postgres(held) => held.into_inner().tx.commit().await.map_err(executing),
        }
    }

    pub(super) async fn rollback(self) -> Result<(), DbErr> {
        match self.0 {
            Kind::Sqlite(tx) => tx.rollback().await,
            Kind::Postgres(held) => held.into_inner().tx.rollback().await.map_err(executing),
        }
    }

    /// This transaction for statements that look across the wall, each named where it is written: it sees what the transaction
    /// sees, in the system's role.
    pub(super) fn system(&self) -> Outside<'_> {
        Outside(self)
    }

    async fn execute(&self, statement: Statement, outside: bool) -> Result<ExecResult, DbErr> {
        match &self.0 {
            Kind::Sqlite(tx) => tx.execute_raw(statement).await,
            Kind::Postgres(held) => {
                let mut held = held.lock().await;
                let connection = side(&mut held, outside).await.map_err(executing)?;
                let done = query(statement).execute(connection).await;
                let done = done.map_err(executing)?;
                held.home().await.map_err(executing)?;
                Ok(done.into())
            }
        }
    }

    async fn one(&self, statement: Statement, outside: bool) -> Result<Option<QueryResult>, DbErr> {
        match &self.0 {
            Kind::Sqlite(tx) => tx.query_one_raw(statement).await,
            Kind::Postgres(held) => {
                let mut held = held.lock().await;
                let connection = side(&mut held, outside).await.map_err(querying)?;
                let row = query(statement).fetch_optional(connection).await;
                let row = row.map_err(querying)?;
                held.home().await.map_err(querying)?;
                Ok(row.map(Into::into))
            }
        }
    }

    async fn all(&self, statement: Statement, outside: bool) -> Result<Vec<QueryResult>, DbErr> {
        match &self.0 {
            Kind::Sqlite(tx) => tx.query_all_raw(statement).await,
            Kind::Postgres(held) => {
                let mut held = held.lock().await;
                let connection = side(&mut held, outside).await.map_err(querying)?;
                let rows = query(statement).fetch_all(connection).await;
                let rows = rows.map_err(querying)?;
                held.home().await.map_err(querying)?;
                Ok(rows.into_iter().map(Into::into).collect())
            }
        }
    }

    async fn unprepared(&self, sql: &str, outside: bool) -> Result<ExecResult, DbErr> {
        match &self.0 {
            Kind::Sqlite(tx) => tx.execute_unprepared(sql).await,
            Kind::Postgres(held) => {
                let mut held = held.lock().await;
                let connection = side(&mut held, outside).await.map_err(executing)?;
                let done = connection.execute(AssertSqlSafe(sql.to_owned())).await;
                let done = done.map_err(executing)?;
                held.home().await.map_err(executing)?;
                Ok(done.into())
            }
        }
    }

    fn backend(&self) -> DbBackend {
        match &self.0 {
            Kind::Sqlite(_) => DbBackend::Sqlite,
            Kind::Postgres(_) => DbBackend::Postgres,
        }
    }
}

async fn side(held: &mut Held, outside: bool) -> Result<&mut sqlx::PgConnection, sqlx::Error> {
    if outside {
        held.away().await
    } else {
        held.home().await
    }
}

fn query(statement: Statement) -> Query<'static> {
    let values = statement
        .values
        .unwrap_or_else(|| sea_orm::Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}

fn executing(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(error.into()))
}

fn querying(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

fn acquiring(error: sqlx::Error) -> DbErr {
    match error {
        sqlx::Error::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        sqlx::Error::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        error => super::connecting(error),
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.execute(statement, false).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.unprepared(sql, false).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.one(statement, false).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.all(statement, false).await
    }
}

/// A transaction seen from outside the wall: see [`Tx::system`](super::Tx::system).
pub struct Outside<'t>(&'t Transaction);

#[async_trait]
impl ConnectionTrait for Outside<'_> {
    fn get_database_backend(&self) -> DbBackend {
        self.0.backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.0.execute(statement, true).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.0.unprepared(sql, true).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.0.one(statement, true).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.0.all(statement, true).await
    }
}
