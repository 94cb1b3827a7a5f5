//! What requests cost whoever asks.

use std::{net::IpAddr, time::Duration};

use futures_util::StreamExt;

use super::*;
use crate::edge::{Event, Told};

const VIEWER: &str = "{ viewer { user { name } tenant { slug } } }";

fn operation(text: &str, kind: OperationType) -> Operation {
    let document = parse_query(text).unwrap();
    let mut request = async_graphql::Request::new(text);
    request.set_parsed_query(document.clone());
    Operation {
        request,
        may_be_raw: may_be_raw(&document),
        document: Arc::new(document),
        kind,
        request_id: "test".to_owned(),
        wants_cursors: false,
        after: None,
    }
}

fn from(address: &str) -> Credentials {
    let mut given = given(None, None);
    given.client.address = address.parse::<IpAddr>().unwrap();
    given
}

/// The whole answer to a query.
async fn asked(house: &House, credentials: Credentials, text: &str) -> Value {
    let caller = house.graph.authenticate(credentials).await.unwrap();
    let operation = operation(text, OperationType::Query);
    let response = house.graph.execute(&caller, operation).await;
    serde_json::from_slice(&to_json(&response)).unwrap()
}

fn told(event: Told) -> Value {
    let json = match event.event {
        Event::Own(response) => to_json(&response),
        Event::Shared(json) => json.to_vec(),
    };
    serde_json::from_slice(&json).unwrap()
}

async fn limited(settings: &[(&str, &str)]) -> (House, String) {
    let house = House::with(settings).await;
    let answer = house.ok(None, SET_UP, owner()).await;
    let token = answer["setUp"]["accessToken"].as_str().unwrap().to_owned();
    (house, token)
}

#[tokio::test]
async fn an_answer_says_what_it_cost() {
    let (house, token) = House::new().await;
    let full = asked(&house, given(Some(&token), None), VIEWER).await;
    let cost = json!({"requested": 3, "actual": 3, "available": 49_997, "restorePerSecond": 1000});
    assert_eq!(full["extensions"]["cost"], cost);
    // lists count by what they hold: here one membership, and no key
    let text = "{ viewer { memberships { tenant { slug } } apiKeys(first: 50) { nodes { id } edges { cursor node { id } } pageInfo { hasNextPage } } } }";
    let lists = asked(&house, given(Some(&token), None), text).await;
    assert_eq!(
        lists["extensions"]["cost"]["requested"],
        1 + 5 * 2 + 2 + 50 * 2
    );
    assert_eq!(lists["extensions"]["cost"]["actual"], 1 + 2 + 2);
    new_key(&house, &token, "one").await;
    let lists = asked(&house, given(Some(&token), None), text).await;
    assert_eq!(lists["extensions"]["cost"]["actual"], 1 + 2 + 2 + 2);
    let edges = asked(
        &house,
        given(Some(&token), None),
        "{ viewer { apiKeys { edges { cursor } } } }",
    )
    .await;
    assert_eq!(edges["extensions"]["cost"]["actual"], 1 + 2 + 1);
    // an interface counts as what it is
    let id = house
        .ok(Some(&token), "{ viewer { user { id } } }", json!({}))
        .await["viewer"]["user"]["id"]
        .clone();
    let node = asked(
        &house,
        given(Some(&token), None),
        &format!("{{ node(id: {id}) {{ id ... on User {{ name }} }} __typename }}"),
    )
    .await;
    assert_eq!(node["extensions"]["cost"]["actual"], 1, "{node}");
    // what is not valid was asked for all the same
    let invalid = asked(
        &house,
        given(Some(&token), None),
        "{ viewer { user { nope } } }",
    )
    .await;
    assert_eq!(
        (
            &invalid["errors"][0]["message"].is_string(),
            &invalid["extensions"]["cost"]["requested"]
        ),
        (&true, &json!(2))
    );
    assert_eq!(invalid["extensions"]["cost"]["actual"], 1);
}

#[tokio::test]
async fn a_mutation_counts_what_it_answers() {
    let (house, token) = House::new().await;
    let text = "mutation { revokeApiKey(input: {id: \"x\"}) { deletedIds errors { code } } }";
    let caller = house.caller(Some(&token)).await.unwrap();
    let response = house
        .graph
        .execute(&caller, operation(text, OperationType::Mutation))
        .await;
    let answer: Value = serde_json::from_slice(&to_json(&response)).unwrap();
    let cost = &answer["extensions"]["cost"];
    assert_eq!(
        (&cost["requested"], &cost["actual"]),
        (&json!(15), &json!(11)),
        "{answer}"
    );
}

