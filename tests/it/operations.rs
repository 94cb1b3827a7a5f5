//! The operations of a front end, as documents: each is asked at least once, and none takes more statements for more rows.

#![expect(clippy::print_stdout, reason = "the figures are what one reads it for")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{LazyLock, Mutex, PoisonError},
};

use serde_json::{Value, json};
use support::client::{OWNER_EMAIL, OWNER_PASSWORD};

use crate::{
    scene::{PATIENCE, Scene},
    statements::{ask, counted, logged, without},
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("operations")
}

/// The documents of a folder, by name.
fn read(folder: PathBuf) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder).expect("a folder of documents");
    entries
        .filter_map(|entry| {
            let path = entry.expect("an entry of it").path();
            let name = path.file_stem()?.to_str()?.to_owned();
            let is_document = path.extension().is_some_and(|ending| ending == "graphql");
            is_document.then(|| (name, std::fs::read_to_string(&path).expect("a document")))
        })
        .collect()
}

static FRAGMENTS: LazyLock<BTreeMap<String, String>> =
    LazyLock::new(|| read(folder().join("fragments")));
static OPERATIONS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    read(folder())
        .into_iter()
        .map(|(name, text)| (name, with_fragments(text)))
        .collect()
});

/// Puts the fragments behind a document that it spreads, and those that they spread.
fn with_fragments(mut text: String) -> String {
    let mut there = BTreeSet::new();
    while let Some((name, fragment)) = FRAGMENTS
        .iter()
        .find(|(name, _)| !there.contains(*name) && spreads(&text, name))
    {
        text.push_str(fragment);
        there.insert(name);
    }
    text
}

fn spreads(text: &str, name: &str) -> bool {
    let spread = format!("...{name}");
    text.match_indices(&spread).any(|(at, _)| {
        let after = text[at + spread.len()..].chars().next();
        !after.is_some_and(|letter| letter.is_ascii_alphanumeric())
    })
}

/// An operation with its fragments.
pub fn document(name: &str) -> String {
    let found = OPERATIONS.get(name);
    found
        .unwrap_or_else(|| panic!("there is no operation {name}"))
        .clone()
}

/// Asks for operations, and keeps their names.
struct Asker<'a> {
    scene: &'a Scene,
    asked: Mutex<BTreeSet<String>>,
}

