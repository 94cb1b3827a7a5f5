//! One device of somebody: the lists at the side and the conversation that is open, kept by what the operations answer and tell.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use support::client::{Client, Closed, Lists, Subscription, Talk, Transcript};
use tokio::task::JoinHandle;

use crate::{operations::document, scene::PATIENCE};

/// Nobody waits for an event.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Moments that are remembered of a conversation.
const LATELY: usize = 40;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The conversation that is open.
#[derive(Default)]
struct Shared {
    talk: Mutex<Talk>,
    /// The same events, held against the rules of the log.
    transcript: Mutex<Transcript>,
    /// As it was after each of the newest events.
    lately: Mutex<VecDeque<Talk>>,
    /// How often each kind of event was told.
    census: Arc<Mutex<BTreeMap<String, usize>>>,
    /// Where its events begin.
    origin: String,
    /// Something of it was read from a later moment than the rest, since it last stood still.
    is_ahead: AtomicBool,
    /// It was begun anew, so that its events begin elsewhere.
    is_anew: AtomicBool,
    /// It was deleted.
    is_gone: AtomicBool,
}

impl Shared {
    fn remember(&self) {
        if self.is_ahead.load(Ordering::Relaxed) {
            return;
        }
        let talk = lock(&self.talk).clone();
        let mut lately = lock(&self.lately);
        lately.push_back(talk);
        if lately.len() > LATELY {
            lately.pop_front();
        }
    }
}

struct Open {
    id: String,
    shared: Arc<Shared>,
    follows: JoinHandle<()>,
}

impl Open {
    /// Its events, in few words.
    fn told(&self) -> Vec<String> {
        let transcript = lock(&self.shared.transcript);
        transcript.events.iter().map(told).collect()
    }
}

pub struct Device {
    pub name: &'static str,
    client: Client,
    lists: Arc<Mutex<Lists>>,
    follows: JoinHandle<()>,
    open: Option<Open>,
    sent: usize,
    /// How often it was seen that what is shown is what the query says, whatever ran.
    pub looks: usize,
    /// How often each kind of event was told so far.
    pub census: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Drop for Device {
    fn drop(&mut self) {
        self.follows.abort();
        self.close();
    }
}

impl Device {
    /// Opens the page.
    pub async fn new(name: &'static str, client: &Client) -> Self {
        let lists = Arc::new(Mutex::new(snapshot_of_lists(client).await));
        let follows = tokio::spawn(follow_lists(client.clone(), lists.clone()));
        Self {
            name,
            client: client.clone(),
            lists,
            follows,
            open: None,
            sent: 0,
            looks: 0,
            census: Arc::default(),
        }
    }

    /// Throws all away and opens the page anew, with the conversation that was open.
    pub async fn reload(&mut self) {
        self.follows.abort();
        let open = self.open_id();
        self.close();
        *lock(&self.lists) = snapshot_of_lists(&self.client).await;
        self.follows = tokio::spawn(follow_lists(self.client.clone(), self.lists.clone()));
        if let Some(id) = open {
            self.open(&id).await;
        }
    }

    /// Breaks the socket of the lists off and comes back.
    pub fn drop_lists(&mut self) {
        self.follows.abort();
        self.follows = tokio::spawn(follow_lists(self.client.clone(), self.lists.clone()));
    }

    /// Breaks the socket of the conversation off and comes back.
    pub fn drop_talk(&mut self) {
        if let Some(open) = &mut self.open {
            open.follows.abort();
            open.follows = tokio::spawn(follow_talk(
                self.client.clone(),
                open.id.clone(),
                open.shared.clone(),
            ));
        }
    }

