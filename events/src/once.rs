//! Doing a mutation once, however often it is sent: its key is written in the transaction that does it, with the ids of what was
//! done, and a repetition is answered by these.

use adapters::sealing::Keyring;
use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    Backend, CommandError, DbErr, Principal, Refusal, Scope, SystemScope, TenantId, Tx, UserId,
    Within, idempotency, query::*,
};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::Log;

/// For how long a key is remembered.
const REMEMBERED: TimeDelta = TimeDelta::hours(24);
/// Characters of a key.
const KEY: usize = 255;
/// What the input is authenticated under.
const LABEL: &str = "idempotency input";
/// Rows that one sweep takes away.
const SWEPT: u64 = 1000;

/// A mutation with a key: the same key of the same asker, with the same input, is the same thing done.
#[derive(Debug, Clone)]
pub struct Once {
    tenant: TenantId,
    principal: Uuid,
    user: UserId,
    mutation: String,
    key: String,
    input: Vec<u8>,
    keyring: Keyring,
}

/// What the key says before anything is done.
pub(crate) enum Begun<T> {
    /// Nobody did it yet; whoever else tries waits for this transaction.
    Now,
    /// It is done; this is its answer.
    Before(T),
}

impl Once {
    /// For a mutation of whoever `scope` says. `input` is written in a form that is the same for the same input; of it only a
    /// keyed digest is stored. `None` for the server's own doings, which have no keys. A `key` that is empty, longer than 255
    /// characters, or has a NUL is refused when something is to be done by it.
    #[must_use]
    pub fn new(
        scope: &Scope,
        mutation: impl Into<String>,
        key: String,
        input: Vec<u8>,
        keyring: &Keyring,
    ) -> Option<Self> {
        let principal = match scope.principal() {
            Principal::Session(session) => session.0,
            Principal::Key(key) => key.0,
            Principal::Run => return None,
        };
        Some(Self {
            tenant: scope.tenant(),
            principal,
            user: scope.user(),
            mutation: mutation.into(),
            key,
            input,
            keyring: keyring.clone(),
        })
    }

