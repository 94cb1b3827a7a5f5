//! Every limit of the table `limits`, from outside: that it is told, in force, and named with the value by what is refused.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{
    client::{Client, Closed, Socket, Subscription},
    provider::{Step, Turn},
    server::Options,
};
use tokio::net::TcpListener;

use crate::scene::{PATIENCE, Scene};

/// A limit, what it is set to, and how `service.limits` calls it.
const LOW: &[(&str, i64, &str)] = &[
    ("MAX_COMPLEXITY", 100, "maxComplexity"),
    ("MAX_DEPTH", 6, "maxDepth"),
    ("MAX_ALIASES", 3, "maxAliases"),
    ("MAX_PAGE_SIZE", 7, "maxPageSize"),
    ("MAX_DOCUMENT_BYTES", 2_000, "maxDocumentBytes"),
    ("MAX_REQUEST_BYTES", 20_000, "maxRequestBytes"),
    ("QUERY_TIMEOUT_MS", 9_000, "queryTimeoutMs"),
    ("MUTATION_TIMEOUT_MS", 5_000, "mutationTimeoutMs"),
    (
        "MAX_SUBSCRIPTIONS_PER_CONNECTION",
        2,
        "maxSubscriptionsPerConnection",
    ),
    ("MAX_CONNECTIONS_PER_USER", 2, "maxConnectionsPerUser"),
    ("MAX_MESSAGE_CHARS", 10, "maxMessageChars"),
];

const DEFAULT: &[(&str, i64)] = &[
    ("maxComplexity", 5_000),
    ("maxDepth", 15),
    ("maxAliases", 30),
    ("maxPageSize", 100),
    ("maxDocumentBytes", 32_768),
    ("maxRequestBytes", 1_048_576),
    ("queryTimeoutMs", 10_000),
    ("mutationTimeoutMs", 30_000),
    ("maxSubscriptionsPerConnection", 50),
    ("maxConnectionsPerUser", 10),
    ("maxMessageChars", 200_000),
];

fn options<'a>(limits: impl IntoIterator<Item = (&'a str, i64)>) -> Options {
    limits
        .into_iter()
        .fold(Options::default(), |options, (name, value)| {
            options.with(&format!("WEFT_LIMITS__{name}"), value.to_string())
        })
}

async fn told(client: &Client) -> Value {
    let document = "{ service { limits { maxComplexity maxDepth maxAliases maxPageSize maxDocumentBytes maxRequestBytes
        queryTimeoutMs mutationTimeoutMs maxSubscriptionsPerConnection maxConnectionsPerUser maxMessageChars } } }";
    client.ok(document, json!({})).await["service"]["limits"].clone()
}

/// The first error of an answer over HTTP: its code, limit and actual value.
async fn refusal(client: &Client, document: &str, variables: Value) -> (String, Value, Value) {
    let answer = client.raw(document, variables).await.json();
    let extensions = &answer["errors"][0]["extensions"];
    let code = extensions["code"].as_str();
    let code = code.unwrap_or_else(|| panic!("{document} was answered: {answer}"));
    (
        code.to_owned(),
        extensions["limit"].clone(),
        extensions["actual"].clone(),
    )
}

fn of(code: &str, limit: i64, actual: i64) -> (String, Value, Value) {
    (code.to_owned(), limit.into(), actual.into())
}

