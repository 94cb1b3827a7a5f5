//! Sessions from outside: refreshed, stolen, listed, ended, and with fewer rights than before.

use std::time::Duration;

use entities::{Permission, Permissions, Role};
use serde_json::{Value, json};
use support::{
    client::{Client, Closed, Frame, OWNER_EMAIL, OWNER_PASSWORD, Socket, Subscription},
    database::Chosen,
    server::Weft,
    wait::until,
};
use tokio::sync::Mutex;

use crate::scene::{PATIENCE, Scene};

/// Within this an end is known everywhere.
const SOON: Duration = Duration::from_secs(5);

const FOLLOW: &str =
    "subscription ($c: ID!) { conversationEvents(conversationId: $c) { __typename } }";

/// A session, as its client keeps it.
struct Pair {
    access: String,
    refresh: String,
}

impl Pair {
    fn of(payload: &Value) -> Self {
        let text = |name: &str| payload[name].as_str().expect("a token").to_owned();
        Self {
            access: text("accessToken"),
            refresh: text("refreshToken"),
        }
    }
}

async fn sign_in(client: &Client, email: &str, password: &str) -> Pair {
    let document = "mutation ($input: SignInInput!) { signIn(input: $input) { accessToken refreshToken errors { code } } }";
    let input = json!({ "input": { "email": email, "password": password } });
    Pair::of(&client.with_token(None).done(document, input).await)
}

/// Refreshes, without any credential; or says with which code it was refused.
async fn refresh(client: &Client, token: &str) -> Result<Pair, String> {
    let document = "mutation ($input: RefreshSessionInput!) { refreshSession(input: $input) {
        accessToken refreshToken expiresAt viewer { user { id } } errors { code } } }";
    let nobody = client.with_token(None);
    match nobody
        .query(document, json!({ "input": { "refreshToken": token } }))
        .await
    {
        Ok(data) => Ok(Pair::of(&data["refreshSession"])),
        Err(errors) => Err(errors.code().to_owned()),
    }
}

async fn is_good(client: &Client, access: &str) -> bool {
    let asked = client
        .with_token(Some(access))
        .query("{ viewer { credential } }", json!({}))
        .await;
    match asked {
        Ok(_) => true,
        Err(errors) => {
            assert_eq!(errors.code(), "UNAUTHENTICATED");
            false
        }
    }
}

/// A conversation of the client's.
async fn conversation(client: &Client) -> String {
    let document =
        "mutation { createConversation(input: {}) { conversation { id } errors { code } } }";
    let made = client.done(document, json!({})).await;
    made["conversation"]["id"]
        .as_str()
        .expect("an id")
        .to_owned()
}

/// Follows a conversation, and is sure that it does.
async fn follow(client: &Client, conversation: &str) -> Subscription {
    let mut subscription = client.subscribe(FOLLOW, json!({ "c": conversation })).await;
    let rename = "mutation ($c: ID!, $t: String) { updateConversation(input: { id: $c, title: $t }) { errors { code } } }";
    let mut n = 0;
    loop {
        n += 1;
        client
            .done(rename, json!({ "c": conversation, "t": format!("{n}") }))
            .await;
        let next = subscription.next_payload(Duration::from_secs(60));
        if tokio::time::timeout(Duration::from_millis(500), next)
            .await
            .is_ok()
        {
            return subscription;
        }
        assert!(n < 60, "the subscription begins");
    }
}

/// Waits for a subscription's end, whatever comes before it.
async fn end_of(subscription: &mut Subscription) -> Closed {
    while subscription.next_payload(SOON).await.is_some() {}
    subscription.ended().expect("it has ended").clone()
}

