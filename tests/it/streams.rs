//! Subscriptions over HTTP: the same events by the same cursors as over a socket, whatever happens to the connection.

use serde_json::{Value, json};
use support::{
    client::{Client, Form, Frame, Next, OWNER_EMAIL, OWNER_PASSWORD, Socket, Stream},
    provider::expected_text,
    server::{Options, Weft},
};

use crate::scene::{PATIENCE, Scene};

const RUN: &str =
    "subscription ($run: ID!, $after: Cursor) { runEvents(runId: $run, after: $after) {
    __typename cursor at ... on TextDelta { offset text } } }";
/// In fragments.
const CONVERSATION: &str = "subscription S($id: ID!) { ...Root }
    fragment Root on Subscription { conversationEvents(conversationId: $id) { ...Event } }
    fragment Event on ConversationEvent { __typename cursor ... on TextDelta { offset text } }";
const CHANGES: &str = "subscription { changes { __typename cursor id } }";

/// Everything up to the end, which has to be a good one: cursors beside the events, and the events.
async fn whole(mut stream: Stream, field: &str) -> Vec<(Option<String>, Value)> {
    let mut all = Vec::new();
    loop {
        match stream.next(PATIENCE).await {
            Next::Answer(cursor, mut answer) => {
                assert!(answer["errors"].is_null(), "{answer}");
                all.push((cursor, answer["data"][field].take()));
            }
            Next::Complete => return all,
            Next::Broken => panic!("broken off after {all:?}"),
        }
    }
}

async fn begin(
    client: &Client,
    form: Form,
    document: &str,
    variables: Value,
    after: Option<&str>,
) -> Stream {
    let stream = client.stream(form, document, variables, after).await;
    stream.unwrap_or_else(|answer| panic!("{}: {}", answer.status, answer.text()))
}

