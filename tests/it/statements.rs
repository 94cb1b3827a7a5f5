//! How many statements a request takes: the same number for one row and for a hundred, alone and beside 63 others.
//!
//! Counted from the server's own log, where each statement stands with the request it belongs to.

#![expect(clippy::print_stdout, reason = "the figures are what one reads it for")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::{client::Client, server::Options};

use crate::scene::{PATIENCE, Scene};

const DOCUMENTS: &[(&str, &str)] = &[
    ("agents", "query ($n: Int!) { agents(first: $n) { nodes { id name model { id name } owner { name } version { number publishedBy { name } } lastRun { id status } } } }"),
    ("used-agents", "query ($n: Int!) { agents(first: $n, orderBy: MOST_USED) { totalCount nodes { id problems { kind message about { id } } usage { runs cost p95LatencyMs } hasUnpublishedChanges draft { model { name } } } } }"),
    ("models", "query ($n: Int!) { models(first: $n) { nodes { id name fallbacks { name } health { status errorRate } } } }"),
    (
        "conversations",
        "query ($n: Int!) { conversations(first: $n) { nodes { id agent { name } owner { name } lastMessage { text author { name } } activeRun { status } cursor } } }",
    ),
    (
        "messages",
        "query ($n: Int!, $conversation: ID!) { conversation(id: $conversation) { messages(first: $n) { nodes {
           text author { name } agent { name } model { name } run { status } siblings { id } parts { index ... on ToolCallPart { toolCall { name status } } } } } } }",
    ),
    (
        "runs",
        "query ($n: Int!) { runs(first: $n) { nodes { status queuePosition agent { name } model { name } conversation { title } input { text } output { text } steps { index toolCalls { name } model { name } } toolCalls { status } } } }",
    ),
    ("found-conversations", "query ($n: Int!) { conversations(first: $n, filter: { query: \"turn\" }) { totalCount nodes { id title usage { runs cost } leaf { text rating } agent { name } } } }"),
    ("sessions", "query ($n: Int!) { agents(first: $n) { totalCount } viewer { cursor rateLimit { available } sessions { id user { name } isCurrent } tenant { usage { runs cost } } } }"),
    ("groups", "query ($n: Int!) { tenant { groups(first: $n) { totalCount nodes { path children(first: 2) { totalCount nodes { name } } members(first: 2) { totalCount nodes { user { name } role inherited } } } } } }"),
    ("children", "query ($n: Int!) { group(path: \"A group\") { children(first: $n) { totalCount nodes { path parent { name } members(first: 2, query: \"a\") { totalCount nodes { user { name } inherited } } } } } }"),
    ("members", "query ($n: Int!) { tenant { members(first: $n) { totalCount nodes { role groups { path } tenant { name groups(first: 2) { nodes { name } } } user { name email isManaged } } } } }"),
    ("invitations", "query ($n: Int!) { tenant { invitations(first: $n) { totalCount nodes { role status groups { path } invitedBy { name } tenant { name } } } } }"),
    ("keys", "query ($n: Int!) { tenant { settings { maxConcurrentRuns defaultModel { name } oidcAutoJoinDomains } apiKeys(first: $n) { totalCount nodes { name owner { name } } } } }"),
    ("audit", "query ($n: Int!) { tenant { auditLog(first: $n, filter: { action: \"createInvitation\" }) { totalCount nodes { action actor { name } apiKey { name } onBehalfOf { name } target { __typename id } outcome } } } }"),
    ("shares", "query ($n: Int!) { agents(first: $n) { nodes { id group { path } shares { user { name } group { path } tenant { name } access } } } }"),
    ("viewer", "query ($n: Int!) { viewer { user { name email } tenant { name } role permissions memberships { role tenant { name } } apiKeys(first: $n) { nodes { name owner { name } } } } }"),
];

pub fn logged() -> Options {
    Options::default()
        .with(
            "WEFT_LOG__FILTER",
            "warn,sqlx::query=debug,weft=info,events=info,engine=info",
        )
        .with("WEFT_LOG__FORMAT", "json")
        .with("WEFT_LIMITS__COST_BUCKET", "100000000")
}

/// Asks with a request id of its own; answers it.
pub async fn ask(client: &Client, id: &str, document: &str, variables: &Value) -> Value {
    let answer = client
        .send(
            client
                .graphql(document, variables)
                .header("x-request-id", id),
        )
        .await
        .json();
    assert!(answer["errors"].is_null(), "{document}: {answer:#}");
    answer["data"].clone()
}

