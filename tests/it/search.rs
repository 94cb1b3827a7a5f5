//! Finding conversations by words, from outside.

use entities::Role;
use serde_json::{Value, json};
use support::{
    client::{Client, OWNER_EMAIL},
    provider::Script,
};

use crate::scene::{PATIENCE, Scene};

const LIST: &str = "query ($query: String!, $first: Int, $after: Cursor) {
    conversations(filter: { query: $query }, orderBy: NEWEST, first: $first, after: $after) {
        nodes { id title } totalCount pageInfo { hasNextPage endCursor }
    }
}";

async fn found(client: &Client, query: &str) -> Vec<String> {
    let list = client.ok(LIST, json!({ "query": query })).await;
    let nodes = list["conversations"]["nodes"].as_array().cloned();
    let nodes: Vec<_> = nodes.into_iter().flatten().collect();
    assert_eq!(list["conversations"]["totalCount"], nodes.len(), "{query}");
    let ids = nodes.iter().filter_map(|node| node["id"].as_str());
    ids.map(str::to_owned).collect()
}

/// Until just these are found: the index follows what is said.
async fn finds(client: &Client, query: &str, ids: &[&str]) {
    support::wait::until(PATIENCE, &format!("{query} finds {ids:?}"), async || {
        (found(client, query).await == ids).then_some(())
    })
    .await;
}

async fn update(client: &Client, id: &str, title: Value) {
    let document = "mutation ($input: UpdateConversationInput!) { updateConversation(input: $input) { errors { code message } } }";
    let input = json!({ "input": { "id": id, "title": title } });
    client.done(document, input).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_titles_and_messages_in_any_language() {
    let scene = Scene::new().await;
    let agent = scene.agent("m").await;
    scene.provider.script(
        "m",
        Script::text("Die Straße nach İstanbul 我在北京大学读书"),
    );
    let sent = scene
        .client
        .send_to_agent(&agent, "Where is the Weaver's café?")
        .await;
    scene.ended(&sent.run).await;
    let here = sent.conversation.as_str();
    update(&scene.client, here, json!("Über Reisen")).await;
    for query in [
        "weaver",
        "WEAV",
        "cafe weaver",
        "café",
        "strasse",
        "STRASSE nach",
        "istanbul",
        "北京",
        "京",
        "大学读书",
        "uber",
        "reis",
    ] {
        finds(&scene.client, query, &[here]).await;
    }
    // All words in one message, or all in the title.
    for query in [
        "weaver strasse",
        "weaver uber",
        "weavers ",
        "京北",
        "reisen2",
    ] {
        assert_eq!(found(&scene.client, query).await, [""; 0], "{query}");
    }
    update(&scene.client, here, json!("Looms")).await;
    finds(&scene.client, "looms", &[here]).await;
    finds(&scene.client, "reisen", &[]).await;

    // A page at a time, newest first.
    let mut all = Vec::new();
    for n in 0..5 {
        let sent = scene
            .client
            .send_to_agent(&agent, &format!("shuttle {n}"))
            .await;
        scene.ended(&sent.run).await;
        all.insert(0, sent.conversation);
    }
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    finds(&scene.client, "shuttle", &all).await;
    let mut after = Value::Null;
    let mut paged = Vec::new();
    loop {
        let page = scene
            .client
            .ok(
                LIST,
                json!({ "query": "shuttle", "first": 2, "after": after }),
            )
            .await;
        let page = &page["conversations"];
        let nodes = page["nodes"].as_array().cloned();
        paged.extend(nodes.into_iter().flatten().map(|node| node["id"].clone()));
        if page["pageInfo"]["hasNextPage"] != true {
            break;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
    assert_eq!(json!(paged), json!(all));

    let delete =
        "mutation ($id: ID!) { deleteConversation(input: { id: $id }) { errors { code } } }";
    scene.client.done(delete, json!({ "id": all[0] })).await;
    assert_eq!(found(&scene.client, "shuttle").await, all[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_finds_what_is_anothers_and_no_words_break_out() {
    let scene = Scene::new().await;
    let agent = scene.agent("m").await;
    scene.provider.script("m", Script::text("Indeed."));
    let sent = scene.client.send_to_agent(&agent, "secretword").await;
    scene.ended(&sent.run).await;
    finds(&scene.client, "secretword", &[&sent.conversation]).await;
    for other in [scene.stranger().await, scene.colleague(Role::Admin).await] {
        assert_eq!(found(&other, "secretword").await, [""; 0]);
        assert_eq!(found(&other, OWNER_EMAIL).await, [""; 0]);
    }
    for hostile in [
        "zzz' | 'secretword",
        "\" OR \"x",
        "zzz' || 'x",
        "NOT zzz",
        "zzz:*|secretword",
        "zzz NEAR(secretword)",
        "* OR secretword",
        "{terms}: zzz",
        "))((",
        "🧵",
        "!?",
    ] {
        assert_eq!(found(&scene.client, hostile).await, [""; 0], "{hostile}");
    }
    // a box that was emptied asks for all
    for nothing in ["", "  "] {
        assert_eq!(found(&scene.client, nothing).await.len(), 1);
    }
    let long = json!({ "query": "x".repeat(201) });
    let errors = scene.client.query(LIST, long).await.expect_err("too long");
    assert_eq!(errors.code(), "INVALID_INPUT");
    assert!(
        errors.errors[0]["message"].to_string().contains("201"),
        "{errors:?}"
    );
}
