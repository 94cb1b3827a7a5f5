//! Our answers, as trees and as text, are those of async-graphql's own resolver behind a normaliser.

use graphql::{
    Mode, Request, Value, Variables, finish, may_be_raw, merge_root,
    parser::{parse_query, types::OperationType},
    to_json, tree,
};
use serde_json::json;

mod normalise;

const DOCUMENTS: &[&str] = &[
    "{ agent { id name waits tags kind score madeAt note colour pair { right left tool { name } __typename label sum } } }",
    "{ agent { note slow id tool { name id } name __typename t: tools(first: 2) { name } u: tools(first: 1) { id name } } agents(n: 3) { slow(turns: 1) id } }",
    "{ z: agent { b: name a: id b: name c: __typename c: __typename } a: agent { id } }",
    "{ agent { tool { id } id tool { name } id peer { id peer { id } } peer { name peer { tags } } tools(first: 2) { id } slow tools(first: 2) { name id } } }",
    "{ agent { id } agents(n: 2) { id } agent { name tool { id } } agents(n: 2) { name id tool { id } } agent { tool { name } } }",
    "query($yes: Boolean!, $no: Boolean = false) { agent { id @skip(if: $yes) name @include(if: $yes) tags @include(if: $no) ... @include(if: $no) { score } ... @skip(if: $no) { kind } ...F @skip(if: $yes) ...G @include(if: $yes) } } fragment F on Agent { note } fragment G on Agent { madeAt tool @include(if: $no) { id } }",
    "{ agent { ...A ... { id ...B } ... on Agent { name ...A } ... on Node { id name } ... on Tool { toolOnly: id } ... on Hit { __typename } } } fragment A on Agent { tool { id } kind } fragment B on Node { name id __typename }",
    "{ agent { a: id b: id c: id d: id e: id f: id g: id h: id i: id tool { id } k: id l: id m: id n: id o: id p: id q: id r: id s: id tool { name } pair { left } s: id t: id pair { right } u: id a: id tool { i: id } peer { id } peer { name } } }",
    "{ node(tool: false) { __typename id ... on Agent { kind name tool { id } ... on Node { id } } ... on Tool { t: name } ... on Agent { tool { name } } name } }",
    "{ node(tool: true) { name ... on Agent { kind } ... on Tool { id t: name } ... on Node { n: name ... on Tool { x: id } } __typename } }",
    "{ search { __typename ... on Agent { id tool { id } } ... on Tool { name } ... on Node { n: name } ... on Agent { tool { name } node { id } } ... on Hit { __typename } } }",
    "{ search { ... on Node { id name } ... on Tool { id } ... on Bad { ok } } others { ... on Agent { id bads { ok } slow } __typename ... on Tool { name } } }",
    "{ agent { peer { id others { ... on Agent { id fails mayFail } __typename } } } search { ok: __typename ... on Agent { bads { never } } } }",
    "{ agent { bad { ok } someBads { ok } peer { slow(turns: 0) tags } } search { ... on Bad { ok never } __typename } }",
    "{ thing { __typename ... on Agent { slow name } id ... on Tool { name } } whole { third second first __typename again { first again { first } } } }",
    "{ wished(wish: {kind: WRITER, colour: \"#0000ff\"}) { colour id } none: wished(wish: {n: 3}) { id } which(which: {label: \"x\"}) w: which(which: {number: 2}) }",
    "{ agent { id fails name } }",
    "{ agents(n: 2) { id mayFail name } mayFail agent { id } }",
    "{ agent { id bad { ok never norThis } name slow(turns: 20) } agents(n: 1) { id } }",
    "{ agent { id peer { name peer { id fails } } someBads { ok never } } }",
    "{ agent { peer { bads { never } id } } node(tool: false) { id ... on Agent { peer { fails mayFail } mayFail } } }",
    "{ agent { peer { surelyBad { ok n: never m: never } id } name } }",
    "{ agent { peer { id secret } id mayFail peer { secret name } } }",
    "{ agent { bad { ok } bad { never } id } }",
    "{ node(tool: false) { id ... on Agent { fails } } mayFail search { __typename ... on Agent { slow(turns: 12) } } }",
    "{ mayFail x: mayFail agent { id } fails }",
    "{ mayFail agent { id tool { name } } x: mayFail }",
    "query($n: Int = 2, $m: Int) { agents(n: $n) { tools(first: $n) { id } slow(turns: $m) } }",
    "mutation { b: make(n: 1) { id tool { id } name } a: make(n: 2) { name } b: make(n: 1) { kind tool { name } } }",
    "mutation { a: make(n: 1) { id } b: make(n: 9) { id } c: make(n: 2) { id } }",
    "{ agent { nope } }",
    "{ agent }",
    "{ agent { ...Nowhere } }",
    "query A { agent { id } } query B { agents(n: 1) { name } }",
    "{",
    "{ __schema { queryType { name fields { name type { kind ofType { name } } } } } agent { id } __type(name: \"Agent\") { name interfaces { name } } }",
];

