//! The server is killed while runs stream, again and again; whoever follows by cursor loses nothing and sees nothing twice.
//!
//! `WEFT_KILLS` is how often (6 if left out), `WEFT_KILL_SEED` repeats a run of it; both are printed.

#![expect(clippy::print_stdout, reason = "the seed repeats a run that failed")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use support::{
    client::{Client, Follower},
    provider::{Script, Turn, expected_text},
    server::{Options, Weft},
};

use crate::scene::PATIENCE;

/// Conversations that go on all the time.
const LINES: usize = 5;
/// Tokens of an answer, and the time between two of them.
const TOKENS: usize = 60;
const EVERY: Duration = Duration::from_millis(15);
/// After a kill on PostgreSQL a run waits for its lease to lapse.
const RUN: Duration = Duration::from_secs(180);

/// A small generator, so that a seed says everything: SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_repeated() {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    let (kills, seed) = (number("WEFT_KILLS", 6), number("WEFT_KILL_SEED", now));
    println!("{kills} kills with WEFT_KILL_SEED={seed}");
    let mut chance = Chance(seed);

    let provider = Arc::new(support::provider::Provider::start().await);
    // Every other run has two steps: what its first one found is not asked for again.
    provider.script(
        "weaver",
        Script::answer(|asked| {
            let prompt = asked.last_user_message();
            let was_answered = asked.body["messages"]
                .as_array()
                .and_then(|messages| messages.last())
                .is_some_and(|last| last["role"] == "tool");
            if prompt.contains("tool") && !was_answered {
                return Turn::tool_call("c1", "nothing", &json!({ "of": prompt }));
            }
            Turn::tokens(&prompt, TOKENS, EVERY)
        }),
    );
    let mut weft = Weft::start(Options::default()).await;
    let mut client = weft.client();
    client.set_up().await;
    let model = client
        .create_model("OPENAI_COMPATIBLE", &provider.base_url(), "weaver")
        .await;
    let agent = client.create_agent("Weaver", &model).await;

    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::new(AtomicUsize::new(0));
    let lines: Vec<_> = (0..LINES)
        .map(|line| {
            tokio::spawn(talk(
                line,
                client.clone(),
                agent.clone(),
                provider.clone(),
                over.clone(),
                told.clone(),
            ))
        })
        .collect();
    for kill in 1..=kills {
        // at least three answers are under way, and have begun
        provider
            .until_calls(PATIENCE * 3, "three runs stream", |calls| {
                calls
                    .iter()
                    .filter(|call| call.ended_ms.is_none() && call.bytes > 200)
                    .count()
                    >= 3
            })
            .await;
        tokio::time::sleep(Duration::from_micros(chance.next() % 400_000)).await;
        weft.kill9();
        let read = told.load(Ordering::Relaxed);
        println!("kill {kill}: {read} answers were read to their end so far");
        weft.restart().await;
        if kill % 3 == 0 {
            // A run whose worker is lost five times within one step fails, as it should: let them get on in between.
            support::wait::until(PATIENCE * 3, "every line gets on", async || {
                (told.load(Ordering::Relaxed) >= read + 2 * LINES).then_some(())
            })
            .await;
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut runs = 0;
    for line in lines {
        runs += line
            .await
            .expect("a line of conversation went on to its end");
    }
    println!("{runs} runs, {kills} kills: nothing lost, nothing repeated");
    assert!(runs >= LINES);
}

/// Talks until it is over; answers how many answers it read, each by two who follow.
async fn talk(
    line: usize,
    client: Client,
    agent: String,
    provider: Arc<support::provider::Provider>,
    over: Arc<AtomicBool>,
    told: Arc<AtomicUsize>,
) -> usize {
    let mut conversation: Option<String> = None;
    let mut runs = 0;
    while !over.load(Ordering::Relaxed) {
        let kind = if runs % 2 == 0 { "words" } else { "tool" };
        let prompt = format!("line {line} run {runs} {kind}");
        let Some((id, run, cursor)) = say(&client, &agent, conversation.as_deref(), &prompt).await
        else {
            continue;
        };
        conversation = Some(id.clone());
        let mut viewers = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let (client, id, run, cursor, prompt, provider) = (
                client.clone(),
                id.clone(),
                run.clone(),
                cursor.clone(),
                prompt.clone(),
                provider.clone(),
            );
            viewers
                .spawn(async move { view(&client, &id, &run, &cursor, &prompt, &provider).await });
        }
        while let Some(viewer) = viewers.join_next().await {
            viewer.expect("whoever follows comes to the end");
        }
        let finished = patiently(
            &client,
            "query ($id: ID!) { run(id: $id) { status output { status text } } }",
            json!({ "id": run }),
        )
        .await;
        assert_eq!(finished["run"]["status"], "COMPLETED", "{prompt}");
        assert_eq!(
            finished["run"]["output"]["text"],
            json!(expected_text(&prompt, TOKENS)),
            "{prompt}"
        );
        told.fetch_add(1, Ordering::Relaxed);
        runs += 1;
    }
    runs
}

