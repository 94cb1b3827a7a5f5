//! What providers do wrong, and what becomes of the run: the table is the test.

use serde_json::json;
use support::provider::{Script, Step, Turn};

use crate::scene::Scene;

struct Fault {
    name: &'static str,
    script: Script,
    /// `error.kind`, or COMPLETED.
    kind: &'static str,
    /// What is left of the answer.
    text: &'static str,
}

fn turn(steps: impl IntoIterator<Item = Step>) -> Script {
    Turn::of(steps).into()
}

fn says(text: &str) -> Step {
    Step::Text(text.into())
}

fn raw(text: &str) -> Step {
    Step::Raw(text.as_bytes().to_vec())
}

fn table() -> Vec<Fault> {
    let fault = |name, script, kind, text| Fault {
        name,
        script,
        kind,
        text,
    };
    vec![
        fault("401", Script::refuse(401, &[]), "MODEL_ERROR", ""),
        fault("403", Script::refuse(403, &[]), "MODEL_ERROR", ""),
        fault("404", Script::refuse(404, &[]), "MODEL_ERROR", ""),
        fault("413", Script::refuse(413, &[]), "CONTEXT_TOO_LONG", ""),
        fault(
            "too long for its window",
            Script::from(Turn {
                status: 400,
                ..Turn::text("prompt is too long: 213462 tokens > 200000 maximum")
            }),
            "CONTEXT_TOO_LONG",
            "",
        ),
        fault(
            "429 to the end",
            Script::refuse(429, &[("retry-after", "0")]),
            "RATE_LIMITED",
            "",
        ),
        fault(
            "500 to the end",
            Script::refuse(500, &[]),
            "MODEL_ERROR",
            "",
        ),
        fault(
            "503 once",
            Script::from(vec![
                Turn::refuse(503, &[("retry-after", "0")]),
                Turn::text("better now"),
            ]),
            "COMPLETED",
            "better now",
        ),
        fault(
            "429 once",
            Script::from(vec![
                Turn::refuse(429, &[("retry-after", "0")]),
                Turn::text("my turn"),
            ]),
            "COMPLETED",
            "my turn",
        ),
        fault(
            "a redirect",
            Script::refuse(302, &[("location", "http://127.0.0.1:1/")]),
            "MODEL_ERROR",
            "",
        ),
        fault("nothing at all", turn([Step::Drop]), "MODEL_ERROR", ""),
        fault(
            "drops after words",
            turn([says("I was"), Step::Drop]),
            "MODEL_ERROR",
            "I was",
        ),
        fault(
            "half a line",
            turn([says("I was"), Step::HalfLine]),
            "MODEL_ERROR",
            "I was",
        ),
        fault(
            "ends without an end",
            turn([says("I was"), Step::End]),
            "MODEL_ERROR",
            "I was",
        ),
        fault(
            "no JSON",
            turn([says("I was"), raw("data: {]\n\n")]),
            "MODEL_ERROR",
            "I was",
        ),
        fault(
            "other JSON",
            turn([raw("data: [1, 2]\n\n"), Step::Finish("stop".into())]),
            "MODEL_ERROR",
            "",
        ),
        fault(
            "an error within the stream",
            turn([
                says("I was"),
                Step::ErrorInStream(
                    json!({ "error": { "message": "out of order", "type": "server_error" } }),
                ),
            ]),
            "MODEL_ERROR",
            "I was",
        ),
        fault(
            "NUL in the text",
            turn([says("a\0b"), Step::Finish("stop".into())]),
            "COMPLETED",
            "ab",
        ),
        fault(
            "silence before the first token",
            turn([Step::Stall]),
            "MODEL_TIMEOUT",
            "",
        ),
        fault(
            "silence between tokens",
            turn([says("I was"), Step::Stall]),
            "MODEL_TIMEOUT",
            "I was",
        ),
        fault(
            "an endless line",
            turn([raw(&format!("data: {}", "x".repeat(2 << 20)))]),
            "MODEL_ERROR",
            "",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_ends_its_run_with_a_reason() {
    let scene = Scene::new().await;
    for (provider, base) in [
        ("OPENAI_COMPATIBLE", scene.provider.base_url()),
        ("ANTHROPIC", scene.provider.base_url()),
        ("GEMINI", scene.provider.base_url()),
        ("AZURE_OPENAI", scene.provider.base_url()),
        ("OLLAMA", scene.provider.base_url()),
    ] {
        let mut runs = Vec::new();
        for (i, fault) in table().into_iter().enumerate() {
            let name = format!("fault-{i}-{}", provider.to_lowercase().replace('_', "-"));
            scene.provider.script(&name, fault.script.clone());
            let create = "mutation ($input: CreateModelInput!) { createModel(input: $input) { model { id } errors { code message } } }";
            let input = json!({ "slug": name, "kind": "CHAT", "provider": provider, "modelName": name, "baseUrl": base, "apiKey": "sk-secret-0001", "timeoutMs": 700 });
            let model = scene.client.done(create, json!({ "input": input })).await["model"]["id"]
                .as_str()
                .unwrap()
                .to_owned();
            let agent = scene.client.create_agent(&name, &model).await;
            runs.push((fault, scene.client.send_to_agent(&agent, "go").await));
        }
        for (fault, sent) in runs {
            let run = scene.ended(&sent.run).await;
            let kind = if run["error"].is_null() {
                run["status"].clone()
            } else {
                run["error"]["kind"].clone()
            };
            assert_eq!(kind, fault.kind, "{provider}, {}: {run:#}", fault.name);
            assert_eq!(
                run["output"]["text"], fault.text,
                "{provider}, {}",
                fault.name
            );
            let message = run["error"]["message"].as_str().unwrap_or_default();
            assert!(
                !message.contains("sk-secret") && !message.contains("127.0.0.1"),
                "{provider}, {}: {message}",
                fault.name
            );
            if run["status"] == "FAILED" {
                assert_eq!(
                    run["output"]["status"], "FAILED",
                    "{provider}, {}",
                    fault.name
                );
            }
        }
    }
    // and the server goes on
    let agent = scene.agent("tokens-3-0").await;
    let sent = scene.client.send_to_agent(&agent, "and now?").await;
    assert_eq!(scene.ended(&sent.run).await["status"], "COMPLETED");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_inside_is_not_called() {
    let provider = support::provider::Provider::start().await;
    let weft = support::server::Weft::start(
        support::server::Options::default().with("WEFT_OUTBOUND_ALLOW", ""),
    )
    .await;
    let mut client = weft.client();
    client.set_up().await;
    let create = "mutation ($input: CreateModelInput!) { createModel(input: $input) { model { id } errors { code message path } } }";
    for base in [
        provider.base_url(),
        "http://[::1]:80/v1".into(),
        "http://0x7f000001/v1".into(),
        "http://169.254.169.254/v1".into(),
        "http://localhost:1/v1".into(),
        "ftp://example.com/".into(),
    ] {
        let input = json!({ "slug": "inside", "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": "m", "baseUrl": base });
        let refusals = client.refused(create, json!({ "input": input })).await;
        assert_eq!(refusals[0]["code"], "INVALID_INPUT", "{base}: {refusals:?}");
        assert_eq!(refusals[0]["path"], json!(["input", "baseUrl"]), "{base}");
    }
    assert!(provider.calls().is_empty());
}

/// A list of models that does not name one says nothing of it: it has to answer. The same key asks nobody again.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_has_the_model_answer_once() {
    let scene = Scene::new().await;
    let check = "mutation ($input: CheckModelInput!) { checkModel(input: $input) { model { health { status } } errors { message } } }";
    for (name, status) in [("tokens-3-0", "HEALTHY"), ("nobody-knows", "UNHEALTHY")] {
        let base = scene.provider.base_url();
        let model = scene
            .client
            .create_model("OPENAI_COMPATIBLE", &base, name)
            .await;
        for _ in 0..2 {
            let input = json!({ "id": model, "idempotencyKey": format!("check {name}") });
            let done = scene.client.done(check, json!({ "input": input })).await;
            assert_eq!(done["model"]["health"]["status"], status, "{name}");
        }
        assert_eq!(scene.provider.calls_of(name).len(), 1, "{name}");
    }
}