    /// Closes the conversation that is open.
    pub fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.follows.abort();
        }
    }

    /// Opens a conversation by what it is and where its log stands.
    pub async fn open(&mut self, id: &str) {
        self.close();
        if let Some(talk) = snapshot_of_talk(&self.client, id).await {
            self.follow(id, talk);
        }
    }

    fn follow(&mut self, id: &str, talk: Talk) {
        let shared = Arc::new(Shared {
            origin: talk.cursor.clone(),
            talk: Mutex::new(talk),
            census: self.census.clone(),
            ..Shared::default()
        });
        let follows = follow_talk(self.client.clone(), id.to_owned(), shared.clone());
        self.open = Some(Open {
            id: id.to_owned(),
            shared,
            follows: tokio::spawn(follows),
        });
    }

    /// The id of the conversation that is open.
    pub fn open_id(&self) -> Option<String> {
        self.open.as_ref().map(|open| open.id.clone())
    }

    /// What is shown of the conversation that is open.
    pub fn talk(&self) -> Option<Talk> {
        self.open
            .as_ref()
            .map(|open| lock(&open.shared.talk).clone())
    }

    /// What is shown of the lists.
    pub fn lists(&self) -> Lists {
        lock(&self.lists).clone()
    }

    /// Does something that may be refused, as what is shown may be what was.
    pub async fn act(&self, operation: &str, input: Value) -> Option<Value> {
        let variables = json!({ "input": input });
        let answer = self.client.ok(&document(operation), variables).await;
        let payload = answer
            .as_object()
            .and_then(|fields| fields.values().next())
            .cloned()
            .unwrap_or_default();
        let refusals = payload["errors"].as_array().cloned().unwrap_or_default();
        for refusal in &refusals {
            let code = refusal["code"].as_str().unwrap_or_default();
            assert!(
                matches!(code, "CONFLICT" | "NOT_FOUND"),
                "{operation} with {input}: {refusal}"
            );
        }
        refusals.is_empty().then_some(payload)
    }

    /// Says something, which is shown before it is sent. In a new conversation it is the events that fill it.
    pub async fn send(&mut self, mut input: Value) {
        self.sent += 1;
        let client_id = format!("{}-{}", self.name, self.sent);
        input["clientId"] = client_id.clone().into();
        let words = input["text"].as_str().unwrap_or_default().to_owned();
        let is_new = input.get("conversationId").is_none();
        if let (false, Some(open)) = (is_new, &self.open) {
            lock(&open.shared.talk).sending(&client_id, &words);
        }
        let sent = self.act("SendMessage", input).await;
        match (is_new, sent) {
            (true, Some(payload)) => {
                let id = payload["conversation"]["id"].as_str().unwrap_or_default();
                self.close();
                self.follow(id, Talk::begin(&payload));
            }
            (false, sent) => {
                if let Some(open) = &self.open {
                    let mut talk = lock(&open.shared.talk);
                    match sent {
                        Some(payload) => talk.sent(&client_id, payload["message"]["id"].as_str()),
                        None => talk.not_sent(&client_id),
                    }
                }
            }
            (true, None) => {}
        }
    }

    /// Waits until something happens in the conversation that is open, where something runs in it.
    pub async fn watch(&self) {
        let Some(open) = &self.open else { return };
        let before = lock(&open.shared.talk).cursor.clone();
        support::wait::until(PATIENCE, "something happens", async || {
            let talk = lock(&open.shared.talk);
            let is_over = talk.active().is_none() || open.shared.is_gone.load(Ordering::Relaxed);
            (is_over || talk.cursor != before || open.follows.is_finished()).then_some(())
        })
        .await;
    }

    /// Asks for the conversation that is open while something runs, and holds it against what was shown at the same cursor. Answers
    /// whether there was such a moment: pieces that come joined have one cursor.
    pub async fn glance(&self) -> bool {
        let Some(open) = &self.open else { return false };
        let variables = json!({ "id": open.id });
        let answer = self
            .client
            .ok(&document("OpenConversation"), variables)
            .await;
        let cursor = &answer["conversation"]["cursor"];
        // The event of that cursor is on its way, or was.
        let comes = tokio::time::timeout(
            Duration::from_millis(100),
            support::wait::until(PATIENCE, "the event of a cursor", async || {
                let lately = lock(&open.shared.lately);
                lately.iter().find(|talk| *cursor == talk.cursor).cloned()
            }),
        );
        let Ok(shown) = comes.await else { return false };
        let differ = shown.contradicts(&answer);
        assert!(
            differ.is_empty(),
            "{} showed {} at {cursor} otherwise than the query says: {differ:#?}\nits events: {:#?}",
            self.name,
            open.id,
            open.told()
        );
        true
    }

    /// Nothing runs: all that was told of the conversation is told again, and is the same.
    pub async fn is_told_the_same(&self) {
        let Some(open) = &self.open else { return };
        if open.shared.is_anew.load(Ordering::Relaxed) {
            return;
        }
        let (told_then, removed): (BTreeMap<String, Value>, _) = {
            let transcript = lock(&open.shared.transcript);
            let events = transcript.events.iter();
            let told = events
                .map(|event| (event["cursor"].to_string(), lasting(event)))
                .collect();
            (told, transcript.removed().clone())
        };
        let end = lock(&open.shared.talk).cursor.clone();
        let variables = json!({ "id": open.id, "after": open.shared.origin });
        if open.shared.origin == end {
            return;
        }
        let mut events = subscribe(&self.client, "ConversationLive", variables).await;
        let told_again = events
            .until(|event| event["conversationEvents"]["cursor"] == end)
            .await;
        events.close().await;
        for event in &told_again {
            let event = &event["conversationEvents"];
            // Pieces come joined with others than then.
            if event["__typename"]
                .as_str()
                .is_some_and(|kind| kind.ends_with("Delta"))
            {
                continue;
            }
            let (now, then) = (lasting(event), told_then.get(&event["cursor"].to_string()));
            let then = then.unwrap_or_else(|| panic!("{} was never told {event:#}", self.name));
            let mut then = then.clone();
            forget(&mut then, &now);
            // A branch that ended with a message that is gone by now ends with what is left of it.
            let leaf = &then["conversation"]["leaf"];
            if leaf["id"].as_str().is_some_and(|id| removed.contains(id)) {
                then["conversation"]["leaf"] = now["conversation"]["leaf"].clone();
            }
            let differ = differences(&then, &now);
            assert!(
                differ.is_empty(),
                "{} is told otherwise than then: {differ:#?}\n{now:#}",
                self.name
            );
        }
    }

    /// Nothing runs: what is shown is what the queries say.
    pub async fn agrees(&mut self) {
        self.lists_agree().await;
        self.talk_agrees().await;
    }

    async fn lists_agree(&self) {
        let what = format!("the lists of {} are what the queries say", self.name);
        support::wait::until_so(PATIENCE / 4, &what, async || {
            assert!(!self.follows.is_finished(), "nobody follows the lists");
            let variables = json!({ "first": 100 });
            let sidebar = self.client.ok(&document("Sidebar"), variables).await;
            let pickers = self.client.ok(&document("Pickers"), json!({})).await;
            let differ = differences(
                &lock(&self.lists).shown(),
                &Lists::answered(&sidebar, &pickers),
            );
            if differ.is_empty() {
                Ok(())
            } else {
                Err(differ)
            }
        })
        .await;
    }

    /// At the same place of the log both are the same at once; there is nothing to wait for but that place.
    async fn talk_agrees(&mut self) {
        let Some(open) = &self.open else { return };
        let what = format!("{} is where its conversation is", self.name);
        support::wait::until_so(PATIENCE / 4, &what, async || {
            let asked = document("OpenConversation");
            let variables = json!({ "id": open.id });
            if open.shared.is_gone.load(Ordering::Relaxed) {
                let data = self.client.ok(&asked, variables).await;
                assert_eq!(data["conversation"], Value::Null);
                return Ok(());
            }
            assert!(!open.follows.is_finished(), "nobody follows {}", open.id);
            let answer = self.client.ok(&asked, variables).await;
            let talk = lock(&open.shared.talk);
            let cursor = &answer["conversation"]["cursor"];
            if *cursor != talk.cursor || talk.wants().is_some() {
                return Err(format!(
                    "it stands at {}, the query at {cursor}, and misses {:?}",
                    talk.cursor,
                    talk.wants()
                ));
            }
            let differ = differences(&talk.shown(), &Talk::answered(&answer));
            assert!(
                differ.is_empty(),
                "{} shows {} otherwise than the query says: {differ:#?}\nits events: {:#?}",
                self.name,
                open.id,
                open.told()
            );
            assert!(talk.pending().is_empty(), "{:?}", talk.pending());
            open.shared.is_ahead.store(false, Ordering::Relaxed);
            Ok(())
        })
        .await;
        lock(&open.shared.transcript).assert_faultless();
        if open.shared.is_gone.load(Ordering::Relaxed) {
            self.close();
        }
    }
}