#[tokio::test]
async fn what_is_too_dear_does_not_run() {
    let (house, token) = limited(&[("WEFT_LIMITS__MAX_COMPLEXITY", "40")]).await;
    let over = "{ agents(first: 39) { nodes { id } } viewer { role } }";
    let answer = asked(&house, given(Some(&token), None), over).await;
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!(
        (
            &extensions["code"],
            &extensions["limit"],
            &extensions["actual"]
        ),
        (&json!("QUERY_TOO_COMPLEX"), &json!(40), &json!(42))
    );
    assert_eq!(answer.get("data"), None);
    let cost = json!({"requested": 42, "actual": 0, "available": 50_000, "restorePerSecond": 1000});
    assert_eq!(
        answer["extensions"]["cost"], cost,
        "nothing was taken for it"
    );
    let fits = asked(
        &house,
        given(Some(&token), None),
        "{ agents(first: 38) { nodes { id } } }",
    )
    .await;
    assert_eq!(fits.get("errors"), None);
}

#[tokio::test]
async fn a_bucket_runs_empty_for_its_credential_alone_and_fills_again() {
    let (house, token) = limited(&[
        ("WEFT_LIMITS__COST_BUCKET", "100"),
        ("WEFT_LIMITS__COST_RESTORE_PER_S", "1"),
    ])
    .await;
    let (_, key) = new_key(&house, &token, "other").await;
    let text = "{ agents(first: 35) { nodes { id } } }";
    let mut refused = Value::Null;
    for _ in 0..4 {
        let answer = asked(&house, given(Some(&token), None), text).await;
        if answer.get("errors").is_some() {
            refused = answer;
            break;
        }
    }
    let extensions = &refused["errors"][0]["extensions"];
    assert_eq!(extensions["code"], "RATE_LIMITED", "{refused}");
    assert_eq!(extensions["limit"], 100);
    let available = refused["extensions"]["cost"]["available"].as_u64().unwrap();
    assert_eq!(extensions["actual"].as_u64().unwrap(), 100 - available + 37);
    let wait = extensions["retryAfterMs"].as_u64().unwrap();
    assert!((1..=37_000).contains(&wait), "{wait}");
    assert_eq!(refused.get("data"), None);
    // another credential of the same user has its own
    assert_eq!(
        asked(&house, given(Some(&key), None), text)
            .await
            .get("errors"),
        None
    );
    // the user is told
    let left = asked(
        &house,
        given(Some(&token), None),
        "{ viewer { rateLimit { maximum available restorePerSecond } } }",
    )
    .await;
    let left = &left["data"]["viewer"]["rateLimit"];
    assert_eq!(
        (&left["maximum"], &left["restorePerSecond"]),
        (&json!(100), &json!(1))
    );
    assert!(left["available"].as_i64().unwrap() < 37);
}

#[tokio::test]
async fn without_a_credential_the_address_pays() {
    let house = House::with(&[
        ("WEFT_LIMITS__ADDRESS_COST_BUCKET", "5"),
        ("WEFT_LIMITS__COST_RESTORE_PER_S", "1"),
    ])
    .await;
    let text = "{ service { limits { maxDepth } } }";
    for address in ["2001:db8::1", "2001:db8::2"] {
        assert_eq!(asked(&house, from(address), text).await.get("errors"), None);
    }
    // of one network of 64 bits
    let refused = asked(&house, from("2001:db8::3"), text).await;
    assert_eq!(
        refused["errors"][0]["extensions"]["code"], "RATE_LIMITED",
        "{refused}"
    );
    assert_eq!(refused["errors"][0]["extensions"]["limit"], 5);
    assert_eq!(
        asked(&house, from("2001:db8:0:1::1"), text)
            .await
            .get("errors"),
        None
    );
    // more than the bucket holds would never come
    let dear = asked(
        &house,
        from("192.0.2.1"),
        "{ service { signInMethods { kind } limits { maxDepth } } }",
    )
    .await;
    let extensions = &dear["errors"][0]["extensions"];
    assert_eq!(
        (&extensions["code"], &extensions["limit"]),
        (&json!("QUERY_TOO_COMPLEX"), &json!(5))
    );
}

