//! One walk over one operation.

use std::collections::HashSet;

use async_graphql::{
    Name, Positioned, Value as Given, Variables, Written,
    parser::types::{
        Directive, ExecutableDocument, Field, OperationDefinition, OperationType, Selection,
        SelectionSet,
    },
};
use resolvers::connection::DEFAULT_PAGE;

use super::{
    COMMAND, Cost, TooWide,
    prices::{Price, Priced, Prices},
};

/// What a list counts of which nothing tells how long it is.
const LIST: u64 = 5;

/// Selections in each other; the edge refuses documents that go as deep, and those whose fragments go round in circles.
const DEEPEST: u32 = 256;

pub(super) struct Walk<'a> {
    prices: &'a Prices,
    max_page_size: u64,
    document: &'a ExecutableDocument,
    operation: &'a OperationDefinition,
    variables: &'a Variables,
    left: u32,
}

/// A field that answers objects, as it is asked for.
type Asked<'a> = (&'a str, &'a Field, &'a Priced);

impl<'a> Walk<'a> {
    pub(super) fn new(
        prices: &'a Prices,
        max_page_size: u64,
        document: &'a ExecutableDocument,
        operation: &'a OperationDefinition,
        variables: &'a Variables,
    ) -> Self {
        Self {
            prices,
            max_page_size,
            document,
            operation,
            variables,
            left: TooWide::LIMIT,
        }
    }

    pub(super) fn operation(mut self, operation: &'a OperationDefinition) -> Result<Cost, TooWide> {
        let Some(root) = self.prices.root(operation.ty) else {
            return Ok(Cost::of(1, 0, 0));
        };
        let set = [&operation.selection_set.node];
        match operation.ty {
            OperationType::Query => {
                let requested = self.object(&set, root, DEEPEST)?;
                Ok(Cost::of(requested, 0, 0))
            }
            OperationType::Mutation => {
                let asked = self.asked(&set, root)?;
                let (mut requested, mut fixed) = (0_u64, 0_u64);
                for same in asked.chunk_by(|a, b| a.0 == b.0) {
                    fixed = fixed.saturating_add(COMMAND);
                    requested = requested.saturating_add(self.inside(same, DEEPEST)?);
                }
                Ok(Cost::of(requested.saturating_add(fixed), 0, fixed))
            }
            OperationType::Subscription => {
                let event = self.object(&set, root, DEEPEST)?.max(1);
                Ok(Cost::of(event.saturating_add(COMMAND), event, COMMAND))
            }
        }
    }

