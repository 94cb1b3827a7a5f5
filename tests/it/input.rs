//! What comes in wrong, and the code that it is answered with: the table is the test. Nothing of it leaves anything behind.

use serde_json::{Value, json};
use support::client::Client;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::scene::{PATIENCE, Scene};

struct Case {
    name: &'static str,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
}

fn case(name: &'static str, body: impl Into<Vec<u8>>, status: u16, code: &'static str) -> Case {
    Case {
        name,
        body: body.into(),
        status,
        code,
    }
}

fn query(text: &str) -> String {
    json!({ "query": text }).to_string()
}

fn bodies() -> Vec<Case> {
    vec![
        case("nothing", "", 400, "INVALID_INPUT"),
        case("no JSON", "{\"query\": ", 400, "INVALID_INPUT"),
        case("no object", "[1]", 400, "INVALID_INPUT"),
        case("no UTF-8", [b"{\"query\": \"\xff\xfe\"}".as_slice()].concat(), 400, "INVALID_INPUT"),
        case("a batch", "[{\"query\": \"{ __typename }\"}]", 400, "INVALID_INPUT"),
        case("no query", "{}", 400, "INVALID_INPUT"),
        case("a query that is no string", "{\"query\": 7}", 400, "INVALID_INPUT"),
        case("variables that are no object", "{\"query\": \"{ __typename }\", \"variables\": [1]}", 400, "INVALID_INPUT"),
        case("an operation's name that is no string", "{\"query\": \"{ __typename }\", \"operationName\": 1}", 400, "INVALID_INPUT"),
        case("no GraphQL", query("{ viewer "), 400, "INVALID_INPUT"),
        case("an empty document", query("# nothing"), 400, "INVALID_INPUT"),
        case("an unknown field", query("{ nope }"), 400, "INVALID_INPUT"),
        case("a missing argument", query("{ conversation { id } }"), 400, "INVALID_INPUT"),
        case("an unknown variable", query("{ conversation(id: $id) { id } }"), 400, "INVALID_INPUT"),
        case("a variable of the wrong type", json!({ "query": "query ($n: Int) { agents(first: $n) { nodes { id } } }", "variables": { "n": "ten" } }).to_string(), 400, "INVALID_INPUT"),
        case("an unknown operation", json!({ "query": "query A { service { name } }", "operationName": "B" }).to_string(), 400, "INVALID_INPUT"),
        case("too deep", query(&format!("{{ agents {{ nodes {{ {} id {} }} }} }}", "lastRun { agent { ".repeat(9), "} }".repeat(9))), 400, "QUERY_TOO_COMPLEX"),
        case("too many aliases", query(&format!("{{ {} }}", (0..31).map(|i| format!("a{i}: service {{ name }} ")).collect::<String>())), 400, "QUERY_TOO_COMPLEX"),
        case("too long a document", query(&format!("{{ service {{ name }} }} #{}", "x".repeat(33 * 1024))), 400, "INVALID_INPUT"),
        case("too long a request", vec![b' '; 1024 * 1024 + 1], 413, "INVALID_INPUT"),
        case("JSON without end", format!("{{\"query\": \"{{ __typename }}\", \"extensions\": {}", "[".repeat(100_000)), 400, "INVALID_INPUT"),
        case("a page that is too long", query("{ agents(first: 101) { nodes { id } } }"), 200, "INVALID_INPUT"),
        case("a page from both ends", query("{ agents(first: 1, last: 1) { nodes { id } } }"), 200, "INVALID_INPUT"),
        case("a list cursor that is none", query("{ agents(after: \"nope\") { nodes { id } } }"), 200, "INVALID_INPUT"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_request_gets_a_clear_error() {
    let scene = Scene::new().await;
    for case in bodies() {
        let request = scene.client.request(reqwest::Method::POST, "/graphql");
        let request = request
            .header("content-type", "application/json")
            .header("accept", "application/graphql-response+json");
        let answer = scene.client.send(request.body(case.body)).await;
        let json: Value = answer.json();
        assert_eq!(
            json["errors"][0]["extensions"]["code"],
            case.code,
            "{}: {}",
            case.name,
            answer.text()
        );
        assert_eq!(
            answer.status,
            case.status,
            "{}: {}",
            case.name,
            answer.text()
        );
        let message = json["errors"][0]["message"].as_str().unwrap_or_default();
        assert!(
            !message.is_empty() && !message.contains("src/"),
            "{}: {message}",
            case.name
        );
    }
    well(&scene.client).await;
}

/// Mutations with an input that is not acceptable: the code, and the path of the field at fault.
#[tokio::test(flavor = "multi_thread")]
async fn each_bad_input_names_its_field() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-1-0").await;
    let before = counts(&scene.client).await;
    let send = "mutation ($input: SendMessageInput!) { sendMessage(input: $input) { run { id } errors { code message path ... on InvalidInput { limit actual } } } }";
    let create = "mutation ($input: CreateAgentInput!) { createAgent(input: $input) { agent { id } errors { code message path ... on InvalidInput { limit actual } } } }";
    let model = "mutation ($input: CreateModelInput!) { createModel(input: $input) { model { id } errors { code message path ... on InvalidInput { limit actual } } } }";
    let base = scene.provider.base_url();
    let good = json!({ "slug": "good", "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": "m", "baseUrl": base });
    let with = |name: &str, value: Value| {
        let mut input = good.clone();
        input[name] = value;
        input
    };
    let unknown = "conversation_01h455vb4pex5vsknk084sn02q";
    let table: Vec<(&str, &str, Value, &str, &str)> = vec![
        (
            "an empty text",
            send,
            json!({ "agentId": agent, "text": " \n" }),
            "INVALID_INPUT",
            "text",
        ),
        (
            "NUL in a text",
            send,
            json!({ "agentId": agent, "text": "a\u{0}b" }),
            "INVALID_INPUT",
            "text",
        ),
        (
            "a text that is too long",
            send,
            json!({ "agentId": agent, "text": "x".repeat(200_001) }),
            "INVALID_INPUT",
            "text",
        ),
        (
            "neither agent nor conversation",
            send,
            json!({ "text": "x" }),
            "INVALID_INPUT",
            "agentId",
        ),
        (
            "an agent that is not there",
            send,
            json!({ "agentId": "agent_01h455vb4pex5vsknk084sn02q", "text": "x" }),
            "NOT_FOUND",
            "agentId",
        ),
        (
            "an id of another kind",
            send,
            json!({ "agentId": unknown, "text": "x" }),
            "NOT_FOUND",
            "agentId",
        ),
        (
            "an id that is none",
            send,
            json!({ "conversationId": "DROP TABLE", "text": "x" }),
            "NOT_FOUND",
            "conversationId",
        ),
        (
            "a conversation that is not there",
            send,
            json!({ "conversationId": unknown, "text": "x" }),
            "NOT_FOUND",
            "conversationId",
        ),
        (
            "a model that is not there",
            send,
            json!({ "agentId": agent, "modelId": "model_01h455vb4pex5vsknk084sn02q", "text": "x" }),
            "NOT_FOUND",
            "modelId",
        ),
        (
            "no name",
            create,
            json!({ "name": "", "instructions": "x" }),
            "INVALID_INPUT",
            "name",
        ),
        (
            "a name that is too long",
            create,
            json!({ "name": "n".repeat(201), "instructions": "x" }),
            "INVALID_INPUT",
            "name",
        ),
        (
            "instructions that are too long",
            create,
            json!({ "name": "n", "instructions": "x".repeat(100_001) }),
            "INVALID_INPUT",
            "instructions",
        ),
        (
            "too hot",
            create,
            json!({ "name": "n", "instructions": "x", "temperature": 2.1 }),
            "INVALID_INPUT",
            "temperature",
        ),
        (
            "no steps",
            create,
            json!({ "name": "n", "instructions": "x", "maxSteps": 0 }),
            "INVALID_INPUT",
            "maxSteps",
        ),
        (
            "too many steps",
            create,
            json!({ "name": "n", "instructions": "x", "maxSteps": 101 }),
            "INVALID_INPUT",
            "maxSteps",
        ),
        (
            "a bad slug",
            create,
            json!({ "name": "n", "instructions": "x", "slug": "No Slug" }),
            "INVALID_INPUT",
            "slug",
        ),
        (
            "a model's bad slug",
            model,
            with("slug", json!("UPPER")),
            "INVALID_INPUT",
            "slug",
        ),
        (
            "an address that is none",
            model,
            with("baseUrl", json!("not a url")),
            "INVALID_INPUT",
            "baseUrl",
        ),
        (
            "an address of another kind",
            model,
            with("baseUrl", json!("file:///etc/passwd")),
            "INVALID_INPUT",
            "baseUrl",
        ),
        (
            "an address with a password",
            model,
            with("baseUrl", json!("http://u:p@127.0.0.1/v1")),
            "INVALID_INPUT",
            "baseUrl",
        ),
        (
            "no time",
            model,
            with("timeoutMs", json!(0)),
            "INVALID_INPUT",
            "timeoutMs",
        ),
        (
            "no concurrency",
            model,
            with("maxConcurrency", json!(0)),
            "INVALID_INPUT",
            "maxConcurrency",
        ),
        (
            "a header that is none",
            model,
            with("headers", json!([{ "name": "a b", "value": "x" }])),
            "INVALID_INPUT",
            "headers",
        ),
        (
            "a header in two lines",
            model,
            with("headers", json!([{ "name": "x-a", "value": "x\r\ny: z" }])),
            "INVALID_INPUT",
            "headers",
        ),
        (
            "a fallback that is not there",
            model,
            with("fallbackIds", json!(["model_01h455vb4pex5vsknk084sn02q"])),
            "NOT_FOUND",
            "fallbackIds",
        ),
        (
            "a provider without an address of its own, and none given",
            model,
            json!({ "slug": "near", "kind": "CHAT", "provider": "OLLAMA", "modelName": "m" }),
            "INVALID_INPUT",
            "baseUrl",
        ),
        (
            "a kind of a later version",
            model,
            with("kind", json!("EMBEDDING")),
            "INVALID_INPUT",
            "kind",
        ),
    ];
    for (name, document, input, code, field) in table {
        let refusals = scene
            .client
            .refused(document, json!({ "input": input }))
            .await;
        assert_eq!(refusals[0]["code"], code, "{name}: {refusals:#?}");
        let path = refusals[0]["path"].as_array().cloned().unwrap_or_default();
        assert!(path.contains(&json!(field)), "{name}: {refusals:#?}");
        if name.contains("too long") {
            assert!(
                refusals[0]["limit"].is_i64()
                    && refusals[0]["actual"].as_i64() > refusals[0]["limit"].as_i64(),
                "{name}: {refusals:#?}"
            );
        }
    }
    assert_eq!(
        counts(&scene.client).await,
        before,
        "nothing half-done remains"
    );
}

async fn counts(client: &Client) -> Value {
    client.ok("{ agents { totalCount } models { totalCount } conversations { totalCount } runs { totalCount } }", json!({})).await
}

async fn well(client: &Client) {
    assert!(client.ok("{ service { name } }", json!({})).await["service"]["name"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_cursor_is_refused() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-1-0").await;
    let first = scene.client.send_to_agent(&agent, "one").await;
    let second = scene.client.send_to_agent(&agent, "two").await;
    let document = "subscription ($id: ID!, $after: Cursor) { conversationEvents(conversationId: $id, after: $after) { __typename } }";
    for (after, code) in [
        ("nonsense", "INVALID_INPUT"),
        (second.cursor.as_str(), "INVALID_INPUT"),
    ] {
        let mut subscription = scene
            .client
            .subscribe(
                document,
                json!({ "id": first.conversation, "after": after }),
            )
            .await;
        assert_eq!(subscription.next(PATIENCE).await, None);
        assert!(
            format!("{:?}", subscription.ended()).contains(code),
            "{after}: {:?}",
            subscription.ended()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_and_a_closed_socket_do_no_harm() {
    let scene = Scene::new().await;
    for sent in [
        "",
        "POST",
        "POST /graphql HTTP/1.1\r\n",
        "POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"query\":",
    ] {
        let mut socket = TcpStream::connect(scene.weft.address()).await.unwrap();
        socket.write_all(sent.as_bytes()).await.unwrap();
        // half closed: the server may answer or not, but it ends
        socket.shutdown().await.unwrap();
        let mut rest = Vec::new();
        tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest))
            .await
            .expect("the server closes its half")
            .ok();
    }
    well(&scene.client).await;
}
