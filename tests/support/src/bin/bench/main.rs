//! The figures of `docs/benchmarks.md`: drives the binary over its public wires and prints a table in Markdown.
//!
//! `bench [--postgres URL] [--quick] [--runs | --followers | --deaf | --edge]`: `WEFT_BIN` is the binary, left out the one beside
//! this program. With `LITELLM_URL` and `LITELLM_KEY` an answer of LiteLLM's proxy is streamed through, too. `--quick` takes few
//! samples, to try the program itself; the others measure a part alone: the server and runs that are followed once; what many
//! cost who follow the same, and one of them who never reads; the last only; subscriptions that wait for something to happen, and
//! one that always has more beside a quiet one.
//!
//! Provider, clients and server share the machine, so every figure holds the cost of all three.

mod edge;
mod followers;

use std::{
    future::Future,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{
    StreamExt,
    future::{join_all, try_join_all},
    stream,
};
use serde_json::{Value, json};
use support::{
    client::{Client, Subscription},
    database::Database,
    provider::{Provider, expected_text},
    server::{Options, Weft},
    wait::{PATIENCE, until, within},
};
use tokio::time::sleep;

/// How much is measured.
#[derive(Clone, Copy)]
struct Sizes {
    /// Starts of which the median counts.
    starts: usize,
    /// How long after its start a server's memory is looked at.
    settled: Duration,
    /// Runs after which it is looked at again.
    runs: usize,
    /// Calls of which the time to the first token is taken.
    samples: usize,
    /// Runs that stream beside them, at 50 tokens a second each.
    beside: usize,
    /// Runs that say all they have at once, and how much that is.
    at_once: usize,
    tokens: usize,
    /// Runs that stream side by side, at 50 tokens a second each, and for how many tokens.
    paced: usize,
    paced_tokens: usize,
    /// Who follow one conversation, two on a socket; and so few that pieces of text don't wait for each other.
    viewers: usize,
    few_viewers: usize,
    /// Tokens that they are told, at 50 a second.
    told: usize,
    /// Runs that two follow on one socket each of whom one never reads, and their tokens at 100 a second each.
    deaf: usize,
    deaf_tokens: usize,
    /// Subscriptions in which nothing happens.
    idle: usize,
    /// Tokens of the answer that one reads again and again, and of the quiet one beside it, at 50 a second.
    flood_tokens: usize,
    quiet_tokens: usize,
}

const FULL: Sizes = Sizes {
    starts: 5,
    settled: Duration::from_secs(30),
    runs: 100,
    samples: 500,
    beside: 100,
    at_once: 100,
    tokens: 1000,
    paced: 200,
    paced_tokens: 500,
    viewers: 2000,
    few_viewers: 300,
    told: 500,
    deaf: 50,
    deaf_tokens: 2000,
    idle: 10_000,
    flood_tokens: 20_000,
    quiet_tokens: 1000,
};
const QUICK: Sizes = Sizes {
    starts: 1,
    settled: Duration::from_secs(1),
    runs: 10,
    samples: 10,
    beside: 5,
    at_once: 5,
    tokens: 100,
    paced: 5,
    paced_tokens: 50,
    viewers: 100,
    few_viewers: 20,
    told: 50,
    deaf: 5,
    deaf_tokens: 100,
    idle: 200,
    flood_tokens: 500,
    quiet_tokens: 50,
};

/// How long a run of these may take.
const RUN: Duration = Duration::from_secs(300);

const EVENTS: &str = "subscription ($id: ID!) { conversationEvents(conversationId: $id) {
    __typename runId
    ... on MessageCompleted { message { role text } }
    ... on RunFailed { error { kind message } }
} }";

/// A figure and what it came to.
type Row = (String, String);

struct Arguments {
    postgres: Option<String>,
    sizes: Sizes,
    only: Option<Only>,
}

/// What alone is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Only {
    /// The server, and runs of which each is followed once.
    Runs,
    /// Those who follow the same, and one who never reads.
    Followers,
    /// One who never reads.
    Deaf,
    /// Subscriptions in which nothing happens, and one in which too much does.
    Edge,
}

