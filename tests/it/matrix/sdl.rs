//! The schema as the binary prints it.

use std::collections::BTreeMap;

use async_graphql_parser::{
    parse_schema,
    types::{
        BaseType, FieldDefinition, InputValueDefinition, Type, TypeKind, TypeSystemDefinition,
    },
};

/// What there is in the graph.
pub struct Sdl(BTreeMap<String, TypeKind>);

impl Sdl {
    /// What `weft schema` says.
    pub async fn printed() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let output = support::server::run(folder.path(), &["schema"], &[]).await;
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        let document = parse_schema(text).expect("a schema");
        let types = document.definitions.into_iter().filter_map(|definition| {
            let TypeSystemDefinition::Type(definition) = definition else {
                return None;
            };
            Some((definition.node.name.node.to_string(), definition.node.kind))
        });
        Self(types.collect())
    }

    /// The fields of an object or interface.
    pub fn fields(&self, of: &str) -> Vec<&FieldDefinition> {
        let fields = match self.0.get(of) {
            Some(TypeKind::Object(object)) => &object.fields,
            Some(TypeKind::Interface(interface)) => &interface.fields,
            _ => return Vec::new(),
        };
        fields.iter().map(|field| &field.node).collect()
    }

    /// Those of all objects.
    pub fn all_fields(&self) -> impl Iterator<Item = &FieldDefinition> {
        self.0.values().flat_map(|kind| match kind {
            TypeKind::Object(object) => object.fields.iter().map(|field| &field.node).collect(),
            _ => Vec::new(),
        })
    }

    /// The fields of an input.
    pub fn inputs(&self, of: &str) -> Option<Vec<&InputValueDefinition>> {
        match self.0.get(of) {
            Some(TypeKind::InputObject(input)) => {
                Some(input.fields.iter().map(|field| &field.node).collect())
            }
            _ => None,
        }
    }

    /// The values of an enum.
    pub fn values(&self, of: &str) -> Option<Vec<&str>> {
        match self.0.get(of) {
            Some(TypeKind::Enum(it)) => Some(
                it.values
                    .iter()
                    .map(|value| value.node.value.node.as_str())
                    .collect(),
            ),
            _ => None,
        }
    }

    /// What an abstract type may be; nothing of another.
    pub fn possible(&self, of: &str) -> Option<Vec<&str>> {
        match self.0.get(of) {
            Some(TypeKind::Interface(_)) => Some(
                self.0
                    .iter()
                    .filter(|(_, kind)| {
                        matches!(kind, TypeKind::Object(object)
                            if object.implements.iter().any(|name| name.node == of))
                    })
                    .map(|(name, _)| name.as_str())
                    .collect(),
            ),
            Some(TypeKind::Union(union)) => Some(
                union
                    .members
                    .iter()
                    .map(|name| name.node.as_str())
                    .collect(),
            ),
            _ => None,
        }
    }

    /// Whether something is selected of it.
    pub fn is_composite(&self, name: &str) -> bool {
        matches!(
            self.0.get(name),
            Some(TypeKind::Object(_) | TypeKind::Interface(_) | TypeKind::Union(_))
        )
    }

    /// The objects that a reader can come to from a type, that one included.
    pub fn reached_from(&self, root: &str) -> Vec<&str> {
        let mut reached: Vec<&str> = Vec::new();
        let mut next = vec![root];
        let mut known = std::collections::BTreeSet::new();
        while let Some(name) = next.pop() {
            let Some((name, kind)) = self.0.get_key_value(name) else {
                continue;
            };
            if !known.insert(name) {
                continue;
            }
            if matches!(kind, TypeKind::Object(_)) {
                reached.push(name);
                let fields = self.fields(name).into_iter();
                next.extend(fields.map(|field| named(&field.ty.node)));
            }
            next.extend(self.possible(name).unwrap_or_default());
        }
        reached
    }
}

/// The name of a type, whatever is around it.
pub fn named(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name.as_str(),
        BaseType::List(inner) => named(inner),
    }
}

/// Whether it is a list.
pub fn is_list(ty: &Type) -> bool {
    matches!(ty.base, BaseType::List(_))
}

/// Whether whoever asks has to give it.
pub fn is_needed(argument: &InputValueDefinition) -> bool {
    !argument.ty.node.nullable && argument.default_value.is_none()
}
