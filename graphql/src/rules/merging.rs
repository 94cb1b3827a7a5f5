//! Fields with one response key must be able to merge (section 5.3.2 of the specification): async-graphql looks at fields that
//! stand in one selection set and under one type alone.
//!
//! A whole operation is looked through at once, level by level: of all that answers to one key, each is compared with the first
//! of its kind, since what is asked of them is an equivalence, and what they select is looked through together. So every
//! selection, once fragments are spread, is seen once.

use std::collections::{HashMap, HashSet};

use upstream_async_graphql::{
    Name, Pos, Positioned, ServerError,
    indexmap::IndexMap,
    parser::types::{BaseType, ExecutableDocument, Field, Selection, SelectionSet, Type},
};

use super::{
    failure,
    types::{self, Kind, Types, innermost},
};
use crate::document::DEEPEST;

/// Steps that are taken for a document; what is left then is not looked at. Operations may have 20,000 selections each.
const LONGEST: usize = 200_000;

/// What cannot merge in a document, added to `errors` up to `most` of them.
pub(super) fn check(
    types: &Types,
    doc: &ExecutableDocument,
    errors: &mut Vec<ServerError>,
    most: usize,
) {
    let mut left = LONGEST;
    let mut told = HashSet::new();
    for (_, operation) in doc.operations.iter() {
        let mut merging = Merging {
            types,
            doc,
            found: Vec::new(),
            left,
            told: &mut told,
            errors,
            most,
        };
        let mut keys = Keys::default();
        let root = types.root(operation.node.ty);
        let set = &operation.node.selection_set.node;
        let mut spread = HashSet::new();
        merging.collect(set, Some(root), None, DEEPEST, &mut keys, &mut spread);
        merging.level(&keys, DEEPEST);
        left = merging.left;
    }
}

/// A field where it is selected, by way of the fragments that lead to it.
#[derive(Clone, Copy)]
struct Found<'a> {
    field: &'a Positioned<Field>,
    meta: Option<&'a types::Field>,
    /// The object that it is a field of, if that is said.
    object: Option<&'a str>,
    above: Option<usize>,
}

/// Fields by response key.
type Keys<'a> = IndexMap<&'a str, Vec<usize>>;

struct Merging<'a, 't> {
    types: &'a Types,
    doc: &'a ExecutableDocument,
    found: Vec<Found<'a>>,
    left: usize,
    told: &'t mut HashSet<[(usize, usize); 2]>,
    errors: &'t mut Vec<ServerError>,
    most: usize,
}

