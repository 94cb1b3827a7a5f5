use serde_json::json;

use super::server::{Server, Step, events, head, reply, send};
use super::{Told, broken_everywhere, call, check, endpoint, listen, providers};
use crate::{ModelErrorKind, Provider, Reasoning, TokenUsage};

const JSON: &str = "Content-Type: application/json\r\n";
const TEXT: &str =
    r#"{"candidates":[{"content":{"parts":[{"text":"ok"}],"role":"model"},"index":0}]}"#;
const END: &str = r#"{"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":0}]}"#;

async fn gemini(data: &[&str]) -> Told {
    call(Provider::Gemini, vec![events(data)]).await
}

#[tokio::test]
async fn thoughts_text_and_tools() {
    let told = gemini(&[
        r#"{"candidates":[{"content":{"parts":[{"text":"Let me","thought":true}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":20,"totalTokenCount":20},"modelVersion":"gemini-2.5-flash","responseId":"r"}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":" see","thought":true}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":20,"thoughtsTokenCount":7,"totalTokenCount":27}}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"Hé","thoughtSignature":"c2ln"},{"text":"llo"}],"role":"model"},"index":0,"safetyRatings":[]}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"x":1}},"thoughtSignature":"Y2FsbA=="},{"functionCall":{"id":"g-1","name":"g"}}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":20,"cachedContentTokenCount":12,"candidatesTokenCount":9,"thoughtsTokenCount":7,"toolUsePromptTokenCount":3,"totalTokenCount":39}}"#,
    ])
    .await;
    let answer = told.answer.expect("an answer");
    let made = answer.tool_calls[0].id.clone();
    assert!(made.starts_with("call_") && made.len() <= 40, "{made}");
    assert_eq!(
        told.events,
        [
            "r:Let me",
            "r: see",
            "t:Hé",
            "t:llo",
            &format!("c0:{made}/f"),
            "a0:{\"x\":1}",
            "c1:g-1/g",
            "a1:{}",
            "f:tool_calls"
        ]
    );
    let signed = |text: &str, signature: Option<&str>| Reasoning {
        text: text.to_owned(),
        thought_signature: signature.map(str::to_owned),
        ..Reasoning::default()
    };
    assert_eq!(
        answer.reasoning,
        [signed("Let me see", None), signed("", Some("c2ln"))]
    );
    let signatures: Vec<_> = answer
        .tool_calls
        .iter()
        .map(|call| call.thought_signature.as_deref())
        .collect();
    assert_eq!(signatures, [Some("Y2FsbA=="), None]);
    let usage = TokenUsage {
        input: 23,
        output: 16,
        cached_input: 12,
        reasoning: 7,
    };
    assert_eq!(answer.usage, Some(usage));
}