    /// What these sets, together, select of an object that is a `ty`.
    fn selected(
        &mut self,
        sets: &[&'a SelectionSet],
        ty: usize,
        deeper: u32,
    ) -> Result<u64, TooWide> {
        let prices = self.prices;
        let objects = &prices.kind(ty).objects;
        if objects.first() == Some(&ty) || !self.narrows(sets, ty, DEEPEST)? {
            return self.object(sets, ty, deeper);
        }
        let mut dearest = 0;
        for &object in objects {
            dearest = dearest.max(self.object(sets, object, deeper)?);
        }
        Ok(dearest)
    }

    /// The same where fragments either hold for all that `ty` can be, or for nothing of it.
    fn object(
        &mut self,
        sets: &[&'a SelectionSet],
        ty: usize,
        deeper: u32,
    ) -> Result<u64, TooWide> {
        let deeper = deeper.checked_sub(1).ok_or(TooWide)?;
        let asked = self.asked(sets, ty)?;
        let mut sum = 0_u64;
        for same in asked.chunk_by(|a, b| a.0 == b.0) {
            let inside = self.inside(same, deeper)?;
            let (_, field, priced) = same[0];
            sum = sum.saturating_add(match priced.price {
                Price::Object => inside.saturating_add(1),
                Price::List { by_ids } => {
                    let ids = if by_ids { self.length(field, "ids") } else { 0 };
                    LIST.max(ids).saturating_mul(inside.saturating_add(1))
                }
                Price::Connection => self.page(field).saturating_mul(inside).saturating_add(2),
                Price::Edges => inside.max(1),
                Price::Free => 0,
            });
        }
        Ok(sum)
    }

    /// What is selected of the objects that a field answers, which is asked for once or several times under the same key.
    fn inside(&mut self, same: &[Asked<'a>], deeper: u32) -> Result<u64, TooWide> {
        let of = same[0].2.of;
        match same {
            [(_, field, _)] => self.selected(&[&field.selection_set.node], of, deeper),
            several => {
                let sets: Vec<_> = several
                    .iter()
                    .map(|(_, field, _)| &field.selection_set.node)
                    .collect();
                self.selected(&sets, of, deeper)
            }
        }
    }

    /// The fields of a `ty` that answer objects, those of one key beside each other.
    fn asked(&mut self, sets: &[&'a SelectionSet], ty: usize) -> Result<Vec<Asked<'a>>, TooWide> {
        let mut asked = Vec::new();
        let mut spread = HashSet::new();
        for set in sets {
            self.collect(set, ty, DEEPEST, &mut spread, &mut asked)?;
        }
        if asked.len() > 1 {
            asked.sort_by_key(|(key, ..)| *key);
        }
        Ok(asked)
    }

    fn collect(
        &mut self,
        set: &'a SelectionSet,
        ty: usize,
        deeper: u32,
        spread: &mut HashSet<&'a str>,
        asked: &mut Vec<Asked<'a>>,
    ) -> Result<(), TooWide> {
        let deeper = deeper.checked_sub(1).ok_or(TooWide)?;
        for item in &set.items {
            self.step()?;
            if let Selection::Field(field) = &item.node {
                let field = &field.node;
                // a leaf costs nothing
                if !field.selection_set.node.items.is_empty()
                    && let Some(priced) = self.prices.kind(ty).fields.get(field.name.node.as_str())
                    && self.stays(&field.directives)
                {
                    asked.push((field.response_key().node.as_str(), field, priced));
                }
                continue;
            }
            if let Some((condition, set)) = self.fragment(&item.node, spread)
                && condition.is_none_or(|condition| self.prices.is_within(ty, condition))
            {
                self.collect(set, ty, deeper, spread, asked)?;
            }
        }
        Ok(())
    }

    /// Whether fragments in these sets hold for some of what `ty` can be, and not for all of it.
    fn narrows(
        &mut self,
        sets: &[&'a SelectionSet],
        ty: usize,
        deeper: u32,
    ) -> Result<bool, TooWide> {
        let mut spread = HashSet::new();
        let mut left: Vec<(&SelectionSet, u32)> = sets.iter().map(|set| (*set, deeper)).collect();
        while let Some((set, deeper)) = left.pop() {
            let deeper = deeper.checked_sub(1).ok_or(TooWide)?;
            for item in &set.items {
                self.step()?;
                if matches!(item.node, Selection::Field(_)) {
                    continue;
                }
                if let Some((condition, set)) = self.fragment(&item.node, &mut spread) {
                    if condition.is_some_and(|condition| !self.prices.is_within(ty, condition)) {
                        return Ok(true);
                    }
                    left.push((set, deeper));
                }
            }
        }
        Ok(false)
    }

    /// What a fragment holds for, if for something narrower, and what it selects. `None`: it is left out, of something unknown,
    /// or was spread in the same place before.
    fn fragment(
        &self,
        selection: &'a Selection,
        spread: &mut HashSet<&'a str>,
    ) -> Option<(Option<usize>, &'a SelectionSet)> {
        let (condition, set) = match selection {
            Selection::Field(_) => return None,
            Selection::InlineFragment(fragment) => {
                if !self.stays(&fragment.node.directives) {
                    return None;
                }
                let condition = fragment.node.type_condition.as_ref();
                (condition, &fragment.node.selection_set.node)
            }
            Selection::FragmentSpread(fragment) => {
                let name = fragment.node.fragment_name.node.as_str();
                if !self.stays(&fragment.node.directives) || !spread.insert(name) {
                    return None;
                }
                let fragment = &self.document.fragments.get(name)?.node;
                (Some(&fragment.type_condition), &fragment.selection_set.node)
            }
        };
        let condition = match condition {
            None => None,
            Some(condition) => Some(self.prices.place(&condition.node.on.node)?),
        };
        Some((condition, set))
    }

    fn step(&mut self) -> Result<(), TooWide> {
        self.left = self.left.checked_sub(1).ok_or(TooWide)?;
        Ok(())
    }

    /// Whether `@skip` and `@include` leave it in.
    fn stays(&self, directives: &[Positioned<Directive>]) -> bool {
        directives.iter().all(|directive| {
            let directive = &directive.node;
            let out = match directive.name.node.as_str() {
                "skip" => true,
                "include" => false,
                _ => return true,
            };
            let condition = directive.get_argument("if").map(|value| &value.node);
            condition.is_none_or(|condition| self.boolean(condition) != Some(out))
        })
    }

    /// The entries of a page: what the arguments of a connection ask for.
    fn page(&self, field: &Field) -> u64 {
        let number = |name| self.number(&field.get_argument(name)?.node);
        let asked = number("first").or_else(|| number("last"));
        asked.unwrap_or(DEFAULT_PAGE).min(self.max_page_size)
    }

    /// The length of the list that is given for an argument.
    fn length(&self, field: &Field, name: &str) -> u64 {
        let length = field.get_argument(name).map(|value| match &value.node {
            Written::List(list) => list.len(),
            Written::Variable(name) => match self.variable(name) {
                Some(Given::List(list)) => list.len(),
                _ => 0,
            },
            _ => 0,
        });
        u64::try_from(length.unwrap_or(0)).unwrap_or(u64::MAX)
    }

    /// A whole number; `None` for anything else, and 0 for one below it, which its resolver refuses.
    fn number(&self, value: &Written) -> Option<u64> {
        let number = match value {
            Written::Number(number) => number,
            Written::Variable(name) => match self.variable(name)? {
                Given::Number(number) => number,
                _ => return None,
            },
            _ => return None,
        };
        if number.as_i64().is_some_and(|number| number < 0) {
            return Some(0);
        }
        number.as_u64()
    }

    fn boolean(&self, value: &Written) -> Option<bool> {
        match value {
            Written::Boolean(value) => Some(*value),
            Written::Variable(name) => match self.variable(name)? {
                Given::Boolean(value) => Some(*value),
                _ => None,
            },
            _ => None,
        }
    }

    /// What was given for a variable, or else stands as its default.
    fn variable(&self, name: &Name) -> Option<&'a Given> {
        if let Some(given) = self.variables.get(name) {
            return Some(given);
        }
        let definitions = self.operation.variable_definitions.iter();
        let mut definitions = definitions.map(|definition| &definition.node);
        let definition = definitions.find(|definition| definition.name.node == *name)?;
        definition.default_value.as_ref().map(|value| &value.node)
    }
}
