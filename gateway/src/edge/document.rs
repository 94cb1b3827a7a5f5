//! Documents: parsed once, kept by their text, and held to limits that need no schema.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use async_graphql::{
    ServerError, check_typenames, may_be_raw, merge_root,
    parser::{
        parse_query,
        types::{ExecutableDocument, Selection, SelectionSet},
    },
};

use super::{
    Code, Refused, roots,
    trusted::{Trusted, Wanted},
};
use crate::config::Limits;

/// Brackets in each other. The parser goes down a call for each, and gives up itself at 64 selections in each other.
const MAX_NESTING: usize = 64;

/// Selections in each other, those of fragments counted where they are spread: later passes go down a call for each.
const MAX_LEVELS: usize = 128;

/// Selections of a document with its fragments spread out. Fragments that spread each other twice double at each step, so
/// that a small document can stand for more than could ever be visited.
const MAX_SELECTIONS: usize = 20_000;

/// Values that an introspection may answer, as [`length`] foresees them: no bucket pays for it, and a type leads to the types of its
/// fields again without an end. The query that tools ask takes about a third.
const MAX_INTROSPECTED: usize = 1_000_000;

/// Bytes of text that the cache holds in each of its two generations. A parsed document takes about twenty times its text.
const GENERATION_BYTES: usize = 128 * 1024;

/// Reads documents and keeps the latest ones.
#[derive(Debug)]
pub(super) struct Documents {
    max_bytes: usize,
    max_depth: usize,
    max_aliases: usize,
    trusted: Trusted,
    /// Whether the schema may be asked for.
    introspection: bool,
    kept: Mutex<Kept>,
}

/// A document and what is known of it without the schema.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) document: Arc<ExecutableDocument>,
    /// Whether each key stands once at the roots: else a mutation would happen twice.
    pub(super) roots_once: bool,
    pub(super) may_be_raw: bool,
}

/// Two generations: what is used is moved to the young one, and when that is full the old one goes.
#[derive(Debug, Default)]
struct Kept {
    young: HashMap<Arc<str>, Arc<Parsed>>,
    young_bytes: usize,
    old: HashMap<Arc<str>, Arc<Parsed>>,
}

impl Documents {
    pub(super) fn new(limits: &Limits, trusted: Trusted, introspection: bool) -> Self {
        Self {
            max_bytes: limits.max_document_bytes,
            max_depth: limits.max_depth,
            max_aliases: limits.max_aliases,
            trusted,
            introspection,
            kept: Mutex::default(),
        }
    }

    /// The text of the document that is asked for, before anything of it is read.
    ///
    /// # Errors
    /// See [`Trusted::text`].
    pub(super) fn text(&self, wanted: Wanted) -> Result<String, Refused> {
        self.trusted.text(wanted)
    }

