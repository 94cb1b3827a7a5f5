//! A key that was revoked opens nothing. What others may not see or do is in the matrix.

use serde_json::json;

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_everywhere_within_five_seconds() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-3-0").await;
    let sent = scene.client.send_to_agent(&agent, "hi").await;
    scene.ended(&sent.run).await;
    let made = scene.client.done("mutation { createApiKey(input: { name: \"k\", kind: PERSONAL }) { apiKey { id prefix } secret errors { code } } }", json!({})).await;
    let keyed = scene.client.with_token(made["secret"].as_str());
    assert_eq!(
        keyed.ok("{ viewer { credential } }", json!({})).await["viewer"]["credential"],
        "PERSONAL_KEY"
    );
    let document =
        "subscription ($c: ID!) { conversationEvents(conversationId: $c) { __typename } }";
    let mut subscription = keyed
        .subscribe(document, json!({ "c": sent.conversation }))
        .await;
    // a key can't make keys
    let refused = keyed
        .query(
            "mutation { createApiKey(input: { name: \"k\", kind: PERSONAL }) { errors { code } } }",
            json!({}),
        )
        .await;
    let code = match &refused {
        Ok(data) => data["createApiKey"]["errors"][0]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        Err(errors) => errors.code().to_owned(),
    };
    assert_eq!(code, "FORBIDDEN");
    scene.client.done("mutation ($id: ID!) { revokeApiKey(input: { id: $id }) { deletedIds errors { code } } }", json!({ "id": made["apiKey"]["id"] })).await;
    let within = std::time::Duration::from_secs(5);
    let gone = async {
        support::wait::until(within, "the key is refused", async || {
            keyed
                .query("{ viewer { credential } }", json!({}))
                .await
                .err()
        })
        .await
    };
    assert_eq!(gone.await.code(), "UNAUTHENTICATED");
    // what happened before it, the title among it, may still be told
    while subscription.next(within).await.is_some() {}
    assert!(
        format!("{:?}", subscription.ended()).contains("4403"),
        "{:?}",
        subscription.ended()
    );
}
