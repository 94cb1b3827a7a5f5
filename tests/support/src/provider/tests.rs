//! The provider, asked by a plain HTTP client.

use std::{sync::LazyLock, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::wait::{PATIENCE, within};

mod wires;

static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()
        .unwrap()
});

async fn ask(provider: &Provider, path: &str, body: Value) -> reqwest::Response {
    let request = HTTP
        .post(format!("{}{path}", provider.base_url()))
        .json(&body);
    within(PATIENCE, "an answer", request.send()).await.unwrap()
}

fn chat(model: &str, words: &str) -> Value {
    json!({
        "model": model, "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "system", "content": "Answer."}, {"role": "user", "content": words}],
    })
}

fn messages(model: &str, words: &str) -> Value {
    json!({"model": model, "stream": true, "max_tokens": 99, "messages": [{"role": "user", "content": words}]})
}

/// The data of a stream's events, `[DONE]` as a string.
fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data)))
        .collect()
}

fn joined(events: &[Value], pointer: &str) -> String {
    events
        .iter()
        .filter_map(|event| event.pointer(pointer)?.as_str())
        .collect()
}

#[tokio::test]
async fn streams_tokens_over_both_wires() {
    let provider = Provider::start().await;
    let answer = ask(&provider, "/chat/completions", chat("tokens-25-1", "hello")).await;
    assert_eq!(
        answer.headers()["content-type"],
        "text/event-stream; charset=utf-8"
    );
    let events_ = events(&answer.text().await.unwrap());
    assert_eq!(events_[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(
        joined(&events_, "/choices/0/delta/content"),
        expected_text("hello", 25)
    );
    let end = &events_[events_.len() - 3..];
    assert_eq!(end[0]["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        (&end[1]["choices"], &end[1]["usage"]["completion_tokens"]),
        (&json!([]), &json!(25))
    );
    assert_eq!(end[2], "[DONE]");

    let answer = ask(&provider, "/messages", messages("tokens-25-0", "hello")).await;
    let text = answer.text().await.unwrap();
    let events_ = events(&text);
    assert_eq!(joined(&events_, "/delta/text"), expected_text("hello", 25));
    let kinds: Vec<&str> = events_
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds[..3], ["message_start", "ping", "content_block_start"]);
    assert_eq!(
        kinds[kinds.len() - 3..],
        ["content_block_stop", "message_delta", "message_stop"]
    );
    for (line, kind) in text
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .zip(kinds)
    {
        assert_eq!(line, kind);
    }

    let calls = provider.calls();
    assert_eq!(
        calls.iter().map(|call| call.wire).collect::<Vec<_>>(),
        [Wire::OpenAi, Wire::Anthropic]
    );
    assert!(
        calls
            .iter()
            .all(|call| call.outcome == Outcome::Finished && call.bytes > 0)
    );
    assert_eq!(calls[1].bytes, text.len());
    assert_eq!(calls[0].body["messages"][1]["content"], "hello");
}

#[tokio::test]
async fn thinks_calls_tools_and_counts() {
    let provider = Provider::start().await;
    let turn = Turn::of([
        Step::Reasoning("let me ".into()),
        Step::Reasoning("see".into()),
        Step::Text("looking".into()),
        Step::ToolCall {
            index: 0,
            id: "call_a".into(),
            name: "look".into(),
        },
        Step::ToolCall {
            index: 1,
            id: "call_b".into(),
            name: "find".into(),
        },
        Step::ToolArguments {
            index: 1,
            text: "{\"b\":".into(),
        },
        Step::ToolArguments {
            index: 0,
            text: "{}".into(),
        },
        Step::ToolArguments {
            index: 1,
            text: "2}".into(),
        },
        Step::Usage(Usage {
            input: 100,
            output: 9,
            cached: 64,
            reasoning: 2,
        }),
    ]);
    provider.script("m", [turn, Turn::text("done so")]);

    let first = events(
        &ask(&provider, "/chat/completions", chat("m", "x"))
            .await
            .text()
            .await
            .unwrap(),
    );
    assert_eq!(
        joined(&first, "/choices/0/delta/reasoning_content"),
        "let me see"
    );
    let of_b: Vec<&Value> = first
        .iter()
        .map(|event| &event["choices"][0]["delta"]["tool_calls"][0])
        .filter(|call| call["index"] == 1)
        .collect();
    assert_eq!(
        (&of_b[0]["id"], &of_b[0]["function"]["name"]),
        (&json!("call_b"), &json!("find"))
    );
    let arguments: String = of_b
        .iter()
        .filter_map(|call| call["function"]["arguments"].as_str())
        .collect();
    assert_eq!(arguments, "{\"b\":2}");
    assert_eq!(
        first[first.len() - 3]["choices"][0]["finish_reason"],
        "tool_calls"
    );
    let usage = &first[first.len() - 2]["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["total_tokens"]),
        (&json!(100), &json!(109))
    );
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 64);

    // The second call takes the second turn, and so does every one after it.
    for _ in 0..2 {
        let next = events(
            &ask(&provider, "/chat/completions", chat("m", "x"))
                .await
                .text()
                .await
                .unwrap(),
        );
        assert_eq!(joined(&next, "/choices/0/delta/content"), "done so");
    }

    let turn: Turn = serde_json::from_value(json!({"steps": [
        {"reasoning": "hm"}, {"text": "a"}, {"tool_call": {"index": 0, "id": "t", "name": "look"}},
        {"tool_arguments": {"index": 0, "text": "{\"q\":"}}, {"tool_arguments": {"index": 0, "text": "1}"}},
        {"usage": {"input": 10, "cached": 4, "output": 3}},
    ]}))
    .unwrap();
    provider.script("claude", turn.clone());
    let events_ = events(
        &ask(&provider, "/messages", messages("claude", "x"))
            .await
            .text()
            .await
            .unwrap(),
    );
    let blocks: Vec<_> = events_
        .iter()
        .filter_map(|event| event["content_block"]["type"].as_str())
        .collect();
    assert_eq!(blocks, ["thinking", "text", "tool_use"]);
    assert_eq!(joined(&events_, "/delta/partial_json"), "{\"q\":1}");
    assert_eq!(joined(&events_, "/delta/stop_reason"), "tool_use");
    assert_eq!(events_[0]["message"]["usage"]["input_tokens"], 6);
    assert_eq!(events_[0]["message"]["usage"]["cache_read_input_tokens"], 4);
    // One block at a time: each ends before the next begins.
    let mut open = None;
    for event in &events_ {
        match event["type"].as_str().unwrap() {
            "content_block_start" => assert_eq!(open.replace(event["index"].clone()), None),
            "content_block_stop" => assert_eq!(open.take().as_ref(), Some(&event["index"])),
            "content_block_delta" => assert_eq!(open.as_ref(), Some(&event["index"])),
            _ => {}
        }
    }

    // The same without a stream.
    provider.script("claude", turn.clone());
    let whole: Value = ask(&provider, "/messages", json!({"model": "claude"}))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(whole["content"][2]["input"], json!({"q": 1}));
    provider.script("claude", turn);
    let whole: Value = ask(&provider, "/chat/completions", json!({"model": "claude"}))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"],
        "{\"q\":1}"
    );
    assert_eq!(whole["usage"]["completion_tokens"], 3);
}

