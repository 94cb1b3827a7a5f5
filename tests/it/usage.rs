//! What was used, and the pages that show it: sums of runs, agents by how much they are used, versions and what keeps an agent from
//! running.

use entities::Role;
use serde_json::{Value, json};
use support::provider::{Asked, Script, Step, Turn, Usage};

use crate::{
    operations::document,
    scene::{PATIENCE, Scene},
};

/// A decimal in 10⁻¹² of a unit.
fn pico(decimal: &Value) -> i128 {
    let text = decimal.as_str().expect("a decimal is a string");
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{rest:0<12}").parse().expect("digits")
}

fn count(value: &Value) -> i128 {
    value.as_i64().expect("a number").into()
}

/// Runs, failed runs, tokens in and out, and cost.
fn summed<'a>(runs: impl IntoIterator<Item = &'a Value>) -> [i128; 5] {
    let mut sums = [0; 5];
    for run in runs {
        let usage = &run["usage"];
        let cost = if usage["cost"].is_null() {
            0
        } else {
            pico(&usage["cost"])
        };
        let of = [
            1,
            i128::from(run["status"] == "FAILED"),
            count(&usage["inputTokens"]),
            count(&usage["outputTokens"]),
            cost,
        ];
        for (sum, more) in sums.iter_mut().zip(of) {
            *sum += more;
        }
    }
    sums
}

fn told(summary: &Value) -> [i128; 5] {
    [
        count(&summary["runs"]),
        count(&summary["failedRuns"]),
        count(&summary["inputTokens"]),
        count(&summary["outputTokens"]),
        pico(&summary["cost"]),
    ]
}

