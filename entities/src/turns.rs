//! Whose turn it is to call a model that takes only so many calls at once.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbErr, Value};
use uuid::Uuid;

use crate::{
    Backend, Db, ModelId, SystemScope, Tx, WorkerId, model_turn,
    runs::{lease_clock, statement},
};

/// A turn that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// The turn.
    pub id: Uuid,
    /// The process that waits for it.
    pub owner: WorkerId,
}

/// The end of a lease that begins now, as text with its value at place `at`: by the clock that leases are kept by.
fn lease_until(
    backend: Backend,
    at: usize,
    now: DateTime<Utc>,
    lease: Duration,
) -> (String, Value) {
    if backend == Backend::Postgres {
        let until = format!("now() + ${at}::float8 * interval '1 second'");
        (until, lease.as_secs_f64().into())
    } else {
        (format!("${at}"), (now + lease).into())
    }
}

impl model_turn::Entity {
    /// Until the transaction ends, nobody else decides about the turns at a model. SQLite has one writer anyway.
    ///
    /// # Errors
    /// What the database says.
    pub async fn decide(_: SystemScope, tx: &Tx, model: ModelId) -> Result<(), DbErr> {
        if tx.backend() == Backend::Postgres {
            let (high, low) = model.0.as_u64_pair();
            let key = i64::from_ne_bytes((high ^ low).to_ne_bytes());
            let sql = "select pg_advisory_xact_lock($1)";
            tx.execute_raw(statement(&**tx, sql, vec![key.into()]))
                .await?;
        }
        Ok(())
    }

    /// Adds a row that waits; what it says of its lease does not count.
    ///
    /// # Errors
    /// What the database says.
    pub async fn ask(
        _: SystemScope,
        tx: &Tx,
        row: &model_turn::Model,
        now: DateTime<Utc>,
        lease: Duration,
    ) -> Result<(), DbErr> {
        let (until, lease) = lease_until(tx.backend(), 8, now, lease);
        let sql = format!(
            "insert into model_turns (id, tenant_id, model_id, user_id, run_id, owner, asked_at, lease_until)
             values ($1, $2, $3, $4, $5, $6, $7, {until})"
        );
        let values = vec![
            row.id.into(),
            row.tenant_id.0.into(),
            row.model_id.0.into(),
            row.user_id.0.into(),
            row.run_id.0.into(),
            row.owner.0.into(),
            row.asked_at.into(),
            lease,
        ];
        tx.execute_raw(statement(&**tx, &sql, values)).await?;
        Ok(())
    }

