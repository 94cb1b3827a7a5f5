//! Almost valid requests and frames against a server of its own.
//!
//! `WEFT_BIN=… fuzz [SECONDS] [SEED]`: for 30 seconds where nothing is said, with a seed that is printed. Ends with 1 where
//! something was wrong, and says what.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use support::{
    fuzz::{self, Known},
    provider::Provider,
    server::{Options, Weft},
};

/// Documents that would end the session that the others need.
const NOT_SENT: &[&str] = &["SignOut", "SignIn", "RefreshSession", "RevokeSession"];

#[tokio::main]
#[expect(
    clippy::print_stdout,
    reason = "what was seen is this program's answer"
)]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64, what: &'static str| {
        let given = arguments.next().map(|text| text.parse().context(what));
        given.unwrap_or(Ok(default))
    };
    let seconds = number(30, "SECONDS is a number")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let seed = number(
        u64::from(now.subsec_nanos()) ^ now.as_secs(),
        "SEED is a number",
    )?;
    println!("seed {seed}, {seconds} s");

    let provider = Provider::start().await;
    let weft = Weft::start(options()).await;
    let mut owner = weft.client();
    owner.set_up().await;
    let quiet = {
        let mut quiet = weft.client();
        quiet
            .sign_in(
                support::client::OWNER_EMAIL,
                support::client::OWNER_PASSWORD,
            )
            .await;
        quiet
    };
    let model = owner
        .create_model("OPENAI_COMPATIBLE", &provider.base_url(), "tokens-3-0")
        .await;
    let agent = owner.create_agent("Weaver", &model).await;
    let sent = owner.send_to_agent(&agent, "Go").await;
    let known = Known {
        host: weft.address().to_string(),
        token: owner.token.clone().context("signed in")?,
        conversation: sent.conversation.clone(),
        documents: documents(&sent.conversation, &agent)?,
    };

    let resident = || {
        if weft.exit_status().is_some() {
            return u64::MAX;
        }
        weft.resident_bytes()
    };
    let time = Duration::from_secs(seconds);
    let before = weft.resident_bytes();
    let report = fuzz::run(&known, &quiet, seed, time, resident).await;
    println!(
        "{} cases, by status {:?}; the longest that somebody quiet waited: {:?}",
        report.cases, report.statuses, report.slowest
    );
    let mut faults = report.faults;
    if let Some(status) = weft.exit_status() {
        faults.push(format!("the server has ended: {status}"));
    } else {
        println!(
            "memory: {} MiB, then {} MiB",
            before >> 20,
            weft.resident_bytes() >> 20
        );
    }
    let output = weft.output();
    for line in output.lines() {
        if line.contains("panicked at") || line.contains(" ERROR ") {
            faults.push(format!("the log says: {line}"));
        }
    }
    for fault in faults.iter().take(40) {
        println!("{fault}");
    }
    ensure!(
        faults.is_empty(),
        "{} faults with seed {seed}",
        faults.len()
    );
    ensure!(report.cases > seconds, "only {} cases", report.cases);
    Ok(())
}

/// Limits at which cases are read, not turned away; the sizes stay.
fn options() -> Options {
    [
        ("COST_BUCKET", "1000000000"),
        ("COST_RESTORE_PER_S", "1000000000"),
        ("ADDRESS_COST_BUCKET", "1000000000"),
        ("MAX_CONNECTIONS_PER_USER", "1000"),
    ]
    .iter()
    .fold(Options::default(), |options, (name, value)| {
        options.with(&format!("WEFT_LIMITS__{name}"), *value)
    })
}

/// What the front end asks, and some that go to the edges of the language; with ids that are there.
fn documents(conversation: &str, agent: &str) -> anyhow::Result<Vec<(String, Value)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../it/operations");
    let mut fragments = String::new();
    for entry in std::fs::read_dir(folder.join("fragments"))? {
        fragments += &std::fs::read_to_string(entry?.path())?;
    }
    let ids = json!({
        "id": conversation, "conversationId": conversation, "agentId": agent, "first": 5, "after": null,
        "input": {"id": conversation, "conversationId": conversation, "text": "Go on", "title": "Warp", "agentId": agent},
    });
    let mut documents = vec![
        ("{ __typename }".to_owned(), json!({})),
        (
            "{ service { version limits { maxDepth } } viewer { user { id } } }".to_owned(),
            json!({}),
        ),
        (
            "query($n: Int = 2, $on: Boolean! = true) { agents(first: $n) @include(if: $on) { nodes { id name lastRun { id } } pageInfo { endCursor } totalCount } }".to_owned(),
            json!({"n": 3}),
        ),
        (
            "query($id: ID!) { node(id: $id) { __typename id ... on Conversation { title agent { name } } ... on Agent { name } } }".to_owned(),
            json!({"id": agent}),
        ),
        (
            "{ __schema { queryType { name fields { name args { name type { name ofType { name } } } } } } }".to_owned(),
            json!({}),
        ),
        (
            "subscription($id: ID!) { conversationEvents(conversationId: $id) { __typename cursor } }".to_owned(),
            json!({"id": conversation}),
        ),
        (
            "mutation($input: UpdateConversationInput!) { updateConversation(input: $input) { conversation { id title } errors { code message path } } }".to_owned(),
            json!({"input": {"id": conversation, "title": "Weft"}}),
        ),
    ];
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        if path.is_file() && name.is_some_and(|name| !NOT_SENT.contains(&name)) {
            let text = std::fs::read_to_string(&path)?;
            // fragments that nothing spreads are refused, so that some go without
            documents.push((text.clone(), ids.clone()));
            documents.push((spread_in(&text, &fragments), ids.clone()));
        }
    }
    Ok(documents)
}

/// A document with the fragments that it needs.
fn spread_in(text: &str, fragments: &str) -> String {
    let mut whole = text.to_owned();
    loop {
        let missing = fragments.split("fragment ").skip(1).find(|fragment| {
            let name = fragment.split(' ').next().unwrap_or_default();
            let spread = format!("...{name}");
            let is_spread = whole.split(&spread).skip(1).any(|rest| {
                !rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_')
            });
            is_spread && !whole.contains(&format!("fragment {name} "))
        });
        match missing {
            Some(fragment) => whole += &format!("fragment {fragment}"),
            None => return whole,
        }
    }
}
