//! Named reads and writes of runs, leases and message trees that need SQL of their own.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, DbErr, EntityTrait, FromQueryResult,
    QueryFilter, QuerySelect, QueryTrait, Select, Statement, Value,
    sea_query::{Alias, Expr, ExprTrait, Query},
};
use uuid::Uuid;

use crate::{
    Access, AgentId, Backend, Db, MessageId, ResourceKind, RunId, RunStatus, Scope, SystemScope,
    TenantId, Tx, UserId, WorkerId, conversation, message,
    page::{Page, paged_by},
    run,
    sharing::reaching,
    tool_call,
};

/// The longest path from a message to its root that is read.
const DEPTH: i32 = 10_000;

/// More than there ever are, with room for sums.
const MOST: i64 = i64::MAX / 4;

/// How many runs of a tenant, `$9`, are RUNNING: counted up to `$10`, from the index that holds such runs alone. Materialised, so
/// that no planner goes through all that the tenant ever ran instead.
const RUNNING: &str = "(with busy as materialized (select tenant_id from runs where status = 'RUNNING')
                 select count(*) from (select 1 from busy where tenant_id = $9 limit $10) as counted)";

/// How many runs of a tenant, `$9`, may be RUNNING: `$10`, or fewer where it says so itself; of its own number a tenth, and 64 at
/// least, less where `$11` is 1.
const ALLOWED: &str = "(select case when t.own < $10 then t.own else $10 end from (
                 select max_concurrent_runs - $11 * (case when max_concurrent_runs > 640 then (max_concurrent_runs + 9) / 10 else 64 end) as own
                   from tenants where id = $9) as t)";

/// A run that might be taken up, seen without a lock.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct Candidate {
    /// The run.
    pub id: Uuid,
    /// Its tenant.
    pub tenant_id: Uuid,
    /// Its conversation.
    pub conversation_id: Uuid,
}

/// With `$1` for values on both databases.
pub(crate) fn statement(db: &impl ConnectionTrait, sql: &str, values: Vec<Value>) -> Statement {
    let backend = db.get_database_backend();
    if backend == DbBackend::Postgres {
        return Statement::from_sql_and_values(backend, sql, values);
    }
    // `?1` for `$1`, and no clock of the database: the caller's time is a parameter.
    Statement::from_sql_and_values(backend, sql.replace('$', "?"), values)
}

/// The time by the clock that leases are kept by: the server's on PostgreSQL, which all processes share; on SQLite the caller's,
/// as the last of `values`.
pub(crate) fn lease_clock(
    db: &impl ConnectionTrait,
    now: DateTime<Utc>,
    values: &mut Vec<Value>,
) -> String {
    if db.get_database_backend() == DbBackend::Postgres {
        return "now()".into();
    }
    values.push(now.into());
    format!("${}", values.len())
}

impl run::Entity {
    /// QUEUED runs that are first in their conversation, where none is under way there: tenants least recently served first, then
    /// the oldest; of each tenant no more than it has places left of `places`, or of fewer where it says so itself. `format`: the newest form of stored state that the
    /// caller can resume. `spare`: how many of them the caller will pass over.
    ///
    /// # Errors
    /// What the database says.
    pub async fn claimable(
        _: SystemScope,
        db: &impl ConnectionTrait,
        format: i32,
        limit: u64,
        places: u64,
        spare: u64,
    ) -> Result<Vec<Candidate>, DbErr> {
        let sql = "with busy as materialized (select tenant_id, count(*) as n from runs where status = 'RUNNING' group by tenant_id),
               ready as (select r.id, r.tenant_id, r.conversation_id, r.created_at,
                   row_number() over (partition by r.tenant_id order by r.created_at, r.id) as place
                 from runs r where r.status = 'QUEUED' and r.format <= $1
                   and not exists (select 1 from runs b where b.conversation_id = r.conversation_id and b.parent_run_id is null
                     and b.status in ('RUNNING', 'WAITING'))
                   and not exists (select 1 from runs q where q.conversation_id = r.conversation_id and q.status = 'QUEUED'
                     and q.queue_no < r.queue_no))
             select r.id, r.tenant_id, r.conversation_id from ready r
               join (select id, served_at, case when max_concurrent_runs < $3 then max_concurrent_runs else $3 end as places from tenants) t
                 on t.id = r.tenant_id
               left join busy on busy.tenant_id = r.tenant_id
             where coalesce(busy.n, 0) < t.places and coalesce(busy.n, 0) + r.place <= t.places + $4
             order by t.served_at, r.created_at limit $2";
        let number = |number: u64| Value::from(i64::try_from(number).unwrap_or(MOST));
        let values = vec![format.into(), number(limit), number(places), number(spare)];
        Candidate::find_by_statement(statement(db, sql, values))
            .all(db)
            .await
    }