#[tokio::test]
async fn refuses_and_knows_its_models() {
    let provider = Provider::start().await;
    provider.script("busy", Script::refuse(429, &[("Retry-After", "3")]));
    let answer = ask(&provider, "/chat/completions", chat("busy", "x")).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (429, &"3".parse().unwrap())
    );
    assert_eq!(
        answer.json::<Value>().await.unwrap()["error"]["code"],
        "rate_limit_exceeded"
    );

    let answer = ask(&provider, "/messages", messages("nobody", "x")).await;
    assert_eq!(answer.status(), 404);
    assert_eq!(
        answer.json::<Value>().await.unwrap()["error"]["type"],
        "not_found_error"
    );

    let answer = ask(&provider, "/chat/completions", json!("no object")).await;
    assert_eq!(answer.status(), 400);

    let list = HTTP
        .get(format!("{}/models", provider.base_url()))
        .send()
        .await
        .unwrap();
    let list: Value = list.json().await.unwrap();
    assert_eq!(
        (&list["object"], &list["data"][0]["id"]),
        (&json!("list"), &json!("busy"))
    );

    provider.script(
        "error",
        Turn::of([
            Step::Text("a".into()),
            Step::ErrorInStream(json!({"type": "overloaded_error"})),
        ]),
    );
    let text = ask(&provider, "/messages", messages("error", "x"))
        .await
        .text()
        .await
        .unwrap();
    assert!(
        text.ends_with(
            "event: error\ndata: {\"error\":{\"type\":\"overloaded_error\"},\"type\":\"error\"}\n\n"
        ),
        "{text}"
    );
}

#[tokio::test]
async fn breaks_off_in_every_way() {
    let provider = Provider::start().await;
    let broken = |model: &'static str, step: Step| {
        provider.script(model, Turn::of([Step::Text("begun".into()), step]));
        let answer = ask(&provider, "/chat/completions", chat(model, "x"));
        async { answer.await.text().await }
    };
    assert!(broken("drop", Step::Drop).await.is_err());
    assert!(broken("half", Step::HalfLine).await.is_err());
    assert!(
        broken("unframed", Step::Unframed(b"not a chunk\r\n".to_vec()))
            .await
            .is_err()
    );
    let ended = broken("end", Step::End).await.unwrap();
    assert!(
        ended.contains("begun")
            && !ended.contains("[DONE]")
            && !ended.contains("\"finish_reason\":\"stop\"")
    );
    let raw = broken("raw", Step::Raw(b"data: {nonsense\0\xff\n\n".to_vec()))
        .await
        .unwrap();
    assert!(raw.contains("data: {nonsense\0\u{fffd}\n\n") && raw.ends_with("data: [DONE]\n\n"));

    let outcomes: Vec<Outcome> = ["drop", "half"]
        .map(|model| provider.calls_of(model)[0].outcome)
        .into();
    assert_eq!(outcomes, [Outcome::Dropped(Side::Script); 2]);

    // On the wire itself: half a line, without the end of the body.
    let mut socket = TcpStream::connect(provider.address()).await.unwrap();
    let body = chat("half", "x").to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all((head + &body).as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    within(PATIENCE, "the end", socket.read_to_end(&mut bytes))
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&bytes).ends_with("data: {\"id\":\"half\",\"cho\r\n"));
}

