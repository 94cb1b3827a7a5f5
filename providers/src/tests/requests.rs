//! What is sent.

use adapters::sealing::Secret;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::server::{Asked, Server, Step, events, head, reply};
use super::{check, endpoint, providers};
use crate::{
    ChatMessage, ChatRequest, Endpoint, ModelErrorKind, Provider, Reasoning, TimeoutPhase,
    ToolCallRequest, ToolSpec,
};

fn conversation() -> ChatRequest {
    let call = |id: &str, arguments: &str| ToolCallRequest {
        id: id.to_owned(),
        name: "look".to_owned(),
        arguments: arguments.to_owned(),
        thought_signature: None,
    };
    let thought = |text: &str, signature: Option<&str>| Reasoning {
        text: text.to_owned(),
        signature: signature.map(str::to_owned),
        ..Reasoning::default()
    };
    let result = |id: &str, content: &str, is_error| ChatMessage::ToolResult {
        call_id: id.to_owned(),
        name: "look".to_owned(),
        content: content.to_owned(),
        is_error,
    };
    ChatRequest {
        system: Some("Be brief.".to_owned()),
        messages: vec![
            ChatMessage::User {
                text: "One".to_owned(),
            },
            ChatMessage::Assistant {
                text: "1".to_owned(),
                reasoning: vec![thought("old", Some("s0"))],
                tool_calls: vec![],
            },
            ChatMessage::User {
                text: "Two".to_owned(),
            },
            ChatMessage::Assistant {
                text: String::new(),
                reasoning: vec![thought("signed", Some("s1")), thought("plain", None)],
                tool_calls: vec![call("a.1", r#"{"q":1}"#), call("b", "{oops")],
            },
            result("a.1", "found", false),
            result("b", "", true),
        ],
        tools: vec![
            ToolSpec {
                name: "look".to_owned(),
                description: "Looks.".to_owned(),
                parameters: Value::Null,
            },
            ToolSpec {
                name: "find".to_owned(),
                description: String::new(),
                parameters: json!({"type": "object", "properties": {"q": {"type": "string"}}}),
            },
        ],
        temperature: Some(1.5),
        max_output_tokens: Some(77),
        passages: vec![],
    }
}

async fn asked(
    provider: Provider,
    request: ChatRequest,
    change: impl FnOnce(&mut Endpoint),
) -> Asked {
    let server = Server::start(vec![events(&["[DONE]"])]);
    let mut endpoint = endpoint(provider, &server);
    change(&mut endpoint);
    let _ = providers()
        .chat(endpoint)
        .stream(request)
        .await
        .next()
        .await;
    server.asked().remove(0)
}

fn openai_body(limit: &str, with_reasoning: bool) -> Value {
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "look", "arguments": arguments}});
    let mut body = json!({
        "model": "m-1",
        "stream": true,
        "stream_options": {"include_usage": true},
        "temperature": 1.5,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "1"},
            {"role": "user", "content": "Two"},
            {"role": "assistant", "tool_calls": [call("a.1", r#"{"q":1}"#), call("b", r#"{"not_an_object":"{oops"}"#)]},
            {"role": "tool", "tool_call_id": "a.1", "content": "found"},
            {"role": "tool", "tool_call_id": "b", "content": ""},
        ],
        "tools": [
            {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}},
            {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}}},
        ],
    });
    body[limit] = json!(77);
    if with_reasoning {
        body["messages"][4]["reasoning_content"] = json!("plain");
    }
    body
}

#[tokio::test]
async fn openai_chat() {
    let asked_openai = asked(Provider::OpenAi, conversation(), |_| {}).await;
    assert_eq!(asked_openai.line, "POST /v1/chat/completions");
    assert_eq!(
        asked_openai.body,
        openai_body("max_completion_tokens", false)
    );
    assert!(
        asked_openai
            .head
            .contains("\r\nauthorization: bearer sk-verysecret\r\n")
    );
    assert!(
        asked_openai
            .head
            .contains("\r\naccept: text/event-stream\r\n")
    );
    assert!(
        asked_openai
            .head
            .contains("\r\ncontent-type: application/json\r\n")
    );
    let compatible = asked(Provider::OpenAiCompatible, conversation(), |_| {}).await;
    assert_eq!(compatible.body, openai_body("max_tokens", true));
}

