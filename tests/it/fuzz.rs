//! A few seconds of almost valid requests and frames, beside a run that goes on; `fuzz` of `support` does it for longer.

use std::time::Duration;

use serde_json::json;
use support::{
    client::{OWNER_EMAIL, OWNER_PASSWORD},
    fuzz::{self, Known},
    server::Options,
};

use crate::scene::Scene;

const TIME: Duration = Duration::from_secs(4);

#[tokio::test]
async fn what_is_almost_right_harms_nobody() {
    let options = Options::default()
        .with("WEFT_LIMITS__COST_BUCKET", "1000000000")
        .with("WEFT_LIMITS__COST_RESTORE_PER_S", "1000000000")
        .with("WEFT_LIMITS__ADDRESS_COST_BUCKET", "1000000000")
        .with("WEFT_LIMITS__MAX_CONNECTIONS_PER_USER", "1000");
    let scene = Scene::with(options).await;
    let agent = scene.agent("tokens-200-20").await;
    let sent = scene.client.send_to_agent(&agent, "Go").await;
    let mut quiet = scene.weft.client();
    quiet.sign_in(OWNER_EMAIL, OWNER_PASSWORD).await;
    let documents = [
        ("{ __typename service { version } }", json!({})),
        (
            "query ($id: ID!, $n: Int = 3) { conversation(id: $id) { id messages(first: $n) { nodes { id text } } } agents(first: $n) { nodes { ...A } } } fragment A on Agent { id name }",
            json!({"id": sent.conversation}),
        ),
        (
            "subscription ($id: ID!) { conversationEvents(conversationId: $id) { __typename cursor } }",
            json!({"id": sent.conversation}),
        ),
        (
            "mutation ($input: UpdateConversationInput!) { updateConversation(input: $input) { conversation { id title } errors { code message } } }",
            json!({"input": {"id": sent.conversation, "title": "Weft"}}),
        ),
    ];
    let known = Known {
        host: scene.weft.address().to_string(),
        token: scene.client.token.clone().expect("signed in"),
        conversation: sent.conversation.clone(),
        documents: documents
            .map(|(text, variables)| (text.to_owned(), variables))
            .to_vec(),
    };
    let resident = || scene.weft.resident_bytes();
    let report = fuzz::run(&known, &quiet, 1, TIME, resident).await;
    assert!(report.faults.is_empty(), "{:#?}", report.faults);
    assert!(
        report.statuses.contains_key(&200) && report.statuses.contains_key(&400),
        "{:?}",
        report.statuses
    );
    assert!(!scene.weft.output().contains("panicked at"));
    let run = scene.ended(&sent.run).await;
    assert_eq!(run["status"], "COMPLETED", "{run}");
}
