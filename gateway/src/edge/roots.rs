//! The root of a subscription: one field, asked for without a condition (section 5.2.3.1 of the specification).

use async_graphql::parser::types::{
    ExecutableDocument, OperationDefinition, OperationType, Selection,
};

use super::Refused;

/// Looks at the root of each subscription of a document whose root fields have been brought out of their fragments
/// ([`async_graphql::merge_root`]): what is still in one would be passed over without a word.
///
/// # Errors
/// INVALID_INPUT for another number of root fields than one, and for one that depends on a condition.
pub(super) fn of_subscriptions(document: &ExecutableDocument) -> Result<(), Refused> {
    let mut operations = document.operations.iter();
    operations.try_for_each(|(_, operation)| match operation.node.ty {
        OperationType::Subscription => of_subscription(document, &operation.node),
        OperationType::Query | OperationType::Mutation => Ok(()),
    })
}

fn of_subscription(
    document: &ExecutableDocument,
    operation: &OperationDefinition,
) -> Result<(), Refused> {
    let items = &operation.selection_set.node.items;
    for item in items {
        let (directives, message) = match &item.node {
            Selection::Field(field) => (&field.node.directives, None),
            Selection::InlineFragment(fragment) => {
                let message = "a fragment at the root of a subscription must be on its type";
                (&fragment.node.directives, Some(message.to_owned()))
            }
            Selection::FragmentSpread(spread) => {
                let name = &spread.node.fragment_name.node;
                let message = match document.fragments.contains_key(name) {
                    true => {
                        format!("the fragment `{name}` can't stand at the root of a subscription")
                    }
                    false => format!("unknown fragment `{name}`"),
                };
                (&spread.node.directives, Some(message))
            }
        };
        let message = match directives.first() {
            Some(directive) => {
                let name = &directive.node.name.node;
                Some(format!(
                    "`@{name}` can't stand at the root of a subscription"
                ))
            }
            None => message,
        };
        if let Some(message) = message {
            return Err(Refused {
                locations: vec![item.pos],
                ..Refused::invalid(message)
            });
        }
    }
    match items.len() {
        1 => Ok(()),
        _ => Err(Refused::invalid(
            "a subscription has one root field: make each a subscription of its own",
        )),
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::{merge_root, parser::parse_query};

    use super::*;

    fn refused(text: &str) -> Option<String> {
        let mut document = parse_query(text).unwrap();
        merge_root(&mut document);
        of_subscriptions(&document)
            .err()
            .map(|refused| refused.message)
    }

    #[test]
    fn a_field_counts_wherever_it_stands() {
        for text in [
            "subscription { a(x: 1) { b } }",
            "subscription { ...A } fragment A on Subscription { a(x: 1) { ...C } } fragment C on T { b }",
            "subscription { ... { ...A } } fragment A on Subscription { ...B } fragment B on Subscription { a }",
            "subscription S { ... on Subscription { a } } query Q { a b @skip(if: true) }",
            "subscription { a { b } ...A } fragment A on Subscription { a { c } }",
        ] {
            assert_eq!(refused(text), None, "{text}");
        }
    }

    #[test]
    fn what_would_be_passed_over_is_refused() {
        for (text, expected) in [
            ("subscription { a b }", "one root field"),
            ("subscription { a x: a }", "one root field"),
            (
                "subscription { a ...A } fragment A on Subscription { b }",
                "one root field",
            ),
            ("subscription { a @skip(if: true) }", "`@skip`"),
            (
                "subscription { ... @include(if: true) { a } }",
                "`@include`",
            ),
            (
                "subscription { ...A @include(if: true) } fragment A on Subscription { a }",
                "`@include`",
            ),
            (
                "subscription { ...A } fragment A on Subscription { a @skip(if: false) }",
                "`@skip`",
            ),
            ("subscription { ...A }", "unknown fragment `A`"),
            ("subscription { ...A } fragment A on Query { a }", "`A`"),
            ("subscription { ... on Agent { a } }", "on its type"),
            (
                "subscription { ...A } fragment A on Subscription { ...A }",
                "`A`",
            ),
            ("query Q { a } subscription S { a b }", "one root field"),
        ] {
            let message = refused(text).unwrap_or_else(|| panic!("{text}"));
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
