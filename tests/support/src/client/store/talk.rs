//! A conversation that is open: a tree of messages, the runs that answer in it, and the branch that is shown.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{super::transcript::append, entries, text, time};

/// Messages of a page.
const PAGE: usize = 50;

/// A conversation that is open.
#[derive(Clone, Debug, Default)]
pub struct Talk {
    /// Its title and the like.
    facts: Value,
    /// The end of the branch that is shown.
    leaf: Option<String>,
    messages: BTreeMap<String, Value>,
    /// Every message that is known of, be it only as a sibling.
    kin: BTreeMap<String, Kin>,
    /// Answers that have yet to begin, by what follows them already: what each follows.
    awaited: BTreeMap<String, Option<String>>,
    runs: BTreeMap<String, Value>,
    /// Messages of which something is missing.
    broken: BTreeSet<String>,
    /// Messages that were gone by the time that something of them was told: that they were removed comes soon.
    going: BTreeSet<String>,
    /// Where a page of a branch began: what stands above was not asked for.
    cut: BTreeSet<String>,
    /// What was sent and has not come back yet, by what the sender calls it.
    pending: BTreeMap<String, String>,
    /// The same once it is known which message it became: by the message.
    became: BTreeMap<String, String>,
    /// Every message that was told of.
    told: BTreeSet<String>,
    /// Of the last event, or of the answer that it was made from.
    pub cursor: String,
}

/// What makes messages siblings, and in which order.
#[derive(Clone, Debug, PartialEq)]
struct Kin {
    parent: Option<String>,
    role: Value,
    created_at: Value,
}

fn parent(message: &Value) -> Option<String> {
    message["parentId"].as_str().map(str::to_owned)
}

impl Talk {
    /// From the answer that holds it; `None`: it is gone.
    pub fn open(answer: &Value) -> Option<Self> {
        let conversation = &answer["conversation"];
        if conversation.is_null() {
            return None;
        }
        let mut talk = Self {
            cursor: text(&conversation["cursor"]),
            ..Self::default()
        };
        talk.put_facts(conversation);
        for run in entries(&conversation["waiting"]["nodes"]) {
            talk.put_run(run);
        }
        let active = &conversation["activeRun"];
        if !active.is_null() {
            let mut run = active.clone();
            let answer = run.as_object_mut().and_then(|run| run.remove("output"));
            talk.put_run(&run);
            if let Some(answer) = answer.filter(|answer| !answer.is_null()) {
                talk.take(&answer);
            }
        }
        talk.take_branch(&conversation["messages"]);
        Some(talk)
    }

    /// A conversation that was made by sending its first message, of which nothing was told yet.
    pub fn begin(payload: &Value) -> Self {
        let mut talk = Self {
            cursor: text(&payload["cursor"]),
            ..Self::default()
        };
        talk.put_facts(&payload["conversation"]);
        // Its messages come with its events.
        talk.leaf = None;
        talk
    }

    fn put_facts(&mut self, conversation: &Value) {
        self.leaf = conversation["leaf"]["id"].as_str().map(str::to_owned);
        self.facts = json!({
            "id": conversation["id"],
            "title": conversation["title"],
            "isArchived": conversation["isArchived"],
            "agent": conversation["agent"],
        });
    }

    /// Shows what is about to be sent.
    pub fn sending(&mut self, client_id: &str, words: &str) {
        self.pending.insert(client_id.to_owned(), words.to_owned());
    }

    /// It was refused.
    pub fn not_sent(&mut self, client_id: &str) {
        self.pending.remove(client_id);
    }

    /// It was sent, and became this message, or one that is gone already.
    pub fn sent(&mut self, client_id: &str, message: Option<&str>) {
        match message.filter(|id| !self.told.contains(*id)) {
            Some(id) => {
                self.became.insert(id.to_owned(), client_id.to_owned());
            }
            None => self.not_sent(client_id),
        }
    }

    /// What was sent and has not come back.
    pub fn pending(&self) -> &BTreeMap<String, String> {
        &self.pending
    }

    /// Takes a branch in, as it is by now: what is known of a message already stays, as the events between are still to come.
    pub fn take_branch(&mut self, branch: &Value) {
        let is_cut = branch["pageInfo"]["hasPreviousPage"] == true;
        if is_cut && let Some(first) = branch["nodes"][0]["id"].as_str() {
            self.cut.insert(first.to_owned());
        }
        let mut above: Option<String> = None;
        for (at, message) in entries(&branch["nodes"]).enumerate() {
            let id = text(&message["id"]);
            self.take(message);
            if let Some(follows) = parent(message)
                && Some(&follows) != above.as_ref()
                && !(at == 0 && is_cut)
                && !self.messages.contains_key(&follows)
            {
                self.awaited.insert(follows, above.clone());
            }
            above = Some(id);
        }
    }

