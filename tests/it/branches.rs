//! Branches as a front end has them: asking again, other words, the switch between them, and turns that are undone.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends")]

use serde_json::{Value, json};
use support::{
    client::{Follower, Sent},
    provider::{Step, Turn, expected_text},
};

use crate::scene::{PATIENCE, Scene};

const SENT: &str =
    "conversation { id } message { id } run { id } cursor errors { code message path }";

impl Scene {
    /// Does one of the mutations that ask for an answer.
    async fn asked(&self, field: &str, input: Value) -> Sent {
        let document = document(field);
        let payload = self.client.done(&document, json!({ "input": input })).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Sent {
            conversation: text(&payload["conversation"]["id"]),
            message: text(&payload["message"]["id"]),
            run: text(&payload["run"]["id"]),
            cursor: text(&payload["cursor"]),
        }
    }

    async fn refusal(&self, field: &str, input: Value) -> Value {
        let document = document(field);
        let mut errors = self
            .client
            .refused(&document, json!({ "input": input }))
            .await;
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.remove(0)
    }

    /// The texts along a branch, and its ids.
    async fn branch(
        &self,
        conversation: &str,
        through: Option<&str>,
    ) -> (Vec<String>, Vec<String>) {
        let document = "query ($id: ID!, $through: ID) { conversation(id: $id) { messages(first: 100, through: $through) { nodes { id text } } } }";
        let data = self
            .client
            .ok(document, json!({ "id": conversation, "through": through }))
            .await;
        let nodes = data["conversation"]["messages"]["nodes"]
            .as_array()
            .unwrap()
            .clone();
        let all = |name: &str| {
            nodes
                .iter()
                .map(|node| node[name].as_str().unwrap().to_owned())
                .collect()
        };
        (all("text"), all("id"))
    }

    /// A conversation whose newest answer stands still after its first word.
    async fn half_answered(&self, conversation: Option<&str>, agent: &str, text: &str) -> Sent {
        let input = json!({ "conversationId": conversation, "agentId": agent, "text": text });
        let sent = self.client.send_message(input).await;
        let document = "query ($id: ID!) { run(id: $id) { output { text } } }";
        support::wait::until(PATIENCE, "the answer begins", async || {
            let data = self.client.ok(document, json!({ "id": sent.run })).await;
            (data["run"]["output"]["text"] == "half ").then_some(())
        })
        .await;
        sent
    }
}

fn document(field: &str) -> String {
    let input = format!("{}{}Input", field[..1].to_uppercase(), &field[1..]);
    format!("mutation ($input: {input}!) {{ {field}(input: $input) {{ {SENT} }} }}")
}

