//! What holds of every type of the graph, now and later.

use async_graphql::{
    Positioned, Value,
    parser::{
        parse_schema,
        types::{
            ConstDirective, InputValueDefinition, OperationType, TypeKind, TypeSystemDefinition,
        },
    },
};

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

/// Whether a reason names a day: one that there is, as YYYY-MM-DD.
fn names_a_day(reason: &str) -> bool {
    let is_day = |word: &str| {
        let parts: Vec<_> = word.split('-').collect();
        let [year, month, day] = parts[..] else {
            return false;
        };
        let number = |text: &str, digits: usize| {
            let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>().ok().filter(|_| is_number)
        };
        let (Some(year), Some(month), Some(day)) =
            (number(year, 4), number(month, 2), number(day, 2))
        else {
            return false;
        };
        let is_leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match month {
            4 | 6 | 9 | 11 => 30,
            2 => 28 + u32::from(is_leap),
            1..=12 => 31,
            _ => 0,
        };
        (1..=days).contains(&day)
    };
    reason
        .split(|c: char| !(c.is_ascii_digit() || c == '-'))
        .any(is_day)
}

/// All that can be deprecated in a schema, by its coordinate.
fn parts(sdl: &str) -> Vec<(String, Vec<ConstDirective>)> {
    fn inputs<'a>(
        of: &'a str,
        inputs: &'a [Positioned<InputValueDefinition>],
    ) -> impl Iterator<Item = (String, &'a [Positioned<ConstDirective>])> {
        inputs.iter().map(move |input| {
            let at = format!("{of}.{}", input.node.name.node);
            (at, input.node.directives.as_slice())
        })
    }
    let mut found = Vec::new();
    for definition in parse_schema(sdl).expect("an SDL").definitions {
        let TypeSystemDefinition::Type(ty) = definition else {
            continue;
        };
        let of = ty.node.name.node.to_string();
        let mut note = |at: String, directives: &[Positioned<ConstDirective>]| {
            let directives = directives.iter().map(|directive| directive.node.clone());
            found.push((at, directives.collect()));
        };
        let fields = match ty.node.kind {
            TypeKind::Object(object) => object.fields,
            TypeKind::Interface(interface) => interface.fields,
            TypeKind::Enum(values) => {
                for value in values.values {
                    let at = format!("{of}.{}", value.node.value.node);
                    note(at, &value.node.directives);
                }
                continue;
            }
            TypeKind::InputObject(input) => {
                inputs(&of, &input.fields).for_each(|(at, directives)| note(at, directives));
                continue;
            }
            TypeKind::Scalar | TypeKind::Union(_) => continue,
        };
        for field in fields {
            let at = format!("{of}.{}", field.node.name.node);
            inputs(&at, &field.node.arguments).for_each(|(at, directives)| note(at, directives));
            note(at, &field.node.directives);
        }
    }
    found
}

/// What is deprecated in a schema by a reason that names no day before which it stays.
fn deprecated_without_a_day(sdl: &str) -> Vec<String> {
    let names_none = |directive: &ConstDirective| {
        let reason = directive.get_argument("reason");
        directive.name.node == "deprecated"
            && !matches!(reason.map(|reason| &reason.node), Some(Value::String(reason)) if names_a_day(reason))
    };
    let parts = parts(sdl).into_iter();
    let without = parts.filter(|(_, directives)| directives.iter().any(names_none));
    without.map(|(at, _)| at).collect()
}

/// That the day is a year ahead, and that nothing goes before it, takes what was released: `tests/outside/promise/breaking.mjs`.
#[test]
fn deprecations_name_the_day_before_which_nothing_goes() {
    assert_eq!(
        deprecated_without_a_day(&schema::sdl()),
        Vec::<String>::new()
    );
    assert!(parts(&schema::sdl()).len() > 900, "it looks at everything");
}

#[test]
fn a_deprecation_without_a_day_is_found_wherever_it_stands() {
    let sdl = |directive: &str| {
        format!(
            r#"type Query {{ a(b: Int {directive}): Int {directive} plain(c: Int): Int }}
            interface I {{ d: Int {directive} }}
            input In {{ e: Int {directive} }}
            enum E {{ F {directive} G }}"#
        )
    };
    let all = ["Query.a.b", "Query.a", "I.d", "In.e", "E.F"];
    for directive in [
        "@deprecated",
        r#"@deprecated(reason: "Ask for b.")"#,
        r#"@deprecated(reason: "Ask for b; stays until next year.")"#,
        r#"@deprecated(reason: "Ask for b; stays until 2031-02-29.")"#,
        r#"@deprecated(reason: "Ask for b; stays until 2031-13-01.")"#,
        r#"@deprecated(reason: "Ask for b; stays until 31-01-01.")"#,
        r#"@deprecated(reason: "Ask for b; stays until 2031-1-1.")"#,
        r#"@deprecated(reason: "Ask for b; stays until 2031-01.")"#,
    ] {
        assert_eq!(
            deprecated_without_a_day(&sdl(directive)),
            all,
            "{directive}"
        );
    }
    for directive in [
        "",
        r#"@deprecated(reason: "Ask for b; stays until 2031-01-31.")"#,
        r#"@deprecated(reason: "Until (2032-02-29): ask for b.")"#,
    ] {
        let found = deprecated_without_a_day(&sdl(directive));
        assert_eq!(found, Vec::<String>::new(), "{directive}");
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