fn arguments() -> Result<Arguments> {
    let mut given = Arguments {
        postgres: None,
        sizes: FULL,
        only: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--postgres" => {
                given.postgres = Some(words.next().context("--postgres takes an address")?);
            }
            "--quick" => given.sizes = QUICK,
            "--runs" => given.only = Some(Only::Runs),
            "--followers" => given.only = Some(Only::Followers),
            "--deaf" => given.only = Some(Only::Deaf),
            "--edge" => given.only = Some(Only::Edge),
            _ => bail!(
                "usage: bench [--postgres URL] [--quick] [--runs | --followers | --deaf | --edge]"
            ),
        }
    }
    Ok(given)
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
async fn main() -> Result<()> {
    let given = arguments()?;
    let mut columns = vec![("SQLite", measured(None, &given).await?)];
    if let Some(cluster) = &given.postgres {
        columns.push(("PostgreSQL", measured(Some(cluster), &given).await?));
    }
    print!("{}", table(&columns));
    Ok(())
}

/// The columns side by side; their rows have the same names.
fn table(columns: &[(&str, Vec<Row>)]) -> String {
    let names: String = columns
        .iter()
        .map(|(name, _)| format!(" {name} |"))
        .collect();
    let mut text = format!("| |{names}\n| --- |{}\n", " ---: |".repeat(columns.len()));
    let rows = columns.first().map_or(0, |(_, rows)| rows.len());
    for at in 0..rows {
        let cells: String = columns
            .iter()
            .map(|(_, rows)| format!(" {} |", rows[at].1))
            .collect();
        text.push_str(&format!("| {} |{cells}\n", columns[0].1[at].0));
    }
    text
}

#[expect(
    clippy::print_stderr,
    reason = "whoever waits for the table sees that it goes on"
)]
fn tell(what: &str) {
    eprintln!("… {what}");
}

async fn measured(cluster: Option<&str>, given: &Arguments) -> Result<Vec<Row>> {
    let sizes = given.sizes;
    tell(if cluster.is_some() {
        "on PostgreSQL"
    } else {
        "on SQLite"
    });
    let mut rows = Vec::new();
    let with = |part| given.only.is_none_or(|only| only == part);
    if with(Only::Runs) {
        rows.extend(starts(cluster, sizes).await?);
    }
    let house = House::new(cluster).await?;
    if with(Only::Runs) {
        rows.extend(memory(&house, sizes).await?);
        rows.extend(first_tokens(&house, sizes).await?);
        rows.extend(throughput(&house, sizes).await?);
    }
    if with(Only::Followers) {
        rows.extend(followers::viewers(&house, sizes).await?);
    }
    if with(Only::Followers) || with(Only::Deaf) {
        rows.extend(followers::deaf(&house, sizes).await?);
    }
    if with(Only::Edge) {
        rows.extend(edge::idle(cluster, sizes).await?);
        rows.push(edge::flood(&house, sizes).await?);
    }
    if let Some(row) = litellm(&house).await? {
        rows.push(row);
    }
    Ok(rows)
}

/// A server with an owner, and a provider.
struct House {
    weft: Weft,
    owner: Client,
    provider: Provider,
    /// Goes after the server.
    _database: Option<Database>,
}

/// Settings under which one user may do all of this.
async fn options(cluster: Option<&str>) -> Result<(Options, Option<Database>)> {
    let mut options = Options::default()
        .with("WEFT_LIMITS__MAX_CONNECTIONS_PER_USER", "10000")
        .with("WEFT_LIMITS__COST_BUCKET", "100000000");
    let mut database = None;
    if let Some(cluster) = cluster {
        let own = Database::create(cluster).await?;
        options = options.on(own.url());
        database = Some(own);
    }
    Ok((options, database))
}

impl House {
    async fn new(cluster: Option<&str>) -> Result<Self> {
        let (options, database) = options(cluster).await?;
        let weft = Weft::start(options).await;
        let mut owner = weft.client();
        owner.set_up().await;
        Ok(Self {
            weft,
            owner,
            provider: Provider::start().await,
            _database: database,
        })
    }

    /// An agent on a model of this name at the scripted provider.
    async fn agent(&self, model: &str) -> String {
        self.agent_at(model, &self.provider.base_url(), "sk-scripted")
            .await
    }

