//! Taking away what a stream said, once nobody is to read it any more.

use entities::{Backend, DbErr};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use uuid::Uuid;

use crate::command::Command;

impl Command {
    /// Takes up to `limit` of the oldest records of a locked stream away and raises its floor: how many those were, none where
    /// nothing is left. `None`: some of them are not in their place yet, and would come back.
    ///
    /// # Errors
    /// What the database says.
    ///
    /// # Panics
    /// As [`Command::head`].
    pub async fn forget(&mut self, stream: Uuid, limit: u64) -> Result<Option<u64>, DbErr> {
        let _ = self.head(stream);
        let tx = self.tx();
        let statement = |sql: &str, values: Vec<Value>| match tx.backend() {
            Backend::Postgres => {
                Statement::from_sql_and_values(DbBackend::Postgres, sql.to_owned(), values)
            }
            Backend::Sqlite => {
                Statement::from_sql_and_values(DbBackend::Sqlite, sql.replace('$', "?"), values)
            }
        };
        if tx.backend() == Backend::Sqlite {
            // Whoever folds is the only one that takes from the tail; it holds about a second.
            let tail = "select 1 from event_tail where stream_id = $1 limit 1";
            let waiting = tx.query_one_raw(statement(tail, vec![stream.into()]));
            if waiting.await?.is_some() {
                return Ok(None);
            }
        }
        let oldest = "select max(seq) as last from (select seq from events where stream_id = $1 order by seq limit $2) as oldest";
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let row = tx
            .query_one_raw(statement(oldest, vec![stream.into(), most.into()]))
            .await?;
        let last: Option<i64> = match row {
            Some(row) => row.try_get_by("last")?,
            None => None,
        };
        let Some(last) = last else {
            return Ok(Some(0));
        };
        let values = || vec![stream.into(), last.into()];
        let delete = "delete from events where stream_id = $1 and seq <= $2";
        let gone = tx.execute_raw(statement(delete, values())).await?;
        let raise = "update streams set floor = $2 where id = $1 and floor < $2";
        tx.execute_raw(statement(raise, values())).await?;
        Ok(Some(gone.rows_affected()))
    }
}
