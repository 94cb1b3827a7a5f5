//! A document's arguments, variables and literals (sections 5.4, 5.6 and 5.8 of the specification), whatever values the
//! variables get.
//!
//! Every operation and every fragment is looked through once; then each operation that has variables is held against the places
//! where it, or a fragment that it leads to, uses them.

use std::collections::HashMap;

use async_graphql_value::Value as Written;
use upstream_async_graphql::{
    Name, Pos, Positioned, ServerError, Value,
    indexmap::IndexMap,
    parser::types::{
        BaseType, Directive, ExecutableDocument, OperationDefinition, Selection, SelectionSet,
        Type, VariableDefinition,
    },
};

use super::{
    failure, shown,
    types::{Inputs, Kind, Object, Types, innermost},
};

/// So many are looked for, of which the first by place are told.
const MOST: usize = 1_000;

/// What is wrong with a document, in no order.
pub(super) fn check(types: &Types, doc: &ExecutableDocument) -> Vec<ServerError> {
    let fragments: HashMap<_, _> = doc.fragments.keys().zip(0..).collect();
    let mut walk = Walk {
        types,
        fragments,
        variables: HashMap::new(),
        part: Part::default(),
        errors: Vec::new(),
    };
    let parts: Vec<Part> = doc
        .fragments
        .values()
        .map(|fragment| {
            let on = fragment.node.type_condition.node.on.node.as_str();
            walk.directives(&fragment.node.directives);
            walk.set(&fragment.node.selection_set.node, Some(on));
            std::mem::take(&mut walk.part)
        })
        .collect();
    let mut operations = Vec::new();
    for (name, at) in doc.operations.iter() {
        let operation = &at.node;
        walk.definitions(&operation.variable_definitions);
        walk.directives(&operation.directives);
        let root = types.root(operation.ty);
        walk.set(&operation.selection_set.node, Some(root));
        operations.push((name, at, std::mem::take(&mut walk.part)));
    }
    let mut uses = Uses {
        types,
        parts: &parts,
        variables: &walk.variables,
        names: walk
            .variables
            .iter()
            .map(|(name, number)| (*number, name))
            .collect(),
        defined: vec![None; walk.variables.len()],
        seen: vec![false; parts.len()],
        errors: walk.errors,
    };
    for (name, operation, part) in &operations {
        uses.of(*name, operation, part);
    }
    uses.errors
}

/// A place where a variable is used.
struct Use<'a> {
    variable: usize,
    at: Pos,
    /// The type that is asked for, where one is.
    ty: Option<&'a Type>,
    /// Whether there is a value where the variable has none.
    has_default: bool,
    /// The input object that takes exactly one field, of which this is one.
    one_of: Option<&'a Name>,
}

/// An operation or a fragment, without what it spreads.
#[derive(Default)]
struct Part<'a> {
    uses: Vec<Use<'a>>,
    spreads: Vec<usize>,
}

struct Walk<'a> {
    types: &'a Types,
    fragments: HashMap<&'a Name, usize>,
    /// The variables that are used anywhere, and their numbers.
    variables: HashMap<Name, usize>,
    part: Part<'a>,
    errors: Vec<ServerError>,
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    at: Pos,
    ty: Option<&'a Type>,
    has_default: bool,
    one_of: Option<&'a Name>,
    /// Around it something is wrong and was told.
    told: bool,
}

impl<'a> Place<'a> {
    fn inside(self, ty: Option<&'a Type>) -> Self {
        Self {
            ty,
            has_default: false,
            one_of: None,
            ..self
        }
    }
}

impl<'a> Walk<'a> {
    fn tell(&mut self, message: String, at: Vec<Pos>) {
        if self.errors.len() < MOST {
            self.errors.push(failure(message, at));
        }
    }

