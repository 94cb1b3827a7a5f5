//! `__typename`, which async-graphql validates nowhere: arguments, selections and any number of any directive pass on it.

use upstream_async_graphql::{
    Name, Positioned, ServerError,
    parser::types::{Directive, ExecutableDocument, Field, Selection, SelectionSet},
};

use crate::Written;

/// Holds every `__typename` of a document to the rules for fields without arguments whose type is a scalar (sections 5.3.3,
/// 5.4.1 and 5.7 of the specification).
///
/// # Errors
/// What is wrong with the first one that breaks them.
pub fn check_typenames(doc: &ExecutableDocument) -> Result<(), ServerError> {
    let mut left: Vec<&SelectionSet> = doc
        .operations
        .iter()
        .map(|(_, operation)| &operation.node.selection_set.node)
        .collect();
    left.extend(
        doc.fragments
            .values()
            .map(|fragment| &fragment.node.selection_set.node),
    );
    while let Some(set) = left.pop() {
        for item in &set.items {
            match &item.node {
                Selection::Field(field) if field.node.name.node == "__typename" => {
                    check(doc, field)?;
                }
                Selection::Field(field) => left.push(&field.node.selection_set.node),
                Selection::InlineFragment(fragment) => {
                    left.push(&fragment.node.selection_set.node);
                }
                Selection::FragmentSpread(_) => {}
            }
        }
    }
    Ok(())
}

fn check(doc: &ExecutableDocument, field: &Positioned<Field>) -> Result<(), ServerError> {
    let refused = |message: String, pos| Err(ServerError::new(message, Some(pos)));
    if let Some((name, _)) = field.node.arguments.first() {
        let message = format!("Unknown argument \"{}\" on field \"__typename\"", name.node);
        return refused(message, name.pos);
    }
    if !field.node.selection_set.node.items.is_empty() {
        return refused(
            "Field \"__typename\" has no subfields".into(),
            field.node.selection_set.pos,
        );
    }
    let mut seen: Vec<&Name> = Vec::new();
    for directive in &field.node.directives {
        let name = &directive.node.name.node;
        if !matches!(name.as_str(), "skip" | "include") {
            return refused(format!("Unknown directive \"{name}\""), directive.pos);
        }
        if seen.contains(&name) {
            return refused(format!("Duplicate directive \"{name}\""), directive.pos);
        }
        seen.push(name);
        if !is_condition(doc, &directive.node) {
            let message = format!("Directive \"@{name}\" takes one argument \"if\", a Boolean");
            return refused(message, directive.pos);
        }
    }
    Ok(())
}

/// Whether there is the one argument that there must be. A variable is somebody's: whether this operation has it, validation says
/// where it is used on any other field.
fn is_condition(doc: &ExecutableDocument, directive: &Directive) -> bool {
    let [(name, value)] = &directive.arguments[..] else {
        return false;
    };
    let defined = |variable: &Name| {
        doc.operations.iter().any(|(_, operation)| {
            operation
                .node
                .variable_definitions
                .iter()
                .any(|definition| definition.node.name.node == *variable)
        })
    };
    name.node == "if"
        && match &value.node {
            Written::Boolean(_) => true,
            Written::Variable(variable) => defined(variable),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use upstream_async_graphql::parser::parse_query;

    use super::*;

    #[test]
    fn it_is_a_field_like_any_other() {
        let check = |text: &str| check_typenames(&parse_query(text).unwrap());
        for good in [
            "{ __typename x: __typename a { __typename @skip(if: true) @include(if: false) } }",
            "query($x: Boolean!) { a { ...F } } fragment F on T { __typename @include(if: $x) }",
            "{ a @any(x: 1) { __typename: b(c: 1) { d } } }",
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
        for (bad, message) in [
            ("{ __typename @aa@aa@aa }", "Unknown directive \"aa\""),
            ("{ a { x: __typename(b: 1) } }", "Unknown argument \"b\""),
            ("{ ... { __typename { a } } }", "no subfields"),
            (
                "{ a { ...F } } fragment F on T { __typename @skip(if: true) @skip(if: true) }",
                "Duplicate directive \"skip\"",
            ),
            ("{ __typename @include }", "takes one argument"),
            ("{ __typename @include(if: \"x\") }", "takes one argument"),
            ("{ __typename @include(if: $x) }", "takes one argument"),
            (
                "{ __typename @include(if: true, x: 1) }",
                "takes one argument",
            ),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.message.contains(message), "{bad}: {}", error.message);
            assert_eq!(error.locations.len(), 1);
        }
    }
}