#[tokio::test]
async fn little_is_sent_where_little_is_said() {
    let request = super::question("hello");
    let asked = asked(Provider::OpenAiCompatible, request, |endpoint| {
        endpoint.api_key = None;
        let url = endpoint.base_url.as_mut().expect("a URL");
        url.set_path("/deep/v2/");
        url.set_query(Some("api-version=1"));
        endpoint
            .headers
            .push(("Authorization".to_owned(), Secret::new("Basic eDp5")));
        endpoint
            .headers
            .push(("X-Team".to_owned(), Secret::new("blue")));
    })
    .await;
    assert_eq!(asked.line, "POST /deep/v2/chat/completions?api-version=1");
    assert!(asked.head.contains("\r\nauthorization: basic edp5\r\n"));
    assert!(asked.head.contains("\r\nx-team: blue\r\n"));
    let expected = json!({
        "model": "m-1",
        "stream": true,
        "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "hello"}],
    });
    assert_eq!(asked.body, expected);
}

#[tokio::test]
async fn anthropic_chat() {
    let asked_with_tools = asked(Provider::Anthropic, conversation(), |_| {}).await;
    assert_eq!(asked_with_tools.line, "POST /v1/messages");
    assert!(
        asked_with_tools
            .head
            .contains("\r\nx-api-key: sk-verysecret\r\n")
    );
    assert!(
        asked_with_tools
            .head
            .contains("\r\nanthropic-version: 2023-06-01\r\n")
    );
    assert!(!asked_with_tools.head.contains("authorization"));
    let empty = json!({"type": "object", "properties": {}});
    let expected = json!({
        "model": "m-1",
        "stream": true,
        "max_tokens": 77,
        "temperature": 1.0,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "One"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "1"}]},
            {"role": "user", "content": [{"type": "text", "text": "Two"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "signed", "signature": "s1"},
                {"type": "tool_use", "id": "a_1", "name": "look", "input": {"q": 1}},
                {"type": "tool_use", "id": "b", "name": "look", "input": {"not_an_object": "{oops"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a_1", "content": "found", "is_error": false},
                {"type": "tool_result", "tool_use_id": "b", "content": "(empty)", "is_error": true},
            ]},
        ],
        "tools": [
            {"name": "look", "description": "Looks.", "input_schema": empty},
            {"name": "find", "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}}},
        ],
    });
    assert_eq!(asked_with_tools.body, expected);

    let mut last = conversation();
    last.tools.clear();
    last.max_output_tokens = None;
    last.messages.push(ChatMessage::User {
        text: "And now?".to_owned(),
    });
    let asked_last = asked(Provider::Anthropic, last, |endpoint| {
        endpoint.base_url.as_mut().expect("a URL").set_path("");
    })
    .await;
    assert_eq!(asked_last.line, "POST /v1/messages");
    assert_eq!(
        asked_last.body["tools"],
        json!([{"name": "look", "input_schema": empty}])
    );
    assert_eq!(asked_last.body["tool_choice"], json!({"type": "none"}));
    assert_eq!(asked_last.body["max_tokens"], json!(8192));
    // neighbours of one role are one message
    assert_eq!(
        asked_last.body["messages"][4]["content"][2],
        json!({"type": "text", "text": "And now?"})
    );
}

#[tokio::test]
async fn azure_chat() {
    for (base, line) in [
        (
            "/",
            "POST /openai/deployments/m-1/chat/completions?api-version=2025-04-01-preview",
        ),
        (
            "/openai/",
            "POST /openai/deployments/m-1/chat/completions?api-version=2025-04-01-preview",
        ),
        (
            "/?api-version=2024-10-21",
            "POST /openai/deployments/m-1/chat/completions?api-version=2024-10-21",
        ),
        ("/openai/v1/", "POST /openai/v1/chat/completions"),
        (
            "/openai/v1?api-version=preview",
            "POST /openai/v1/chat/completions?api-version=preview",
        ),
    ] {
        let asked = asked(Provider::AzureOpenAi, conversation(), |endpoint| {
            let url = endpoint.base_url.as_ref().expect("a URL");
            endpoint.base_url = Some(url.join(base).expect("a URL"));
        })
        .await;
        assert_eq!(asked.line, line);
        assert_eq!(asked.body, openai_body("max_completion_tokens", false));
        assert!(asked.head.contains("\r\napi-key: sk-verysecret\r\n"));
        assert!(!asked.head.contains("authorization"));
    }
}