/// The statements of requests whose id begins with `prefix`, by id.
pub async fn counted(
    scene: &Scene,
    prefix: &str,
    expected: usize,
) -> BTreeMap<String, Vec<String>> {
    support::wait::until(PATIENCE, "the log holds the requests", async || {
        let mut counts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in scene
            .weft
            .output()
            .lines()
            .filter(|line| line.contains("sqlx::query"))
        {
            let Ok(entry) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let spans = entry["spans"].as_array().cloned().unwrap_or_default();
            let id = spans
                .iter()
                .find_map(|span| span["request"].as_str().map(str::to_owned))
                .filter(|id| id.starts_with(prefix));
            if let Some(id) = id {
                counts
                    .entry(id)
                    .or_default()
                    .push(entry["summary"].as_str().unwrap_or_default().to_owned());
            }
        }
        (counts.len() >= expected).then_some(counts)
    })
    .await
}

/// How many they are, less that which reads who asks (at most every two seconds, and remembered) and those that open a connection.
pub fn without(statements: &[String]) -> usize {
    statements
        .iter()
        .filter(|statement| !statement.contains("AS \"u_id\"") && !statement.starts_with("PRAGMA"))
        .count()
}

/// A group with a hundred within it, a hundred people, a hundred invitations, and an agent that is shared in every way. What is
/// the first of its list has all relations.
async fn people(scene: &Scene) {
    let client = &scene.client;
    let group = "mutation ($input: CreateGroupInput!) { createGroup(input: $input) { group { id } errors { message } } }";
    let outer = client
        .done(group, json!({ "input": { "name": "A group" } }))
        .await["group"]["id"]
        .clone();
    let own = client
        .ok(
            "{ viewer { user { id } tenant { id } } agents(first: 1) { nodes { id } } }",
            json!({}),
        )
        .await;
    let (user, tenant) = (&own["viewer"]["user"]["id"], &own["viewer"]["tenant"]["id"]);
    let member = "mutation ($input: SetGroupMemberInput!) { setGroupMember(input: $input) { errors { message } } }";
    let input = json!({ "groupId": outer, "userId": user, "role": "MEMBER" });
    client.done(member, json!({ "input": input })).await;
    for i in 0..100 {
        let input = json!({ "name": format!("Within {i}"), "parentId": outer });
        client.done(group, json!({ "input": input })).await;
        let person = "mutation ($input: CreateUserInput!) { createUser(input: $input) { errors { message } } }";
        let input = json!({ "name": format!("Zed {i}"), "email": format!("zed{i}@example.test") });
        client.done(person, json!({ "input": input })).await;
        let invitation = "mutation ($input: CreateInvitationInput!) { createInvitation(input: $input) { errors { message } } }";
        let input = json!({ "groupIds": [outer] });
        client.done(invitation, json!({ "input": input })).await;
    }
    let agent = &own["agents"]["nodes"][0]["id"];
    let lives = "mutation ($input: UpdateAgentInput!) { updateAgent(input: $input) { errors { message } } }";
    let input = json!({ "id": agent, "groupId": outer });
    client.done(lives, json!({ "input": input })).await;
    let share = "mutation ($input: ShareInput!) { share(input: $input) { errors { message } } }";
    let colleague = client
        .ok(
            "{ tenant { members(query: \"Zed 7\", first: 1) { nodes { user { id } } } } }",
            json!({}),
        )
        .await["tenant"]["members"]["nodes"][0]["user"]["id"]
        .clone();
    for with in [
        json!({ "userId": colleague }),
        json!({ "groupId": outer }),
        json!({ "tenantId": tenant }),
    ] {
        let input = json!({ "id": agent, "with": with, "access": "USE" });
        client.done(share, json!({ "input": input })).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_statements_does_not_depend_on_the_number_of_rows() {
    let scene = Scene::with(logged()).await;
    let agent = scene.agent("tokens-2-0").await;
    // a hundred of everything, with relations
    let model = |i: usize| json!({ "slug": format!("m{i}"), "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": "tokens-2-0", "baseUrl": scene.provider.base_url() });
    let mut models = Vec::new();
    for i in 0..100 {
        let mut input = model(i);
        if let Some(last) = models.last() {
            input["fallbackIds"] = json!([last]);
        }
        let create = "mutation ($input: CreateModelInput!) { createModel(input: $input) { model { id } errors { message } } }";
        models.push(
            scene.client.done(create, json!({ "input": input })).await["model"]["id"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
        let create = "mutation ($input: CreateAgentInput!) { createAgent(input: $input) { agent { id } errors { message } } }";
        scene.client.done(create, json!({ "input": { "name": format!("Agent {i}"), "instructions": "x", "modelId": models[i] } })).await;
    }
    for i in 0..100 {
        let create = "mutation ($input: CreateApiKeyInput!) { createApiKey(input: $input) { errors { message } } }";
        let input = json!({ "name": format!("key {i}"), "kind": "PERSONAL" });
        scene.client.done(create, json!({ "input": input })).await;
    }
    people(&scene).await;
    // the first by name has a fallback too
    let builtin = scene
        .client
        .ok(
            "{ models(filter: { provider: [BUILTIN] }) { nodes { id } } }",
            json!({}),
        )
        .await["models"]["nodes"][0]["id"]
        .clone();
    let update = "mutation ($input: UpdateModelInput!) { updateModel(input: $input) { errors { message } } }";
    scene.client.done(update, json!({ "input": { "id": builtin, "name": "A first one", "fallbackIds": [models[0]] } })).await;
    let mut long: Option<String> = None;
    for i in 0..100 {
        let sent = match (&long, i < 50) {
            (Some(conversation), true) => {
                scene
                    .client
                    .send_to_conversation(conversation, &format!("turn {i}"))
                    .await
            }
            _ => {
                scene
                    .client
                    .send_to_agent(&agent, &format!("turn {i}"))
                    .await
            }
        };
        scene.ended(&sent.run).await;
        long.get_or_insert(sent.conversation);
    }
    for i in 0..50 {
        scene
            .client
            .send_to_agent(&agent, &format!("more {i}"))
            .await;
    }
    for (name, document) in DOCUMENTS {
        // A single message is either a question or an answer, and has the relations of one of them: here one row is one of each.
        let sizes = if *name == "messages" {
            [2, 10, 100]
        } else {
            [1, 10, 100]
        };
        let variables = |n: usize| json!({ "n": n, "conversation": long });
        for n in sizes {
            ask(
                &scene.client,
                &format!("{name}-alone-{n}"),
                document,
                &variables(n),
            )
            .await;
        }
        let crowd: Vec<_> = (0..64).map(|i| format!("{name}-crowd-{i}")).collect();
        let asking = crowd.iter().enumerate().map(|(i, id)| {
            let variables = variables(sizes[i % 3]);
            let client = scene.client.clone();
            async move { ask(&client, id, document, &variables).await }
        });
        futures_util::future::join_all(asking).await;
        let counts = counted(&scene, &format!("{name}-"), 67).await;
        let alone = without(&counts[&format!("{name}-alone-{}", sizes[0])]);
        for (id, statements) in &counts {
            assert_eq!(
                without(statements),
                alone,
                "{id}: {statements:#?}\nalone: {:#?}",
                counts[&format!("{name}-alone-{}", sizes[0])]
            );
        }
        println!("{name}: {alone} statements");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_five_types_take_a_statement_for_each() {
    let scene = Scene::with(logged()).await;
    let agent = scene.agent("tokens-2-0").await;
    let mut ids = vec![agent.clone()];
    for i in 0..2 {
        let sent = scene
            .client
            .send_to_agent(&agent, &format!("turn {i}"))
            .await;
        scene.ended(&sent.run).await;
        ids.extend([sent.conversation, sent.message, sent.run]);
    }
    ids.push(
        scene
            .client
            .ok("{ viewer { user { id } } }", json!({}))
            .await["viewer"]["user"]["id"]
            .as_str()
            .unwrap()
            .to_owned(),
    );
    ids.extend(["agent_00000000000000000000000000".into(), "nonsense".into()]);
    let document = "query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }";
    let data = ask(&scene.client, "nodes-ten", document, &json!({ "ids": ids })).await;
    let kinds: Vec<_> = data["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["__typename"].as_str().unwrap_or("-"))
        .collect();
    assert_eq!(
        kinds,
        [
            "Agent",
            "Conversation",
            "Message",
            "Run",
            "Conversation",
            "Message",
            "Run",
            "User",
            "-",
            "-"
        ]
    );
    ask(
        &scene.client,
        "nodes-one",
        document,
        &json!({ "ids": [ids[0]] }),
    )
    .await;
    let counts = counted(&scene, "nodes-", 2).await;
    assert!(
        without(&counts["nodes-ten"]) <= without(&counts["nodes-one"]) + 4,
        "{counts:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statements_of_a_run_are_few() {
    let scene = Scene::with(logged()).await;
    let (short, long) = (
        scene.agent("tokens-20-1").await,
        scene.agent("tokens-200-1").await,
    );
    let document = "mutation ($input: SendMessageInput!) { sendMessage(input: $input) { run { id } errors { code } } }";
    let mut counts = Vec::new();
    for (id, agent) in [
        ("run-first", &short),
        // the first call of a model says how it does
        ("run-warm", &long),
        ("run-short", &short),
        ("run-long", &long),
    ] {
        let input = json!({ "input": { "agentId": agent, "text": "go" } });
        let data = ask(&scene.client, id, document, &input).await;
        let run = scene
            .ended(data["sendMessage"]["run"]["id"].as_str().unwrap())
            .await;
        assert_eq!(run["status"], "COMPLETED");
        let statements = counted(&scene, id, 1).await.remove(id).unwrap();
        // one transaction to start it, what the step reads, one to end it; the audit log, and who sees the conversation
        assert!(
            statements.len() <= 52,
            "{}: {statements:#?}",
            statements.len()
        );
        counts.push(without(&statements));
    }
    let last = counts[3];
    assert_eq!(counts[2], last, "none of it grows with the tokens");
    println!("a run of 200 tokens: {last} statements beside its batches of deltas");
}
