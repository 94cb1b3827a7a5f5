//! The root of an answer, put right: async-graphql answers it in the order of completion and leaves out what failed.

use upstream_async_graphql::{
    Name, PathSegment, Response, ServerError, Value,
    indexmap::IndexMap,
    parser::types::{ExecutableDocument, Field, OperationType, Selection, SelectionSet},
};

use crate::nulls::{nothing, settle};

/// How many errors of validation an answer tells, as many as graphql-js.
const TOLD: usize = 100;

/// Whether a request got no answer because it was never executed: there are errors, none of them at a place in the answer. To
/// be asked before [`finish()`] as well as after it.
pub fn refused(response: &Response) -> bool {
    response.data == Value::Null
        && !response.errors.is_empty()
        && response.errors.iter().all(|error| error.path.is_empty())
}

/// Puts the root's keys in the order of the document, and nulls where root fields failed: in the field, or in all of `data` where
/// the field may not be null. For the response of a query or mutation and for each one of a subscription.
///
/// `doc` is the document as it was executed; `operation` the name that the request gave. `ty` gives the type of a root field as
/// in SDL, e.g. `[Agent!]!`, by the kind of the operation and the field's name; empty for what it doesn't know.
/// Not for [`Mode::Stock`](crate::Mode::Stock), whose objects below the root are not put right.
pub fn finish<'t>(
    response: &mut Response,
    doc: &ExecutableDocument,
    operation: Option<&str>,
    ty: impl Fn(OperationType, &str) -> &'t str,
) {
    let mut operations = doc.operations.iter();
    let named = |name: Option<&str>| operation.is_none() || name == operation;
    let Some((_, operation)) = operations.find(|(name, _)| named(name.map(Name::as_str))) else {
        return;
    };
    if refused(response) {
        shorten(&mut response.errors);
        return;
    }
    let mut fields = Vec::new();
    root_fields(
        doc,
        &operation.node.selection_set.node,
        &mut Vec::new(),
        &mut fields,
    );
    let mut old = match std::mem::take(&mut response.data) {
        Value::Object(data) => data,
        _ => IndexMap::new(),
    };
    let mut data = IndexMap::with_capacity(old.len());
    for field in fields {
        let key = &field.response_key().node;
        if data.contains_key(key) {
            continue;
        }
        let value = match old.swap_remove(key) {
            Some(value) => value,
            None if failed(response, key) => nothing(),
            // @skip, or @include: the document still has them
            None => continue,
        };
        match settle(value, || ty(operation.node.ty, &field.name.node)) {
            Some(value) => data.insert(key.clone(), value),
            None => return,
        };
    }
    response.data = Value::Object(data);
}

/// A document with one mistake a thousand times would get an answer many times its own length.
fn shorten(errors: &mut Vec<ServerError>) {
    if errors.len() > TOLD {
        errors.truncate(TOLD);
        let message = format!("Too many errors: these are the first {TOLD}");
        errors.push(ServerError::new(message, None));
    }
}

fn failed(response: &Response, key: &str) -> bool {
    let at = |segment: Option<&PathSegment>| matches!(segment, Some(PathSegment::Field(name)) if name == key);
    response.errors.iter().any(|error| at(error.path.first()))
}

fn root_fields<'a>(
    doc: &'a ExecutableDocument,
    set: &'a SelectionSet,
    spread: &mut Vec<&'a str>,
    out: &mut Vec<&'a Field>,
) {
    for selection in &set.items {
        match &selection.node {
            Selection::Field(field) => out.push(&field.node),
            Selection::InlineFragment(fragment) => {
                root_fields(doc, &fragment.node.selection_set.node, spread, out);
            }
            Selection::FragmentSpread(fragment) => {
                let name = fragment.node.fragment_name.node.as_str();
                if let Some(fragment) = doc.fragments.get(name)
                    && !spread.contains(&name)
                {
                    spread.push(name);
                    root_fields(doc, &fragment.node.selection_set.node, spread, out);
                }
            }
        }
    }
}
