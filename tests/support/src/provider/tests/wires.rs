//! The wires that are neither OpenAI's own nor Anthropic's.

use super::*;

fn contents(words: &str) -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": words}]}]})
}

fn lines(model: &str, words: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": words}]})
}

/// The JSON texts of a stream of lines.
fn read_lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn speaks_gemini() {
    let provider = Provider::start().await;
    let path = "/models/tokens-25-0:streamGenerateContent?alt=sse";
    let answer = ask(&provider, path, contents("hello")).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let events_ = events(&answer.text().await.unwrap());
    let text = "/candidates/0/content/parts/0/text";
    assert_eq!(joined(&events_, text), expected_text("hello", 25));
    let last = events_.last().unwrap();
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    assert_eq!(last["usageMetadata"]["candidatesTokenCount"], 25);
    let call = &provider.calls()[0];
    assert_eq!(
        (call.wire, call.model.as_str(), call.query.as_str()),
        (Wire::Gemini, "tokens-25-0", "alt=sse")
    );

    let turn = Turn::of([
        Step::Reasoning("hm".into()),
        Step::ToolCall {
            index: 0,
            id: String::new(),
            name: "look".into(),
        },
        Step::ToolCall {
            index: 1,
            id: "g2".into(),
            name: "find".into(),
        },
        Step::ToolArguments {
            index: 1,
            text: "{\"b\":".into(),
        },
        Step::ToolArguments {
            index: 1,
            text: "2}".into(),
        },
        Step::Usage(Usage {
            input: 9,
            output: 5,
            cached: 4,
            reasoning: 2,
        }),
    ]);
    provider.script("gem/x", [turn.clone(), turn]);
    let path = "/models/gem%2Fx:streamGenerateContent?alt=sse";
    let streamed = events(
        &ask(&provider, path, contents("x"))
            .await
            .text()
            .await
            .unwrap(),
    );
    let parts = |event: &Value| event["candidates"][0]["content"]["parts"][0].clone();
    assert_eq!(
        streamed.iter().map(parts).collect::<Vec<_>>(),
        [
            json!({"text": "hm", "thought": true}),
            json!({"functionCall": {"name": "look", "args": {}}, "thoughtSignature": "c2lnbmVk"}),
            json!({"functionCall": {"id": "g2", "name": "find", "args": {"b": 2}}}),
            json!({"text": ""}),
        ]
    );
    let usage = json!({
        "promptTokenCount": 9, "cachedContentTokenCount": 4, "candidatesTokenCount": 3, "thoughtsTokenCount": 2,
        "totalTokenCount": 14,
    });
    assert_eq!(streamed[3]["usageMetadata"], usage);
    let whole = ask(&provider, "/models/gem%2Fx:generateContent", contents("x")).await;
    let whole: Value = whole.json().await.unwrap();
    assert_eq!(
        whole["candidates"][0]["content"]["parts"][2]["functionCall"]["args"],
        json!({"b": 2})
    );

    let missing = ask(&provider, "/models/nobody:generateContent", contents("x")).await;
    assert_eq!(missing.status(), 404);
    let missing: Value = missing.json().await.unwrap();
    assert_eq!(missing["error"]["status"], "NOT_FOUND");
    let list = HTTP
        .get(format!("{}/models", provider.base_url()))
        .header("x-goog-api-key", "k");
    let list: Value = list.send().await.unwrap().json().await.unwrap();
    assert_eq!(list["models"][0]["name"], "models/gem/x");
}

#[tokio::test]
async fn speaks_ollama() {
    let provider = Provider::start().await;
    let answer = ask(&provider, "/api/chat", lines("tokens-25-0", "hello")).await;
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let said = read_lines(&answer.text().await.unwrap());
    assert_eq!(
        joined(&said, "/message/content"),
        expected_text("hello", 25)
    );
    let last = said.last().unwrap();
    assert_eq!(
        (&last["done"], &last["done_reason"], &last["eval_count"]),
        (&json!(true), &json!("stop"), &json!(25))
    );

    provider.script(
        "m",
        Turn::of([
            Step::Reasoning("hm".into()),
            Step::ToolCall {
                index: 0,
                id: String::new(),
                name: "look".into(),
            },
            Step::ToolArguments {
                index: 0,
                text: "{\"a\":1}".into(),
            },
            Step::Finish("length".into()),
        ]),
    );
    let said = read_lines(
        &ask(&provider, "/api/chat", lines("m", "x"))
            .await
            .text()
            .await
            .unwrap(),
    );
    assert_eq!(said[0]["message"]["thinking"], "hm");
    assert_eq!(
        said[1]["message"]["tool_calls"],
        json!([{"function": {"name": "look", "arguments": {"a": 1}}}])
    );
    assert_eq!(said[2]["done_reason"], "length");
    let mut plain = lines("m", "x");
    plain["stream"] = json!(false);
    let whole: Value = ask(&provider, "/api/chat", plain)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&whole["message"]["thinking"], &whole["done"]),
        (&json!("hm"), &json!(true))
    );

    provider.script(
        "half",
        Turn::of([Step::Text("begun".into()), Step::HalfLine]),
    );
    let half = ask(&provider, "/api/chat", lines("half", "x")).await;
    assert!(half.text().await.is_err());
    provider.script("error", Turn::of([Step::ErrorInStream(json!("no memory"))]));
    let error = ask(&provider, "/api/chat", lines("error", "x")).await;
    assert_eq!(error.text().await.unwrap(), "{\"error\":\"no memory\"}\n");

    let shown = ask(&provider, "/api/show", json!({"model": "m"})).await;
    assert_eq!(shown.status(), 200);
    let missing = ask(&provider, "/api/show", json!({"model": "nobody"})).await;
    assert_eq!(missing.status(), 404);
    assert_eq!(
        missing.json::<Value>().await.unwrap()["error"],
        "model 'nobody' not found"
    );
    let list = HTTP
        .get(format!("{}/api/tags", provider.base_url()))
        .send()
        .await
        .unwrap();
    let list: Value = list.json().await.unwrap();
    assert_eq!(list["models"][0]["name"], "error");
}

#[tokio::test]
async fn speaks_openai_at_azures_addresses() {
    let provider = Provider::start().await;
    provider.script("gpt", Turn::text("from a deployment"));
    let mut body = chat("", "x");
    body.as_object_mut().unwrap().remove("model");
    let path = "/openai/deployments/gpt/chat/completions?api-version=2025-04-01-preview";
    let text = ask(&provider, path, body).await.text().await.unwrap();
    assert_eq!(
        joined(&events(&text), "/choices/0/delta/content"),
        "from a deployment"
    );
    let call = &provider.calls()[0];
    assert_eq!(
        (call.model.as_str(), call.query.as_str()),
        ("gpt", "api-version=2025-04-01-preview")
    );
}