#[tokio::test]
async fn each_limit_is_told_and_in_force() {
    let scene = Scene::with(options(LOW.iter().map(|(name, value, _)| (*name, *value)))).await;
    let client = &scene.client;
    let expected: serde_json::Map<String, Value> = LOW
        .iter()
        .map(|(_, value, field)| ((*field).to_owned(), (*value).into()))
        .collect();
    assert_eq!(told(client).await, Value::Object(expected));

    let agents = |n: i32| {
        format!(
            "{{ agents(first: {n}) {{ nodes {{ conversations(first: 6) {{ nodes {{ id }} }} }} }} }}"
        )
    };
    let deep = |last: &str| {
        format!("{{ agents {{ nodes {{ lastRun {{ agent {{ lastRun {{ {last} }} }} }} }} }} }}")
    };
    let aliases = |n: usize| {
        let fields: String = (0..n).map(|i| format!("a{i}: role ")).collect();
        format!("{{ viewer {{ {fields} }} }}")
    };
    let long = |bytes: usize| {
        let query = "{ viewer { role } } #";
        format!("{query}{}", "x".repeat(bytes - query.len()))
    };
    let nothing = || json!({});
    // 2 + n × (1 + 2 + 6), 7 of which are a whole page
    assert_eq!(
        refusal(
            client,
            &format!(
                "{} {}",
                agents(7).trim_end_matches('}'),
                "models { nodes { slug fallbacks { id } } } }"
            ),
            nothing()
        )
        .await,
        of("QUERY_TOO_COMPLEX", 100, 2 + 7 * 9 + 2 + 7 * 6)
    );
    client.ok(&agents(7), nothing()).await;
    assert_eq!(
        refusal(client, &agents(8), nothing()).await,
        of("INVALID_INPUT", 7, 8)
    );
    assert_eq!(
        refusal(client, &deep("agent { id }"), nothing()).await,
        of("QUERY_TOO_COMPLEX", 6, 7)
    );
    client.ok(&deep("id"), nothing()).await;
    assert_eq!(
        refusal(client, &aliases(4), nothing()).await,
        of("QUERY_TOO_COMPLEX", 3, 4)
    );
    client.ok(&aliases(3), nothing()).await;
    assert_eq!(
        refusal(client, &long(2_001), nothing()).await,
        of("INVALID_INPUT", 2_000, 2_001)
    );
    client.ok(&long(2_000), nothing()).await;

    let large = json!({"more": "x".repeat(20_000)});
    let answer = client.raw("{ viewer { role } }", large.clone()).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_eq!(answer.json()["errors"][0]["extensions"]["limit"], 20_000);
    let mut socket = initialised(client).await;
    let payload = json!({"query": "{ viewer { role } }", "variables": large});
    let _cut = socket
        .send(&json!({"id": "1", "type": "subscribe", "payload": payload}))
        .await;
    let mut sent = Subscription::on(socket, "{ viewer { role } }", nothing()).await;
    if let Ok(sent) = &mut sent {
        assert_eq!(sent.next_payload(PATIENCE).await, None);
        assert!(
            matches!(
                sent.ended(),
                Some(Closed::Code(1009, _) | Closed::Broken(_))
            ),
            "{:?}",
            sent.ended()
        );
    }

    let agent = scene.agent("tokens-3-0").await;
    client.send_to_agent(&agent, "0123456789").await;
    let send = "mutation ($input: SendMessageInput!) { sendMessage(input: $input) { errors { __typename path ... on InvalidInput { limit actual } } } }";
    let refused = client
        .refused(
            send,
            json!({"input": {"agentId": agent, "text": "0123456789€"}}),
        )
        .await;
    assert_eq!(
        refused,
        [
            json!({"__typename": "InvalidInput", "path": ["input", "text"], "limit": 10, "actual": 11})
        ]
    );

    // a provider that takes the call and never answers
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", silent.local_addr().expect("its address"));
    let model = client
        .create_model("OPENAI_COMPATIBLE", &base, "silent")
        .await;
    let check = "mutation ($id: ID!) { checkModel(input: {id: $id}) { errors { message } } }";
    let (code, limit, _) = refusal(client, check, json!({"id": model})).await;
    assert_eq!((code.as_str(), limit), ("TIMEOUT", 5_000.into()));
}

async fn initialised(client: &Client) -> Socket {
    let mut socket = Socket::open(client.base()).await.expect("a socket");
    let token = client.token.as_ref().expect("signed in");
    let payload = json!({"Authorization": format!("Bearer {token}")});
    socket
        .initialise(Some(payload))
        .await
        .expect("an initialised socket");
    socket
}

#[tokio::test]
async fn sockets_and_their_subscriptions_are_counted() {
    let scene = Scene::with(options(LOW.iter().map(|(name, value, _)| (*name, *value)))).await;
    let agent = scene.agent("tokens-3-0").await;
    let conversation = scene
        .client
        .send_to_agent(&agent, "Hello")
        .await
        .conversation;
    let follow = format!(
        "subscription {{ conversationEvents(conversationId: \"{conversation}\") {{ cursor }} }}"
    );
    let subscribe = |id: &str| json!({"id": id, "type": "subscribe", "payload": {"query": follow}});
    let mut first = initialised(&scene.client).await;
    for id in ["one", "two"] {
        first.send(&subscribe(id)).await.expect("sent");
    }
    // the id that a subscription on this socket takes is the third
    let mut third = Subscription::on(first, &follow, json!({}))
        .await
        .expect("sent");
    while third.next_payload(PATIENCE).await.is_some() {}
    let Some(Closed::Refused(errors)) = third.ended() else {
        panic!("{:?}", third.ended())
    };
    let extensions = &errors[0]["extensions"];
    assert_eq!(
        (
            &extensions["code"],
            &extensions["limit"],
            &extensions["actual"]
        ),
        (&json!("RATE_LIMITED"), &json!(2), &json!(3))
    );

    let _second = initialised(&scene.client).await;
    let mut over = Socket::open(scene.client.base()).await.expect("a socket");
    let token = scene.client.token.as_ref().expect("signed in");
    let closed = over.initialise(Some(json!({"X-API-Key": token}))).await;
    assert!(closed.is_err(), "an access token is no key");
    let mut over = Socket::open(scene.client.base()).await.expect("a socket");
    let payload = json!({"Authorization": format!("Bearer {token}")});
    let closed = over.initialise(Some(payload)).await;
    assert!(matches!(closed, Err(Closed::Code(4429, _))), "{closed:?}");
}

