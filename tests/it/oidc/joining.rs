//! Joining by way of a provider is joining: it is told, and brings back nobody whom the tenant has suspended.

use entities::{Role, SystemScope, invitation, query::*};
use serde_json::json;

use super::{FOR_ADA, FOR_ONE, Mill};
use crate::{neighbour::db, scene::PATIENCE};

const FOLLOW: &str = "subscription { changes(kinds: [MEMBERSHIP]) { action id ... on MembershipChange { membership { role user { email } } } } }";

/// How often the invitations may still be accepted, all together.
async fn uses_left(mill: &Mill) -> i32 {
    const SYSTEM: SystemScope = SystemScope::of("tests of joining");
    let db = db(&mill.scene).await;
    let rows = invitation::Entity::anywhere(SYSTEM)
        .filter(invitation::Column::RevokedAt.is_null())
        .all(db.reader(SYSTEM))
        .await
        .expect("the rows");
    db.close().await;
    rows.iter().map(|row| row.uses_left).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_is_told_and_who_is_suspended_does_not_come_back() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    let owner = &mill.scene.client;
    let no_account = Err("no_account".to_owned());
    assert_eq!(mill.comes("ada", &[]).await, no_account, "nobody yet");
    mill.scene.lets_join("example.test").await;
    let mut changes = owner.subscribe(FOLLOW, json!({})).await;
    mill.signs_in("ada", &[]).await;
    let told = changes.next(PATIENCE).await.expect("a change");
    let change = &told["changes"];
    assert_eq!(change["action"], "CREATED", "{change}");
    assert_eq!(change["membership"]["user"]["email"], "ada@example.test");
    assert_eq!(change["membership"]["role"], "MEMBER");
    let id = change["id"].clone();

    // suspended: by no way
    mill.scene.suspends("ada@example.test").await;
    mill.scene.invites(FOR_ONE, None, Role::Editor).await;
    mill.scene
        .invites(FOR_ADA, Some("ada@example.test"), Role::Member)
        .await;
    let invited = [("invitation", FOR_ONE.0)];
    for way in [&[][..], &invited, &[("invitation", FOR_ADA.0)]] {
        assert_eq!(mill.comes("ada", way).await, no_account, "{way:?}");
    }
    // nor once her membership has ended as well
    let remove =
        "mutation ($id: ID!) { removeMembership(input: { id: $id }) { errors { code message } } }";
    owner.done(remove, json!({ "id": id })).await;
    for way in [&[][..], &invited, &[("invitation", FOR_ADA.0)]] {
        assert_eq!(mill.comes("ada", way).await, no_account, "{way:?}");
    }
    assert_eq!(uses_left(&mill).await, 2, "nothing was used up");

    // whose membership has ended and was not suspended comes back, where he is invited
    mill.signs_in("grace", &[]).await;
    let grace = loop {
        let told = changes.next(PATIENCE).await.expect("a change");
        if told["changes"]["membership"]["user"]["email"] == "grace@example.test" {
            break told["changes"]["id"].clone();
        }
    };
    owner.done(remove, json!({ "id": grace })).await;
    assert_eq!(mill.comes("grace", &[]).await, no_account);
    let (_, viewer) = mill.signs_in("grace", &invited).await;
    assert_eq!(viewer["role"], "EDITOR");
    assert_eq!(uses_left(&mill).await, 1);
    loop {
        let told = changes.next(PATIENCE).await.expect("a change");
        let change = &told["changes"];
        if change["id"] == grace && change["membership"]["role"] == "EDITOR" {
            assert_eq!(change["action"], "CREATED", "{change}");
            break;
        }
    }
}
