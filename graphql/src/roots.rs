//! The root of an operation, as async-graphql needs it: each field once.

use std::collections::{HashMap, HashSet};

use upstream_async_graphql::{
    Name, Positioned,
    parser::types::{
        Directive, DocumentOperations, ExecutableDocument, Field, OperationDefinition,
        OperationType, Selection, SelectionSet,
    },
};

use crate::document::{DEEPEST, LOOKED_THROUGH};

/// Makes one selection of several that ask for the same root field under the same key, those in fragments included, and says
/// whether every root key now stands once. async-graphql runs a root field once for each of its selections, and a mutation
/// must not happen twice: the edge refuses a mutation where this is `false`, which takes root fields that meet under
/// directives, or that validation refuses anyway.
pub fn merge_root(doc: &mut ExecutableDocument) -> bool {
    unfold(doc);
    match &mut doc.operations {
        DocumentOperations::Single(operation) => merge_fields(&mut operation.node),
        DocumentOperations::Multiple(operations) => {
            operations
                .values_mut()
                .for_each(|operation| merge_fields(&mut operation.node));
        }
    }
    let mut left = LOOKED_THROUGH;
    let mut mutations = doc
        .operations
        .iter()
        .filter(|(_, operation)| operation.node.ty == OperationType::Mutation);
    mutations.all(|(_, operation)| {
        root_keys_once(
            doc,
            &operation.node.selection_set.node,
            DEEPEST,
            &mut Vec::new(),
            &mut left,
        )
    })
}

fn merge_fields(operation: &mut OperationDefinition) {
    let same = |a: &Field, b: &Field| {
        a.response_key().node == b.response_key().node
            && a.name == b.name
            && a.arguments == b.arguments
            && a.directives.is_empty()
            && b.directives.is_empty()
            && a.selection_set.node.items.is_empty() == b.selection_set.node.items.is_empty()
    };
    let items = &mut operation.selection_set.node.items;
    let mut merged: Vec<Positioned<Selection>> = Vec::with_capacity(items.len());
    let mut firsts = HashMap::new();
    for selection in items.drain(..) {
        if let Selection::Field(field) = &selection.node {
            let at = *firsts
                .entry(field.node.response_key().node.clone())
                .or_insert(merged.len());
            if let Some(first) = merged.get_mut(at)
                && let Selection::Field(first) = &mut first.node
                && same(&first.node, &field.node)
            {
                first
                    .node
                    .selection_set
                    .node
                    .items
                    .extend(field.node.selection_set.node.items.iter().cloned());
                continue;
            }
        }
        merged.push(selection);
    }
    *items = merged;
}

fn root_keys_once<'a>(
    doc: &'a ExecutableDocument,
    set: &'a SelectionSet,
    deeper: u32,
    keys: &mut Vec<&'a str>,
    left: &mut u32,
) -> bool {
    let Some(deeper) = deeper.checked_sub(1) else {
        return false;
    };
    set.items.iter().all(|selection| {
        *left = left.saturating_sub(1);
        if *left == 0 {
            return false;
        }
        match &selection.node {
            Selection::Field(field) => {
                let key = field.node.response_key().node.as_str();
                let new = !keys.contains(&key);
                keys.push(key);
                new
            }
            Selection::InlineFragment(fragment) => {
                root_keys_once(doc, &fragment.node.selection_set.node, deeper, keys, left)
            }
            Selection::FragmentSpread(spread) => doc
                .fragments
                .get(&spread.node.fragment_name.node)
                .is_none_or(|fragment| {
                    root_keys_once(doc, &fragment.node.selection_set.node, deeper, keys, left)
                }),
        }
    })
}

/// Puts what stands at a root in fragments that depend on nothing in their place, so that it can be merged: each fragment once,
/// where it is spread first, as CollectFields of the specification does. Fragments that are then spread nowhere go. An operation
/// whose fragments validation will refuse stays as it is.
fn unfold(doc: &mut ExecutableDocument) {
    let roots: Vec<_> = doc
        .operations
        .iter()
        .map(|(_, operation)| {
            let set = &operation.node.selection_set.node;
            if set.items.iter().all(is_field) {
                return None;
            }
            let mut root = Root {
                doc,
                name: root_name(operation.node.ty),
                spread: Vec::new(),
                open: Vec::new(),
                items: Vec::new(),
            };
            root.gather(set).then_some(root.items)
        })
        .collect();
    if roots.iter().all(Option::is_none) {
        return;
    }
    let before = all_spread(doc);
    let operations: Vec<&mut OperationDefinition> = match &mut doc.operations {
        DocumentOperations::Single(operation) => vec![&mut operation.node],
        DocumentOperations::Multiple(operations) => operations
            .values_mut()
            .map(|operation| &mut operation.node)
            .collect(),
    };
    for (operation, items) in operations.into_iter().zip(roots) {
        if let Some(items) = items {
            operation.selection_set.node.items = items;
        }
    }
    let after = all_spread(doc);
    // those that nothing ever spread are for validation to refuse
    doc.fragments
        .retain(|name, _| after.contains(name) || !before.contains(name));
}

fn is_field(item: &Positioned<Selection>) -> bool {
    matches!(item.node, Selection::Field(_))
}

/// What the roots are called; of one that has another name, fragments that name it stay.
fn root_name(ty: OperationType) -> &'static str {
    match ty {
        OperationType::Query => "Query",
        OperationType::Mutation => "Mutation",
        OperationType::Subscription => "Subscription",
    }
}

struct Root<'a> {
    doc: &'a ExecutableDocument,
    name: &'static str,
    spread: Vec<&'a Name>,
    /// Fragments that are gone through: one that spreads itself is refused by validation, which must still see it.
    open: Vec<&'a Name>,
    items: Vec<Positioned<Selection>>,
}

