//! Conversations that outgrow the window of their model.

use std::{
    collections::BTreeSet,
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};
use support::{
    client::Follower,
    provider::{Asked, Call, Script, Step, Turn},
    server::Options,
};
use tiktoken_rs::o200k_base_singleton;

use crate::scene::{PATIENCE, Scene};

/// The texts of a request, the instructions first.
fn texts(body: &Value) -> Vec<&str> {
    let messages = body["messages"].as_array().expect("messages");
    messages
        .iter()
        .map(|message| message["content"].as_str().unwrap_or_default())
        .collect()
}

/// What the model's own tokenizer makes of a request.
fn tokens(body: &Value) -> usize {
    let tokenizer = o200k_base_singleton();
    let of = |text: &&str| 4 + tokenizer.encode_with_special_tokens(text).len();
    3 + texts(body).iter().map(of).sum::<usize>()
}

fn summarises(body: &Value) -> bool {
    texts(body)[0].starts_with("You summarise")
}

/// The facts that texts speak of: `k17`.
fn facts(texts: &[&str]) -> BTreeSet<usize> {
    let words = texts.iter().flat_map(|text| text.split_whitespace());
    words
        .filter_map(|word| word.strip_prefix('k')?.parse().ok())
        .collect()
}

fn kept(body: &Value) -> String {
    let mut kept = "Kept:".to_owned();
    for fact in facts(&texts(body)[1..]) {
        let _ = write!(kept, " k{fact}");
    }
    kept
}

fn answer(asked: &Asked) -> Turn {
    if summarises(&asked.body) {
        Turn::text(&kept(&asked.body))
    } else {
        Turn::of([
            Step::Text("That was noted, and ".into()),
            Step::Text("the loom is ready for more. ".repeat(9)),
        ])
    }
}

fn turn(number: usize) -> String {
    format!(
        "Remember k{number} please. {}",
        "The weft goes over one thread of the warp and under the next one. ".repeat(6)
    )
}

impl Scene {
    /// An agent on a model that can be told so many tokens.
    async fn reader(&self, window: usize, script: impl Into<Script>) -> String {
        self.provider.script("reader", script);
        let create = "mutation ($input: CreateModelInput!) { createModel(input: $input) { model { id } errors { message } } }";
        let input = json!({
            "slug": "reader", "name": "Reader", "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": "reader",
            "baseUrl": self.provider.base_url(), "contextWindow": window,
        });
        let model = self.client.done(create, json!({ "input": input })).await;
        self.client
            .create_agent("Reader", model["model"]["id"].as_str().expect("an id"))
            .await
    }

    /// All messages along the branch last used.
    async fn messages(&self, conversation: &str) -> Vec<Value> {
        let document = "query ($id: ID!, $after: Cursor) { conversation(id: $id) {
            messages(first: 100, after: $after) { nodes { id role status text parentId siblings { id } } pageInfo { hasNextPage endCursor } } } }";
        let (mut messages, mut after) = (Vec::new(), Value::Null);
        loop {
            let variables = json!({ "id": conversation, "after": after });
            let page = self.client.ok(document, variables).await["conversation"]["messages"].take();
            messages.extend(page["nodes"].as_array().expect("nodes").iter().cloned());
            if page["pageInfo"]["hasNextPage"] == false {
                return messages;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
    }
}

