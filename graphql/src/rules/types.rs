//! What of a schema it takes to hold a document to the rules: its types, read once.

use std::collections::{HashMap, HashSet};

use upstream_async_graphql::{
    Name,
    parser::types::{BaseType, OperationType, Type},
    registry::{MetaField, MetaInputValue, MetaType, Registry},
};

/// A type, so far as it matters here.
#[derive(Debug)]
pub(super) enum Kind {
    Int,
    Float,
    String,
    Boolean,
    Id,
    /// A scalar that the specification does not know: its own parser says what fits.
    Custom,
    Enum(HashSet<String>),
    Input(Object),
    /// An object (`true`), an interface or a union, and its fields.
    Output(HashMap<String, Field>, bool),
}

/// An input object.
#[derive(Debug)]
pub(super) struct Object {
    pub fields: Inputs,
    pub one_of: bool,
}

/// A field of an object or interface.
#[derive(Debug)]
pub(super) struct Field {
    pub ty: Type,
    pub arguments: Inputs,
}

/// An argument, or a field of an input object.
#[derive(Debug)]
pub(super) struct Input {
    pub name: Name,
    pub ty: Type,
    pub has_default: bool,
}

/// Arguments, or the fields of an input object, in the order of the schema.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    all: Vec<Input>,
    by_name: HashMap<Name, usize>,
}

impl Inputs {
    fn new<'r>(all: impl Iterator<Item = &'r MetaInputValue>) -> Self {
        let all: Vec<_> = all
            .filter_map(|input| {
                Some(Input {
                    name: Name::new(&input.name),
                    ty: Type::new(&input.ty)?,
                    has_default: input.default_value.is_some(),
                })
            })
            .collect();
        let by_name = all
            .iter()
            .enumerate()
            .map(|(at, input)| (input.name.clone(), at))
            .collect();
        Self { all, by_name }
    }

    fn one(name: &str, ty: &str, has_default: bool) -> Self {
        let name = Name::new(name);
        Self {
            by_name: HashMap::from([(name.clone(), 0)]),
            all: Type::new(ty)
                .map(|ty| Input {
                    name,
                    ty,
                    has_default,
                })
                .into_iter()
                .collect(),
        }
    }

    pub fn get(&self, name: &str) -> Option<&Input> {
        self.by_name.get(name).and_then(|at| self.all.get(*at))
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Input> {
        self.all.iter()
    }
}

/// The types of a schema, its roots and the arguments of its directives.
#[derive(Debug)]
pub(super) struct Types {
    kinds: HashMap<String, Kind>,
    directives: HashMap<String, Inputs>,
    roots: [String; 3],
    type_name: Field,
}

impl Types {
    pub fn new(registry: &Registry, roots: [String; 3]) -> Self {
        let mut kinds: HashMap<_, _> = registry
            .types
            .iter()
            .map(|(name, ty)| (name.clone(), kind(name, ty)))
            .collect();
        for (name, kind) in [
            ("Int", Kind::Int),
            ("Float", Kind::Float),
            ("String", Kind::String),
            ("Boolean", Kind::Boolean),
            ("ID", Kind::Id),
        ] {
            kinds.insert(name.into(), kind);
        }
        introspection(&mut kinds, &roots[0]);
        let directives = registry
            .directives
            .iter()
            .map(|(name, directive)| (name.clone(), Inputs::new(directive.args.values())))
            .chain(
                ["skip", "include"].map(|name| (name.into(), Inputs::one("if", "Boolean!", false))),
            )
            .collect();
        let text = BaseType::Named(Name::new("String"));
        Self {
            kinds,
            directives,
            roots,
            type_name: Field {
                ty: Type {
                    base: text,
                    nullable: false,
                },
                arguments: Inputs::default(),
            },
        }
    }

    /// The kind that stands under a name.
    pub fn named(&self, name: &str) -> Option<&Kind> {
        self.kinds.get(name)
    }

    /// Arguments of a directive.
    pub fn directive(&self, name: &str) -> Option<&Inputs> {
        self.directives.get(name)
    }

    /// Name of the type where operations of a kind begin.
    pub fn root(&self, kind: OperationType) -> &str {
        let at = match kind {
            OperationType::Query => 0,
            OperationType::Mutation => 1,
            OperationType::Subscription => 2,
        };
        &self.roots[at]
    }