async fn answer(stream: &mut Stream) -> (Option<String>, Value) {
    match stream.next(PATIENCE).await {
        Next::Answer(cursor, answer) => (cursor, answer),
        other => panic!("no answer, but {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_cursor_is_good_on_every_way() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-40-1").await;
    let sent = scene.client.send_to_agent(&agent, "hello").await;
    let variables = json!({"run": sent.run});
    let begin = |form, after: Option<String>| {
        let (client, variables) = (scene.client.clone(), variables.clone());
        async move { begin(&client, form, RUN, variables, after.as_deref()).await }
    };
    let events = whole(begin(Form::Events, None).await, "runEvents").await;
    let parts = whole(begin(Form::Parts, None).await, "runEvents").await;
    let plain = |all: &[(Option<String>, Value)]| -> Vec<Value> {
        all.iter().map(|(_, event)| event.clone()).collect()
    };
    let said = |all: &[Value]| -> String {
        all.iter()
            .filter_map(|event| event["text"].as_str())
            .collect()
    };
    assert_eq!(said(&plain(&events)), expected_text("hello", 40));
    assert_eq!(said(&plain(&parts)), expected_text("hello", 40));
    for (cursor, event) in &events {
        assert_eq!(cursor.as_deref(), event["cursor"].as_str(), "{event}");
    }
    assert!(parts.iter().all(|(cursor, _)| cursor.is_none()));
    // after each of them, by each way, the rest: its text to the letter
    for (cursor, _) in events.iter().step_by(7) {
        let cursor = cursor.clone().expect("a cursor");
        let at = events
            .iter()
            .position(|(other, _)| other.as_deref() == Some(cursor.as_str()));
        let rest = said(&plain(&events[at.expect("there") + 1..]));
        let resumed = whole(begin(Form::Events, Some(cursor.clone())).await, "runEvents").await;
        assert_eq!(said(&plain(&resumed)), rest);
        let variables = json!({"run": sent.run, "after": cursor});
        let mut socket = scene.client.subscribe(RUN, variables.clone()).await;
        let mut told = Vec::new();
        while let Some(data) = socket.next(PATIENCE).await {
            told.push(data["runEvents"].clone());
        }
        assert_eq!(said(&told), rest);
        // what the header says goes before the variable
        let first = events[0].0.clone();
        let client = &scene.client;
        let stream = client
            .stream(Form::Events, RUN, variables, first.as_deref())
            .await;
        let all = whole(stream.expect("a stream"), "runEvents").await;
        assert_eq!(said(&plain(&all)), expected_text("hello", 40));
    }
    let wrong = scene
        .client
        .stream(Form::Events, RUN, variables.clone(), Some("nonsense"))
        .await;
    let mut wrong = wrong.expect("a stream");
    let (_, refused) = answer(&mut wrong).await;
    assert_eq!(
        refused["errors"][0]["extensions"]["code"], "INVALID_INPUT",
        "{refused}"
    );
    assert_eq!(wrong.next(PATIENCE).await, Next::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_after_its_server_was_killed() {
    let mut scene = Scene::new().await;
    let agent = scene.agent("tokens-60-20").await;
    let sent = scene.client.send_to_agent(&agent, "hello").await;
    let variables = json!({"id": sent.conversation});
    let mut stream = begin(
        &scene.client,
        Form::Events,
        CONVERSATION,
        variables.clone(),
        Some(&sent.cursor),
    )
    .await;
    let (mut said, mut last, mut seen) = (String::new(), None, Vec::new());
    while said.len() < 40 {
        let (cursor, event) = answer(&mut stream).await;
        seen.push(cursor.clone());
        last = cursor;
        said += event["data"]["conversationEvents"]["text"]
            .as_str()
            .unwrap_or_default();
    }
    scene.weft.kill9();
    while stream.next(PATIENCE).await != Next::Broken {}
    scene.weft.restart().await;
    let mut stream = begin(
        &scene.client,
        Form::Events,
        CONVERSATION,
        variables,
        last.as_deref(),
    )
    .await;
    loop {
        let (cursor, event) = answer(&mut stream).await;
        assert!(!seen.contains(&cursor), "told twice: {event}");
        seen.push(cursor);
        let event = &event["data"]["conversationEvents"];
        match event["__typename"].as_str() {
            // the step is said again from its beginning
            Some("StepRestarted") => said.clear(),
            Some("TextDelta") => said += event["text"].as_str().unwrap_or_default(),
            Some("RunCompleted") => break,
            Some("RunFailed") => panic!("{event}"),
            _ => {}
        }
    }
    assert_eq!(said, expected_text("hello", 60));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_with_their_cursors_too() {
    let scene = Scene::new().await;
    let mut stream = begin(&scene.client, Form::Events, CHANGES, json!({}), None).await;
    let mut ids = Vec::new();
    for name in ["tokens-1-1", "tokens-1-2"] {
        ids.push(scene.agent(name).await);
    }
    let mut told: Vec<Value> = Vec::new();
    while !ids
        .iter()
        .all(|id| told.iter().any(|event| event["id"] == **id))
    {
        let (cursor, mut event) = answer(&mut stream).await;
        let event = event["data"]["changes"].take();
        assert_eq!(cursor.as_deref(), event["cursor"].as_str(), "{event}");
        told.push(event);
    }
    let first = told[0]["cursor"].as_str();
    let mut again = begin(&scene.client, Form::Events, CHANGES, json!({}), first).await;
    let (_, event) = answer(&mut again).await;
    assert_eq!(event["data"]["changes"]["id"], told[1]["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_signed_out_is_told_nothing_more() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-1-1").await;
    let sent = scene.client.send_to_agent(&agent, "hello").await;
    scene.ended(&sent.run).await;
    let mut signed_in = scene.weft.client();
    signed_in.sign_in(OWNER_EMAIL, OWNER_PASSWORD).await;
    let mut streams = Vec::new();
    for form in [Form::Events, Form::Parts] {
        let document = "subscription ($id: ID!, $after: Cursor) { conversationEvents(conversationId: $id, after: $after) { cursor } }";
        let variables = json!({"id": sent.conversation, "after": sent.cursor});
        let mut stream = begin(&signed_in, form, document, variables, None).await;
        answer(&mut stream).await;
        streams.push(stream);
    }
    let sign_out = "mutation { signOut(input: {}) { errors { code message } } }";
    signed_in.done(sign_out, json!({})).await;
    for mut stream in streams {
        let end = loop {
            match stream.next(PATIENCE).await {
                Next::Answer(..) => {}
                end => break end,
            }
        };
        assert_eq!(end, Next::Broken);
    }
    let refused = signed_in
        .stream(Form::Events, CHANGES, json!({}), None)
        .await;
    assert_eq!(refused.expect_err("no stream").status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_trusted_documents_where_they_are_required() {
    let folder = tempfile::tempdir().expect("a folder");
    let document = "query Name { service { name } }";
    std::fs::write(folder.path().join("name.graphql"), document).expect("a file");
    let options = Options::default()
        .with(
            "WEFT_TRUSTED_DOCUMENTS__FOLDER",
            folder.path().to_str().expect("UTF-8"),
        )
        .with("WEFT_TRUSTED_DOCUMENTS__MODE", "require");
    let weft = Weft::start(options).await;
    let client = weft.client();
    // of `document`, by sha256sum
    let digest = "7a4c70c996f31eff3d8ff340c37f5a369569e479fb9b4ccc512ce3af5c90bab7";
    let ask = |body: Value| {
        let request = client.request(reqwest::Method::POST, "/graphql");
        let request = request
            .header("accept", "application/graphql-response+json")
            .json(&body);
        client.send(request)
    };
    for body in [
        json!({"documentId": format!("sha256:{digest}")}),
        json!({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": digest}}}),
        json!({"query": document}),
    ] {
        let answer = ask(body.clone()).await;
        assert_eq!(
            answer.json()["data"]["service"]["name"],
            "Weft",
            "{body}: {}",
            answer.text()
        );
    }
    for query in [
        "{ service { name } }",
        "{ not a document",
        "{ __schema { types { name } } }",
    ] {
        let answer = ask(json!({ "query": query })).await;
        let code = answer.json()["errors"][0]["extensions"]["code"].clone();
        assert_eq!((answer.status, code), (403, json!("FORBIDDEN")), "{query}");
    }
    let other = ask(json!({"documentId": format!("sha256:{}", "0".repeat(64))})).await;
    assert_eq!(
        (
            other.status,
            other.text().contains("PersistedQueryNotFound")
        ),
        (404, true)
    );
    let mut socket = Socket::open(client.base()).await.expect("a socket");
    socket.initialise(None).await.expect("taken in");
    for (payload, kind) in [
        (json!({"documentId": format!("sha256:{digest}")}), "next"),
        (json!({"query": "{ service { name } }"}), "error"),
    ] {
        let id = kind;
        socket
            .send(&json!({"id": id, "type": "subscribe", "payload": payload}))
            .await
            .expect("sent");
        loop {
            let Frame::Message(message) = socket.receive(PATIENCE).await else {
                continue;
            };
            if message["id"] == id {
                assert_eq!(message["type"], kind, "{message}");
                break;
            }
        }
    }
}
