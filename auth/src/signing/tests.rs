//! Keys that follow each other, as one process sees them and as several do.

use adapters::{clock::Clock, sealing::Secret};
use entities::session;

use super::*;
use crate::{
    testing::{House, SCOPE},
    tokens,
};

const LASTS: TimeDelta = TimeDelta::days(90);

fn moment(hours: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap() + TimeDelta::hours(hours)
}

fn key(id: u128, from: i64, retired: Option<i64>) -> Times {
    Times {
        id: Uuid::from_u128(id),
        signs_from: moment(from),
        retired_at: retired.map(moment),
    }
}

#[test]
fn what_is_due() {
    let lasts = TimeDelta::hours(100);
    let due = |keys: &[Times], now: i64| {
        let Due { next_from, gone } = Due::of(keys, lasts, moment(now));
        let gone: Vec<_> = gone.iter().map(Uuid::as_u128).collect();
        (next_from.map(|at| (at - moment(0)).num_hours()), gone)
    };
    let one = key(1, 0, None);
    let followed = [key(1, 0, Some(100)), key(2, 100, None)];
    assert_eq!(due(&[], 7), (Some(7), vec![]), "the first signs at once");
    assert_eq!(due(&[one], 98), (None, vec![]));
    assert_eq!(due(&[one], 99), (Some(100), vec![]), "an hour ahead");
    assert_eq!(due(&[one], 500), (Some(501), vec![]), "after a long stop");
    assert_eq!(due(&followed, 99), (None, vec![]), "it is there already");
    assert_eq!(due(&followed, 101), (None, vec![]), "its tokens are good");
    assert_eq!(due(&followed, 102), (None, vec![1]));
    assert_eq!(due(&followed, 199), (Some(200), vec![1]));
    // what an operator retired by hand
    assert_eq!(due(&[key(1, 0, Some(5))], 6), (Some(6), vec![]));
    assert_eq!(due(&[key(1, 0, Some(5))], 4), (None, vec![]));
}

async fn rows(house: &House) -> Vec<signing_key::Model> {
    let rows = signing_key::Entity::anywhere(SCOPE)
        .order_by_asc(signing_key::Column::SignsFrom)
        .all(house.db.reader(SCOPE))
        .await;
    rows.unwrap()
}

async fn signer(authority: &Authority) -> Uuid {
    authority.signing_key().await.unwrap().times.id
}

