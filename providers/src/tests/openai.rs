use super::server::{Step, events, head, send};
use super::{Told, call};
use crate::{Provider, Reasoning, TokenUsage, ToolCallRequest};

async fn openai(data: &[&str]) -> Told {
    call(Provider::OpenAi, vec![events(data)]).await
}

fn tool_call(id: &str, name: &str, arguments: &str) -> ToolCallRequest {
    ToolCallRequest {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        ..ToolCallRequest::default()
    }
}

#[tokio::test]
async fn text_with_usage() {
    let told = openai(&[
        r#"{"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"Hé"},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"llo"},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":12},"completion_tokens_details":{"reasoning_tokens":5}}}"#,
        "[DONE]",
    ])
    .await;
    assert_eq!(told.events, ["t:Hé", "t:llo", "f:stop"]);
    let usage = TokenUsage {
        input: 20,
        output: 9,
        cached_input: 12,
        reasoning: 5,
    };
    assert_eq!(told.answer.and_then(|answer| answer.usage), Some(usage));
}

#[tokio::test]
async fn tool_calls_side_by_side() {
    let told = openai(&[
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{\"q\""}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":\"\\u00"}},{"index":1,"function":{"arguments":":2}"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"00y\"}"}}]}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        "[DONE]",
    ])
    .await;
    assert_eq!(
        told.events,
        [
            "c0:a/f",
            "c1:b/g",
            "a1:{\"q\"",
            "a0:{\"x\":\"",
            "a1::2}",
            "a0:y\"}",
            "f:tool_calls"
        ]
    );
    let calls = told.answer.map(|answer| answer.tool_calls);
    assert_eq!(
        calls,
        Some(vec![
            tool_call("a", "f", "{\"x\":\"y\"}"),
            tool_call("b", "g", "{\"q\":2}")
        ])
    );
}

#[tokio::test]
async fn what_imitators_do() {
    for (name, data, expected) in [
        (
            "reasoning under two names, said once",
            vec![
                r#"{"choices":[{"delta":{"reasoning_content":"hm","reasoning":"hm","content":null}}]}"#,
                r#"{"choices":[{"delta":{"reasoning":"so"}}]}"#,
                r#"{"choices":[{"delta":{"content":"ok"},"finish_reason":"stop"}]}"#,
                "[DONE]",
            ],
            vec!["r:hm", "r:so", "t:ok", "f:stop"],
        ),
        (
            "content in parts",
            vec![
                r#"{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"ok"}]}}]}"#,
                r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            ],
            vec!["r:hm", "t:ok", "f:stop"],
        ),
        (
            "no end marker, but a finish reason",
            vec![r#"{"choices":[{"delta":{"content":"ok"},"finish_reason":"length"}]}"#],
            vec!["t:ok", "f:length"],
        ),
        (
            "no finish reason, but an end marker",
            vec![r#"{"choices":[{"delta":{"content":"ok"}}]}"#, "[DONE]"],
            vec!["t:ok", "f:stop"],
        ),
        (
            "an empty answer is one",
            vec![
                r#"{"choices":[{"delta":{"content":""},"finish_reason":"stop"}]}"#,
                "[DONE]",
            ],
            vec!["f:stop"],
        ),
        (
            "every call has the index 0",
            vec![
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}},{"index":0,"id":"b","function":{"name":"f","arguments":"{}"}}]}}]}"#,
                r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
                "[DONE]",
            ],
            vec!["c0:a/f", "a0:{}", "c1:b/f", "a1:{}", "f:stop"],
        ),
        (
            "no index, arguments as an object or none",
            vec![
                r#"{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":{"x":1}}}]}}]}"#,
                r#"{"choices":[{"delta":{"tool_calls":[{"id":"b","function":{"name":"g"}}]}}]}"#,
                r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#,
                "[DONE]",
            ],
            vec!["c0:a/f", "a0:{\"x\":1}", "c1:b/g", "a1:{}", "f:tool_calls"],
        ),
        (
            "the name repeated with each piece",
            vec![
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]}}]}"#,
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"}"}}]}}]}"#,
                "[DONE]",
            ],
            vec!["c0:a/f", "a0:{", "a0:}", "f:tool_calls"],
        ),
        (
            "another choice is not ours, NUL is dropped, a refusal is text",
            vec![
                r#"{"choices":[{"index":1,"delta":{"content":"no"}},{"index":0,"delta":{"content":"a\u0000b\u0000"}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"content":"\u0000"}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"refusal":"I can't"},"finish_reason":"content_filter"}]}"#,
                "[DONE]",
            ],
            vec!["t:ab", "t:I can't", "f:content_filter"],
        ),
    ] {
        assert_eq!(openai(&data).await.events, expected, "{name}");
    }
}

#[tokio::test]
async fn a_call_without_an_id_gets_a_short_one() {
    let told = openai(&[
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}},{"index":1,"function":{"name":"f","arguments":"{}"}}]}}]}"#,
        "[DONE]",
    ])
    .await;
    let calls = told.answer.expect("an answer").tool_calls;
    assert_eq!(calls.len(), 2);
    assert!(
        calls[0].id != calls[1].id
            && calls
                .iter()
                .all(|call| call.id.len() <= 40 && call.id.starts_with("call_"))
    );
}

#[tokio::test]
async fn reasoning_is_kept_for_the_next_turn() {
    let told = openai(&[
        r#"{"choices":[{"delta":{"reasoning_content":"a"}}]}"#,
        r#"{"choices":[{"delta":{"reasoning_content":"b"}}]}"#,
        r#"{"choices":[{"delta":{"content":"c"},"finish_reason":"stop"}]}"#,
    ])
    .await;
    let thought = Reasoning {
        text: "ab".to_owned(),
        ..Reasoning::default()
    };
    assert_eq!(
        told.answer.map(|answer| answer.reasoning),
        Some(vec![thought])
    );
}

#[tokio::test]
async fn characters_may_be_cut_anywhere() {
    let line = "data: {\"choices\":[{\"delta\":{\"content\":\"日本🎉\"},\"finish_reason\":\"stop\"}]}\r\n\r\ndata: [DONE]\r\n\r\n";
    let mut steps = vec![head()];
    steps.extend(
        line.as_bytes()
            .chunks(1)
            .map(|byte| Step::Send(byte.to_vec())),
    );
    let told = call(Provider::OpenAiCompatible, vec![steps]).await;
    assert_eq!(told.events, ["t:日本🎉", "f:stop"]);
    let broken =
        Step::Send(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\xffb\"}}]}\n\n".to_vec());
    let told = call(
        Provider::OpenAiCompatible,
        vec![vec![head(), broken, send("data: [DONE]\n\n")]],
    )
    .await;
    assert_eq!(told.events, ["t:a\u{fffd}b", "f:stop"]);
}
