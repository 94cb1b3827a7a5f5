//! What changes in a tenant is told to whom it concerns, and lists kept by it stay as they would be if they were read anew.

use std::{collections::BTreeSet, time::Duration};

use entities::{Permissions, Role};
use serde_json::{Value, json};
use support::client::{Client, Closed, Subscription};

use crate::scene::{PATIENCE, Scene};

const FOLLOW: &str = "subscription ($after: Cursor, $kinds: [ResourceKind!]) { changes(after: $after, kinds: $kinds) {
    __typename cursor at action kind id
    ... on AgentChange { agent { id name } }
    ... on ModelChange { model { id name } }
    ... on ConversationChange { conversation { id title isArchived lastActivityAt activeRun { id } lastMessage { text } } }
    ... on RunChange { run { id status } }
} }";

async fn cursor(client: &Client) -> String {
    let data = client.ok("{ viewer { cursor } }", json!({})).await;
    data["viewer"]["cursor"]
        .as_str()
        .expect("a cursor")
        .to_owned()
}

async fn follow(client: &Client, after: Option<&str>, kinds: &[&str]) -> Subscription {
    let kinds = (!kinds.is_empty()).then_some(kinds);
    client
        .subscribe(FOLLOW, json!({ "after": after, "kinds": kinds }))
        .await
}

/// What is told until that is told, as `ACTION Kind name`, with `-` for what is not there any more.
async fn told(subscription: &mut Subscription, last: &str) -> Vec<String> {
    let events = subscription.until(|event| words(event) == last).await;
    events.iter().map(words).collect()
}

fn words(event: &Value) -> String {
    let change = &event["changes"];
    let kind = change["__typename"].as_str().unwrap_or_default();
    let kind = kind.trim_end_matches("Change");
    let object = &change[kind.to_lowercase()];
    let name = object["name"].as_str().or(object["status"].as_str());
    let name = name.or(object["title"].as_str());
    let name = name.unwrap_or(if object.is_null() { "-" } else { "?" });
    format!(
        "{} {kind} {name}",
        change["action"].as_str().unwrap_or_default()
    )
}

async fn create_agent(client: &Client, name: &str, visibility: &str) -> String {
    let create = "mutation ($input: CreateAgentInput!) { createAgent(input: $input) { agent { id } errors { message } } }";
    let input = json!({ "name": name, "instructions": "x", "visibility": visibility });
    let made = client.done(create, json!({ "input": input })).await;
    made["agent"]["id"].as_str().expect("an id").to_owned()
}

async fn update_agent(client: &Client, id: &str, visibility: &str) {
    let update = "mutation ($input: UpdateAgentInput!) { updateAgent(input: $input) { errors { message } } }";
    let input = json!({ "id": id, "visibility": visibility });
    client.done(update, json!({ "input": input })).await;
}