#[tokio::test]
async fn a_stream_is_paid_for_at_its_beginning_and_never_cut() {
    let (house, token) = limited(&[
        ("WEFT_LIMITS__COST_BUCKET", "200"),
        ("WEFT_LIMITS__COST_RESTORE_PER_S", "1"),
    ])
    .await;
    let caller = house.caller(Some(&token)).await.unwrap();
    let mutate = async |text: String| -> Value {
        let response = house
            .graph
            .execute(&caller, operation(&text, OperationType::Mutation))
            .await;
        serde_json::from_slice(&to_json(&response)).unwrap()
    };
    let made = mutate(
        "mutation { createConversation(input: {title: \"0\"}) { conversation { id cursor } } }"
            .to_owned(),
    )
    .await;
    let conversation = &made["data"]["createConversation"]["conversation"];
    // its beginning is 10, an event 1 + 1 + 2 + 50
    let follow = format!(
        "subscription {{ conversationEvents(conversationId: {}, after: {}) {{ cursor ... on ConversationUpdated {{ conversation {{ title runs(first: 50) {{ nodes {{ id }} }} }} }} }} }}",
        conversation["id"], conversation["cursor"]
    );
    let subscribe = || {
        house
            .graph
            .subscribe(&caller, operation(&follow, OperationType::Subscription))
    };
    let mut events = subscribe();
    for title in 1..=4 {
        // 15 each
        let rename = format!(
            "mutation {{ updateConversation(input: {{id: {}, title: \"{title}\"}}) {{ errors {{ code }} }} }}",
            conversation["id"]
        );
        assert_eq!(mutate(rename).await.get("errors"), None, "{title}");
        let event = tokio::time::timeout(Duration::from_secs(30), events.next());
        let event = event.await.unwrap().unwrap();
        let event = told(event);
        let told = &event["data"]["conversationEvents"]["conversation"]["title"];
        assert_eq!(told, &title.to_string(), "{event}");
        let cost = &event["extensions"]["cost"];
        if title == 1 {
            let (requested, actual) = (&cost["requested"], &cost["actual"]);
            assert_eq!((requested, actual), (&json!(64), &json!(14)), "{event}");
        } else {
            assert_eq!(cost, &Value::Null);
        }
    }
    // two events took what there was down to the tenth that streams leave, the last one nothing
    let left = asked(
        &house,
        given(Some(&token), None),
        "{ viewer { rateLimit { available } } }",
    )
    .await;
    let left = left["data"]["viewer"]["rateLimit"]["available"].as_u64();
    assert!(left.is_some_and(|left| (3..15).contains(&left)), "{left:?}");
    // a second one is refused by an answer that never ran
    let mut refused = subscribe();
    let answer = refused.next().await.unwrap();
    assert!(
        matches!(&answer.event, Event::Own(answer) if async_graphql::refused(answer)),
        "{answer:?}"
    );
    let answer = told(answer);
    assert_eq!(
        answer["errors"][0]["extensions"]["code"], "RATE_LIMITED",
        "{answer}"
    );
    assert!(refused.next().await.is_none());
}

#[tokio::test]
async fn where_the_data_lives_is_for_platform_administrators() {
    let (house, token) = House::new().await;
    let text = "{ service { backends { database bus } } }";
    let backends = json!({"service": {"backends": {"database": "SQLITE", "bus": "MEMORY"}}});
    assert_eq!(house.ok(Some(&token), text, json!({})).await, backends);
    let nothing = json!({"service": {"backends": null}});
    assert_eq!(house.ok(None, text, json!({})).await, nothing);
    let (_, key) = new_key(&house, &token, "key").await;
    assert_eq!(house.ok(Some(&key), text, json!({})).await, nothing);
    let other = house.person("bea", Role::Admin, false).await;
    assert_eq!(house.ok(Some(&other), text, json!({})).await, nothing);
}

#[tokio::test]
async fn an_answer_has_a_length() {
    let (house, token) = limited(&[("WEFT_LIMITS__MAX_RESPONSE_BYTES", "65536")]).await;
    let token = Some(token.as_str());
    let create = "mutation ($input: CreateAgentInput!) { made: createAgent(input: $input) { agent { id instructions } } }";
    let input = |words: usize| json!({"input": {"name": "Weaver", "slug": format!("w{words}"), "instructions": "weft ".repeat(words)}});
    let made = house.ok(token, create, input(10_000)).await;
    let id = made["made"]["agent"]["id"].as_str().unwrap();
    let agent = format!("agent(id: \"{id}\") {{ instructions }}");
    let once = house.ok(token, &format!("{{ {agent} }}"), json!({})).await;
    assert_eq!(
        once["agent"]["instructions"].as_str().unwrap().len(),
        50_000
    );
    let twice = house
        .ask(token, &format!("{{ a: {agent} b: {agent} }}"), json!({}))
        .await;
    let error = &twice["errors"][0];
    assert_eq!(error["extensions"]["code"], "QUERY_TOO_COMPLEX", "{twice}");
    assert_eq!(error["extensions"]["limit"], 65_536, "{twice}");
    assert_eq!(
        (&error["path"], &twice["data"]),
        (&json!(["a"]), &Value::Null)
    );
    // what was done is not told as if it were not
    let long = house.ask(token, create, input(15_000)).await;
    assert_eq!(long["errors"][0]["path"], json!(["made"]), "{long}");
    assert!(long.as_object().unwrap().contains_key("data"), "{long}");
    let there = house
        .ok(token, "{ agent(slug: \"w15000\") { name } }", json!({}))
        .await;
    assert_eq!(there["agent"]["name"], "Weaver");
}