    /// The document of `text`.
    ///
    /// # Errors
    /// INVALID_INPUT for syntax, size and the root of a subscription, QUERY_TOO_COMPLEX for depth, aliases and the number of selections.
    pub(super) fn read(&self, text: &str) -> Result<Arc<Parsed>, Refused> {
        if text.len() > self.max_bytes {
            let message = format!(
                "`query` has {} bytes, at most {} are allowed",
                text.len(),
                self.max_bytes
            );
            return Err(Refused::invalid(message).over(self.max_bytes, text.len()));
        }
        if let Some(parsed) = self.kept().get(text) {
            return Ok(parsed);
        }
        let nesting = nesting(text);
        if nesting > MAX_NESTING {
            let message = format!(
                "`query` has {nesting} brackets in each other, at most {MAX_NESTING} are allowed"
            );
            return Err(Refused::invalid(message).over(MAX_NESTING, nesting));
        }
        let wrong = |error: ServerError| Refused {
            locations: error.locations,
            ..Refused::invalid(error.message)
        };
        let mut document = parse_query(text).map_err(|error| wrong(error.into()))?;
        self.measure(&document)?;
        check_typenames(&document).map_err(wrong)?;
        let roots_once = merge_root(&mut document);
        roots::of_subscriptions(&document)?;
        let may_be_raw = may_be_raw(&document);
        let parsed = Arc::new(Parsed {
            document: Arc::new(document),
            roots_once,
            may_be_raw,
        });
        self.kept().put(text.into(), parsed.clone());
        Ok(parsed)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(&self, document: &ExecutableDocument) -> Result<(), Refused> {
        let mut measure = Measure {
            document,
            introspection: self.introspection,
            selections: 0,
            depth: 0,
            aliases: 0,
            introspected: 0,
            times: 1,
            spread: HashSet::new(),
        };
        for (_, operation) in document.operations.iter() {
            measure.introspected = 0;
            measure.scope(&operation.node.selection_set.node, 1, 1)?;
        }
        // those that nothing spreads are visited by later passes too
        for (name, fragment) in &document.fragments {
            if !measure.spread.contains(name.as_str()) {
                measure.scope(&fragment.node.selection_set.node, 1, 1)?;
            }
        }
        let refuse = |message: String, limit, actual| {
            Err(Refused::new(Code::QueryTooComplex, message).over(limit, actual))
        };
        let (depth, aliases) = (measure.depth, measure.aliases);
        if depth > self.max_depth {
            return refuse(
                format!(
                    "the query is {depth} levels deep, at most {} are allowed",
                    self.max_depth
                ),
                self.max_depth,
                depth,
            );
        }
        if aliases > self.max_aliases {
            let message = format!(
                "a field has {aliases} aliases, at most {} are allowed",
                self.max_aliases
            );
            return refuse(message, self.max_aliases, aliases);
        }
        Ok(())
    }
}

impl Kept {
    fn get(&mut self, text: &str) -> Option<Arc<Parsed>> {
        if let Some(parsed) = self.young.get(text) {
            return Some(parsed.clone());
        }
        let (text, parsed) = self.old.remove_entry(text)?;
        self.put(text, parsed.clone());
        Some(parsed)
    }

    fn put(&mut self, text: Arc<str>, parsed: Arc<Parsed>) {
        if text.len() > GENERATION_BYTES / 4 {
            return;
        }
        if self.young_bytes + text.len() > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += text.len();
        self.young.insert(text, parsed);
    }
}

/// The most brackets in each other, outside of strings and comments. Unbalanced ones are the parser's to refuse.
fn nesting(text: &str) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' | b'(' => {
                now += 1;
                most = most.max(now);
            }
            b'}' | b']' | b')' => now = now.saturating_sub(1),
            b'#' => {
                at += bytes[at..]
                    .iter()
                    .take_while(|b| !matches!(b, b'\n' | b'\r'))
                    .count();
            }
            b'"' if bytes[at..].starts_with(b"\"\"") => {
                at += 2;
                while at < bytes.len() && !bytes[at..].starts_with(b"\"\"\"") {
                    at += if bytes[at..].starts_with(b"\\\"\"\"") {
                        4
                    } else {
                        1
                    };
                }
                at += 3;
            }
            b'"' => {
                while at < bytes.len() && !matches!(bytes[at], b'"' | b'\n' | b'\r') {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            _ => {}
        }
    }
    most
}

struct Measure<'a> {
    document: &'a ExecutableDocument,
    introspection: bool,
    selections: usize,
    depth: usize,
    aliases: usize,
    /// Values that introspection is foreseen to answer.
    introspected: usize,
    /// How often the selections that are looked at are answered, within introspection.
    times: usize,
    spread: HashSet<&'a str>,
}

impl<'a> Measure<'a> {
    /// One selection set with the fragments spread in it: the fields of one object.
    fn scope(&mut self, set: &'a SelectionSet, depth: usize, level: usize) -> Result<(), Refused> {
        let mut aliased = Vec::new();
        self.gather(set, depth, level, &mut aliased)?;
        aliased.sort_unstable();
        aliased.dedup();
        let most = aliased.chunk_by(|a, b| a.0 == b.0).map(<[_]>::len).max();
        self.aliases = self.aliases.max(most.unwrap_or(0));
        Ok(())
    }