    /// A message of an answer.
    fn take(&mut self, message: &Value) {
        let id = text(&message["id"]);
        if let Some(run) = message.get("run")
            && let Some(run_id) = run["id"].as_str()
            && run.get("status").is_some()
            && !self.runs.contains_key(run_id)
        {
            self.put_run(run);
        }
        self.take_siblings(message);
        if !self.messages.contains_key(&id) || self.broken.remove(&id) {
            self.put(message);
        }
    }

    /// Those of a message that were not known of: of what stands on other branches nothing else may have been told.
    fn take_siblings(&mut self, message: &Value) {
        for sibling in entries(&message["siblings"]) {
            let kin = Kin {
                parent: parent(message),
                role: sibling["role"].clone(),
                created_at: sibling["createdAt"].clone(),
            };
            self.kin.entry(text(&sibling["id"])).or_insert(kin);
        }
    }

    /// Puts a message in the place of what was known of it.
    fn put(&mut self, message: &Value) {
        let mut kept = message.clone();
        if let Some(fields) = kept.as_object_mut() {
            fields.remove("siblings");
            fields.remove("text");
            let run = json!({"id": fields["run"]["id"]});
            let run = if run["id"].is_null() {
                Value::Null
            } else {
                run
            };
            fields.insert("run".to_owned(), run);
        }
        let id = text(&message["id"]);
        let kin = Kin {
            parent: parent(message),
            role: message["role"].clone(),
            created_at: message["createdAt"].clone(),
        };
        self.kin.insert(id.clone(), kin);
        self.messages.insert(id, kept);
    }

    fn put_run(&mut self, run: &Value) {
        if let Some(id) = run["id"].as_str() {
            self.runs.insert(id.to_owned(), run.clone());
        }
    }

    /// Takes an event in. To take one in twice changes nothing.
    pub fn apply(&mut self, event: &Value) {
        self.cursor = text(&event["cursor"]);
        if event.get("run").is_some_and(Value::is_object) {
            self.put_run(&event["run"]);
        }
        if event.get("message").is_some_and(Value::is_null) {
            self.going.insert(text(&event["messageId"]));
        }
        match event["__typename"].as_str().unwrap_or_default() {
            "MessageCreated" => {
                let id = text(&event["messageId"]);
                if let Some(client_id) = self.became.remove(&id) {
                    self.pending.remove(&client_id);
                }
                self.told.insert(id);
                self.created(&event["message"]);
            }
            "MessageCompleted" => {
                let message = &event["message"];
                if message.is_object() {
                    self.broken.remove(&text(&message["id"]));
                    self.put(message);
                }
            }
            "MessageUpdated" => self.updated(&event["message"]),
            "ContextCompacted" if event["message"].is_object() => self.put(&event["message"]),
            "MessagesRemoved" => {
                for id in entries(&event["messageIds"]).filter_map(Value::as_str) {
                    self.remove(id);
                }
            }
            "StepRestarted" => {
                let from = place(&event["fromPart"]);
                self.parts(event, |parts| {
                    parts.truncate(from);
                    true
                });
            }
            "TextDelta" => self.delta(event, "TextPart"),
            "ReasoningDelta" => self.delta(event, "ReasoningPart"),
            "PartAdded" => self.add(event, event["content"].clone()),
            "ToolCallStarted" => {
                let part = json!({"__typename": "ToolCallPart", "index": event["part"], "toolCall": event["toolCall"]});
                self.add(event, part);
            }
            "ToolCallFinished" => {
                let id = &event["toolCallId"];
                let parts = self.messages.values_mut();
                let parts = parts.filter_map(|message| message["parts"].as_array_mut());
                for part in parts
                    .flatten()
                    .filter(|part| part["toolCall"]["id"] == *id && !id.is_null())
                {
                    part["toolCall"] = event["toolCall"].clone();
                }
            }
            "ConversationUpdated" if event["conversation"].is_object() => {
                self.put_facts(&event["conversation"]);
            }
            _ => {}
        }
    }