#[tokio::test]
async fn azure_is_checked_by_a_token() {
    let json = "Content-Type: application/json\r\n";
    let missing = r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#;
    let thinks = r#"{"error":{"message":"Could not finish the message because max_tokens or model output limit was reached."}}"#;
    let first = r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#;
    let text = r#"{"choices":[{"index":0,"delta":{"content":"H"}}]}"#;
    let server = Server::start(vec![
        events(&[first, text]),
        reply(400, json, thinks),
        reply(404, json, missing),
    ]);
    let endpoint = endpoint(Provider::AzureOpenAi, &server);
    assert!(check(&endpoint).await.is_ok());
    assert!(check(&endpoint).await.is_ok());
    let error = check(&endpoint).await.expect_err("no deployment");
    assert_eq!(
        (error.kind, error.status),
        (ModelErrorKind::Refused, Some(404))
    );
    let none = providers().first_chat_model(&endpoint).await;
    assert_eq!(none, Ok(None));
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn gemini_chat() {
    let mut request = conversation();
    if let ChatMessage::Assistant {
        reasoning,
        tool_calls,
        ..
    } = &mut request.messages[3]
    {
        let signed = |text: &str, signature: &str| Reasoning {
            text: text.to_owned(),
            thought_signature: Some(signature.to_owned()),
            ..Reasoning::default()
        };
        reasoning.extend([signed("hm", "t1"), signed("", "t2")]);
        tool_calls[0].thought_signature = Some("t3".to_owned());
        tool_calls[1].id = "call_0123456789abcdef0123_1".to_owned();
    }
    if let ChatMessage::ToolResult { call_id, .. } = &mut request.messages[5] {
        "call_0123456789abcdef0123_1".clone_into(call_id);
    }
    request.messages.push(ChatMessage::Assistant {
        text: "So".to_owned(),
        reasoning: vec![],
        tool_calls: vec![ToolCallRequest {
            id: "toolu_1".to_owned(),
            name: "find".to_owned(),
            arguments: "{}".to_owned(),
            thought_signature: None,
        }],
    });
    let sent = asked(Provider::Gemini, request.clone(), |endpoint| {
        endpoint.thinks = true;
        "gemini-3-pro".clone_into(&mut endpoint.model_name);
    })
    .await;
    assert_eq!(
        sent.line,
        "POST /v1/models/gemini-3-pro:streamGenerateContent?alt=sse"
    );
    assert!(sent.head.contains("\r\nx-goog-api-key: sk-verysecret\r\n"));
    let expected = json!({
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "One"}]},
            {"role": "model", "parts": [{"text": "1"}]},
            {"role": "user", "parts": [{"text": "Two"}]},
            {"role": "model", "parts": [
                {"text": "hm", "thought": true, "thoughtSignature": "t1"},
                {"text": "", "thoughtSignature": "t2"},
                {"functionCall": {"id": "a.1", "name": "look", "args": {"q": 1}}, "thoughtSignature": "t3"},
                {"functionCall": {"name": "look", "args": {"not_an_object": "{oops"}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "a.1", "name": "look", "response": {"output": "found"}}},
                {"functionResponse": {"name": "look", "response": {"error": ""}}},
            ]},
            // made by another model, which has no signature
            {"role": "model", "parts": [
                {"text": "So"},
                {"functionCall": {"id": "toolu_1", "name": "find", "args": {}}, "thoughtSignature": "skip_thought_signature_validator"},
            ]},
        ],
        "tools": [{"functionDeclarations": [
            {"name": "look", "description": "Looks.", "parametersJsonSchema": {"type": "object", "properties": {}}},
            {"name": "find", "parametersJsonSchema": {"type": "object", "properties": {"q": {"type": "string"}}}},
        ]}],
        "generationConfig": {"temperature": 1.5, "maxOutputTokens": 77, "thinkingConfig": {"includeThoughts": true}},
    });
    assert_eq!(sent.body, expected);

    // another question later, nothing of it is signed any more; and the name may bring its folder
    request.messages.push(ChatMessage::User {
        text: "Three".to_owned(),
    });
    request.tools.clear();
    let later = asked(Provider::Gemini, request, |endpoint| {
        "tunedModels/a b".clone_into(&mut endpoint.model_name);
        let url = endpoint.base_url.as_mut().expect("a URL");
        url.set_path("/");
    })
    .await;
    assert_eq!(
        later.line,
        "POST /v1beta/tunedModels/a%20b:streamGenerateContent?alt=sse"
    );
    assert!(!later.body.to_string().contains("ignature"));
    assert_eq!(later.body.get("tools"), None);

    let little = asked(Provider::Gemini, super::question("hello"), |endpoint| {
        let url = endpoint.base_url.as_mut().expect("a URL");
        url.set_path("/v1/publishers/google");
    })
    .await;
    assert_eq!(
        little.line,
        "POST /v1/publishers/google/models/m-1:streamGenerateContent?alt=sse"
    );
    assert_eq!(
        little.body,
        json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]})
    );
}

