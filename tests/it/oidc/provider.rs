//! An OpenID provider of a test's own, made by the harness in `tests/outside/oidc`.

use serde_json::{Value, json};

/// A provider. It stays until the harness ends.
pub struct Provider {
    harness: String,
    port: u64,
    /// As its tokens name it.
    pub issuer: String,
    /// The secret of the client `weft`.
    pub secret: String,
}

impl Provider {
    /// One of its own; `None`, and it is said, where `tests/run` has started no harness.
    #[expect(clippy::print_stderr, reason = "a test that tests nothing says so")]
    pub async fn start() -> Option<Self> {
        let harness = std::env::var("WEFT_TEST_OIDC")
            .ok()
            .filter(|url| !url.is_empty());
        let Some(harness) = harness else {
            eprintln!("not tested: WEFT_TEST_OIDC names no harness; tests/run starts one");
            return None;
        };
        let made = post(format!("{harness}/providers"), &json!({})).await;
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        Some(Self {
            port: made["port"].as_u64().expect("a port"),
            issuer: text("issuer"),
            secret: text("secret"),
            harness,
        })
    }

    /// Tells the harness something about it.
    pub async fn tell(&self, what: &str, given: Value) -> Value {
        let (harness, port) = (&self.harness, self.port);
        post(format!("{harness}/providers/{port}/{what}"), &given).await
    }

    /// A token of logout, with these claims in place of good ones.
    pub async fn logout_token(&self, claims: Value, header: Value) -> String {
        let given = json!({ "claims": claims, "header": header });
        let made = self.tell("logout-token", given).await;
        made["token"].as_str().expect("a token").to_owned()
    }
}

async fn post(url: String, given: &Value) -> Value {
    let client = reqwest::Client::builder().no_proxy().build();
    let sent = client
        .expect("a client")
        .post(&url)
        .json(given)
        .send()
        .await;
    let answer = sent.unwrap_or_else(|error| panic!("{url} does not answer: {error}"));
    let status = answer.status();
    let answer: Value = answer.json().await.expect("JSON");
    assert!(status.is_success(), "{url}: {answer}");
    answer
}
