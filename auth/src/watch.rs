//! What lives by a credential ends with it: one task per process looks every two seconds, in one statement, which of the
//! credentials that sockets and streams were opened with are still good, and what they give the right to.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use adapters::{
    clock::{BootInstant, SharedClock},
    tasks::Tasks,
};
use entities::{
    ApiKeyId, CommandError, MembershipId, SessionId, SystemScope,
    standing::{StillGood, still_good},
};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::{
    Authority, Identity,
    api_keys::Acting,
    attempts,
    authority::Inner,
    identity::{CredentialId, Power, rights},
    oidc,
    seen::Seen,
};

const SCOPE: SystemScope = SystemScope::of("credentials in use");

/// For how long what a look found is believed.
const BELIEVED: Duration = Duration::from_secs(5);
/// How far apart the looks are.
const APART: Duration = Duration::from_secs(2);
/// Looks between two sweeps of what only fills tables.
const LOOKS_PER_SWEEP: u32 = 300;
/// The longest sleep towards an expiry: the time of day may be set meanwhile.
const NAP: Duration = Duration::from_secs(30);

const RAN_OUT: &str = "the credential has run out";
const ENDED: &str = "the credential is no longer valid";

/// How a credential stands, as far as this process knows.
#[derive(Debug, Clone)]
enum State {
    /// As of a moment, it gives these rights.
    Good { power: Power, as_of: BootInstant },
    /// It has ended.
    Ended,
}

impl State {
    fn of(identity: &Identity) -> Self {
        Self::Good {
            power: Power::of(identity.scope()),
            as_of: identity.read_at(),
        }
    }

    fn found(good: &StillGood, as_of: BootInstant) -> Self {
        let power = Power {
            role: good.role,
            permissions: rights(good.role, good.is_platform_administrator, good.of_key),
            groups: good.groups.clone(),
        };
        Self::Good { power, as_of }
    }

    /// What it gives the right to; `None` once it has ended.
    fn rights(&self) -> Option<&Power> {
        match self {
            Self::Good { power, .. } => Some(power),
            Self::Ended => None,
        }
    }

    /// Takes what was found, unless something newer is known. Whether that gives other rights.
    fn learn(&mut self, found: Self) -> bool {
        match (&*self, &found) {
            (Self::Good { as_of: known, .. }, Self::Good { as_of, .. }) if known <= as_of => {
                let differs = self.rights() != found.rights();
                *self = found;
                differs
            }
            _ => false,
        }
    }
}

/// Who is watched, and who was seen.
pub(crate) struct Watched {
    open: Mutex<HashMap<Acting, watch::Sender<State>>>,
    /// When was last looked.
    looked: watch::Sender<BootInstant>,
    pub(crate) seen: Seen,
}

impl Watched {
    pub(crate) fn new(now: BootInstant) -> Self {
        Self {
            open: Mutex::default(),
            looked: watch::Sender::new(now),
            seen: Seen::default(),
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Acting, watch::Sender<State>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, identity: &Identity) -> watch::Receiver<State> {
        let now = State::of(identity);
        let mut open = self.open();
        let sender = open
            .entry(identity.acting())
            .or_insert_with(|| watch::Sender::new(now.clone()));
        // It may have been read later than the last look.
        sender.send_if_modified(|known| known.learn(now));
        sender.subscribe()
    }

    /// Ends what was opened with a credential.
    pub(crate) fn end(&self, id: CredentialId) {
        self.open().retain(|(open, _), sender| {
            let ends = *open == id;
            if ends {
                sender.send_replace(State::Ended);
            }
            !ends
        });
    }
}

/// Who asks by a credential, with what it gives the right to as time goes by.
pub struct Rights {
    identity: Identity,
    states: watch::Receiver<State>,
    looked: watch::Receiver<BootInstant>,
    clock: SharedClock,
}

impl Rights {
    /// Who asks, with the rights that are known at this moment.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Waits until the credential gives other rights than before, in role, permissions or groups, and answers with them. One that has
    /// ended gives no answer any more: [`Authority::ended`] says that. Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Identity {
        let known = Power::of(self.identity.scope());
        let other = self
            .states
            .wait_for(|state| state.rights().is_some_and(|now| *now != known))
            .await
            .ok()
            .and_then(|state| state.rights().cloned());
        match other {
            Some(power) => {
                self.identity = self.identity.with(power);
                self.identity.clone()
            }
            None => std::future::pending().await,
        }
    }

