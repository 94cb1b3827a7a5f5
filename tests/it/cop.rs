//! What auditors of GraphQL servers look for, tried as graphql-cop tries it, each with the limit or rule that answers.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use support::{
    client::{Answer, Client},
    server::{Options, Weft},
};

use crate::scene::Scene;

async fn stranger() -> (Weft, Client) {
    let weft = Weft::start(Options::default()).await;
    let client = weft.client();
    (weft, client)
}

async fn ask(client: &Client, document: &str) -> Answer {
    client.raw(document, json!({})).await
}

/// The first error's code, limit and actual value.
fn refusal(answer: &Answer) -> (String, Value, Value) {
    let json = answer.json();
    let extensions = &json["errors"][0]["extensions"];
    let code = extensions["code"].as_str();
    let code = code.unwrap_or_else(|| panic!("status {}: {json}", answer.status));
    assert!(
        json.get("data").is_none(),
        "refused, and yet answered: {json}"
    );
    (
        code.to_owned(),
        extensions["limit"].clone(),
        extensions["actual"].clone(),
    )
}

/// A query as part of an address.
fn in_address(document: &str) -> String {
    let escaped: String = document
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    format!("/graphql?query={escaped}")
}

/// Nothing of the inside: no trace, no path of a source file, no panic.
fn says_nothing_of_the_inside(answer: &Answer) {
    let text = answer.text().to_lowercase();
    for word in [
        "exception",
        "stacktrace",
        "backtrace",
        "tracing",
        "panicked",
        ".rs:",
        "sqlx",
        "sea_orm",
    ] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[tokio::test]
async fn alias_overloading_meets_max_aliases() {
    let (_weft, client) = stranger().await;
    for field in ["__typename", "service { version }"] {
        let aliases = |n: usize| -> String {
            let fields: Vec<String> = (0..n).map(|i| format!("alias{i}: {field}")).collect();
            format!("{{ {} }}", fields.join("\n"))
        };
        let refused = refusal(&ask(&client, &aliases(101)).await);
        assert_eq!(
            refused,
            ("QUERY_TOO_COMPLEX".into(), json!(30), json!(101)),
            "{field}"
        );
        assert_eq!(ask(&client, &aliases(30)).await.status, 200);
    }
}

#[tokio::test]
async fn array_batching_is_off() {
    let (_weft, client) = stranger().await;
    let ten: Vec<Value> = (0..10)
        .map(|_| json!({"query": "{ __typename }"}))
        .collect();
    for batch in [json!(ten), json!([]), json!([ten])] {
        let request = client.request(Method::POST, "/graphql").json(&batch);
        let answer = client.send(request).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        let json = answer.json();
        assert!(json.is_object(), "{json}");
        assert_eq!(json["errors"].as_array().map(Vec::len), Some(1), "{json}");
    }
}

#[tokio::test]
async fn directives_are_known_and_stand_once() {
    let (_weft, client) = stranger().await;
    let many = |directive: &str, n: usize| format!(" {directive}").repeat(n);
    let documents = [
        format!("query {{ __typename {} }}", many("@aa", 10)),
        format!("query {{ service {{ __typename {} }} }}", many("@aa", 10)),
        format!(
            "query {{ __typename {} }}",
            many("@include(if: true)", 1_000)
        ),
        format!(
            "query {{ service {{ version {} }} }}",
            many("@include(if: true)", 1_000)
        ),
        format!("query {{ service {{ version {} }} }}", many("@aa", 1_000)),
        format!("query {} {{ __typename }}", many("@aa", 10)),
    ];
    for document in documents {
        let began = Instant::now();
        let answer = ask(&client, &document).await;
        let took = began.elapsed();
        assert_eq!(refusal(&answer).0, "INVALID_INPUT", "{document:.80}");
        assert_eq!(answer.status, 400);
        // unoptimised, beside other tests
        assert!(took < Duration::from_secs(5), "{document:.80}: {took:?}");
        // an error for each of them would make the answer many times as long as the question
        let errors = answer.json()["errors"].as_array().map_or(0, Vec::len);
        assert!((1..=101).contains(&errors), "{document:.80}: {errors}");
    }
}

#[tokio::test]
async fn circular_introspection_is_foreseen() {
    let (_weft, client) = stranger().await;
    let circle = format!(
        "{{ __schema {{ types {{ {} name {} }} }} }}",
        "fields { type { ".repeat(4),
        "} }".repeat(4)
    );
    let (code, limit, actual) = refusal(&ask(&client, &circle).await);
    assert_eq!(
        (code.as_str(), &limit),
        ("QUERY_TOO_COMPLEX", &json!(1_000_000))
    );
    assert!(actual.as_u64() > limit.as_u64(), "{actual}");
    let fragments = "{ __schema { ...A } } fragment A on __Schema { __typename ...B } fragment B on __Schema { ...A }";
    assert_eq!(
        refusal(&ask(&client, fragments).await).0,
        "QUERY_TOO_COMPLEX"
    );
}

#[tokio::test]
async fn a_field_that_stands_often_is_answered_and_paid_for_once() {
    let scene = Scene::new().await;
    let client = &scene.client;
    for (field, often) in [
        ("__typename", 500),
        ("agents(first: 5) { nodes { id } }", 500),
    ] {
        let mut costs = Vec::new();
        for n in [1, often] {
            let document = format!("query {{ {} }}", format!("{field} \n").repeat(n));
            let answer = ask(client, &document).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let mut json = answer.json();
            assert_eq!(json["data"].as_object().map(serde_json::Map::len), Some(1));
            let cost = json["extensions"]["cost"].take();
            costs.push((cost["requested"].clone(), cost["actual"].clone()));
            assert!(answer.text().matches("__typename").count() <= 1);
        }
        assert_eq!(costs[0], costs[1], "{field}");
    }
    // and what is too long for a document is not read at all
    let document = format!("query {{ {} }}", "__typename \n".repeat(5_000));
    let (code, limit, _) = refusal(&ask(client, &document).await);
    assert_eq!((code.as_str(), limit), ("INVALID_INPUT", json!(32_768)));
}

#[tokio::test]
async fn mutations_do_not_go_by_get() {
    let (_weft, client) = stranger().await;
    let set_up = "mutation { setUp(input: {tenantName: \"t\", name: \"A\", email: \"a@example.test\", password: \"a loom of one's own\"}) { errors { code } } }";
    for document in ["mutation { __typename }", set_up] {
        let answer = client.get(&in_address(document)).await;
        assert_eq!(answer.status, 405, "{}", answer.text());
        assert_eq!(refusal(&answer).0, "INVALID_INPUT");
    }
    let needs = client.ok("{ service { needsSetup } }", json!({})).await;
    assert_eq!(needs["service"]["needsSetup"], true);
}

#[tokio::test]
async fn a_query_by_get_gives_a_page_elsewhere_nothing() {
    let (_weft, client) = stranger().await;
    let request = |path: &str| client.request(Method::GET, path);
    // queries may go by GET: there is no cookie that could make one somebody's
    let query = in_address("{ __typename viewer { role } }");
    let answer = client
        .send(request(&query).header("origin", "https://evil.example"))
        .await;
    let nobody = json!({"__typename": "Query", "viewer": null});
    assert_eq!(answer.json()["data"], nobody);
    for name in [
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "set-cookie",
    ] {
        assert!(!answer.headers.contains_key(name), "{name}");
    }
    for credential in ["access_token", "token", "authorization", "api_key"] {
        let answer = client.get(&format!("{query}&{credential}=wft_x")).await;
        let json = answer.json();
        assert!(
            json["data"] == nobody || json["errors"].is_array(),
            "{credential}: {json}"
        );
    }
}

#[tokio::test]
async fn forms_are_not_read() {
    let (_weft, client) = stranger().await;
    let post = |path: &str| client.request(Method::POST, path);
    let query = in_address("query { __typename }");
    let form = query.trim_start_matches("/graphql?").to_owned();
    let json = r#"{"query":"{ __typename }"}"#;
    let parts = |name: &str| {
        format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{json}\r\n--b--\r\n")
    };
    let requests = [
        // in the address of a POST, as graphql-cop sends it
        ("address", post(&query)),
        (
            "urlencoded",
            post("/graphql")
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form),
        ),
        (
            "plain text",
            post("/graphql")
                .header("content-type", "text/plain")
                .body(json),
        ),
        ("no type", post("/graphql").body(json)),
        (
            "multipart without the header that no form can send",
            post("/graphql")
                .header("content-type", "multipart/form-data; boundary=b")
                .body(parts("operations")),
        ),
    ];
    for (name, request) in requests {
        let answer = client.send(request).await;
        assert!(
            matches!(answer.status, 400 | 403 | 415),
            "{name}: {} {}",
            answer.status,
            answer.text()
        );
        refusal(&answer);
    }
}

