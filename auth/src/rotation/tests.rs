use std::collections::BTreeSet;

use adapters::clock::Clock;
use chrono::TimeDelta;
use entities::{CredentialKind, IdentityId, SessionId, TenantId, UserId, audit_entry};

use super::*;
use crate::{
    testing::{House, SCOPE},
    with_installation_key,
};

const NEW: [u8; 32] = [2; 32];

fn changing(house: &House) -> (SharedClock, Keyring) {
    (house.clock.clone(), Keyring::new(NEW, Some([1; 32])))
}

/// An installation in which there is something of each kind, and more tenants than are read at once.
async fn furnished() -> House {
    let house = House::new().await;
    house.set_up().await;
    let (clock, db) = (&house.clock, house.db.owner(SCOPE));
    let shared: SharedClock = clock.clone();
    with_installation_key(&house.db, &shared, &house.keyring)
        .await
        .unwrap();
    let now = clock.now();
    // The house's own process knows the first key alone: the installation's chain is there before it would make one.
    let tx = house
        .db
        .begin(entities::Within::Owner(SCOPE))
        .await
        .unwrap();
    let entry = events::audit::Entry {
        tenant: events::audit::INSTALLATION,
        actor: None,
        api_key: None,
        on_behalf_of: None,
        action: "something".into(),
        target: None,
        outcome: entities::AuditOutcome::Allowed,
        address: None,
        details: serde_json::json!({}),
    };
    events::audit::write(&tx, &shared, now, entry)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    house.auth.link().await.unwrap();
    let found = tenant::Entity::anywhere(SCOPE).one(db).await.unwrap();
    let found = found.unwrap();
    for number in 0..AT_ONCE + 1 {
        let id = clock.uuid();
        let row = tenant::Model {
            id: TenantId(id),
            slug: format!("t{number}"),
            data_key: house.keyring.new_data_key(id).1,
            ..found.clone()
        };
        tenant::Entity::add(db, row).await.unwrap();
    }
    let identity = IdentityId(clock.uuid());
    let token = |id| {
        house
            .keyring
            .seal_system(&oidc::token_place(id), b"its.token.of-identity")
    };
    let row = session::Entity::anywhere(SCOPE).one(db).await.unwrap();
    let one = session::Model {
        id: SessionId(clock.uuid()),
        credential: CredentialKind::OidcSession,
        identity_id: Some(identity),
        sealed_id_token: Some(token(identity)),
        ..row.unwrap()
    };
    session::Entity::add(db, one.clone()).await.unwrap();
    // sealed by nobody knows whom, and never to be opened
    let over = session::Model {
        id: SessionId(clock.uuid()),
        sealed_id_token: Some(vec![1; 60]),
        ended_at: Some(now),
        ..one
    };
    session::Entity::add(db, over).await.unwrap();
    let code = sign_in_code::Model {
        digest: vec![7; 32],
        code_challenge: String::new(),
        user_id: Some(UserId(clock.uuid())),
        tenant_id: Some(found.id),
        identity_id: Some(identity),
        is_link: false,
        provider: "corp".into(),
        issuer: "https://corp.example".into(),
        subject: "ada".into(),
        email: None,
        provider_sid: None,
        sealed_id_token: Some(token(identity)),
        expires_at: now + TimeDelta::minutes(1),
    };
    sign_in_code::Entity::add(db, code).await.unwrap();
    for (digest, expires_at, sealed) in [
        (vec![8; 32], now + TimeDelta::minutes(1), None),
        (vec![9; 32], now - TimeDelta::minutes(1), Some(vec![1; 60])),
    ] {
        let place = oidc::flow_place(&digest);
        let flow = oidc_flow::Model {
            sealed: sealed.unwrap_or_else(|| house.keyring.seal_system(&place, b"a verifier")),
            state_digest: digest,
            cookie_digest: vec![],
            provider: "corp".into(),
            return_to: String::new(),
            client_state: None,
            code_challenge: String::new(),
            invitation_digest: None,
            is_link: false,
            expires_at,
        };
        oidc_flow::Entity::add(db, flow).await.unwrap();
    }
    house
}

/// All that is sealed, by kind and row.
async fn sealed(house: &House) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let mut rows = kind.page(&house.db, None, house.clock.now()).await.unwrap();
        while let Some(last) = rows.last() {
            let next = kind.page(&house.db, Some(last), house.clock.now()).await;
            all.extend(rows.drain(..).map(|row| (kind.what(), row.id, row.sealed)));
            rows = next.unwrap();
        }
    }
    all
}

async fn notes(house: &House) -> usize {
    audit_entry::Entity::anywhere(SCOPE)
        .filter(audit_entry::Column::Action.eq("rotate-key"))
        .all(house.db.reader(SCOPE))
        .await
        .unwrap()
        .len()
}

