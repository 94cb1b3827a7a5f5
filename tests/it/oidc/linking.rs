//! Identities are bound while signed in, and let go of as long as there is another way in.

use entities::Role;
use serde_json::{Value, json};
use support::client::{Client, OWNER_EMAIL};

use super::{Mill, VERIFIER};

const LINK: &str = "mutation ($code: String!, $verifier: String!) { linkIdentity(input: { code: $code, codeVerifier: $verifier }) {
    user { id } errors { code path message } } }";
const UNLINK: &str =
    "mutation ($id: ID!, $key: String) { unlinkIdentity(input: { id: $id, idempotencyKey: $key }) {
    user { id } errors { code path message } } }";

async fn identities(client: &Client) -> Vec<Value> {
    let document = "{ viewer { identities { id issuer subject linkedAt } } }";
    let viewer = client.ok(document, json!({})).await["viewer"].clone();
    viewer["identities"].as_array().expect("a list").clone()
}

async fn code(mill: &Mill, login: &str) -> Value {
    let code = mill
        .comes(login, &[("link", "true")])
        .await
        .expect("a code");
    json!({ "code": code, "verifier": VERIFIER })
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_signed_in_binds_one_and_signs_in_by_it() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    let owner = &mill.scene.client;
    let heads = mill.scene.heads().await.0;
    let code_of_ada = code(&mill, "ada").await;
    assert_eq!(
        mill.scene.heads().await,
        (heads, 0, 0),
        "nothing is made for it"
    );
    owner.done(LINK, code_of_ada.clone()).await;
    let again = owner.query(LINK, code_of_ada).await.expect_err("once");
    assert_eq!(again.code(), "UNAUTHENTICATED");
    owner.done(LINK, code(&mill, "ada").await).await;
    let own = identities(owner).await;
    assert_eq!(own.len(), 1, "{own:?}");
    assert_eq!(own[0]["subject"], "ada");

    let (by_identity, viewer) = mill.signs_in("ada", &[]).await;
    assert_eq!(viewer["user"]["email"], OWNER_EMAIL);
    assert_eq!(viewer["role"], "OWNER");

    // a code for signing in binds nothing
    let for_sign_in = mill.comes("ada", &[]).await.unwrap();
    let input = json!({ "code": for_sign_in, "verifier": VERIFIER });
    let refused = owner.query(LINK, input).await.expect_err("another purpose");
    assert_eq!(refused.code(), "UNAUTHENTICATED");

    // another's is another's
    let colleague = mill.scene.colleague(Role::Admin).await;
    let refused = colleague.refused(LINK, code(&mill, "ada").await).await;
    assert_eq!(refused[0]["code"], "CONFLICT", "{refused:?}");
    let id = own[0]["id"].clone();
    let refused = colleague.refused(UNLINK, json!({ "id": id })).await;
    assert_eq!(refused[0]["code"], "NOT_FOUND");
    let node = "query ($id: ID!) { node(id: $id) { __typename id } }";
    let seen = colleague.ok(node, json!({ "id": id })).await;
    assert_eq!(seen["node"], Value::Null);
    let seen = owner.ok(node, json!({ "id": id })).await;
    assert_eq!(seen["node"]["__typename"], "Identity");
    assert!(identities(&colleague).await.is_empty());

    // one at a request, nobody without a credential, and never by a key
    let twice = "mutation ($code: String!, $verifier: String!) { a: linkIdentity(input: { code: $code, codeVerifier: $verifier }) { errors { code } }
        b: linkIdentity(input: { code: $code, codeVerifier: $verifier }) { errors { code } } }";
    let errors = owner.query(twice, code(&mill, "ada").await).await;
    assert_eq!(errors.expect_err("one").errors[0]["path"][0], "b");
    let nobody = owner.with_token(None);
    let refused = nobody.query(LINK, code(&mill, "ada").await).await;
    assert_eq!(refused.expect_err("nobody").code(), "UNAUTHENTICATED");
    let key = owner
        .done(
            "mutation { createApiKey(input: { name: \"k\", kind: PERSONAL }) { secret errors { code } } }",
            json!({}),
        )
        .await;
    let by_key = owner.with_token(key["secret"].as_str());
    for refused in [
        by_key.query(LINK, code(&mill, "ada").await).await,
        by_key.query(UNLINK, json!({ "id": id })).await,
    ] {
        assert_eq!(refused.expect_err("a key").code(), "FORBIDDEN");
    }

    // let go of, it signs nobody in, and what it signed in is over
    let done = json!({ "id": id, "key": "once" });
    let first = owner.done(UNLINK, done.clone()).await;
    assert_eq!(
        owner.done(UNLINK, done).await,
        first,
        "the same thing done once"
    );
    assert!(identities(owner).await.is_empty());
    assert_eq!(mill.comes("ada", &[]).await, Err("no_account".into()));
    let over = by_identity.query("{ viewer { role } }", json!({})).await;
    assert_eq!(over.expect_err("it is over").code(), "UNAUTHENTICATED");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_way_in_stays() {
    let Some(mill) = Mill::new().await else {
        return;
    };
    mill.scene.lets_join("example.test").await;
    let (ada, _) = mill.signs_in("ada", &[]).await;
    let own = identities(&ada).await;
    let first = own[0]["id"].clone();
    let refused = ada.refused(UNLINK, json!({ "id": first })).await;
    assert_eq!(refused[0]["code"], "CONFLICT", "{refused:?}");
    ada.done(LINK, code(&mill, "countess").await).await;
    let (ada, viewer) = mill.signs_in("countess", &[]).await;
    assert_eq!(viewer["user"]["email"], "ada@example.test");
    assert_eq!(viewer["identities"].as_array().map(Vec::len), Some(2));
    // Of two that are let go of at once, one stays.
    let second = viewer["identities"][1]["id"].clone();
    let (one, two) = tokio::join!(
        ada.ok(UNLINK, json!({ "id": first })),
        ada.ok(UNLINK, json!({ "id": second })),
    );
    let refused = [&one, &two].map(|data| data["unlinkIdentity"]["errors"][0]["code"].clone());
    assert!(
        refused.contains(&Value::Null) && refused.contains(&json!("CONFLICT")),
        "{refused:?}"
    );
    assert_eq!(identities(&ada).await.len(), 1);
}