    fn gather(
        &mut self,
        set: &'a SelectionSet,
        depth: usize,
        level: usize,
        aliased: &mut Vec<(&'a str, &'a str)>,
    ) -> Result<(), Refused> {
        if level > MAX_LEVELS {
            let message =
                format!("the query with its fragments is more than {MAX_LEVELS} selections deep");
            return Err(Refused::new(Code::QueryTooComplex, message).over(MAX_LEVELS, level));
        }
        for item in &set.items {
            self.selections += 1;
            if self.selections > MAX_SELECTIONS {
                let message = format!(
                    "the query with its fragments has more than {MAX_SELECTIONS} selections"
                );
                return Err(Refused::new(Code::QueryTooComplex, message)
                    .over(MAX_SELECTIONS, self.selections));
            }
            match &item.node {
                Selection::Field(field) => {
                    let name = field.node.name.node.as_str();
                    if !self.introspection && matches!(name, "__schema" | "__type") {
                        return Err(Refused {
                            locations: vec![item.pos],
                            ..Refused::invalid("introspection is turned off on this server")
                        });
                    }
                    if let Some(alias) = &field.node.alias {
                        aliased.push((name, alias.node.as_str()));
                    }
                    let introspection = depth == 0 || name.starts_with("__");
                    if !introspection {
                        self.depth = self.depth.max(depth);
                    }
                    let times = self.times;
                    if introspection {
                        self.introspect(name)?;
                    }
                    // depth 0: inside of introspection, whose own depth does not count
                    self.scope(
                        &field.node.selection_set.node,
                        if introspection { 0 } else { depth + 1 },
                        level + 1,
                    )?;
                    self.times = times;
                }
                Selection::InlineFragment(fragment) => {
                    self.gather(&fragment.node.selection_set.node, depth, level + 1, aliased)?;
                }
                Selection::FragmentSpread(spread) => {
                    if let Some((name, fragment)) = self
                        .document
                        .fragments
                        .get_key_value(&spread.node.fragment_name.node)
                    {
                        self.spread.insert(name);
                        self.gather(&fragment.node.selection_set.node, depth, level + 1, aliased)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A field of introspection, and how often what is selected of it is answered.
    fn introspect(&mut self, field: &str) -> Result<(), Refused> {
        self.times = self.times.saturating_mul(length(field));
        self.introspected = self.introspected.saturating_add(self.times);
        if self.introspected > MAX_INTROSPECTED {
            let message = format!(
                "the introspection answers about {} values or more, at most {MAX_INTROSPECTED} are allowed",
                self.introspected
            );
            return Err(Refused::new(Code::QueryTooComplex, message)
                .over(MAX_INTROSPECTED, self.introspected));
        }
        Ok(())
    }
}

/// How long a list of introspection is, about.
fn length(field: &str) -> usize {
    match field {
        "types" => 200,
        "fields" | "inputFields" | "possibleTypes" | "enumValues" => 10,
        "directives" => 5,
        "args" | "interfaces" => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> Documents {
        Documents {
            max_bytes: 32_768,
            max_depth: 15,
            max_aliases: 30,
            trusted: Trusted::default(),
            introspection: true,
            kept: Mutex::default(),
        }
    }

    fn deep(levels: usize) -> String {
        format!("{}a{}", "{a".repeat(levels - 1) + "{", "}".repeat(levels))
    }

    #[test]
    fn limits_name_themselves_and_the_value() {
        let aliases = |n: usize| {
            format!(
                "{{ {} }}",
                (0..n).map(|i| format!("a{i}: name ")).collect::<String>()
            )
        };
        let chain: String = (0..200)
            .map(|i| format!("fragment f{i} on Q {{ ...f{} }} ", i + 1))
            .collect();
        let double: String = (0..40)
            .map(|i| format!("fragment f{i} on Q {{ ...f{n} ...f{n} }} ", n = i + 1))
            .collect();
        let introspection = format!("{{ __schema {} }}", deep(20));
        let split = format!(
            "{{ ...f {} }} fragment f on Q {{ {} }}",
            "x: name",
            (0..30).map(|i| format!("a{i}: name ")).collect::<String>()
        );
        type Case = (&'static str, String, Option<(Code, u64, u64)>);
        let cases: &[Case] = &[
            ("15 levels", deep(15), None),
            ("16 levels", deep(16), Some((Code::QueryTooComplex, 15, 16))),
            (
                "levels in fragments",
                format!("{{ ...f }} fragment f on Q {}", deep(16)),
                Some((Code::QueryTooComplex, 15, 16)),
            ),
            ("levels of introspection", introspection, None),
            (
                "introspection in a circle",
                format!(
                    "{{ __schema {{ types {} }} }}",
                    "{ fields { type ".repeat(4) + "{ name }" + &"} }".repeat(4)
                ),
                Some((Code::QueryTooComplex, 1_000_000, 2_444_201)),
            ),
            (
                "introspection under many names",
                format!(
                    "{{ {} }}",
                    (0..30)
                        .map(|i| format!(
                            "a{i}: __schema {{ {} }} ",
                            (0..30)
                                .map(|j| format!("t{j}: types {{ name fields {{ name }} }} "))
                                .collect::<String>()
                        ))
                        .collect::<String>()
                ),
                Some((Code::QueryTooComplex, 1_000_000, 1_001_208)),
            ),
            ("65 brackets", deep(65), Some((Code::InvalidInput, 64, 65))),
            (
                "many brackets",
                "{a".repeat(16_000),
                Some((Code::InvalidInput, 64, 16_000)),
            ),
            (
                "brackets in a value",
                format!("{{ a(b: {}) }}", "[".repeat(20_000)),
                Some((Code::InvalidInput, 64, 20_002)),
            ),
            (
                "brackets in strings",
                format!(
                    "{{ a(b: \"{{\\\"{0}\", c: \"\"\"{0}\\\"\"\"{0}\"\"\") }} # {0}",
                    "[".repeat(100)
                ),
                None,
            ),
            ("30 aliases", aliases(30), None),
            (
                "31 aliases",
                aliases(31),
                Some((Code::QueryTooComplex, 30, 31)),
            ),
            (
                "aliases in a fragment",
                split,
                Some((Code::QueryTooComplex, 30, 31)),
            ),
            (
                "a chain of fragments",
                format!("{{ ...f0 }} {chain}"),
                Some((Code::QueryTooComplex, 128, 129)),
            ),
            (
                "fragments that double",
                format!("{{ ...f0 }} {double} fragment f40 on Q {{ a }}"),
                Some((Code::QueryTooComplex, 20_000, 20_001)),
            ),
            (
                "a cycle",
                "{ ...f } fragment f on Q { ...f }".to_owned(),
                Some((Code::QueryTooComplex, 128, 129)),
            ),
            (
                "too long",
                format!("{{ a }} #{}", "x".repeat(32_768)),
                Some((Code::InvalidInput, 32_768, 32_775)),
            ),
        ];
        for (name, text, expected) in cases {
            let got = documents().read(text);
            match expected {
                None => assert!(got.is_ok(), "{name}: {}", got.unwrap_err()),
                Some((code, limit, actual)) => {
                    let refused = got.expect_err(name);
                    assert_eq!(
                        (refused.code, refused.limit, refused.actual),
                        (*code, Some(*limit), Some(*actual)),
                        "{name}: {refused}"
                    );
                }
            }
        }
    }

    #[test]
    fn syntax_errors_have_a_place() {
        let refused = documents().read("{ a").unwrap_err();
        assert_eq!(refused.code, Code::InvalidInput);
        assert_eq!(refused.locations.len(), 1);
        for text in [
            "",
            "}",
            "{ a(b: \"",
            "\"\"\"",
            "# {",
            "{ a } \u{0}",
            "query A { a } query A { a }",
        ] {
            assert!(documents().read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let documents = documents();
        let used = documents.read("{ used }").unwrap();
        for i in 0..2000 {
            documents
                .read(&format!("{{ a{i} }} #{}", "x".repeat(1000)))
                .unwrap();
            assert!(
                Arc::ptr_eq(&used, &documents.read("{ used }").unwrap()),
                "{i}"
            );
        }
        let kept = documents.kept();
        let bytes: usize = kept
            .young
            .keys()
            .chain(kept.old.keys())
            .map(|text| text.len())
            .sum();
        assert!(bytes <= 2 * GENERATION_BYTES, "{bytes}");
    }
}
