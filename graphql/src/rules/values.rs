//! CoerceVariableValues of the specification (section 6.1.2), but for defaults.

use upstream_async_graphql::{
    Name, Pos, ServerError, Value, Variables,
    parser::types::{BaseType, ExecutableDocument, Type},
};

use super::{
    failure, shown,
    types::{Kind, Object, Types},
};
use crate::variables::chosen;

/// graphql-js tells so many, too.
const MOST: usize = 50;

/// Brings the values of the chosen operation's variables into the form that their types ask for.
pub(super) fn coerce(
    types: &Types,
    doc: &ExecutableDocument,
    operation: Option<&str>,
    variables: &mut Variables,
) -> Result<(), Vec<ServerError>> {
    let Some(chosen) = chosen(doc, operation) else {
        return Ok(());
    };
    let mut errors = Vec::new();
    for definition in &chosen.variable_definitions {
        let (at, definition) = (definition.pos, &definition.node);
        let (name, ty) = (&definition.name.node, &definition.var_type.node);
        match variables.get_mut(name) {
            None if ty.nullable || definition.default_value.is_some() => {}
            None => errors.push(failure(
                format!("Variable \"${name}\" of required type \"{ty}\" was not provided."),
                vec![at],
            )),
            Some(Value::Null) if ty.nullable => {}
            Some(Value::Null) => errors.push(failure(
                format!("Variable \"${name}\" of non-null type \"{ty}\" must not be null."),
                vec![at],
            )),
            Some(value) => Coercion {
                types,
                name,
                at,
                path: Vec::new(),
                errors: &mut errors,
            }
            .value(value, ty),
        }
        if errors.len() >= MOST {
            let message =
                "Too many errors processing variables, error limit reached. Execution aborted.";
            errors.truncate(MOST);
            errors.push(failure(message.into(), Vec::new()));
            break;
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

enum Step {
    Field(Name),
    Item(usize),
}

/// One variable's.
struct Coercion<'a> {
    types: &'a Types,
    name: &'a Name,
    at: Pos,
    path: Vec<Step>,
    errors: &'a mut Vec<ServerError>,
}

impl Coercion<'_> {
    fn tell(&mut self, value: &Value, what: &str) {
        use std::fmt::Write as _;
        let (name, value) = (self.name, shown::given(value));
        let mut message = format!("Variable \"${name}\" got invalid value {value}");
        if !self.path.is_empty() {
            let _ = write!(message, " at \"{name}");
            for step in &self.path {
                let _ = match step {
                    Step::Field(field) => write!(message, ".{}", shown::name(field)),
                    Step::Item(at) => write!(message, "[{at}]"),
                };
            }
            message.push('"');
        }
        let _ = write!(message, "; {what}");
        self.errors.push(failure(message, vec![self.at]));
    }

    fn value(&mut self, value: &mut Value, ty: &Type) {
        if self.errors.len() >= MOST {
            return;
        }
        if matches!(value, Value::Null) {
            if !ty.nullable {
                self.tell(
                    value,
                    &format!("Expected non-nullable type \"{ty}\" not to be null."),
                );
            }
            return;
        }
        let name = match &ty.base {
            BaseType::List(of) => {
                if let Value::List(items) = value {
                    for (at, item) in items.iter_mut().enumerate() {
                        self.path.push(Step::Item(at));
                        self.value(item, of);
                        self.path.pop();
                    }
                } else {
                    self.value(value, of);
                    *value = Value::List(vec![std::mem::take(value)]);
                }
                return;
            }
            BaseType::Named(name) => name,
        };
        match self.types.named(name) {
            Some(Kind::Input(object)) => self.object(value, name, object),
            Some(kind) => {
                if let Err(what) = leaf(value, name, kind) {
                    self.tell(value, &what);
                }
            }
            // that there is no such type is said about the document
            None => {}
        }
    }

    fn object(&mut self, value: &mut Value, name: &Name, object: &Object) {
        let Value::Object(given) = value else {
            return self.tell(value, &format!("Expected type \"{name}\" to be an object."));
        };
        let mut wrong = Vec::new();
        for field in object.fields.iter() {
            match given.get_mut(&field.name) {
                Some(value) => {
                    self.path.push(Step::Field(field.name.clone()));
                    self.value(value, &field.ty);
                    self.path.pop();
                }
                None if field.ty.nullable || field.has_default => {}
                None => wrong.push(format!(
                    "Field \"{}\" of required type \"{}\" was not provided.",
                    field.name, field.ty
                )),
            }
        }
        let unknown = given
            .keys()
            .filter(|name| object.fields.get(name).is_none());
        wrong.extend(unknown.take(MOST).map(|field| {
            let field = shown::name(field);
            format!("Field \"{field}\" is not defined by type \"{name}\".")
        }));
        let mut null = None;
        if object.one_of {
            let mut known = object.fields.iter().filter_map(|field| {
                let value = given.get(&field.name)?;
                Some((&field.name, matches!(value, Value::Null)))
            });
            let first = known.next();
            null = first.filter(|(_, null)| *null).map(|(field, _)| field);
            if first.is_none() || known.next().is_some() {
                wrong.push(format!(
                    "Exactly one key must be specified for OneOf type \"{name}\"."
                ));
            }
        }
        for what in wrong {
            if self.errors.len() < MOST {
                self.tell(value, &what);
            }
        }
        if let Some(field) = null {
            let what = format!("Field \"{field}\" must be non-null.");
            self.path.push(Step::Field(field.clone()));
            self.tell(&Value::Null, &what);
            self.path.pop();
        }
    }
}

/// Whether a value is one of a scalar or an enum; if not, why.
fn leaf(value: &mut Value, name: &Name, kind: &Kind) -> Result<(), String> {
    let shown = |value: &Value| shown::given(value);
    match (kind, &*value) {
        (Kind::Int, Value::Number(number)) => {
            let whole = match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => whole,
                // 1.0 is an Int, and what reads one takes no fractions
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "saturates, and is in no range then"
                )]
                (None, Some(number)) if number.fract() == 0.0 => number as i64,
                _ => {
                    let value = shown(value);
                    return Err(format!("Int cannot represent non-integer value: {value}"));
                }
            };
            if i32::try_from(whole).is_err() {
                return Err(format!(
                    "Int cannot represent non 32-bit signed integer value: {}",
                    shown(value)
                ));
            }
            *value = Value::from(whole);
            Ok(())
        }
        (Kind::Int, _) => Err(format!(
            "Int cannot represent non-integer value: {}",
            shown(value)
        )),
        (Kind::Id, Value::Number(number)) => {
            // not for fractions, and 1.0 is 1
            let whole = match number.as_f64() {
                Some(float) if number.is_f64() => float.fract() == 0.0,
                _ => true,
            };
            if !whole {
                return Err(format!("ID cannot represent value: {}", shown(value)));
            }
            let text = number.to_string();
            *value = Value::String(text.strip_suffix(".0").unwrap_or(&text).to_owned());
            Ok(())
        }
        (Kind::Float, Value::Number(_))
        | (Kind::String | Kind::Id, Value::String(_))
        | (Kind::Boolean, Value::Boolean(_))
        | (Kind::Custom, _) => Ok(()),
        (Kind::Float, _) => Err(format!(
            "Float cannot represent non numeric value: {}",
            shown(value)
        )),
        (Kind::String, _) => Err(format!(
            "String cannot represent a non string value: {}",
            shown(value)
        )),
        (Kind::Boolean, _) => Err(format!(
            "Boolean cannot represent a non boolean value: {}",
            shown(value)
        )),
        (Kind::Id, _) => Err(format!("ID cannot represent value: {}", shown(value))),
        (Kind::Enum(names), Value::String(given)) if names.contains(given) => Ok(()),
        (Kind::Enum(names), Value::Enum(given)) if names.contains(given.as_str()) => Ok(()),
        (Kind::Enum(_), Value::String(given)) => Err(format!(
            "Value \"{}\" does not exist in \"{name}\" enum.",
            shown::name(given)
        )),
        (Kind::Enum(_), _) => Err(format!(
            "Enum \"{name}\" cannot represent non-string value: {}.",
            shown(value)
        )),
        // which types may stand here is said about the document
        (Kind::Input(_) | Kind::Output(..), _) => Ok(()),
    }
}