impl Asker<'_> {
    fn note(&self, name: &str) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert(name.to_owned());
    }

    async fn query(&self, name: &str, variables: Value) -> Value {
        self.note(name);
        self.scene.client.ok(&document(name), variables).await
    }

    /// A mutation, which is done.
    async fn done(&self, name: &str, input: Value) -> Value {
        let answer = self.query(name, json!({ "input": input })).await;
        let fields = answer.as_object().and_then(|fields| fields.values().next());
        let payload = fields.cloned().unwrap_or_default();
        assert_eq!(payload["errors"], json!([]), "{name} with {input}");
        payload
    }

    async fn ended(&self, payload: &Value) -> Value {
        let run = payload["run"]["id"].as_str().expect("a run");
        self.scene.ended(run).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_end_can_ask_for_all_of_its_operations() {
    let mut scene = Scene::new().await;
    let agent = scene.agent("tokens-5-2").await;
    scene.provider.script(
        "stuck",
        support::provider::Turn::of([
            support::provider::Step::Text("half ".into()),
            support::provider::Step::Stall,
        ]),
    );
    let stuck = scene
        .client
        .create_model("OPENAI_COMPATIBLE", &scene.provider.base_url(), "stuck")
        .await;
    let signed_out = scene.client.with_token(None);
    let signed_in = signed_out
        .ok(
            &document("SignIn"),
            json!({ "input": { "email": OWNER_EMAIL, "password": OWNER_PASSWORD } }),
        )
        .await["signIn"]
        .clone();
    let token = signed_in["refreshToken"].as_str().expect("a refresh token");
    let refreshed = signed_out
        .ok(
            &document("RefreshSession"),
            json!({ "input": { "refreshToken": token } }),
        )
        .await["refreshSession"]
        .clone();
    assert_eq!(refreshed["errors"], json!([]));
    let other = signed_out.with_token(refreshed["accessToken"].as_str());
    scene.client.token = refreshed["accessToken"].as_str().map(str::to_owned);

    let front = Asker {
        scene: &scene,
        asked: Mutex::new(["SignIn", "RefreshSession"].map(str::to_owned).into()),
    };
    let viewer = front.query("Viewer", json!({})).await;
    assert_eq!(viewer["viewer"]["user"]["email"], OWNER_EMAIL);
    let sidebar = front.query("Sidebar", json!({})).await;
    let mut changes = scene
        .client
        .subscribe(
            &document("SidebarLive"),
            json!({ "after": sidebar["viewer"]["cursor"] }),
        )
        .await;
    front.note("SidebarLive");
    let pickers = front.query("Pickers", json!({})).await;
    assert_eq!(pickers["agents"]["nodes"][0]["id"], json!(agent));

    let sent = front
        .done(
            "SendMessage",
            json!({ "agentId": agent, "text": "a warp thread", "clientId": "mine" }),
        )
        .await;
    assert_eq!(sent["message"]["clientId"], "mine");
    let id = sent["conversation"]["id"].clone();
    front.ended(&sent).await;
    let told = changes
        .until(|event| {
            event["changes"]["conversation"]["lastMessage"]["role"] == "ASSISTANT"
                && event["changes"]["conversation"]["activeRun"].is_null()
        })
        .await;
    assert_eq!(told.last().expect("it")["changes"]["id"], id);
    changes.close().await;
    let mut events = scene
        .client
        .subscribe(
            &document("ConversationLive"),
            json!({ "id": id, "after": sent["cursor"] }),
        )
        .await;
    front.note("ConversationLive");
    let told = events
        .until(|event| event["conversationEvents"]["__typename"] == "RunCompleted")
        .await;
    assert_eq!(told[0]["conversationEvents"]["message"]["clientId"], "mine");
    events.close().await;

    let open = front.query("OpenConversation", json!({ "id": id })).await;
    let messages = open["conversation"]["messages"]["nodes"].clone();
    assert_eq!(messages[1]["run"]["status"], "COMPLETED");
    let again = front
        .done("RegenerateMessage", json!({ "id": messages[1]["id"] }))
        .await;
    front.ended(&again).await;
    let edited = front
        .done(
            "EditMessage",
            json!({ "id": messages[0]["id"], "text": "a weft thread" }),
        )
        .await;
    front.ended(&edited).await;
    let branch = front
        .query("Branch", json!({ "id": id, "through": messages[0]["id"] }))
        .await;
    let nodes = &branch["conversation"]["messages"]["nodes"];
    assert_eq!(nodes[0]["id"], messages[0]["id"]);
    assert_eq!(nodes[0]["siblings"].as_array().map(Vec::len), Some(2));
    assert_eq!(nodes[1]["siblings"].as_array().map(Vec::len), Some(2));
    front
        .done(
            "UpdateConversation",
            json!({ "id": id, "leafId": messages[1]["id"] }),
        )
        .await;
    front
        .done(
            "RateMessage",
            json!({ "id": messages[1]["id"], "rating": "UP" }),
        )
        .await;
    let stopped = front
        .done(
            "SendMessage",
            json!({ "conversationId": id, "text": "go", "modelId": stuck }),
        )
        .await;
    let cancelled = front
        .done("CancelRun", json!({ "id": stopped["run"]["id"] }))
        .await;
    assert_eq!(cancelled["run"]["status"], "CANCELLED");
    scene
        .provider
        .script("stuck", support::provider::Turn::text("at last"));
    let retried = front
        .done("RetryRun", json!({ "id": stopped["run"]["id"] }))
        .await;
    assert_eq!(front.ended(&retried).await["status"], "COMPLETED");
    front
        .done(
            "UpdateConversation",
            json!({ "id": id, "title": "Looms", "isArchived": true }),
        )
        .await;
    support::wait::until(PATIENCE, "what was said is found", async || {
        let found = front.query("Search", json!({ "query": "warp" })).await;
        (found["conversations"]["nodes"][0]["id"] == id).then_some(())
    })
    .await;

    let made = front
        .done(
            "CreateAgent",
            json!({ "name": "Spinner", "instructions": "Spin.", "modelId": stuck }),
        )
        .await;
    let spinner = made["agent"]["id"].clone();
    front
        .done(
            "UpdateAgent",
            json!({ "id": spinner, "instructions": "Spin well." }),
        )
        .await;
    front.done("PublishAgent", json!({ "id": spinner })).await;
    front
        .done("RestoreAgentVersion", json!({ "id": spinner, "number": 1 }))
        .await;
    let page = front.query("AgentPage", json!({ "id": spinner })).await;
    assert_eq!(page["agent"]["draft"]["instructions"], "Spin.");
    assert_eq!(page["agent"]["version"]["number"], 2);
    front
        .done("DeleteAgent", json!({ "id": spinner, "force": true }))
        .await;
    let model = json!({
        "slug": "dye", "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": "tokens-2-0",
        "baseUrl": scene.provider.base_url(), "fallbackIds": [stuck],
    });
    let made = front.done("CreateModel", model).await;
    let dye = made["model"]["id"].clone();
    front
        .done("UpdateModel", json!({ "id": dye, "name": "Dye" }))
        .await;
    front.done("CheckModel", json!({ "id": dye })).await;
    let page = front.query("ModelPage", json!({ "id": dye })).await;
    assert_eq!(page["model"]["fallbacks"][0]["id"], json!(stuck));
    front.query("UsagePage", json!({})).await;
    let made = front
        .done(
            "CreateConversation",
            json!({ "agentId": agent, "title": "Empty" }),
        )
        .await;
    let gone = made["conversation"]["id"].clone();
    front
        .done("DeleteConversation", json!({ "id": gone }))
        .await;
    let open = front.query("OpenConversation", json!({ "id": gone })).await;
    assert_eq!(open["conversation"], Value::Null);
    let sessions = front.query("Sessions", json!({})).await;
    let sessions = sessions["viewer"]["sessions"]
        .as_array()
        .cloned()
        .expect("a list");
    let first = sessions
        .iter()
        .find(|session| session["isCurrent"] == false);
    front
        .done(
            "RevokeSession",
            json!({ "id": first.expect("the session of before")["id"] }),
        )
        .await;
    let ended = other
        .done(&document("SignOut"), json!({ "input": {} }))
        .await;
    assert_eq!(ended["ended"], 1);
    front.note("SignOut");
    let asked = front
        .asked
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    assert_eq!(asked, OPERATIONS.keys().cloned().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operation_takes_more_statements_for_more_rows() {
    let scene = Scene::with(logged()).await;
    let agent = scene.agent("tokens-2-0").await;
    let url = scene.provider.base_url();
    let mut models = Vec::new();
    for i in 0..100 {
        let input = json!({
            "slug": format!("m{i}"), "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": "tokens-2-0", "baseUrl": url,
        });
        let made = scene
            .client
            .done(&document("CreateModel"), json!({ "input": input }))
            .await;
        models.push(made["model"]["id"].as_str().expect("an id").to_owned());
        let input =
            json!({ "name": format!("Agent {i}"), "instructions": "x", "modelId": models[i] });
        scene
            .client
            .done(&document("CreateAgent"), json!({ "input": input }))
            .await;
        let input = json!({ "id": agent, "instructions": format!("Answer {i}.") });
        scene
            .client
            .done(&document("UpdateAgent"), json!({ "input": input }))
            .await;
        let input = json!({ "id": agent });
        scene
            .client
            .done(&document("PublishAgent"), json!({ "input": input }))
            .await;
        let create = "mutation ($input: CreateApiKeyInput!) { createApiKey(input: $input) { errors { message } } }";
        let input = json!({ "name": format!("key {i}"), "kind": "PERSONAL" });
        scene.client.done(create, json!({ "input": input })).await;
    }
    // three with one, five and ten that stand behind it, which is the most
    for (model, fallbacks) in [(0, 1), (1, 5), (2, 10)] {
        let input = json!({ "id": models[model], "fallbackIds": models[10..10 + fallbacks] });
        scene
            .client
            .done(&document("UpdateModel"), json!({ "input": input }))
            .await;
    }
    let mut long: Option<String> = None;
    for i in 0..50 {
        let sent = match &long {
            Some(id) => {
                scene
                    .client
                    .send_to_conversation(id, &format!("turn {i}"))
                    .await
            }
            None => scene.client.send_to_agent(&agent, "turn").await,
        };
        scene.ended(&sent.run).await;
        long.get_or_insert(sent.conversation);
    }
    let mut last = None;
    for i in 0..100 {
        last = Some(
            scene
                .client
                .send_to_agent(&agent, &format!("more {i}"))
                .await,
        );
    }
    scene.ended(&last.expect("one").run).await;
    let nothing_runs = "{ runs(first: 1, filter: { status: [QUEUED, RUNNING] }) { nodes { id } } }";
    support::wait::until(PATIENCE, "all runs end", async || {
        let data = scene.client.ok(nothing_runs, json!({})).await;
        (data["runs"]["nodes"] == json!([])).then_some(())
    })
    .await;
    let open = scene
        .client
        .ok(
            &document("OpenConversation"),
            json!({ "id": long, "last": 1 }),
        )
        .await;
    let leaf = open["conversation"]["leaf"]["id"].clone();
    let rows = [1, 10, 100];
    // A single message is a question or an answer and has the relations of one of them: two are one of each.
    let messages = [2, 10, 100];
    let with = |name: &str, n: i32| json!({ name: n });
    let of = |id: &Value, name: &str, n: i32| json!({ "id": id, name: n, "through": leaf });
    let long = json!(long);
    let agent = json!(agent);
    let mut asked: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    asked.insert("Viewer", vec![json!({})]);
    for name in ["Sessions", "Sidebar", "Pickers", "UsagePage"] {
        asked.insert(name, rows.map(|n| with("first", n)).into());
    }
    asked.insert(
        "Search",
        rows.map(|n| json!({ "first": n, "query": "more" })).into(),
    );
    asked.insert(
        "OpenConversation",
        messages.map(|n| of(&long, "last", n)).into(),
    );
    asked.insert("Branch", messages.map(|n| of(&long, "last", n)).into());
    asked.insert("AgentPage", rows.map(|n| of(&agent, "first", n)).into());
    asked.insert(
        "ModelPage",
        [0, 1, 2].map(|at| json!({ "id": models[at] })).into(),
    );
    support::wait::until(PATIENCE, "what was said is found", async || {
        let found = scene
            .client
            .ok(
                &document("Search"),
                json!({ "query": "more", "first": 100 }),
            )
            .await;
        (found["conversations"]["nodes"].as_array().map(Vec::len) == Some(100)).then_some(())
    })
    .await;
    let queries = OPERATIONS
        .iter()
        .filter(|(_, text)| text.contains("\nquery ") || text.starts_with("query "));
    assert_eq!(
        asked.keys().copied().collect::<Vec<_>>(),
        queries.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
    );
    for (name, variables) in asked {
        for (at, variables) in variables.iter().enumerate() {
            ask(
                &scene.client,
                &format!("{name}-{at}"),
                &document(name),
                variables,
            )
            .await;
        }
        let counts = counted(&scene, &format!("{name}-"), variables.len()).await;
        let first = &counts[&format!("{name}-0")];
        for (id, statements) in &counts {
            assert_eq!(
                without(statements),
                without(first),
                "{id}: {statements:#?}\nthe first: {first:#?}"
            );
        }
        println!("{name}: {} statements", without(first));
    }
}