#[tokio::test]
async fn waits_at_gates_and_sees_clients_leave() {
    let provider = Provider::start().await;
    let turn = Turn::of([
        Step::Text("a".into()),
        Step::WaitFor("go".into()),
        Step::Text("b".into()),
        Step::Stall,
    ]);
    provider.script("m", turn);
    let mut answer = ask(&provider, "/chat/completions", chat("m", "x")).await;
    let at_gate = |calls: &[Call]| calls[0].waits_for.as_deref() == Some("go");
    provider
        .until_calls(PATIENCE, "the gate reached", at_gate)
        .await;
    provider.open_gate("go");
    let mut text = String::new();
    while !text.contains("\"content\":\"b\"") {
        let piece = within(PATIENCE, "the rest", answer.chunk())
            .await
            .unwrap()
            .unwrap();
        text += std::str::from_utf8(&piece).unwrap();
    }
    assert_eq!(provider.calls()[0].outcome, Outcome::UnderWay);
    drop(answer);
    let left = |calls: &[Call]| calls[0].outcome == Outcome::Dropped(Side::Client);
    let calls = provider
        .until_calls(PATIENCE, "the client gone", left)
        .await;
    assert!(calls[0].ended_ms >= Some(calls[0].at_ms));
}

#[tokio::test]
async fn a_stall_before_the_head_says_nothing_and_a_head_can_come_alone() {
    let provider = Provider::start().await;
    provider.script("silent", Turn::of([Step::Stall]));
    let request = HTTP
        .post(format!("{}/chat/completions", provider.base_url()))
        .json(&chat("silent", "x"));
    assert!(
        request
            .timeout(Duration::from_millis(100))
            .send()
            .await
            .unwrap_err()
            .is_timeout()
    );

    provider.script("headed", Turn::of([Step::Head, Step::Stall]));
    assert_eq!(
        ask(&provider, "/chat/completions", chat("headed", "x"))
            .await
            .status(),
        200
    );
}

#[tokio::test]
async fn a_function_answers_what_it_is_asked() {
    let provider = Provider::start().await;
    provider.script(
        "parrot",
        Script::answer(|asked| Turn::text(&format!("{} {}", asked.n, asked.last_user_message()))),
    );
    for n in 0..2 {
        let events_ = events(
            &ask(&provider, "/chat/completions", chat("parrot", "polly"))
                .await
                .text()
                .await
                .unwrap(),
        );
        assert_eq!(
            joined(&events_, "/choices/0/delta/content"),
            format!("{n} polly")
        );
    }
}

#[tokio::test]
async fn is_controlled_over_http() {
    let provider = Provider::start().await;
    let control = |method, path: &str| {
        HTTP.request(
            method,
            format!("http://{}/control/{path}", provider.address()),
        )
    };
    let turns = json!([{"steps": [{"wait_for": "open"}, {"text": "scripted"}]}]);
    let put = control(reqwest::Method::PUT, "scripts/some%2Fmodel")
        .json(&turns)
        .send()
        .await
        .unwrap();
    assert_eq!(put.status(), 200);
    let open = control(reqwest::Method::POST, "gates/open")
        .send()
        .await
        .unwrap();
    assert_eq!(open.status(), 200);
    let text = ask(&provider, "/chat/completions", chat("some/model", "x"))
        .await
        .text()
        .await
        .unwrap();
    assert!(text.contains("scripted"));
    let calls: Value = control(reqwest::Method::GET, "calls")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&calls[0]["model"], &calls[0]["outcome"]),
        (&json!("some/model"), &json!("finished"))
    );
    let wrong = control(reqwest::Method::PUT, "scripts/m")
        .json(&json!([{"steps": [{"sing": "la"}]}]))
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status(), 400);
}

#[tokio::test]
async fn keeps_the_schedule_and_the_connection() {
    let provider = Provider::start().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let begun = std::time::Instant::now();
    for _ in 0..3 {
        let answer = http
            .post(format!("{}/chat/completions", provider.base_url()))
            .json(&chat("tokens-10-5", "x"));
        assert!(
            answer
                .send()
                .await
                .unwrap()
                .text()
                .await
                .unwrap()
                .ends_with("data: [DONE]\n\n")
        );
    }
    assert!(begun.elapsed() >= Duration::from_millis(3 * 10 * 5));
    assert!(
        provider
            .calls()
            .iter()
            .all(|call| call.outcome == Outcome::Finished)
    );
}
