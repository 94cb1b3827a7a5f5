//! Variables that a request leaves out: CoerceVariableValues and CoerceArgumentValues of the specification (sections 6.1.2 and
//! 6.4.1). async-graphql takes a variable without a value for null, and does not look at defaults in `@skip` and `@include`.

use std::collections::HashSet;

use async_graphql_value::Value as Written;
use upstream_async_graphql::{
    Name, Positioned, Variables,
    parser::types::{
        Directive, DocumentOperations, ExecutableDocument, Field, OperationDefinition, Selection,
        SelectionSet,
    },
};

/// Gives variables that were left out their defaults. Where there is none, the arguments and fields of input objects that ask for
/// such a variable are taken out of the document: they were not given, which is not the same as null (`update(input: {id: 1,
/// name: $name})` must leave the name as it is).
///
/// `doc` is the request's own, `operation` the name that the request gave.
pub fn coerce_variables(
    doc: &mut ExecutableDocument,
    operation: Option<&str>,
    variables: &mut Variables,
) {
    let Some(chosen) = chosen(doc, operation) else {
        return;
    };
    let mut absent = HashSet::new();
    for definition in &chosen.variable_definitions {
        let name = &definition.node.name.node;
        if variables.contains_key(name) {
            continue;
        }
        match &definition.node.default_value {
            Some(default) => {
                variables.insert(name.clone(), default.node.clone());
            }
            None => {
                absent.insert(name.clone());
            }
        }
    }
    let mut asked = false;
    each_typename(doc, &mut |_| asked = true);
    if absent.is_empty() && !asked {
        return;
    }
    let Some(chosen) = self::chosen(doc, operation) else {
        return;
    };
    let before = uses(doc);
    let reached = reached(doc, chosen);
    // async-graphql does not see what a `__typename` asks for, and would say that nothing uses the variable.
    each_typename(doc, &mut |value| {
        let given = match value {
            Written::Variable(name) => variables.get(name).cloned(),
            _ => None,
        };
        if let Some(given) = given {
            *value = given.into_value();
        }
    });
    if let Some(chosen) = chosen_mut(doc, operation) {
        in_set(&mut chosen.selection_set.node, &mut |arguments| {
            take_out(arguments, &absent);
        });
    }
    for (name, fragment) in &mut doc.fragments {
        if reached.contains(name) {
            in_set(&mut fragment.node.selection_set.node, &mut |arguments| {
                take_out(arguments, &absent);
            });
        }
    }
    // Validation refuses a variable that nothing uses, but only where nothing did before.
    let after = uses(doc);
    let each = operations_mut(doc).into_iter().zip(before).zip(after);
    for ((operation, before), after) in each {
        operation.variable_definitions.retain(|definition| {
            let name = &definition.node.name.node;
            after.contains(name) || !before.contains(name)
        });
    }
}

/// The operation that a request asks for: the one of the name it gave, or the first where it gave none. `None` where the document
/// has no such operation (GetOperation, section 6.1 of the specification, which refuses no name beside several operations; so
/// does who reads a request).
#[must_use]
pub fn chosen<'a>(
    doc: &'a ExecutableDocument,
    operation: Option<&str>,
) -> Option<&'a OperationDefinition> {
    let named = |name: Option<&Name>| operation.is_none() || name.map(Name::as_str) == operation;
    doc.operations
        .iter()
        .find(|(name, _)| named(*name))
        .map(|(_, operation)| &operation.node)
}

fn chosen_mut<'a>(
    doc: &'a mut ExecutableDocument,
    operation: Option<&str>,
) -> Option<&'a mut OperationDefinition> {
    match (&mut doc.operations, operation) {
        (DocumentOperations::Single(only), _) => Some(&mut only.node),
        (DocumentOperations::Multiple(all), None) => {
            all.values_mut().next().map(|operation| &mut operation.node)
        }
        (DocumentOperations::Multiple(all), Some(name)) => {
            all.get_mut(name).map(|operation| &mut operation.node)
        }
    }
}

fn operations_mut(doc: &mut ExecutableDocument) -> Vec<&mut OperationDefinition> {
    match &mut doc.operations {
        DocumentOperations::Single(only) => vec![&mut only.node],
        DocumentOperations::Multiple(all) => all
            .values_mut()
            .map(|operation| &mut operation.node)
            .collect(),
    }
}

type Arguments = Vec<(Positioned<Name>, Positioned<Written>)>;