/// What of an event never changes: siblings come later.
fn lasting(event: &Value) -> Value {
    let mut event = event.clone();
    if let Some(message) = event["message"].as_object_mut() {
        message.remove("siblings");
    }
    event
}

/// Forgets objects that are gone by now, which are null.
fn forget(then: &mut Value, now: &Value) {
    if now.is_null() && then.get("id").is_some() {
        *then = Value::Null;
    } else if let Value::Object(fields) = then {
        for (name, field) in fields {
            forget(field, &now[name.as_str()]);
        }
    }
}

/// An event in few words.
fn told(event: &Value) -> String {
    let mut event = event.clone();
    let kind = event["__typename"].as_str().unwrap_or_default().to_owned();
    if kind.ends_with("Delta") {
        return format!("{kind} {} at {}", event["messageId"], event["offset"]);
    }
    if let Some(fields) = event.as_object_mut() {
        fields.remove("cursor");
    }
    let message = &event["message"];
    let run = &event["run"];
    format!(
        "{kind} run {} {} {} message {} {} below {} leaf {} {}",
        event["runId"],
        run["status"],
        run["trigger"],
        event["messageId"],
        message["role"],
        message["parentId"],
        event["conversation"]["leaf"]["id"],
        event["messageIds"],
    )
}

/// Where two values differ, the first few places.
fn differences(shown: &Value, answered: &Value) -> Vec<String> {
    fn walk(path: &str, shown: &Value, answered: &Value, found: &mut Vec<String>) {
        match (shown, answered) {
            (Value::Object(one), Value::Object(other)) => {
                let names: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
                for name in names {
                    let path = format!("{path}.{name}");
                    walk(&path, &shown[name], &answered[name], found);
                }
            }
            (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
                for (at, (one, other)) in one.iter().zip(other).enumerate() {
                    walk(&format!("{path}[{at}]"), one, other, found);
                }
            }
            (Value::Array(one), Value::Array(other)) => {
                let ids = |of: &[Value]| of.iter().map(|it| it["id"].clone()).collect::<Vec<_>>();
                found.push(format!("{path}: {:?} for {:?}", ids(one), ids(other)));
            }
            _ if shown != answered => found.push(format!("{path}: {shown} for {answered}")),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk("", shown, answered, &mut found);
    found.truncate(12);
    found
}

async fn snapshot_of_lists(client: &Client) -> Lists {
    let sidebar = client
        .ok(&document("Sidebar"), json!({ "first": 100 }))
        .await;
    let pickers = client.ok(&document("Pickers"), json!({})).await;
    Lists::open(&sidebar, &pickers)
}

async fn snapshot_of_talk(client: &Client, id: &str) -> Option<Talk> {
    let answer = client
        .ok(&document("OpenConversation"), json!({ "id": id }))
        .await;
    Talk::open(&answer)
}

/// Subscribes, over as many attempts as it takes.
async fn subscribe(client: &Client, operation: &str, variables: Value) -> Subscription {
    support::wait::until(PATIENCE, "somebody to follow", async || {
        match client
            .try_subscribe(&document(operation), variables.clone())
            .await
        {
            Ok(taken) => Some(taken),
            Err(closed) if closed.is_a_break() => None,
            Err(closed) => panic!("{operation}: {closed}"),
        }
    })
    .await
}

/// How the server ended it for good, if it did: the error's code.
fn refused(ended: Option<&Closed>) -> Option<String> {
    match ended {
        Some(Closed::Refused(errors)) => Some(
            errors[0]["extensions"]["code"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        ),
        Some(closed) if closed.is_a_break() => None,
        other => panic!("ended: {other:?}"),
    }
}

async fn follow_lists(client: Client, lists: Arc<Mutex<Lists>>) {
    loop {
        let after = lock(&lists).cursor.clone();
        let mut changes = subscribe(&client, "SidebarLive", json!({ "after": after })).await;
        while let Some(change) = changes.next(FOR_EVER).await {
            lock(&lists).apply(&change["changes"]);
        }
        match refused(changes.ended()).as_deref() {
            None => {}
            Some("CURSOR_EXPIRED") => {
                let anew = snapshot_of_lists(&client).await;
                *lock(&lists) = anew;
            }
            Some(code) => panic!("the lists are told no more: {code}"),
        }
    }
}

async fn follow_talk(client: Client, id: String, shared: Arc<Shared>) {
    loop {
        fill(&client, &id, &shared).await;
        let after = lock(&shared.talk).cursor.clone();
        let variables = json!({ "id": id, "after": after });
        let mut events = subscribe(&client, "ConversationLive", variables).await;
        while let Some(event) = events.next(FOR_EVER).await {
            let event = &event["conversationEvents"];
            let kind = event["__typename"].as_str().unwrap_or_default();
            *lock(&shared.census).entry(kind.to_owned()).or_default() += 1;
            lock(&shared.transcript).apply(event);
            lock(&shared.talk).apply(event);
            shared.remember();
            fill(&client, &id, &shared).await;
        }
        match refused(events.ended()).as_deref() {
            None => {}
            Some("NOT_FOUND") => return gone(&shared).await,
            Some("CURSOR_EXPIRED") => match snapshot_of_talk(&client, &id).await {
                Some(talk) => {
                    *lock(&shared.talk) = talk;
                    *lock(&shared.transcript) = Transcript::default();
                    shared.is_anew.store(true, Ordering::Relaxed);
                }
                None => return gone(&shared).await,
            },
            Some(code) => panic!("{id} is told no more: {code}"),
        }
    }
}

async fn gone(shared: &Shared) {
    shared.is_gone.store(true, Ordering::Relaxed);
}

/// Asks for the branch that is shown, where something of it is not known.
async fn fill(client: &Client, id: &str, shared: &Shared) {
    let Some(through) = lock(&shared.talk).wants() else {
        return;
    };
    shared.is_ahead.store(true, Ordering::Relaxed);
    lock(&shared.lately).clear();
    let variables = json!({ "id": id, "through": through });
    match client.query(&document("Branch"), variables).await {
        Ok(answer) => lock(&shared.talk).take_branch(&answer["conversation"]["messages"]),
        // It is gone since; that is still to be told.
        Err(errors) => assert_eq!(errors.code(), "NOT_FOUND", "{errors:?}"),
    }
}
