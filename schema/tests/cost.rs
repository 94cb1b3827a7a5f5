//! What documents cost, before they are executed.

use std::time::Duration;

use async_graphql::{Variables, parser::parse_query};
use schema::cost::{Cost, Costs, TooWide};
use serde_json::{Value, json};

fn costs() -> Costs {
    Costs::new(100)
}

fn cost_with(text: &str, variables: Value) -> Result<Cost, TooWide> {
    let document = parse_query(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    costs().cost(&document, None, &Variables::from_json(variables))
}

fn cost(text: &str) -> u64 {
    cost_with(text, json!({})).expect(text).requested
}

#[test]
fn every_shape_has_its_price() {
    let cases: &[(&str, u64)] = &[
        // an operation is at least 1, a scalar nothing, an object 1
        ("{ __typename }", 1),
        ("{ viewer { role credential permissions } }", 1),
        ("{ service { name limits { maxDepth } } }", 2),
        ("{ viewer { user { name } tenant { name slug } } }", 3),
        // a plain list is five of what it lists; of scalars it is a scalar
        ("{ viewer { memberships { role } } }", 1 + 5),
        ("{ viewer { memberships { tenant { name } } } }", 1 + 5 * 2),
        ("{ service { signInMethods { kind } } }", 1 + 5),
        // as many as there are ids, where these are more than five
        ("{ nodes(ids: [\"a\"]) { id } }", 5),
        (
            "{ nodes(ids: [\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\"]) { id } }",
            7,
        ),
        // a connection
        ("{ agents { totalCount } }", 2),
        (
            "{ agents { totalCount pageInfo { hasNextPage endCursor } } }",
            2,
        ),
        ("{ agents { nodes { id name } } }", 2 + 20),
        ("{ agents(first: 10) { nodes { id } } }", 2 + 10),
        ("{ agents(last: 3) { nodes { id } } }", 2 + 3),
        ("{ agents(first: 0) { nodes { id } } }", 2),
        ("{ agents(first: null, last: 4) { nodes { id } } }", 2 + 4),
        (
            "{ agents(first: 10) { nodes { model { name } owner { name } } } }",
            2 + 10 * 3,
        ),
        // its edges are no more than its nodes, and not nothing
        (
            "{ agents(first: 10) { edges { cursor node { id } } pageInfo { hasNextPage } } }",
            2 + 10,
        ),
        ("{ agents(first: 10) { edges { cursor } } }", 2 + 10),
        (
            "{ agents(first: 10) { nodes { id } edges { node { model { id } } } } }",
            2 + 10 * 3,
        ),
        // a page has no more than it may; what is refused later is not to be dear
        ("{ agents(first: 1000000000) { nodes { id } } }", 2 + 100),
        (
            "{ agents(first: 99999999999999999999999) { nodes { id } } }",
            2 + 20,
        ),
        ("{ agents(first: -5) { nodes { id } } }", 2),
        // inside of each other
        (
            "{ agents(first: 10) { nodes { conversations(first: 5) { nodes { messages(first: 3) { nodes { parts { index } } } } } } } }",
            2 + 10 * (1 + 2 + 5 * (1 + 2 + 3 * (1 + 5))),
        ),
        // an interface is the dearest that it can be
        ("{ node(id: \"x\") { id } }", 1),
        (
            "{ node(id: \"x\") { id ... on Agent { name } ... on Run { id } } }",
            1,
        ),
        (
            "{ node(id: \"x\") { ... on Agent { model { id } } ... on Run { steps { index } } ... on Message { author { id } } } }",
            1 + 5,
        ),
        (
            "{ node(id: \"x\") { ... on Node { ... on Agent { model { id } owner { id } } ... on Shareable { owner { name } } } } }",
            1 + 2,
        ),
        (
            "{ node(id: \"x\") { ... on Shareable { owner { id } } ... on AgentSpec { model { id } } } }",
            1 + 2,
        ),
        (
            "{ nodes(ids: []) { ... on Agent { model { id } } } }",
            5 * 2,
        ),
        // fields that meet are one field
        (
            "{ viewer { user { id } } viewer { user { name } tenant { id } } }",
            3,
        ),
        (
            "{ viewer { ...A ...B ...A } } fragment A on Viewer { user { id } } fragment B on Viewer { user { name } memberships { role } }",
            1 + 1 + 5,
        ),
        (
            "{ a: agents(first: 3) { nodes { id } } b: agents(first: 3) { nodes { id } } }",
            2 * (2 + 3),
        ),
        // mutations
        (
            "mutation { cancelRun(input: {id: \"x\"}) { __typename } }",
            10,
        ),
        (
            "mutation { cancelRun(input: {id: \"x\"}) { run { id agent { id } } errors { message } } }",
            10 + 2 + 5,
        ),
        (
            "mutation { a: cancelRun(input: {id: \"x\"}) { run { id } } b: cancelRun(input: {id: \"x\"}) { run { id } } }",
            22,
        ),
        // introspection is free
        (
            "{ __schema { types { name fields { name type { ofType { name } } } } } }",
            1,
        ),
        (
            "{ __type(name: \"Agent\") { name } viewer { user { id } } }",
            2,
        ),
        // what the schema does not have is validation's matter
        (
            "{ nope { nothing { at { all } } } viewer { nope { x } ...Nowhere ... on Nothing { user { id } } } }",
            1,
        ),
        ("mutation { nope { x } }", 1),
    ];
    for (text, expected) in cases {
        assert_eq!(cost(text), *expected, "{text}");
    }
}

#[test]
fn a_subscription_has_a_price_for_its_beginning_and_one_for_each_event() {
    let text = "subscription { conversationEvents(conversationId: \"x\") { cursor at } }";
    let plain = cost_with(text, json!({})).expect(text);
    assert_eq!((plain.requested, plain.event), (11, 1));
    let text = "subscription { runEvents(runId: \"x\") { cursor
        ... on TextDelta { text } ... on MessageCompleted { message { id parts { index } } } ... on ConversationUpdated { conversation { id } } } }";
    let dearest = cost_with(text, json!({})).expect(text);
    assert_eq!((dearest.requested, dearest.event), (10 + 1 + 1 + 5, 7));
    assert_eq!(
        cost_with("{ viewer { role } }", json!({}))
            .expect("a query")
            .event,
        0
    );
}

