//! Which generation of the database this is: numbers of an earlier one may have been given to something else since.

use adapters::clock::SharedClock;
use entities::{Backend, Db, DbErr, SystemScope, Within, meta};
use sea_orm::{ActiveModelTrait, ConnectionTrait, IntoActiveModel, QuerySelect, Set};
use uuid::Uuid;

use crate::log::LogError;

pub(crate) struct State {
    pub(crate) installation: Uuid,
    pub(crate) generation: Uuid,
}

const SYSTEM: SystemScope = SystemScope::of("the state of the log");

/// Reads and renews the state at start. A new generation begins where events may be lost that somebody saw: on SQLite after an
/// unclean end on another boot of the machine (a power cut may take the newest deltas), on PostgreSQL where the server is
/// another one or went back in time (a restore, a failover).
pub(crate) async fn begin(db: &Db, clock: &SharedClock) -> Result<State, LogError> {
    let boot_id = match db.backend() {
        Backend::Sqlite => Some(boot_id(clock).await),
        Backend::Postgres => {
            durable(db).await?;
            timeline(db).await
        }
    };
    let tx = db.begin(Within::System(SYSTEM)).await?;
    // Locked: replicas that start together after a failover must agree.
    let Some(row) = meta::Entity::anywhere(SYSTEM)
        .lock_exclusive()
        .one(&*tx)
        .await?
    else {
        let boot_id = boot_id.unwrap_or_default();
        let row = meta::Model {
            one: 1,
            installation_id: clock.uuid(),
            generation: clock.uuid(),
            boot_id,
            clean_stop: false,
        };
        let state = State {
            installation: row.installation_id,
            generation: row.generation,
        };
        match meta::Entity::add(&*tx, row).await {
            Ok(()) => tx.commit().await?,
            // A replica that starts at the same time was first.
            Err(_) => {
                tx.rollback().await?;
                let row = meta::Entity::anywhere(SYSTEM)
                    .one(db.reader(SYSTEM))
                    .await?;
                let row = row.ok_or_else(|| DbErr::RecordNotFound("meta".into()))?;
                return Ok(State {
                    installation: row.installation_id,
                    generation: row.generation,
                });
            }
        }
        return Ok(state);
    };
    // Where it could not be asked nothing is known to have changed.
    let boot_id = boot_id.unwrap_or_else(|| row.boot_id.clone());
    let lost = match db.backend() {
        Backend::Sqlite => !row.clean_stop && row.boot_id != boot_id,
        Backend::Postgres => !row.boot_id.is_empty() && row.boot_id != boot_id,
    };
    let state = State {
        installation: row.installation_id,
        generation: if lost { clock.uuid() } else { row.generation },
    };
    let mut row = row.into_active_model();
    row.generation = Set(state.generation);
    row.boot_id = Set(boot_id);
    row.clean_stop = Set(false);
    row.update(&*tx).await?;
    tx.commit().await?;
    Ok(state)
}

/// That SQLite's file was left in order.
pub(crate) async fn end(db: &Db) -> Result<(), DbErr> {
    if db.backend() == Backend::Postgres {
        return Ok(());
    }
    let tx = db.begin(Within::System(SYSTEM)).await?;
    if let Some(row) = meta::Entity::anywhere(SYSTEM).one(&*tx).await? {
        let mut row = row.into_active_model();
        row.clean_stop = Set(true);
        row.update(&*tx).await?;
    }
    tx.commit().await
}

/// Of the machine's current boot; a random one where it does not tell, so that every unclean end counts as a power cut.
async fn boot_id(clock: &SharedClock) -> String {
    match tokio::fs::read_to_string("/proc/sys/kernel/random/boot_id").await {
        Ok(id) => id.trim().to_owned(),
        Err(_) => clock.uuid().to_string(),
    }
}

async fn durable(db: &Db) -> Result<(), LogError> {
    let row = db.owner(SYSTEM).query_one_raw(sql("show fsync")).await?;
    let fsync: Option<String> = row.and_then(|row| row.try_get_by(0).ok());
    if fsync.as_deref() == Some("off") {
        Err(LogError::NotDurable)
    } else {
        Ok(())
    }
}

/// The cluster and its timeline: a failover or a restore to a point in time begins another one.
async fn timeline(db: &Db) -> Option<String> {
    let query = "select (pg_control_system()).system_identifier::text || '/' || (pg_control_checkpoint()).timeline_id::text";
    let row = db.owner(SYSTEM).query_one_raw(sql(query)).await;
    // A role that may not ask gets no warning of a failover by this; everything else holds.
    row.ok().flatten().and_then(|row| row.try_get_by(0).ok())
}

fn sql(text: &str) -> sea_orm::Statement {
    sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, text)
}