    /// What was done by this key already, for a mutation that does something outside before its command; `None`: nothing yet.
    /// The command asks once more, as somebody may do the same meanwhile.
    ///
    /// # Errors
    /// As of the command.
    pub async fn before<T: DeserializeOwned>(
        &self,
        tx: &Tx,
        now: DateTime<Utc>,
    ) -> Result<Option<T>, CommandError> {
        entities::input::filled(&["input", "idempotencyKey"], &self.key, KEY)?;
        match self.row(tx).await? {
            Some(row) if row.created_at >= now - REMEMBERED => match row.answer {
                Some(answer) => self.read(&row.input_mac, answer).map(Some),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// The first statement of the command. Where the same is being done at this moment it waits for how that ends.
    pub(crate) async fn begin<T: DeserializeOwned>(
        &self,
        tx: &Tx,
        now: DateTime<Utc>,
    ) -> Result<Begun<T>, CommandError> {
        entities::input::filled(&["input", "idempotencyKey"], &self.key, KEY)?;
        if self.take(tx, now).await? {
            return Ok(Begun::Now);
        }
        let row = self.row(tx).await?;
        // Whoever held it has let go of it since: as rare as it is harmless, the client tries again.
        let Some((input_mac, Some(answer))) = row.map(|row| (row.input_mac, row.answer)) else {
            return Err(Refusal::conflict(
                &["input", "idempotencyKey"],
                "the same request is being carried out; try again",
                None,
            )
            .into());
        };
        self.read(&input_mac, answer).map(Begun::Before)
    }

    async fn row(&self, tx: &Tx) -> Result<Option<idempotency::Model>, DbErr> {
        idempotency::Entity::anywhere(SystemScope::of("a key's own row, by all of its key"))
            .filter(self.is_it())
            .one(&**tx)
            .await
    }

    /// The answer of then, if it was asked for the same.
    fn read<T: DeserializeOwned>(
        &self,
        input_mac: &[u8],
        answer: serde_json::Value,
    ) -> Result<T, CommandError> {
        if !self.keyring.verify_mac(LABEL, &self.input, input_mac) {
            return Err(Refusal::conflict(
                &["input", "idempotencyKey"],
                "the key was used with another input in the last 24 hours",
                None,
            )
            .into());
        }
        serde_json::from_value(answer).map_err(|error| {
            CommandError::Internal(format!(
                "the answer of {} can't be read: {error}",
                self.mutation
            ))
        })
    }

    /// Takes the key, unless somebody has it. One that is forgotten counts as nobody's.
    async fn take(&self, tx: &Tx, now: DateTime<Utc>) -> Result<bool, DbErr> {
        let (backend, places) = match tx.backend() {
            Backend::Postgres => (
                DbBackend::Postgres,
                ["$1", "$2", "$3", "$4", "$5", "$6", "$7", "$8"],
            ),
            Backend::Sqlite => (DbBackend::Sqlite, ["?"; 8]),
        };
        let sql = format!(
            "insert into idempotency (tenant_id, principal_id, user_id, mutation, key, input_mac, created_at) values ({}) \
             on conflict (tenant_id, principal_id, user_id, mutation, key) \
             do update set input_mac = excluded.input_mac, answer = null, created_at = excluded.created_at \
             where idempotency.created_at < {}",
            places[..7].join(", "),
            places[7]
        );
        let values = [
            self.tenant.into(),
            self.principal.into(),
            self.user.into(),
            self.mutation.clone().into(),
            self.key.clone().into(),
            self.keyring.mac(LABEL, &self.input).to_vec().into(),
            now.into(),
            (now - REMEMBERED).into(),
        ];
        let taken = tx
            .execute_raw(Statement::from_sql_and_values(backend, sql, values))
            .await?;
        Ok(taken.rows_affected() == 1)
    }

    /// Writes what was done beside its key.
    pub(crate) async fn finish<T: Serialize>(&self, tx: &Tx, done: &T) -> Result<(), CommandError> {
        let answer = serde_json::to_value(done).map_err(|error| {
            CommandError::Internal(format!(
                "the answer of {} can't be written: {error}",
                self.mutation
            ))
        })?;
        idempotency::Entity::change_anywhere(SystemScope::of("a key's own row, by all of its key"))
            .filter(self.is_it())
            .set(idempotency::ActiveModel {
                answer: Set(Some(answer)),
                ..Default::default()
            })
            .exec(&**tx)
            .await?;
        Ok(())
    }

    fn is_it(&self) -> Condition {
        Condition::all()
            .add(idempotency::Column::TenantId.eq(self.tenant))
            .add(idempotency::Column::PrincipalId.eq(self.principal))
            .add(idempotency::Column::UserId.eq(self.user))
            .add(idempotency::Column::Mutation.eq(self.mutation.as_str()))
            .add(idempotency::Column::Key.eq(self.key.as_str()))
    }
}

/// Takes keys away that are forgotten, hourly, a bounded number at a time.
pub(crate) async fn sweep(log: Log) {
    let mut hour = tokio::time::interval(std::time::Duration::from_secs(3600));
    hour.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let closing = log.closing();
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            _ = hour.tick() => {}
        }
        while matches!(forget(&log).await, Ok(SWEPT)) {}
    }
}

async fn forget(log: &Log) -> Result<u64, CommandError> {
    let within = Within::System(SystemScope::of("forgetting keys"));
    log.command::<_, CommandError, _>(within, |c| {
        Box::pin(async move {
            let (backend, place) = match c.tx().backend() {
                Backend::Postgres => (DbBackend::Postgres, "$1"),
                Backend::Sqlite => (DbBackend::Sqlite, "?"),
            };
            let row = match backend {
                DbBackend::Postgres => "ctid",
                _ => "rowid",
            };
            let sql = format!(
                "delete from idempotency where {row} in \
                 (select {row} from idempotency where created_at < {place} limit {SWEPT})"
            );
            let before = c.now() - REMEMBERED;
            let gone = c
                .tx()
                .execute_raw(Statement::from_sql_and_values(
                    backend,
                    sql,
                    [before.into()],
                ))
                .await?;
            Ok(gone.rows_affected())
        })
    })
    .await
    .inspect_err(|error| {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "failed to take old keys away"
        );
    })
}