    fn set(&mut self, set: &'a SelectionSet, parent: Option<&'a str>) {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    let name = &field.name.node;
                    let meta = parent.and_then(|parent| self.types.field(parent, name));
                    self.arguments(
                        &field.arguments,
                        meta.map(|meta| &meta.arguments),
                        |argument| {
                            let parent = parent.unwrap_or_default();
                            format!("Unknown argument \"{argument}\" on field \"{parent}.{name}\".")
                        },
                    );
                    self.directives(&field.directives);
                    let parent = meta.map(|meta| innermost(&meta.ty).as_str());
                    self.set(&field.selection_set.node, parent);
                }
                Selection::InlineFragment(fragment) => {
                    let fragment = &fragment.node;
                    let on = fragment.type_condition.as_ref();
                    let parent = on.map(|on| on.node.on.node.as_str()).or(parent);
                    self.directives(&fragment.directives);
                    self.set(&fragment.selection_set.node, parent);
                }
                Selection::FragmentSpread(spread) => {
                    self.directives(&spread.node.directives);
                    if let Some(at) = self.fragments.get(&spread.node.fragment_name.node) {
                        self.part.spreads.push(*at);
                    }
                }
            }
        }
    }

    fn directives(&mut self, directives: &'a [Positioned<Directive>]) {
        for directive in directives {
            let name = &directive.node.name.node;
            let known = self.types.directive(name);
            self.arguments(&directive.node.arguments, known, |argument| {
                format!("Unknown argument \"{argument}\" on directive \"@{name}\".")
            });
        }
    }

    /// `known` is `None` where there is no such field or directive, which is told elsewhere.
    fn arguments(
        &mut self,
        given: &[(Positioned<Name>, Positioned<Written>)],
        known: Option<&'a Inputs>,
        unknown: impl Fn(&Name) -> String,
    ) {
        let mut names: HashMap<&Name, Vec<Pos>> = HashMap::new();
        for (name, value) in given {
            names.entry(&name.node).or_default().push(name.pos);
            let input = known.and_then(|known| known.get(&name.node));
            if known.is_some() && input.is_none() {
                let message = unknown(&name.node);
                self.tell(message, vec![name.pos]);
            }
            let place = Place {
                at: value.pos,
                ty: input.map(|input| &input.ty),
                has_default: input.is_some_and(|input| input.has_default),
                one_of: None,
                told: false,
            };
            self.value(&value.node, place);
        }
        for (name, at) in names {
            if at.len() > 1 {
                let message = format!("There can be only one argument named \"{name}\".");
                self.tell(message, at);
            }
        }
    }

    fn definitions(&mut self, definitions: &'a [Positioned<VariableDefinition>]) {
        let mut names: HashMap<&Name, Vec<Pos>> = HashMap::new();
        for definition in definitions {
            let definition = &definition.node;
            let name = &definition.name.node;
            names.entry(name).or_default().push(definition.name.pos);
            let (at, ty) = (definition.var_type.pos, &definition.var_type.node);
            let base = innermost(ty);
            match self.types.named(base) {
                None => self.tell(format!("Unknown type \"{base}\"."), vec![at]),
                Some(Kind::Output(..)) => self.tell(
                    format!("Variable \"${name}\" cannot be non-input type \"{ty}\"."),
                    vec![at],
                ),
                Some(_) => {
                    if let Some(default) = &definition.default_value {
                        let place = Place {
                            at: default.pos,
                            ty: Some(ty),
                            has_default: false,
                            one_of: None,
                            told: false,
                        };
                        self.value(&default.node.clone().into_value(), place);
                    }
                }
            }
            self.directives(&definition.directives);
        }
        for (name, at) in names {
            if at.len() > 1 {
                let message = format!("There can be only one variable named \"${name}\".");
                self.tell(message, at);
            }
        }
    }

    fn value(&mut self, value: &Written, place: Place<'a>) {
        match (value, place.ty) {
            (Written::Variable(name), ty) => {
                let next = self.variables.len();
                let variable = match self.variables.get(name) {
                    Some(number) => *number,
                    None => *self.variables.entry(name.clone()).or_insert(next),
                };
                self.part.uses.push(Use {
                    variable,
                    at: place.at,
                    ty,
                    has_default: place.has_default,
                    one_of: place.one_of,
                });
            }
            (Written::List(items), ty) => self.list(value, items, ty, place),
            (Written::Object(fields), Some(ty)) => {
                let name = innermost(ty);
                match self.types.named(name) {
                    Some(Kind::Input(object)) => self.object(fields, name, object, place),
                    _ => {
                        self.leaf(value, ty, place);
                        for value in fields.values() {
                            self.value(value, place.inside(None));
                        }
                    }
                }
            }
            (Written::Object(fields), None) => {
                for value in fields.values() {
                    self.value(value, place.inside(None));
                }
            }
            (_, None) => {}
            (Written::Null, Some(ty)) => {
                if !ty.nullable && !place.told {
                    let message = format!("Expected value of type \"{ty}\", found null.");
                    self.tell(message, vec![place.at]);
                }
            }
            (_, Some(ty)) => self.leaf(value, ty, place),
        }
    }

    fn list(
        &mut self,
        value: &Written,
        items: &[Written],
        ty: Option<&'a Type>,
        mut place: Place<'a>,
    ) {
        let of = ty.and_then(|ty| match &ty.base {
            BaseType::List(of) => Some(&**of),
            BaseType::Named(name) => {
                let nullable = Type {
                    nullable: true,
                    ..ty.clone()
                };
                self.leaf(value, &nullable, place);
                place.told = true;
                // what stands in a scalar of its own kind is its parser's affair
                match self.types.named(name) {
                    Some(Kind::Custom) => None,
                    _ => Some(ty),
                }
            }
        });
        for item in items {
            self.value(item, place.inside(of));
        }
    }

    fn object(
        &mut self,
        fields: &IndexMap<Name, Written>,
        name: &'a Name,
        object: &'a Object,
        place: Place<'a>,
    ) {
        let mut wrong = Vec::new();
        for field in object.fields.iter() {
            if !field.ty.nullable && !field.has_default && !fields.contains_key(&field.name) {
                wrong.push(format!(
                    "Field \"{name}.{}\" of required type \"{}\" was not provided.",
                    field.name, field.ty
                ));
            }
        }
        if object.one_of {
            match fields.first() {
                Some((field, Written::Null)) if fields.len() == 1 => {
                    wrong.push(format!("Field \"{name}.{field}\" must be non-null."));
                }
                Some(_) if fields.len() == 1 => {}
                _ => wrong.push(format!(
                    "OneOf Input Object \"{name}\" must specify exactly one key."
                )),
            }
        }
        for message in wrong {
            if !place.told {
                self.tell(message, vec![place.at]);
            }
        }
        for (field, value) in fields {
            let input = object.fields.get(field);
            if input.is_none() && !place.told {
                let message = format!("Field \"{field}\" is not defined by type \"{name}\".");
                self.tell(message, vec![place.at]);
            }
            let inside = Place {
                has_default: input.is_some_and(|input| input.has_default),
                one_of: object.one_of.then_some(name),
                ..place.inside(input.map(|input| &input.ty))
            };
            self.value(value, inside);
        }
    }

    /// A literal that stands where there must be a scalar or a value of an enum, or stands in for a list of one.
    fn leaf(&mut self, value: &Written, ty: &Type, place: Place<'a>) {
        let name = innermost(ty);
        let Some(kind) = self.types.named(name) else {
            return;
        };
        if place.told {
            return;
        }
        let text = || shown::literal(value);
        let message = match (kind, value) {
            (Kind::Custom, _) => return,
            (Kind::Int, Written::Number(number)) if !number.is_f64() => {
                if number
                    .as_i64()
                    .is_some_and(|number| i32::try_from(number).is_ok())
                {
                    return;
                }
                format!(
                    "Int cannot represent non 32-bit signed integer value: {}",
                    text()
                )
            }
            (Kind::Int, _) => format!("Int cannot represent non-integer value: {}", text()),
            (Kind::Float, Written::Number(_)) => return,
            (Kind::Float, _) => format!("Float cannot represent non numeric value: {}", text()),
            (Kind::String | Kind::Id, Written::String(_)) => return,
            (Kind::String, _) => format!("String cannot represent a non string value: {}", text()),
            (Kind::Boolean, Written::Boolean(_)) => return,
            (Kind::Boolean, _) => {
                format!("Boolean cannot represent a non boolean value: {}", text())
            }
            (Kind::Id, Written::Number(number)) if !number.is_f64() => return,
            (Kind::Id, _) => {
                let text = text();
                format!("ID cannot represent a non-string and non-integer value: {text}")
            }
            (Kind::Enum(names), Written::Enum(given)) => {
                if names.contains(given.as_str()) {
                    return;
                }
                format!("Value \"{given}\" does not exist in \"{name}\" enum.")
            }
            (Kind::Enum(_), _) => {
                format!(
                    "Enum \"{name}\" cannot represent non-enum value: {}.",
                    text()
                )
            }
            (Kind::Input(_) | Kind::Output(..), _) => {
                format!("Expected value of type \"{ty}\", found {}.", text())
            }
        };
        self.tell(message, vec![place.at]);
    }
}