    /// How many runs are QUEUED, RUNNING and WAITING, in all tenants: each from the index that holds such runs alone. Runs within
    /// runs are not among those that wait.
    ///
    /// # Errors
    /// What the database says.
    pub async fn open(
        _: SystemScope,
        db: &impl ConnectionTrait,
    ) -> Result<[(RunStatus, u64); 3], DbErr> {
        // the condition of the index as it is written there, which is how SQLite knows it
        let sql = "select (select count(*) from runs where status = 'QUEUED') as queued,
               (select count(*) from runs where status = 'RUNNING') as running,
               (select count(*) from runs where parent_run_id is null and status in ('RUNNING', 'WAITING') and status = 'WAITING') as waiting";
        let row = db.query_one_raw(statement(db, sql, Vec::new())).await?;
        let row = row.ok_or_else(|| DbErr::Custom("a count of runs is no row".into()))?;
        let count = |column| -> Result<u64, DbErr> {
            let count: i64 = row.try_get_by(column)?;
            Ok(u64::try_from(count).unwrap_or(0))
        };
        Ok([
            (RunStatus::Queued, count("queued")?),
            (RunStatus::Running, count("running")?),
            (RunStatus::Waiting, count("waiting")?),
        ])
    }

    /// RUNNING runs whose lease has lapsed.
    ///
    /// # Errors
    /// What the database says.
    pub async fn lapsed(
        _: SystemScope,
        db: &impl ConnectionTrait,
        now: DateTime<Utc>,
        format: i32,
        limit: u64,
    ) -> Result<Vec<Candidate>, DbErr> {
        let mut values = vec![
            format.into(),
            i64::try_from(limit).unwrap_or(i64::MAX).into(),
        ];
        let sql = format!(
            "select id, tenant_id, conversation_id from runs where status = 'RUNNING' and lease_until < {} and format <= $1 order by lease_until limit $2",
            lease_clock(db, now, &mut values)
        );
        Candidate::find_by_statement(statement(db, &sql, values))
            .all(db)
            .await
    }

    /// Whether a run's lease has lapsed, by the clock that leases are kept by.
    ///
    /// # Errors
    /// What the database says.
    pub async fn has_lapsed(
        _: SystemScope,
        db: &impl ConnectionTrait,
        run: RunId,
        now: DateTime<Utc>,
    ) -> Result<bool, DbErr> {
        let mut values = vec![run.0.into()];
        let sql = format!(
            "select id from runs where id = $1 and lease_until < {}",
            lease_clock(db, now, &mut values)
        );
        Ok(db
            .query_one_raw(statement(db, &sql, values))
            .await?
            .is_some())
    }

    /// Whether a QUEUED run stands first in its conversation, and none is under way there.
    ///
    /// # Errors
    /// What the database says.
    pub async fn is_next(
        _: SystemScope,
        db: &impl ConnectionTrait,
        run: &run::Model,
    ) -> Result<bool, DbErr> {
        let sql = "select id from runs where conversation_id = $1 and parent_run_id is null
             and (status in ('RUNNING', 'WAITING') or status = 'QUEUED' and queue_no < $2) limit 1";
        let values = vec![run.conversation_id.0.into(), run.queue_no.into()];
        Ok(db
            .query_one_raw(statement(db, sql, values))
            .await?
            .is_none())
    }

