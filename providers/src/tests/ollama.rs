use serde_json::json;

use super::server::{Server, Step, reply, send};
use super::{Told, broken_everywhere, call, check, endpoint, providers};
use crate::{ModelErrorKind, Provider, Reasoning, TokenUsage};

const JSON: &str = "Content-Type: application/json\r\n";
const TEXT: &str = r#"{"model":"m-1","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"ok"},"done":false}"#;
const END: &str = r#"{"model":"m-1","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":5,"prompt_eval_count":20,"eval_count":9}"#;

fn head() -> Step {
    send("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n")
}

fn lines(lines: &[&str]) -> Vec<Step> {
    let mut steps = vec![head()];
    steps.extend(lines.iter().map(|line| send(&format!("{line}\n"))));
    steps
}

async fn ollama(data: &[&str]) -> Told {
    call(Provider::Ollama, vec![lines(data)]).await
}

#[tokio::test]
async fn thoughts_text_and_tools() {
    let told = ollama(&[
        r#"{"message":{"role":"assistant","content":"","thinking":"Let me"},"done":false}"#,
        r#"{"message":{"role":"assistant","content":"","thinking":" see"},"done":false}"#,
        r#"{"message":{"role":"assistant","content":"Hé"},"done":false}"#,
        r#"{"message":{"role":"assistant","content":"","tool_calls":[{"function":{"index":0,"name":"f","arguments":{"x":1}}}]},"done":false}"#,
        r#"{"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_9","function":{"index":1,"name":"g"}}]},"done":false}"#,
        r#"{"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":20,"prompt_eval_cached_count":17,"eval_count":9}"#,
    ])
    .await;
    let answer = told.answer.expect("an answer");
    let made = answer.tool_calls[0].id.clone();
    assert!(made.starts_with("call_"), "{made}");
    assert_eq!(
        told.events,
        [
            "r:Let me",
            "r: see",
            "t:Hé",
            &format!("c0:{made}/f"),
            "a0:{\"x\":1}",
            "c1:call_9/g",
            "a1:{}",
            "f:tool_calls"
        ]
    );
    let thought = Reasoning {
        text: "Let me see".to_owned(),
        ..Reasoning::default()
    };
    assert_eq!(answer.reasoning, [thought]);
    let usage = TokenUsage {
        input: 20,
        output: 9,
        cached_input: 17,
        reasoning: 0,
    };
    assert_eq!(answer.usage, Some(usage));
}

