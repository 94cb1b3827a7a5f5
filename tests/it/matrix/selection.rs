//! Selections of all there is in a type, down to a depth: each a fragment, so that documents stay short however much they stand for.

use std::collections::{BTreeMap, BTreeSet};

use async_graphql_parser::types::FieldDefinition;
use serde_json::Value;

use super::sdl::{Sdl, is_needed, named};

/// Selections that the server takes in one document, fragments spread out, less what stands around them.
const MOST: usize = 18_000;

struct Fragment {
    text: String,
    size: usize,
    spreads: BTreeSet<String>,
}

/// All fragments so far, by name.
pub struct Selections<'a> {
    sdl: &'a Sdl,
    fragments: BTreeMap<String, Fragment>,
    /// Names of fields that are of several types: in one answer they can't stand beside each other by that name.
    ambiguous: BTreeSet<&'a str>,
}

/// Stands between a field's name and its type where the name alone would be ambiguous.
const OF: &str = "__";

/// An answer by the names of the fields alone.
pub fn plain(answer: Value) -> Value {
    match answer {
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| {
                let short = name.split_once(OF).map_or("", |(short, _)| short);
                let name = if short.is_empty() { &name } else { short };
                (name.to_owned(), plain(value))
            });
            Value::Object(fields.collect())
        }
        leaf => leaf,
    }
}

/// One field at the root of a document.
#[derive(Clone)]
pub struct Root {
    /// With its arguments.
    pub call: String,
    /// The fragment that is selected of it; none of a leaf.
    pub fragment: Option<String>,
}

/// A document and the root fields in it, aliased `r0`, `r1`, ….
pub struct Document {
    pub text: String,
    pub roots: Vec<Root>,
}

impl<'a> Selections<'a> {
    pub fn new(sdl: &'a Sdl) -> Self {
        let mut types = BTreeMap::new();
        let mut ambiguous = BTreeSet::new();
        for field in sdl.all_fields() {
            let (name, ty) = (field.name.node.as_str(), field.ty.node.to_string());
            if *types.entry(name).or_insert_with(|| ty.clone()) != ty {
                ambiguous.insert(name);
            }
        }
        Self {
            sdl,
            fragments: BTreeMap::new(),
            ambiguous,
        }
    }

    /// What a field is asked for by.
    fn call(&self, of: &str, field: &FieldDefinition) -> String {
        let (name, call) = (field.name.node.as_str(), call(of, field));
        if self.ambiguous.contains(name) {
            let ty = field
                .ty
                .node
                .to_string()
                .replace('!', "N")
                .replace(['[', ']'], "L");
            format!("{name}{OF}{ty}: {call}")
        } else {
            call
        }
    }

    /// The fragment that selects all there is in a type and `depth` objects further.
    pub fn of(&mut self, ty: &str, depth: usize) -> String {
        let name = format!("{ty}{depth}");
        if !self.fragments.contains_key(&name) {
            let fragment = self.write(&name, ty, depth);
            self.fragments.insert(name.clone(), fragment);
        }
        name
    }

    fn write(&mut self, name: &str, ty: &str, depth: usize) -> Fragment {
        let mut text = format!("fragment {name} on {ty} {{ __typename");
        let (mut size, mut spreads) = (1, BTreeSet::new());
        let mut spread = |this: &mut Self, ty: &str, depth| {
            let inner = this.of(ty, depth);
            size += this.fragments[&inner].size + 2;
            spreads.insert(inner.clone());
            inner
        };
        if let Some(possible) = self.sdl.possible(ty) {
            for possible in possible {
                let inner = spread(self, possible, depth);
                text += &format!(" ...{inner}");
            }
        } else {
            for field in self.sdl.fields(ty) {
                let of = named(&field.ty.node);
                let call = self.call(ty, field);
                if !self.sdl.is_composite(of) {
                    text += &format!(" {call}");
                    continue;
                }
                // A page is no step further, and what stands on its edges stands in its nodes, too.
                let below = match field.name.node.as_str() {
                    "edges" => Some(0),
                    "node" | "nodes" | "pageInfo" => Some(depth),
                    _ => depth.checked_sub(1),
                };
                if let Some(below) = below {
                    let inner = spread(self, of, below);
                    text += &format!(" {call} {{ ...{inner} }}");
                }
            }
        }
        text += " }";
        size += text.split_whitespace().count();
        Fragment {
            text,
            size,
            spreads,
        }
    }

    /// What the call of one field stands for, spread out.
    fn size(&self, root: &Root) -> usize {
        let fragment = root.fragment.as_ref();
        1 + fragment.map_or(0, |name| self.fragments[name].size)
    }

    /// As few documents as hold these root fields.
    pub fn documents(&self, kind: &str, roots: &[Root]) -> Vec<Document> {
        let mut documents = Vec::new();
        let mut from = 0;
        while from < roots.len() {
            let (mut to, mut size) = (from, 0);
            while to < roots.len() && (to == from || size + self.size(&roots[to]) < MOST) {
                size += self.size(&roots[to]);
                to += 1;
            }
            documents.push(self.document(kind, &roots[from..to]));
            from = to;
        }
        documents
    }

    fn document(&self, kind: &str, roots: &[Root]) -> Document {
        let mut text = format!("{kind} {{");
        let mut open: Vec<&String> = Vec::new();
        for (at, Root { call, fragment }) in roots.iter().enumerate() {
            text += &format!(" r{at}: {call}");
            if let Some(name) = fragment {
                text += &format!(" {{ ...{name} }}");
                open.push(name);
            }
        }
        text += " }\n";
        let mut written = BTreeSet::new();
        while let Some(name) = open.pop() {
            if written.insert(name) {
                let fragment = &self.fragments[name];
                text += &fragment.text;
                text.push('\n');
                open.extend(&fragment.spreads);
            }
        }
        Document {
            text,
            roots: roots.to_vec(),
        }
    }
}

/// A field below the root with what it can't do without, and pages of five.
fn call(of: &str, field: &FieldDefinition) -> String {
    let mut arguments = Vec::new();
    for argument in &field.arguments {
        let name = argument.node.name.node.as_str();
        match name {
            // Of the tenant's lists all there is.
            "first" if of == "Tenant" => arguments.push("first: 20".to_owned()),
            "first" => arguments.push("first: 5".to_owned()),
            "against" => arguments.push("against: 1".to_owned()),
            _ => assert!(
                !is_needed(&argument.node),
                "{of}.{}: the matrix has no value for `{name}`",
                field.name.node
            ),
        }
    }
    let name = &field.name.node;
    if arguments.is_empty() {
        name.to_string()
    } else {
        format!("{name}({})", arguments.join(", "))
    }
}
