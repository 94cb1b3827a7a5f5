use std::time::Duration;

use adapters::outbound::Reach;
use adapters::sealing::Secret;

use super::server::{Server, Step, events, head, reply, send};
use super::{call, endpoint, listen};
use crate::{ModelErrorKind, Provider};

const TEXT: &str = r#"{"choices":[{"delta":{"content":"ok"}}]}"#;
const END: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test]
async fn every_fault_has_its_kind_and_its_number_of_calls() {
    let fine = events(&[TEXT, END, "[DONE]"]);
    let half = vec![head(), send("data: {\"choices\":[{\"delta\":{\"con")];
    let chunked = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        vec![send(&format!("{head}{:x}\r\n{body}\r\n", body.len()))]
    };
    let with_text = |data: &str| events(&[TEXT, data]);
    for (name, scripts, expected, calls) in [
        (
            "half a line, three times",
            vec![half.clone(); 4],
            vec!["e:BrokenOff"],
            3,
        ),
        (
            "half a line once",
            vec![half.clone(), fine.clone()],
            vec!["t:ok", "f:stop"],
            2,
        ),
        (
            "half a line after text",
            vec![[with_text("").as_slice(), &[send("data: {\"ch")]].concat()],
            vec!["t:ok", "e:BrokenOff"],
            1,
        ),
        (
            "no end at all",
            vec![events(&[TEXT])],
            vec!["t:ok", "e:BrokenOff"],
            1,
        ),
        (
            "nothing in the stream",
            vec![vec![head()]; 4],
            vec!["e:BrokenOff"],
            3,
        ),
        (
            "an end of nothing",
            vec![events(&["[DONE]"]); 4],
            vec!["e:BrokenOff"],
            3,
        ),
        (
            "a chunked body cut off",
            vec![chunked(&format!("data: {TEXT}\n\n"))],
            vec!["t:ok", "e:BrokenOff"],
            1,
        ),
        (
            "a chunked body cut off after the reason",
            vec![chunked(&format!("data: {TEXT}\n\ndata: {END}\n\n"))],
            vec!["t:ok", "f:stop"],
            1,
        ),
        (
            "closed without an answer",
            vec![vec![], fine.clone()],
            vec!["t:ok", "f:stop"],
            2,
        ),
        (
            "garbage",
            vec![events(&["{nonsense"])],
            vec!["e:Malformed"],
            1,
        ),
        (
            "garbage after text",
            vec![with_text("[1,2")],
            vec!["t:ok", "e:Malformed"],
            1,
        ),
        (
            "another shape",
            vec![events(&[r#"{"choices":"none"}"#])],
            vec!["e:Malformed"],
            1,
        ),
        (
            "nested beyond reason",
            vec![events(&[&"[".repeat(100_000)])],
            vec!["e:Malformed"],
            1,
        ),
        (
            "an error in the stream",
            vec![events(&[
                r#"{"error":{"message":"no","type":"invalid_request_error"}}"#,
            ])],
            vec!["e:Refused"],
            1,
        ),
        (
            "an error after text",
            vec![with_text(
                r#"{"error":{"message":"x","type":"server_error"}}"#,
            )],
            vec!["t:ok", "e:Unavailable { retry_after: None }"],
            1,
        ),
        (
            "a limit in the stream",
            vec![
                events(&[r#"{"error":{"message":"x","code":429}}"#]),
                fine.clone(),
            ],
            vec!["t:ok", "f:stop"],
            2,
        ),
        (
            "an error by name",
            vec![vec![
                head(),
                send("event: error\ndata: {\"message\":\"x\"}\n\n"),
            ]],
            vec!["e:Refused"],
            1,
        ),
        (
            "JSON in place of a stream",
            vec![reply(200, JSON, r#"{"choices":[]}"#)],
            vec!["e:Malformed"],
            1,
        ),
        (
            "an error with status 200",
            vec![reply(200, JSON, r#"{"error":{"message":"no"}}"#)],
            vec!["e:Refused"],
            1,
        ),
        (
            "a page",
            vec![reply(200, "Content-Type: text/html\r\n", "<html>")],
            vec!["e:Malformed"],
            1,
        ),
        (
            "compressed",
            vec![reply(200, "Content-Encoding: gzip\r\n", "x")],
            vec!["e:Malformed"],
            1,
        ),
        (
            "a redirect",
            vec![reply(307, "Location: http://127.0.0.1:1/\r\n", "")],
            vec!["e:Refused"],
            1,
        ),
        (
            "a wrong key",
            vec![reply(401, JSON, r#"{"error":{"message":"no"}}"#)],
            vec!["e:Refused"],
            1,
        ),
        (
            "too fast, then not",
            vec![reply(429, "Retry-After: 0\r\n", ""), fine.clone()],
            vec!["t:ok", "f:stop"],
            2,
        ),
        (
            "too fast for ever",
            vec![reply(429, "Retry-After: 0\r\n", ""); 4],
            vec!["e:RateLimited { retry_after: Some(0ns) }"],
            3,
        ),
        (
            "too fast, for longer than is waited",
            vec![reply(429, "Retry-After: 3\r\n", ""), fine.clone()],
            vec!["e:RateLimited { retry_after: Some(3s) }"],
            1,
        ),
        (
            "down, for longer than is waited",
            vec![reply(503, "Retry-After: 3\r\n", ""), fine.clone()],
            vec!["e:Unavailable { retry_after: Some(3s) }"],
            1,
        ),
        (
            "down, then not",
            vec![reply(502, "", ""), reply(503, "", "x"), fine.clone()],
            vec!["t:ok", "f:stop"],
            3,
        ),
        (
            "down for ever",
            vec![reply(500, JSON, "{}"); 4],
            vec!["e:Unavailable { retry_after: None }"],
            3,
        ),
        ("nobody there", vec![], vec!["e:Unreachable"], 0),
        (
            "one event without end",
            vec![vec![head(), send(&"x".repeat(1_100_000))]],
            vec!["e:Malformed"],
            1,
        ),
        (
            "one large event",
            vec![events(&[
                &format!(
                    r#"{{"choices":[{{"delta":{{}},"finish_reason":"stop"}}],"x":"{}"}}"#,
                    "x".repeat(900_000)
                ),
                "[DONE]",
            ])],
            vec!["f:stop"],
            1,
        ),
        (
            "not HTTP",
            vec![vec![send("SSH-2.0-OpenSSH\r\n")]; 4],
            vec!["e:BrokenOff"],
            3,
        ),
    ] {
        let told = call(Provider::OpenAiCompatible, scripts).await;
        assert_eq!(told.events, expected, "{name}");
        assert_eq!(told.calls, calls, "{name}");
    }
}

#[tokio::test]
async fn what_a_provider_asks_for_is_waited() {
    let scripts = vec![
        reply(429, "Retry-After-Ms: 40\r\n", ""),
        events(&[TEXT, END]),
    ];
    let begun = tokio::time::Instant::now();
    assert_eq!(
        call(Provider::OpenAi, scripts).await.events,
        ["t:ok", "f:stop"]
    );
    // the backoff would have been 4 ms at most
    assert!(begun.elapsed() >= Duration::from_millis(40));
}

#[tokio::test]
async fn an_error_shows_neither_secret_nor_address() {
    let body = r#"{"error":{"message":"Key sk-verysecret at https://inner.example/x\u0000 and\ntop-secret-token is wrong"}}"#;
    let server = Server::start(vec![reply(400, JSON, body)]);
    let mut endpoint = endpoint(Provider::OpenAiCompatible, &server);
    endpoint
        .headers
        .push(("X-Extra".to_owned(), Secret::new("Token top-secret-token")));
    let error = listen(&endpoint).await.error.expect("an error");
    assert_eq!(error.status, Some(400));
    for hidden in [
        "verysecret",
        "inner.example",
        "top-secret-token",
        "\n",
        "\0",
    ] {
        assert!(!error.message.contains(hidden), "{}", error.message);
    }
    assert!(
        error.message.starts_with("Key ") && error.message.ends_with("is wrong"),
        "{}",
        error.message
    );
    let server = Server::start(vec![reply(400, "", &"x".repeat(200_000))]);
    let error = listen(&super::endpoint(Provider::OpenAiCompatible, &server))
        .await
        .error
        .expect("an error");
    assert_eq!(error.message.chars().count(), 500);
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_not_called() {
    let server = Server::start(vec![events(&[TEXT, END])]);
    for (reach, host) in [
        (Reach::Managed, "127.0.0.1"),
        (Reach::Chosen, "localhost"),
        (Reach::Managed, "[::1]"),
    ] {
        let mut endpoint = endpoint(Provider::OpenAiCompatible, &server);
        endpoint.reach = reach;
        endpoint
            .base_url
            .as_mut()
            .expect("a URL")
            .set_host(Some(host))
            .expect("a host");
        let error = listen(&endpoint).await.error.expect("an error");
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ModelErrorKind::AddressRefused, "address not allowed")
        );
    }
    assert_eq!(server.asked().len(), 0);
}

#[tokio::test]
async fn what_cannot_be_called_says_so() {
    let server = Server::start(vec![]);
    let whole = endpoint(Provider::OpenAiCompatible, &server);
    let mut no_address = whole.clone();
    no_address.base_url = None;
    let mut bad_key = whole.clone();
    bad_key.api_key = Some(Secret::new("a\nb"));
    let mut framing = whole.clone();
    framing
        .headers
        .push(("Transfer-Encoding".to_owned(), Secret::new("chunked")));
    let mut no_name = whole.clone();
    no_name.headers.push(("a b".to_owned(), Secret::new("x")));
    for (endpoint, message) in [
        (no_address, "the model has no base URL"),
        (
            bad_key,
            "the API key has characters that no header can carry",
        ),
        (framing, "the header transfer-encoding can't be set"),
        (no_name, "a header's name is no name"),
    ] {
        let error = listen(&endpoint).await.error.expect("an error");
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ModelErrorKind::Unsupported, message)
        );
    }
}

#[tokio::test]
async fn an_answer_has_no_end_of_tool_calls() {
    let call_at = |index: u32| {
        format!(
            r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":{index},"id":"i{index}","function":{{"name":"f"}}}}]}}}}]}}"#
        )
    };
    let far = call_at(u32::MAX);
    let told = call(Provider::OpenAi, vec![events(&[&far, "[DONE]"])]).await;
    assert_eq!(told.events, ["c0:i4294967295/f", "a0:{}", "f:tool_calls"]);
    let mut steps: Vec<Step> = events(&[]);
    steps.extend((0..200).map(|index| send(&format!("data: {}\n\n", call_at(index)))));
    let told = call(Provider::OpenAi, vec![steps]).await;
    assert_eq!(told.events.len(), 129);
    assert_eq!(told.events.last().map(String::as_str), Some("e:Malformed"));
}