impl<'a> Root<'a> {
    /// `false`: there is a circle.
    fn gather(&mut self, set: &'a SelectionSet) -> bool {
        for item in &set.items {
            let depends = |directives: &[Positioned<Directive>]| !directives.is_empty();
            let goes_on = match &item.node {
                Selection::InlineFragment(fragment)
                    if !depends(&fragment.node.directives)
                        && fragment
                            .node
                            .type_condition
                            .as_ref()
                            .is_none_or(|on| on.node.on.node == self.name) =>
                {
                    self.gather(&fragment.node.selection_set.node)
                }
                Selection::FragmentSpread(spread) if !depends(&spread.node.directives) => {
                    let name = &spread.node.fragment_name.node;
                    match self.doc.fragments.get(name) {
                        _ if self.open.contains(&name) => false,
                        Some(_) if self.spread.contains(&name) => true,
                        Some(fragment)
                            if fragment.node.type_condition.node.on.node == self.name
                                && !depends(&fragment.node.directives) =>
                        {
                            self.spread.push(name);
                            self.open.push(name);
                            let goes_on = self.gather(&fragment.node.selection_set.node);
                            self.open.pop();
                            goes_on
                        }
                        _ => {
                            self.items.push(item.clone());
                            true
                        }
                    }
                }
                _ => {
                    self.items.push(item.clone());
                    true
                }
            };
            if !goes_on {
                return false;
            }
        }
        true
    }
}

/// Names of all fragments that the operations lead to.
fn all_spread(doc: &ExecutableDocument) -> HashSet<Name> {
    let mut found = HashSet::new();
    let mut left: Vec<&SelectionSet> = doc
        .operations
        .iter()
        .map(|(_, operation)| &operation.node.selection_set.node)
        .collect();
    while let Some(set) = left.pop() {
        for item in &set.items {
            match &item.node {
                Selection::Field(field) => left.push(&field.node.selection_set.node),
                Selection::InlineFragment(fragment) => {
                    left.push(&fragment.node.selection_set.node);
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if let Some(fragment) = doc.fragments.get(name)
                        && found.insert(name.clone())
                    {
                        left.push(&fragment.node.selection_set.node);
                    }
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use upstream_async_graphql::parser::parse_query;

    use super::*;
    use crate::selections;

    #[test]
    fn root_fields_that_meet_become_one() {
        let merged = |text: &str| {
            let mut doc = parse_query(text).unwrap();
            let once = merge_root(&mut doc);
            let (_, operation) = doc.operations.iter().next().unwrap();
            (
                once,
                operation.node.selection_set.node.items.len(),
                selections(&doc),
            )
        };
        assert_eq!(
            merged("mutation { a(n: 1) { b } c: d a(n: 1) { e } a(n: 1) { f } }"),
            (true, 2, 5)
        );
        assert_eq!(merged("{ n n n }"), (true, 1, 1));
        // validation has the word on these
        assert_eq!(
            merged("mutation { a(n: 1) { b } a(n: 2) { e } }"),
            (false, 2, 4)
        );
        assert_eq!(merged("mutation { a { b } a }"), (false, 2, 3));
        assert_eq!(merged("mutation { a { b } ... { a { c } } }"), (true, 1, 3));
        // and these would run twice
        assert!(!merged("mutation { ...F ...F } fragment F on M { a }").0);
        assert!(!merged("mutation { a { b } a @include(if: true) { c } }").0);
        assert!(!merged("mutation { ...F } fragment F on M { ...F }").0);
    }

    #[test]
    fn fragments_at_a_root_are_unfolded_where_they_stand() {
        let unfolded = |text: &str| {
            let mut doc = parse_query(text).unwrap();
            let once = merge_root(&mut doc);
            let (_, operation) = doc.operations.iter().next().unwrap();
            let keys: Vec<_> = operation
                .node
                .selection_set
                .node
                .items
                .iter()
                .map(|item| match &item.node {
                    Selection::Field(field) => field.node.response_key().node.to_string(),
                    _ => "...".to_owned(),
                })
                .collect();
            let mut left: Vec<_> = doc.fragments.keys().map(Name::to_string).collect();
            left.sort();
            (once, keys.join(" "), left.join(" "))
        };
        let is = |once, keys: &str, left: &str| (once, keys.to_owned(), left.to_owned());
        assert_eq!(
            unfolded(
                "{ b { x } ...F a { y ...T } ... { c ... on Query { a { z } } } ...F } fragment F on Query { a { x } ...G d } fragment G on Query { b { y } } fragment T on T { x }"
            ),
            is(true, "b a d c", "T")
        );
        assert_eq!(
            unfolded(
                "mutation { ...F ... { a { c } } } fragment F on Mutation { a { b } } fragment Unused on Mutation { a }"
            ),
            is(true, "a", "Unused")
        );
        // what depends on something stays, and so does what validation has to see
        for (text, once, keys, left) in [
            (
                "mutation($x: Boolean!) { a ...F @include(if: $x) ... @skip(if: $x) { a } } fragment F on Mutation { c }",
                false,
                "a ... ...",
                "F",
            ),
            ("{ a ... on Agent { b } }", true, "a ...", ""),
            (
                "{ a ...F ...Nowhere } fragment F on Mutation { b }",
                true,
                "a ... ...",
                "F",
            ),
            (
                "query($x: Boolean!) { a ... @skip(if: $x) { a } }",
                true,
                "a ...",
                "",
            ),
            (
                "mutation { a ...F } fragment F on Mutation { b ...G } fragment G on Mutation { ...F }",
                false,
                "a ...",
                "F G",
            ),
        ] {
            assert_eq!(unfolded(text), is(once, keys, left), "{text}");
        }
    }
}
