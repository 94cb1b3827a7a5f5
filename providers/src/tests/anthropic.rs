use super::server::{Step, head, send};
use super::{Told, call};
use crate::{Provider, Reasoning, TokenUsage, ToolCallRequest};

/// Events as Anthropic sends them, each with its name.
fn events(data: &[&str]) -> Vec<Step> {
    let mut steps = vec![head()];
    for data in data {
        let value: serde_json::Value = serde_json::from_str(data).expect("JSON");
        steps.push(send(&format!(
            "event: {}\ndata: {data}\n\n",
            value["type"].as_str().expect("a type")
        )));
    }
    steps
}

async fn anthropic(data: &[&str]) -> Told {
    call(Provider::Anthropic, vec![events(data)]).await
}

const START: &str = r#"{"type":"message_start","message":{"id":"msg","type":"message","role":"assistant","content":[],"stop_reason":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":3,"cache_read_input_tokens":7,"output_tokens":1}}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

#[tokio::test]
async fn thinking_text_and_tools() {
    let told = anthropic(&[
        START,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"si"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"gn"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"xyz"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Hi"}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"citations_delta","citation":{"type":"page_location","cited_text":"x"}}}"#,
        r#"{"type":"content_block_stop","index":2}"#,
        r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1","name":"f","input":{}}}"#,
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"toolu_2","name":"g","input":{}}}"#,
        r#"{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"{\"b\":"}}"#,
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}}"#,
        r#"{"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"2}"}}"#,
        r#"{"type":"content_block_start","index":5,"content_block":{"type":"tool_use","id":"toolu_3","name":"h","input":{}}}"#,
        r#"{"type":"content_block_stop","index":5}"#,
        r#"{"type":"something_new","index":5}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":40}}"#,
        STOP,
    ])
    .await;
    assert_eq!(
        told.events,
        [
            "r:hm",
            "t:Hi",
            "c0:toolu_1/f",
            "c1:toolu_2/g",
            "a1:{\"b\":",
            "a0:{\"a\":1}",
            "a1:2}",
            "c2:toolu_3/h",
            "a2:{}",
            "f:tool_calls"
        ]
    );
    let answer = told.answer.expect("an answer");
    assert_eq!(
        answer.reasoning,
        [
            Reasoning {
                text: "hm".to_owned(),
                signature: Some("sign".to_owned()),
                ..Reasoning::default()
            },
            Reasoning {
                redacted: Some("xyz".to_owned()),
                ..Reasoning::default()
            },
        ]
    );
    let usage = TokenUsage {
        input: 20,
        output: 40,
        cached_input: 7,
        reasoning: 0,
    };
    assert_eq!(answer.usage, Some(usage));
    let first = ToolCallRequest {
        id: "toolu_1".to_owned(),
        name: "f".to_owned(),
        arguments: "{\"a\":1}".to_owned(),
        ..ToolCallRequest::default()
    };
    assert_eq!(answer.tool_calls[0], first);
}

#[tokio::test]
async fn ends_and_errors() {
    let text =
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#;
    let begin =
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let end = r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":4}}"#;
    let overloaded =
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    for (name, data, expected) in [
        (
            "cut by length",
            vec![START, begin, text, end, STOP],
            vec!["t:Hi", "f:length"],
        ),
        ("nothing said", vec![START, end, STOP], vec!["f:length"]),
        (
            "no end marker",
            vec![START, begin, text, end],
            vec!["t:Hi", "e:BrokenOff"],
        ),
        (
            "overloaded",
            vec![START, begin, text, overloaded],
            vec!["t:Hi", "e:Unavailable { retry_after: None }"],
        ),
        (
            "no block",
            vec![
                START,
                begin,
                text,
                r#"{"type":"content_block_start","index":1}"#,
            ],
            vec!["t:Hi", "e:Malformed"],
        ),
    ] {
        let told = anthropic(&data).await;
        assert_eq!(told.events, expected, "{name}");
        assert_eq!(told.calls, 1, "{name}");
    }
}

#[tokio::test]
async fn an_overload_before_the_first_token_is_tried_again() {
    let overloaded = events(&[
        START,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
    ]);
    let fine = events(&[
        START,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"Hi"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
        STOP,
    ]);
    let told = call(Provider::Anthropic, vec![overloaded.clone(), fine]).await;
    assert_eq!(
        (told.events, told.calls),
        (vec!["t:Hi".to_owned(), "f:stop".to_owned()], 2)
    );
    let told = call(Provider::Anthropic, vec![overloaded; 4]).await;
    assert_eq!(told.calls, 3);
    assert_eq!(told.error.expect("an error").message, "Overloaded");
}
