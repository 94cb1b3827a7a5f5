//! What an answer shows of the tenant, held against who may see it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Who,
    world::{SECRET_NUMBER, World},
};

/// Ids and words in a text: what stands between characters that are in none.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .filter(|token| !token.is_empty())
}

/// What stands in a document that was sent shows nothing when it comes back.
pub fn said(document: &str) -> BTreeSet<&str> {
    tokens(document).collect()
}

/// What is secret: every word of the tenant's, and every id that its owner was answered.
pub struct Secrets<'a> {
    pub world: &'a World,
    pub ids: BTreeSet<String>,
}

impl Secrets<'_> {
    fn is_secret(&self, who: Who, token: &str) -> bool {
        let known = self.ids.contains(token) || self.world.words.contains(token);
        known && !self.world.may_see(who, token)
    }

    /// What an answer shows that this caller may not see, each with its place. A count is right where it counts what is shown.
    pub fn leaks(&self, who: Who, answer: &Value, said: &BTreeSet<&str>) -> Vec<String> {
        let mut leaks = Vec::new();
        self.look(who, answer, ("", "", "answer"), said, &mut leaks);
        leaks
    }

    fn look(
        &self,
        who: Who,
        value: &Value,
        (outer, inner, path): (&str, &str, &str),
        said: &BTreeSet<&str>,
        leaks: &mut Vec<String>,
    ) {
        match value {
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    let path = format!("{path}.{at}");
                    self.look(who, item, (outer, inner, &path), said, leaks);
                }
            }
            Value::Object(fields) => {
                let kind = fields.get("__typename").and_then(Value::as_str);
                let kind = kind.unwrap_or(inner);
                if let Some(wrong) = miscounted(value) {
                    leaks.push(format!("{path}: {wrong}"));
                }
                // What was used is told of the tenant and its agents to nobody here, of a conversation to whom it is shown.
                let used = &fields.get("runs").unwrap_or(&Value::Null);
                let is_used = !used.is_null() && used.as_i64() != Some(0) && *used != "0";
                if kind == "UsageSummary" && inner != "Conversation" && is_used {
                    leaks.push(format!("{path}: what was used: {used}"));
                }
                for (name, field) in fields {
                    // An entry names what it is about, whatever became of it.
                    if kind == "AuditEntry" && name == "targetId" && who == Who::Platform {
                        continue;
                    }
                    let path = format!("{path}.{name}");
                    self.look(who, field, (inner, kind, &path), said, leaks);
                }
            }
            Value::String(text) => {
                for token in tokens(text) {
                    if self.is_secret(who, token) && !said.contains(token) {
                        leaks.push(format!("{path}: {token}"));
                    }
                }
            }
            Value::Number(number) if number.as_i64() == Some(SECRET_NUMBER) => {
                leaks.push(format!("{path}: {number}"));
            }
            _ => {}
        }
    }
}

fn miscounted(value: &Value) -> Option<String> {
    let (count, nodes) = (value["totalCount"].as_u64()?, value["nodes"].as_array()?);
    let page = &value["pageInfo"];
    let is_whole = page["hasNextPage"] == false && page["hasPreviousPage"] == false;
    let shown = nodes.len() as u64;
    let is_right = if is_whole {
        count == shown
    } else {
        count > shown
    };
    (!is_right).then(|| format!("{count} are counted, {shown} shown"))
}

/// Everything in an answer: the words and ids as they stand, and the names of types.
pub fn all_tokens(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| all_tokens(item, into)),
        Value::Object(fields) => fields.values().for_each(|field| all_tokens(field, into)),
        Value::String(text) => into.extend(tokens(text).map(str::to_owned)),
        _ => {}
    }
}

/// The ids of an answer, by the type of what has them.
pub fn ids_by_type(value: &Value, into: &mut BTreeMap<String, BTreeSet<String>>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| ids_by_type(item, into)),
        Value::Object(fields) => {
            if let (Some(kind), Some(id)) = (value["__typename"].as_str(), value["id"].as_str()) {
                into.entry(kind.to_owned())
                    .or_default()
                    .insert(id.to_owned());
            }
            fields.values().for_each(|field| ids_by_type(field, into));
        }
        _ => {}
    }
}

/// Names of fields that change by themselves.
const RESTLESS: [&str; 6] = [
    "lastSeenAt",
    "lastUsedAt",
    "cursor",
    "rateLimit",
    "isCurrent",
    "queuePosition",
];

/// Types that change by themselves: sums come late, and refusals are written down.
const RESTLESS_TYPES: [&str; 3] = ["AuditEntry", "UsageSummary", "ModelHealth"];

/// The state of each thing of an answer, by its id: every field of it, those of parts that have no id among them.
pub type State = BTreeMap<String, BTreeMap<String, Value>>;

/// Takes an answer in.
pub fn take_in(value: &Value, state: &mut State) {
    note(value, None, "", state);
}

fn note(value: &Value, thing: Option<&str>, path: &str, state: &mut State) {
    match value {
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                note(item, thing, &format!("{path}.{at}"), state);
            }
        }
        Value::Object(fields) => {
            let kind = value["__typename"].as_str().unwrap_or_default();
            if RESTLESS_TYPES.contains(&kind) {
                return;
            }
            // A list is noted by what is in it: what is new in it may be the asker's own.
            let is_list = fields.contains_key("pageInfo");
            let id = value["id"].as_str().map(|id| format!("{kind} {id}"));
            if let (Some(id), Some(thing)) = (&id, thing) {
                let fields = state.entry(thing.to_owned()).or_default();
                fields.insert(path.to_owned(), id.as_str().into());
            }
            let (thing, path) = match &id {
                Some(id) => (Some(id.as_str()), ""),
                None if is_list => (None, ""),
                None => (thing, path),
            };
            for (name, field) in fields {
                // A session lasts longer with each day that it is used.
                let is_restless =
                    RESTLESS.contains(&name.as_str()) || kind == "Session" && name == "expiresAt";
                if !is_restless {
                    note(field, thing, &format!("{path}.{name}"), state);
                }
            }
        }
        leaf => {
            if let Some(thing) = thing {
                let fields = state.entry(thing.to_owned()).or_default();
                fields.insert(path.to_owned(), leaf.clone());
            }
        }
    }
}
