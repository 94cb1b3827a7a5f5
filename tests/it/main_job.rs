//! The main job: talk to an agent and watch the answer, whatever happens to the connection.

use serde_json::{Value, json};
use support::{
    client::Follower,
    provider::{Step, Turn, expected_text},
    server::{Options, Weft},
};

use crate::scene::{PATIENCE, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_streams_and_equals_the_finished_message() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-80-2").await;
    let sent = scene.client.send_to_agent(&agent, "hello").await;
    let mut follower = Follower::new(&scene.client, &sent.conversation, Some(&sent.cursor)).await;
    assert_eq!(
        follower.until_end_of(&sent.run, PATIENCE).await.unwrap(),
        "RunCompleted"
    );
    follower.transcript.assert_faultless();
    let mut kinds = follower.transcript.kinds(&sent.run);
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "MessageCreated",
            "RunQueued",
            "RunStarted",
            "MessageCreated",
            "StepStarted",
            "TextDelta",
            "StepFinished",
            "MessageCompleted",
            "RunCompleted"
        ]
    );
    let run = scene.run(&sent.run).await;
    assert_eq!(run["output"]["text"], json!(expected_text("hello", 80)));
    assert_eq!(
        follower.transcript.said(&sent.run),
        expected_text("hello", 80)
    );
    // and everything once more from the beginning, a week later
    let mut again = Follower::new(&scene.client, &sent.conversation, Some(&sent.cursor)).await;
    again.until_end_of(&sent.run, PATIENCE).await.unwrap();
    assert_eq!(again.transcript.said(&sent.run), expected_text("hello", 80));
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_the_box_there_is_a_model() {
    let weft = Weft::start(Options::default()).await;
    let mut client = weft.client();
    client.set_up().await;
    let models = client
        .ok(
            "{ models { nodes { id name provider isDefault } } }",
            json!({}),
        )
        .await;
    assert_eq!(models["models"]["nodes"][0]["provider"], "BUILTIN");
    assert_eq!(models["models"]["nodes"][0]["isDefault"], true);
    let agent = client
        .done(
            "mutation { createAgent(input: { name: \"Quoter\", instructions: \"Quote.\" }) { agent { id model { provider } } errors { code message } } }",
            json!({}),
        )
        .await;
    let agent = agent["agent"]["id"].as_str().unwrap().to_owned();
    let first = client
        .send_to_agent(
            &agent,
            "The loom was invented long ago. Weft threads cross the warp.",
        )
        .await;
    let mut follower = Follower::new(&client, &first.conversation, Some(&first.cursor)).await;
    follower.until_end_of(&first.run, PATIENCE).await.unwrap();
    let second = client
        .send_to_conversation(&first.conversation, "What crosses the warp?")
        .await;
    assert_eq!(
        follower.until_end_of(&second.run, PATIENCE).await.unwrap(),
        "RunCompleted"
    );
    assert!(
        follower
            .transcript
            .said(&second.run)
            .contains("cross the warp"),
        "{}",
        follower.transcript.said(&second.run)
    );
    follower.transcript.assert_faultless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_and_its_cursor_fit_together() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-120-5").await;
    let sent = scene.client.send_to_agent(&agent, "snap").await;
    let document = "query ($id: ID!) { conversation(id: $id) { cursor messages(last: 1) { nodes { id status text parts { __typename ... on TextPart { text } } } } } }";
    for _ in 0..20 {
        let data = scene
            .client
            .ok(document, json!({ "id": sent.conversation }))
            .await;
        let (message, cursor) = (
            &data["conversation"]["messages"]["nodes"][0],
            data["conversation"]["cursor"].as_str().unwrap(),
        );
        let seen = message["text"].as_str().unwrap().to_owned();
        if message["status"] != "STREAMING" || seen.is_empty() {
            continue;
        }
        // what comes after the cursor is exactly what is missing
        let mut subscription = scene
            .client
            .subscribe(
                "subscription ($id: ID!, $after: Cursor) { conversationEvents(conversationId: $id, after: $after) { __typename ... on TextDelta { offset text } } }",
                json!({ "id": sent.conversation, "after": cursor }),
            )
            .await;
        let events = subscription
            .until(|event| {
                let kind = &event["conversationEvents"]["__typename"];
                kind == "TextDelta" || kind == "RunCompleted"
            })
            .await;
        let delta = &events.last().unwrap()["conversationEvents"];
        if delta["__typename"] == "RunCompleted" {
            // It had said all by then.
            assert_eq!(seen, expected_text("snap", 120));
            break;
        }
        assert_eq!(
            delta["offset"].as_u64(),
            Some(seen.encode_utf16().count() as u64)
        );
        assert!(
            expected_text("snap", 120)
                .starts_with(&format!("{seen}{}", delta["text"].as_str().unwrap()))
        );
        subscription.close().await;
    }
    scene.ended(&sent.run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_followed_to_its_end_and_no_further() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-20-2").await;
    let sent = scene.client.send_to_agent(&agent, "once").await;
    let document = "subscription ($run: ID!, $after: Cursor) { runEvents(runId: $run, after: $after) { __typename cursor } }";
    let mut subscription = scene
        .client
        .subscribe(document, json!({ "run": sent.run, "after": null }))
        .await;
    let mut last = None;
    while let Some(event) = subscription.next(PATIENCE).await {
        last = Some(event["runEvents"].clone());
    }
    let last = last.unwrap();
    assert_eq!(last["__typename"], "RunCompleted");
    // after its end there is nothing, and that is said at once
    let mut after = scene
        .client
        .subscribe(
            document,
            json!({ "run": sent.run, "after": last["cursor"] }),
        )
        .await;
    assert_eq!(after.next(PATIENCE).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic_is_spoken_too() {
    let scene = Scene::new().await;
    scene.provider.script(
        "claude",
        vec![
            Turn::of([
                Step::Reasoning("Hmm.".into()),
                Step::Text("Let me see.".into()),
                Step::ToolCall {
                    index: 0,
                    id: "t1".into(),
                    name: "look".into(),
                },
                Step::ToolArguments {
                    index: 0,
                    text: "{\"at\":".into(),
                },
                Step::ToolArguments {
                    index: 0,
                    text: "\"it\"}".into(),
                },
                Step::Finish("tool_use".into()),
            ]),
            Turn::text("There is nothing to see."),
        ],
    );
    let base = scene.provider.base_url();
    let model = scene
        .client
        .create_model("ANTHROPIC", &base, "claude")
        .await;
    let agent = scene.client.create_agent("Claude", &model).await;
    let sent = scene.client.send_to_agent(&agent, "look").await;
    let run = scene.ended(&sent.run).await;
    assert_eq!(run["status"], "COMPLETED", "{run:#}");
    assert_eq!(run["output"]["text"], "Let me see.There is nothing to see.");
    let parts: Vec<_> = run["output"]["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["__typename"].as_str().unwrap())
        .collect();
    assert_eq!(
        parts,
        ["ReasoningPart", "TextPart", "ToolCallPart", "TextPart"]
    );
    assert_eq!(
        run["toolCalls"],
        json!([{ "name": "look", "status": "FAILED" }])
    );
    let calls = scene.provider.calls_of("claude");
    assert!(
        calls
            .iter()
            .all(|call| call.headers.get("x-api-key").map(String::as_str) == Some("sk-scripted"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn so_are_gemini_azure_and_ollama() {
    let scene = Scene::new().await;
    let arguments = |text: &str| Step::ToolArguments {
        index: 0,
        text: text.into(),
    };
    for (provider, header, key, replayed) in [
        (
            "GEMINI",
            "x-goog-api-key",
            "sk-scripted",
            json!({ "functionCall": { "id": "t1", "name": "look", "args": { "at": "it" } }, "thoughtSignature": "c2lnbmVk" }),
        ),
        (
            "AZURE_OPENAI",
            "api-key",
            "sk-scripted",
            json!({ "id": "t1", "type": "function", "function": { "name": "look", "arguments": "{\"at\":\"it\"}" } }),
        ),
        (
            "OLLAMA",
            "authorization",
            "Bearer sk-scripted",
            json!({ "id": "t1", "function": { "name": "look", "arguments": { "at": "it" } } }),
        ),
    ] {
        let name = format!("by {}", provider.to_lowercase().replace('_', " "));
        scene.provider.script(
            &name,
            vec![
                Turn::of([
                    Step::Reasoning("Hmm.".into()),
                    Step::Text("Let me see.".into()),
                    Step::ToolCall {
                        index: 0,
                        id: "t1".into(),
                        name: "look".into(),
                    },
                    arguments("{\"at\":"),
                    arguments("\"it\"}"),
                ]),
                Turn::text("There is nothing to see."),
            ],
        );
        let base = scene.provider.base_url();
        let model = scene.client.create_model(provider, &base, &name).await;
        let agent = scene.client.create_agent(provider, &model).await;
        let sent = scene.client.send_to_agent(&agent, "look").await;
        let run = scene.ended(&sent.run).await;
        assert_eq!(run["status"], "COMPLETED", "{provider}: {run:#}");
        assert_eq!(run["output"]["text"], "Let me see.There is nothing to see.");
        let parts = run["output"]["parts"].as_array().unwrap().iter();
        let parts: Vec<_> = parts
            .map(|part| part["__typename"].as_str().unwrap())
            .collect();
        assert_eq!(
            parts,
            ["ReasoningPart", "TextPart", "ToolCallPart", "TextPart"],
            "{provider}"
        );
        let calls = scene.provider.calls_of(&name);
        assert_eq!(calls.len(), 2, "{provider}");
        for call in &calls {
            assert_eq!(call.headers.get(header).map(String::as_str), Some(key));
            assert!(!call.query.contains("sk-"), "{}", call.query);
        }
        // the call goes back as it was made
        let said = &calls[1].body;
        assert!(holds(said, &replayed), "{provider}: {said:#}");
    }
}

/// Whether a value is wanted, or one within it.
fn holds(value: &Value, wanted: &Value) -> bool {
    let within = match value {
        Value::Array(items) => items.iter().any(|item| holds(item, wanted)),
        Value::Object(fields) => fields.values().any(|field| holds(field, wanted)),
        _ => false,
    };
    within || value == wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_a_conversation_is_told_when_it_is_deleted() {
    let scene = Scene::new().await;
    scene.provider.script(
        "silent",
        Turn::of([Step::Text("Half an answer".into()), Step::Stall]),
    );
    let agent = scene.agent("silent").await;
    let sent = scene.client.send_to_agent(&agent, "go").await;
    let document = "subscription ($id: ID!, $after: Cursor) { conversationEvents(conversationId: $id, after: $after) { __typename } }";
    let mut subscription = scene
        .client
        .subscribe(
            document,
            json!({ "id": sent.conversation, "after": sent.cursor }),
        )
        .await;
    subscription
        .until(|event| event["conversationEvents"]["__typename"] == "TextDelta")
        .await;
    let delete = "mutation ($id: ID!) { deleteConversation(input: { id: $id }) { deletedIds errors { code } } }";
    scene
        .client
        .done(delete, json!({ "id": sent.conversation }))
        .await;
    let mut last = String::new();
    while let Some(event) = subscription.next(PATIENCE).await {
        last = event["conversationEvents"]["__typename"]
            .as_str()
            .unwrap()
            .to_owned();
    }
    assert_eq!(last, "RunCancelled");
    let ended = format!("{:?}", subscription.ended());
    assert!(ended.contains("NOT_FOUND"), "{ended}");
    let run = scene
        .client
        .ok(
            "query ($id: ID!) { run(id: $id) { status } }",
            json!({ "id": sent.run }),
        )
        .await;
    assert!(run["run"].is_null(), "{run:#}");
}