    fn created(&mut self, message: &Value) {
        // One that is gone by the time of delivery: it is told that it was removed.
        if message.is_null() {
            return;
        }
        let id = text(&message["id"]);
        if let Some(client_id) = message["clientId"].as_str() {
            self.pending.remove(client_id);
        }
        let follows = parent(message);
        let shows = if message["role"] == "USER" {
            // What is said goes on from where it stands.
            true
        } else {
            // An answer shows where its question is the end of the branch, and nobody has asked for another one since.
            let newer = self.runs.values().any(|run| {
                run["status"] == "QUEUED"
                    && run["input"]["id"].as_str() == follows.as_deref()
                    && run["id"] != message["run"]["id"]
                    && self
                        .runs
                        .get(message["run"]["id"].as_str().unwrap_or_default())
                        .is_some_and(|own| time(&own["createdAt"]) < time(&run["createdAt"]))
            });
            message["role"] == "ASSISTANT" && self.leaf == follows && !newer
        };
        let is_known = self.messages.contains_key(&id) && self.is_over(&id);
        if shows {
            self.leaf = Some(id);
        }
        if !is_known {
            self.put(message);
        }
        self.take_siblings(message);
    }

    /// Whether a message changes no more, by what is known.
    fn is_over(&self, id: &str) -> bool {
        self.messages
            .get(id)
            .is_some_and(|message| message["status"] != "STREAMING")
    }

    fn updated(&mut self, message: &Value) {
        if message.is_null() {
            return;
        }
        self.broken.remove(&text(&message["id"]));
        self.put(message);
        self.take_siblings(message);
    }

    fn remove(&mut self, id: &str) {
        let above = self
            .messages
            .remove(id)
            .and_then(|message| parent(&message));
        self.kin.remove(id);
        self.broken.remove(id);
        self.going.remove(id);
        for follows in self.awaited.values_mut() {
            if follows.as_deref() == Some(id) {
                follows.clone_from(&above);
            }
        }
        if self.leaf.as_deref() == Some(id) {
            self.leaf = above;
        }
    }

    /// Changes the parts of the message that an event is about; one that is not known is of no branch that was asked for.
    fn parts(&mut self, event: &Value, change: impl FnOnce(&mut Vec<Value>) -> bool) {
        let id = text(&event["messageId"]);
        // Whole since: this is an event from before it was read.
        if self.is_over(&id) {
            return;
        }
        let Some(message) = self.messages.get_mut(&id) else {
            return;
        };
        if let Some(parts) = message["parts"].as_array_mut()
            && !change(parts)
        {
            self.broken.insert(id);
        }
    }

    fn add(&mut self, event: &Value, part: Value) {
        let at = place(&event["part"]);
        self.parts(event, |parts| {
            if parts.len() == at {
                parts.push(part);
            }
            parts.len() > at
        });
    }

    fn delta(&mut self, event: &Value, kind: &str) {
        let (at, offset) = (place(&event["part"]), place(&event["offset"]));
        let id = text(&event["messageId"]);
        self.parts(event, |parts| {
            if parts.len() == at && offset == 0 {
                parts.push(json!({"__typename": kind, "index": at, "text": ""}));
            }
            let Some(part) = parts.get_mut(at) else {
                return false;
            };
            let mut said = text(&part["text"]);
            if part["__typename"] != kind || said.encode_utf16().count() < offset {
                return false;
            }
            // Where it is known already, nothing changes.
            let _known = append(&mut said, event, &id, at);
            part["text"] = said.into();
            true
        });
    }

    /// The message that a branch has to be asked for through, where something of the branch that is shown is not known.
    pub fn wants(&self) -> Option<String> {
        let leaf = self.leaf.clone()?;
        self.branch()
            .is_none_or(|branch| branch.iter().any(|id| self.broken.contains(id)))
            .then_some(leaf)
    }

    /// The branch that is shown; `None`: a part of it is not known.
    fn branch(&self) -> Option<Vec<String>> {
        let mut branch = Vec::new();
        let mut at = self.leaf.clone();
        while let Some(id) = at {
            if let Some(message) = self.messages.get(&id) {
                at = parent(message);
                branch.push(id);
            } else {
                match self.awaited.get(&id) {
                    Some(follows) => at = follows.clone(),
                    None if branch.last().is_some_and(|below| self.cut.contains(below)) => break,
                    None => return None,
                }
            }
            if branch.len() > self.messages.len() + self.awaited.len() {
                return None;
            }
        }
        branch.reverse();
        Some(branch)
    }