#[tokio::test]
async fn ollama_chat() {
    let sent = asked(Provider::Ollama, conversation(), |endpoint| {
        endpoint.thinks = true;
        endpoint.context_window = Some(16_384);
        endpoint.api_key = None;
        let url = endpoint.base_url.as_mut().expect("a URL");
        url.set_path("/");
    })
    .await;
    assert_eq!(sent.line, "POST /api/chat");
    assert!(sent.head.contains("\r\naccept: application/x-ndjson\r\n"));
    assert!(!sent.head.contains("authorization"));
    let call = |id: &str, arguments: Value| json!({"id": id, "function": {"name": "look", "arguments": arguments}});
    let expected = json!({
        "model": "m-1",
        "stream": true,
        "truncate": false,
        "shift": false,
        "think": true,
        "options": {"temperature": 1.5, "num_predict": 77, "num_ctx": 16384},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "1"},
            {"role": "user", "content": "Two"},
            {"role": "assistant", "content": "", "thinking": "plain", "tool_calls": [
                call("a.1", json!({"q": 1})), call("b", json!({"not_an_object": "{oops"})),
            ]},
            {"role": "tool", "tool_name": "look", "tool_call_id": "a.1", "content": "found"},
            {"role": "tool", "tool_name": "look", "tool_call_id": "b", "content": ""},
        ],
        "tools": [
            {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}},
            {"type": "function", "function": {"name": "find", "description": "", "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}}},
        ],
    });
    assert_eq!(sent.body, expected);
    let little = asked(Provider::Ollama, super::question("hello"), |endpoint| {
        let url = endpoint.base_url.as_mut().expect("a URL");
        url.set_path("/behind/api/");
    })
    .await;
    assert_eq!(little.line, "POST /behind/api/chat");
    assert_eq!(
        little.body,
        json!({
            "model": "m-1", "stream": true, "truncate": false, "shift": false,
            "messages": [{"role": "user", "content": "hello"}],
        })
    );
}

