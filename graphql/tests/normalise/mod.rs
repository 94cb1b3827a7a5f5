//! Answers of async-graphql's own resolver put right afterwards, from the document, the paths of errors and the registry: the
//! slow way, which knows nothing of the way that it is compared with.

use std::sync::{Arc, Mutex};

use graphql::{
    Name, PathSegment, Response, ServerResult, Value, Variables,
    async_trait::async_trait,
    extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute, NextParseQuery},
    indexmap::IndexMap,
    parser::types::{ExecutableDocument, OperationType, Selection, SelectionSet},
    registry::Registry,
};

pub struct Normalise;

impl ExtensionFactory for Normalise {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Normaliser(Mutex::new(None)))
    }
}

struct Normaliser(Mutex<Option<ExecutableDocument>>);

#[async_trait]
impl Extension for Normaliser {
    async fn parse_query(
        &self,
        ctx: &ExtensionContext<'_>,
        query: &str,
        variables: &Variables,
        next: NextParseQuery<'_>,
    ) -> ServerResult<ExecutableDocument> {
        let doc = next.run(ctx, query, variables).await?;
        *self.0.lock().expect("nothing panics") = Some(doc.clone());
        Ok(doc)
    }

    async fn execute(
        &self,
        ctx: &ExtensionContext<'_>,
        operation: Option<&str>,
        next: NextExecute<'_>,
    ) -> Response {
        let mut response = next.run(ctx, operation).await;
        let Some(doc) = self.0.lock().expect("nothing panics").clone() else {
            return response;
        };
        let named =
            |name: Option<&Name>| operation.is_none() || name.map(Name::as_str) == operation;
        let Some((_, operation)) = doc.operations.iter().find(|(name, _)| named(*name)) else {
            return response;
        };
        let registry = &ctx.schema_env.registry;
        let root = match operation.node.ty {
            OperationType::Query => registry.query_type.as_str(),
            OperationType::Mutation => registry.mutation_type.as_deref().unwrap_or(""),
            OperationType::Subscription => registry.subscription_type.as_deref().unwrap_or(""),
        };
        let failed = response
            .errors
            .iter()
            .map(|error| error.path.clone())
            .collect();
        let data = std::mem::take(&mut response.data);
        let mut place = Place {
            registry,
            doc: &doc,
            failed,
            path: Vec::new(),
        };
        let data = place.object(root, &[&operation.node.selection_set.node], data);
        response.data = data.unwrap_or_default();
        response
    }
}

/// A key of an object: its type, if the object has such a field, and all that is selected below it.
type Selected<'d> = IndexMap<&'d str, (Option<&'d str>, Vec<&'d SelectionSet>)>;

struct Place<'d> {
    registry: &'d Registry,
    doc: &'d ExecutableDocument,
    failed: Vec<Vec<PathSegment>>,
    path: Vec<PathSegment>,
}

impl<'d> Place<'d> {
    fn collect(&self, ty: &'d str, set: &'d SelectionSet, out: &mut Selected<'d>) {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    let name = field.node.name.node.as_str();
                    let ty = match self
                        .registry
                        .types
                        .get(ty)
                        .and_then(|ty| ty.field_by_name(name))
                    {
                        _ if name == "__typename" => Some("String!"),
                        field => field.map(|field| field.ty.as_str()),
                    };
                    let entry = out
                        .entry(field.node.response_key().node.as_str())
                        .or_insert((ty, vec![]));
                    entry.0 = entry.0.or(ty);
                    entry.1.push(&field.node.selection_set.node);
                }
                Selection::InlineFragment(fragment) => {
                    let on = fragment.node.type_condition.as_ref();
                    let on = on.map_or(ty, |condition| condition.node.on.node.as_str());
                    self.collect(on, &fragment.node.selection_set.node, out);
                }
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = self.doc.fragments.get(&spread.node.fragment_name.node)
                    {
                        let on = fragment.node.type_condition.node.on.node.as_str();
                        self.collect(on, &fragment.node.selection_set.node, out);
                    }
                }
            }
        }
    }

    /// `None`: it may not be null but is.
    fn object(&mut self, ty: &'d str, sets: &[&'d SelectionSet], value: Value) -> Option<Value> {
        let below =
            |path: &Vec<PathSegment>| path.len() > self.path.len() && path.starts_with(&self.path);
        let mut old = match value {
            Value::Object(object) => object,
            Value::Null if self.failed.iter().any(below) => IndexMap::new(),
            other => return Some(other),
        };
        let mut selected = IndexMap::new();
        for set in sets {
            self.collect(ty, set, &mut selected);
        }
        let mut object = IndexMap::new();
        for (key, (ty, sets)) in selected {
            self.path.push(PathSegment::Field(key.to_owned()));
            let value = match old.shift_remove(key) {
                Some(value) => Some(self.value(ty.unwrap_or("X"), &sets, value)),
                None if self.failed.contains(&self.path) => {
                    Some((!ty.is_some_and(|ty| ty.ends_with('!'))).then_some(Value::Null))
                }
                None => None,
            };
            self.path.pop();
            if let Some(value) = value {
                object.insert(Name::new(key), value?);
            }
        }
        object.extend(old);
        Some(Value::Object(object))
    }

    fn value(&mut self, ty: &'d str, sets: &[&'d SelectionSet], value: Value) -> Option<Value> {
        let (inner, required) = ty
            .strip_suffix('!')
            .map_or((ty, false), |inner| (inner, true));
        let element = inner
            .strip_prefix('[')
            .and_then(|inner| inner.strip_suffix(']'));
        let value = match (value, element) {
            (Value::List(list), Some(element)) => {
                let mut elements = list.into_iter().enumerate().map(|(index, value)| {
                    self.path.push(PathSegment::Index(index));
                    let value = self.value(element, sets, value);
                    self.path.pop();
                    value
                });
                let list = elements.by_ref().collect::<Option<_>>();
                list.map(Value::List)
            }
            (value, Some(_)) => Some(value),
            (value, None) if sets.iter().all(|set| set.items.is_empty()) => Some(value),
            (value, None) => self.object(inner, sets, value),
        };
        value.or((!required).then_some(Value::Null))
    }
}
