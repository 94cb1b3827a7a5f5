//! What an operator is shown: metrics, traces, and lines that say what caused them; and no name of anybody's.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use support::{
    client::{Closed, Follower},
    collector::{Collector, Span},
    provider::{Script, Step, Turn, Usage},
    server::{Options, Weft, run},
    wait::until,
};

use crate::scene::{PATIENCE, Scene};

/// Names that nothing else is called by.
const TENANT: &str = "Qxtenantqx";
const USER: &str = "Qxuserqx";
const MODEL: &str = "Qxmodelqx";
const AGENT: &str = "Qxagentqx";
const WORDS: &str = "Qxquestionqx";
const SAID: &str = "Qxanswerqx";

/// The numbers of `/metrics`, by name and labels as they stand there.
async fn metrics(weft: &Weft) -> BTreeMap<String, f64> {
    let answer = weft.client().get("/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    parsed(&answer.text())
}

fn parsed(text: &str) -> BTreeMap<String, f64> {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, number) = line.rsplit_once(' ').expect("a number at the end");
            (name.to_owned(), number.parse().expect("a number"))
        })
        .collect()
}

/// A model that first asks for a tool, then answers.
fn asks_for_a_tool() -> Script {
    let used = Step::Usage(Usage {
        input: 70,
        output: 9,
        ..Usage::default()
    });
    Script::answer(move |asked| {
        let has_tool_answer = asked.body.to_string().contains("call_1");
        let mut turn = match has_tool_answer {
            false => Turn::tool_call("call_1", "Qxtoolqx", &json!({ "secret": "Qxargumentqx" })),
            true => Turn::text(SAID),
        };
        turn.steps.insert(0, used.clone());
        turn
    })
}