#[tokio::test]
async fn a_check_asks_for_the_list_or_else_for_a_token() {
    let json = "Content-Type: application/json\r\n";
    let text = r#"{"choices":[{"delta":{"content":"H"}}]}"#;
    let refused = reply(401, json, r#"{"error":{"message":"bad key"}}"#);
    for (name, scripts, expected, calls) in [
        (
            "listed",
            vec![reply(
                200,
                json,
                r#"{"object":"list","data":[{"id":"m-10"},{"id":"m-1","object":"model"}]}"#,
            )],
            Ok(()),
            1,
        ),
        (
            "listed in another shape",
            vec![reply(200, json, r#"[{"name":"models/m-1"}]"#)],
            Ok(()),
            1,
        ),
        (
            "not listed, but it answers",
            vec![reply(200, json, r#"{"data":[]}"#), events(&[text])],
            Ok(()),
            2,
        ),
        (
            "not listed, and nobody knows it",
            vec![
                reply(200, json, r#"{"data":[{"id":"m-10"},{"id":"M-1"},{}]}"#),
                reply(404, json, r#"{"error":{"message":"no such model"}}"#),
            ],
            Err(ModelErrorKind::Refused),
            2,
        ),
        (
            "no list, but a token",
            vec![reply(404, "", ""), events(&[text])],
            Ok(()),
            2,
        ),
        (
            "a wrong key",
            vec![refused.clone()],
            Err(ModelErrorKind::Refused),
            1,
        ),
        (
            "no list, a wrong key",
            vec![reply(404, "", ""), refused],
            Err(ModelErrorKind::Refused),
            2,
        ),
        (
            "down",
            vec![reply(503, "", "")],
            Err(ModelErrorKind::Unavailable { retry_after: None }),
            1,
        ),
        (
            "not a list, but a token",
            vec![reply(200, json, "hm"), events(&[text])],
            Ok(()),
            2,
        ),
        (
            "not a list, and silence",
            vec![reply(200, json, "hm"), vec![head(), Step::AwaitClose]],
            Err(ModelErrorKind::Timeout(TimeoutPhase::FirstToken)),
            2,
        ),
        (
            "a list for others",
            vec![reply(403, json, "{}"), events(&[text])],
            Ok(()),
            2,
        ),
        ("nobody", vec![], Err(ModelErrorKind::Unreachable), 0),
    ] {
        let server = Server::start(scripts);
        let checked = check(&endpoint(Provider::OpenAiCompatible, &server)).await;
        assert_eq!(
            checked.map(|_| ()).map_err(|error| error.kind),
            expected,
            "{name}"
        );
        let asked = server.asked();
        assert_eq!(asked.len(), calls, "{name}");
        if let Some(second) = asked.get(1) {
            assert_eq!(second.body["max_tokens"], json!(1));
        }
        assert!(
            asked
                .iter()
                .all(|asked| asked.head.contains("sk-verysecret"))
        );
    }
}

#[tokio::test]
async fn one_token_is_counted_by_who_gave_it_or_else_estimated() {
    let text = r#"{"choices":[{"delta":{"content":"H"}}]}"#;
    let end = r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#;
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":1}}"#;
    // "Hi", and what stands around it, by the byte
    let estimate = |output| (3 + 4 + 2, output, true);
    let silent = [events(&[text]), vec![Step::AwaitClose]].concat();
    for (name, script, expected) in [
        ("told", events(&[text, end, usage, "[DONE]"]), (7, 1, false)),
        ("not told", events(&[text, end, "[DONE]"]), estimate(1)),
        ("broken off", events(&[text]), estimate(1)),
        ("goes on", events(&[text; 100]), estimate(16)),
        ("falls silent", silent, estimate(1)),
    ] {
        let server = Server::start(vec![script]);
        let endpoint = endpoint(Provider::OpenAiCompatible, &server);
        let token = providers().one_token(&endpoint).await.expect(name);
        let found = (token.usage.input, token.usage.output, token.is_estimate);
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test]
async fn the_first_that_chats_is_found() {
    let json = "Content-Type: application/json\r\n";
    for (provider, body, expected) in [
        (
            Provider::OpenAi,
            r#"{"data":[{"id":"whisper-1"},{"id":"text-embedding-3-small"},{"id":"gpt-x"},{"id":"gpt-y"}]}"#,
            Some("gpt-x"),
        ),
        (
            Provider::Anthropic,
            r#"{"data":[{"type":"model","id":"claude-z"}],"has_more":false}"#,
            Some("claude-z"),
        ),
        (Provider::OpenAiCompatible, r#"{"data":[]}"#, None),
        (
            Provider::OpenAiCompatible,
            r#"{"object":"list","data":null}"#,
            None,
        ),
    ] {
        let server = Server::start(vec![reply(200, json, body)]);
        let found = providers()
            .first_chat_model(&endpoint(provider, &server))
            .await
            .expect("a list");
        assert_eq!(found.as_deref(), expected);
        let line = match provider {
            Provider::Anthropic => "GET /v1/models?limit=1000",
            _ => "GET /v1/models",
        };
        assert_eq!(server.asked()[0].line, line);
    }
}