#[tokio::test]
async fn everything_is_sealed_anew_once() {
    let house = furnished().await;
    let (clock, during) = changing(&house);
    let before = sealed(&house).await;
    let done = rotate(&house.db, &clock, &during).await.unwrap();
    let counted: Vec<_> = done.iter().map(|one| (one.anew, one.of)).collect();
    let tenants = AT_ONCE + 2;
    let expected = [tenants, 1, 2, 1, 1, 1, 1].map(|of| (of, of));
    assert_eq!(counted, expected, "{done:?}");
    assert_eq!(notes(&house).await, 1);

    let after = Keyring::new(NEW, None);
    opens_all(&house.db, &clock, &after).await.unwrap();
    let now = sealed(&house).await;
    assert_eq!(now.len(), before.len());
    for (old, new) in before.iter().zip(&now) {
        assert_eq!((old.0, &old.1), (new.0, &new.1));
        assert_ne!(old.2, new.2, "{}", old.0);
    }

    let again = rotate(&house.db, &clock, &during).await.unwrap();
    assert!(again.iter().all(|one| one.anew == 0), "{again:?}");
    assert_eq!((sealed(&house).await, notes(&house).await), (now, 1));
}

#[tokio::test]
async fn what_was_broken_off_is_gone_on_with() {
    for broken_off_after in 0..=Kind::ALL.len() {
        let house = furnished().await;
        let (clock, during) = changing(&house);
        for kind in &Kind::ALL[..broken_off_after] {
            seal(&house.db, &clock, &during, *kind).await.unwrap();
        }
        // A server that has both goes on meanwhile.
        opens_all(&house.db, &clock, &during).await.unwrap();
        let done = rotate(&house.db, &clock, &during).await.unwrap();
        for (at, one) in done.iter().enumerate() {
            let left = if at < broken_off_after { 0 } else { one.of };
            assert_eq!(one.anew, left, "{broken_off_after}: {one:?}");
        }
        assert_eq!(notes(&house).await, 1);
        let after = Keyring::new(NEW, None);
        opens_all(&house.db, &clock, &after).await.unwrap();
    }
}

#[tokio::test]
async fn where_neither_key_opens_nothing_is_changed() {
    let house = furnished().await;
    let (clock, during) = changing(&house);
    let before = sealed(&house).await;
    let wrong = Keyring::new(NEW, Some([3; 32]));
    let told = rotate(&house.db, &clock, &wrong).await.unwrap_err();
    let Some((_, first, _)) = before.first() else {
        panic!("there are tenants")
    };
    let (first, more) = (Uuid::from_slice(first).unwrap(), before.len() - 1);
    assert_eq!(
        told.to_string(),
        format!(
            "neither the secret key nor the one before it opens tenants row {first}, nor {more} more; nothing was changed"
        )
    );
    assert_eq!(sealed(&house).await, before);

    // one that was spoiled, at the end
    let changed = installation_key::Entity::change_anywhere(SCOPE)
        .col_expr(installation_key::Column::Sealed, Expr::value(vec![1u8; 61]))
        .exec(house.db.owner(SCOPE))
        .await;
    assert_eq!(changed.unwrap().rows_affected, 1);
    let before = sealed(&house).await;
    let told = rotate(&house.db, &clock, &during).await.unwrap_err();
    let told = told.to_string();
    assert!(told.contains("opens installation_keys row 1;"), "{told}");
    assert_eq!(sealed(&house).await, before);
    assert_eq!(notes(&house).await, 0);
}

#[tokio::test]
async fn what_changed_meanwhile_is_left_as_it_is() {
    let house = furnished().await;
    let (clock, during) = changing(&house);
    let rows = Kind::SigningKeys.page(&house.db, None, clock.now()).await;
    let rows = rows.unwrap();
    let old = &rows[0];
    rotate(&house.db, &clock, &during).await.unwrap();
    let now = sealed(&house).await;
    let tx = house
        .db
        .begin(entities::Within::Owner(SCOPE))
        .await
        .unwrap();
    let late = Kind::SigningKeys.replace(&tx, old, vec![1; 60]).await;
    assert!(!late.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(sealed(&house).await, now);
}

/// Every column that holds something sealed is known here, or is sealed by a tenant's data key.
#[test]
fn no_column_is_forgotten() {
    let steps = concat!(env!("CARGO_MANIFEST_DIR"), "/../migration/src");
    let mut found = BTreeSet::new();
    for step in std::fs::read_dir(steps).unwrap() {
        let step = step.unwrap().path();
        let Ok(files) = std::fs::read_dir(&step) else {
            continue;
        };
        for file in files {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let mut table = String::new();
            for line in text.lines() {
                let words: Vec<_> = line.split_whitespace().collect();
                let column = match words[..] {
                    ["create", "table", name, ..] => {
                        table = name.to_owned();
                        continue;
                    }
                    ["alter", "table", name, "add", "column", column, ..] => {
                        table = name.to_owned();
                        column
                    }
                    [column, ..] => column,
                    [] => continue,
                };
                let is_sealed = column.contains("sealed") || column.ends_with("_key");
                if is_sealed && line.contains("{bytes}") {
                    found.insert((table.clone(), column.to_owned()));
                }
            }
        }
    }
    let known = Kind::ALL.map(Kind::column);
    // by a tenant's data key; digests by the installation's key
    let others = [("secrets", "sealed"), ("known_addresses", "address_key")];
    let known: BTreeSet<_> = known
        .into_iter()
        .chain(others)
        .map(|(table, column)| (table.to_owned(), column.to_owned()))
        .collect();
    assert_eq!(found, known);
}