    /// Until the end of the transaction nobody else who asks for it here takes up runs of the tenant: who counts them in a statement
    /// after this one counts all. On SQLite there is one writer anyway.
    ///
    /// # Errors
    /// What the database says; after five seconds of waiting it gives up.
    pub async fn decide(_: SystemScope, tx: &Tx, tenant: TenantId) -> Result<(), DbErr> {
        if tx.backend() == Backend::Sqlite {
            return Ok(());
        }
        // The half of the id that is chance.
        let (_, key) = tenant.0.as_u64_pair();
        let sql = "select pg_advisory_xact_lock($1)";
        let values = vec![key.cast_signed().into()];
        tx.execute_raw(statement(&**tx, sql, values)).await?;
        Ok(())
    }

    /// Takes a run up: compare-and-set on its attempt, which is raised, with the lease. `false`: it is not as it was seen, or
    /// others of its conversation stand before it by now, or, of one that is QUEUED, its tenant has `places` others RUNNING, or as
    /// many as it allows itself; of those a tenth, and 64 at least, are left where `leaves_some`.
    ///
    /// # Errors
    /// What the database says; with the index that allows one run per conversation, [`crate::db::Failure::Taken`].
    pub async fn take(
        tx: &Tx,
        run: &run::Model,
        owner: WorkerId,
        now: DateTime<Utc>,
        lease: Duration,
        places: u64,
        leaves_some: bool,
    ) -> Result<bool, DbErr> {
        let postgres = tx.backend() == Backend::Postgres;
        let until = if postgres {
            "now() + $1::float8 * interval '1 second'"
        } else {
            "$1"
        };
        let lease: Value = if postgres {
            lease.as_secs_f64().into()
        } else {
            (now + lease).into()
        };
        let sql = format!(
            "update runs set status = 'RUNNING', attempt = attempt + 1, owner = $2, lease_until = {until}, progress_at = $3,
               started_at = coalesce(started_at, $3) where id = $4 and attempt = $5 and status = $6
               and ($6 <> 'QUEUED' or not exists (select 1 from runs q
                 where q.conversation_id = $7 and q.status = 'QUEUED' and q.queue_no < $8) and {RUNNING} < {ALLOWED})"
        );
        let values = vec![
            lease,
            owner.0.into(),
            now.into(),
            run.id.0.into(),
            run.attempt.into(),
            run.status.into(),
            run.conversation_id.0.into(),
            run.queue_no.into(),
            run.tenant_id.0.into(),
            i64::try_from(places).unwrap_or(MOST).into(),
            i64::from(leaves_some).into(),
        ];
        Ok(tx
            .execute_raw(statement(&**tx, &sql, values))
            .await?
            .rows_affected()
            == 1)
    }

    /// Prolongs the leases of these runs and tells which of them the process still holds. Only of these: what it let go of must
    /// lapse, whatever else it carries.
    ///
    /// # Errors
    /// What the database says.
    pub async fn renew(
        _: SystemScope,
        db: &Db,
        owner: WorkerId,
        runs: &[RunId],
        now: DateTime<Utc>,
        lease: Duration,
    ) -> Result<Vec<RunId>, DbErr> {
        let connection = db.leases();
        let postgres = db.backend() == Backend::Postgres;
        let until = if postgres {
            "now() + $1::float8 * interval '1 second'"
        } else {
            "$1"
        };
        let lease: Value = if postgres {
            lease.as_secs_f64().into()
        } else {
            (now + lease).into()
        };
        let mut values = vec![lease, owner.0.into()];
        values.extend(runs.iter().map(|run| Value::from(run.0)));
        let places: Vec<String> = (3..=values.len()).map(|i| format!("${i}")).collect();
        let sql = format!(
            "update runs set lease_until = {until} where owner = $2 and status = 'RUNNING' and id in ({}) returning id",
            places.join(", ")
        );
        let rows = db
            .in_turn(async || {
                connection
                    .query_all_raw(statement(connection, &sql, values))
                    .await
            })
            .await?;
        rows.iter()
            .map(|row| Ok(RunId(row.try_get_by("id")?)))
            .collect()
    }