/// The milliseconds that a share of the completed runs did not pass.
fn quantile(runs: &[Value], share: f64) -> f64 {
    let at = |value: &Value| {
        chrono::DateTime::parse_from_rfc3339(value.as_str().expect("a time")).expect("a time")
    };
    let took = |run: &Value| (at(&run["finishedAt"]) - at(&run["startedAt"])).num_milliseconds();
    let completed = runs.iter().filter(|run| run["status"] == "COMPLETED");
    let mut took: Vec<i64> = completed.map(took).collect();
    took.sort_unstable();
    let rank = (took.len() as f64 * share).ceil().max(1.0) as usize;
    took[rank - 1] as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_is_the_sum_of_the_runs() {
    let scene = Scene::new().await;
    let client = &scene.client;
    // As long as the question says, in milliseconds; a question of nothing is not answered.
    let answer = |asked: &Asked| {
        let question = asked.last_user_message();
        let Ok(wait) = question.parse() else {
            return Turn::refuse(401, &[]);
        };
        let n = asked.n as u64;
        let usage = Usage {
            input: 1000 + n,
            output: 100 + n,
            cached: 10 * n,
            reasoning: 0,
        };
        Turn::of([
            Step::Delay(wait),
            Step::Text("so".into()),
            Step::Usage(usage),
        ])
    };
    scene.provider.script("priced", Script::answer(answer));
    let priced = json!({
        "slug": "priced", "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": "priced", "baseUrl": scene.provider.base_url(),
        "pricing": { "inputPerMillion": "2.5", "outputPerMillion": "10.125", "cachedInputPerMillion": "0.25" },
    });
    let model = client
        .done(&document("CreateModel"), json!({ "input": priced }))
        .await["model"]["id"]
        .clone();
    let model = model.as_str().expect("an id");
    let agents = [
        client.create_agent("Weaver", model).await,
        client.create_agent("Spinner", model).await,
    ];
    let idle = client.create_agent("Dyer", model).await;
    let mut conversations = Vec::new();
    for at in 0..4 {
        // One that has a title needs no call for it.
        let input =
            json!({ "agentId": agents[usize::from(at == 3)], "title": format!("Talk {at}") });
        let made = client
            .done(&document("CreateConversation"), json!({ "input": input }))
            .await;
        conversations.push(
            made["conversation"]["id"]
                .as_str()
                .expect("an id")
                .to_owned(),
        );
    }
    for at in 0..24 {
        let question = if at % 8 == 7 {
            "nothing".to_owned()
        } else {
            (20 * (at % 8)).to_string()
        };
        let sent = client
            .send_to_conversation(&conversations[at % 4], &question)
            .await;
        let run = scene.ended(&sent.run).await;
        assert_eq!(
            run["status"],
            if at % 8 == 7 { "FAILED" } else { "COMPLETED" },
            "{run}"
        );
    }
    let all = "{ runs(first: 100) { nodes {
        status agent { id } conversation { id } startedAt finishedAt usage { inputTokens outputTokens cost currency }
    } } }";
    let runs = client.ok(all, json!({})).await["runs"]["nodes"]
        .as_array()
        .cloned()
        .expect("a list");
    let whole = summed(&runs);
    assert_eq!((whole[0], whole[1]), (24, 3));
    assert!(whole[4] > 0);
    // A run counts within two seconds.
    let page = support::wait::until(PATIENCE, "the runs are summed", async || {
        let page = client.ok(&document("UsagePage"), json!({})).await;
        (page["tenant"]["usage"]["runs"] == 24).then_some(page)
    })
    .await;
    let of_tenant = &page["tenant"]["usage"];
    assert_eq!(told(of_tenant), whole);
    assert_eq!(of_tenant["currency"], "USD");
    let listed = page["agents"]["nodes"].as_array().expect("a list");
    let names: Vec<&Value> = listed.iter().map(|agent| &agent["name"]).collect();
    assert_eq!(
        names,
        ["Weaver", "Spinner", "Dyer"],
        "by how much they are used"
    );
    for agent in listed {
        let own = runs.iter().filter(|run| run["agent"]["id"] == agent["id"]);
        assert_eq!(told(&agent["usage"]), summed(own), "{agent}");
        if agent["id"] == json!(idle) {
            assert_eq!(agent["usage"]["p50LatencyMs"], Value::Null);
        }
    }
    for conversation in page["conversations"]["nodes"].as_array().expect("a list") {
        let own = runs
            .iter()
            .filter(|run| run["conversation"]["id"] == conversation["id"]);
        assert_eq!(told(&conversation["usage"]), summed(own), "{conversation}");
    }
    for (name, share) in [("p50LatencyMs", 0.5), ("p95LatencyMs", 0.95)] {
        let (told, measured) = (
            of_tenant[name].as_f64().expect("a time"),
            quantile(&runs, share),
        );
        assert!(
            (told - measured).abs() <= measured * 0.06 + 1.0,
            "{name}: {told} for {measured}"
        );
    }
    let first = of_tenant["p50TimeToFirstTokenMs"].as_f64().expect("a time");
    assert!(first <= of_tenant["p50LatencyMs"].as_f64().expect("a time"));

    // Hours before and after it hold nothing; what they span is checked.
    let empty = json!({ "since": "2020-01-01T00:00:00Z", "until": "2020-02-01T00:00:00Z" });
    let page = client.ok(&document("UsagePage"), empty).await;
    assert_eq!(told(&page["tenant"]["usage"]), [0; 5]);
    let wrong = json!({ "since": "2020-02-01T00:00:00Z", "until": "2020-01-01T00:00:00Z" });
    let refused = client
        .query(&document("UsagePage"), wrong)
        .await
        .expect_err("the wrong way round");
    assert_eq!(refused.code(), "INVALID_INPUT");

    // Who may read neither sees null, and of his own conversations what they used.
    let member = scene.colleague(Role::Member).await;
    let sent = member.send_to_agent(&agents[0], "1").await;
    scene_ended(&member, &sent.run).await;
    let page = member.ok(&document("UsagePage"), json!({})).await;
    assert_eq!(page["tenant"]["usage"], Value::Null);
    for agent in page["agents"]["nodes"].as_array().expect("a list") {
        assert_eq!(agent["usage"], Value::Null);
    }
    support::wait::until(PATIENCE, "his run is summed", async || {
        let page = member.ok(&document("UsagePage"), json!({})).await;
        (page["conversations"]["nodes"][0]["usage"]["runs"] == 1).then_some(())
    })
    .await;
}

