//! What the edge wants to know about a document, or mend in it, before it is executed.

use std::collections::HashMap;

use upstream_async_graphql::parser::types::{ExecutableDocument, Selection, SelectionSet};

/// How deep fragments and selections may stand in each other, for [`selections`] and what comes after it.
pub(crate) const DEEPEST: u32 = 64;

/// A document with more selections than these is not looked through by [`may_be_raw`].
pub(crate) const LOOKED_THROUGH: u32 = 2_000;

/// How many selections the largest operation of a document has once all its fragments are spread, capped at `u64::MAX`, which is
/// also the answer where fragments form a circle or stand in each other more than 64 deep.
///
/// async-graphql spreads fragments one by one while it validates, before any of its limits; thirty fragments of which each
/// spreads the next twice, one kilobyte of text, would keep it busy for hours. This takes time in proportion to the text.
pub fn selections(doc: &ExecutableDocument) -> u64 {
    let mut known = HashMap::new();
    let counts = doc
        .operations
        .iter()
        .map(|(_, operation)| count(doc, &operation.node.selection_set.node, DEEPEST, &mut known));
    counts.max().unwrap_or(0)
}

fn count<'a>(
    doc: &'a ExecutableDocument,
    set: &'a SelectionSet,
    deeper: u32,
    known: &mut HashMap<&'a str, (u32, u64)>,
) -> u64 {
    let Some(deeper) = deeper.checked_sub(1) else {
        return u64::MAX;
    };
    set.items.iter().fold(0, |sum: u64, selection| {
        let inside = match &selection.node {
            Selection::Field(field) => count(doc, &field.node.selection_set.node, deeper, known),
            Selection::InlineFragment(fragment) => {
                count(doc, &fragment.node.selection_set.node, deeper, known)
            }
            Selection::FragmentSpread(spread) => {
                let name = spread.node.fragment_name.node.as_str();
                match (known.get(name), doc.fragments.get(name)) {
                    // counted where at least as much depth was used up: it fits here, too
                    (Some((then, count)), _) if *then <= deeper || *count == u64::MAX => *count,
                    (_, None) => 0,
                    (_, Some(fragment)) => {
                        let inside = count(doc, &fragment.node.selection_set.node, deeper, known);
                        known.insert(name, (deeper, inside));
                        inside
                    }
                }
            }
        };
        sum.saturating_add(1).saturating_add(inside)
    })
}

/// Whether the document can be executed with [`Mode::Raw`](crate::Mode::Raw): no two selections of an object field meet. What
/// async-graphql resolves itself (the root, interfaces and unions without `plain_abstract!`, its own connection types)
/// merges trees there, and text would be lost. Documents of more than 2,000 selections are `false`, too. Depends on the
/// document alone, so it may be kept with it.
pub fn may_be_raw(doc: &ExecutableDocument) -> bool {
    let mut left = LOOKED_THROUGH;
    doc.operations.iter().all(|(_, operation)| {
        apart(
            doc,
            &operation.node.selection_set.node,
            DEEPEST,
            &mut Vec::new(),
            &mut left,
        )
    })
}

fn apart<'a>(
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
            Selection::Field(field) if field.node.selection_set.node.items.is_empty() => true,
            Selection::Field(field) => {
                let key = field.node.response_key().node.as_str();
                let new = !keys.contains(&key);
                keys.push(key);
                new && apart(
                    doc,
                    &field.node.selection_set.node,
                    deeper,
                    &mut Vec::new(),
                    left,
                )
            }
            Selection::InlineFragment(fragment) => {
                apart(doc, &fragment.node.selection_set.node, deeper, keys, left)
            }
            Selection::FragmentSpread(spread) => doc
                .fragments
                .get(&spread.node.fragment_name.node)
                .is_none_or(|fragment| {
                    apart(doc, &fragment.node.selection_set.node, deeper, keys, left)
                }),
        }
    })
}

#[cfg(test)]
mod tests {
    use upstream_async_graphql::parser::parse_query;

    use super::*;

    fn count_of(text: &str) -> u64 {
        selections(&parse_query(text).unwrap())
    }

    #[test]
    fn selections_count_as_often_as_they_are_spread() {
        assert_eq!(count_of("{ a { b c } d }"), 4);
        assert_eq!(
            count_of("{ a { ...F } ...F } fragment F on T { b ... { c } }"),
            9
        );
        assert_eq!(count_of("query A { a } query B { a b c }"), 3);
        assert_eq!(count_of("{ ...Nowhere }"), 1);
    }

    #[test]
    fn what_grows_without_bound_is_counted_at_once() {
        let doubling: String = (0..60)
            .map(|n| format!("fragment F{n} on T {{ ...F{m} ...F{m} }} ", m = n + 1))
            .collect();
        assert!(count_of(&format!("{{ ...F0 }} {doubling} fragment F60 on T {{ a }}")) > 1 << 60);
        assert_eq!(
            count_of("{ ...A } fragment A on T { ...B } fragment B on T { x ...A }"),
            u64::MAX
        );
        let chain: String = (0..5_000)
            .map(|n| format!("fragment F{n} on T {{ ...F{} }} ", n + 1))
            .collect();
        assert_eq!(count_of(&format!("{{ ...F0 }} {chain}")), u64::MAX);
        // deep first, shallow later, and the other way round
        assert_eq!(
            count_of("{ a { b { ...F } } ...F } fragment F on T { c ...G } fragment G on T { d }"),
            10
        );
    }

    #[test]
    fn raw_is_for_documents_whose_objects_do_not_meet() {
        let may = |text: &str| may_be_raw(&parse_query(text).unwrap());
        assert!(may("{ a { b { c } } x: a { b { c } } y y }"));
        assert!(!may("{ a { b } a { c } }"));
        assert!(!may("{ a { b { c } ...F } } fragment F on T { b { d } }"));
        assert!(!may("{ ...A } fragment A on T { x ...A }"));
        assert!(!may(&format!("{{ {} }}", "a ".repeat(2_000))));
    }
}