    /// Lets leases lapse at once: those of one process as it ends in order (which counts as no loss), or all where no other
    /// process can hold any.
    ///
    /// # Errors
    /// What the database says.
    pub async fn release(_: SystemScope, db: &Db, owner: Option<WorkerId>) -> Result<u64, DbErr> {
        let connection = db.leases();
        let past: DateTime<Utc> = DateTime::UNIX_EPOCH;
        let (sql, values) = match owner {
            Some(owner) => (
                "update runs set lease_until = $1, owner = null where owner = $2 and status = 'RUNNING'",
                vec![past.into(), owner.0.into()],
            ),
            None => (
                "update runs set lease_until = $1 where status = 'RUNNING'",
                vec![past.into()],
            ),
        };
        let done = db
            .in_turn(async || {
                connection
                    .execute_raw(statement(connection, sql, values.clone()))
                    .await
            })
            .await?;
        Ok(done.rows_affected())
    }
}

impl message::Entity {
    /// The messages from the root to `leaf`, in that order.
    ///
    /// # Errors
    /// What the database says.
    pub async fn path(
        db: &impl ConnectionTrait,
        tenant: TenantId,
        leaf: MessageId,
    ) -> Result<Vec<message::Model>, DbErr> {
        let sql = "with recursive path(id, parent_id, depth) as (
               select id, parent_id, 0 from messages where id = $1 and tenant_id = $2
               union all select m.id, m.parent_id, p.depth + 1 from path p join messages m on m.id = p.parent_id where p.depth < $3)
             select m.* from path p join messages m on m.id = p.id order by p.depth desc";
        let values = vec![leaf.0.into(), tenant.0.into(), DEPTH.into()];
        <Self as EntityTrait>::find()
            .from_raw_sql(statement(db, sql, values))
            .all(db)
            .await
    }
}

impl conversation::Entity {
    /// The conversations that the scope sees: its user's own, and those that are shared with him.
    #[must_use]
    pub fn seen(scope: &Scope) -> Select<Self> {
        let shared = reaching(scope, ResourceKind::Conversation, Access::Read);
        let either = Condition::any()
            .add(conversation::Column::OwnerId.eq(scope.user()))
            .add(conversation::Column::Id.in_subquery(shared));
        Self::there(scope).filter(either)
    }

    /// The conversations of the scope's user. A list goes through them by their index.
    #[must_use]
    pub fn own(scope: &Scope) -> Select<Self> {
        Self::there(scope).filter(conversation::Column::OwnerId.eq(scope.user()))
    }

    /// The conversations of others that are shared with the scope's user.
    #[must_use]
    pub fn shared(scope: &Scope) -> Select<Self> {
        let shared = reaching(scope, ResourceKind::Conversation, Access::Read);
        Self::there(scope)
            .filter(conversation::Column::OwnerId.ne(scope.user()))
            .filter(conversation::Column::Id.in_subquery(shared))
    }

    /// Whose those are, each once.
    ///
    /// # Errors
    /// What the database says.
    pub async fn sharers(scope: &Scope, db: &impl ConnectionTrait) -> Result<Vec<UserId>, DbErr> {
        Self::shared(scope)
            .select_only()
            .column(conversation::Column::OwnerId)
            .distinct()
            .into_tuple()
            .all(db)
            .await
    }

