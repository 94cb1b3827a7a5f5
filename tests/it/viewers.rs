//! Many who follow one conversation, and one who does not read what he is told.

#![expect(clippy::print_stdout, reason = "the figures are what one reads it for")]

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};
use support::{
    client::{Client, Frame, Sent, Socket, Viewers},
    provider::expected_text,
    server::Options,
};

use crate::scene::{PATIENCE, Scene};

const EVENTS: &str = "subscription ($id: ID!, $after: Cursor) { conversationEvents(conversationId: $id, after: $after) {
    __typename cursor
    ... on TextDelta { offset text }
    ... on MessageCompleted { message { role text author { name } } }
    ... on RunCompleted { run { status usage { outputTokens currency } } }
    ... on RunFailed { error { kind message } }
    ... on ConversationUpdated { conversation { title owner { name } } }
} }";

/// The same, and one field that is the viewer's own.
const OWN: &str = "subscription ($id: ID!, $after: Cursor) { conversationEvents(conversationId: $id, after: $after) {
    __typename cursor
    ... on TextDelta { offset text }
    ... on ConversationUpdated { conversation { title viewerAccess } }
} }";

/// Each event of what is followed in the same words is said to be made in the log, once for each time that it is.
fn talkative() -> Options {
    roomy().with("WEFT_LOG__FILTER", "warn,weft::graph::followers=trace")
}

fn roomy() -> Options {
    Options::default()
        .with("WEFT_LIMITS__MAX_CONNECTIONS_PER_USER", "1000")
        .with("WEFT_LIMITS__COST_BUCKET", "100000000")
}

/// What one viewer has seen.
#[derive(Debug, Default, Clone, PartialEq)]
struct Seen {
    cursors: Vec<String>,
    /// By the kinds that are told one by one.
    others: Vec<Value>,
    text: String,
}

/// Takes an event in, which must follow what was seen; answers its kind.
fn see(seen: &mut Seen, payload: &Value) -> String {
    assert!(payload["errors"].is_null(), "{payload}");
    let event = &payload["data"]["conversationEvents"];
    let kind = text(&event["__typename"]);
    seen.cursors.push(text(&event["cursor"]));
    if kind == "TextDelta" {
        let length = seen.text.encode_utf16().count();
        assert_eq!(event["offset"], json!(length), "a gap or a repeat: {event}");
        seen.text
            .push_str(event["text"].as_str().unwrap_or_default());
    } else {
        seen.others.push(event.clone());
    }
    kind
}

