//! Every cursor that a hundred runs gave out is good: while they go on, when they are over, and when what they said was stored anew
//! in fewer pieces. What comes after it is the rest of the answer, to the letter.

#![expect(clippy::print_stdout, reason = "the figures are what one reads it for")]

use std::collections::HashMap;

use serde_json::{Value, json};
use support::{
    client::{Client, Frame, Socket},
    provider::{Script, Step, Turn, expected_tokens},
    server::Options,
};

use crate::scene::{PATIENCE, Scene};

const RUNS: usize = 100;
/// Tokens of an answer; half of them come once all runs have said the others.
const TOKENS: usize = 24;
const EVERY: u64 = 7;
const SOCKETS: usize = 4;
/// Subscriptions on one socket at once.
const AT_ONCE: usize = 25;

const FOLLOW: &str =
    "subscription ($run: ID!, $after: Cursor) { runEvents(runId: $run, after: $after) {
    __typename cursor ... on TextDelta { offset text } } }";

/// A place in a run: its cursor, and how long the answer was there, in bytes.
type Place = (String, usize);

/// A run that is followed from its beginning.
struct Line {
    run: String,
    whole: String,
    /// How long its first half is.
    half: usize,
    said: String,
    places: Vec<Place>,
    is_over: bool,
}

/// A cursor that is tried, and what has to come after it.
struct Try {
    run: String,
    cursor: String,
    /// How long the answer was there, as clients count.
    offset: usize,
    rest: String,
}

async fn socket(client: &Client) -> Socket {
    let mut socket = Socket::open(client.base()).await.expect("a socket");
    client.initialise(&mut socket).await;
    socket
}

async fn subscribe(socket: &mut Socket, id: usize, run: &str, after: &str) {
    let payload = json!({ "query": FOLLOW, "variables": { "run": run, "after": after } });
    let message = json!({ "id": id.to_string(), "type": "subscribe", "payload": payload });
    socket.send(&message).await.expect("an open socket");
}