#[tokio::test]
async fn documents_that_grow_cost_nobody_but_their_sender() {
    let scene = Scene::new().await;
    let expected: serde_json::Map<String, Value> = DEFAULT
        .iter()
        .map(|(field, value)| ((*field).to_owned(), (*value).into()))
        .collect();
    assert_eq!(told(&scene.client).await, Value::Object(expected));

    let doubling = |spread: &dyn Fn(usize) -> String| -> String {
        let fragments: String = (0..300)
            .map(|n| format!("fragment f{n} on Conversation {{ {} }} ", spread(n + 1)))
            .collect();
        format!(
            "{{ conversation(id: \"x\") {{ ...f0 }} }} {fragments} fragment f300 on Conversation {{ id }}"
        )
    };
    let kinds = [
        "Agent",
        "Run",
        "Message",
        "Conversation",
        "Model",
        "AgentVersion",
        "ApiKey",
        "ToolCall",
    ];
    let every: String = kinds
        .map(|kind| format!("... on {kind} {{ id }} "))
        .concat();
    let nodes: String = (0..30)
        .map(|n| format!("n{n}: node(id: \"x\") {{ ...N }} "))
        .collect();
    let documents = [
        (
            "spreads twice",
            doubling(&|n| format!("...f{n} ...f{n}")),
            true,
        ),
        (
            "spreads twice in fields",
            doubling(&|n| {
                format!(
                    "leaf {{ conversation {{ ...f{n} }} }} lastMessage {{ conversation {{ ...f{n} }} }}"
                )
            }),
            true,
        ),
        (
            "goes round",
            "{ viewer { ...A } } fragment A on Viewer { role ...A }".to_owned(),
            true,
        ),
        (
            "pages in pages",
            format!(
                "{{ agents(first: 100) {{ nodes {{ {} id {} }} }} }}",
                "conversations(first: 100) { nodes { agent { ".repeat(3),
                "} } }".repeat(3)
            ),
            true,
        ),
        (
            "aliases of a page",
            format!(
                "{{ {} }}",
                (0..30)
                    .map(|n| format!("a{n}: agents(first: 100) {{ nodes {{ model {{ id }} }} }} "))
                    .collect::<String>()
            ),
            true,
        ),
        (
            "of all kinds",
            format!(
                "{{ {nodes} }} fragment N on Node {{ {} }}",
                every.repeat(50)
            ),
            false,
        ),
        (
            "one field often",
            format!("{{ viewer {{ {} }} }}", "user { id } ".repeat(2_500)),
            false,
        ),
    ];
    for (name, document, refused) in documents {
        assert!(document.len() <= 32_768, "{name}: {}", document.len());
        for client in [&scene.client, &scene.weft.client()] {
            let began = Instant::now();
            let answer = client.raw(&document, json!({})).await;
            let took = began.elapsed();
            // unoptimised, beside other tests
            assert!(took < Duration::from_secs(10), "{name}: {took:?}");
            let code = answer.json()["errors"][0]["extensions"]["code"].clone();
            if refused {
                assert_eq!(code, "QUERY_TOO_COMPLEX", "{name}: {}", answer.text());
            } else {
                assert!(answer.status < 500, "{name}: {}", answer.text());
            }
        }
    }
    scene.client.ok("{ viewer { role } }", json!({})).await;
}