    /// Gives the turns that are free to those who wait: to the user who holds fewest, of these to the one who was served longest
    /// ago, and of his to what waits longest. Rows whose process is gone are taken away first. Whoever calls this
    /// [decides](Self::decide).
    ///
    /// # Errors
    /// What the database says.
    pub async fn give(
        _: SystemScope,
        tx: &Tx,
        model: ModelId,
        now: DateTime<Utc>,
    ) -> Result<Vec<Given>, DbErr> {
        let mut values = vec![model.0.into()];
        let sql = format!(
            "delete from model_turns where model_id = $1 and lease_until < {}",
            lease_clock(&**tx, now, &mut values)
        );
        tx.execute_raw(statement(&**tx, &sql, values)).await?;
        let sql = "select m.max_concurrency as most,
               (select count(*) from model_turns t where t.model_id = m.id and t.held_at is not null) as held,
               (select count(*) from model_turns t where t.model_id = m.id and t.held_at is null) as waiting
             from models m where m.id = $1";
        let row = tx
            .query_one_raw(statement(&**tx, sql, vec![model.0.into()]))
            .await?;
        let Some(row) = row else {
            return Ok(Vec::new());
        };
        let (most, held, waiting): (Option<i32>, i64, i64) = (
            row.try_get_by("most")?,
            row.try_get_by("held")?,
            row.try_get_by("waiting")?,
        );
        // The limit may have been taken away meanwhile.
        let free = most.map_or(waiting, |most| i64::from(most) - held);
        let mut given = Vec::new();
        for _ in 0..free.min(waiting) {
            let sql = "update model_turns set held_at = $2 where id = (
                 select t.id from model_turns t
                   left join (select user_id, count(*) as n from model_turns where model_id = $1 and held_at is not null group by user_id) h
                     on h.user_id = t.user_id
                   left join model_served s on s.model_id = t.model_id and s.user_id = t.user_id
                 where t.model_id = $1 and t.held_at is null
                 order by coalesce(h.n, 0), s.served_at nulls first, t.asked_at, t.id limit 1)
               returning id, owner, tenant_id, user_id";
            let values = vec![model.0.into(), now.into()];
            let Some(row) = tx.query_one_raw(statement(&**tx, sql, values)).await? else {
                break;
            };
            given.push(Given {
                id: row.try_get_by("id")?,
                owner: WorkerId(row.try_get_by("owner")?),
            });
            let (tenant, user): (Uuid, Uuid) =
                (row.try_get_by("tenant_id")?, row.try_get_by("user_id")?);
            let sql = "insert into model_served (tenant_id, model_id, user_id, served_at) values ($1, $2, $3, $4)
               on conflict (model_id, user_id) do update set served_at = excluded.served_at";
            let values = vec![tenant.into(), model.0.into(), user.into(), now.into()];
            tx.execute_raw(statement(&**tx, sql, values)).await?;
        }
        Ok(given)
    }

    /// Takes a row away, whether it waits or holds.
    ///
    /// # Errors
    /// What the database says.
    pub async fn give_back(_: SystemScope, tx: &Tx, id: Uuid) -> Result<(), DbErr> {
        let sql = "delete from model_turns where id = $1";
        tx.execute_raw(statement(&**tx, sql, vec![id.into()]))
            .await?;
        Ok(())
    }

    /// Which turns a process was given.
    ///
    /// # Errors
    /// What the database says.
    pub async fn given_to(
        _: SystemScope,
        db: &impl ConnectionTrait,
        owner: WorkerId,
    ) -> Result<Vec<Uuid>, DbErr> {
        let sql = "select id from model_turns where owner = $1 and held_at is not null";
        let rows = db
            .query_all_raw(statement(db, sql, vec![owner.0.into()]))
            .await?;
        rows.iter().map(|row| row.try_get_by("id")).collect()
    }

    /// At which of these models a turn is free, or held by nobody who is still there.
    ///
    /// # Errors
    /// What the database says.
    pub async fn vacant(
        _: SystemScope,
        db: &impl ConnectionTrait,
        models: &[ModelId],
        now: DateTime<Utc>,
    ) -> Result<Vec<ModelId>, DbErr> {
        if models.is_empty() {
            return Ok(Vec::new());
        }
        let mut values: Vec<Value> = models.iter().map(|model| model.0.into()).collect();
        let places: Vec<_> = (1..=values.len()).map(|at| format!("${at}")).collect();
        let clock = lease_clock(db, now, &mut values);
        let sql = format!(
            "select m.id from models m where m.id in ({}) and (m.max_concurrency is null or m.max_concurrency >
               (select count(*) from model_turns t where t.model_id = m.id and t.held_at is not null and t.lease_until >= {clock}))",
            places.join(", ")
        );
        let rows = db.query_all_raw(statement(db, &sql, values)).await?;
        rows.iter()
            .map(|row| Ok(ModelId(row.try_get_by("id")?)))
            .collect()
    }

    /// Prolongs the leases of these turns, and tells which of them are still there.
    ///
    /// # Errors
    /// What the database says.
    pub async fn renew(
        _: SystemScope,
        db: &Db,
        owner: WorkerId,
        turns: &[Uuid],
        now: DateTime<Utc>,
        lease: Duration,
    ) -> Result<Vec<Uuid>, DbErr> {
        let connection = db.leases();
        let (until, lease) = lease_until(db.backend(), 1, now, lease);
        let mut values = vec![lease, owner.0.into()];
        values.extend(turns.iter().map(|&turn| Value::from(turn)));
        let places: Vec<String> = (3..=values.len()).map(|at| format!("${at}")).collect();
        let sql = format!(
            "update model_turns set lease_until = {until} where owner = $2 and id in ({}) returning id",
            places.join(", ")
        );
        let rows = db
            .in_turn(async || {
                connection
                    .query_all_raw(statement(connection, &sql, values))
                    .await
            })
            .await?;
        rows.iter().map(|row| row.try_get_by("id")).collect()
    }

    /// Takes away the turns of one process as it ends, or all where no other process can have any.
    ///
    /// # Errors
    /// What the database says.
    pub async fn clear(_: SystemScope, db: &Db, owner: Option<WorkerId>) -> Result<(), DbErr> {
        let connection = db.leases();
        let (sql, values) = match owner {
            Some(owner) => (
                "delete from model_turns where owner = $1",
                vec![owner.0.into()],
            ),
            None => ("delete from model_turns", Vec::new()),
        };
        db.in_turn(async || {
            connection
                .execute_raw(statement(connection, sql, values))
                .await
        })
        .await?;
        Ok(())
    }
}
