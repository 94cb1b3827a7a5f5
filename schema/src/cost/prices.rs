//! The price of each field, taken from the schema itself: what its type is tells what it costs.

use std::collections::HashMap;

use async_graphql::{
    parser::types::OperationType,
    registry::{MetaField, MetaType, MetaTypeName, Registry},
};

/// How a field that answers objects is counted, once it is known what is selected of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Price {
    /// One object.
    Object,
    /// A list of which nothing tells how long it is, unless it takes `ids`.
    List { by_ids: bool },
    /// A page of a list that can grow.
    Connection,
    /// The edges of one entry of a page: they count where they are all that is asked for.
    Edges,
    /// Part of something that has its price.
    Free,
}

/// A field that answers objects.
#[derive(Debug)]
pub(super) struct Priced {
    /// The type of the objects, by its place.
    pub(super) of: usize,
    pub(super) price: Price,
}

/// A type with fields, or one that stands for several of these.
#[derive(Debug)]
pub(super) struct Kind {
    /// Those that answer objects: all others cost nothing.
    pub(super) fields: HashMap<String, Priced>,
    /// The types of objects that it can be, in order; of an object's type itself alone.
    pub(super) objects: Vec<usize>,
}

/// The prices of a schema.
#[derive(Debug)]
pub(super) struct Prices {
    kinds: Vec<Kind>,
    places: HashMap<String, usize>,
    roots: [Option<usize>; 3],
}

/// What an object of this type counts in an answer; `asks` tells whether a field is asked of it. The same as the prices of
/// fields, seen from the object: a test holds the schema to the endings of names.
pub(super) fn weight(ty: &str, asks: &dyn Fn(&str) -> bool) -> u64 {
    if ty.ends_with("Connection") {
        2
    } else if ty.ends_with("Edge") {
        u64::from(!asks("node"))
    } else {
        // a payload is in the price of its mutation, and where a page stands in that of the page
        u64::from(!ty.ends_with("Payload") && ty != "PageInfo")
    }
}

impl Prices {
    /// `roots` are the names of the root types: of queries, mutations and subscriptions.
    pub(super) fn of(registry: &Registry, roots: [String; 3]) -> Self {
        let composite: Vec<(&String, &MetaType)> = registry
            .types
            .iter()
            .filter(|(name, ty)| ty.is_composite() && !name.starts_with("__"))
            .collect();
        let places: HashMap<String, usize> = composite
            .iter()
            .enumerate()
            .map(|(place, (name, _))| ((*name).clone(), place))
            .collect();
        let kind = |place: usize, name: &str, ty: &MetaType| {
            let priced = |field: &MetaField| {
                let of = MetaTypeName::concrete_typename(&field.ty);
                let price = price(name, field, of);
                Some((
                    field.name.clone(),
                    Priced {
                        of: *places.get(of)?,
                        price,
                    },
                ))
            };
            let mut objects: Vec<usize> = match ty.possible_types() {
                Some(names) => names
                    .iter()
                    .filter_map(|name| places.get(name).copied())
                    .collect(),
                None => vec![place],
            };
            objects.sort_unstable();
            Kind {
                fields: ty
                    .fields()
                    .into_iter()
                    .flat_map(|fields| fields.values())
                    .filter_map(priced)
                    .collect(),
                objects,
            }
        };
        Self {
            kinds: composite
                .iter()
                .enumerate()
                .map(|(place, (name, ty))| kind(place, name, ty))
                .collect(),
            roots: roots.map(|root| places.get(&root).copied()),
            places,
        }
    }

    pub(super) fn root(&self, kind: OperationType) -> Option<usize> {
        self.roots[match kind {
            OperationType::Query => 0,
            OperationType::Mutation => 1,
            OperationType::Subscription => 2,
        }]
    }

    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    pub(super) fn kind(&self, place: usize) -> &Kind {
        &self.kinds[place]
    }

    /// Whether everything that `ty` can be is also one of `condition`.
    pub(super) fn is_within(&self, ty: usize, condition: usize) -> bool {
        let wider = &self.kinds[condition].objects;
        ty == condition
            || self.kinds[ty]
                .objects
                .iter()
                .all(|object| wider.binary_search(object).is_ok())
    }
}

fn price(parent: &str, field: &MetaField, of: &str) -> Price {
    if parent.ends_with("Connection") {
        match field.name.as_str() {
            "nodes" => return Price::Object,
            "edges" => return Price::Edges,
            "pageInfo" => return Price::Free,
            _ => {}
        }
    }
    if of.ends_with("Connection") {
        Price::Connection
    } else if MetaTypeName::create(&field.ty).is_list() {
        Price::List {
            by_ids: field.args.contains_key("ids"),
        }
    } else {
        Price::Object
    }
}
