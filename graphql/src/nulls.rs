//! Handling Field Errors (section 6.4.4 of the specification): a place that failed is null, or, where it may not be, the
//! nearest place around it that may.

use upstream_async_graphql::{ContextSelectionSet, Name, Value};

/// No GraphQL name, so no enum has such a value.
const NOTHING: &str = "\0";

/// Stands for a field or element that failed, until its nearest nullable place is known. An `Err` would lose its path in
/// async-graphql's lists, and the other elements with it.
#[cold]
pub(crate) fn nothing() -> Value {
    Value::Enum(Name::new(NOTHING))
}

fn is_nothing(value: &Value) -> bool {
    matches!(value, Value::Enum(name) if name.as_str() == NOTHING)
}

fn holds_nothing(value: &Value) -> bool {
    match value {
        Value::List(list) => list.iter().any(holds_nothing),
        value => is_nothing(value),
    }
}

/// The value of a place of type `ty` (written as in SDL) once what failed in it became null. `None`: the place may not be null,
/// so the failure is one of what it stands in. `ty` is asked for only if something failed.
pub(crate) fn settle<'t>(value: Value, ty: impl FnOnce() -> &'t str) -> Option<Value> {
    if holds_nothing(&value) {
        settle_failed(value, ty())
    } else {
        Some(value)
    }
}

#[cold]
fn settle_failed(value: Value, ty: &str) -> Option<Value> {
    let (inner, required) = ty
        .strip_suffix('!')
        .map_or((ty, false), |inner| (inner, true));
    let element = inner
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'));
    let value = match (value, element) {
        (Value::List(list), Some(element)) => list
            .into_iter()
            .map(|value| settle_failed(value, element))
            .collect::<Option<_>>()
            .map(Value::List),
        (value, _) => (!is_nothing(&value)).then_some(value),
    };
    value.or((!required).then_some(Value::Null))
}

/// The type of a field as in SDL; empty, hence nullable, if there is none of that name (validation refuses those).
pub(crate) fn type_of<'a>(ctx: &ContextSelectionSet<'a>, object: &str, field: &str) -> &'a str {
    ctx.schema_env
        .registry
        .types
        .get(object)
        .and_then(|ty| ty.field_by_name(field))
        .map_or("", |field| field.ty.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_moves_to_the_nearest_place_that_may_be_null() {
        let list = || Value::List(vec![1.into(), nothing()]);
        let at = |value, ty| settle(value, || ty);
        assert_eq!(at(nothing(), "Int"), Some(Value::Null));
        assert_eq!(at(nothing(), "Int!"), None);
        assert_eq!(
            at(list(), "[Int]!"),
            Some(Value::List(vec![1.into(), Value::Null]))
        );
        assert_eq!(at(list(), "[Int!]"), Some(Value::Null));
        assert_eq!(at(list(), "[Int!]!"), None);
        assert_eq!(
            at(Value::List(vec![list()]), "[[Int!]]!"),
            Some(Value::List(vec![Value::Null]))
        );
        assert_eq!(at(7.into(), "Int!"), Some(7.into()));
    }
}