fn stands_still() -> Turn {
    Turn::of([Step::Text("half ".into()), Step::Stall])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_rated_while_it_is_said_is_told_as_far_as_it_was() {
    const EVENTS: &str = "subscription ($id: ID!, $after: Cursor) { conversationEvents(conversationId: $id, after: $after) { __typename
        ... on TextDelta { messageId text }
        ... on MessageUpdated { message { status text rating } } } }";
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-40-20").await;
    let sent = scene.client.send_to_agent(&agent, "Say it slowly.").await;
    let variables = json!({ "id": sent.conversation, "after": sent.cursor });
    for is_replay in [false, true] {
        let mut events = scene.client.subscribe(EVENTS, variables.clone()).await;
        let (mut said, mut updated) = (String::new(), None);
        while updated.is_none() {
            let data = events.next(PATIENCE).await.unwrap();
            let event = &data["conversationEvents"];
            match event["__typename"].as_str().unwrap() {
                "TextDelta" => {
                    let before = said.len();
                    said.push_str(event["text"].as_str().unwrap());
                    if before < 40 && said.len() >= 40 && !is_replay {
                        let input =
                            json!({ "input": { "id": event["messageId"], "rating": "UP" } });
                        let rate = "mutation ($input: RateMessageInput!) { rateMessage(input: $input) { message { rating } errors { code } } }";
                        scene.client.done(rate, input).await;
                    }
                }
                "MessageUpdated" => updated = Some(event["message"].clone()),
                _ => {}
            }
        }
        let as_it_was = json!({ "status": "STREAMING", "text": said, "rating": "UP" });
        assert_eq!(updated, Some(as_it_was));
        assert!(said.len() < expected_text("Say it slowly.", 40).len());
        scene.ended(&sent.run).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_between_branches() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-3-0").await;
    let first = scene.client.send_to_agent(&agent, "one").await;
    scene.ended(&first.run).await;
    let id = first.conversation.clone();
    let second = scene.client.send_to_conversation(&id, "two").await;
    let answer = scene.ended(&first.run).await["output"]["id"].clone();
    scene.ended(&second.run).await;
    let (old, old_ids) = scene.branch(&id, None).await;
    let said = |text: &str| expected_text(text, 3);
    assert_eq!(old, ["one".into(), said("one"), "two".into(), said("two")]);

    // the first question again: a sibling of its answer, with a run of its own
    let again = scene
        .asked("regenerateMessage", json!({ "id": answer }))
        .await;
    scene.ended(&again.run).await;
    let document = "query ($run: ID!) { run(id: $run) { trigger input { id } output { id parentId siblings { id } run { id } } } }";
    let run = scene.client.ok(document, json!({ "run": again.run })).await["run"].clone();
    assert_eq!(run["trigger"], "REGENERATE");
    assert_eq!(run["input"]["id"], json!(first.message));
    assert_eq!(run["output"]["parentId"], json!(first.message));
    let siblings: Vec<_> = run["output"]["siblings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sibling| sibling["id"].clone())
        .collect();
    assert_eq!(siblings, [answer.clone(), run["output"]["id"].clone()]);
    assert_eq!(scene.branch(&id, None).await.0, ["one".into(), said("one")]);
    // the other branch is still there, and can be gone on from
    let (texts, _) = scene.branch(&id, answer.as_str()).await;
    assert_eq!(texts, old);
    let update = "mutation ($input: UpdateConversationInput!) { updateConversation(input: $input) { conversation { leaf { id } } errors { code path } } }";
    let chosen = scene
        .client
        .done(
            update,
            json!({ "input": { "id": id, "leafId": first.message } }),
        )
        .await;
    let leaf = chosen["conversation"]["leaf"]["id"].as_str().unwrap();
    // the latest below the question is the newest answer
    assert_eq!(Some(leaf), run["output"]["id"].as_str());
    let chosen = scene
        .client
        .done(update, json!({ "input": { "id": id, "leafId": answer } }))
        .await;
    assert_eq!(chosen["conversation"]["leaf"]["id"], json!(old_ids[3]));
    assert_eq!(scene.branch(&id, None).await.0, old);

    // other words for the second question
    let mut follower = Follower::new(&scene.client, &id, None).await;
    let edited = scene
        .asked(
            "editMessage",
            json!({ "id": second.message, "text": "two, better", "clientId": "mine" }),
        )
        .await;
    scene.ended(&edited.run).await;
    let (texts, ids) = scene.branch(&id, None).await;
    assert_eq!(
        texts,
        [
            "one".into(),
            said("one"),
            "two, better".into(),
            said("two, better")
        ]
    );
    let mut later = Follower::new(&scene.client, &id, Some(&edited.cursor)).await;
    later.until_end_of(&edited.run, PATIENCE).await.unwrap();
    later.transcript.assert_faultless();
    let created = &later.transcript.events[0];
    assert_eq!(
        (&created["__typename"], &created["message"]["clientId"]),
        (&json!("MessageCreated"), &json!("mine"))
    );
    follower.leave();
    let node = "query ($id: ID!) { node(id: $id) { ... on Message { siblings { text } rating ratingComment } } }";
    let data = scene.client.ok(node, json!({ "id": ids[2] })).await;
    assert_eq!(
        data["node"]["siblings"],
        json!([{ "text": "two" }, { "text": "two, better" }])
    );

    // and what is thought of the answer
    let rate = "mutation ($input: RateMessageInput!) { rateMessage(input: $input) { message { rating ratingComment } errors { code path ... on InvalidInput { limit actual } } } }";
    let input = json!({ "id": ids[3], "rating": "UP", "comment": "just so" });
    let rated = scene.client.done(rate, json!({ "input": input })).await;
    assert_eq!(
        rated["message"],
        json!({ "rating": "UP", "ratingComment": "just so" })
    );
    let input = json!({ "id": ids[3], "rating": "UP", "comment": "x".repeat(10_001) });
    let refused = scene.client.refused(rate, json!({ "input": input })).await;
    assert_eq!(
        refused,
        [
            json!({ "code": "INVALID_INPUT", "path": ["input", "comment"], "limit": 10_000, "actual": 10_001 })
        ]
    );
    let taken_back = scene
        .client
        .done(rate, json!({ "input": { "id": ids[3], "rating": null } }))
        .await;
    assert_eq!(
        taken_back["message"],
        json!({ "rating": null, "ratingComment": null })
    );
    // neither is done to what is something else
    let wrong = [
        ("editMessage", json!({ "id": ids[3], "text": "x" })),
        ("editMessage", json!({ "id": ids[2], "text": "" })),
    ];
    for (field, input) in wrong {
        let refused = scene.refusal(field, input).await;
        assert_eq!(refused["code"], "INVALID_INPUT", "{refused}");
    }
    let refused = scene
        .refusal("regenerateMessage", json!({ "id": "message_nothing" }))
        .await;
    assert_eq!(refused["code"], "NOT_FOUND", "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_asks_again_once() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-3-0").await;
    let first = scene.client.send_to_agent(&agent, "one").await;
    scene.ended(&first.run).await;
    for (field, input) in [
        (
            "regenerateMessage",
            json!({ "id": first.message, "idempotencyKey": "a" }),
        ),
        (
            "editMessage",
            json!({ "id": first.message, "text": "better", "idempotencyKey": "a" }),
        ),
    ] {
        let once = scene.asked(field, input.clone()).await;
        assert_eq!(scene.asked(field, input.clone()).await, once);
        scene.ended(&once.run).await;
        let mut other = input;
        other["whenBusy"] = json!("REJECT");
        assert_eq!(scene.refusal(field, other).await["code"], "CONFLICT");
    }
    let (_, ids) = scene.branch(&first.conversation, None).await;
    assert_eq!(ids.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_run_again() {
    let scene = Scene::new().await;
    scene
        .provider
        .script("weak", vec![Turn::refuse(401, &[]), Turn::text("at last")]);
    let agent = scene.agent("weak").await;
    let failed = scene.client.send_to_agent(&agent, "go").await;
    assert_eq!(scene.ended(&failed.run).await["status"], "FAILED");
    let retried = scene.asked("retryRun", json!({ "id": failed.run })).await;
    assert_eq!(retried.message, failed.message);
    let run = scene.ended(&retried.run).await;
    assert_eq!(
        (&run["status"], &run["output"]["text"]),
        (&json!("COMPLETED"), &json!("at last"))
    );
    let refused = scene
        .refusal("retryRun", json!({ "id": retried.run }))
        .await;
    assert_eq!(refused["code"], "CONFLICT");
    let (texts, _) = scene.branch(&failed.conversation, None).await;
    assert_eq!(texts, ["go", "at last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_interrupts() {
    let scene = Scene::new().await;
    scene.provider.script("slow", stands_still());
    let agent = scene.agent("slow").await;
    let first = scene.half_answered(None, &agent, "one").await;
    let id = first.conversation.clone();
    let quick = scene
        .client
        .create_model(
            "OPENAI_COMPATIBLE",
            &scene.provider.base_url(),
            "tokens-2-0",
        )
        .await;
    let input =
        json!({ "conversationId": id, "text": "two", "modelId": quick, "whenBusy": "REJECT" });
    let refused = scene.refusal("sendMessage", input).await;
    assert_eq!(refused["code"], "CONFLICT");
    let waits = json!({ "conversationId": id, "text": "two", "modelId": quick });
    let waits = scene.client.send_message(waits).await;
    let now =
        json!({ "conversationId": id, "text": "now", "modelId": quick, "whenBusy": "INTERRUPT" });
    let now = scene.client.send_message(now).await;
    let mut follower = Follower::new(&scene.client, &id, Some(&first.cursor)).await;
    follower.until_end_of(&waits.run, PATIENCE).await.unwrap();
    follower.transcript.assert_faultless();
    let ends: Vec<_> = [&first.run, &now.run, &waits.run]
        .map(|run| follower.transcript.end(run).unwrap().to_owned())
        .to_vec();
    assert_eq!(ends, ["RunCancelled", "RunCompleted", "RunCompleted"]);
    let place = |run: &str, kind: &str| {
        follower
            .transcript
            .events
            .iter()
            .position(|event| event["runId"] == run && event["__typename"] == kind)
            .unwrap()
    };
    assert!(place(&first.run, "RunCancelled") < place(&now.run, "MessageCreated"));
    assert!(place(&now.run, "RunCompleted") < place(&waits.run, "RunStarted"));
    let run = scene.run(&first.run).await;
    assert_eq!(
        (
            &run["status"],
            &run["output"]["status"],
            &run["output"]["text"]
        ),
        (&json!("CANCELLED"), &json!("INCOMPLETE"), &json!("half "))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_is_undone_is_gone_everywhere() {
    let scene = Scene::new().await;
    scene.provider.script("slow", stands_still());
    let slow = scene.agent("slow").await;
    let quick = scene.agent("tokens-2-0").await;
    let first = scene.client.send_to_agent(&quick, "one").await;
    scene.ended(&first.run).await;
    let id = first.conversation.clone();
    let (before, before_ids) = scene.branch(&id, None).await;
    let undone = scene.half_answered(Some(&id), &slow, "two").await;
    let (_, ids) = scene.branch(&id, None).await;
    let input = json!({ "conversationId": id, "agentId": quick, "text": "two, better", "whenBusy": "ROLLBACK" });
    let instead = scene.client.send_message(input).await;
    scene.ended(&instead.run).await;

    let (texts, _) = scene.branch(&id, None).await;
    let mut wanted = before;
    wanted.extend(["two, better".to_owned(), expected_text("two, better", 2)]);
    assert_eq!(texts, wanted);
    let document = "query ($id: ID!, $ids: [ID!]!, $before: ID!, $run: ID!, $new: ID!) {
        nodes(ids: $ids) { id }
        conversation(id: $id) { lastMessage { text } leaf { text } activeRun { id } }
        before: node(id: $before) { ... on Message { siblings { id } } }
        run(id: $run) { status input { id } output { id } }
        new: node(id: $new) { ... on Message { parentId siblings { id } } }
    }";
    let variables = json!({ "id": id, "ids": ids[2..], "before": before_ids[1], "run": undone.run, "new": instead.message });
    let data = scene.client.ok(document, variables).await;
    assert_eq!(data["nodes"], json!([null, null]));
    assert_eq!(
        data["run"],
        json!({ "status": "CANCELLED", "input": null, "output": null })
    );
    assert_eq!(
        data["new"],
        json!({ "parentId": before_ids[1], "siblings": [{ "id": instead.message }] })
    );
    let said = expected_text("two, better", 2);
    assert_eq!(
        data["conversation"],
        json!({ "lastMessage": { "text": said }, "leaf": { "text": said }, "activeRun": null })
    );
    for field in ["through", "parent"] {
        let answer = if field == "through" {
            let document = "query ($id: ID!, $through: ID) { conversation(id: $id) { messages(through: $through) { nodes { id } } } }";
            let errors = scene
                .client
                .query(document, json!({ "id": id, "through": ids[3] }))
                .await;
            errors.unwrap_err().code().to_owned()
        } else {
            let input = json!({ "conversationId": id, "text": "x", "parentId": ids[3] });
            let refused = scene.refusal("sendMessage", input).await;
            refused["code"].as_str().unwrap().to_owned()
        };
        assert_eq!(answer, "NOT_FOUND", "{field}");
    }
    // replayed from its beginning, the log says what became of it; ids stand where objects are gone
    let mut follower = Follower::new(&scene.client, &id, Some(&undone.cursor)).await;
    follower.until_end_of(&instead.run, PATIENCE).await.unwrap();
    follower.transcript.assert_faultless();
    let removed = follower
        .transcript
        .events
        .iter()
        .find(|event| event["__typename"] == "MessagesRemoved")
        .unwrap();
    assert_eq!(removed["messageIds"], json!(ids[2..]));
    assert_eq!(follower.transcript.said(&undone.run), "");
    let first_event = &follower.transcript.events[0];
    assert_eq!(
        (&first_event["messageId"], &first_event["message"]),
        (&json!(undone.message), &Value::Null)
    );
}

/// Putting aside, and finding what was.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_aside_is_listed_apart() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-2-0").await;
    let (kept, aside) = (
        scene.client.send_to_agent(&agent, "one").await,
        scene.client.send_to_agent(&agent, "two").await,
    );
    let update = "mutation ($id: ID!) { updateConversation(input: { id: $id, isArchived: true }) { conversation { isArchived } errors { code } } }";
    scene
        .client
        .done(update, json!({ "id": aside.conversation }))
        .await;
    for (is_archived, wanted) in [(false, &kept), (true, &aside)] {
        let document = "query ($is: Boolean) { conversations(filter: { isArchived: $is }) { nodes { id } totalCount } }";
        let data = scene
            .client
            .ok(document, json!({ "is": is_archived }))
            .await;
        assert_eq!(
            data["conversations"],
            json!({ "nodes": [{ "id": wanted.conversation }], "totalCount": 1 })
        );
    }
}