/// The next message of an operation: its number, and its event; none where it completed.
async fn next(socket: &mut Socket) -> (usize, Option<Value>) {
    loop {
        let Frame::Message(mut message) = socket.receive(PATIENCE).await else {
            continue;
        };
        let event = match message["type"].as_str() {
            Some("next") => {
                assert!(message["payload"]["errors"].is_null(), "{message}");
                Some(message["payload"]["data"]["runEvents"].take())
            }
            Some("complete") => None,
            Some("ping") => {
                socket
                    .send(&json!({ "type": "pong" }))
                    .await
                    .expect("an open socket");
                continue;
            }
            Some("pong") => continue,
            _ => panic!("{message}"),
        };
        let id = message["id"].as_str().and_then(|id| id.parse().ok());
        return (id.expect("a number"), event);
    }
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Reads what comes for these runs until each is as wanted.
async fn read(socket: &mut Socket, lines: &mut [Line], wanted: impl Fn(&Line) -> bool) {
    while !lines.iter().all(&wanted) {
        let (id, event) = next(socket).await;
        let line = &mut lines[id];
        let Some(event) = event else {
            line.is_over = true;
            continue;
        };
        if let Some(text) = event["text"].as_str() {
            assert_eq!(event["offset"], units(&line.said));
            line.said.push_str(text);
        }
        let cursor = event["cursor"].as_str().expect("a cursor").to_owned();
        line.places.push((cursor, line.said.len()));
    }
}

/// Comes back with each of these cursors and reads on, to the end of the run, or where it goes on until the rest has come.
async fn resume(client: &Client, mut tries: Vec<Try>, to_end: bool) {
    let mut tasks = tokio::task::JoinSet::new();
    let share = tries.len().div_ceil(SOCKETS).max(1);
    while !tries.is_empty() {
        let some = tries.split_off(tries.len().saturating_sub(share));
        let client = client.clone();
        tasks.spawn(async move {
            let mut socket = socket(&client).await;
            let mut open: HashMap<usize, String> = HashMap::new();
            let mut waiting = some.iter().enumerate();
            loop {
                while open.len() < AT_ONCE
                    && let Some((id, next)) = waiting.next()
                {
                    if !to_end && next.rest.is_empty() {
                        continue;
                    }
                    subscribe(&mut socket, id, &next.run, &next.cursor).await;
                    open.insert(id, String::new());
                }
                if open.is_empty() {
                    return;
                }
                let (id, event) = next(&mut socket).await;
                let Some(got) = open.get_mut(&id) else {
                    continue; // It was on its way when it was told to stop.
                };
                let tried = &some[id];
                let ends = event.is_none();
                if let Some(text) = event.as_ref().and_then(|event| event["text"].as_str()) {
                    let event = event.as_ref().expect("it has a text");
                    assert_eq!(
                        event["offset"],
                        tried.offset + units(got),
                        "{}",
                        tried.cursor
                    );
                    got.push_str(text);
                }
                if ends || (!to_end && got.len() >= tried.rest.len()) {
                    assert_eq!(*got, tried.rest, "after {}", tried.cursor);
                    open.remove(&id);
                    if !ends {
                        let stop = json!({ "id": id.to_string(), "type": "complete" });
                        socket.send(&stop).await.expect("an open socket");
                    }
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("what came after each cursor is the rest");
    }
}

fn tries(lines: &[Line]) -> Vec<Try> {
    let of = |line: &Line| {
        let (run, said) = (line.run.clone(), line.said.clone());
        line.places
            .clone()
            .into_iter()
            .map(move |(cursor, end)| Try {
                run: run.clone(),
                cursor,
                offset: units(&said[..end]),
                rest: said[end..].to_owned(),
            })
            .collect::<Vec<_>>()
    };
    lines.iter().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cursor_of_a_hundred_runs_is_good_before_and_after_folding() {
    let options = Options::default().with("WEFT_LIMITS__COST_BUCKET", "100000000");
    let mut scene = Scene::with(options).await;
    scene.provider.script(
        "weaver",
        Script::answer(|asked| {
            let tokens = expected_tokens(&asked.last_user_message(), TOKENS);
            let said = |token: &String| [Step::Delay(EVERY), Step::Text(token.clone())];
            let (first, rest) = tokens.split_at(TOKENS / 2);
            let gate = [Step::WaitFor("the rest".to_owned())];
            let first = first.iter().flat_map(said);
            Turn::of(first.chain(gate).chain(rest.iter().flat_map(said)))
        }),
    );
    let agent = scene.agent("weaver").await;
    let mut reading = Vec::new();
    for at in 0..SOCKETS {
        let (mut socket, mut lines) = (socket(&scene.client).await, Vec::new());
        for i in (at..RUNS).step_by(SOCKETS) {
            let prompt = format!("größe {i} 翻译 😀");
            let sent = scene.client.send_to_agent(&agent, &prompt).await;
            subscribe(&mut socket, lines.len(), &sent.run, &sent.cursor).await;
            let tokens = expected_tokens(&prompt, TOKENS);
            lines.push(Line {
                run: sent.run,
                whole: tokens.concat(),
                half: tokens[..TOKENS / 2].concat().len(),
                said: String::new(),
                places: vec![(sent.cursor, 0)],
                is_over: false,
            });
        }
        reading.push((socket, lines));
    }
    for (socket, lines) in &mut reading {
        read(socket, lines, |line| line.said.len() >= line.half).await;
    }

    // Under way: the other half is not said yet.
    let under_way: Vec<Try> = reading.iter().flat_map(|(_, lines)| tries(lines)).collect();
    println!("{} cursors of runs under way", under_way.len());
    resume(&scene.client, under_way, false).await;

    scene.provider.open_gate("the rest");
    for (socket, lines) in &mut reading {
        read(socket, lines, |line| line.is_over).await;
        for line in lines {
            assert_eq!(line.said, line.whole);
        }
    }
    let all = || {
        reading
            .iter()
            .flat_map(|(_, lines)| tries(lines))
            .collect::<Vec<_>>()
    };
    println!("{} cursors in all", all().len());
    // Some of them folded by now, others not.
    resume(&scene.client, all(), true).await;
    folded(&mut scene).await;
    resume(&scene.client, all(), true).await;
}

/// Until everything is stored anew.
async fn folded(scene: &mut Scene) {
    let Some(database) = scene.weft.database() else {
        // Done at each start, and at the end of each process.
        scene.weft.stop().await;
        scene.weft.restart().await;
        return;
    };
    support::wait::until(PATIENCE, "what was said is folded", async || {
        let left = database.sql("select count(*) from unfolded").await.ok()?;
        (left.trim() == "0").then_some(())
    })
    .await;
    let sql = "select count(*) from events where kind < 16 and originals is null";
    let single = database.sql(sql).await.expect("an answer");
    let sql = "select count(*) from events where kind < 16";
    let rows = database.sql(sql).await.expect("an answer");
    println!(
        "{} rows of text, {} of them of one piece",
        rows.trim(),
        single.trim()
    );
    let rows: usize = rows.trim().parse().expect("a number");
    assert!(rows <= 2 * RUNS, "{rows} rows");
}
