//! Lists that stay as they are on the server.

use std::{cmp::Reverse, collections::BTreeMap};

use serde_json::{Value, json};

use super::{entries, text, time};

/// The conversations in the sidebar, and the agents and models that one can choose from.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    conversations: BTreeMap<String, Value>,
    agents: BTreeMap<String, Value>,
    models: BTreeMap<String, Value>,
    /// Names of agents, of those too that are gone: what they have said stays.
    names: BTreeMap<String, Value>,
    /// Of the last change that was told, or of the answer that the lists were made from.
    pub cursor: String,
}

impl Lists {
    /// From the answers that hold them; the first one's cursor is where to go on.
    pub fn open(sidebar: &Value, pickers: &Value) -> Self {
        let mut lists = Self {
            cursor: text(&sidebar["viewer"]["cursor"]),
            ..Self::default()
        };
        for row in entries(&sidebar["conversations"]["nodes"]) {
            lists.put_conversation(row);
        }
        for row in entries(&pickers["agents"]["nodes"]) {
            lists.put_agent(row);
        }
        for row in entries(&pickers["models"]["nodes"]) {
            lists.models.insert(text(&row["id"]), row.clone());
        }
        lists
    }

    /// Takes in what is told of a change.
    pub fn apply(&mut self, change: &Value) {
        self.cursor = text(&change["cursor"]);
        let id = text(&change["id"]);
        let is_deleted = change["action"] == "DELETED";
        match change["__typename"].as_str().unwrap_or_default() {
            "ConversationChange" => {
                let row = &change["conversation"];
                if is_deleted || row.is_null() {
                    self.conversations.remove(&id);
                } else {
                    self.put_conversation(row);
                }
            }
            "AgentChange" => {
                let row = &change["agent"];
                if is_deleted || row.is_null() {
                    self.agents.remove(&id);
                } else {
                    self.put_agent(row);
                }
            }
            "ModelChange" => {
                let row = &change["model"];
                if is_deleted || row.is_null() {
                    self.models.remove(&id);
                } else {
                    self.models.insert(id, row.clone());
                }
            }
            _ => {}
        }
    }

    fn put_agent(&mut self, row: &Value) {
        let id = text(&row["id"]);
        self.names.insert(id.clone(), row["name"].clone());
        self.agents.insert(id, row.clone());
    }

    fn put_conversation(&mut self, row: &Value) {
        if let Some(id) = row["agent"]["id"].as_str() {
            self.names
                .insert(id.to_owned(), row["agent"]["name"].clone());
        }
        self.conversations.insert(text(&row["id"]), row.clone());
    }

    /// The sidebar: what is not put aside, most recently active first.
    pub fn sidebar(&self) -> Vec<Value> {
        let mut rows: Vec<Value> = self
            .conversations
            .values()
            .filter(|row| row["isArchived"] == false)
            .cloned()
            .collect();
        for row in &mut rows {
            if let Some(name) = row["agent"]["id"]
                .as_str()
                .and_then(|id| self.names.get(id))
            {
                row["agent"]["name"] = name.clone();
            }
        }
        rows.sort_by_cached_key(|row| Reverse((time(&row["lastActivityAt"]), text(&row["id"]))));
        rows
    }

    /// The agents that one can choose, by id.
    pub fn agents(&self) -> Vec<Value> {
        let enabled = self.agents.values().filter(|row| row["isEnabled"] == true);
        enabled.cloned().collect()
    }

    /// The models that one can choose, by id.
    pub fn models(&self) -> Vec<Value> {
        let chat = self.models.values().filter(|row| row["kind"] == "CHAT");
        chat.cloned().collect()
    }

    /// All of it, as [`Lists::answered`] makes it of the queries' answers.
    pub fn shown(&self) -> Value {
        json!({"conversations": self.sidebar(), "agents": self.agents(), "models": self.models()})
    }

    /// What the queries' answers show, in the same order.
    pub fn answered(sidebar: &Value, pickers: &Value) -> Value {
        let by_id = |rows: &Value| {
            let mut rows: Vec<Value> = entries(rows).cloned().collect();
            rows.sort_by_cached_key(|row| text(&row["id"]));
            rows
        };
        json!({
            "conversations": sidebar["conversations"]["nodes"],
            "agents": by_id(&pickers["agents"]["nodes"]),
            "models": by_id(&pickers["models"]["nodes"]),
        })
    }
}