impl<'a> Merging<'a, '_> {
    fn collect(
        &mut self,
        set: &'a SelectionSet,
        parent: Option<&'a str>,
        above: Option<usize>,
        deeper: u32,
        keys: &mut Keys<'a>,
        spread: &mut HashSet<&'a Name>,
    ) {
        let Some(deeper) = deeper.checked_sub(1) else {
            return;
        };
        for selection in &set.items {
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                return;
            }
            match &selection.node {
                Selection::Field(field) => {
                    let name = &field.node.name.node;
                    let object = parent.filter(|name| {
                        matches!(self.types.named(name), Some(Kind::Output(_, true)))
                    });
                    keys.entry(field.node.response_key().node.as_str())
                        .or_default()
                        .push(self.found.len());
                    self.found.push(Found {
                        field,
                        meta: parent.and_then(|parent| self.types.field(parent, name)),
                        object,
                        above,
                    });
                }
                Selection::InlineFragment(fragment) => {
                    let on = fragment.node.type_condition.as_ref();
                    let parent = on.map(|on| on.node.on.node.as_str()).or(parent);
                    let set = &fragment.node.selection_set.node;
                    self.collect(set, parent, above, deeper, keys, spread);
                }
                Selection::FragmentSpread(fragment) => {
                    let name = &fragment.node.fragment_name.node;
                    if let Some(fragment) = self.doc.fragments.get(name)
                        && spread.insert(name)
                    {
                        let on = fragment.node.type_condition.node.on.node.as_str();
                        let set = &fragment.node.selection_set.node;
                        self.collect(set, Some(on), above, deeper, keys, spread);
                    }
                }
            }
        }
    }

    fn level(&mut self, keys: &Keys<'a>, deeper: u32) {
        // a document whose fragments stand in each other this deep, or form a circle, is refused elsewhere
        let Some(deeper) = deeper.checked_sub(1) else {
            return;
        };
        for fields in keys.values() {
            // whatever leads here, shapes are the same; names and arguments where both may answer for one object
            let mut shape: Option<usize> = None;
            let mut apart: Vec<usize> = Vec::new();
            let mut merged = Vec::new();
            for at in fields {
                self.left = self.left.saturating_sub(1 + apart.len());
                if self.left == 0 || self.errors.len() >= self.most {
                    return;
                }
                let other = apart.iter().copied().find(|other| {
                    !self.exclusive(*other, *at)
                        && different(&self.found[*other], &self.found[*at]).is_some()
                });
                let conflict = match (other, shape) {
                    (Some(other), _) => different(&self.found[other], &self.found[*at])
                        .map(|reason| (other, reason)),
                    (None, Some(first)) => self.unlike(first, *at).map(|reason| (first, reason)),
                    (None, None) => None,
                };
                if let Some((other, reason)) = conflict {
                    self.tell(other, *at, reason);
                    continue;
                }
                if shape.is_none() && self.found[*at].meta.is_some() {
                    shape = Some(*at);
                }
                if !apart.iter().any(|other| self.same_objects(*other, *at)) {
                    apart.push(*at);
                }
                merged.push(*at);
            }
            let mut inner = Keys::default();
            // a fragment once for each way that leads to it from another object
            let mut spread: HashMap<usize, HashSet<&Name>> = HashMap::new();
            for at in merged {
                let Found { field, meta, .. } = self.found[at];
                let parent = meta.map(|meta| innermost(&meta.ty).as_str());
                let set = &field.node.selection_set.node;
                if set.items.is_empty() {
                    continue;
                }
                let like = apart
                    .iter()
                    .position(|other| self.same_objects(*other, at))
                    .unwrap_or_default();
                let spread = spread.entry(like).or_default();
                self.collect(set, parent, Some(at), deeper, &mut inner, spread);
            }
            if !inner.is_empty() {
                self.level(&inner, deeper);
            }
        }
    }

    /// Whether two fields of a level never answer for one object: somewhere on the way there are two different ones.
    fn exclusive(&self, one: usize, other: usize) -> bool {
        self.way(one, other)
            .any(|(one, other)| matches!((one, other), (Some(one), Some(other)) if one != other))
    }

    /// Whether two fields of a level answer for the same objects, so far as the document says.
    fn same_objects(&self, one: usize, other: usize) -> bool {
        self.way(one, other).all(|(one, other)| one == other)
    }

    /// The objects that lead to two fields of a level, upwards until the way is one.
    fn way(
        &self,
        one: usize,
        other: usize,
    ) -> impl Iterator<Item = (Option<&'a str>, Option<&'a str>)> {
        let mut next = Some((one, other));
        std::iter::from_fn(move || {
            let (one, other) = next.filter(|(one, other)| one != other)?;
            let (one, other) = (&self.found[one], &self.found[other]);
            next = one.above.zip(other.above);
            Some((one.object, other.object))
        })
    }

    /// Why two fields have no shape in common.
    fn unlike(&self, one: usize, other: usize) -> Option<String> {
        let (one, other) = (self.found[one].meta?, self.found[other].meta?);
        let composite = |ty: &Type| {
            matches!(
                self.types.named(innermost(ty)),
                Some(Kind::Output(..)) | None
            )
        };
        let leaf = !composite(&one.ty) || !composite(&other.ty);
        (!alike(&one.ty, &other.ty, leaf)).then(|| {
            format!(
                "they return conflicting types \"{}\" and \"{}\"",
                one.ty, other.ty
            )
        })
    }

    /// Says it where the ways to both part, as graphql-js does.
    fn tell(&mut self, one: usize, other: usize, mut reason: String) {
        let place = |at: Pos| (at.line, at.column);
        let pair = [one, other].map(|at| place(self.found[at].field.pos));
        if !self.told.insert(pair) {
            return;
        }
        let (mut ones, mut others) = (vec![], vec![]);
        let (mut at, mut key) = (Some((one, other)), "");
        while let Some((one, other)) = at.filter(|(one, other)| one != other) {
            let (one, other) = (&self.found[one], &self.found[other]);
            if !ones.is_empty() {
                reason = format!("subfields \"{key}\" conflict because {reason}");
            }
            key = one.field.node.response_key().node.as_str();
            ones.insert(0, one.field.pos);
            others.insert(0, other.field.pos);
            at = one.above.zip(other.above);
        }
        ones.extend(others);
        self.errors.push(failure(
            format!("Fields \"{key}\" conflict because {reason}. Use different aliases on the fields to fetch both if this was intentional."),
            ones,
        ));
    }
}

/// Why two fields of one object are not the same.
fn different(one: &Found, other: &Found) -> Option<String> {
    let (one, other) = (&one.field.node, &other.field.node);
    let (name, others) = (&one.name.node, &other.name.node);
    if name != others {
        return Some(format!("\"{name}\" and \"{others}\" are different fields"));
    }
    let same = one.arguments.len() == other.arguments.len()
        && one.arguments.iter().all(|(name, value)| {
            other
                .get_argument(&name.node)
                .is_some_and(|other| other.node == value.node)
        });
    (!same).then(|| "they have differing arguments".into())
}

fn alike(one: &Type, other: &Type, leaf: bool) -> bool {
    one.nullable == other.nullable
        && match (&one.base, &other.base) {
            (BaseType::List(one), BaseType::List(other)) => alike(one, other, leaf),
            (BaseType::Named(one), BaseType::Named(other)) => !leaf || one == other,
            _ => false,
        }
}
