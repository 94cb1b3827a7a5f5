//! Who was seen lately, and by which pair of tokens: noted as requests come, written down every two seconds by the task that
//! [watches](crate::watch), never by a request.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    CommandError, SessionId, SystemScope, Tx, UserId, api_key, membership, query::*, session, user,
};

use crate::{Authority, Identity, SESSION_IDLE, api_keys::Acting, watch::split};

const SCOPE: SystemScope = SystemScope::of("who was seen");

/// A credential is written down as seen at most this often.
const APART: TimeDelta = TimeDelta::minutes(1);
/// How many wait to be written down; more come later.
const AT_ONCE: usize = 2_000;
/// Conditions of one statement.
const PER_STATEMENT: usize = 200;

/// What is to be written down.
#[derive(Default)]
pub(crate) struct Seen(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    seen: HashMap<Acting, (UserId, DateTime<Utc>)>,
    /// Of which pair a token was presented.
    used: HashMap<SessionId, i64>,
}

impl Seen {
    /// Notes that a credential was used, unless that was noted within the last minute.
    pub(crate) fn note(
        &self,
        identity: &Identity,
        before: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) {
        if before.is_some_and(|before| now - before < APART) {
            return;
        }
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.seen.len() < AT_ONCE {
            noted
                .seen
                .insert(identity.acting(), (identity.user().id, now));
        }
    }

    /// Notes that the newest pair of a session is in use.
    pub(crate) fn note_used(&self, session: SessionId, rotation: i64) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.used.len() < AT_ONCE {
            noted.used.insert(session, rotation);
        }
    }

    fn take(&self) -> Noted {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Authority {
    pub(crate) async fn write_down_seen(&self) -> Result<(), CommandError> {
        let noted = self.0.watched.seen.take();
        if noted.seen.is_empty() && noted.used.is_empty() {
            return Ok(());
        }
        self.command(move |tx, now| Box::pin(write(tx, noted, now)))
            .await
    }
}

/// The ids of those rows that nobody else holds, locked. Who holds one writes the same, or ends it. So this waits for nobody, and
/// whoever holds one row and waits for another never waits for this in a circle.
macro_rules! free {
    ($tx:expr, $table:ident, $ids:expr) => {
        $table::Entity::anywhere(SCOPE)
            .filter($table::Column::Id.is_in($ids))
            .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
            .all(&**$tx)
            .await?
            .into_iter()
            .map(|row| row.id)
            .collect::<Vec<_>>()
    };
}

async fn write(tx: &Tx, noted: Noted, now: DateTime<Utc>) -> Result<(), CommandError> {
    let Noted { seen, used } = noted;
    let (sessions, keys) = split(seen.keys().copied());
    let sessions = free!(tx, session, sessions.iter().map(|(id, _)| *id));
    if !sessions.is_empty() {
        // Idle time begins anew, and never passes the end.
        let idle = now + SESSION_IDLE;
        let expires_at = Expr::case(
            session::Column::EndsAt.lt(idle),
            Expr::col(session::Column::EndsAt),
        )
        .finally(Expr::value(idle));
        session::Entity::change_anywhere(SCOPE)
            .col_expr(session::Column::LastSeenAt, Expr::value(now))
            .col_expr(session::Column::ExpiresAt, expires_at.into())
            .filter(session::Column::Id.is_in(sessions))
            .exec(&**tx)
            .await?;
    }
    let held = free!(tx, session, used.keys().copied());
    for some in held.chunks(PER_STATEMENT) {
        let mut those = Condition::any();
        for id in some {
            // Not where another pair was issued meanwhile.
            let pair = Condition::all()
                .add(session::Column::Id.eq(*id))
                .add(session::Column::Rotation.eq(used.get(id).copied()));
            those = those.add(pair);
        }
        session::Entity::change_anywhere(SCOPE)
            .col_expr(
                session::Column::UsedRotation,
                Expr::col(session::Column::Rotation),
            )
            .filter(those)
            .exec(&**tx)
            .await?;
    }
    let keys = free!(tx, api_key, keys.iter().map(|(id, _)| *id));
    if !keys.is_empty() {
        api_key::Entity::change_anywhere(SCOPE)
            .col_expr(api_key::Column::LastUsedAt, Expr::value(now))
            .filter(api_key::Column::Id.is_in(keys))
            .exec(&**tx)
            .await?;
    }
    let memberships = free!(
        tx,
        membership,
        seen.keys().map(|(_, membership)| *membership)
    );
    if !memberships.is_empty() {
        membership::Entity::change_anywhere(SCOPE)
            .col_expr(membership::Column::LastSeenAt, Expr::value(now))
            .filter(membership::Column::Id.is_in(memberships))
            .exec(&**tx)
            .await?;
    }
    let users = free!(tx, user, seen.values().map(|(user, _)| *user));
    if !users.is_empty() {
        user::Entity::change_anywhere(SCOPE)
            .col_expr(user::Column::LastSeenAt, Expr::value(now))
            .filter(user::Column::Id.is_in(users))
            .exec(&**tx)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{House, a_key};

    #[tokio::test]
    async fn who_was_seen_is_written_down_once_a_minute() {
        let house = House::new().await;
        let signed_in = house.set_up().await;
        let started = house.auth.0.clock.now();
        let of_session = async || {
            session::Entity::anywhere(SCOPE)
                .one(house.db.reader(SCOPE))
                .await
                .unwrap()
                .unwrap()
        };
        house.clock.advance(Duration::from_secs(59));
        house
            .identify(signed_in.access_token.expose())
            .await
            .unwrap();
        house.auth.look(false).await.unwrap();
        assert_eq!(of_session().await.last_seen_at, started);
        house.clock.advance(Duration::from_secs(2));
        house
            .identify(signed_in.access_token.expose())
            .await
            .unwrap();
        house.auth.look(false).await.unwrap();
        let later = started + TimeDelta::seconds(61);
        let row = of_session().await;
        assert_eq!(
            (row.last_seen_at, row.expires_at),
            (later, later + SESSION_IDLE)
        );
        let member = membership::Entity::in_tenant(signed_in.identity.scope())
            .one(house.db.reader(SCOPE))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(member.last_seen_at, Some(later));

        let (_, secret) = a_key(&house, signed_in.identity.scope()).await;
        house.identify(secret.expose()).await.unwrap();
        house.auth.look(false).await.unwrap();
        let key = api_key::Entity::in_tenant(signed_in.identity.scope())
            .one(house.db.reader(SCOPE))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(key.last_used_at, Some(later));
    }

    #[tokio::test]
    async fn idle_time_never_passes_the_end() {
        let house = House::new().await;
        let signed_in = house.set_up().await;
        let db = house.db.owner(SCOPE);
        let ends_at = house.auth.0.clock.now() + TimeDelta::days(1);
        session::Entity::change_anywhere(SCOPE)
            .col_expr(session::Column::EndsAt, Expr::value(ends_at))
            .exec(db)
            .await
            .unwrap();
        house.clock.advance(Duration::from_secs(61));
        house
            .identify(signed_in.access_token.expose())
            .await
            .unwrap();
        house.auth.look(false).await.unwrap();
        let row = session::Entity::anywhere(SCOPE)
            .one(house.db.reader(SCOPE))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(row.expires_at, ends_at);
    }
}