#[tokio::test]
async fn an_empty_bucket_refuses_what_is_new_and_cuts_nothing() {
    let limits = [
        ("COST_BUCKET", 300),
        ("COST_RESTORE_PER_S", 1),
        ("ADDRESS_COST_BUCKET", 60),
    ];
    let scene = Scene::with(options(limits)).await;
    let client = &scene.client;
    let answer = Turn::of([
        Step::Text("Begun,".into()),
        Step::WaitFor("on".into()),
        Step::Text(" and ended.".into()),
    ]);
    scene.provider.script("gated", answer);
    let agent = scene.agent("gated").await;
    let sent = client.send_to_agent(&agent, "Go").await;
    let follow = "subscription ($id: ID!) { runEvents(runId: $id) { __typename cursor ... on TextDelta { text } } }";
    let mut events = client.subscribe(follow, json!({"id": sent.run})).await;
    let first = events.next_payload(PATIENCE).await.expect("an event");
    let cost = &first["extensions"]["cost"];
    assert_eq!(
        (
            &cost["requested"],
            &cost["actual"],
            &cost["restorePerSecond"]
        ),
        (&json!(11), &json!(11), &json!(1)),
        "{first}"
    );
    events
        .until(|event| event["runEvents"]["text"] == "Begun,")
        .await;

    // what is left goes to two pages; the third is refused, over HTTP as over a socket
    let page = "{ agents(first: 100) { nodes { id } } }";
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(client.raw(page, json!({})).await);
    }
    let costs: Vec<Value> = answers
        .iter()
        .map(|answer| answer.json()["extensions"]["cost"].clone())
        .collect();
    assert_eq!(costs[0]["requested"], 102);
    assert_eq!(costs[0]["actual"], 3, "one agent");
    let left = |cost: &Value| cost["available"].as_i64().expect("a number");
    assert!(left(&costs[0]) >= 102 && left(&costs[1]) < 102, "{costs:?}");
    let refused = answers.pop().expect("the third");
    let error = refused.json()["errors"][0]["extensions"].clone();
    assert_eq!(
        (&error["code"], &error["limit"]),
        (&json!("RATE_LIMITED"), &json!(300)),
        "{error}"
    );
    assert_eq!(error["actual"].as_i64(), Some(300 - left(&costs[2]) + 102));
    let wait = error["retryAfterMs"].as_i64().expect("a time");
    assert!((1..=102_000).contains(&wait), "{wait}");
    assert_eq!(refused.status, 429);
    let header = refused.headers["retry-after"]
        .to_str()
        .ok()
        .and_then(|text| text.parse::<i64>().ok());
    assert!(
        header.is_some_and(|seconds| (wait / 1000..=wait / 1000 + 1).contains(&seconds)),
        "{header:?} {wait}"
    );
    for document in [
        page,
        "subscription { conversationEvents(conversationId: \"x\") { ... on ConversationUpdated { conversation { runs(first: 100) { nodes { id } } } } } }",
    ] {
        let mut asked = client.subscribe(document, json!({})).await;
        assert_eq!(asked.next_payload(PATIENCE).await, None);
        let Some(Closed::Refused(errors)) = asked.ended() else {
            panic!("{:?}", asked.ended())
        };
        assert_eq!(
            errors[0]["extensions"]["code"], "RATE_LIMITED",
            "{errors:?}"
        );
    }
    let rate = client
        .ok(
            "{ viewer { rateLimit { maximum available restorePerSecond } } }",
            json!({}),
        )
        .await;
    let rate = &rate["viewer"]["rateLimit"];
    assert_eq!(
        (&rate["maximum"], &rate["restorePerSecond"]),
        (&json!(300), &json!(1))
    );
    assert!(
        rate["available"].as_i64().is_some_and(|left| left < 102),
        "{rate}"
    );

    // the stream goes on to its end
    scene.provider.open_gate("on");
    events
        .until(|event| event["runEvents"]["__typename"] == "RunCompleted")
        .await;

    // without a credential it is the address's
    let nobody = scene.weft.client();
    let mut code = Value::Null;
    for _ in 0..12 {
        let answer = nobody
            .raw("{ service { signInMethods { kind } } }", json!({}))
            .await
            .json();
        code = answer["errors"][0]["extensions"]["code"].clone();
        if !code.is_null() {
            break;
        }
    }
    assert_eq!(code, "RATE_LIMITED");
}

#[tokio::test]
async fn what_is_used_comes_back() {
    let limits = [("COST_BUCKET", 100), ("COST_RESTORE_PER_S", 50)];
    let scene = Scene::with(options(limits)).await;
    let page = "{ agents(first: 88) { nodes { id } } }";
    scene.client.ok(page, json!({})).await;
    let began = Instant::now();
    support::wait::until(PATIENCE, "the bucket to fill", async || {
        scene.client.query(page, json!({})).await.ok()
    })
    .await;
    // 90 taken twice of 100 take 80 to come back
    assert!(
        began.elapsed() > Duration::from_millis(1_000),
        "{:?}",
        began.elapsed()
    );
}
