//! The server is killed while runs stream, again and again; whoever follows by cursor loses nothing and sees nothing twice.
//!
//! `WEFT_KILLS` is how often (6 if left out), `WEFT_KILL_SEED` repeats a run of it; both are printed.

#![expect(clippy::print_stdout, reason = "the seed repeats a run that failed")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use support::{
    client::{Client, Follower},
    provider::{Asked as ScriptedRequest, Script, Step, Turn, expected_text},
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
    provider.script("weaver", Script::answer(says));
    // Now and then this one breaks off in the midst of what it says, and its fallback says it again.
    provider.script(
        "frail",
        Script::answer(|asked| {
            let (mut turn, prompt) = (says(asked), asked.last_user_message());
            let said = turn.steps.len();
            if prompt.bytes().map(u32::from).sum::<u32>().is_multiple_of(3) && said > TOKENS {
                turn.steps.truncate(said / 3);
                turn.steps.push(Step::Drop);
            }
            turn
        }),
    );
    let mut weft = Weft::start(Options::default()).await;
    let mut client = weft.client();
    client.set_up().await;
    let address = provider.base_url();
    let weaver = client
        .create_model("OPENAI_COMPATIBLE", &address, "weaver")
        .await;
    let frail = client
        .create_model("OPENAI_COMPATIBLE", &address, "frail")
        .await;
    let falls_back = "mutation ($input: UpdateModelInput!) { updateModel(input: $input) { errors { code message } } }";
    let input = json!({ "input": { "id": frail, "fallbackIds": [weaver] } });
    client.done(falls_back, input).await;
    let agent = client.create_agent("Weaver", &frail).await;

    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::new(AtomicUsize::new(0));
    let lines: Vec<_> = (0..LINES)
        .map(|line| {
            tokio::spawn(talk(
                line,
                Chance(chance.next()),
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
    let (mut runs, mut stopped, mut undone) = (0, 0, 0);
    for line in lines {
        let talked = line
            .await
            .expect("a line of conversation went on to its end");
        runs += talked.runs;
        stopped += talked.stopped;
        undone += talked.undone.len();
    }
    let fallen_back = provider.calls_of("weaver").len();
    assert!(
        fallen_back > 0,
        "a model that breaks off is followed by its fallback"
    );
    println!(
        "{fallen_back} steps said by the fallback; {runs} runs, {stopped} of them stopped by what came, {undone} messages undone, {kills} kills: nothing lost, nothing repeated"
    );
    assert!(runs >= LINES);
}

/// What a model says. Every other run has two steps: what its first one found is not asked for again.
fn says(asked: &ScriptedRequest) -> Turn {
    let prompt = asked.last_user_message();
    let was_answered = asked.body["messages"]
        .as_array()
        .and_then(|messages| messages.last())
        .is_some_and(|last| last["role"] == "tool");
    if prompt.contains("tool") && !was_answered {
        return Turn::tool_call("c1", "nothing", &json!({ "of": prompt }));
    }
    Turn::tokens(&prompt, TOKENS, EVERY)
}

/// Talks until it is over; answers how many answers it read, each by two who follow.
async fn talk(
    line: usize,
    mut chance: Chance,
    client: Client,
    agent: String,
    provider: Arc<support::provider::Provider>,
    over: Arc<AtomicBool>,
    told: Arc<AtomicUsize>,
) -> Talked {
    let mut conversation: Option<String> = None;
    let mut talked = Talked::default();
    let mut rounds = 0;
    while !over.load(Ordering::Relaxed) {
        let kind = if rounds % 2 == 0 { "words" } else { "tool" };
        let prompt = format!("line {line} run {rounds} {kind}");
        let Some(asked) = say(&client, &agent, conversation.as_deref(), &prompt).await else {
            continue;
        };
        conversation = Some(asked.conversation.clone());
        let mut runs = vec![Expected {
            run: asked.run.clone(),
            prompt: prompt.clone(),
        }];
        // Every other time something else is said before the answer is whole, by one of the policies.
        let then = if chance.next().is_multiple_of(2) {
            tokio::time::sleep(Duration::from_micros(chance.next() % 600_000)).await;
            let then = Then::any(&mut chance);
            let key = format!("line {line} run {rounds}");
            then.ask(&client, &asked, &prompt, &key).await.map(|run| {
                runs.push(Expected {
                    run,
                    prompt: then.prompt(&prompt),
                });
                then
            })
        } else {
            None
        };
        let mut viewers = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let (client, asked, runs, provider) = (
                client.clone(),
                asked.clone(),
                runs.clone(),
                provider.clone(),
            );
            viewers.spawn(async move { view(&client, &asked, &runs, &provider).await });
        }
        let mut removed: Option<BTreeSet<String>> = None;
        while let Some(viewer) = viewers.join_next().await {
            let seen = viewer.expect("whoever follows comes to the end");
            assert_eq!(*removed.get_or_insert_with(|| seen.clone()), seen);
        }
        let removed = removed.unwrap_or_default();
        let first = outcome(&client, &runs[0], &removed).await;
        assert!(
            first == "COMPLETED" || (first == "CANCELLED" && then.is_some_and(Then::stops)),
            "{prompt}: {first} {then:?}"
        );
        assert_eq!(
            first == "CANCELLED" && then.is_some_and(|then| then.policy == "ROLLBACK"),
            !removed.is_empty(),
            "{prompt}: {first} {then:?}"
        );
        if let Some(second) = runs.get(1) {
            assert_eq!(outcome(&client, second, &removed).await, "COMPLETED");
        }
        talked.stopped += usize::from(first == "CANCELLED");
        talked.undone.extend(removed);
        told.fetch_add(runs.len(), Ordering::Relaxed);
        talked.runs += runs.len();
        rounds += 1;
    }
    // What was undone stays undone.
    if let Some(conversation) = &conversation {
        assert_gone(&client, conversation, &talked.undone).await;
    }
    talked
}

/// What came of a line of conversation.
#[derive(Default)]
struct Talked {
    runs: usize,
    stopped: usize,
    undone: BTreeSet<String>,
}

/// What was asked for and answered.
#[derive(Clone)]
struct Asked {
    conversation: String,
    message: String,
    run: String,
    cursor: String,
}

/// A run, and what it is to answer.
#[derive(Clone)]
struct Expected {
    run: String,
    prompt: String,
}

/// What is said while a run is under way.
#[derive(Clone, Copy, Debug)]
struct Then {
    field: &'static str,
    policy: &'static str,
}

impl Then {
    fn any(chance: &mut Chance) -> Self {
        let fields = [
            "sendMessage",
            "sendMessage",
            "regenerateMessage",
            "editMessage",
        ];
        let policies = ["REJECT", "ENQUEUE", "INTERRUPT", "ROLLBACK"];
        let one_of = |all: [&'static str; 4], n: u64| all[usize::try_from(n % 4).unwrap_or(0)];
        Self {
            field: one_of(fields, chance.next()),
            policy: one_of(policies, chance.next()),
        }
    }

    fn stops(self) -> bool {
        matches!(self.policy, "INTERRUPT" | "ROLLBACK")
    }

    fn prompt(self, before: &str) -> String {
        if self.field == "regenerateMessage" {
            before.to_owned()
        } else {
            format!("{before}, then by {}", self.policy)
        }
    }

    /// Asks until there is an answer, each time with the same key: it is done once. `None`: it was refused, since a run was
    /// under way.
    async fn ask(self, client: &Client, asked: &Asked, prompt: &str, key: &str) -> Option<String> {
        let text = self.prompt(prompt);
        let input = match self.field {
            "sendMessage" => json!({ "conversationId": asked.conversation, "text": text }),
            "regenerateMessage" => json!({ "id": asked.message }),
            _ => json!({ "id": asked.message, "text": text }),
        };
        let mut input = input;
        input["whenBusy"] = json!(self.policy);
        input["idempotencyKey"] = json!(key);
        let kind = format!(
            "{}{}Input",
            self.field[..1].to_uppercase(),
            &self.field[1..]
        );
        let document = format!(
            "mutation ($input: {kind}!) {{ {}(input: $input) {{ run {{ id }} errors {{ code message }} }} }}",
            self.field
        );
        let data = patiently(client, &document, json!({ "input": input })).await;
        let payload = &data[self.field];
        if let Some(error) = payload["errors"].get(0) {
            assert_eq!(
                (self.policy, &error["code"]),
                ("REJECT", &json!("CONFLICT")),
                "{error}"
            );
            return None;
        }
        payload["run"]["id"].as_str().map(str::to_owned)
    }
}

/// How a run ended, by the queries; its answer is what it is to be, as far as it goes.
async fn outcome(client: &Client, expected: &Expected, removed: &BTreeSet<String>) -> String {
    let document =
        "query ($id: ID!) { run(id: $id) { status input { id } output { id status text } } }";
    let data = patiently(client, document, json!({ "id": expected.run })).await;
    let run = &data["run"];
    let (prompt, whole) = (&expected.prompt, expected_text(&expected.prompt, TOKENS));
    let status = run["status"].as_str().unwrap_or_default();
    let said = run["output"]["text"].as_str();
    match (status, said) {
        ("COMPLETED", Some(said)) => assert_eq!(said, whole, "{prompt}"),
        ("CANCELLED", Some(said)) => {
            assert!(whole.starts_with(said), "{prompt}: {said}");
            assert_eq!(run["output"]["status"], "INCOMPLETE", "{prompt}");
        }
        ("CANCELLED", None) => {}
        _ => panic!("{prompt}: {run:#}"),
    }
    for message in [&run["input"]["id"], &run["output"]["id"]] {
        assert!(
            message.as_str().is_none_or(|id| !removed.contains(id)),
            "{prompt}: {run:#}"
        );
    }
    status.to_owned()
}

async fn assert_gone(client: &Client, conversation: &str, undone: &BTreeSet<String>) {
    let ids: Vec<_> = undone.iter().take(100).collect();
    let data = patiently(
        client,
        "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }",
        json!({ "ids": ids }),
    )
    .await;
    assert!(
        data["nodes"]
            .as_array()
            .is_some_and(|nodes| nodes.iter().all(serde_json::Value::is_null)),
        "{data:#}"
    );
    let document = "query ($id: ID!) { conversation(id: $id) { activeRun { id } messages(last: 100) { nodes { id parentId status } } } }";
    let data = patiently(client, document, json!({ "id": conversation })).await;
    assert!(data["conversation"]["activeRun"].is_null(), "{data:#}");
    for node in data["conversation"]["messages"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
    {
        for id in [&node["id"], &node["parentId"]] {
            assert!(
                id.as_str().is_none_or(|id| !undone.contains(id)),
                "{node:#}"
            );
        }
        assert_ne!(node["status"], "STREAMING", "{node:#}");
    }
}

/// Sends a message to a server that may be killed meanwhile. Where no answer came, whether it was sent is unknown: the
/// conversation is looked at, as a client would without an idempotency key.
async fn say(
    client: &Client,
    agent: &str,
    conversation: Option<&str>,
    prompt: &str,
) -> Option<Asked> {
    let document = "mutation ($input: SendMessageInput!) {
        sendMessage(input: $input) { conversation { id } message { id } run { id } cursor errors { code message } }
    }";
    let input = json!({ "agentId": agent, "conversationId": conversation, "text": prompt });
    let answer = client.try_query(document, json!({ "input": input })).await;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    if let Ok(Ok(data)) = answer {
        let sent = &data["sendMessage"];
        return Some(Asked {
            conversation: text(&sent["conversation"]["id"])?,
            message: text(&sent["message"]["id"])?,
            run: text(&sent["run"]["id"])?,
            cursor: text(&sent["cursor"])?,
        });
    }
    let document = "query { conversations(first: 50, orderBy: NEWEST) { nodes { id runs(first: 1) { nodes { id cursor input { id text } } } } } }";
    let data = patiently(client, document, json!({})).await;
    data["conversations"]["nodes"]
        .as_array()?
        .iter()
        .find_map(|node| {
            let run = &node["runs"]["nodes"][0];
            if run["input"]["text"] != prompt {
                return None;
            }
            Some(Asked {
                conversation: text(&node["id"])?,
                message: text(&run["input"]["id"])?,
                run: text(&run["id"])?,
                cursor: text(&run["cursor"])?,
            })
        })
}

/// Follows until all these runs have ended; answers what was removed.
async fn view(
    client: &Client,
    asked: &Asked,
    runs: &[Expected],
    provider: &support::provider::Provider,
) -> BTreeSet<String> {
    let mut follower =
        Follower::new_patiently(client, &asked.conversation, Some(&asked.cursor)).await;
    let (run, prompt) = (&runs[0].run, &runs[0].prompt);
    let finished = |transcript: &support::client::Transcript| {
        transcript
            .events
            .iter()
            .filter(|event| event["__typename"] == "StepFinished" && event["runId"] == **run)
            .count()
    };
    let is_over = |transcript: &support::client::Transcript| transcript.end(run).is_some();
    // The calls of the provider when a step is known to be finished: none for that step may come after.
    let mut first_step = None;
    if prompt.contains("tool") {
        follower
            .until(RUN, |transcript| {
                finished(transcript) >= 1 || is_over(transcript)
            })
            .await
            .expect("the first step finishes");
        first_step = (finished(&follower.transcript) >= 1)
            .then(|| provider.calls().last().map(|call| call.number))
            .flatten();
    }
    follower.until_end_of(run, RUN).await.expect("the run ends");
    let last = provider.calls().last().map(|call| call.number);
    for other in &runs[1..] {
        let end = follower.until_end_of(&other.run, RUN).await;
        assert_eq!(
            end.expect("the other run ends"),
            "RunCompleted",
            "{}",
            other.prompt
        );
    }
    follower.transcript.assert_faultless();
    for expected in runs {
        let said = follower.transcript.said(&expected.run);
        let whole = expected_text(&expected.prompt, TOKENS);
        let prompt = &expected.prompt;
        match follower.transcript.end(&expected.run) {
            Some("RunCompleted") => assert_eq!(said, whole, "{prompt}"),
            Some("RunCancelled") => assert!(whole.starts_with(&said), "{prompt}: {said}"),
            end => panic!("{prompt}: {end:?}"),
        }
    }
    // The same question asked again is told by nothing here from one that is asked twice.
    let asked_again = runs[1..].iter().any(|other| other.prompt == *prompt);
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
            .is_some_and(|message| message["content"] == **prompt);
        let is_first_step = last_role == Some(json!("user"));
        is_ours
            && (first_step.is_some_and(|asked| is_first_step && call.number > asked)
                || last.is_some_and(|last| call.number > last))
    });
    assert!(
        asked_again || again.count() == 0,
        "{prompt}: what is finished is not asked for again"
    );
    follower.transcript.removed().clone()
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