async fn scene(options: Options) -> (Scene, String) {
    let scene = Scene::with(options).await;
    scene.provider.script(MODEL, asks_for_a_tool());
    let model = scene
        .client
        .create_model("OPENAI_COMPATIBLE", &scene.provider.base_url(), MODEL)
        .await;
    let agent = scene.client.create_agent(AGENT, &model).await;
    (scene, agent)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_moves_and_names_nobody() {
    let provider = support::provider::Provider::start().await;
    let weft = Weft::start(Options::default()).await;
    let mut client = weft.client();
    let document = "mutation ($input: SetUpInput!) { setUp(input: $input) { accessToken errors { message } } }";
    let input = json!({"email": format!("{USER}@example.com"), "password": "Warp-and-weft-9", "name": USER, "tenantName": TENANT});
    client.done(document, json!({ "input": input })).await;
    client
        .sign_in(&format!("{USER}@example.com"), "Warp-and-weft-9")
        .await;
    let scene = Scene {
        weft,
        provider,
        client,
    };
    scene.provider.script(MODEL, asks_for_a_tool());
    let model = scene
        .client
        .create_model("OPENAI_COMPATIBLE", &scene.provider.base_url(), MODEL)
        .await;
    let agent = scene.client.create_agent(AGENT, &model).await;

    let before = metrics(&scene.weft).await;
    let sent = scene.client.send_to_agent(&agent, WORDS).await;
    let mut follower = Follower::new(&scene.client, &sent.conversation, Some(&sent.cursor)).await;
    let end = follower.until_end_of(&sent.run, PATIENCE).await.unwrap();
    assert_eq!(end, "RunCompleted");
    let open = metrics(&scene.weft).await;
    assert_eq!(open["weft_sockets"], 1.0);
    assert_eq!(open["weft_subscriptions{transport=\"websocket\"}"], 1.0);
    follower.leave();
    let refused = scene.client.raw("{ nothingOfTheKind }", json!({})).await;
    assert_eq!(refused.status, 400);

    let after = until(PATIENCE, "the socket is closed", async || {
        let after = metrics(&scene.weft).await;
        (after["weft_sockets"] == 0.0).then_some(after)
    })
    .await;
    let moved = |name: &str| after[name] - before.get(name).copied().unwrap_or(0.0);
    assert_eq!(after["weft_subscriptions{transport=\"websocket\"}"], 0.0);
    assert_eq!(moved("weft_runs_ended_total{status=\"COMPLETED\"}"), 1.0);
    assert_eq!(moved("weft_runs_ended_total{status=\"FAILED\"}"), 0.0);
    assert_eq!(moved("weft_runs_taken_up_total"), 1.0);
    assert_eq!(moved("weft_errors_total{code=\"INVALID_INPUT\"}"), 1.0);
    assert_eq!(moved("weft_errors_total{code=\"INTERNAL\"}"), 0.0);
    assert_eq!(moved("weft_http_responses_total{status=\"400\"}"), 1.0);
    assert_eq!(moved("weft_http_responses_total{status=\"101\"}"), 1.0);
    let mutations = "{operation=\"mutation\",transport=\"http\",outcome=\"ok\"}";
    assert_eq!(moved(&format!("weft_requests_total{mutations}")), 1.0);
    let followed = "{operation=\"subscription\",transport=\"websocket\",outcome=\"ok\"}";
    assert_eq!(moved(&format!("weft_requests_total{followed}")), 1.0);
    for operation in ["mutation", "subscription"] {
        let charged = format!("weft_cost_total{{operation=\"{operation}\"}}");
        assert!(moved(&charged) > 0.0, "{charged}");
    }
    let finished = "{provider=\"OPENAI_COMPATIBLE\",purpose=\"ANSWER\",outcome=\"finished\"}";
    assert_eq!(moved(&format!("weft_model_calls_total{finished}")), 2.0);
    for name in ["call", "first_token"] {
        let count = format!("weft_model_{name}_seconds_count{{provider=\"OPENAI_COMPATIBLE\"}}");
        assert!(moved(&count) >= 2.0, "{count}");
    }
    // a title may have been written by now
    assert!(moved("weft_tokens_total{direction=\"input\"}") >= 140.0);
    assert!(moved("weft_tokens_total{direction=\"output\"}") >= 18.0);
    for lag in ["commit_lag", "handover_lag", "commit"] {
        let count = format!("weft_log_{lag}_seconds_count");
        assert!(moved(&count) >= 1.0, "{count}");
    }
    assert!(moved("weft_log_records_total") >= 1.0);
    assert!(after["weft_database_connections_max{pool=\"readers\"}"] >= 8.0);
    assert!(after["process_resident_memory_bytes"] > 1e6);

    // every metric of the document is there, with what it tells
    let text = scene.weft.client().get("/metrics").await.text();
    for name in documented() {
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        let is_there = after.keys().any(|key| key.starts_with(name.as_str()));
        assert!(is_there, "nothing of {name}");
    }
    let ids = [&sent.run, &sent.conversation, &model, &agent];
    let named = [TENANT, USER, MODEL, AGENT, WORDS, SAID, "Qxtoolqx"];
    for nobody in named.into_iter().chain(ids.into_iter().map(String::as_str)) {
        assert!(!text.contains(nobody), "{nobody} stands in the metrics");
        let slug = nobody.to_lowercase();
        assert!(!text.to_lowercase().contains(&slug), "{slug} stands there");
    }
}

/// The names in the table of `docs/operating.md`.
fn documented() -> Vec<String> {
    let document = include_str!("../../docs/operating.md");
    let rows = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let names: Vec<String> = rows
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.starts_with("weft_") || name.starts_with("process_"))
        .collect();
    assert!(names.len() > 20);
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_not_over_are_counted() {
    let collector = Collector::start().await;
    let options = Options::default()
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .with("OTEL_BSP_SCHEDULE_DELAY", "100");
    let scene = Scene::with(options).await;
    scene.provider.script(
        "waits",
        Turn::of([Step::Text("a".into()), Step::WaitFor("gate".into())]),
    );
    let agent = scene.agent("waits").await;
    let first = scene.client.send_to_agent(&agent, "one").await;
    let input =
        json!({ "conversationId": first.conversation, "text": "two", "whenBusy": "ENQUEUE" });
    let second = scene.client.send_message(input).await;
    until(PATIENCE, "both are counted", async || {
        let now = metrics(&scene.weft).await;
        let running = now["weft_runs{status=\"RUNNING\"}"] == 1.0;
        let queued = now["weft_runs{status=\"QUEUED\"}"] == 1.0;
        (running && queued && now["weft_runs_carried"] == 1.0).then_some(())
    })
    .await;
    scene.provider.open_gate("gate");
    scene.ended(&second.run).await;
    until(PATIENCE, "neither is counted", async || {
        let now = metrics(&scene.weft).await;
        let open = ["RUNNING", "QUEUED", "WAITING"]
            .map(|status| now[&format!("weft_runs{{status=\"{status}\"}}")]);
        (open == [0.0; 3]).then_some(())
    })
    .await;
    // one that waited knows still who asked for it
    let run = until(PATIENCE, "the span to come", async || {
        let runs = collector.spans("run");
        runs.into_iter().find(|span| span.said("run") == second.run)
    })
    .await;
    assert_eq!(run.links.len(), 1, "{run:?}");
    assert_ne!(run.said("request"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_for_whoever_may() {
    // at the machine; not through a proxy on it, not for a page
    let weft = Weft::start(Options::default()).await;
    let client = weft.client();
    assert_eq!(client.get("/metrics").await.status, 200);
    for (name, value) in [
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
        ("via", "1.1 proxy"),
        ("origin", "http://evil.example"),
    ] {
        let request = client.request(Method::GET, "/metrics").header(name, value);
        assert_eq!(client.send(request).await.status, 403, "{name}");
    }
    let request = client
        .request(Method::GET, "/metrics")
        .header("host", "evil.example");
    assert_eq!(client.send(request).await.status, 421);
    let request = client.request(Method::POST, "/metrics");
    assert_eq!(client.send(request).await.status, 405);

    // a server that people reach through a proxy can't tell who stands at the machine
    let weft = Weft::start(Options::default().with("WEFT_TRUSTED_PROXIES", "192.0.2.0/24")).await;
    let refused = weft.client().get("/metrics").await;
    assert_eq!(refused.status, 403);
    assert!(!refused.text().contains("weft_"), "{}", refused.text());

    let weft = Weft::start(Options::default().with("WEFT_METRICS_TOKEN", "t0ken-of-metrics")).await;
    let client = weft.client();
    let refused = client.get("/metrics").await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.headers["www-authenticate"], "Bearer");
    let shows = |token| client.request(Method::GET, "/metrics").bearer_auth(token);
    assert_eq!(client.send(shows("t0ken-of-metricz")).await.status, 401);
    let shown = client.send(shows("t0ken-of-metrics")).await;
    assert_eq!(shown.status, 200);
    assert_eq!(
        shown.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(shown.headers["cache-control"], "no-store");
    // a user's credential is none for an operator's page
    let mut owner = weft.client();
    owner.set_up().await;
    assert_eq!(owner.get("/metrics").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_an_address_of_their_own() {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let options = Options::default()
        .with("WEFT_METRICS_LISTEN", &listen)
        .with("WEFT_PUBLIC_URL", "https://weft.example.com");
    let weft = Weft::start(options).await;
    let own = weft.client().at(&format!("http://{listen}"));
    // whoever reaches it, a proxy too
    let request = own
        .request(Method::GET, "/metrics")
        .header("x-forwarded-for", "192.0.2.1");
    let answer = own.send(request).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("weft_build_info"));
    // nothing else is there, and it is nowhere else
    for path in ["/graphql", "/health", "/schema.graphql", "/"] {
        assert_eq!(own.get(path).await.status, 404, "{path}");
    }
    let request = own
        .request(Method::GET, "/metrics")
        .header("host", "evil.example");
    assert_eq!(own.send(request).await.status, 421);
    let request = weft
        .client()
        .request(Method::GET, "/metrics")
        .header("host", "weft.example.com");
    assert_eq!(weft.client().send(request).await.status, 404);
    // one that is taken is an error that names the setting
    let options = Options::default().with("WEFT_METRICS_LISTEN", &listen);
    let Err(exited) = Weft::try_start(options).await else {
        panic!("two listen at one address");
    };
    assert!(
        exited.output.contains("metrics_listen"),
        "{}",
        exited.output
    );
    assert_eq!(weft.stop().await.code(), Some(0));
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_a_run_and_its_steps() {
    let collector = Collector::start().await;
    let options = Options::default()
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .with("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=k1")
        .with("OTEL_BSP_SCHEDULE_DELAY", "100");
    let (scene, agent) = scene(options).await;
    let document = "mutation Ask($input: SendMessageInput!) { sendMessage(input: $input) { run { id } errors { code } } }";
    let input = json!({ "input": { "agentId": agent, "text": WORDS } });
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = "b7ad6b7169203331";
    let request = scene
        .client
        .graphql(document, &input)
        .header("x-request-id", "asks-once")
        .header("traceparent", format!("00-{trace}-{parent}-01"));
    let answer = scene.client.send(request).await.json();
    let run_id = answer["data"]["sendMessage"]["run"]["id"].as_str().unwrap();
    assert_eq!(scene.ended(run_id).await["status"], "COMPLETED");
    let one = |name: &'static str, fits: fn(&Span) -> bool| {
        let collector = &collector;
        until(PATIENCE, "the span to come", move || async move {
            collector.spans(name).into_iter().find(fits)
        })
    };
    let run = one("run", |_| true).await;
    let request = one("request", |span| span.said("request") == "asks-once").await;

    assert_eq!(request.service, "weft");
    assert_eq!(request.said("graphql.operation.type"), "mutation");
    assert_eq!(request.said("graphql.operation.name"), "Ask");
    assert_eq!(request.said("weft.outcome"), "ok");
    // the client's trace is pointed to; it is not believed
    assert_eq!(request.parent, "");
    assert_ne!(request.trace, trace);
    assert_eq!(request.links, [(trace.to_owned(), parent.to_owned())]);
    // the request ended with its answer, not with the run
    assert!(request.took < run.took, "{request:?} {run:?}");

    assert_eq!(run.parent, "");
    assert_ne!(run.trace, request.trace);
    assert_eq!(run.links, [(request.trace.clone(), request.id.clone())]);
    assert_eq!(run.said("request"), "asks-once");
    assert_eq!(run.said("attempt"), "1");
    assert_eq!(run.said("weft.outcome"), "completed");
    assert_eq!(run.said("weft.steps"), "2");
    assert_eq!(run.said("gen_ai.usage.input_tokens"), "140");
    assert!(!run.has_failed);

    let calls = collector.spans("model_call");
    let of_run: Vec<_> = calls
        .iter()
        .filter(|call| call.trace == run.trace)
        .collect();
    assert_eq!(of_run.len(), 2, "{calls:?}");
    let steps = collector.spans("step");
    let mut steps: Vec<_> = steps
        .iter()
        .filter(|step| step.trace == run.trace)
        .collect();
    steps.sort_by_key(|step| step.said("step"));
    assert_eq!(steps.len(), 2, "{steps:?}");
    for (step, call) in of_run.iter().enumerate() {
        assert_eq!(
            (&call.parent, &steps[step].parent),
            (&steps[step].id, &run.id)
        );
        assert_eq!(steps[step].said("step"), step.to_string());
        assert_eq!(call.said("provider"), "OPENAI_COMPATIBLE");
        assert_eq!(call.said("weft.step"), step.to_string());
        assert_eq!(call.said("gen_ai.usage.input_tokens"), "70");
        assert_eq!(call.said("gen_ai.usage.output_tokens"), "9");
        assert_eq!(call.said("weft.outcome"), "finished");
    }
    assert_eq!(of_run[0].said("weft.tool_calls"), "1");
    let tools = collector.spans("tool_call");
    assert_eq!(tools.len(), 1, "{tools:?}");
    assert_eq!(
        (&tools[0].trace, &tools[0].parent),
        (&run.trace, &steps[0].id)
    );

    let received = collector.received();
    assert_eq!(received.strange, [""; 0]);
    assert_eq!(received.headers["x-collector-key"], "k1");
    for word in [
        WORDS,
        SAID,
        MODEL,
        AGENT,
        "Qxtoolqx",
        "Qxargumentqx",
        "sk-scripted",
        "Bearer",
    ] {
        let found = received
            .bytes
            .windows(word.len())
            .any(|bytes| bytes.eq_ignore_ascii_case(word.as_bytes()));
        assert!(!found, "{word} was sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_are_sent_before_the_end() {
    let collector = Collector::start().await;
    let options = Options::default()
        .with("WEFT_OTLP_ENDPOINT", collector.url())
        .with("OTEL_SERVICE_NAME", "loom")
        .with("OTEL_BSP_SCHEDULE_DELAY", "3600000");
    let weft = Weft::start(options).await;
    let mut client = weft.client();
    client.set_up().await;
    assert!(collector.spans("request").is_empty());
    assert_eq!(weft.stop().await.code(), Some(0));
    let requests = collector.spans("request");
    let set_up = requests
        .iter()
        .find(|span| span.said("graphql.operation.type") == "mutation");
    assert_eq!(set_up.unwrap().service, "loom");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxys_trace_is_gone_on_with() {
    let collector = Collector::start().await;
    let options = Options::default()
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .with("OTEL_BSP_SCHEDULE_DELAY", "50")
        .with("WEFT_TRUSTED_PROXIES", "127.0.0.1");
    let weft = Weft::start(options).await;
    let client = weft.client();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = "b7ad6b7169203331";
    let asks = |id: &str, header: String| {
        let request = client.graphql("{ __typename }", &json!({}));
        request
            .header("x-request-id", id)
            .header("traceparent", header)
    };
    // not sampled, not well-formed, sampled
    for (id, header) in [
        ("unsampled", format!("00-{trace}-{parent}-00")),
        ("malformed", format!("00-{trace}-{parent}")),
        ("sampled", format!("00-{trace}-{parent}-01")),
    ] {
        assert_eq!(client.send(asks(id, header)).await.status, 200);
    }
    let by = |id: &'static str| {
        let spans = collector.spans("request");
        spans.into_iter().find(|span| span.said("request") == id)
    };
    let sampled = until(PATIENCE, "the span to come", async || by("sampled")).await;
    assert_eq!(
        (sampled.trace.as_str(), sampled.parent.as_str()),
        (trace, parent)
    );
    assert_eq!(by("malformed").unwrap().parent, "");
    assert!(by("unsampled").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_nothing_is_held_up() {
    // nothing listens there
    let options = Options::default()
        .with(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://127.0.0.1:{}", free_port()),
        )
        .with("OTEL_BSP_SCHEDULE_DELAY", "50");
    let (scene, agent) = scene(options).await;
    let sent = scene.client.send_to_agent(&agent, WORDS).await;
    assert_eq!(scene.ended(&sent.run).await["status"], "COMPLETED");
    assert_eq!(scene.weft.stop().await.code(), Some(0));

    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    let output = run(folder.path(), &[], &variables).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("http/protobuf"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_says_what_caused_it() {
    for format in ["json", "text"] {
        // connections that the program opens are told of by its HTTP client, from within whatever needs one
        let options = Options::default()
            .with("WEFT_LOG", "off,engine=info,reqwest=debug,hyper_util=debug")
            .with("WEFT_LOG__FORMAT", format);
        let scene = Scene::with(options).await;
        let breaks_off = Turn::of([Step::Text("half".into()), Step::Drop]);
        scene.provider.script("fails", breaks_off);
        scene.provider.script("fine", Turn::text("whole"));
        let model = async |name| {
            let url = scene.provider.base_url();
            scene
                .client
                .create_model("OPENAI_COMPATIBLE", &url, name)
                .await
        };
        let (fails, fine) = (model("fails").await, model("fine").await);
        let falls_back = "mutation ($input: UpdateModelInput!) { updateModel(input: $input) { errors { code } } }";
        let input = json!({ "input": { "id": fails, "fallbackIds": [fine] } });
        scene.client.done(falls_back, input).await;
        let agent = scene.client.create_agent("Weaver", &fails).await;
        let send = "mutation ($input: SendMessageInput!) { sendMessage(input: $input) { run { id } errors { code } } }";
        let input = json!({ "input": { "agentId": agent, "text": "hello" } });
        let request = scene
            .client
            .graphql(send, &input)
            .header("x-request-id", "sends-it");
        let answer = scene.client.send(request).await.json();
        let run = answer["data"]["sendMessage"]["run"]["id"].as_str().unwrap();
        assert_eq!(scene.ended(run).await["status"], "COMPLETED");
        // one that is looked at by the mutation itself, in a task of its own
        let check = "mutation ($id: ID!) { checkModel(input: { id: $id }) { errors { code } } }";
        let request = scene
            .client
            .graphql(check, &json!({ "id": fine }))
            .header("x-request-id", "checks-it");
        assert_eq!(scene.client.send(request).await.status, 200);

        let output = scene.weft.output();
        let lines = |word: &str| -> Vec<String> {
            let lines = output.lines().filter(|line| line.contains(word));
            lines.map(str::to_owned).collect()
        };
        let of_run = lines("another model goes on");
        assert_eq!(of_run.len(), 1, "{output}");
        if format == "json" {
            let line: Value = serde_json::from_str(&of_run[0]).unwrap();
            let span = &line["spans"][0];
            assert_eq!(span["name"], "run");
            assert_eq!(span["request"], "sends-it");
            assert_eq!(span["attempt"], 1);
            assert!(span["run"].is_string(), "{line}");
        } else {
            assert!(of_run[0].contains("run{"), "{}", of_run[0]);
            assert!(of_run[0].contains("sends-it"), "{}", of_run[0]);
        }
        let checked = lines("checks-it");
        assert!(!checked.is_empty(), "{output}");
        assert!(checked.iter().all(|line| line.contains("request")));
        // what the program asks of others is asked for by something
        for line in lines("starting new connection") {
            let caused = ["sends-it", "checks-it", "request", "model_call"];
            assert!(caused.iter().any(|by| line.contains(by)), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_in_order_is_told_and_lets_answers_finish() {
    let mut scene = Scene::new().await;
    scene.provider.script(
        "waits",
        Turn::of([
            Step::Text("first ".into()),
            Step::WaitFor("gate".into()),
            Step::Text("last".into()),
        ]),
    );
    let agent = scene.agent("waits").await;
    let sent = scene.client.send_to_agent(&agent, "hello").await;
    let document =
        "subscription ($id: ID!) { conversationEvents(conversationId: $id) { __typename } }";
    let mut watching = scene
        .client
        .subscribe(document, json!({ "id": sent.conversation }))
        .await;
    scene
        .provider
        .until_calls(PATIENCE, "the model is called", |calls| !calls.is_empty())
        .await;
    scene.weft.terminate();
    // clients are told to come back, at once
    while watching.next(PATIENCE).await.is_some() {}
    let ended = watching.ended().cloned();
    assert!(matches!(ended, Some(Closed::Code(1012, _))), "{ended:?}");
    // nobody is sent here any more, while the answer goes on
    let asked = scene.client.request(Method::GET, "/ready");
    let ready = scene.client.try_send(asked).await;
    assert!(ready.is_err() || ready.is_ok_and(|answer| answer.status == 503));
    assert!(scene.weft.exit_status().is_none());
    scene.provider.open_gate("gate");
    let status = until(PATIENCE, "weft to end", async || scene.weft.exit_status()).await;
    assert_eq!(status.code(), Some(0));
    scene.weft.restart().await;
    let run = scene.run(&sent.run).await;
    assert_eq!(run["status"], "COMPLETED");
    assert_eq!(run["attempts"], 1);
    assert_eq!(run["output"]["text"], "first last");
    assert_eq!(scene.provider.calls_of("waits").len(), 1);
}