#[tokio::test]
async fn no_trace_and_no_inside_is_told() {
    let (_weft, client) = stranger().await;
    let traced = client
        .graphql("query { __typename }", &json!({}))
        .header("apollo-tracing", "1")
        .header("apollo-federation-include-trace", "ftv1")
        .header("x-debug", "1");
    let answer = client.send(traced).await;
    assert_eq!(answer.status, 200);
    says_nothing_of_the_inside(&answer);
    let json = answer.json();
    let told: Vec<_> = json["extensions"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(told, ["cost"]);

    for (body, media) in [
        (
            json!({"query": "qwerty cop { abc }"}).to_string(),
            "application/json",
        ),
        (
            json!({"query": "{ service { version(x: 1) } }"}).to_string(),
            "application/json",
        ),
        (
            json!({"query": "query($x: Int!) { node(id: $x) { id } }", "variables": {"x": {}}})
                .to_string(),
            "application/json",
        ),
        ("{".to_owned(), "application/json"),
        (
            json!({"query": 7, "variables": 8, "operationName": []}).to_string(),
            "application/json",
        ),
        (String::new(), "application/json"),
    ] {
        let request = client
            .request(Method::POST, "/graphql")
            .header("content-type", media)
            .header("accept", "application/graphql-response+json")
            .body(body.clone());
        let answer = client.send(request).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        says_nothing_of_the_inside(&answer);
        assert!(
            answer.json()["errors"][0]["extensions"]["requestId"].is_string(),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn introspection_off_tells_no_names() {
    let off = Options::default().with("WEFT_INTROSPECTION", "false");
    let weft = Weft::start(off).await;
    let client = weft.client();
    for document in [
        "{ __schema { directive } }",
        "{ __schema { queryType { name } } }",
        "{ __type(name: \"Agent\") { name } }",
        "{ t: __type(name: \"Agent\") { fields { name } } service { version } }",
        "{ ...F } fragment F on Query { __schema { types { name } } }",
        "{ servic { version } }",
        "{ service { versio } }",
        "{ service { version(firs: 1) } }",
        "query($x: Agen) { __typename @include(if: true) service { version @skip(if: $x) } }",
        "mutation { createAgen(input: {}) { id } }",
        "{ agents(firs: 1) { nodes { id } } }",
        "mutation { signIn(input: {emai: \"x\"}) { errors { code } } }",
    ] {
        let answer = ask(&client, document).await;
        let text = answer.text();
        assert!(answer.json()["errors"][0].is_object(), "{document}: {text}");
        assert!(
            !text.to_lowercase().contains("did you mean"),
            "{document}: {text}"
        );
        for name in ["\"Query\"}", "\"directives\\\"", "\"name\":\"Agent\""] {
            assert!(!text.contains(name), "{document}: {text}");
        }
    }
    // what a client needs to tell objects apart is no introspection
    let answer = client
        .ok("{ __typename service { __typename } }", json!({}))
        .await;
    assert_eq!(
        answer,
        json!({"__typename": "Query", "service": {"__typename": "Service"}})
    );

    let (_weft, open) = stranger().await;
    let answer = open
        .ok("{ __schema { queryType { name } } }", json!({}))
        .await;
    assert_eq!(answer["__schema"]["queryType"]["name"], "Query");
    let hint = ask(&open, "{ servic { version } }").await;
    assert!(hint.text().contains("Did you mean"), "{}", hint.text());
}

#[tokio::test]
async fn the_page_to_try_queries_can_be_turned_off() {
    let page = async |client: &Client, path: &str| {
        let request = client
            .request(Method::GET, path)
            .header("accept", "text/html");
        client.send(request).await
    };
    let has_page = |answer: &Answer| {
        let text = answer.text();
        [
            "graphiql.min.css",
            "GraphQL Playground",
            "GraphiQL",
            "graphql-playground",
        ]
        .iter()
        .any(|word| text.contains(word))
    };
    let elsewhere = ["/graphiql", "/playground", "/console", "/graphql"];
    let off = Weft::start(Options::default().with("WEFT_GRAPHIQL", "false")).await;
    let client = off.client();
    for path in ["/"].iter().chain(&elsewhere) {
        let answer = page(&client, path).await;
        assert!(!has_page(&answer), "{path}");
        assert!(answer.status >= 400, "{path}: {}", answer.status);
    }
    let (_weft, client) = stranger().await;
    let answer = page(&client, "/").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        answer.headers["content-type"]
            .as_bytes()
            .starts_with(b"text/html")
    );
    assert!(answer.headers.contains_key("content-security-policy"));
    for path in elsewhere {
        assert!(!has_page(&page(&client, path).await), "{path}");
    }
}