#[test]
fn variables_count_as_they_are_given_or_stand_by_default() {
    let paged = "query ($n: Int = 7, $m: Int) { agents(first: $n) { nodes { id } } models(last: $m) { nodes { id } } }";
    let optional = "query ($with: Boolean!, $without: Boolean = false) { viewer {
        user @include(if: $with) { id } tenant @skip(if: $with) { id } ... @skip(if: $without) { memberships { role } }
        ...F @include(if: $with) } } fragment F on Viewer { apiKeys(first: 1) { nodes { id } } }";
    let ids = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }";
    let cases = [
        (paged, json!({}), 2 + 7 + 2 + 20),
        (paged, json!({"n": 50, "m": 5}), 2 + 50 + 2 + 5),
        (paged, json!({"n": null, "m": 500}), 2 + 20 + 2 + 100),
        (paged, json!({"n": "many", "m": 1.5}), 2 + 20 + 2 + 20),
        (optional, json!({"with": true}), 1 + 1 + 5 + 3),
        (optional, json!({"with": false}), 1 + 1 + 5),
        (optional, json!({"with": false, "without": true}), 1 + 1),
        (optional, json!({}), 1 + 1 + 1 + 5 + 3),
        (ids, json!({"ids": vec!["a"; 30]}), 30),
        (ids, json!({"ids": "a"}), 5),
    ];
    for (text, variables, expected) in cases {
        let got = cost_with(text, variables.clone()).expect(text).requested;
        assert_eq!(got, expected, "{text} {variables}");
    }
}

#[test]
fn the_operation_that_is_named_is_counted() {
    let text = "query A { viewer { user { id } } } query B { agents { nodes { id } } }";
    let document = parse_query(text).expect(text);
    let of = |name| {
        costs()
            .cost(&document, name, &Variables::default())
            .expect("a cost")
            .requested
    };
    assert_eq!((of(Some("A")), of(Some("B")), of(Some("C"))), (2, 22, 1));
}

