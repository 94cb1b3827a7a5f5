//! What is wrong with documents and with the values of their variables is what graphql-js says, in its words.
//!
//! `invalid.json` holds the documents, those that are right among them, and what graphql-js found; `tests/outside/answers`
//! makes it anew. Where a value stands within another (`nested`), ours know the place of the outer one alone, so that places are
//! not compared.

use graphql::{Rules, ServerError, Variables, parser::parse_query};
use serde_json::{Value, json};

fn rules() -> Rules {
    let schema = graphql_sample::workshop().finish();
    let roots = ["Query", "Mutation", "Subscription"].map(str::to_owned);
    Rules::new(schema.registry(), roots)
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
            let given: Value = serde_json::from_str(given).expect("variables are JSON");
            let mut variables = Variables::from_json(given);
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
        cases.len() > 90 && refused > 60,
        "{refused} of {}",
        cases.len()
    );
}
