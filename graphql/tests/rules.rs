//! What is wrong with documents and with the values of their variables is what graphql-js says, in its words.
//!
//! `invalid.json` holds the documents, those that are right among them, and what graphql-js found; `tests/outside/answers`
//! makes it anew. Where a value stands within another (`nested`), ours know the place of the outer one alone, so that places are
//! not compared.

use graphql::{OutputType, Rules, ServerError, Variables, parser::parse_query, registry::Registry};
use graphql_sample::{Work, Workshop};
use serde_json::{Value, json};

fn rules() -> Rules {
    let mut registry = Registry::default();
    <Workshop as OutputType>::create_type_info(&mut registry);
    <Work as OutputType>::create_type_info(&mut registry);
    let roots = ["Query", "Mutation", "Subscription"].map(str::to_owned);
    Rules::new(&registry, roots)
}

/// In the order of places, then of messages.
fn sorted(mut errors: Vec<Value>) -> Vec<Value> {
    errors.sort_by_key(|error| (error["locations"].to_string(), error["message"].to_string()));
    errors
}

fn told(errors: &[ServerError]) -> Vec<Value> {
    let told = errors.iter().map(|error| {
        let places: Vec<_> = error
            .locations
            .iter()
            .map(|at| json!([at.line, at.column]))
            .collect();
        json!({"message": error.message, "locations": places})
    });
    sorted(told.collect())
}

fn messages(errors: &[Value]) -> Vec<String> {
    let mut all: Vec<_> = errors
        .iter()
        .map(|error| error["message"].to_string())
        .collect();
    all.sort();
    all
}

#[test]
fn what_is_wrong_is_what_graphql_js_finds() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("invalid.json")).expect("the file of documents");
    let (rules, mut wrong, mut refused) = (rules(), String::new(), 0);
    for case in &cases {
        let text = case["document"].as_str().expect("a document");
        let doc = parse_query(text).expect("can be parsed");
        let mut errors = rules.check(&doc);
        let mut coerced = None;
        if let (Some(given), true) = (case["variables"].as_str(), errors.is_empty()) {
            let mut variables: Variables = serde_json::from_str(given).expect("variables are JSON");
            match rules.coerce(&doc, None, &mut variables) {
                Ok(()) => coerced = Some(serde_json::to_value(variables).expect("JSON")),
                Err(told) => errors = told,
            }
        }
        let ours = told(&errors);
        let golden = sorted(case["errors"].as_array().cloned().unwrap_or_default());
        refused += usize::from(!golden.is_empty());
        let same = if case["nested"] == true {
            messages(&golden) == messages(&ours)
        } else {
            golden == ours
        };
        if !same {
            wrong += &format!(
                "{text} {}\n  graphql-js {golden:#?}\n  ours       {ours:#?}\n",
                case["variables"]
            );
        }
        if let (Some(golden), Some(ours)) = (case["coerced"].as_object(), coerced) {
            for (name, golden) in golden {
                if ours[name] != *golden {
                    wrong += &format!(
                        "{text} {}\n  graphql-js ${name} {golden}\n  ours       {}\n",
                        case["variables"], ours[name]
                    );
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(
        cases.len() > 130 && refused > 85,
        "{refused} of {}",
        cases.len()
    );
}

fn all_of(text: &str) -> Vec<ServerError> {
    rules().check(&parse_query(text).expect("can be parsed"))
}

#[test]
fn what_takes_exactly_one_field_takes_no_variable_that_may_be_null() {
    // graphql-js does not see it where the object itself may not be null
    let errors = all_of("query($a: String) { marked(by: {word: $a}) }");
    assert_eq!(
        told(&errors),
        [json!({
            "message": "Variable \"$a\" is of type \"String\" but must be non-nullable to be used for OneOf Input Object \"Mark\".",
            "locations": [[1, 7], [1, 32]],
        })]
    );
    assert!(all_of("query($a: String!) { marked(by: {word: $a}) }").is_empty());
}

#[test]
fn of_many_mistakes_the_first_hundred_are_told() {
    let fields: String = (0..300)
        .map(|n| format!("a{n}: looms(first: $a, nope: 1) {{ id }}\n"))
        .collect();
    let errors = all_of(&format!("query($a: String) {{\n{fields}}}"));
    assert_eq!(errors.len(), 101);
    let lines: Vec<_> = errors
        .iter()
        .filter_map(|error| error.locations.last())
        .map(|at| at.line)
        .collect();
    assert!(lines.contains(&2), "{lines:?}");
    assert!(
        errors[100].message.starts_with("Too many"),
        "{:?}",
        errors[100]
    );
    let doc =
        parse_query("query($a: [Int!]!) { counted(ids: [], marks: $a) }").expect("a document");
    let mut variables = Variables::from_json(json!({"a": vec!["x"; 100_000]}));
    let errors = rules()
        .coerce(&doc, None, &mut variables)
        .expect_err("no numbers");
    assert_eq!(errors.len(), 51);
}

#[test]
fn a_message_shows_little_of_a_value_and_no_controls() {
    let doc = parse_query("query($a: Int!) { looms(first: $a) { id } }").expect("a document");
    let long = "x".repeat(1_000_000);
    for value in [
        json!(long),
        json!({long.as_str(): 1}),
        json!([long]),
        json!("\u{1b}[31m\u{85}\u{2028}\0"),
    ] {
        let mut variables = Variables::from_json(json!({"a": value}));
        let errors = rules()
            .coerce(&doc, None, &mut variables)
            .expect_err("no number");
        assert!(errors[0].message.chars().count() < 300, "{:?}", errors[0]);
        assert!(
            !errors[0]
                .message
                .contains(|char: char| char.is_control() || char == '\u{2028}'),
            "{:?}",
            errors[0]
        );
    }
}

#[test]
fn fragments_that_lead_in_circles_or_far_are_looked_through_once() {
    let errors = all_of(
        "query($a: String) { ...A } fragment A on Query { ...B looms(first: $a) { id } } fragment B on Query { ...A }",
    );
    assert_eq!(errors.len(), 1, "{errors:?}");
    let doubling: String = (0..60)
        .map(|n| format!("fragment F{n} on Query {{ ...F{m} ...F{m} }} ", m = n + 1))
        .collect();
    let operations: String = (0..100)
        .map(|n| format!("query Q{n}($a: String) {{ ...F0 }} "))
        .collect();
    let errors = all_of(&format!(
        "{operations} {doubling} fragment F60 on Query {{ looms(first: $a) {{ id }} }}"
    ));
    assert_eq!(errors.len(), 100, "{errors:?}");
}

#[test]
fn what_may_merge_is_found_in_bounded_time() {
    // each fragment leads to the next by eight ways, from 64 operations
    let wide: String = (0..20)
        .map(|n| {
            let spread = format!("...W{}", n + 1);
            let ways: String = ["a", "b", "c", "d"]
                .map(|key| format!("{key}: surely {{ {spread} }} next {{ {spread} }} "))
                .concat();
            format!("fragment W{n} on Loom {{ {ways} }} ")
        })
        .collect();
    let operations: String = (0..64)
        .map(|n| format!("query Q{n} {{ looms {{ ...W0 }} }} "))
        .collect();
    let text = format!("{operations} {wide} fragment W20 on Loom {{ id name }}");
    // would last for ages
    assert!(all_of(&text).is_empty());
    // circles are refused elsewhere, and must not be followed here
    let circle = "{ loom(id: 1) { ...A } } fragment A on Loom { next { ...A ...B } } fragment B on Loom { next { ...B } ...A }";
    assert!(all_of(circle).is_empty());
}