/// Fragments that spread each other twice, and stand in each other's fields.
fn bombs() -> Vec<(&'static str, String)> {
    let many = 200;
    let chain = |body: &dyn Fn(usize) -> String| -> String {
        (0..many)
            .map(|n| format!("fragment f{n} on Conversation {{ {} }} ", body(n + 1)))
            .collect()
    };
    let begin = "{ conversation(id: \"x\") { ...f0 } }";
    let abstracts: String = [
        "Agent",
        "Run",
        "Message",
        "Conversation",
        "Model",
        "AgentVersion",
        "ApiKey",
        "ToolCall",
    ]
    .map(|ty| format!("... on {ty} {{ id }} "))
    .concat();
    vec![
        ("doubles", format!("{begin} {}", chain(&|n| format!("...f{n} ...f{n}")))),
        ("doubles by a field", format!("{begin} {}", chain(&|n| format!("leaf: leaf {{ conversation {{ ...f{n} }} }} lastMessage {{ conversation {{ ...f{n} }} }}")))),
        ("goes round", "{ viewer { ...A } } fragment A on Viewer { ...B memberships { user { id } } } fragment B on Viewer { ...A }".to_owned()),
        ("goes round by a field", "{ conversation(id: \"x\") { ...A } } fragment A on Conversation { leaf { conversation { ...A } } }".to_owned()),
        ("all types, many times", format!("{{ {} }} fragment N on Node {{ {} }}", (0..30).map(|n| format!("n{n}: node(id: \"x\") {{ {abstracts} ...N }} ")).collect::<String>(), abstracts.repeat(60))),
        ("as long as may be", format!("{{ viewer {{ {} }} }}", "user { id } ".repeat(2_700))),
    ]
}

#[test]
fn no_document_takes_long_to_look_through() {
    let costs = costs();
    for (name, text) in bombs() {
        assert!(text.len() < 64 * 1024, "{name}");
        let document = parse_query(&text).expect(name);
        let began = tokio::time::Instant::now();
        let cost = costs.cost(&document, None, &Variables::default());
        let took = began.elapsed();
        // unoptimised, on a busy machine
        assert!(took < Duration::from_secs(2), "{name}: {took:?}");
        match name {
            "doubles" | "goes round" | "as long as may be" => assert!(cost.is_ok(), "{name}"),
            "doubles by a field" | "goes round by a field" => {
                assert_eq!(cost, Err(TooWide), "{name}");
            }
            _ => {}
        }
    }
}

#[test]
fn no_sum_runs_over() {
    let text = format!(
        "{{ agents(first: 100) {{ nodes {{ {} id {} }} }} }}",
        "conversations(first: 100) { nodes { agent { ".repeat(14),
        "} } }".repeat(14)
    );
    assert_eq!(cost(&text), u64::MAX, "{text}");
}

/// Prices go by the endings of names.
#[test]
fn names_tell_what_types_are() {
    use async_graphql::parser::{
        parse_schema,
        types::{TypeKind, TypeSystemDefinition},
    };
    let sdl = parse_schema(schema::sdl()).expect("SDL");
    for definition in &sdl.definitions {
        let TypeSystemDefinition::Type(ty) = definition else {
            continue;
        };
        let (name, TypeKind::Object(object)) = (ty.node.name.node.as_str(), &ty.node.kind) else {
            continue;
        };
        let has = |wanted: &str| {
            let mut fields = object.fields.iter();
            fields.any(|field| field.node.name.node == wanted)
        };
        assert_eq!(
            name.ends_with("Connection"),
            has("edges") && has("nodes"),
            "{name}"
        );
        assert_eq!(
            name.ends_with("Edge"),
            has("node") && has("cursor"),
            "{name}"
        );
        assert_eq!(name.ends_with("Payload"), has("errors"), "{name}");
        for field in &object.fields {
            let of = field.node.ty.node.to_string();
            let of = of.trim_matches(['[', ']', '!']);
            assert!(
                name == "Mutation" || !of.ends_with("Payload"),
                "{name}.{}",
                field.node.name.node
            );
        }
    }
}