fn closed_by_the_server(closed: &Closed) -> bool {
    matches!(closed, Closed::Code(4403, reason) if !reason.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_refresh_at_once_and_stay_signed_in() {
    let scene = Scene::new().await;
    let first = sign_in(&scene.client, OWNER_EMAIL, OWNER_PASSWORD).await;
    let tab = || refresh(&scene.client, &first.refresh);
    let (one, two, three) = tokio::join!(tab(), tab(), tab());
    let (one, two, three) = (one.unwrap(), two.unwrap(), three.unwrap());
    assert!(one.refresh == two.refresh && two.refresh == three.refresh);
    assert_ne!(one.refresh, first.refresh);
    for pair in [&first, &one, &two, &three] {
        assert!(is_good(&scene.client, &pair.access).await);
    }
    // a little later, when the other has used the new pair
    assert_eq!(tab().await.unwrap().refresh, one.refresh);
    let next = refresh(&scene.client, &two.refresh).await.unwrap();
    assert!(is_good(&scene.client, &next.access).await);

    let document = "mutation ($t: String!) { a: refreshSession(input: { refreshToken: $t }) { errors { code } }
        b: refreshSession(input: { refreshToken: $t }) { errors { code } } }";
    let twice = scene
        .client
        .query(document, json!({ "t": next.refresh }))
        .await
        .expect_err("one of a request");
    assert_eq!(twice.errors[0]["path"][0], "b");
    assert_eq!(
        refresh(&scene.client, "weft_rt_nonsense").await.err(),
        Some("UNAUTHENTICATED".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_refresh_token_ends_the_session() {
    let scene = Scene::new().await;
    let stolen = sign_in(&scene.client, OWNER_EMAIL, OWNER_PASSWORD).await;
    let second = refresh(&scene.client, &stolen.refresh).await.unwrap();
    let third = refresh(&scene.client, &second.refresh).await.unwrap();
    let owner = scene.client.with_token(Some(&third.access));
    let conversation = conversation(&owner).await;
    let mut subscription = follow(&owner, &conversation).await;

    assert_eq!(
        refresh(&scene.client, &stolen.refresh).await.err(),
        Some("UNAUTHENTICATED".into())
    );
    let closed = end_of(&mut subscription).await;
    assert!(closed_by_the_server(&closed), "{closed:?}");
    assert!(!is_good(&scene.client, &third.access).await);
    assert_eq!(
        refresh(&scene.client, &third.refresh).await.err(),
        Some("UNAUTHENTICATED".into())
    );
    // other sessions of the same person go on
    assert!(
        scene
            .client
            .query("{ viewer { credential } }", json!({}))
            .await
            .is_ok()
    );
    let told = until(PATIENCE, "the log tells of it", async || {
        let output = scene.weft.output();
        let line = output
            .lines()
            .find(|line| line.contains("refresh token was presented"))?;
        Some(line.to_owned())
    })
    .await;
    assert!(
        told.contains("session_") && !told.contains("weft_rt_"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_is_closed_everywhere_within_five_seconds() {
    let scene = Scene::new().await;
    let other = match Chosen::from_environment() {
        Chosen::Postgres(_) => Some(Weft::replica_of(&scene.weft).await),
        Chosen::Sqlite => None,
    };
    let lost = sign_in(&scene.client, OWNER_EMAIL, OWNER_PASSWORD).await;
    let lost = scene.client.with_token(Some(&lost.access));
    let id = lost
        .ok("{ viewer { sessions { id isCurrent } } }", json!({}))
        .await["viewer"]["sessions"]
        .as_array()
        .and_then(|all| all.iter().find(|session| session["isCurrent"] == true))
        .map(|session| session["id"].clone())
        .expect("its own");
    let conversation = conversation(&lost).await;
    let mut open = vec![follow(&lost, &conversation).await];
    if let Some(other) = &other {
        open.push(follow(&lost.at(&other.url()), &conversation).await);
    }
    let revoke =
        "mutation ($id: ID!) { revokeSession(input: { id: $id }) { deletedIds errors { code } } }";
    scene.client.done(revoke, json!({ "id": id })).await;
    let begun = std::time::Instant::now();
    for subscription in &mut open {
        let closed = end_of(subscription).await;
        assert!(closed_by_the_server(&closed), "{closed:?}");
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let token = lost.token.as_deref().expect("a token");
    assert!(!is_good(&scene.client, token).await);
    if let Some(other) = &other {
        let there = scene.client.at(&other.url());
        until(SOON, "it is refused there", async || {
            (!is_good(&there, token).await).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_sessions_and_nobody_elses() {
    let scene = Scene::new().await;
    let colleague = scene.colleague(Role::Admin).await;
    let second = sign_in(&scene.client, OWNER_EMAIL, OWNER_PASSWORD).await;
    let second = scene.client.with_token(Some(&second.access));
    let document = "{ viewer { sessions { id __typename user { id } credential userAgent address createdAt lastSeenAt expiresAt isCurrent } user { id } } }";
    let viewer = scene.client.ok(document, json!({})).await["viewer"].clone();
    let sessions = viewer["sessions"].as_array().expect("a list").clone();
    assert_eq!(sessions.len(), 2, "{sessions:#?}");
    for session in &sessions {
        assert_eq!(session["user"]["id"], viewer["user"]["id"]);
        assert_eq!(session["credential"], "PASSWORD_SESSION");
        assert_eq!(session["address"], "127.0.0.1");
    }
    assert_eq!(sessions[0]["isCurrent"], false, "most recently seen first");
    assert_eq!(sessions[1]["isCurrent"], true);
    let (newer, own) = (sessions[0]["id"].clone(), sessions[1]["id"].clone());

    let node = "query ($id: ID!) { node(id: $id) { id __typename ... on Session { isCurrent } } }";
    let found = scene.client.ok(node, json!({ "id": own })).await;
    assert_eq!(
        found["node"],
        json!({ "id": own, "__typename": "Session", "isCurrent": true })
    );
    assert_eq!(
        colleague.ok(node, json!({ "id": own })).await["node"],
        Value::Null
    );
    let revoke =
        "mutation ($id: ID!) { revokeSession(input: { id: $id }) { deletedIds errors { code } } }";
    let refused = colleague.refused(revoke, json!({ "id": own })).await;
    assert_eq!(refused[0]["code"], "NOT_FOUND");

    let key = scene.client.done("mutation { createApiKey(input: { name: \"k\", kind: PERSONAL }) { secret errors { code } } }", json!({})).await;
    let by_key = scene.client.with_token(key["secret"].as_str());
    for document in [
        "mutation { signOut(input: {}) { ended errors { code } } }",
        "mutation { signOut(input: { everywhere: true }) { ended errors { code } } }",
        "mutation { changePassword(input: { currentPassword: \"x\", newPassword: \"weaving-by-daylight\" }) { errors { code } } }",
    ] {
        let refused = by_key.query(document, json!({})).await.expect_err(document);
        assert_eq!(refused.code(), "FORBIDDEN", "{document}");
    }
    let refused = by_key.query(revoke, json!({ "id": own })).await;
    assert_eq!(refused.expect_err("by a key").code(), "FORBIDDEN");

    let out = "mutation ($all: Boolean!) { signOut(input: { everywhere: $all }) { ended errors { code } } }";
    assert_eq!(second.done(out, json!({ "all": false })).await["ended"], 1);
    assert_eq!(
        scene.client.ok(node, json!({ "id": newer })).await["node"],
        Value::Null
    );
    let third = sign_in(&scene.client, OWNER_EMAIL, OWNER_PASSWORD).await;
    assert_eq!(
        scene.client.done(out, json!({ "all": true })).await["ended"],
        2
    );
    assert!(!is_good(&scene.client, &third.access).await);
    assert!(
        by_key
            .query("{ viewer { credential } }", json!({}))
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_password_ends_the_other_sessions() {
    let scene = Scene::new().await;
    let other = sign_in(&scene.client, OWNER_EMAIL, OWNER_PASSWORD).await;
    let follower = scene.client.with_token(Some(&other.access));
    let conversation = conversation(&follower).await;
    let mut subscription = follow(&follower, &conversation).await;

    let change = "mutation ($input: ChangePasswordInput!) { changePassword(input: $input) { user { id } errors { code path message } } }";
    let input = |current: &str, new: &str| json!({ "input": { "currentPassword": current, "newPassword": new, "idempotencyKey": "once" } });
    let refused = scene
        .client
        .refused(change, input("not this one", "weaving-by-daylight"))
        .await;
    assert_eq!(
        (&refused[0]["code"], &refused[0]["path"]),
        (
            &json!("INVALID_INPUT"),
            &json!(["input", "currentPassword"])
        )
    );
    let refused = scene
        .client
        .refused(change, input(OWNER_PASSWORD, "short"))
        .await;
    assert_eq!(refused[0]["path"], json!(["input", "newPassword"]));

    let changed = scene
        .client
        .done(change, input(OWNER_PASSWORD, "weaving-by-daylight"))
        .await;
    let closed = end_of(&mut subscription).await;
    assert!(closed_by_the_server(&closed), "{closed:?}");
    assert!(!is_good(&scene.client, &other.access).await);
    assert_eq!(
        refresh(&scene.client, &other.refresh).await.err(),
        Some("UNAUTHENTICATED".into())
    );
    let again = scene
        .client
        .done(change, input(OWNER_PASSWORD, "weaving-by-daylight"))
        .await;
    assert_eq!(again, changed, "an answer that was lost");
    let refused = scene
        .client
        .refused(change, input("weaving-by-daylight", "weaving-in-the-dark"))
        .await;
    assert_eq!(refused[0]["code"], "CONFLICT");
    sign_in(&scene.client, OWNER_EMAIL, "weaving-by-daylight").await;
}

/// Opens a socket with a token.
async fn socket(client: &Client, access: &str) -> Socket {
    let mut socket = Socket::open(client.base()).await.expect("a socket");
    let payload = json!({ "Authorization": format!("Bearer {access}") });
    socket.initialise(Some(payload)).await.expect("taken in");
    socket
}

/// The first of the frames that is wanted.
async fn frame(socket: &mut Socket, wanted: impl Fn(&Frame) -> bool) -> Frame {
    loop {
        let frame = socket.receive(PATIENCE).await;
        if wanted(&frame) {
            return frame;
        }
        assert!(!matches!(frame, Frame::Closed(_)), "{frame:?}");
    }
}

/// Asks over a socket; answers the payload of its `next`, or of its `error`.
async fn ask(socket: &mut Socket, id: &str, query: &str) -> Value {
    let payload = json!({ "query": query });
    let asked = json!({ "id": id, "type": "subscribe", "payload": payload });
    socket.send(&asked).await.expect("a socket");
    loop {
        match socket.receive(PATIENCE).await {
            Frame::Message(message) if message["id"] == id && message["type"] != "complete" => {
                return message["payload"].clone();
            }
            Frame::Message(_) | Frame::Ping | Frame::Pong => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_takes_the_refreshed_token_of_its_own_session() {
    let scene = Scene::new().await;
    let first = sign_in(&scene.client, OWNER_EMAIL, OWNER_PASSWORD).await;
    let second = refresh(&scene.client, &first.refresh).await.unwrap();
    let other = sign_in(&scene.client, OWNER_EMAIL, OWNER_PASSWORD).await;
    let mut socket = socket(&scene.client, &first.access).await;
    let ping = |token: &str| json!({ "type": "ping", "payload": { "Authorization": format!("Bearer {token}") } });
    socket.send(&ping(&second.access)).await.expect("a socket");
    let pong = frame(
        &mut socket,
        |frame| matches!(frame, Frame::Message(message) if message["type"] == "pong"),
    )
    .await;
    assert_eq!(pong, Frame::Message(json!({ "type": "pong" })));
    let answer = ask(&mut socket, "1", "{ viewer { credential } }").await;
    assert_eq!(answer["data"]["viewer"]["credential"], "PASSWORD_SESSION");
    socket.send(&ping(&other.access)).await.expect("a socket");
    let closed = frame(&mut socket, |frame| matches!(frame, Frame::Closed(_))).await;
    let Frame::Closed(closed) = closed else {
        panic!("{closed:?}")
    };
    assert!(closed_by_the_server(&closed), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_rights_are_noticed_while_a_socket_is_open() {
    let scene = Scene::new().await;
    let other = match Chosen::from_environment() {
        Chosen::Postgres(_) => Some(Weft::replica_of(&scene.weft).await),
        Chosen::Sqlite => None,
    };
    let colleague = scene.colleague(Role::Admin).await;
    let conversation = conversation(&colleague).await;
    let made = colleague.done("mutation { createApiKey(input: { name: \"k\", kind: PERSONAL }) { apiKey { id } secret errors { code } } }", json!({})).await;
    let by_key = colleague.with_token(made["secret"].as_str());
    let mut subscriptions = vec![follow(&by_key, &conversation).await];
    if let Some(other) = &other {
        subscriptions.push(follow(&by_key.at(&other.url()), &conversation).await);
    }
    let mut stays = follow(&colleague, &conversation).await;
    let mut socket = socket(&scene.client, colleague.token.as_deref().expect("a token")).await;
    let roles = "{ viewer { role permissions } }";
    let answer = ask(&mut socket, "1", roles).await;
    assert_eq!(answer["data"]["viewer"]["role"], "ADMIN");

    let without = Permissions::NONE.with(Permission::AgentsUse);
    scene
        .lower(
            made["apiKey"]["id"].as_str().expect("an id"),
            without,
            Role::Member,
        )
        .await;
    let begun = std::time::Instant::now();
    for subscription in &mut subscriptions {
        let ended = end_of(subscription).await;
        assert!(
            matches!(&ended, Closed::Refused(errors) if errors[0]["extensions"]["code"] == "FORBIDDEN"),
            "{ended:?}"
        );
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let socket = Mutex::new((socket, 1));
    until(SOON, "the socket asks with what is left", async || {
        let (socket, n) = &mut *socket.lock().await;
        *n += 1;
        let answer = ask(socket, &n.to_string(), roles).await;
        let viewer = &answer["data"]["viewer"];
        let permissions = viewer["permissions"].as_array().expect("a list");
        (viewer["role"] == "MEMBER" && !permissions.contains(&json!("MODELS_MANAGE"))).then_some(())
    })
    .await;
    // who needs no more than what is left goes on
    let rename = "mutation ($c: ID!) { updateConversation(input: { id: $c, title: \"still here\" }) { errors { code } } }";
    colleague.done(rename, json!({ "c": conversation })).await;
    assert!(stays.next(PATIENCE).await.is_some());
}