    /// The conversations of two pages of them.
    #[must_use]
    pub fn either(scope: &Scope, one: Select<Self>, other: Select<Self>) -> Select<Self> {
        // Each in a table of its own: the databases do not agree on a limit right within `in`.
        let ids = |page: Select<Self>| {
            let page = page.select_only().column(conversation::Column::Id);
            Query::select()
                .column(conversation::Column::Id)
                .from_subquery(page.into_query(), Alias::new("page"))
                .to_owned()
        };
        let either = Condition::any()
            .add(conversation::Column::Id.in_subquery(ids(one)))
            .add(conversation::Column::Id.in_subquery(ids(other)));
        Self::there(scope).filter(either)
    }

    fn there(scope: &Scope) -> Select<Self> {
        Self::in_tenant(scope).filter(conversation::Column::DeletedAt.is_null())
    }

    /// Narrows conversations to those in which a run is under way or waits, or to the others.
    #[must_use]
    pub fn busy(select: Select<Self>, scope: &Scope, busy: bool) -> Select<Self> {
        let waiting = run::Entity::in_tenant(scope)
            .filter(same(run::Column::ConversationId, conversation::Column::Id))
            // Spelled out, for the index that holds such runs alone.
            .filter(Expr::cust("status = 'QUEUED'"))
            .select_only()
            .column(run::Column::ConversationId)
            .into_query();
        let is_busy = Condition::any()
            .add(conversation::Column::ActiveRunId.is_not_null())
            .add(Expr::exists(waiting));
        select.filter(if busy { is_busy } else { is_busy.not() })
    }

    /// Narrows and orders conversations to a page by `(1 where there is no title else 0, title, id)`.
    #[must_use]
    pub fn by_title(select: Select<Self>, page: &Page) -> Select<Self> {
        let order_by = [
            Expr::cust("case when title is null then 1 else 0 end"),
            Expr::cust("coalesce(title, '')"),
            Expr::col(conversation::Column::Id.as_column_ref()),
        ];
        paged_by(select, &order_by, false, page)
    }
}

/// Narrows rows that belong to a conversation to those in a conversation that the scope sees. It is looked up for each row: what
/// somebody sees may be much, what is asked for is little.
fn in_seen_conversation<E: EntityTrait>(
    select: Select<E>,
    column: impl ColumnTrait,
    scope: &Scope,
) -> Select<E> {
    let seen = conversation::Entity::seen(scope).filter(same(conversation::Column::Id, column));
    select.filter(Expr::exists(
        seen.select_only()
            .column(conversation::Column::Id)
            .into_query(),
    ))
}

/// Joins a subquery to the query around it.
fn same(inner: impl ColumnTrait, outer: impl ColumnTrait) -> Expr {
    Expr::col(inner.as_column_ref()).equals(outer.as_column_ref())
}

impl run::Entity {
    /// The runs of conversations that the scope sees.
    #[must_use]
    pub fn seen(scope: &Scope) -> Select<Self> {
        in_seen_conversation(Self::in_tenant(scope), run::Column::ConversationId, scope)
    }

    /// How many runs stand before each of these in its conversation, if any does. One statement.
    ///
    /// # Errors
    /// What the database says.
    pub async fn ahead_of(
        scope: &Scope,
        db: &impl ConnectionTrait,
        runs: &[RunId],
    ) -> Result<HashMap<RunId, i64>, DbErr> {
        if runs.is_empty() {
            return Ok(HashMap::new());
        }
        let values: Vec<Value> = std::iter::once(scope.tenant().0)
            .chain(runs.iter().map(|run| run.0))
            .map(Value::from)
            .collect();
        let places: Vec<String> = (2..=values.len())
            .map(|place| format!("${place}"))
            .collect();
        let sql = format!(
            "select r.id, count(*) as n from runs r join runs b on b.conversation_id = r.conversation_id and b.parent_run_id is null
               and (b.status in ('RUNNING', 'WAITING') or b.status = 'QUEUED' and b.queue_no < r.queue_no)
             where r.tenant_id = $1 and r.id in ({}) and r.status = 'QUEUED' group by r.id",
            places.join(", ")
        );
        let rows = db.query_all_raw(statement(db, &sql, values)).await?;
        rows.iter()
            .map(|row| Ok((row.try_get_by("id")?, row.try_get_by("n")?)))
            .collect()
    }