fn is_summary(message: &&Value) -> bool {
    message["role"] == "SYSTEM"
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_turns_pass_through_a_small_window() {
    const WINDOW: usize = 8192;
    const TURNS: usize = 300;
    let options = Options::default().with("WEFT_LIMITS__COST_BUCKET", "100000000");
    let scene = Scene::with(options).await;
    let agent = scene.reader(WINDOW, Script::answer(answer)).await;
    let first = scene.client.send_to_agent(&agent, &turn(0)).await;
    let conversation = &first.conversation;
    let mut follower = Follower::new(&scene.client, conversation, Some(&first.cursor)).await;
    let mut runs = vec![first.run.clone()];
    for number in 1..=TURNS {
        let run = runs.last().unwrap();
        let end = follower.until_end_of(run, PATIENCE).await.unwrap();
        assert_eq!(end, "RunCompleted", "turn {number}");
        if number < TURNS {
            let sent = scene
                .client
                .send_to_conversation(conversation, &turn(number))
                .await;
            runs.push(sent.run);
        }
    }
    let transcript = &follower.transcript;
    transcript.assert_faultless();

    // what the model is told: the first turn and the last ones word for word, of the rest what the summary keeps
    let calls = scene.provider.calls_of("reader");
    let last = &calls.last().unwrap().body;
    let told = texts(last);
    assert_eq!(facts(&told), (0..TURNS).collect());
    assert_eq!(told[1], turn(0));
    assert_eq!(told[told.len() - 1], turn(TURNS - 1));
    assert_eq!(told[told.len() - 3], turn(TURNS - 2));
    assert!(!told.contains(&turn(TURNS / 2).as_str()));
    let mut longest: Vec<&Call> = calls.iter().collect();
    longest.sort_unstable_by_key(|call| std::cmp::Reverse(call.body.to_string().len()));
    for call in &longest[..40] {
        let tokens = tokens(&call.body);
        assert!(tokens <= WINDOW, "call {}: {tokens}", call.number);
    }

    // each compaction tells what it came to, as the model counts
    let compactions: Vec<&Value> = transcript
        .events
        .iter()
        .filter(|event| event["__typename"] == "ContextCompacted")
        .collect();
    let after_each: Vec<&Call> = calls
        .windows(2)
        .filter(|pair| summarises(&pair[0].body) && !summarises(&pair[1].body))
        .map(|pair| &pair[1])
        .collect();
    assert_eq!(compactions.len(), after_each.len());
    assert!(compactions.len() > 5, "{}", compactions.len());
    for (event, call) in compactions.iter().zip(after_each) {
        let (estimate, real) = (
            event["tokensAfter"].as_f64().unwrap(),
            tokens(&call.body) as f64,
        );
        assert!((estimate / real - 1.0).abs() < 0.05, "{estimate} of {real}");
        assert!(event["tokensBefore"].as_f64().unwrap() > 0.85 * WINDOW as f64 * 0.95);
        assert_eq!(event["message"]["role"], "SYSTEM");
    }

    // the summaries stand in the conversation, in one line with all the rest, and none is an answer
    let messages = scene.messages(conversation).await;
    assert_eq!(messages.len(), 2 * TURNS + compactions.len());
    assert_eq!(
        messages.iter().filter(is_summary).count(),
        compactions.len()
    );
    assert_eq!(messages[0]["parentId"], Value::Null);
    for pair in messages.windows(2) {
        assert_eq!(pair[1]["parentId"], pair[0]["id"]);
        assert_eq!(pair[1]["siblings"], json!([{ "id": pair[1]["id"] }]));
    }
    for message in &messages {
        let text = message["text"].as_str().unwrap();
        assert_eq!(message["status"], "COMPLETE");
        assert_eq!(text.starts_with("Kept:"), is_summary(&message));
    }
    for run in &runs {
        assert!(transcript.said(run).starts_with("That was noted"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_while_it_summarises_leaves_nothing_half_done() {
    let mut scene = Scene::new().await;
    let summaries = Arc::new(AtomicUsize::new(0));
    let script = Script::answer(move |asked| {
        let mut turn = answer(asked);
        if summarises(&asked.body) {
            let gate = match summaries.fetch_add(1, Ordering::Relaxed) {
                0 => "never",
                _ => "again",
            };
            turn.steps.insert(1, Step::WaitFor(gate.into()));
        }
        turn
    });
    let agent = scene.reader(1600, script).await;
    let waits = |calls: &[Call], gate: &str| {
        calls
            .iter()
            .any(|call| call.waits_for.as_deref() == Some(gate))
    };
    let mut sent = scene.client.send_to_agent(&agent, &turn(0)).await;
    let conversation = sent.conversation.clone();
    let mut follower = Follower::new(&scene.client, &conversation, Some(&sent.cursor)).await;
    let mut number = 0;
    loop {
        let is_over = follower.until_end_of(&sent.run, PATIENCE);
        let calls = scene
            .provider
            .until_calls(PATIENCE, "an answer or a summary", |calls| {
                waits(calls, "never") || calls.len() > number && calls[number].ended_ms.is_some()
            })
            .await;
        if waits(&calls, "never") {
            break;
        }
        is_over.await.unwrap();
        number += 1;
        assert!(number < 20, "it never gets too long");
        sent = scene
            .client
            .send_to_conversation(&conversation, &turn(number))
            .await;
    }
    scene.weft.kill9();
    scene.weft.restart().await;
    scene
        .provider
        .until_calls(PATIENCE, "it summarises again", |calls| {
            waits(calls, "again")
        })
        .await;
    let before = scene.messages(&conversation).await;
    assert!(!before.iter().any(|message| is_summary(&message)));
    scene.provider.open_gate("again");
    let end = follower.until_end_of(&sent.run, PATIENCE).await.unwrap();
    assert_eq!(end, "RunCompleted");
    follower.transcript.assert_faultless();
    let messages = scene.messages(&conversation).await;
    assert_eq!(messages.iter().filter(is_summary).count(), 1);
    assert_eq!(messages.len(), 2 * (number + 1) + 1);
    let calls = scene.provider.calls_of("reader");
    assert_eq!(
        facts(&texts(&calls.last().unwrap().body)),
        (0..=number).collect()
    );
}