    /// The siblings of a message, itself among them, in the order of their creation.
    fn siblings(&self, id: &str) -> Vec<Value> {
        let Some(own) = self.kin.get(id) else {
            return Vec::new();
        };
        let mut siblings: Vec<(&String, &Kin)> = self
            .kin
            .iter()
            .filter(|(_, kin)| kin.parent == own.parent && kin.role == own.role)
            .collect();
        siblings.sort_by_key(|(id, kin)| (time(&kin.created_at), (*id).clone()));
        let fields = |(id, kin): (&String, &Kin)| json!({"id": id, "role": kin.role, "createdAt": kin.created_at});
        siblings.into_iter().map(fields).collect()
    }

    /// The conversation's id.
    pub fn id(&self) -> String {
        text(&self.facts["id"])
    }

    /// Whether it is put aside.
    pub fn is_archived(&self) -> bool {
        self.facts["isArchived"] == true
    }

    /// The run that is under way.
    pub fn active(&self) -> Option<&Value> {
        let under_way = |run: &&Value| run["status"] == "RUNNING" || run["status"] == "WAITING";
        self.runs.values().find(under_way)
    }

    /// The runs that are known of.
    pub fn runs(&self) -> impl Iterator<Item = &Value> {
        self.runs.values()
    }

    /// The messages at the end of the branch that is shown, as many as a page has, with their siblings and runs.
    pub fn messages(&self) -> Vec<Value> {
        let branch = self.branch().unwrap_or_default();
        let shown = branch[branch.len().saturating_sub(PAGE)..]
            .iter()
            .map(|id| {
                let mut message = self.messages[id].clone();
                message["siblings"] = self.siblings(id).into();
                if let Some(run) = message["run"]["id"]
                    .as_str()
                    .and_then(|id| self.runs.get(id))
                {
                    message["run"] = run.clone();
                }
                message
            });
        shown.collect()
    }

    /// What is shown, as [`Talk::answered`] makes it of the query's answer.
    pub fn shown(&self) -> Value {
        let mut waiting: Vec<&Value> = self
            .runs
            .values()
            .filter(|run| run["status"] == "QUEUED")
            .collect();
        waiting.sort_by_key(|run| text(&run["id"]));
        json!({
            "facts": self.facts,
            "leaf": self.leaf,
            "activeRun": self.active(),
            "waiting": waiting.iter().map(|run| &run["id"]).collect::<Vec<_>>(),
            "messages": self.messages(),
        })
    }

    /// Where the query's answer says otherwise of its messages and of the run that is under way, when both stand at the same cursor,
    /// be it in the middle of an answer. What else there is may be known from a later moment.
    pub fn contradicts(&self, answer: &Value) -> Vec<(Value, Value)> {
        let conversation = &answer["conversation"];
        let nodes = entries(&conversation["messages"]["nodes"]);
        let stay =
            nodes.filter(|node| !self.going.contains(node["id"].as_str().unwrap_or_default()));
        let of_messages = stay.map(|node| {
            let known = self.messages.get(node["id"].as_str().unwrap_or_default());
            let fields = |message: &Value| {
                json!({"id": message["id"], "status": message["status"], "parentId": message["parentId"], "parts": message["parts"],
                    "rating": message["rating"], "usage": message["usage"], "updatedAt": message["updatedAt"]})
            };
            (known.map_or(Value::Null, fields), fields(node))
        });
        let of_run = |run: &Value| json!({"id": run["id"], "status": run["status"], "usage": run["usage"], "attempts": run["attempts"]});
        let none = Value::Null;
        let runs = (
            of_run(self.active().unwrap_or(&none)),
            of_run(&conversation["activeRun"]),
        );
        of_messages
            .chain([runs])
            .filter(|(known, told)| known != told)
            .collect()
    }

    /// What the query's answer shows.
    pub fn answered(answer: &Value) -> Value {
        let conversation = &answer["conversation"];
        let mut active = conversation["activeRun"].clone();
        if let Some(run) = active.as_object_mut() {
            run.remove("output");
        }
        let mut waiting: Vec<String> = entries(&conversation["waiting"]["nodes"])
            .map(|run| text(&run["id"]))
            .collect();
        waiting.sort();
        let facts = ["id", "title", "isArchived", "agent"];
        let facts: serde_json::Map<String, Value> = facts
            .iter()
            .map(|name| ((*name).to_owned(), conversation[*name].clone()))
            .collect();
        json!({
            "facts": facts,
            "leaf": conversation["leaf"]["id"],
            "activeRun": active,
            "waiting": waiting,
            "messages": conversation["messages"]["nodes"],
        })
    }
}

/// A place or a length; one that is neither is beyond all that is known.
fn place(value: &Value) -> usize {
    let place = value.as_u64().and_then(|value| usize::try_from(value).ok());
    place.unwrap_or(usize::MAX)
}