fn in_set(set: &mut SelectionSet, see: &mut impl FnMut(&mut Arguments)) {
    for item in &mut set.items {
        match &mut item.node {
            Selection::Field(field) => {
                see(&mut field.node.arguments);
                in_set(&mut field.node.selection_set.node, see);
            }
            Selection::InlineFragment(fragment) => {
                in_set(&mut fragment.node.selection_set.node, see);
            }
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// Shows the variables in conditions of each `__typename`.
fn each_typename(doc: &mut ExecutableDocument, see: &mut impl FnMut(&mut Written)) {
    let mut left: Vec<&mut SelectionSet> = match &mut doc.operations {
        DocumentOperations::Single(only) => vec![&mut only.node.selection_set.node],
        DocumentOperations::Multiple(all) => all
            .values_mut()
            .map(|operation| &mut operation.node.selection_set.node)
            .collect(),
    };
    left.extend(
        doc.fragments
            .values_mut()
            .map(|fragment| &mut fragment.node.selection_set.node),
    );
    while let Some(set) = left.pop() {
        for item in &mut set.items {
            match &mut item.node {
                Selection::Field(field) if field.node.name.node == "__typename" => {
                    let directives = field.node.directives.iter_mut();
                    directives
                        .flat_map(|directive| &mut directive.node.arguments)
                        .filter(|(_, value)| matches!(value.node, Written::Variable(_)))
                        .for_each(|(_, value)| see(&mut value.node));
                }
                Selection::Field(field) => left.push(&mut field.node.selection_set.node),
                Selection::InlineFragment(fragment) => {
                    left.push(&mut fragment.node.selection_set.node);
                }
                Selection::FragmentSpread(_) => {}
            }
        }
    }
}

fn take_out(arguments: &mut Arguments, absent: &HashSet<Name>) {
    let is_absent =
        |value: &Written| matches!(value, Written::Variable(name) if absent.contains(name));
    arguments.retain(|(_, value)| !is_absent(&value.node));
    for (_, value) in arguments {
        within(&mut value.node, &is_absent);
    }
}

/// In a list, a variable without a value is null.
fn within(value: &mut Written, is_absent: &impl Fn(&Written) -> bool) {
    match value {
        Written::List(list) => list.iter_mut().for_each(|value| within(value, is_absent)),
        Written::Object(fields) => {
            fields.retain(|_, value| !is_absent(value));
            fields
                .values_mut()
                .for_each(|value| within(value, is_absent));
        }
        _ => {}
    }
}

/// Names of the fragments that an operation leads to.
fn reached(doc: &ExecutableDocument, operation: &OperationDefinition) -> HashSet<Name> {
    let mut found = HashSet::new();
    walk(doc, operation, &mut found, &mut |_, _| {});
    found
}

/// For each operation, the variables that it uses, in its fragments, too.
fn uses(doc: &ExecutableDocument) -> Vec<HashSet<Name>> {
    let mut all = Vec::new();
    for (_, operation) in doc.operations.iter() {
        let mut used = HashSet::new();
        directives(&operation.node.directives, &mut used);
        walk(
            doc,
            &operation.node,
            &mut HashSet::new(),
            &mut |field, own| {
                directives(own, &mut used);
                for (_, value) in field.into_iter().flat_map(|field| &field.arguments) {
                    mentioned(&value.node, &mut used);
                }
            },
        );
        all.push(used);
    }
    all
}

fn directives(list: &[Positioned<Directive>], used: &mut HashSet<Name>) {
    for (_, value) in list.iter().flat_map(|directive| &directive.node.arguments) {
        mentioned(&value.node, used);
    }
}

fn mentioned(value: &Written, used: &mut HashSet<Name>) {
    match value {
        Written::Variable(name) => {
            used.insert(name.clone());
        }
        Written::List(list) => list.iter().for_each(|value| mentioned(value, used)),
        Written::Object(fields) => fields.values().for_each(|value| mentioned(value, used)),
        _ => {}
    }
}

/// Shows all selections of an operation, each fragment's once: its field, if it is one, and its directives.
fn walk<'a>(
    doc: &'a ExecutableDocument,
    operation: &'a OperationDefinition,
    spread: &mut HashSet<Name>,
    see: &mut impl FnMut(Option<&'a Field>, &'a [Positioned<Directive>]),
) {
    let mut left = vec![&operation.selection_set.node];
    while let Some(set) = left.pop() {
        for item in &set.items {
            match &item.node {
                Selection::Field(field) => {
                    see(Some(&field.node), &field.node.directives);
                    left.push(&field.node.selection_set.node);
                }
                Selection::InlineFragment(fragment) => {
                    see(None, &fragment.node.directives);
                    left.push(&fragment.node.selection_set.node);
                }
                Selection::FragmentSpread(fragment) => {
                    see(None, &fragment.node.directives);
                    let name = &fragment.node.fragment_name.node;
                    if let Some(fragment) = doc.fragments.get(name)
                        && spread.insert(name.clone())
                    {
                        see(None, &fragment.node.directives);
                        left.push(&fragment.node.selection_set.node);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use upstream_async_graphql::{Value, parser::parse_query};

    use super::*;

    /// The arguments that stand in the document's fields, and the variables of each operation, after it was coerced.
    fn coerced(
        text: &str,
        operation: Option<&str>,
        variables: &mut Variables,
    ) -> (Vec<String>, Vec<String>) {
        let mut doc = parse_query(text).unwrap();
        coerce_variables(&mut doc, operation, variables);
        let mut arguments = Vec::new();
        let mut each = |list: &mut Arguments| {
            arguments.extend(
                list.iter()
                    .map(|(name, value)| format!("{} {}", name.node, value.node)),
            );
        };
        for operation in operations_mut(&mut doc) {
            in_set(&mut operation.selection_set.node, &mut each);
        }
        for fragment in doc.fragments.values_mut() {
            in_set(&mut fragment.node.selection_set.node, &mut each);
        }
        let mut left: Vec<_> = doc
            .operations
            .iter()
            .map(|(_, operation)| {
                let names: Vec<_> = operation
                    .node
                    .variable_definitions
                    .iter()
                    .map(|definition| definition.node.name.node.as_str())
                    .collect();
                names.join(" ")
            })
            .collect();
        arguments.sort();
        left.sort();
        (arguments, left)
    }

    #[test]
    fn what_was_left_out_has_its_default() {
        let mut variables = Variables::from_json(serde_json::json!({"b": null, "c": 3}));
        let text = "query($a: Int = 1, $b: Int = 2, $c: Int = 3, $d: Int) { x(a: $a, b: $b, c: $c, d: $d) }";
        let (arguments, left) = coerced(text, None, &mut variables);
        assert_eq!(arguments, ["a $a", "b $b", "c $c"]);
        assert_eq!(left, ["a b c"]);
        assert_eq!(variables[&Name::new("a")], Value::from(1));
        assert_eq!(variables[&Name::new("b")], Value::Null);
    }

    #[test]
    fn what_has_no_value_was_not_given() {
        let text = "query($a: Int, $b: Boolean) { x(i: {a: $a, o: {a: $a, n: null, l: [$a, {a: $a}]}}) @include(if: $b) y(l: [$a]) }";
        let (arguments, left) = coerced(text, None, &mut Variables::default());
        assert_eq!(arguments, ["i {o: {n: null, l: [$a, {}]}}", "l [$a]"]);
        assert_eq!(left, ["a b"]);
        let (arguments, left) = coerced(
            "query($a: Int, $never: Int) { x(i: {a: $a}) y(a: $a) }",
            None,
            &mut Variables::default(),
        );
        assert_eq!(
            (arguments, left),
            (vec!["i {}".into()], vec!["never".into()])
        );
    }

    #[test]
    fn what_a_typename_asks_for_counts() {
        let text = "query A($x: Boolean!, $y: Boolean = true) { __typename @include(if: $x) a @skip(if: $y) ...F } query B($x: Boolean!) { ...F } fragment F on Query { __typename @skip(if: $x) b }";
        let mut variables = Variables::from_json(serde_json::json!({"x": false}));
        let mut doc = parse_query(text).unwrap();
        coerce_variables(&mut doc, Some("A"), &mut variables);
        let mut left = 0;
        each_typename(&mut doc, &mut |_| left += 1);
        assert_eq!(left, 0);
        let names = |name: &str| -> Vec<String> {
            let chosen = chosen(&doc, Some(name)).unwrap();
            let definitions = chosen.variable_definitions.iter();
            definitions
                .map(|definition| definition.node.name.node.to_string())
                .collect()
        };
        assert_eq!((names("A"), names("B")), (vec!["y".to_owned()], vec![]));
    }

    #[test]
    fn other_operations_of_the_document_stay_valid() {
        let text = "query A($a: Int) { x(a: $a) ...F } query B($a: Int!, $b: Int) { y(a: $a, b: $b) } query C($a: Int) { ...F } fragment F on Query { z(a: $a) }";
        let (arguments, left) = coerced(text, Some("A"), &mut Variables::default());
        assert_eq!(arguments, ["a $a", "b $b"]);
        assert_eq!(left, ["", "", "a b"]);
        let mut given = Variables::from_json(serde_json::json!({"a": 1}));
        let (arguments, left) = coerced(text, Some("B"), &mut given);
        assert_eq!(arguments, ["a $a", "a $a", "a $a"]);
        assert_eq!(left, ["a", "a", "a"]);
    }
}