/// Holds the uses of variables against what operations define.
struct Uses<'a> {
    types: &'a Types,
    parts: &'a [Part<'a>],
    variables: &'a HashMap<Name, usize>,
    names: HashMap<usize, &'a Name>,
    /// By the variable's number, while an operation is looked at.
    defined: Vec<Option<&'a Positioned<VariableDefinition>>>,
    /// By the fragment's number, likewise.
    seen: Vec<bool>,
    errors: Vec<ServerError>,
}

impl<'a> Uses<'a> {
    fn of(
        &mut self,
        name: Option<&Name>,
        operation: &'a Positioned<OperationDefinition>,
        part: &Part<'a>,
    ) {
        for definition in &operation.node.variable_definitions {
            if let Some(number) = self.variables.get(&definition.node.name.node) {
                self.defined[*number] = Some(definition);
            }
        }
        self.held(name, operation.pos, part);
        let mut left = part.spreads.clone();
        while let Some(at) = left.pop() {
            if !std::mem::replace(&mut self.seen[at], true) {
                let part = &self.parts[at];
                self.held(name, operation.pos, part);
                left.extend(part.spreads.iter().filter(|at| !self.seen[**at]));
            }
        }
        self.seen.fill(false);
        self.defined.fill(None);
    }

    fn held(&mut self, operation: Option<&Name>, at: Pos, part: &Part<'a>) {
        for usage in &part.uses {
            if self.errors.len() >= MOST {
                return;
            }
            let Some(definition) = self.defined[usage.variable] else {
                let name = self.names[&usage.variable];
                let by =
                    operation.map_or(String::new(), |name| format!(" by operation \"{name}\""));
                let message = format!("Variable \"${name}\" is not defined{by}.");
                self.errors.push(failure(message, vec![usage.at, at]));
                continue;
            };
            let Some(asked) = usage.ty else {
                continue;
            };
            // of an unknown type, nothing can be said
            let base = innermost(&definition.node.var_type.node);
            if self.types.named(base).is_none() {
                continue;
            }
            let places = || vec![definition.pos, usage.at];
            let name = &definition.node.name.node;
            let ty = &definition.node.var_type.node;
            if let Some(object) = usage.one_of
                && ty.nullable
            {
                self.errors.push(failure(
                    format!("Variable \"${name}\" is of type \"{ty}\" but must be non-nullable to be used for OneOf Input Object \"{object}\"."),
                    places(),
                ));
            }
            if !allowed(&definition.node, usage, asked) {
                self.errors.push(failure(
                    format!(
                        "Variable \"${name}\" of type \"{ty}\" used in position expecting type \"{asked}\".",
                    ),
                    places(),
                ));
            }
        }
    }
}

/// IsVariableUsageAllowed of the specification.
fn allowed(definition: &VariableDefinition, usage: &Use, asked: &Type) -> bool {
    let given = &definition.var_type.node;
    let has_value = |default: &Positioned<Value>| !matches!(default.node, Value::Null);
    let may_be_null = asked.nullable
        || usage.has_default
        || definition.default_value.as_ref().is_some_and(has_value);
    (may_be_null || !given.nullable) && fits(&given.base, &asked.base)
}

/// Whether a variable's type can stand where another is asked for, nulls at the outside apart.
fn fits(given: &BaseType, asked: &BaseType) -> bool {
    match (given, asked) {
        (BaseType::Named(given), BaseType::Named(asked)) => given == asked,
        (BaseType::List(given), BaseType::List(asked)) => {
            (asked.nullable || !given.nullable) && fits(&given.base, &asked.base)
        }
        _ => false,
    }
}
