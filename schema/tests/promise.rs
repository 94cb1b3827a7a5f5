//! What holds of every type of the graph, now and later.

use async_graphql::parser::types::OperationType;

#[test]
fn the_committed_sdl_is_that_of_the_code() {
    let committed = include_str!("../schema.graphql");
    assert!(
        committed == schema::sdl(),
        "schema.graphql is not what the code says; write it anew by `weft schema > schema/schema.graphql`"
    );
}

const TYPES: &str = "{ __schema { queryType { name } mutationType { name } types {
    kind name description
    fields(includeDeprecated: true) { name description args { name description type { ...ref } } type { ...ref } }
    inputFields { name description }
    enumValues(includeDeprecated: true) { name description }
} } }
fragment ref on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";

async fn schema_of_itself() -> serde_json::Value {
    let schema = schema::build().finish();
    let mut response = schema.execute(TYPES).await;
    assert!(response.errors.is_empty(), "{:?}", response.errors);
    async_graphql::finish(
        &mut response,
        &async_graphql::parser::parse_query(TYPES).expect("a query"),
        None,
        |_, _| "",
    );
    async_graphql::tree(response.data)
        .into_json()
        .expect("JSON")["__schema"]
        .clone()
}

fn list(value: &serde_json::Value) -> &[serde_json::Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn name(value: &serde_json::Value) -> &str {
    value["name"].as_str().unwrap_or_default()
}

/// `Agent!` and the like.
fn written(reference: &serde_json::Value) -> String {
    match reference["kind"].as_str() {
        Some("NON_NULL") => format!("{}!", written(&reference["ofType"])),
        Some("LIST") => format!("[{}]", written(&reference["ofType"])),
        _ => name(reference).to_owned(),
    }
}

#[tokio::test]
async fn everything_is_described() {
    let itself = schema_of_itself().await;
    let mut bare = Vec::new();
    let mut look = |at: String, thing: &serde_json::Value| {
        if thing["description"]
            .as_str()
            .is_none_or(|text| text.trim().is_empty())
        {
            bare.push(at);
        }
    };
    for ty in list(&itself["types"]) {
        let of = name(ty);
        // The scalars of the specification are described there.
        if of.starts_with("__") || ["ID", "Int", "Float", "String", "Boolean"].contains(&of) {
            continue;
        }
        look(of.to_owned(), ty);
        for field in list(&ty["fields"]) {
            look(format!("{of}.{}", name(field)), field);
            for argument in list(&field["args"]) {
                look(
                    format!("{of}.{}({})", name(field), name(argument)),
                    argument,
                );
            }
        }
        for field in list(&ty["inputFields"])
            .iter()
            .chain(list(&ty["enumValues"]))
        {
            look(format!("{of}.{}", name(field)), field);
        }
    }
    assert!(bare.is_empty(), "without a description: {bare:?}");
}

#[tokio::test]
async fn a_mutation_takes_one_input_and_answers_a_payload_with_errors() {
    let itself = schema_of_itself().await;
    let types = list(&itself["types"]);
    let find = |wanted: &str| {
        types
            .iter()
            .find(|ty| name(ty) == wanted)
            .unwrap_or_else(|| panic!("no type {wanted}"))
    };
    for mutation in list(&find(name(&itself["mutationType"]))["fields"]) {
        let of = name(mutation);
        let arguments: Vec<_> = list(&mutation["args"])
            .iter()
            .map(|argument| (name(argument), written(&argument["type"])))
            .collect();
        let capital = of[..1].to_uppercase() + &of[1..];
        assert_eq!(arguments, [("input", format!("{capital}Input!"))], "{of}");
        let payload = written(&mutation["type"]);
        let payload = payload
            .strip_suffix('!')
            .unwrap_or_else(|| panic!("the payload of {of} may be null"));
        assert!(payload.ends_with("Payload"), "{of} answers {payload}");
        let errors = list(&find(payload)["fields"])
            .iter()
            .find(|field| name(field) == "errors")
            .map(|field| written(&field["type"]));
        assert_eq!(errors.as_deref(), Some("[UserError!]!"), "{of}");
    }
}

#[tokio::test]
async fn lists_that_can_grow_take_the_same_four_arguments() {
    let itself = schema_of_itself().await;
    for ty in list(&itself["types"]) {
        for field in list(&ty["fields"]).iter().filter(|field| {
            written(&field["type"])
                .trim_end_matches('!')
                .ends_with("Connection")
        }) {
            let given: Vec<_> = list(&field["args"])
                .iter()
                .map(|argument| (name(argument), written(&argument["type"])))
                .collect();
            for (argument, of) in [
                ("first", "Int"),
                ("after", "Cursor"),
                ("last", "Int"),
                ("before", "Cursor"),
            ] {
                assert!(
                    given.contains(&(argument, of.to_owned())),
                    "{}.{}({argument}: {of})",
                    name(ty),
                    name(field)
                );
            }
        }
    }
}

#[test]
fn root_types_are_known() {
    let types = schema::RootTypes::new();
    assert_eq!(types.of(OperationType::Query, "service"), "Service!");
    assert_eq!(types.of(OperationType::Query, "viewer"), "Viewer");
    assert_eq!(
        types.of(OperationType::Mutation, "signIn"),
        "SignInPayload!"
    );
    assert_eq!(types.of(OperationType::Query, "signIn"), "");
}
