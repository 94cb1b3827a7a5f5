//! What lives by a credential ends with it: one task per process looks every two seconds, in one statement, which of the
//! credentials that sockets and streams were opened with are still good. It also writes down who was seen.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use adapters::tasks::Tasks;
use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    ApiKeyId, CommandError, MembershipId, SessionId, SystemScope, Tx, UserId, api_key, membership,
    query::*, session, standing::still_good, user,
};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::{
    Authority, Identity, SESSION_IDLE, api_keys::Acting, attempts, authority::Inner,
    identity::CredentialId,
};

const SCOPE: SystemScope = SystemScope::of("credentials in use");

/// How far apart the looks are.
const APART: Duration = Duration::from_secs(2);
/// Looks between two sweeps of what only fills tables.
const LOOKS_PER_SWEEP: u32 = 300;
/// A credential is written down as seen at most this often.
const SEEN_APART: TimeDelta = TimeDelta::minutes(1);
/// How many wait to be written down; more come later.
const SEEN_AT_ONCE: usize = 2_000;
/// The longest sleep towards an expiry: the time of day may be set meanwhile.
const NAP: Duration = Duration::from_secs(30);

const RAN_OUT: &str = "the credential has run out";
const ENDED: &str = "the credential is no longer valid";

/// Who is watched, and who was seen.
#[derive(Default)]
pub(crate) struct Watched {
    open: Mutex<HashMap<Acting, watch::Sender<bool>>>,
    seen: Mutex<HashMap<Acting, (UserId, DateTime<Utc>)>>,
}

impl Watched {
    fn open(&self) -> MutexGuard<'_, HashMap<Acting, watch::Sender<bool>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a credential was used, unless that was noted within the last minute.
    pub(crate) fn seen(
        &self,
        identity: &Identity,
        before: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) {
        if before.is_some_and(|before| now - before < SEEN_APART) {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < SEEN_AT_ONCE {
            seen.insert(identity.acting(), (identity.user().id, now));
        }
    }

    /// Ends what was opened with a credential.
    pub(crate) fn end(&self, id: CredentialId) {
        self.open().retain(|(open, _), sender| {
            let ends = *open == id;
            if ends {
                sender.send_replace(true);
            }
            !ends
        });
    }
}

impl Authority {
    /// Resolves with a reason once the credential runs out, ends, or its user may no longer act in the tenant by it: within five
    /// seconds, wherever that was decided. Dropping it is fine.
    #[must_use]
    pub fn ended(&self, identity: &Identity) -> BoxFuture<'static, &'static str> {
        let mut ended = self
            .0
            .watched
            .open()
            .entry(identity.acting())
            .or_insert_with(|| watch::Sender::new(false))
            .subscribe();
        let (clock, expires_at) = (self.0.clock.clone(), identity.expires_at());
        Box::pin(async move {
            loop {
                let left =
                    expires_at.map(|at| (at - clock.now()).to_std().unwrap_or(Duration::ZERO));
                if left == Some(Duration::ZERO) {
                    return RAN_OUT;
                }
                let nap = left.unwrap_or(NAP).min(NAP);
                // Also where the sender is gone: then nobody looks any more.
                if tokio::time::timeout(nap, ended.wait_for(|ended| *ended))
                    .await
                    .is_ok()
                {
                    return ENDED;
                }
            }
        })
    }

    /// Starts the task.
    pub(crate) fn keep_watch(&self, tasks: &Tasks) {
        let closing = tasks.closing();
        let inner: std::sync::Weak<Inner> = self.downgrade();
        drop(tasks.spawn("credentials", async move {
            let mut looks = 0;
            while closing
                .run_until_cancelled(tokio::time::sleep(APART))
                .await
                .is_some()
            {
                let Some(authority) = inner.upgrade().map(Self::from_inner) else {
                    return;
                };
                looks += 1;
                if let Err(error) = authority.look(looks % LOOKS_PER_SWEEP == 0).await {
                    tracing::warn!(%error, "credentials in use could not be read");
                }
            }
        }));
    }

    /// One look.
    pub(crate) async fn look(&self, sweep: bool) -> Result<(), CommandError> {
        self.end_the_bad().await?;
        self.write_down_seen().await?;
        if sweep {
            self.command(|tx, now| Box::pin(attempts::sweep(tx, now)))
                .await?;
        }
        Ok(())
    }

    async fn end_the_bad(&self) -> Result<(), CommandError> {
        let watched: Vec<Acting> = {
            let mut open = self.0.watched.open();
            open.retain(|_, sender| sender.receiver_count() > 0);
            open.keys().copied().collect()
        };
        if watched.is_empty() {
            return Ok(());
        }
        let (sessions, keys) = split(watched.iter().copied());
        let good = still_good(
            SCOPE,
            self.0.db.reader(SCOPE),
            &sessions,
            &keys,
            self.0.clock.now(),
        )
        .await?;
        let good: HashSet<_> = good.into_iter().collect();
        let bad = watched.into_iter().filter(|(id, membership)| {
            let id = match id {
                CredentialId::Session(id) => id.0,
                CredentialId::Key(id) => id.0,
            };
            !good.contains(&(id, *membership))
        });
        for acting in bad {
            self.0.cache.forget(acting.0);
            if let Some(sender) = self.0.watched.open().remove(&acting) {
                sender.send_replace(true);
            }
        }
        Ok(())
    }

