//! Somebody at two devices does at random whatever a front end lets him do. Whenever all is quiet, what both have kept is what the
//! queries say.
//!
//! `WEFT_TEST_STEPS` is how many things are done, `WEFT_TEST_SEED` which ones.

#![expect(
    clippy::print_stdout,
    reason = "the seed is what one needs to see it again"
)]

mod device;

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use support::{
    provider::{Step, Turn},
    server::Options,
};

use self::device::Device;
use crate::scene::{PATIENCE, Scene};

/// Chance, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let n = u64::try_from(n.max(1)).unwrap_or(1);
        usize::try_from((self.0 >> 11) % n).unwrap_or(0)
    }

    fn of<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        among.get(self.below(among.len()))
    }

    fn is(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Something that is done at a device.
#[derive(Debug)]
enum Act {
    Send(Value),
    Do(&'static str, Value),
    Open(String),
    /// Looks at another branch, and goes on from there.
    Switch {
        conversation: String,
        to: String,
    },
    Watch,
    Glance,
    Close,
    DropTalk,
    DropLists,
    Reload,
}

/// What the models are, by what they do.
struct Models {
    ids: Vec<String>,
}

async fn models(scene: &Scene) -> Models {
    scene.provider.script("failing", Turn::refuse(401, &[]));
    let broken = |words: &str| {
        Turn::of([
            Step::Text(words.into()),
            Step::Delay(5),
            Step::Text("half 🧵".into()),
            Step::Drop,
        ])
    };
    scene.provider.script("breaking", broken("said and "));
    scene.provider.script("falling", broken("said "));
    scene.provider.script(
        "thinking",
        Turn::of([
            Step::Reasoning("🧵 hm, ".into()),
            Step::Delay(10),
            Step::Reasoning("so".into()),
            Step::Text("Über ".into()),
            Step::Delay(10),
            Step::Text("die Kette".into()),
        ]),
    );
    let url = scene.provider.base_url();
    let mut ids = Vec::new();
    for name in [
        "tokens-4-0",
        "tokens-15-12",
        "failing",
        "breaking",
        "thinking",
    ] {
        ids.push(
            scene
                .client
                .create_model("OPENAI_COMPATIBLE", &url, name)
                .await,
        );
    }
    let create = "mutation ($input: CreateModelInput!) { createModel(input: $input) { model { id } errors { message } } }";
    let input = json!({
        "slug": "falling", "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": "falling", "baseUrl": url, "fallbackIds": [ids[1]],
    });
    let falling = scene.client.done(create, json!({ "input": input })).await;
    ids.push(
        falling["model"]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    );
    Models { ids }
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap_or_default().to_owned()
}

/// Chooses something that can be done by what the device shows.
fn choose(chance: &mut Chance, step: usize, device: &Device, models: &Models) -> Act {
    const POLICIES: [&str; 4] = ["REJECT", "ENQUEUE", "INTERRUPT", "ROLLBACK"];
    let lists = device.lists();
    let agents = lists.agents();
    let sidebar = lists.sidebar();
    let agent = chance.of(&agents).map(id).unwrap_or_default();
    let model = chance.of(&models.ids).cloned().unwrap_or_default();
    let policy = POLICIES[chance.below(POLICIES.len())];
    let words = format!("step {step} 🧵");
    let Some(talk) = device.talk() else {
        return match chance.of(&sidebar) {
            Some(row) if chance.is(80) => Act::Open(id(row)),
            _ => Act::Send(json!({ "agentId": agent, "text": words })),
        };
    };
    let conversation = talk.id();
    let messages = talk.messages();
    let message = chance.of(&messages).cloned().unwrap_or_default();
    let named = chance.is(60);
    let with_model = |mut input: Value| {
        if named {
            input["modelId"] = model.clone().into();
        }
        input
    };
    let update = |mut input: Value| {
        input["id"] = conversation.clone().into();
        Act::Do("UpdateConversation", input)
    };
    match chance.below(100) {
        // A long branch takes another page.
        0..26 if messages.len() < 44 => {
            let mut input =
                json!({ "conversationId": conversation, "text": words, "whenBusy": policy });
            if chance.is(15) {
                input["parentId"] = message["id"].clone();
            }
            if chance.is(10) {
                input["agentId"] = agent.into();
            }
            Act::Send(with_model(input))
        }
        0..31 => Act::Send(with_model(json!({ "agentId": agent, "text": words }))),
        31..40 if !messages.is_empty() => Act::Do(
            "RegenerateMessage",
            with_model(json!({ "id": message["id"], "whenBusy": policy })),
        ),
        40..47 if message["role"] == "USER" => Act::Do(
            "EditMessage",
            json!({ "id": message["id"], "text": words, "whenBusy": policy }),
        ),
        47..51 => {
            let failed: Vec<Value> = talk
                .runs()
                .filter(|run| run["status"] == "FAILED" || run["status"] == "CANCELLED")
                .cloned()
                .collect();
            match chance.of(&failed) {
                Some(run) => Act::Do("RetryRun", json!({ "id": run["id"] })),
                None => Act::Watch,
            }
        }
        51..56 => {
            let open: Vec<Value> = talk
                .runs()
                .filter(|run| run["finishedAt"].is_null())
                .cloned()
                .collect();
            match chance.of(&open) {
                Some(run) => Act::Do("CancelRun", json!({ "id": run["id"] })),
                None => Act::Watch,
            }
        }
        56..61 if message["role"] == "ASSISTANT" => {
            let rating = [json!("UP"), json!("DOWN"), Value::Null][chance.below(3)].clone();
            Act::Do(
                "RateMessage",
                json!({ "id": message["id"], "rating": rating, "comment": if rating.is_null() { Value::Null } else { words.into() } }),
            )
        }
        61..64 => update(json!({ "isArchived": !talk.is_archived() })),
        64..67 => {
            update(json!({ "title": if chance.is(70) { words.into() } else { Value::Null } }))
        }
        67..74 => {
            let siblings = message["siblings"].as_array().cloned().unwrap_or_default();
            match chance.of(&siblings) {
                Some(sibling) => Act::Switch {
                    conversation,
                    to: id(sibling),
                },
                None => Act::Watch,
            }
        }
        74..75 => Act::Do("DeleteConversation", json!({ "id": conversation })),
        75..80 => chance
            .of(&sidebar)
            .map_or(Act::Close, |row| Act::Open(id(row))),
        80..81 if agents.len() < 20 => Act::Do(
            "CreateAgent",
            json!({ "name": words, "instructions": "Answer.", "modelId": model }),
        ),
        80..82 => Act::Do("UpdateAgent", json!({ "id": agent, "name": words })),
        82..83 => Act::Do("UpdateAgent", json!({ "id": agent, "modelId": model })),
        83..84 => Act::Do("PublishAgent", json!({ "id": agent })),
        84..85 => Act::Do("UpdateModel", json!({ "id": model, "name": words })),
        85..86 if agents.len() > 2 => Act::Do("DeleteAgent", json!({ "id": agent, "force": true })),
        85..88 => Act::DropTalk,
        94..100 => Act::Glance,
        88..90 => Act::DropLists,
        90..92 => Act::Reload,
        _ => Act::Watch,
    }
}

async fn perform(device: &mut Device, act: Act) {
    match act {
        Act::Send(input) => device.send(input).await,
        Act::Do(operation, input) => {
            device.act(operation, input).await;
        }
        Act::Open(id) => device.open(&id).await,
        Act::Switch { conversation, to } => {
            let input = json!({ "id": conversation, "leafId": to });
            device.act("UpdateConversation", input).await;
        }
        Act::Watch => device.watch().await,
        Act::Glance => device.looks += usize::from(device.glance().await),
        Act::Close => device.close(),
        Act::DropTalk => device.drop_talk(),
        Act::DropLists => device.drop_lists(),
        Act::Reload => device.reload().await,
    }
}

/// Waits until nothing runs.
async fn quiet(scene: &Scene) {
    let document =
        "{ runs(first: 1, filter: { status: [QUEUED, RUNNING, WAITING] }) { nodes { id } } }";
    support::wait::until(PATIENCE, "all runs end", async || {
        let data = scene.client.ok(document, json!({})).await;
        let open = data["runs"]["nodes"].as_array().map_or(0, Vec::len);
        (open == 0).then_some(())
    })
    .await;
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_show_what_there_is_after_whatever_was_done() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let by_the_clock = now.map_or(1, |now| u64::try_from(now.as_micros()).unwrap_or(1));
    let seed = number("WEFT_TEST_SEED").unwrap_or(by_the_clock).max(1);
    let steps = number("WEFT_TEST_STEPS").unwrap_or(300);
    let steps = usize::try_from(steps).unwrap_or(300);
    println!("seed {seed}, {steps} steps");
    let options = Options::default()
        .with("WEFT_LIMITS__COST_BUCKET", "100000000")
        .with("WEFT_LIMITS__MAX_CONNECTIONS_PER_USER", "50");
    let scene = Scene::with(options).await;
    let models = models(&scene).await;
    for name in ["Weaver", "Spinner", "Dyer"] {
        scene.client.create_agent(name, &models.ids[0]).await;
    }
    let mut chance = Chance(seed);
    let mut devices = [
        Device::new("desk", &scene.client).await,
        Device::new("phone", &scene.client).await,
    ];
    let began = std::time::Instant::now();
    let mut done = 0;
    while done < steps {
        for _ in 0..25 {
            let at = chance.below(2);
            // Mostly both look at the same.
            let other = devices[1 - at].open_id();
            if devices[at].open_id() != other
                && chance.is(30)
                && let Some(other) = other
            {
                devices[at].open(&other).await;
            }
            let act = choose(&mut chance, done, &devices[at], &models);
            let [desk, phone] = &mut devices;
            if chance.is(30) {
                // Both at once.
                let too = choose(
                    &mut chance,
                    done + 1_000_000,
                    if at == 0 { phone } else { desk },
                    &models,
                );
                let (one, two) = if at == 0 { (act, too) } else { (too, act) };
                tokio::join!(perform(desk, one), perform(phone, two));
                done += 1;
            } else {
                perform(if at == 0 { desk } else { phone }, act).await;
            }
            done += 1;
        }
        quiet(&scene).await;
        for device in &mut devices {
            device.agrees().await;
            device.is_told_the_same().await;
        }
    }
    println!("{done} steps in {:.1} s", began.elapsed().as_secs_f64());
    for device in &devices {
        let census = device.census.lock().unwrap();
        println!(
            "{} looked {} times in the midst and was told {census:?}",
            device.name, device.looks
        );
        let rare = [
            "MessageUpdated",
            "MessagesRemoved",
            "ConversationUpdated",
            "RunFailed",
            "RunCancelled",
        ];
        for kind in rare.into_iter().filter(|_| steps >= 300) {
            assert!(
                census.contains_key(kind),
                "{} was never told {kind}",
                device.name
            );
        }
    }
}

/// Puts copies of the files of a folder in the place of those of another, which stays itself: it is closed to others.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(to)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The server is set back to what it was some time ago. What was told since is expired, and whoever was told it begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_set_back_is_shown_as_it_is() {
    let mut scene = Scene::new().await;
    if scene.weft.database().is_some() {
        // The folder is all there is of a server on SQLite alone.
        return;
    }
    let agent = scene.agent("tokens-4-0").await;
    let sent = scene.client.send_to_agent(&agent, "one").await;
    scene.ended(&sent.run).await;
    let client = scene.client.clone();
    let title = "query ($id: ID!) { conversation(id: $id) { title } }";
    support::wait::until(PATIENCE, "it has a title", async || {
        let data = client.ok(title, json!({ "id": sent.conversation })).await;
        data["conversation"]["title"].is_string().then_some(())
    })
    .await;
    let backup = tempfile::tempdir().expect("a folder");
    scene.weft.stop().await;
    copy(&scene.weft.data(), backup.path()).expect("a copy");
    scene.weft.restart().await;

    let mut device = Device::new("desk", &client).await;
    device.open(&sent.conversation).await;
    for words in ["two", "three"] {
        let again = client.send_to_conversation(&sent.conversation, words).await;
        scene.ended(&again.run).await;
    }
    let new = client.send_to_agent(&agent, "elsewhere").await;
    scene.ended(&new.run).await;
    device.agrees().await;
    let before = device.talk().expect("it is open").messages().len();
    scene.weft.stop().await;
    copy(backup.path(), &scene.weft.data()).expect("the copy");
    scene.weft.restart().await;
    device.agrees().await;
    let after = device.talk().expect("it is open").messages().len();
    assert_eq!((before, after), (6, 2));
    // And what happens from then on is told.
    let again = client
        .send_to_conversation(&sent.conversation, "two, again")
        .await;
    scene.ended(&again.run).await;
    device.agrees().await;
    assert_eq!(device.talk().expect("it is open").messages().len(), 4);
}