fn root_type(kind: OperationType, field: &str) -> &'static str {
    match (kind, field) {
        (OperationType::Query, "mayFail" | "node" | "wished")
        | (OperationType::Subscription, "mayBeBad") => "X",
        (OperationType::Query, "agents" | "search" | "others") => "[X!]!",
        _ => "X!",
    }
}

/// What failed, once each: async-graphql answers a field once for each of its selections, and we once.
fn failed(response: &graphql::Response) -> Vec<String> {
    let said = |error: &graphql::ServerError| {
        json!([error.message, error.path, error.extensions]).to_string()
    };
    let mut errors: Vec<String> = response.errors.iter().map(said).collect();
    errors.sort();
    errors.dedup();
    errors
}

#[tokio::test]
async fn answers_are_those_of_the_stock_resolver_behind_the_normaliser() {
    let (stock, ours) = (
        graphql_sample::schema()
            .extension(normalise::Normalise)
            .finish(),
        graphql_sample::schema().finish(),
    );
    assert_eq!(stock.sdl(), ours.sdl());
    let (mut raw, mut wrong) = (0, String::new());
    for document in DOCUMENTS {
        let text = *document;
        let name = text.contains("query A").then_some("B");
        let request = |mode| {
            let request = Request::new(text)
                .variables(Variables::from_json(json!({"yes": true})))
                .data(mode);
            match name {
                Some(name) => request.operation_name(name),
                None => request,
            }
        };
        let expected = stock.execute(request(Mode::Stock)).await;
        let doc = parse_query(text);
        // async-graphql merges these roots in the order of completion
        let any_order = text.contains("agents(n: 2) { name id tool");
        let may = doc.as_ref().is_ok_and(may_be_raw);
        raw += usize::from(may);
        for (mode, merge) in [(Mode::Tree, false), (Mode::Tree, true), (Mode::Raw, false)] {
            if mode == Mode::Raw && !may {
                continue;
            }
            let mut answer = match (&doc, merge) {
                (Ok(doc), true) => {
                    let mut doc = doc.clone();
                    assert!(merge_root(&mut doc), "{text}");
                    let mut request = request(mode);
                    request.set_parsed_query(doc);
                    ours.execute(request).await
                }
                _ => ours.execute(request(mode)).await,
            };
            if let Ok(doc) = &doc {
                finish(&mut answer, doc, name, root_type);
            }
            let json = to_json(&answer);
            let json: serde_json::Value =
                serde_json::from_slice(&json).unwrap_or_else(|e| panic!("{e}: {json:?}"));
            assert_eq!(
                json.get("data").is_none(),
                graphql::refused(&expected),
                "{text}"
            );
            assert_eq!(failed(&expected), failed(&answer), "{text}");
            // as text, since comparing objects would not see the order of their keys
            let answer = tree(answer.data);
            let (was, is) = (json!(expected.data), json!(answer));
            let text = |value: &Value| serde_json::to_string(value).unwrap();
            let same = was == is && (any_order || text(&expected.data) == text(&answer));
            if !same {
                wrong += &format!("{document} {mode:?} {merge}\n  stock {was}\n  ours  {is}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(raw > 15, "only {raw} documents went through text");
}

#[tokio::test]
async fn every_kind_of_type_goes_through_our_resolver() {
    let schema = graphql_sample::schema().finish();
    let text = "{ agent { id pair { left } } whole { first } node(tool: true) { id } search { __typename } thing { id } }";
    let answer = schema.execute(Request::new(text).data(Mode::Raw)).await;
    assert!(answer.is_ok(), "{:?}", answer.errors);
    let Value::Object(data) = answer.data else {
        panic!("no object")
    };
    let text = |value: &Value| matches!(value, Value::Binary(_));
    // objects, merged objects, and interfaces and unions with `plain_abstract!` are text; inside they could not be otherwise
    assert!(text(&data["agent"]) && text(&data["whole"]) && text(&data["node"]));
    assert!(
        matches!(&data["search"], Value::List(hits) if hits.len() == 3 && hits.iter().all(text))
    );
    // the rest is put in order, as a tree
    assert!(matches!(&data["thing"], Value::Object(_)));
}

#[tokio::test]
async fn fields_that_meet_are_answered_once() {
    let schema = graphql_sample::schema().finish();
    let text = "{ agent { peer { fails } peer { fails id } ...F ...F } } fragment F on Agent { peer { fails } }";
    let answer = schema.execute(text).await;
    assert_eq!(answer.errors.len(), 1, "{:?}", answer.errors);
}

#[tokio::test]
async fn of_many_mistakes_a_hundred_are_told() {
    let schema = graphql_sample::schema().finish();
    let fields: String = (0..300).map(|n| format!("a{n}: nope ")).collect();
    let text = format!("{{ {fields} }}");
    let doc = parse_query(&text).expect("is a document");
    let mut answer = schema.execute(&text).await;
    assert_eq!(answer.errors.len(), 300);
    finish(&mut answer, &doc, None, root_type);
    assert_eq!(answer.errors.len(), 101);
    let json = String::from_utf8(to_json(&answer)).expect("JSON is UTF-8");
    assert!(
        json.ends_with(r#"{"message":"Too many errors: these are the first 100"}]}"#),
        "{json}"
    );
}

async fn events(text: &str, mode: Mode) -> Vec<String> {
    use futures_util::StreamExt;
    let schema = graphql_sample::schema().finish();
    let doc = parse_query(text).expect("is a document");
    let stream = schema.execute_stream(Request::new(text).data(mode));
    let events: Vec<_> = stream.collect().await;
    let json = events.into_iter().map(|mut event| {
        finish(&mut event, &doc, None, root_type);
        String::from_utf8(to_json(&event)).expect("JSON is UTF-8")
    });
    json.collect()
}

#[tokio::test]
async fn events_of_subscriptions_are_answered_as_objects_are() {
    for mode in [Mode::Tree, Mode::Raw] {
        assert_eq!(
            events("subscription { agents(n: 2) { slow note id } }", mode).await,
            [
                r#"{"data":{"agents":{"slow":3,"note":null,"id":"0"}}}"#,
                r#"{"data":{"agents":{"slow":3,"note":null,"id":"1"}}}"#
            ]
        );
        assert_eq!(
            events(
                "subscription { n: nodes { ... on Agent { slow } __typename id } }",
                mode
            )
            .await,
            [
                r#"{"data":{"n":{"slow":3,"__typename":"Agent","id":"4"}}}"#,
                r#"{"data":{"n":{"__typename":"Tool","id":"4"}}}"#
            ]
        );
        let never = r#"{"errors":[{"message":"never","locations":[{"line":1,"column":"#;
        let bads = events("subscription { bads { ok never } }", mode).await;
        assert_eq!(bads.len(), 2);
        assert!(
            bads.iter()
                .all(|event| event.starts_with(never) && event.ends_with(r#","data":null}"#)),
            "{bads:?}"
        );
        let may = events("subscription { mayBeBad { ok never } }", mode).await;
        assert!(
            may[0].starts_with(never) && may[0].ends_with(r#","data":{"mayBeBad":null}}"#),
            "{may:?}"
        );
        assert_eq!(may[1], r#"{"data":{"mayBeBad":null}}"#);
        let none = events("subscription { agents(n: 9) { id } }", mode).await;
        assert!(
            none[0].starts_with(r#"{"errors":[{"message":"too many""#)
                && none[0].ends_with(r#","data":null}"#),
            "{none:?}"
        );
        let wrong = events("subscription { agents(n: 9) { nope } }", mode).await;
        assert!(wrong[0].starts_with(r#"{"errors":["#), "{wrong:?}");
    }
}