/// Takes an event in; whether it gives the conversation this title. A model may give it one of its own before.
fn renamed(seen: &mut Seen, payload: &Value, title: &str) -> bool {
    see(seen, payload) == "ConversationUpdated"
        && payload["data"]["conversationEvents"]["conversation"]["title"] == title
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

struct Talk {
    scene: Scene,
    /// Of one user, by his session and by a key of his.
    clients: [Client; 2],
    /// The conversation, and where its log stood after its first turn.
    first: Sent,
    cursor: String,
}

async fn talk(options: Options, model: &str) -> Talk {
    let scene = Scene::with(options).await;
    let agent = scene.agent(model).await;
    let create = "mutation ($input: CreateApiKeyInput!) { createApiKey(input: $input) { secret errors { message } } }";
    let input = json!({ "input": { "name": "another", "kind": "PERSONAL" } });
    let key = text(&scene.client.done(create, input).await["secret"]);
    let clients = [scene.client.clone(), scene.client.with_token(Some(&key))];
    let first = scene.client.send_to_agent(&agent, "first").await;
    scene.ended(&first.run).await;
    let document = "query ($id: ID!) { conversation(id: $id) { cursor } }";
    let variables = json!({ "id": first.conversation });
    let cursor = text(&scene.client.ok(document, variables).await["conversation"]["cursor"]);
    Talk {
        scene,
        clients,
        first,
        cursor,
    }
}

impl Talk {
    fn variables(&self) -> Value {
        json!({ "id": self.first.conversation, "after": self.cursor })
    }

    async fn rename(&self, title: &str) {
        let update = "mutation ($input: UpdateConversationInput!) { updateConversation(input: $input) { errors { message } } }";
        let input = json!({ "input": { "id": self.first.conversation, "title": title } });
        self.scene.client.done(update, input).await;
    }

    /// How often an event was made so far.
    fn made(&self) -> usize {
        self.scene
            .weft
            .output()
            .lines()
            .filter(|line| line.contains("an event is made"))
            .count()
    }

    async fn seat(&self, sockets: usize, each: usize, document: &str) -> Viewers {
        let mut viewers =
            Viewers::seat(&self.clients, sockets, each, document, &self.variables()).await;
        // What all of them see last: from here on they follow live. A title of its own, as they read what was before, too.
        let title = format!("{} viewers", viewers.count());
        self.rename(&title).await;
        viewers
            .read(move |seen: &mut Seen, payload| renamed(seen, payload, &title))
            .await;
        viewers
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_thousand_follow_in_the_same_words_is_made_once() {
    const TOKENS: usize = 25;
    let talk = talk(talkative(), &format!("tokens-{TOKENS}-20")).await;
    let mut made = BTreeMap::new();
    for (sockets, each) in [(2, 5), (50, 40)] {
        let mut viewers = talk.seat(sockets, each, EVENTS).await;
        let (before, begun) = (talk.made(), Instant::now());
        talk.scene
            .client
            .send_to_conversation(&talk.first.conversation, "Say it to all.")
            .await;
        let all = viewers
            .read(|seen: &mut Seen, payload| see(seen, payload) == "RunCompleted")
            .await;
        let took = begun.elapsed();
        assert_eq!(all.len(), viewers.count());
        let distinct: HashSet<&String> = all.iter().flat_map(|seen| &seen.cursors).collect();
        for seen in &all {
            assert_eq!(seen.text, expected_text("Say it to all.", TOKENS));
            assert_eq!(seen.others, all[0].others);
            let own: HashSet<&String> = seen.cursors.iter().collect();
            assert_eq!(own.len(), seen.cursors.len(), "an event twice");
        }
        let times = talk.made() - before;
        println!(
            "{} viewers: {} events made {times} times, {took:?}",
            all.len(),
            distinct.len()
        );
        // One may be made anew where it is told alone to one and joined with the next to another.
        assert!(times <= distinct.len() * 2, "made {times} times");
        made.insert(viewers.count(), times);
    }
    let (few, many) = (made[&10], made[&2000]);
    assert!(many <= few * 2, "{made:?}");
}

/// As when a server is back, and all who followed it are.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_who_begin_at_once_are_all_let_in_and_leave_room_for_others() {
    let talk = talk(roomy(), "tokens-5-0").await;
    let mut viewers = Viewers::open(&talk.clients, 25).await;
    // With a cursor, so that each has something to read.
    let variables = json!({ "id": talk.first.conversation, "after": talk.first.cursor });
    viewers.subscribe(40, EVENTS, &variables).await;
    let end = viewers.read(|seen: &mut Seen, payload| see(seen, payload) == "RunCompleted");
    let mut end = std::pin::pin!(end);
    let mut slowest = Duration::ZERO;
    let all = loop {
        let begun = Instant::now();
        // answered with all that was asked for, or the test fails
        let asked = talk
            .scene
            .client
            .ok("{ agents(first: 1) { nodes { id } } }", json!({}));
        tokio::select! {
            all = &mut end => break all,
            _ = asked => slowest = slowest.max(begun.elapsed()),
        }
    };
    println!(
        "beside {} who begin a request takes at most {slowest:?}",
        all.len()
    );
    for seen in &all {
        assert_eq!(seen.text, expected_text("first", 5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_depends_on_who_asks_is_made_for_each_credential() {
    let talk = talk(talkative(), "tokens-5-0").await;
    let mut viewers = talk.seat(4, 5, OWN).await;
    let before = talk.made();
    talk.rename("another").await;
    let all = viewers
        .read(|seen: &mut Seen, payload| renamed(seen, payload, "another"))
        .await;
    assert_eq!(all.len(), 20);
    for seen in &all {
        let told = &seen.others[0]["conversation"];
        assert_eq!(
            (&told["title"], &told["viewerAccess"]),
            (&json!("another"), &json!("MANAGE"))
        );
    }
    assert_eq!(
        talk.made() - before,
        2,
        "one for the session, one for the key"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_joins_leaves_or_comes_back_gets_each_event_once() {
    const TOKENS: usize = 300;
    let talk = talk(roomy(), &format!("tokens-{TOKENS}-5")).await;
    let _watching = talk.seat(2, 10, EVENTS).await;
    let sent = talk
        .scene
        .client
        .send_to_conversation(&talk.first.conversation, "Come and go.")
        .await;
    let come_and_go = (0..12).map(|at| {
        let client = talk.clients[at % 2].clone();
        let (id, mut after, run) = (
            talk.first.conversation.clone(),
            sent.cursor.clone(),
            sent.run.clone(),
        );
        async move {
            let mut seen = Seen::default();
            let mut stay = 1 + at;
            loop {
                // by the same words, or alone among the run's events
                let variables = json!({ "id": id, "after": after });
                let mut events = client.subscribe(EVENTS, variables).await;
                for _ in 0..stay {
                    let Some(data) = events.next(PATIENCE).await else {
                        panic!("{run}: ended: {:?}", events.ended())
                    };
                    if see(&mut seen, &json!({ "data": data })) == "RunCompleted" {
                        return seen;
                    }
                }
                after.clone_from(seen.cursors.last().unwrap());
                stay = stay * 2 % 61 + 1;
            }
        }
    });
    for seen in join_all(come_and_go).await {
        assert_eq!(seen.text, expected_text("Come and go.", TOKENS));
        let own: HashSet<&String> = seen.cursors.iter().collect();
        assert_eq!(own.len(), seen.cursors.len(), "an event twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_conversation_is_told_to_each_with_his_own_request() {
    let talk = talk(roomy(), "tokens-5-0").await;
    let mut socket = Socket::open(&talk.scene.weft.url()).await.unwrap();
    talk.scene.client.initialise(&mut socket).await;
    let payload = json!({ "query": EVENTS, "variables": talk.variables() });
    for id in ["a", "b"] {
        socket
            .send(&json!({ "id": id, "type": "subscribe", "payload": payload }))
            .await
            .unwrap();
    }
    talk.rename("soon gone").await;
    let mut told = 0;
    while told < 2 {
        let Frame::Message(message) = socket.receive(PATIENCE).await else {
            panic!("no message")
        };
        assert_eq!(message["type"], "next", "{message}");
        let conversation = &message["payload"]["data"]["conversationEvents"]["conversation"];
        told += usize::from(conversation["title"] == "soon gone");
    }
    let delete = "mutation ($input: DeleteConversationInput!) { deleteConversation(input: $input) { errors { message } } }";
    let input = json!({ "input": { "id": talk.first.conversation } });
    talk.scene.client.done(delete, input).await;
    let mut requests = HashSet::new();
    for _ in 0..2 {
        let Frame::Message(told) = socket.receive(PATIENCE).await else {
            panic!("no message")
        };
        assert_eq!(told["type"], "error", "{told}");
        let error = &told["payload"][0];
        assert_eq!(error["extensions"]["code"], "NOT_FOUND", "{told}");
        assert_eq!(error["path"], json!(["conversationEvents"]), "{told}");
        requests.insert(error["extensions"]["requestId"].to_string());
    }
    assert_eq!(requests.len(), 2);
}

/// How long each piece of text took from the server to a reader, in order of length; and how many came.
async fn latencies(talk: &Talk, agent: &str, conversations: usize) -> Vec<Duration> {
    let reading = (0..conversations).map(|at| async move {
        let sent = talk
            .scene
            .client
            .send_to_agent(agent, &format!("Conversation {at}"))
            .await;
        let document = "subscription ($id: ID!, $after: Cursor) { conversationEvents(conversationId: $id, after: $after) { __typename at } }";
        let variables = json!({ "id": sent.conversation, "after": sent.cursor });
        let mut events = talk.scene.client.subscribe(document, variables).await;
        let mut took = Vec::new();
        loop {
            let Some(data) = events.next(PATIENCE).await else {
                panic!("ended: {:?}", events.ended())
            };
            let event = &data["conversationEvents"];
            match event["__typename"].as_str().unwrap_or_default() {
                "TextDelta" => {
                    let at: DateTime<Utc> = text(&event["at"]).parse().expect("a time");
                    took.push((Utc::now() - at).to_std().unwrap_or_default());
                }
                "RunCompleted" => return took,
                _ => {}
            }
        }
    });
    let mut all: Vec<Duration> = join_all(reading).await.into_iter().flatten().collect();
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_reads_holds_up_nobody_and_holds_little() {
    let talk = talk(roomy(), "tokens-5-0").await;
    let agent = talk.scene.agent("tokens-200-10").await;
    let conversations = 8;
    latencies(&talk, &agent, conversations).await;
    // an answer that is more than what any buffer takes in, told to somebody who reads nothing of it
    let long = talk.scene.agent("tokens-40000-0").await;
    let begin = async || talk.scene.client.send_to_agent(&long, "A long one.").await;
    let alone = begin().await;
    let without = latencies(&talk, &agent, conversations).await;
    talk.scene.ended(&alone.run).await;

    let before = talk.scene.weft.resident_bytes();
    let begun = begin().await;
    let mut deaf = Socket::open_narrow(talk.scene.weft.address()).await;
    talk.scene.client.initialise(&mut deaf).await;
    let variables = json!({ "id": begun.conversation, "after": begun.cursor });
    for id in 0..40 {
        let payload = json!({ "query": EVENTS, "variables": variables });
        deaf.send(&json!({ "id": id.to_string(), "type": "subscribe", "payload": payload }))
            .await
            .unwrap();
    }
    let with = latencies(&talk, &agent, conversations).await;
    talk.scene.ended(&begun.run).await;
    let grown = talk.scene.weft.resident_bytes().saturating_sub(before);
    let p99 = |all: &[Duration]| all[all.len() * 99 / 100];
    println!(
        "p99 of {} without: {:?}, of {} beside it: {:?}; memory: {} KiB more",
        without.len(),
        p99(&without),
        with.len(),
        p99(&with),
        grown / 1024
    );
    assert!(grown < 20 * 1024 * 1024, "{grown} bytes more");
    // A slow build, on a machine that does other things, too: who is held up waits for as long as the other does not read. The
    // exact figure is the benchmark's.
    assert!(p99(&with) < p99(&without) * 3 + Duration::from_secs(1));
    drop(deaf);
}