    async fn agent_at(&self, model: &str, base_url: &str, key: &str) -> String {
        let document = "mutation ($input: CreateModelInput!) {
            createModel(input: $input) { model { id } errors { code message } }
        }";
        let input = json!({
            "slug": model, "name": model, "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": model,
            "baseUrl": base_url, "apiKey": key,
        });
        let made = self.owner.done(document, json!({"input": input})).await;
        self.owner
            .create_agent(model, &text(&made["model"]["id"]))
            .await
    }

    /// A new conversation with an agent, and what happens in it from now on.
    async fn conversation(&self, agent: &str) -> Watched {
        let document = "mutation ($input: CreateConversationInput!) {
            createConversation(input: $input) { conversation { id } errors { code message } }
        }";
        let made = self
            .owner
            .done(document, json!({"input": {"agentId": agent}}))
            .await;
        let id = text(&made["conversation"]["id"]);
        let events = self.owner.subscribe(EVENTS, json!({"id": id})).await;
        Watched {
            id,
            events,
            deltas: 0,
        }
    }

    async fn say(&self, conversation: &str, words: &str) {
        let document = "mutation ($input: SendMessageInput!) {
            sendMessage(input: $input) { run { id } errors { code message } }
        }";
        let input = json!({"conversationId": conversation, "text": words});
        self.owner.done(document, json!({"input": input})).await;
    }
}

/// A conversation that is followed.
struct Watched {
    id: String,
    events: Subscription,
    /// Pieces of text that have come.
    deltas: usize,
}

impl Watched {
    async fn until_first_token(&mut self) -> Result<()> {
        while self.event().await? != "TextDelta" {}
        Ok(())
    }

    /// Until the run has ended; answers the text of its message.
    async fn until_end(&mut self) -> Result<String> {
        let mut said = String::new();
        loop {
            let event = self.next().await?;
            match event["__typename"].as_str().unwrap_or_default() {
                "MessageCompleted" if event["message"]["role"] == "ASSISTANT" => {
                    said = text(&event["message"]["text"]);
                }
                "RunCompleted" => return Ok(said),
                "RunFailed" | "RunCancelled" => bail!("a run did not complete: {event}"),
                _ => {}
            }
        }
    }

    async fn event(&mut self) -> Result<String> {
        Ok(text(&self.next().await?["__typename"]))
    }

    async fn next(&mut self) -> Result<Value> {
        let Some(data) = self.events.next(RUN).await else {
            bail!("the subscription ended: {:?}", self.events.ended())
        };
        let event = data["conversationEvents"].clone();
        self.deltas += usize::from(event["__typename"] == "TextDelta");
        Ok(event)
    }
}

/// From the start of the process to its first answer, in an empty folder and again in the same.
async fn starts(cluster: Option<&str>, sizes: Sizes) -> Result<Vec<Row>> {
    tell("starts");
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for _ in 0..sizes.starts {
        let (options, database) = options(cluster).await?;
        let begun = Instant::now();
        let mut weft = Weft::start(options).await;
        weft.client().ok("{ service { name } }", json!({})).await;
        first.push(begun.elapsed());
        weft.stop().await;
        let begun = Instant::now();
        weft.restart().await;
        weft.client().ok("{ service { name } }", json!({})).await;
        again.push(begun.elapsed());
        weft.stop().await;
        drop(database);
    }
    Ok(vec![
        (
            "start to first answer, empty folder, median".to_owned(),
            ms(part(&mut first, 50)),
        ),
        (
            "start to first answer, again, median".to_owned(),
            ms(part(&mut again, 50)),
        ),
    ])
}

/// What the process holds when it has nothing to do, and after it had.
async fn memory(house: &House, sizes: Sizes) -> Result<Vec<Row>> {
    tell("memory");
    sleep(sizes.settled).await;
    let idle = house.weft.resident_bytes();
    let agent = house.agent("tokens-200-0").await;
    for _ in 0..sizes.runs.div_ceil(10) {
        let watched = join_all((0..10).map(|_| house.conversation(&agent))).await;
        try_join_all(watched.into_iter().map(|mut watched| async move {
            house.say(&watched.id, "One of many.").await;
            watched.until_end().await
        }))
        .await?;
    }
    let after = house.weft.resident_bytes();
    Ok(vec![
        (
            format!(
                "memory resident {} s after the start",
                sizes.settled.as_secs()
            ),
            mib(idle),
        ),
        (
            format!("memory resident after {} runs", sizes.runs),
            mib(after),
        ),
    ])
}