async fn published(authority: &Authority) -> Vec<String> {
    let jwks = authority.jwks().await.unwrap();
    let keys = jwks["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

async fn is_good(authority: &Authority, token: &Secret) -> bool {
    let credential = crate::Credential {
        bearer: Some(token.expose()),
        ..crate::Credential::default()
    };
    match authority.identify(credential).await {
        Ok(identity) => identity.is_some(),
        Err(CommandError::Unauthenticated(_)) => false,
        Err(other) => panic!("{other:?}"),
    }
}

/// A token of this moment by the private half of `row`, for a session that is good: what whoever stole it could make.
async fn forged(house: &House, row: &signing_key::Model) -> Secret {
    house.sign_in().await;
    let session = session::Entity::anywhere(SCOPE)
        .order_by_desc(session::Column::CreatedAt)
        .one(house.db.reader(SCOPE))
        .await
        .unwrap()
        .unwrap();
    let private = house.keyring.open_system(&place(row.id), &row.sealed);
    let claims = tokens::claims(
        "weft:tests",
        &session,
        session.tenant_id,
        house.clock.now(),
        Uuid::nil(),
    );
    let key = EncodingKey::from_ed_der(&private.unwrap());
    tokens::sign(&claims, &row.id.to_string(), &key).unwrap()
}

fn kid(token: &Secret) -> Uuid {
    tokens::kid(token.expose()).unwrap()
}

#[tokio::test]
async fn a_key_is_published_then_signs_then_verifies_and_is_gone() {
    let house = House::new().await;
    let auth = &house.auth;
    house.set_up().await;
    let first = signer(auth).await;
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let second = Duration::from_secs(1);

    house.clock.advance(hours(90 * 24 - 1) - second);
    auth.tend_signing_keys().await.unwrap();
    assert_eq!(published(auth).await, [first.to_string()]);
    house.clock.advance(second);
    auth.tend_signing_keys().await.unwrap();
    let both = rows(&house).await;
    let next = both[1].id;
    assert_eq!(both[0].retired_at, Some(both[0].signs_from + LASTS));
    assert_eq!(both[1].signs_from, both[0].signs_from + LASTS);
    assert_eq!(
        published(auth).await,
        [first.to_string(), next.to_string()],
        "before it signs"
    );
    assert_eq!(signer(auth).await, first);

    house.clock.advance(hours(1) - second);
    auth.tend_signing_keys().await.unwrap();
    let last = house.sign_in().await.access_token;
    assert_eq!(kid(&last), first);
    house.clock.advance(second);
    let newer = house.sign_in().await.access_token;
    assert_eq!(kid(&newer), next, "its time has come");
    assert!(is_good(auth, &last).await && is_good(auth, &newer).await);

    house.clock.advance(hours(1) - second);
    auth.tend_signing_keys().await.unwrap();
    assert!(is_good(auth, &last).await, "to its last second");
    assert_eq!(published(auth).await.len(), 2);
    let stolen = forged(&house, &both[0]).await;
    assert!(is_good(auth, &stolen).await, "as long as the key verifies");

    house.clock.advance(second + SLACK.to_std().unwrap());
    let stolen = forged(&house, &both[0]).await;
    assert_eq!(rows(&house).await.len(), 2, "nobody has looked yet");
    assert!(!is_good(auth, &stolen).await);
    assert!(!is_good(auth, &last).await);
    assert_eq!(published(auth).await, [next.to_string()]);
    auth.tend_signing_keys().await.unwrap();
    let left = rows(&house).await;
    assert_eq!((left.len(), left[0].id), (1, next));
    assert!(!is_good(&house.replica(), &stolen).await);
    assert!(is_good(auth, &house.sign_in().await.access_token).await);
}

async fn signs(replica: Authority) -> Uuid {
    signer(&replica).await
}

async fn tends(replica: Authority) {
    replica.tend_signing_keys().await.unwrap();
}

/// All of them at once, each in a task of its own.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    replicas: &[Authority],
    what: fn(Authority) -> F,
) -> Vec<T> {
    let tasks = Tasks::new();
    let spawned: Vec<_> = replicas
        .iter()
        .map(|replica| tasks.spawn("a replica", what(replica.clone())))
        .collect();
    let mut answers = Vec::new();
    for task in spawned {
        answers.push(task.await.unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_agree() {
    let house = House::new().await;
    let replicas: Vec<_> = (0..8).map(|_| house.replica()).collect();
    let first = at_once(&replicas, signs);
    let mut signer = first.await[0];
    assert_eq!(rows(&house).await.len(), 1);
    for round in 0..5 {
        house.clock.advance((LASTS - AHEAD).to_std().unwrap());
        at_once(&replicas, tends).await;
        let both = rows(&house).await;
        assert_eq!(both.len(), 2, "round {round}");
        let all = at_once(&replicas, signs);
        assert!(all.await.iter().all(|one| *one == signer));
        house.clock.advance(AHEAD.to_std().unwrap());
        let all = at_once(&replicas, signs);
        assert!(all.await.iter().all(|one| *one == both[1].id));
        signer = both[1].id;
        house.clock.advance(Duration::from_secs(2 * 3600));
        at_once(&replicas, tends).await;
        let left = rows(&house).await;
        assert_eq!((left.len(), left[0].id), (1, signer));
    }
}

#[tokio::test]
async fn a_process_that_has_not_read_the_next_key() {
    let house = House::new().await;
    house.set_up().await;
    let ahead = (LASTS - AHEAD).to_std().unwrap();
    house.clock.advance(ahead - Duration::from_secs(1));
    // what it knows from here on is of just before the next one was made; its own looks come once a minute of real time
    let late = house.replica();
    let first = signer(&late).await;
    house.clock.advance(Duration::from_secs(1));
    house.auth.tend_signing_keys().await.unwrap();
    assert_eq!(late.0.signing.known().keys.len(), 1);
    house.clock.advance(AHEAD.to_std().unwrap());
    let token = house.sign_in().await.access_token;
    assert_ne!(kid(&token), first);
    assert_eq!(late.0.signing.known().keys.len(), 1, "it has not read it");
    assert!(is_good(&late, &token).await, "it reads what a token names");

    // nor does one sign by what it read long ago
    let later = house.replica();
    signer(&later).await;
    house.clock.advance(ahead);
    house.auth.tend_signing_keys().await.unwrap();
    house.clock.advance(AHEAD.to_std().unwrap());
    assert_eq!(signer(&later).await, signer(&house.auth).await);
    assert_ne!(signer(&later).await, kid(&token));
}

#[tokio::test]
async fn a_clock_that_is_behind_signs_by_what_there_is() {
    let house = House::new().await;
    let first = signer(&house.auth).await;
    house.clock.set(house.clock.now() - TimeDelta::seconds(4));
    assert_eq!(signer(&house.replica()).await, first);
    assert_eq!(rows(&house).await.len(), 1);
}

#[tokio::test]
async fn the_private_half_is_sealed() {
    let house = House::new().await;
    signer(&house.auth).await;
    let row = rows(&house).await.remove(0);
    let private = house.keyring.open_system(&place(row.id), &row.sealed);
    let private = private.unwrap().to_vec();
    assert!(private.len() > 32);
    // the seed stands in it after 16 bytes of framing
    let seed = &private[16..48];
    assert!(!row.sealed.windows(seed.len()).any(|bytes| bytes == seed));
    let pair = Ed25519KeyPair::from_pkcs8(&private).unwrap();
    assert_eq!(pair.public_key().as_ref(), row.public);
    let other = Keyring::new([2; 32], None);
    assert!(other.open_system(&place(row.id), &row.sealed).is_err());
    let moved = place(Uuid::nil());
    assert!(house.keyring.open_system(&moved, &row.sealed).is_err());
}

#[tokio::test]
async fn an_operator_may_throw_them_away() {
    let house = House::new().await;
    house.set_up().await;
    let before = house.sign_in().await;
    assert!(is_good(&house.auth, &before.access_token).await);
    signing_key::Entity::delete_anywhere(SCOPE)
        .exec(house.db.owner(SCOPE))
        .await
        .unwrap();
    house.auth.tend_signing_keys().await.unwrap();
    // who asks is remembered for two seconds
    house.clock.advance(Duration::from_secs(3));
    assert!(!is_good(&house.auth, &before.access_token).await);
    let after = house.refresh(&before.refresh_token).await.unwrap();
    assert_ne!(kid(&after.access_token), kid(&before.access_token));
    assert!(is_good(&house.auth, &after.access_token).await);
}