#[tokio::test]
async fn ends_and_errors() {
    let ended = |reason: &str| {
        format!(r#"{{"candidates":[{{"content":{{}},"finishReason":"{reason}","index":0}}]}}"#)
    };
    let (cut, filtered, odd, none) = (
        ended("MAX_TOKENS"),
        ended("SAFETY"),
        ended("SOMETHING_NEW"),
        ended("FINISH_REASON_UNSPECIFIED"),
    );
    let malformed = r#"{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL","finishMessage":"Malformed function call: print(","index":0}]}"#;
    let blocked = r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":5}}"#;
    for (name, data, expected) in [
        ("whole", vec![TEXT, END], vec!["t:ok", "f:stop"]),
        (
            "the reason beside the text",
            vec![
                r#"{"candidates":[{"content":{"parts":[{"text":"ok"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":null}}"#,
            ],
            vec!["t:ok", "f:stop"],
        ),
        ("cut by length", vec![TEXT, &cut], vec!["t:ok", "f:length"]),
        (
            "stopped by a filter",
            vec![TEXT, &filtered],
            vec!["t:ok", "f:content_filter"],
        ),
        (
            "a reason of a later version",
            vec![TEXT, &odd],
            vec!["t:ok", "f:something_new"],
        ),
        ("no end", vec![TEXT], vec!["t:ok", "e:BrokenOff"]),
        (
            "a reason that is none",
            vec![TEXT, &none],
            vec!["t:ok", "e:BrokenOff"],
        ),
        (
            "a call that is none after text",
            vec![TEXT, malformed],
            vec!["t:ok", "e:BrokenOff"],
        ),
        ("a blocked prompt", vec![blocked], vec!["e:Refused"]),
        (
            "garbage",
            vec![TEXT, "{nonsense"],
            vec!["t:ok", "e:Malformed"],
        ),
        (
            "another shape",
            vec![r#"{"candidates":"none"}"#],
            vec!["e:Malformed"],
        ),
        (
            "an error after text",
            vec![
                TEXT,
                r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#,
            ],
            vec!["t:ok", "e:Unavailable { retry_after: None }"],
        ),
        (
            "too long",
            vec![
                r#"{"error":{"code":400,"message":"The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}"#,
            ],
            vec!["e:ContextTooLong"],
        ),
        (
            "another candidate, and NUL",
            vec![
                r#"{"candidates":[{"index":1,"content":{"parts":[{"text":"no"}]}},{"index":0,"content":{"parts":[{"text":"a\u0000b"}]},"finishReason":"STOP"}]}"#,
            ],
            vec!["t:ab", "f:stop"],
        ),
        (
            "parts that say nothing we know",
            vec![
                r#"{"candidates":[{"content":{"parts":[{"executableCode":{"code":"1"}},{"inlineData":{"mimeType":"image/png","data":"eA=="}},{}]},"index":0}]}"#,
                TEXT,
                END,
            ],
            vec!["t:ok", "f:stop"],
        ),
    ] {
        let told = gemini(&data).await;
        assert_eq!(told.events, expected, "{name}");
        assert_eq!(told.calls, 1, "{name}");
    }
    let told = gemini(&[blocked]).await;
    assert_eq!(
        told.error.expect("an error").message,
        "the provider blocks the prompt: PROHIBITED_CONTENT"
    );
}

#[tokio::test]
async fn a_connection_may_break_at_every_byte() {
    let whole = format!("data: {TEXT}\r\n\r\ndata: {END}\r\n\r\n");
    let said = whole.find("\r\n\r\n").expect("an event") + 3;
    let ended = whole.len() - 1;
    for (cut, told) in broken_everywhere(Provider::Gemini, head(), &whole).await {
        // the line end that closes an event counts from its CR on
        let expected = match cut {
            cut if cut < said => vec!["e:BrokenOff"],
            cut if cut < ended => vec!["t:ok", "e:BrokenOff"],
            _ => vec!["t:ok", "f:stop"],
        };
        assert_eq!(told.events, expected, "cut at {cut}");
        assert_eq!(told.calls, if cut < said { 3 } else { 1 }, "cut at {cut}");
    }
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let fine = events(&[TEXT, END]);
    let busy = r#"{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"0.02s"}]}}"#;
    let malformed = events(&[r#"{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL"}]}"#]);
    for (name, first) in [
        ("a limit", reply(429, JSON, busy)),
        (
            "overload",
            reply(
                503,
                JSON,
                r#"[{"error":{"code":503,"message":"x","status":"UNAVAILABLE"}}]"#,
            ),
        ),
        ("a call that is none", malformed),
        ("half a line", vec![head(), send("data: {\"candi")]),
    ] {
        let told = call(Provider::Gemini, vec![first, fine.clone()]).await;
        assert_eq!(told.events, ["t:ok", "f:stop"], "{name}");
        assert_eq!(told.calls, 2, "{name}");
    }
    let told = call(Provider::Gemini, vec![reply(429, JSON, busy); 3]).await;
    assert_eq!(told.events, ["e:RateLimited { retry_after: Some(20ms) }"]);
    let wrong = r#"{"error":{"code":400,"message":"API key not valid: sk-verysecret at https://x.example/k","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#;
    let told = call(Provider::Gemini, vec![reply(400, JSON, wrong)]).await;
    assert_eq!(told.calls, 1);
    let error = told.error.expect("an error");
    assert_eq!(
        (error.message.as_str(), error.status),
        ("API key not valid: *** at [address]", Some(401))
    );
    let list = r#"[{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}]"#;
    let told = call(Provider::Gemini, vec![reply(200, JSON, list)]).await;
    assert_eq!(told.events, ["e:Refused"]);
}

#[tokio::test]
async fn models_are_listed() {
    let list = r#"{"models":[{"name":"models/embedding-001","supportedGenerationMethods":["embedContent"]},{"name":"models/aqa","supportedGenerationMethods":["generateAnswer"]},{"name":"models/gemini-x-image","supportedGenerationMethods":["generateContent"]},{"name":"models/gemini-x","supportedGenerationMethods":["generateContent","countTokens"]},{"name":"models/m-1"}],"nextPageToken":"t"}"#;
    let server = Server::start(vec![
        reply(200, JSON, list),
        reply(200, JSON, list),
        reply(404, JSON, "{}"),
        events(&[TEXT]),
        reply(
            403,
            JSON,
            r#"{"error":{"code":403,"message":"no","status":"PERMISSION_DENIED"}}"#,
        ),
        reply(
            403,
            JSON,
            r#"{"error":{"code":403,"message":"no","status":"PERMISSION_DENIED"}}"#,
        ),
    ]);
    let endpoint = endpoint(Provider::Gemini, &server);
    let first = providers().first_chat_model(&endpoint).await;
    assert_eq!(first.expect("a list").as_deref(), Some("gemini-x"));
    assert!(check(&endpoint).await.is_ok());
    assert!(check(&endpoint).await.is_ok());
    let refused = check(&endpoint).await.map_err(|error| error.kind);
    assert_eq!(refused, Err(ModelErrorKind::Refused));
    let asked = server.asked();
    let lines: Vec<&str> = asked.iter().map(|asked| asked.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/models?pageSize=1000",
            "GET /v1/models?pageSize=1000",
            "GET /v1/models?pageSize=1000",
            "POST /v1/models/m-1:streamGenerateContent?alt=sse",
            "GET /v1/models?pageSize=1000",
            "POST /v1/models/m-1:streamGenerateContent?alt=sse"
        ]
    );
    assert!(asked.iter().all(|asked| {
        asked.head.contains("\r\nx-goog-api-key: sk-verysecret\r\n")
            && !asked.head.contains("authorization")
    }));
    assert_eq!(
        asked[3].body["generationConfig"],
        json!({"maxOutputTokens": 1})
    );
}

#[tokio::test]
async fn silence_after_the_reason_is_the_end() {
    let script = vec![
        head(),
        send(&format!("data: {TEXT}\n\ndata: {END}\n\n")),
        Step::AwaitClose,
    ];
    let server = Server::start(vec![script]);
    let mut endpoint = endpoint(Provider::Gemini, &server);
    endpoint.timeout = std::time::Duration::from_millis(200);
    assert_eq!(listen(&endpoint).await.events, ["t:ok", "f:stop"]);
}