    async fn write_down_seen(&self) -> Result<(), CommandError> {
        let seen = std::mem::take(
            &mut *self
                .0
                .watched
                .seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        if seen.is_empty() {
            return Ok(());
        }
        self.command(move |tx, now| Box::pin(write(tx, seen, now)))
            .await
    }
}

type Members<T> = Vec<(T, MembershipId)>;

/// Sessions and keys apart.
fn split(acting: impl Iterator<Item = Acting>) -> (Members<SessionId>, Members<ApiKeyId>) {
    let (mut sessions, mut keys) = (Vec::new(), Vec::new());
    for (id, membership) in acting {
        match id {
            CredentialId::Session(id) => sessions.push((id, membership)),
            CredentialId::Key(id) => keys.push((id, membership)),
        }
    }
    (sessions, keys)
}

async fn write(
    tx: &Tx,
    seen: HashMap<Acting, (UserId, DateTime<Utc>)>,
    now: DateTime<Utc>,
) -> Result<(), CommandError> {
    let (sessions, keys) = split(seen.keys().copied());
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
            .filter(session::Column::Id.is_in(sessions.iter().map(|(id, _)| *id)))
            .exec(&**tx)
            .await?;
    }
    if !keys.is_empty() {
        api_key::Entity::change_anywhere(SCOPE)
            .col_expr(api_key::Column::LastUsedAt, Expr::value(now))
            .filter(api_key::Column::Id.is_in(keys.iter().map(|(id, _)| *id)))
            .exec(&**tx)
            .await?;
    }
    membership::Entity::change_anywhere(SCOPE)
        .col_expr(membership::Column::LastSeenAt, Expr::value(now))
        .filter(membership::Column::Id.is_in(seen.keys().map(|(_, membership)| *membership)))
        .exec(&**tx)
        .await?;
    user::Entity::change_anywhere(SCOPE)
        .col_expr(user::Column::LastSeenAt, Expr::value(now))
        .filter(user::Column::Id.is_in(seen.values().map(|(user, _)| *user)))
        .exec(&**tx)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use entities::ApiKeyKind;
    use futures_util::FutureExt;

    use super::*;
    use crate::{NewApiKey, testing::House};

    fn laptop() -> NewApiKey {
        NewApiKey {
            name: "laptop".into(),
            kind: ApiKeyKind::Personal,
            permissions: None,
            expires_at: None,
        }
    }

    #[tokio::test]
    async fn what_lives_by_a_credential_ends_with_it() {
        let house = House::new().await;
        let by_session = house.set_up().await.identity;
        let scope = by_session.scope().clone();
        let (row, secret) = house.auth.create_api_key(&scope, laptop()).await.unwrap();
        let by_key = house.identify(secret.expose()).await.unwrap();
        let elsewhere = house.replica();
        let mut session = house.auth.ended(&by_session);
        let mut key = house.auth.ended(&by_key);
        let mut there = elsewhere.ended(&by_key);
        for authority in [&house.auth, &elsewhere] {
            authority.look(false).await.unwrap();
        }
        assert!(
            (&mut session).now_or_never().is_none()
                && (&mut key).now_or_never().is_none()
                && (&mut there).now_or_never().is_none()
        );

        house.auth.revoke_api_key(&scope, row.id).await.unwrap();
        assert_eq!(key.await, ENDED, "here at once");
        elsewhere.look(false).await.unwrap();
        assert_eq!(there.await, ENDED);
        house.auth.look(false).await.unwrap();
        assert!((&mut session).now_or_never().is_none(), "the session stays");

        membership::Entity::change_in(&scope)
            .col_expr(membership::Column::IsActive, Expr::value(false))
            .exec(house.db.system(SCOPE))
            .await
            .unwrap();
        house.auth.look(false).await.unwrap();
        assert_eq!(session.await, ENDED);
        assert!(house.auth.0.watched.open().is_empty());
    }

    #[tokio::test]
    async fn the_task_looks_by_itself() {
        let house = House::new().await;
        let signed_in = house.set_up().await;
        let ended = house.auth.ended(&signed_in.identity);
        let now = Some(house.auth.0.clock.now());
        session::Entity::change_anywhere(SCOPE)
            .col_expr(session::Column::EndedAt, Expr::value(now))
            .exec(house.db.system(SCOPE))
            .await
            .unwrap();
        assert_eq!(
            tokio::time::timeout(Duration::from_secs(5), ended).await,
            Ok(ENDED)
        );
        assert!(
            house.tasks.close(Duration::from_secs(5)).await,
            "the task ends with its group"
        );
    }

    #[tokio::test]
    async fn a_token_that_runs_out_ends_it_too() {
        let house = House::new().await;
        let signed_in = house.set_up().await;
        house.clock.advance(Duration::from_millis(3_599_990));
        let mut ended = house.auth.ended(&signed_in.identity);
        assert!((&mut ended).now_or_never().is_none());
        house.clock.advance(Duration::from_millis(10));
        assert_eq!(ended.await, RAN_OUT);
    }

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

        let (_, secret) = house
            .auth
            .create_api_key(signed_in.identity.scope(), laptop())
            .await
            .unwrap();
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
        let db = house.db.system(SCOPE);
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