async fn scene_ended(client: &support::client::Client, run: &str) {
    let document = "query ($id: ID!) { run(id: $id) { finishedAt } }";
    support::wait::until(PATIENCE, "the run ends", async || {
        let data = client.ok(document, json!({ "id": run })).await;
        data["run"]["finishedAt"].is_string().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_tell_what_changed_and_come_back() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let url = scene.provider.base_url();
    let one = client
        .create_model("OPENAI_COMPATIBLE", &url, "tokens-1-0")
        .await;
    let two = client
        .create_model("OPENAI_COMPATIBLE", &url, "tokens-2-0")
        .await;
    let agent = client.create_agent("Weaver", &one).await;
    let changes = [
        json!({ "instructions": "Weave.", "starters": ["How?", "Why?"], "temperature": 0.5 }),
        json!({ "starters": ["Why?"], "temperature": null, "modelId": two, "greeting": "Hello 🧵", "maxSteps": 3 }),
        json!({ "modelId": null, "maxOutputTokens": 100 }),
    ];
    for mut input in changes {
        input["id"] = json!(agent);
        client
            .done(&document("UpdateAgent"), json!({ "input": input }))
            .await;
        client
            .done(
                &document("PublishAgent"),
                json!({ "input": { "id": agent } }),
            )
            .await;
    }
    // Publishing without a change answers the version that there is.
    let same = client
        .done(
            &document("PublishAgent"),
            json!({ "input": { "id": agent } }),
        )
        .await;
    assert_eq!(same["version"]["number"], 4);
    let all = "query ($id: ID!) { agent(id: $id) { versions(first: 10) { nodes {
        number instructions greeting starters model { id } temperature maxOutputTokens maxSteps
        d1: diff(against: 1) d2: diff(against: 2) d3: diff(against: 3) d4: diff(against: 4) d5: diff(against: 5)
    } } } }";
    let page = client.ok(all, json!({ "id": agent })).await;
    let versions = page["agent"]["versions"]["nodes"]
        .as_array()
        .cloned()
        .expect("a list");
    assert_eq!(versions.len(), 4);
    let spec = |version: &Value| {
        json!({
            "instructions": version["instructions"], "greeting": version["greeting"], "starters": version["starters"],
            "modelId": version["model"]["id"], "temperature": version["temperature"],
            "maxOutputTokens": version["maxOutputTokens"], "maxSteps": version["maxSteps"],
        })
    };
    for to in &versions {
        assert_eq!(to["d5"], Value::Null);
        for from in &versions {
            let patch = &to[format!("d{}", from["number"])];
            let patch: json_patch::Patch = serde_json::from_value(patch.clone()).expect("a patch");
            let mut patched = spec(from);
            json_patch::patch(&mut patched, &patch).expect("it fits");
            assert_eq!(patched, spec(to), "{} → {}", from["number"], to["number"]);
        }
    }
    let restore = json!({ "input": { "id": agent, "number": 2 } });
    client.done(&document("RestoreAgentVersion"), restore).await;
    let page = client
        .ok(&document("AgentPage"), json!({ "id": agent }))
        .await;
    let second = versions
        .iter()
        .find(|version| version["number"] == 2)
        .expect("the second");
    assert_eq!(spec(&page["agent"]["draft"]), spec(second));
    assert_eq!(page["agent"]["hasUnpublishedChanges"], true);
    assert_eq!(page["agent"]["version"]["number"], 4);
    let published = client
        .done(
            &document("PublishAgent"),
            json!({ "input": { "id": agent } }),
        )
        .await;
    assert_eq!(published["version"]["number"], 5);
    let nothing = json!({ "input": { "id": agent, "number": 9 } });
    let refused = client
        .refused(&document("RestoreAgentVersion"), nothing)
        .await;
    assert_eq!(refused[0]["path"], json!(["input", "number"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_says_what_keeps_it_from_running() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let url = scene.provider.base_url();
    let named = client
        .create_model("OPENAI_COMPATIBLE", &url, "tokens-1-0")
        .await;
    let agent = client.create_agent("Weaver", &named).await;
    let create = json!({ "input": { "name": "Spinner", "instructions": "x" } });
    let any = client.done(&document("CreateAgent"), create).await["agent"]["id"].clone();
    let problems = async |id: &Value| {
        let page = client.ok(&document("AgentPage"), json!({ "id": id })).await;
        let problems = page["agent"]["problems"]
            .as_array()
            .cloned()
            .expect("a list");
        problems
            .into_iter()
            .map(|it| (it["kind"].clone(), it["about"]["id"].clone()))
            .collect::<Vec<_>>()
    };
    let agent = json!(agent);
    assert_eq!(problems(&agent).await, []);
    assert_eq!(problems(&any).await, []);

    let default = "{ models(first: 100) { nodes { id isDefault } } }";
    let listed = client.ok(default, json!({})).await;
    let models = listed["models"]["nodes"].as_array().expect("a list");
    let default = models
        .iter()
        .find(|model| model["isDefault"] == true)
        .expect("the default");

    // one that does not answer, and has nothing behind it
    let update = "mutation ($input: UpdateModelInput!) { updateModel(input: $input) { errors { message } } }";
    let change = async |input: Value| client.done(update, json!({ "input": input })).await;
    let check = "mutation ($id: ID!) { checkModel(input: { id: $id }) { model { health { status } } errors { message } } }";
    let checked = async || {
        client.done(check, json!({ "id": named })).await["model"]["health"]["status"].clone()
    };
    change(json!({ "id": named, "modelName": "nobody-knows" })).await;
    assert_eq!(checked().await, "UNHEALTHY");
    let about = json!(named);
    let unavailable = [(json!("MODEL_UNAVAILABLE"), about)];
    assert_eq!(problems(&agent).await, unavailable);
    assert_eq!(problems(&any).await, []);
    // what comes after it answers for it
    let other = client
        .create_model("OPENAI_COMPATIBLE", &url, "tokens-2-0")
        .await;
    change(json!({ "id": named, "fallbackIds": [other] })).await;
    assert_eq!(problems(&agent).await, []);
    change(json!({ "id": named, "fallbackIds": [], "isDefault": true })).await;
    assert_eq!(problems(&any).await, unavailable);
    change(json!({ "id": default["id"], "isDefault": true })).await;

    let delete = "mutation ($id: ID!) { deleteModel(input: { id: $id, force: true }) { errors { message } } }";
    client.done(delete, json!({ "id": named })).await;
    let unavailable = problems(&agent).await;
    assert_eq!(unavailable.len(), 1);
    assert_eq!(unavailable[0].0, "MODEL_UNAVAILABLE");
    let refused = client
        .refused(
            "mutation ($id: ID!) { deleteModel(input: { id: $id }) { errors { code } } }",
            json!({ "id": default["id"] }),
        )
        .await;
    assert_eq!(refused[0]["code"], "IN_USE");
    client.done(delete, json!({ "id": default["id"] })).await;
    assert_eq!(problems(&any).await, [(json!("NO_MODEL"), Value::Null)]);
}

/// Whoever made an agent reads its usage as long as the credential lets him change agents, and not by a key that can't.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_reads_the_usage_that_its_own_rights_allow() {
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-1-0").await;
    let create = "mutation ($input: CreateApiKeyInput!) { createApiKey(input: $input) { secret errors { message } } }";
    let read =
        "query ($id: ID!) { agent(id: $id) { name usage { runs } } tenant { usage { runs } } }";
    for (permissions, of_agent, of_tenant) in [
        (json!(["AGENTS_USE", "CONVERSATIONS_USE"]), false, false),
        (json!(["AGENTS_USE", "AGENTS_EDIT"]), true, false),
        (json!(["AGENTS_USE", "USAGE_READ"]), true, true),
    ] {
        let input = json!({ "name": "k", "kind": "PERSONAL", "permissions": permissions });
        let made = scene.client.done(create, json!({ "input": input })).await;
        let keyed = scene.client.with_token(made["secret"].as_str());
        let told = keyed.ok(read, json!({ "id": agent })).await;
        assert_eq!(told["agent"]["name"], "Weaver", "{permissions}");
        assert_eq!(
            told["agent"]["usage"].is_object(),
            of_agent,
            "{permissions}"
        );
        assert_eq!(
            told["tenant"]["usage"].is_object(),
            of_tenant,
            "{permissions}"
        );
    }
}