    /// A field of the type with this name.
    pub fn field(&self, parent: &str, name: &str) -> Option<&Field> {
        match self.named(parent) {
            Some(Kind::Output(..)) if name == "__typename" => Some(&self.type_name),
            Some(Kind::Output(fields, _)) => fields.get(name),
            _ => None,
        }
    }
}

fn kind(name: &str, ty: &MetaType) -> Kind {
    let outputs = |fields: &mut dyn Iterator<Item = (&String, &MetaField)>| {
        let fields = fields.filter_map(|(name, field)| {
            let ty = Type::new(&field.ty)?;
            let arguments = Inputs::new(field.args.values());
            Some((name.clone(), Field { ty, arguments }))
        });
        fields.collect()
    };
    match ty {
        MetaType::Scalar { .. } => match name {
            "Int" => Kind::Int,
            "Float" => Kind::Float,
            "String" => Kind::String,
            "Boolean" => Kind::Boolean,
            "ID" => Kind::Id,
            _ => Kind::Custom,
        },
        MetaType::Enum { enum_values, .. } => Kind::Enum(enum_values.keys().cloned().collect()),
        MetaType::InputObject {
            input_fields,
            oneof,
            ..
        } => Kind::Input(Object {
            fields: Inputs::new(input_fields.values()),
            one_of: *oneof,
        }),
        MetaType::Object { fields, .. } => Kind::Output(outputs(&mut fields.iter()), true),
        MetaType::Interface { fields, .. } => Kind::Output(outputs(&mut fields.iter()), false),
        MetaType::Union { .. } => Kind::Output(HashMap::new(), false),
    }
}

/// Types of introspection, each with the types of its fields; those that end in `*` take `includeDeprecated`. async-graphql keeps
/// them to itself.
const INTROSPECTION: &[(&str, &str)] = &[
    (
        "__Schema",
        "description String, types [__Type!]!, queryType __Type!, mutationType __Type, subscriptionType __Type, directives [__Directive!]!",
    ),
    (
        "__Type",
        "kind __TypeKind!, name String, description String, fields [__Field!]*, interfaces [__Type!], possibleTypes [__Type!], enumValues [__EnumValue!]*, inputFields [__InputValue!]*, ofType __Type, specifiedByURL String, isOneOf Boolean",
    ),
    (
        "__Field",
        "name String!, description String, args [__InputValue!]!*, type __Type!, isDeprecated Boolean!, deprecationReason String",
    ),
    (
        "__InputValue",
        "name String!, description String, type __Type!, defaultValue String, isDeprecated Boolean!, deprecationReason String",
    ),
    (
        "__EnumValue",
        "name String!, description String, isDeprecated Boolean!, deprecationReason String",
    ),
    (
        "__Directive",
        "name String!, description String, isRepeatable Boolean!, locations [__DirectiveLocation!]!, args [__InputValue!]!*",
    ),
];

fn introspection(kinds: &mut HashMap<String, Kind>, query: &str) {
    for (name, fields) in INTROSPECTION {
        let fields = fields.split(", ").filter_map(|field| {
            let (name, ty) = field.split_once(' ')?;
            let arguments = if ty.ends_with('*') {
                Inputs::one("includeDeprecated", "Boolean!", true)
            } else {
                Inputs::default()
            };
            let ty = Type::new(ty.trim_end_matches('*'))?;
            Some((name.to_owned(), Field { ty, arguments }))
        });
        kinds.insert((*name).into(), Kind::Output(fields.collect(), true));
    }
    // their values stand in no document
    for name in ["__TypeKind", "__DirectiveLocation"] {
        kinds.insert(name.into(), Kind::Enum(HashSet::new()));
    }
    if let Some(Kind::Output(fields, _)) = kinds.get_mut(query) {
        let mut root = |name: &str, ty, arguments| {
            if let Some(ty) = Type::new(ty) {
                fields.insert(name.into(), Field { ty, arguments });
            }
        };
        root("__schema", "__Schema!", Inputs::default());
        root("__type", "__Type", Inputs::one("name", "String!", false));
    }
}

/// Name of what a type is a list of, or of itself.
pub(super) fn innermost(ty: &Type) -> &Name {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(item) => innermost(item),
    }
}