    /// Whether that is known well enough to be told something. It is not where nobody could look for five seconds: the
    /// credential may have ended meanwhile.
    #[must_use]
    pub fn are_known(&self) -> bool {
        let at = *self.looked.borrow();
        self.clock.instant().since(at) < BELIEVED
    }

    /// Resolves once somebody has looked again.
    pub fn looked(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut looked = self.looked.clone();
        let before = *looked.borrow();
        async move {
            if looked.wait_for(|at| *at != before).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Authority {
    /// What the credential gives the right to, now and from here on: a change is noticed within five seconds, wherever it was
    /// made.
    #[must_use]
    pub fn rights(&self, identity: &Identity) -> Rights {
        let states = self.0.watched.follow(identity);
        let known = states.borrow().rights().cloned();
        let identity = match known {
            Some(power) => identity.with(power),
            None => identity.clone(),
        };
        Rights {
            identity,
            states,
            looked: self.0.watched.looked.subscribe(),
            clock: self.0.clock.clone(),
        }
    }

    /// Resolves with a reason once the credential runs out, ends, or its user may no longer act in the tenant by it: within five
    /// seconds, wherever that was decided. Dropping it is fine.
    #[must_use]
    pub fn ended(&self, identity: &Identity) -> BoxFuture<'static, &'static str> {
        let mut states = self.0.watched.follow(identity);
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
                let over = states.wait_for(|state| matches!(state, State::Ended));
                if tokio::time::timeout(nap, over).await.is_ok() {
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
        self.look_at_those_in_use().await?;
        self.write_down_seen().await?;
        if sweep {
            self.command(|tx, now| {
                Box::pin(async move {
                    attempts::sweep(tx, now).await?;
                    oidc::sweep(tx, now).await
                })
            })
            .await?;
            self.expire_audit(self.0.clock.now() - self.0.config.audit_kept)
                .await?;
        }
        Ok(())
    }

    async fn look_at_those_in_use(&self) -> Result<(), CommandError> {
        let watched: Vec<Acting> = {
            let mut open = self.0.watched.open();
            open.retain(|_, sender| sender.receiver_count() > 0);
            open.keys().copied().collect()
        };
        let as_of = self.0.clock.instant();
        if watched.is_empty() {
            self.0.watched.looked.send_replace(as_of);
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
        let good: HashMap<_, _> = good
            .into_iter()
            .map(|good| ((good.credential, good.membership), good))
            .collect();
        let mut others = HashSet::new();
        {
            let mut open = self.0.watched.open();
            for acting in watched {
                let id = match acting.0 {
                    CredentialId::Session(id) => id.0,
                    CredentialId::Key(id) => id.0,
                };
                match good.get(&(id, acting.1)) {
                    Some(good) => {
                        let found = State::found(good, as_of);
                        let differs = open.get(&acting).is_some_and(|sender| {
                            sender.send_if_modified(|known| known.learn(found))
                        });
                        if differs {
                            others.insert(acting.0);
                        }
                    }
                    None => {
                        others.insert(acting.0);
                        if let Some(sender) = open.remove(&acting) {
                            sender.send_replace(State::Ended);
                        }
                    }
                }
            }
        }
        for id in others {
            self.0.cache.forget(id);
        }
        // Only now: who waits for it sees what was found.
        self.0.watched.looked.send_replace(as_of);
        Ok(())
    }
}

type Members<T> = Vec<(T, MembershipId)>;

/// Sessions and keys apart.
pub(crate) fn split(
    acting: impl Iterator<Item = Acting>,
) -> (Members<SessionId>, Members<ApiKeyId>) {
    let (mut sessions, mut keys) = (Vec::new(), Vec::new());
    for (id, membership) in acting {
        match id {
            CredentialId::Session(id) => sessions.push((id, membership)),
            CredentialId::Key(id) => keys.push((id, membership)),
        }
    }
    (sessions, keys)
}

#[cfg(test)]
mod tests {
    use entities::{ApiKeyKind, Role, membership, query::*, session};
    use futures_util::FutureExt;

    use super::*;
    use crate::{
        NewApiKey,
        testing::{House, the_key},
    };

    fn laptop() -> NewApiKey {
        NewApiKey {
            name: "laptop".into(),
            kind: ApiKeyKind::Personal,
            permissions: None,
            may_impersonate: false,
            may_create_users: false,
            expires_at: None,
        }
    }

    #[tokio::test]
    async fn what_lives_by_a_credential_ends_with_it() {
        let house = House::new().await;
        let by_session = house.set_up().await.identity;
        let scope = by_session.scope().clone();
        let (row, secret) = the_key(&house, &scope, laptop()).await;
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
            .exec(house.db.owner(SCOPE))
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
            .exec(house.db.owner(SCOPE))
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
    async fn other_rights_are_noticed() {
        let house = House::new().await;
        let identity = house.set_up().await.identity;
        let scope = identity.scope().clone();
        let elsewhere = house.replica();
        let mut here = house.auth.rights(&identity);
        let mut there = elsewhere.rights(&identity);
        for authority in [&house.auth, &elsewhere] {
            authority.look(false).await.unwrap();
        }
        assert!(here.changed().now_or_never().is_none(), "nothing did");
        for role in [Role::Member, Role::Admin] {
            house.clock.advance(Duration::from_secs(2));
            membership::Entity::change_in(&scope)
                .set(membership::ActiveModel {
                    role: Set(role),
                    ..Default::default()
                })
                .exec(house.db.owner(SCOPE))
                .await
                .unwrap();
            for (authority, rights) in [(&house.auth, &mut here), (&elsewhere, &mut there)] {
                authority.look(false).await.unwrap();
                let now = rights.changed().now_or_never().expect("it is noticed");
                let now = now.scope();
                assert_eq!(
                    (now.role(), now.principal()),
                    (Some(role), scope.principal())
                );
                assert!(rights.changed().now_or_never().is_none(), "once");
            }
        }
        // whoever comes later by what was read before has what is known by now
        let mut late = house.auth.rights(&identity);
        assert_eq!(late.identity().scope().role(), Some(Role::Admin));
        assert!(late.changed().now_or_never().is_none());
        // and a look does not undo what was read after it
        house.clock.advance(Duration::from_secs(2));
        membership::Entity::change_in(&scope)
            .set(membership::ActiveModel {
                role: Set(Role::Editor),
                ..Default::default()
            })
            .exec(house.db.owner(SCOPE))
            .await
            .unwrap();
        let newer = house.auth.again(&identity).await.unwrap();
        assert_eq!(newer.scope().role(), Some(Role::Editor));
        let mut new = house.auth.rights(&newer);
        assert!(new.changed().now_or_never().is_none());
        assert_eq!(
            here.changed().await.scope().role(),
            Some(Role::Editor),
            "nor hide it"
        );

        let mut ended = house.auth.ended(&identity);
        house.auth.sign_out(&scope, false).await.unwrap();
        assert!((&mut ended).now_or_never().is_some());
        assert!(
            here.changed().now_or_never().is_none(),
            "that is told elsewhere"
        );
    }

    #[tokio::test]
    async fn what_nobody_could_look_at_is_not_known() {
        let house = House::new().await;
        let identity = house.set_up().await.identity;
        let rights = house.auth.rights(&identity);
        house.clock.advance(Duration::from_millis(4_999));
        assert!(rights.are_known());
        house.clock.advance(Duration::from_millis(1));
        assert!(!rights.are_known());
        let mut looked = Box::pin(rights.looked());
        assert!((&mut looked).now_or_never().is_none());
        house.auth.look(false).await.unwrap();
        looked.await;
        assert!(rights.are_known());
    }
}