/// From `sendMessage` sent to its first token seen, and the same call straight to the provider.
async fn first_tokens(house: &House, sizes: Sizes) -> Result<Vec<Row>> {
    let agent = house.agent("tokens-20-0").await;
    let mut rows = Vec::new();
    tell("first tokens, alone");
    rows.extend(first_token_rows(house, &agent, sizes.samples, "alone").await?);

    tell("first tokens, beside others");
    let busy = house.agent("tokens-1000000-20").await;
    let sent =
        join_all((0..sizes.beside).map(|_| house.owner.send_to_agent(&busy, "Without an end.")))
            .await;
    until(PATIENCE, "all of them to stream", || async {
        (house.provider.calls_of("tokens-1000000-20").len() >= sizes.beside).then_some(())
    })
    .await;
    let beside = format!("beside {} runs at 50 tokens/s", sizes.beside);
    rows.extend(first_token_rows(house, &agent, sizes.samples, &beside).await?);
    for run in sent {
        let document = "mutation ($input: CancelRunInput!) { cancelRun(input: $input) { run { status } errors { code message } } }";
        house
            .owner
            .done(document, json!({"input": {"id": run.run}}))
            .await;
    }
    Ok(rows)
}

async fn first_token_rows(
    house: &House,
    agent: &str,
    samples: usize,
    how: &str,
) -> Result<Vec<Row>> {
    let straight = reqwest::Client::builder().no_proxy().build()?;
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        direct.push(first_token_straight(&straight, house).await?);
        let mut watched = house.conversation(agent).await;
        let id = watched.id.clone();
        let begun = Instant::now();
        let ((), seen) = tokio::join!(house.say(&id, "Say something."), async {
            watched.until_first_token().await?;
            anyhow::Ok(begun.elapsed())
        });
        through.push(seen?);
        watched.until_end().await?;
        watched.events.close().await;
    }
    house.provider.forget_calls();
    let row = |p: usize, through: &mut Vec<Duration>, direct: &mut Vec<Duration>| {
        let (through, direct) = (part(through, p), part(direct, p));
        let added = through.saturating_sub(direct);
        (
            format!("first token, {how}, p{p}: added (through Weft, straight)"),
            format!("{} ({}, {})", ms(added), ms(through), ms(direct)),
        )
    };
    Ok(vec![
        row(50, &mut through, &mut direct),
        row(99, &mut through, &mut direct),
    ])
}

/// The same call as Weft makes, to the provider itself.
async fn first_token_straight(http: &reqwest::Client, house: &House) -> Result<Duration> {
    let body = json!({
        "model": "tokens-20-0", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "system", "content": "Answer."}, {"role": "user", "content": "Say something."}],
    });
    let url = format!("{}/chat/completions", house.provider.base_url());
    let begun = Instant::now();
    let mut answer = http
        .post(url)
        .bearer_auth("sk-scripted")
        .json(&body)
        .send()
        .await?
        .error_for_status()?;
    let mut seen = None;
    while let Some(piece) = answer.chunk().await? {
        // The first piece may have a role and no text yet.
        let says = String::from_utf8_lossy(&piece)
            .split("\"content\":\"")
            .skip(1)
            .any(|rest| !rest.starts_with('"'));
        if says && seen.is_none() {
            seen = Some(begun.elapsed());
        }
    }
    seen.context("the provider said nothing")
}

/// How much goes through the log, as fast as it goes and at the pace of models.
async fn throughput(house: &House, sizes: Sizes) -> Result<Vec<Row>> {
    tell("throughput, at once");
    let (took, deltas, _) = side_by_side(house, sizes.at_once, sizes.tokens, 0).await?;
    let tokens = sizes.at_once * sizes.tokens;
    let mut rows = vec![(
        format!(
            "{} runs × {} tokens at once, each followed: tokens/s (events/s)",
            sizes.at_once, sizes.tokens
        ),
        format!(
            "{} ({})",
            per_second(tokens, took),
            per_second(deltas, took)
        ),
    )];
    tell("throughput, paced");
    let (took, deltas, busy) = side_by_side(house, sizes.paced, sizes.paced_tokens, 20).await?;
    let cores = busy.as_secs_f64() / took.as_secs_f64();
    rows.push((
        format!(
            "{} runs × 50 tokens/s, each followed: events/s (processor of the server, cores)",
            sizes.paced
        ),
        format!("{} ({cores:.2})", per_second(deltas, took)),
    ));
    Ok(rows)
}