async fn delete_agent(client: &Client, id: &str) {
    let delete = "mutation ($id: ID!) { deleteAgent(input: { id: $id }) { errors { message } } }";
    client.done(delete, json!({ "id": id })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_conversations_stays_live() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-20-5").await;
    let before = cursor(&scene.client).await;
    let sent = scene.client.send_to_agent(&agent, "hello").await;
    scene.ended(&sent.run).await;
    // Whatever came between the list and the subscription is told.
    let kinds = ["CONVERSATION", "RUN"];
    let mut changes = follow(&scene.client, Some(&before), &kinds).await;
    let done = |event: &Value| words(event).ends_with("Run COMPLETED");
    let events = changes.until(done).await;
    let runs: Vec<&Value> = events
        .iter()
        .map(|event| &event["changes"])
        .filter(|it| it["kind"] == "RUN")
        .collect();
    assert_eq!(runs[0]["action"], "CREATED");
    assert!(runs.iter().all(|it| it["id"] == sent.run), "{runs:#?}");
    let conversations: Vec<&Value> = events
        .iter()
        .map(|event| &event["changes"])
        .filter(|it| it["kind"] == "CONVERSATION")
        .collect();
    assert_eq!(conversations[0]["action"], "CREATED");
    assert!(conversations.iter().all(|it| it["id"] == sent.conversation));

    // And live: it becomes busy and free again, at each end of the list that is sorted by it.
    let update = "mutation ($input: UpdateConversationInput!) { updateConversation(input: $input) { errors { message } } }";
    let rename = json!({ "id": sent.conversation, "title": "Looms" });
    scene.client.done(update, json!({ "input": rename })).await;
    let renamed = changes
        .until(|event| event["changes"]["conversation"]["title"] == "Looms")
        .await;
    assert_eq!(renamed.last().expect("it")["changes"]["action"], "UPDATED");
    let again = scene
        .client
        .send_to_conversation(&sent.conversation, "and again")
        .await;
    let last = scene.ended(&again.run).await;
    let is_free = |event: &Value| {
        let conversation = &event["changes"]["conversation"];
        conversation["lastMessage"]["text"] == last["output"]["text"]
            && conversation["activeRun"].is_null()
    };
    let events = changes.until(is_free).await;
    let free = &events.last().expect("it")["changes"]["conversation"];
    let list = "{ conversations { nodes { id title isArchived lastActivityAt activeRun { id } lastMessage { text } } } }";
    let list = scene.client.ok(list, json!({})).await;
    assert_eq!(*free, list["conversations"]["nodes"][0]);
    let archive = json!({ "id": sent.conversation, "isArchived": true });
    scene.client.done(update, json!({ "input": archive })).await;
    changes
        .until(|event| event["changes"]["conversation"]["isArchived"] == true)
        .await;

    // Deleted while something runs in it.
    let slow = scene.agent("tokens-1000-50").await;
    let input = json!({ "agentId": slow, "conversationId": sent.conversation, "text": "slowly" });
    let running = scene.client.send_message(input).await;
    changes
        .until(|event| {
            event["changes"]["id"] == running.run && event["changes"]["run"]["status"] == "RUNNING"
        })
        .await;
    let delete =
        "mutation ($id: ID!) { deleteConversation(input: { id: $id }) { errors { message } } }";
    scene
        .client
        .done(delete, json!({ "id": sent.conversation }))
        .await;
    let is_deleted = |event: &Value| words(event) == "DELETED Conversation -";
    let events = changes.until(is_deleted).await;
    assert!(
        events
            .iter()
            .any(|event| words(event) == "DELETED Run -" && event["changes"]["id"] == running.run)
    );
    changes.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_told_what_he_may_see() {
    let scene = Scene::new().await;
    let (owner, member) = (&scene.client, scene.colleague(Role::Member).await);
    let (admin, stranger) = (scene.colleague(Role::Admin).await, scene.stranger().await);
    let kinds = ["AGENT", "CONVERSATION", "RUN"];
    let mut of_member = follow(&member, None, &kinds).await;
    let mut of_admin = follow(&admin, Some(&cursor(&admin).await), &kinds).await;
    let mut of_stranger = follow(&stranger, Some(&cursor(&stranger).await), &kinds).await;
    let start = cursor(owner).await;
    // From now means from when the subscription stands: something is told before anything counts.
    loop {
        let id = create_agent(owner, "Prelude", "TENANT").await;
        delete_agent(owner, &id).await;
        let told = tokio::time::timeout(Duration::from_millis(300), of_member.next(PATIENCE));
        if let Ok(told) = told.await {
            assert!(told.is_some(), "{:?}", of_member.ended());
            break;
        }
    }
    create_agent(owner, "Begin", "TENANT").await;
    told(&mut of_member, "CREATED Agent Begin").await;
    told(&mut of_admin, "CREATED Agent Begin").await;

    let shy = create_agent(owner, "Shy", "PRIVATE").await;
    let sent = owner.send_to_agent(&shy, "only mine").await;
    scene.ended(&sent.run).await;
    create_agent(owner, "One", "TENANT").await;
    assert_eq!(
        told(&mut of_member, "CREATED Agent One").await,
        ["CREATED Agent One"]
    );
    // An administrator manages agents, and sees nobody's conversations.
    assert_eq!(
        told(&mut of_admin, "CREATED Agent One").await,
        ["CREATED Agent Shy", "CREATED Agent One"]
    );
    update_agent(owner, &shy, "TENANT").await;
    told(&mut of_member, "CREATED Agent Shy").await;
    update_agent(owner, &shy, "PRIVATE").await;
    assert_eq!(
        told(&mut of_member, "DELETED Agent -").await,
        ["DELETED Agent -"]
    );
    delete_agent(owner, &shy).await;
    create_agent(owner, "Two", "TENANT").await;
    assert_eq!(
        told(&mut of_member, "CREATED Agent Two").await,
        ["CREATED Agent Two"]
    );
    let of_admin = told(&mut of_admin, "CREATED Agent Two").await;
    assert_eq!(
        of_admin.last().map(String::as_str),
        Some("CREATED Agent Two")
    );
    assert!(
        of_admin.contains(&"DELETED Agent -".to_owned()),
        "{of_admin:?}"
    );

    // Replayed to somebody with the same rights it is the same, whatever became of it.
    let mut later = follow(&member, Some(&start), &["AGENT"]).await;
    let replayed = told(&mut later, "CREATED Agent Two").await;
    assert!(
        replayed.iter().all(|it| !it.contains("Shy")),
        "{replayed:?}"
    );

    // Another tenant hears its own alone, and a cursor of ours is nothing there.
    create_agent(&stranger, "Theirs", "TENANT").await;
    let theirs = told(&mut of_stranger, "CREATED Agent Theirs").await;
    assert_eq!(theirs, ["CREATED Agent Theirs"]);
    let mut refused = follow(&stranger, Some(&start), &[]).await;
    assert_eq!(refused.next(PATIENCE).await, None);
    assert!(format!("{:?}", refused.ended()).contains("INVALID_INPUT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_are_told_apart_and_bad_cursors_refused() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-3-0").await;
    let start = cursor(&scene.client).await;
    let sent = scene.client.send_to_agent(&agent, "hello").await;
    scene.ended(&sent.run).await;
    create_agent(&scene.client, "Last", "TENANT").await;
    let mut agents = follow(&scene.client, Some(&start), &["AGENT", "MODEL", "FILE"]).await;
    let told = told(&mut agents, "CREATED Agent Last").await;
    assert!(
        told.iter()
            .all(|it| it.contains("Agent") || it.contains("Model")),
        "{told:?}"
    );
    for (after, code) in [
        ("nonsense", "INVALID_INPUT"),
        (sent.cursor.as_str(), "INVALID_INPUT"),
        ("", "INVALID_INPUT"),
    ] {
        let mut refused = follow(&scene.client, Some(after), &[]).await;
        assert_eq!(refused.next(PATIENCE).await, None, "{after}");
        let ended = format!("{:?}", refused.ended());
        assert!(ended.contains(code), "{after}: {ended}");
    }
}

/// Whoever may do less from now on is told so, and when he comes back he is told less.
#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_away_end_it() {
    let scene = Scene::new().await;
    let admin = scene.colleague(Role::Admin).await;
    let create = "mutation { createApiKey(input: { name: \"k\", kind: PERSONAL }) { apiKey { id } secret errors { message } } }";
    let made = admin.done(create, json!({})).await;
    let keyed = admin.with_token(made["secret"].as_str());
    let mut changes = follow(&keyed, Some(&cursor(&keyed).await), &["AGENT"]).await;
    create_agent(&scene.client, "Shy", "PRIVATE").await;
    told(&mut changes, "CREATED Agent Shy").await;
    let key = made["apiKey"]["id"].as_str().expect("an id");
    scene
        .lower(key, Permissions::of(Role::Member), Role::Member)
        .await;
    // What a credential may is known for two seconds.
    for round in 0.. {
        create_agent(&scene.client, &format!("Hidden {round}"), "PRIVATE").await;
        let next = tokio::time::timeout(Duration::from_millis(100), changes.next(PATIENCE));
        if next.await == Ok(None) {
            break;
        }
        assert!(round < 200, "it goes on");
    }
    let ended = format!("{:?}", changes.ended());
    assert!(ended.contains("FORBIDDEN"), "{ended}");
    let start = cursor(&keyed).await;
    let mut changes = follow(&keyed, Some(&start), &["AGENT"]).await;
    create_agent(&scene.client, "Hidden", "PRIVATE").await;
    create_agent(&scene.client, "Shown", "TENANT").await;
    let heard = told(&mut changes, "CREATED Agent Shown").await;
    assert_eq!(heard, ["CREATED Agent Shown"]);
    let revoke = "mutation ($id: ID!) { revokeApiKey(input: { id: $id }) { errors { message } } }";
    admin.done(revoke, json!({ "id": key })).await;
    while changes.next(PATIENCE).await.is_some() {}
    let ended = changes.ended();
    assert!(matches!(ended, Some(Closed::Code(4403, _))), "{ended:?}");
}

/// The server is killed while agents come and go. Who comes back with his last cursor ends with the list that there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_kept_through_kills_is_the_list() {
    let mut scene = Scene::new().await;
    let client = scene.client.clone();
    let start = cursor(&client).await;
    let making = tokio::spawn({
        let client = client.clone();
        async move {
            for i in 0..120 {
                let create = "mutation ($input: CreateAgentInput!) { createAgent(input: $input) { agent { id } errors { message } } }";
                let input = json!({ "name": format!("Agent {i}"), "instructions": "x", "idempotencyKey": format!("k{i}") });
                let made = patiently(&client, create, json!({ "input": input })).await;
                if i % 3 == 0 {
                    let id = &made["createAgent"]["agent"]["id"];
                    let delete = "mutation ($id: ID!, $key: String) { deleteAgent(input: { id: $id, idempotencyKey: $key }) { errors { message } } }";
                    patiently(&client, delete, json!({ "id": id, "key": format!("d{i}") })).await;
                }
            }
        }
    });
    let (mut list, mut after): (BTreeSet<String>, String) = (BTreeSet::new(), start);
    let mut follows: Option<Subscription> = None;
    let (mut kills, mut seen) = (0, 0);
    let last = loop {
        let subscription = match &mut follows {
            Some(subscription) => subscription,
            None => {
                let variables = json!({ "after": after, "kinds": ["AGENT"] });
                match client.try_subscribe(FOLLOW, variables).await {
                    Ok(subscription) => follows.insert(subscription),
                    Err(closed) => {
                        assert!(closed.is_a_break(), "{closed:?}");
                        continue;
                    }
                }
            }
        };
        let Some(event) = subscription.next(PATIENCE).await else {
            let ended = subscription.ended().cloned();
            assert!(ended.as_ref().is_some_and(Closed::is_a_break), "{ended:?}");
            follows = None;
            continue;
        };
        let change = &event["changes"];
        let id = change["id"].as_str().expect("an id").to_owned();
        if change["action"] == "DELETED" {
            list.remove(&id);
        } else {
            list.insert(id);
        }
        change["cursor"]
            .as_str()
            .expect("a cursor")
            .clone_into(&mut after);
        seen += 1;
        if seen % 30 == 0 && kills < 4 {
            scene.weft.kill9();
            scene.weft.restart().await;
            kills += 1;
        }
        if change["agent"]["name"] == "Agent 119" {
            break after;
        }
    };
    making.await.expect("all are made");
    assert!(kills >= 2, "{seen} changes were told, and {kills} kills");
    let agents = "{ agents(first: 100) { nodes { id } } viewer { cursor } }";
    let now = client.ok(agents, json!({})).await;
    let expected: BTreeSet<String> = now["agents"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| node["id"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(list, expected);
    // And that is all there is to tell.
    let mut rest = follow(&client, Some(&last), &["AGENT"]).await;
    let id = create_agent(&client, "The end", "TENANT").await;
    let events = rest.until(|event| event["changes"]["id"] == id).await;
    assert_eq!(events.len(), 1, "{events:#?}");
}

async fn patiently(client: &Client, document: &str, variables: Value) -> Value {
    support::wait::until(PATIENCE, "an answer", async || {
        client
            .try_query(document, variables.clone())
            .await
            .ok()?
            .ok()
    })
    .await
}
