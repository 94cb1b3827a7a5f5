//! How long an answer takes tells nothing of what another tenant has.

#![expect(clippy::print_stdout, reason = "what was measured is worth knowing")]

use std::time::{Duration, Instant};

use serde_json::json;
use support::{client::Client, server::Options};

use crate::scene::Scene;

/// Times that each is asked for.
const PAIRS: usize = 2_000;
/// Questions before those that count.
const FIRST: usize = 200;
/// The medians may differ by this much, in hundredths.
const HUNDREDTHS: f64 = 5.0;
/// How often it is measured anew where something else on the machine came between.
const TRIES: usize = 3;

/// The id of nothing that looks like this one.
fn nothing_like(id: &str) -> String {
    let (kind, rest) = id.split_once('_').expect("an id has a kind");
    let (time, chance) = rest.split_at(rest.len() - 12);
    let turned: String = chance.chars().rev().collect();
    assert_ne!(chance, turned);
    format!("{kind}_{time}{turned}")
}

async fn took(client: &Client, id: &str) -> Duration {
    let begun = Instant::now();
    let found = client
        .ok(
            "query ($id: ID!) { node(id: $id) { id } }",
            json!({ "id": id }),
        )
        .await;
    let took = begun.elapsed();
    assert!(found["node"].is_null(), "{found}");
    took
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

/// By how many hundredths the medians differ. One connection, and each of the two comes first as often as the other.
async fn difference(client: &Client, theirs: &str, nothing: &str) -> f64 {
    let (mut of_theirs, mut of_nothing) = (Vec::new(), Vec::new());
    for at in 0..FIRST + PAIRS {
        let (first, second);
        if at % 2 == 0 {
            first = took(client, theirs).await;
            second = took(client, nothing).await;
        } else {
            second = took(client, nothing).await;
            first = took(client, theirs).await;
        }
        if at >= FIRST {
            of_theirs.push(first);
            of_nothing.push(second);
        }
    }
    let (theirs, nothing) = (median(of_theirs), median(of_nothing));
    let ratio = theirs.as_secs_f64() / nothing.as_secs_f64();
    println!("another tenant's: {theirs:?}, nothing: {nothing:?}, ratio {ratio:.3}");
    (ratio - 1.0).abs() * 100.0
}

#[tokio::test(flavor = "multi_thread")]
async fn anothers_takes_as_long_as_nothing() {
    let options = Options::default().with("WEFT_LIMITS__COST_BUCKET", "1000000000");
    let scene = Scene::with(options).await;
    let stranger = scene.stranger().await;
    let agent = "mutation { createAgent(input: { name: \"Theirs\", instructions: \"Weave.\" }) { agent { id } errors { code message } } }";
    let agent = stranger.done(agent, json!({})).await["agent"]["id"].clone();
    let theirs = agent.as_str().expect("an id");
    let nothing = nothing_like(theirs);
    let mut differences = Vec::new();
    while differences.len() < TRIES {
        let difference = difference(&scene.client, theirs, &nothing).await;
        if difference <= HUNDREDTHS {
            return;
        }
        println!(
            "{difference:.1} hundredths: measured anew, as other work on this machine comes between"
        );
        differences.push(difference);
    }
    panic!("they differ by {differences:.1?} hundredths");
}
