//! Changes of groups and memberships are told to whom they concern.

use std::time::Duration;

use entities::Role;
use serde_json::{Value, json};
use support::client::{Client, Subscription};

use crate::{
    matrix::act,
    scene::{PATIENCE, Scene},
};

const FOLLOW: &str =
    "subscription ($after: Cursor) { changes(after: $after, kinds: [GROUP, MEMBERSHIP]) {
    __typename action kind id
    ... on GroupChange { group { id path } }
    ... on MembershipChange { membership { id role groups { path } user { id } } }
} }";

/// Follows from now on.
async fn follow(client: &Client) -> Subscription {
    let data = client.ok("{ viewer { cursor } }", json!({})).await;
    let after = json!({ "after": data["viewer"]["cursor"] });
    client.subscribe(FOLLOW, after).await
}

/// A change as `ACTION kind what`, with `-` for what is not there for whoever is told.
fn words(event: &Value) -> String {
    let change = &event["changes"];
    let what = change["group"]["path"].as_str();
    let what = what.or(change["membership"]["role"].as_str());
    let of = |name: &str| change[name].as_str().unwrap_or_default().to_owned();
    format!("{} {} {}", of("action"), of("kind"), what.unwrap_or("-"))
}

/// What is told up to that, each once: what happens at once is told as one.
async fn told(subscription: &mut Subscription, last: &str) -> Vec<String> {
    let events = subscription.until(|event| words(event) == last).await;
    events.iter().map(words).collect()
}

async fn own(client: &Client) -> (String, String) {
    let own = "{ viewer { user { id } memberships { id } } }";
    let own = client.ok(own, json!({})).await;
    let text = |value: &Value| value.as_str().expect("an id").to_owned();
    (
        text(&own["viewer"]["user"]["id"]),
        text(&own["viewer"]["memberships"][0]["id"]),
    )
}

async fn rename(owner: &Client, group: &Value, name: &str) {
    let input = json!({ "id": group, "name": name });
    act(owner, "updateGroup", input, "group { id }").await;
}

/// Somebody who was told that he is another than before sees what comes next as that, at once.
async fn notices(of: &mut Subscription, owner: &Client, group: &Value, expected: &str) {
    let input = json!({ "id": group, "description": "told" });
    act(owner, "updateGroup", input, "group { id }").await;
    assert_eq!(told(of, expected).await, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_see_them_is_told_and_nobody_else() {
    let scene = Scene::new().await;
    let owner = &scene.client;
    let member = scene.colleague(Role::Member).await;
    let other = scene.colleague(Role::Editor).await;
    let stranger = scene.stranger().await;
    let (user, membership) = own(&member).await;
    let mut of_owner = follow(owner).await;
    let mut of_member = follow(&member).await;
    let mut of_other = follow(&other).await;
    let mut of_stranger = follow(&stranger).await;

    // A group is told to whoever manages members, and to its members once they are.
    let made = act(
        owner,
        "createGroup",
        json!({ "name": "Weavers" }),
        "group { id }",
    )
    .await;
    let group = made["group"]["id"].clone();
    assert_eq!(
        told(&mut of_owner, "CREATED GROUP Weavers").await,
        ["CREATED GROUP Weavers"]
    );
    let input = json!({ "groupId": group, "userId": user, "role": "MEMBER" });
    act(owner, "setGroupMember", input, "group { id }").await;
    told(&mut of_owner, "UPDATED MEMBERSHIP MEMBER").await;
    let his = told(&mut of_member, "UPDATED MEMBERSHIP MEMBER").await;
    assert!(!his.iter().any(|it| it.contains("CREATED")), "{his:?}");
    notices(&mut of_member, owner, &group, "UPDATED GROUP Weavers").await;
    rename(owner, &group, "Spinners").await;
    told(&mut of_owner, "UPDATED GROUP Spinners").await;
    told(&mut of_member, "UPDATED GROUP Spinners").await;

    // A group that he is no member of is not told to him, and neither is what another is.
    let hidden = act(
        owner,
        "createGroup",
        json!({ "name": "Dyers" }),
        "group { id }",
    )
    .await;
    let hidden = hidden["group"]["id"].clone();
    told(&mut of_owner, "CREATED GROUP Dyers").await;
    let (_, of_others) = own(&other).await;
    let raise = json!({ "id": of_others, "role": "ADMIN" });
    act(owner, "updateMembership", raise, "membership { id }").await;
    told(&mut of_owner, "UPDATED MEMBERSHIP ADMIN").await;
    // He is told of his own role, and as an administrator of every group.
    assert_eq!(
        told(&mut of_other, "UPDATED MEMBERSHIP ADMIN").await,
        ["UPDATED MEMBERSHIP ADMIN"]
    );
    notices(&mut of_other, owner, &hidden, "UPDATED GROUP Dyers").await;
    rename(owner, &group, "Carders").await;
    told(&mut of_other, "UPDATED GROUP Carders").await;
    let until_then = told(&mut of_member, "UPDATED GROUP Carders").await;
    assert_eq!(until_then, ["UPDATED GROUP Carders"]);

    // Whoever is taken out is told that, and of the group no more.
    let out = json!({ "groupId": group, "userId": user });
    act(owner, "removeGroupMember", out, "group { id }").await;
    told(&mut of_member, "UPDATED MEMBERSHIP MEMBER").await;
    rename(owner, &group, "Fullers").await;
    told(&mut of_owner, "UPDATED GROUP Fullers").await;
    act(owner, "deleteGroup", json!({ "id": group }), "deletedIds").await;
    told(&mut of_owner, "DELETED GROUP -").await;
    of_member.quiet(Duration::from_millis(500)).await;

    // Whose membership ends is let in no longer; others are told.
    let input = json!({ "id": membership });
    act(owner, "removeMembership", input, "deletedIds").await;
    let is_gone = |event: &Value| {
        let change = &event["changes"];
        change["action"] == "DELETED" && change["id"] == membership.as_str()
    };
    of_owner.until(is_gone).await;
    while of_member.next(PATIENCE).await.is_some() {}
    let ended = format!("{:?}", of_member.ended());
    assert!(
        ended.contains("UNAUTHENTICATED") || ended.contains("4403"),
        "{ended}"
    );
    // Another tenant hears of its own alone.
    act(
        &stranger,
        "createGroup",
        json!({ "name": "Theirs" }),
        "group { id }",
    )
    .await;
    assert_eq!(
        told(&mut of_stranger, "CREATED GROUP Theirs").await,
        ["CREATED GROUP Theirs"]
    );
}