#[tokio::test]
async fn ends_and_errors() {
    let long = format!(
        r#"{{"message":{{"content":"{}"}},"done":false}}"#,
        "x".repeat(1_100_000)
    );
    for (name, data, expected, calls) in [
        ("whole", vec![TEXT, END], vec!["t:ok", "f:stop"], 1),
        (
            "empty lines between",
            vec![TEXT, "", " ", END],
            vec!["t:ok", "f:stop"],
            1,
        ),
        (
            "cut by length",
            vec![TEXT, r#"{"done":true,"done_reason":"length"}"#],
            vec!["t:ok", "f:length"],
            1,
        ),
        (
            "an older server gives no reason",
            vec![TEXT, r#"{"done":true}"#],
            vec!["t:ok", "f:stop"],
            1,
        ),
        ("no end", vec![TEXT], vec!["t:ok", "e:BrokenOff"], 1),
        ("nothing", vec![], vec!["e:BrokenOff"], 3),
        (
            "garbage",
            vec![TEXT, "{nonsense"],
            vec!["t:ok", "e:Malformed"],
            1,
        ),
        (
            "another shape",
            vec![r#"{"choices":[]}"#],
            vec!["e:Malformed"],
            1,
        ),
        (
            "a call without a function",
            vec![r#"{"message":{"tool_calls":[{}]},"done":false}"#],
            vec!["e:Malformed"],
            1,
        ),
        (
            "its runner dies",
            vec![
                TEXT,
                r#"{"error":"an error was encountered while running the model: CUDA error"}"#,
            ],
            vec!["t:ok", "e:Unavailable { retry_after: None }"],
            1,
        ),
        (
            "too long",
            vec![r#"{"error":"the input length exceeds the context length"}"#],
            vec!["e:ContextTooLong"],
            1,
        ),
        ("one line without end", vec![&long], vec!["e:Malformed"], 1),
    ] {
        let told = call(Provider::Ollama, vec![lines(&data); 3]).await;
        assert_eq!(told.events, expected, "{name}");
        assert_eq!(told.calls, calls, "{name}");
    }
}

#[tokio::test]
async fn a_connection_may_break_at_every_byte() {
    let whole = format!("{TEXT}\n{END}\n");
    for (cut, told) in broken_everywhere(Provider::Ollama, head(), &whole).await {
        // a JSON text tells its end, with or without the line's
        let expected = match cut {
            cut if cut < TEXT.len() => vec!["e:BrokenOff"],
            cut if cut < whole.len() - 1 => vec!["t:ok", "e:BrokenOff"],
            _ => vec!["t:ok", "f:stop"],
        };
        assert_eq!(told.events, expected, "cut at {cut}");
    }
}

#[tokio::test]
async fn answers_and_refusals_that_are_no_stream() {
    let refused = |status, body| reply(status, JSON, body);
    for (name, script, expected, calls) in [
        (
            "one JSON is one line",
            reply(200, JSON, r#"{"message":{"content":"ok"},"done":true}"#),
            vec!["t:ok", "f:stop"],
            1,
        ),
        (
            "no such model",
            refused(404, r#"{"error":"model 'm-1' not found"}"#),
            vec!["e:Refused"],
            1,
        ),
        (
            "too long",
            refused(
                400,
                r#"{"error":"the input length exceeds the context length"}"#,
            ),
            vec!["e:ContextTooLong"],
            1,
        ),
        (
            "busy",
            refused(
                503,
                r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#,
            ),
            vec!["e:Unavailable { retry_after: None }"],
            3,
        ),
        (
            "a page",
            reply(200, "Content-Type: text/html\r\n", "<html>"),
            vec!["e:Malformed"],
            1,
        ),
    ] {
        let told = call(Provider::Ollama, vec![script; 3]).await;
        assert_eq!(told.events, expected, "{name}");
        assert_eq!(told.calls, calls, "{name}");
    }
}

#[tokio::test]
async fn models_are_listed_and_shown() {
    let list = r#"{"models":[{"name":"nomic-embed-text:latest","model":"nomic-embed-text:latest"},{"name":"qwen3:4b","model":"qwen3:4b"}]}"#;
    let server = Server::start(vec![
        reply(200, JSON, list),
        reply(200, JSON, r#"{"details":{"family":"qwen3"}}"#),
        reply(404, JSON, r#"{"error":"model 'm-1' not found"}"#),
        reply(404, JSON, r#"{"error":"model 'm-1' not found"}"#),
    ]);
    let mut endpoint = endpoint(Provider::Ollama, &server);
    endpoint.base_url.as_mut().expect("a URL").set_path("/");
    let first = providers().first_chat_model(&endpoint).await;
    assert_eq!(first.expect("a list").as_deref(), Some("qwen3:4b"));
    assert!(check(&endpoint).await.is_ok());
    let missing = check(&endpoint).await.expect_err("no such model");
    assert_eq!(
        (missing.kind, missing.message.as_str()),
        (ModelErrorKind::Refused, "model 'm-1' not found")
    );
    let asked = server.asked();
    let lines: Vec<&str> = asked.iter().map(|asked| asked.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "GET /api/tags",
            "POST /api/show",
            "POST /api/show",
            "POST /api/chat"
        ]
    );
    assert_eq!(asked[1].body, json!({"model": "m-1"}));
    assert!(
        asked[0]
            .head
            .contains("\r\nauthorization: bearer sk-verysecret\r\n")
    );
}
