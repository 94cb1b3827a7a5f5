//! What stands in a selection set for one concrete type: CollectFields of the specification (section 6.3.2).

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

use upstream_async_graphql::{
    ContextSelectionSet, Pos, Positioned,
    parser::types::{Field, Selection, SelectionSet},
};

/// A field of the document, or what several selections of it say together.
pub(crate) type Planned<'a> = Cow<'a, Positioned<Field>>;

/// Up to so many fields are looked through one by one, which costs less than a map.
const FEW: usize = 16;

/// The fields to answer, each response key once, in the order of the document.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    pub(crate) fields: Vec<Planned<'a>>,
    /// Response keys and their places in `fields`, once these are many.
    places: HashMap<&'a str, usize>,
}

impl<'a> Plan<'a> {
    /// Adds what `set` selects on the type `name`. `false`: there is something that only async-graphql's own resolver
    /// does, that is a custom directive (`@skip` and `@include` are gone by now). The plan is complete in any case.
    pub(crate) fn collect(
        &mut self,
        ctx: &ContextSelectionSet<'a>,
        set: &'a SelectionSet,
        name: &str,
    ) -> bool {
        let mut ours = true;
        each(ctx, set, name, &mut Vec::new(), &mut |field| {
            ours &= field.node.directives.is_empty();
            self.add(field);
        });
        ours
    }

    fn add(&mut self, field: &'a Positioned<Field>) {
        let next = self.fields.len();
        match self.place(field.node.response_key().node.as_str(), next) {
            None => self.fields.push(Cow::Borrowed(field)),
            // validation made sure that both ask for the same field with the same arguments; a leaf has nothing to add
            Some(at) if !field.node.selection_set.node.items.is_empty() => {
                let before = &mut self.fields[at].to_mut().node.selection_set.node.items;
                before.extend(field.node.selection_set.node.items.iter().cloned());
            }
            Some(_) => {}
        }
    }

    /// Where `key` stands already; if nowhere, it is about to stand at `next`.
    fn place(&mut self, key: &'a str, next: usize) -> Option<usize> {
        if next < FEW {
            return self
                .fields
                .iter()
                .position(|field| field.node.response_key().node == key);
        }
        if self.places.is_empty() {
            for (at, field) in self.fields.iter().enumerate() {
                // a merged field is a copy: its key is looked up below, not kept
                if let Cow::Borrowed(field) = field {
                    self.places
                        .insert(field.node.response_key().node.as_str(), at);
                }
            }
        }
        match self.places.entry(key) {
            Entry::Occupied(place) => Some(*place.get()),
            Entry::Vacant(place) => {
                let merged = |field: &Planned<'a>| {
                    matches!(field, Cow::Owned(_)) && field.node.response_key().node == key
                };
                let at = self.fields[..FEW].iter().position(merged);
                place.insert(at.unwrap_or(next));
                at
            }
        }
    }
}

/// Where in the document it says to answer `key` on the type `name`: all the places, for an error to name.
#[cold]
pub(crate) fn places(ctx: &ContextSelectionSet<'_>, name: &str, key: &str) -> Vec<Pos> {
    let mut places = Vec::new();
    each(ctx, &ctx.item.node, name, &mut Vec::new(), &mut |field| {
        if field.node.response_key().node == key {
            places.push(field.pos);
        }
    });
    places
}

/// The fields that `set` selects on the type `name`, in the order of the document. `spread`: fragments that were spread already; to
/// spread one again adds nothing, and would take time without bound.
fn each<'a>(
    ctx: &ContextSelectionSet<'a>,
    set: &'a SelectionSet,
    name: &str,
    spread: &mut Vec<&'a str>,
    see: &mut impl FnMut(&'a Positioned<Field>),
) {
    for selection in &set.items {
        let (condition, set) = match &selection.node {
            Selection::Field(field) => {
                see(field);
                continue;
            }
            Selection::InlineFragment(fragment) => (
                fragment.node.type_condition.as_ref(),
                &fragment.node.selection_set.node,
            ),
            Selection::FragmentSpread(fragment) => {
                let fragment_name = fragment.node.fragment_name.node.as_str();
                // an unknown fragment does not pass validation
                let Some(fragment) = ctx.query_env.fragments.get(fragment_name) else {
                    continue;
                };
                if spread.contains(&fragment_name) {
                    continue;
                }
                spread.push(fragment_name);
                (
                    Some(&fragment.node.type_condition),
                    &fragment.node.selection_set.node,
                )
            }
        };
        let applies = condition.is_none_or(|condition| {
            let on = condition.node.on.node.as_str();
            on == name
                || ctx
                    .schema_env
                    .registry
                    .types
                    .get(on)
                    .is_some_and(|ty| ty.is_possible_type(name))
        });
        if applies {
            each(ctx, set, name, spread, see);
        }
    }
}