/// Runs side by side, each followed on a socket of its own and its text held against what was said: how long they took, how
/// many pieces of text came, and how much processor time the server took meanwhile.
async fn side_by_side(
    house: &House,
    runs: usize,
    tokens: usize,
    every_ms: usize,
) -> Result<(Duration, usize, Duration)> {
    let agent = house.agent(&format!("tokens-{tokens}-{every_ms}")).await;
    // Few sockets at a time: an address may have twenty that have not yet said who they are.
    let watched: Vec<_> = stream::iter(0..runs)
        .map(|_| house.conversation(&agent))
        .buffered(10)
        .collect()
        .await;
    let (begun, busy) = (Instant::now(), processor_time(house.weft.pid())?);
    let deltas = try_join_all(watched.into_iter().enumerate().map(
        |(at, mut watched)| async move {
            let prompt = format!("Prompt {at}");
            house.say(&watched.id, &prompt).await;
            let said = watched.until_end().await?;
            ensure!(
                said == expected_text(&prompt, tokens),
                "run {at} said something else than its model"
            );
            Ok(watched.deltas)
        },
    ))
    .await?;
    let took = begun.elapsed();
    house.provider.forget_calls();
    Ok((
        took,
        deltas.iter().sum(),
        processor_time(house.weft.pid())?.saturating_sub(busy),
    ))
}

/// The same for all who may see the conversation.
const SHARED: &str = "subscription ($id: ID!) { conversationEvents(conversationId: $id) {
    __typename cursor ... on TextDelta { messageId part offset text }
} }";

/// [`SHARED`] in words of one's own.
fn own(number: usize) -> String {
    format!("{SHARED} #{number}")
}

/// An answer of a real proxy; its first token and its end.
async fn litellm(house: &House) -> Result<Option<Row>> {
    let (Ok(url), Ok(key)) = (std::env::var("LITELLM_URL"), std::env::var("LITELLM_KEY")) else {
        return Ok(None);
    };
    tell("LiteLLM");
    let agent = house.agent_at("mock", &url, &key).await;
    let mut watched = house.conversation(&agent).await;
    let begun = Instant::now();
    house.say(&watched.id, "What does Weft do?").await;
    timed_out(watched.until_first_token()).await?;
    let first = begun.elapsed();
    let said = timed_out(watched.until_end()).await?;
    ensure!(
        said == "Weft holds the threads together.",
        "LiteLLM's answer came through as {said:?}"
    );
    Ok(Some((
        "an answer of LiteLLM's proxy: first token, whole".to_owned(),
        format!("{}, {}", ms(first), ms(begun.elapsed())),
    )))
}

async fn timed_out<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    within(PATIENCE, "the proxy's answer", work).await
}

/// Time that a process has had of all processors together.
fn processor_time(pid: u32) -> Result<Duration> {
    let path: PathBuf = format!("/proc/{pid}/stat").into();
    let stat = std::fs::read_to_string(&path)
        .with_context(|| format!("{} can't be read", path.display()))?;
    // The name stands in parentheses and may hold anything; after it come numbers: user time is the 12th, system time the 13th.
    let (_, numbers) = stat.rsplit_once(')').context("a line of the kernel's")?;
    let ticks: u64 = numbers
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    // In hundredths of a second on every Linux.
    Ok(Duration::from_millis(ticks * 10))
}

/// The value below which this part of all lies, in hundredths.
fn part(times: &mut [Duration], hundredths: usize) -> Duration {
    times.sort_unstable();
    let at = (times.len() * hundredths)
        .div_ceil(100)
        .clamp(1, times.len().max(1));
    times.get(at - 1).copied().unwrap_or_default()
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

fn per_second(count: usize, time: Duration) -> String {
    let millis = usize::try_from(time.as_millis().max(1)).unwrap_or(usize::MAX);
    (count * 1000 / millis).to_string()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