    /// The newest run of each of these agents that the scope's user asked for, in a conversation that he sees. One statement,
    /// which looks into the index once for each agent.
    ///
    /// # Errors
    /// What the database says.
    pub async fn newest_of(
        scope: &Scope,
        db: &impl ConnectionTrait,
        agents: &[AgentId],
    ) -> Result<Vec<run::Model>, DbErr> {
        if agents.is_empty() {
            return Ok(Vec::new());
        }
        let ids = [scope.tenant().0, scope.user().0];
        let values: Vec<Value> = ids
            .into_iter()
            .chain(agents.iter().map(|agent| agent.0))
            .map(Value::from)
            .collect();
        let places: Vec<String> = (3..=values.len())
            .map(|place| format!("${place}"))
            .collect();
        let sql = format!(
            "select r.* from agents a join runs r on r.id = (
               select n.id from runs n join conversations c on c.id = n.conversation_id and c.owner_id = $2 and c.deleted_at is null
               where n.tenant_id = $1 and n.agent_id = a.id and n.user_id = $2 order by n.created_at desc, n.id desc limit 1)
             where a.tenant_id = $1 and a.id in ({})",
            places.join(", ")
        );
        <Self as EntityTrait>::find()
            .from_raw_sql(statement(db, &sql, values))
            .all(db)
            .await
    }
}

impl message::Entity {
    /// The messages of conversations that the scope sees, less answers that did not begin.
    #[must_use]
    pub fn seen(scope: &Scope) -> Select<Self> {
        in_seen_conversation(
            Self::in_tenant(scope),
            message::Column::ConversationId,
            scope,
        )
        .filter(message::Column::IsHidden.eq(false))
    }
}

impl tool_call::Entity {
    /// The tool calls of runs that the scope sees.
    #[must_use]
    pub fn seen(scope: &Scope) -> Select<Self> {
        let run = run::Entity::seen(scope).filter(same(run::Column::Id, tool_call::Column::RunId));
        Self::in_tenant(scope).filter(Expr::exists(
            run.select_only().column(run::Column::Id).into_query(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::Database;

    use super::*;

    /// Counting the runs under way of a tenant goes through those that are under way, and not through all that there ever were.
    #[tokio::test]
    async fn runs_under_way_are_counted_from_their_index() {
        let db = Database::connect("sqlite::memory:").await.unwrap();
        let tables = include_str!("../../migration/src/m0001_foundation/tables.sql");
        db.execute_unprepared(
            "create table runs (id blob primary key, tenant_id blob, conversation_id blob, parent_run_id blob, status text,
             queue_no int, lease_until text, user_id blob, agent_id blob, created_at text)",
        )
        .await
        .unwrap();
        let of_runs = |line: &&str| line.starts_with("create") && line.contains(" on runs (");
        for index in tables.lines().filter(of_runs) {
            db.execute_unprepared(index).await.unwrap();
        }
        let explain = format!("explain query plan select {RUNNING}");
        let values = vec![Value::from(1); 10];
        let plan = db
            .query_all_raw(statement(&db, &explain, values))
            .await
            .unwrap();
        let plan: Vec<String> = plan
            .iter()
            .map(|row| row.try_get_by("detail").unwrap())
            .collect();
        let reads = |line: &&String| line.contains("runs");
        assert!(
            plan.iter()
                .any(|line| line.contains("USING INDEX runs_lease")),
            "{plan:?}"
        );
        assert_eq!(plan.iter().filter(reads).count(), 1, "{plan:?}");
    }
}