/// Sends a message to a server that may be killed meanwhile. Where no answer came, whether it was sent is unknown: the
/// conversation is looked at, as a client would without an idempotency key.
async fn say(
    client: &Client,
    agent: &str,
    conversation: Option<&str>,
    prompt: &str,
) -> Option<(String, String, String)> {
    let document = "mutation ($input: SendMessageInput!) {
        sendMessage(input: $input) { conversation { id } run { id } cursor errors { code message } }
    }";
    let input = json!({ "agentId": agent, "conversationId": conversation, "text": prompt });
    let answer = client.try_query(document, json!({ "input": input })).await;
    if let Ok(Ok(data)) = answer {
        let sent = &data["sendMessage"];
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        return Some((
            text(&sent["conversation"]["id"])?,
            text(&sent["run"]["id"])?,
            text(&sent["cursor"])?,
        ));
    }
    let document = "query { conversations(first: 50, orderBy: NEWEST) { nodes { id runs(first: 1) { nodes { id cursor input { text } } } } } }";
    let data = patiently(client, document, json!({})).await;
    let found = data["conversations"]["nodes"]
        .as_array()?
        .iter()
        .find_map(|node| {
            let run = &node["runs"]["nodes"][0];
            (run["input"]["text"] == prompt)
                .then(|| (node["id"].clone(), run["id"].clone(), run["cursor"].clone()))
        })?;
    let text = |value: serde_json::Value| value.as_str().map(str::to_owned);
    Some((text(found.0)?, text(found.1)?, text(found.2)?))
}

async fn view(
    client: &Client,
    conversation: &str,
    run: &str,
    cursor: &str,
    prompt: &str,
    provider: &support::provider::Provider,
) {
    let mut follower = Follower::new_patiently(client, conversation, Some(cursor)).await;
    let finished = |transcript: &support::client::Transcript| {
        transcript
            .events
            .iter()
            .filter(|event| event["__typename"] == "StepFinished" && event["runId"] == run)
            .count()
    };
    // The calls of the provider when a step is known to be finished: none for that step may come after.
    let mut asked = None;
    if prompt.contains("tool") {
        follower
            .until(RUN, |transcript| finished(transcript) >= 1)
            .await
            .expect("the first step finishes");
        asked = provider.calls().last().map(|call| call.number);
    }
    let end = follower.until_end_of(run, RUN).await.expect("the run ends");
    let last = provider.calls().last().map(|call| call.number);
    assert_eq!(end, "RunCompleted", "{prompt}");
    follower.transcript.assert_faultless();
    assert_eq!(
        follower.transcript.said(run),
        expected_text(prompt, TOKENS),
        "{prompt}"
    );
    let again = provider.calls().into_iter().filter(|call| {
        let messages = call.body["messages"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let last_role = messages.last().map(|message| message["role"].clone());
        let is_ours = messages
            .iter()
            .rev()
            .find(|message| message["role"] == "user")
            .is_some_and(|message| message["content"] == prompt);
        let first_step = last_role == Some(json!("user"));
        is_ours
            && (asked.is_some_and(|asked| first_step && call.number > asked)
                || last.is_some_and(|last| call.number > last))
    });
    assert_eq!(
        again.count(),
        0,
        "{prompt}: what is finished is not asked for again"
    );
}

async fn patiently(
    client: &Client,
    document: &str,
    variables: serde_json::Value,
) -> serde_json::Value {
    support::wait::until(PATIENCE, "an answer", async || {
        // A server that is about to be killed may also answer that it can't.
        client
            .try_query(document, variables.clone())
            .await
            .ok()
            .and_then(Result::ok)
    })
    .await
}
