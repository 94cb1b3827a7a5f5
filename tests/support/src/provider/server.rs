//! The server: who asks for which model, and what was asked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::{
    anthropic,
    control::{control, decoded},
    gemini,
    http::{Connection, Request},
    ollama, openai,
    play::{End, Play, refusal},
    script::{Asked, Script, Turn, Wire},
};
use crate::{lock, wait::within};

/// Who broke an answer off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Who asked.
    Client,
    /// The provider, as it was told.
    Script,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is being answered.
    UnderWay,
    /// The answer was sent to its end, be it a refusal.
    Finished,
    /// It was broken off.
    Dropped(Side),
}

/// A request for an answer, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// In order of arrival, from 1.
    pub number: u64,
    /// The model's name; empty when there was none.
    pub model: String,
    /// The wire it came over.
    pub wire: Wire,
    /// Of the request.
    pub path: String,
    /// Of the request, empty when there is none.
    pub query: String,
    /// Of the request, by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// Of the request; null when it was no JSON.
    pub body: Value,
    /// What became of it.
    pub outcome: Outcome,
    /// Length of what was sent of the answer's body, in bytes.
    pub bytes: usize,
    /// The gate it waits at.
    pub waits_for: Option<String>,
    /// When it came, in milliseconds since the provider's start, by a clock that only goes forward.
    pub at_ms: u64,
    /// When its outcome was known.
    pub ended_ms: Option<u64>,
    /// Whether it asks for the title of a conversation. Such calls are no part of a model's script, and of no other list.
    pub is_title: bool,
}

/// How the instructions begin by which a title is asked for.
const ENTITLES: &str = "You write the title of a conversation";

/// Whether a request asks for the title of a conversation.
fn is_title(body: &Value) -> bool {
    let system = [
        &body["messages"][0]["content"],
        &body["system"],
        &body["systemInstruction"],
    ];
    system
        .iter()
        .any(|system| !system.is_null() && system.to_string().contains(ENTITLES))
}

struct Scripted {
    script: Script,
    /// How many calls it has had.
    calls: usize,
}

/// What the connections of a provider share.
pub(super) struct Shared {
    scripts: Mutex<HashMap<String, Scripted>>,
    titles: Mutex<Scripted>,
    calls: Mutex<BTreeMap<u64, Call>>,
    last: AtomicU64,
    gates: watch::Sender<BTreeSet<String>>,
    /// Told whenever a call changes.
    changed: watch::Sender<()>,
    started: Instant,
}

impl Shared {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn script(&self, model: &str, script: Script) {
        lock(&self.scripts).insert(model.to_owned(), Scripted { script, calls: 0 });
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        let calls = lock(&self.calls);
        let calls = calls.values().filter(|call| !call.is_title);
        calls.cloned().collect()
    }

    fn titles(&self) -> Vec<Call> {
        let calls = lock(&self.calls);
        let calls = calls.values().filter(|call| call.is_title);
        calls.cloned().collect()
    }

    pub(super) fn forget_calls(&self) {
        lock(&self.calls).clear();
    }

    pub(super) fn set_gate(&self, gate: &str, is_open: bool) {
        self.gates.send_modify(|open| {
            if is_open {
                open.insert(gate.to_owned());
            } else {
                open.remove(gate);
            }
        });
    }

    /// Resolves once the gate is open.
    pub(super) async fn gate(&self, gate: &str) {
        // The sender is ours, so waiting ends in no other way.
        let mut gates = self.gates.subscribe();
        let _open = gates.wait_for(|open| open.contains(gate)).await.is_ok();
    }

    pub(super) fn sent(&self, number: u64, bytes: usize) {
        self.change(number, |call| call.bytes += bytes);
    }

    pub(super) fn waits(&self, number: u64, gate: Option<&str>) {
        self.change(number, |call| call.waits_for = gate.map(str::to_owned));
    }

    fn ended(&self, number: u64, outcome: Outcome) {
        let now = self.now_ms();
        self.change(number, |call| {
            (call.outcome, call.waits_for, call.ended_ms) = (outcome, None, Some(now));
        });
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Call)) {
        if let Some(call) = lock(&self.calls).get_mut(&number) {
            change(call);
        }
        self.changed.send_modify(|()| {});
    }

    fn began(&self, wire: Wire, model: &str, request: &Request, body: &Value) -> u64 {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let call = Call {
            number,
            model: model.to_owned(),
            wire,
            path: request.path.clone(),
            query: request.query.clone(),
            headers: request.headers.clone(),
            body: body.clone(),
            outcome: Outcome::UnderWay,
            bytes: 0,
            waits_for: None,
            at_ms: self.now_ms(),
            ended_ms: None,
            is_title: is_title(body),
        };
        lock(&self.calls).insert(number, call);
        self.changed.send_modify(|()| {});
        number
    }

    /// The turn for a request; nothing when no such model is known.
    fn turn(&self, asked: &mut Asked) -> Option<Turn> {
        if is_title(&asked.body) {
            let script = {
                let mut titles = lock(&self.titles);
                asked.n = titles.calls;
                titles.calls += 1;
                titles.script.clone()
            };
            return Some(script.turn(asked));
        }
        let script = {
            let mut scripts = lock(&self.scripts);
            match scripts.get_mut(&asked.model) {
                Some(scripted) => {
                    asked.n = scripted.calls;
                    scripted.calls += 1;
                    scripted.script.clone()
                }
                None => Script::by_name(&asked.model)?,
            }
        };
        Some(script.turn(asked))
    }

    fn knows(&self, model: &str) -> bool {
        lock(&self.scripts).contains_key(model) || Script::by_name(model).is_some()
    }

    fn names(&self) -> Vec<String> {
        let names: BTreeSet<String> = lock(&self.scripts)
            .keys()
            .cloned()
            .chain(["tokens-20-10".to_owned()])
            .collect();
        names.into_iter().collect()
    }
}

/// A provider that listens on a port of its own until it is dropped.
pub struct Provider {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Holds the listener and every connection; they end with it.
    _tasks: JoinSet<()>,
}

impl Provider {
    /// Starts one on a free port of the loopback interface.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn start() -> Self {
        Self::on(0).await.expect("a free port")
    }

    /// Starts one on a port of the loopback interface.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn on(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            scripts: Mutex::default(),
            titles: Mutex::new(Scripted {
                script: Script::text("Warp and weft"),
                calls: 0,
            }),
            calls: Mutex::default(),
            last: AtomicU64::new(0),
            gates: watch::Sender::default(),
            changed: watch::Sender::default(),
            started: Instant::now(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, shared.clone()));
        Ok(Self {
            address,
            shared,
            _tasks: tasks,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base address of its API, as clients are configured with: `http://127.0.0.1:PORT/v1`. For all wires, Azure's and
    /// Ollama's included, as whatever stands before their own path will do.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Says how a model behaves from now on; its calls are counted anew.
    pub fn script(&self, model: &str, script: impl Into<Script>) {
        self.shared.script(model, script.into());
    }

    /// Says how every model behaves from now on where it is asked for a title; as long as nothing is said, `Warp and weft` is the
    /// title of everything.
    pub fn script_titles(&self, script: impl Into<Script>) {
        let script = script.into();
        *lock(&self.shared.titles) = Scripted { script, calls: 0 };
    }

    /// Every call for a title so far, in order of arrival.
    pub fn titles(&self) -> Vec<Call> {
        self.shared.titles()
    }

    /// Opens a gate, for all that wait there and all that come.
    pub fn open_gate(&self, gate: &str) {
        self.shared.set_gate(gate, true);
    }

    /// Closes a gate again.
    pub fn close_gate(&self, gate: &str) {
        self.shared.set_gate(gate, false);
    }

    /// Every call so far, in order of arrival, those for titles apart.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls()
    }

    /// The calls of one model, in order of arrival.
    pub fn calls_of(&self, model: &str) -> Vec<Call> {
        self.calls()
            .into_iter()
            .filter(|call| call.model == model)
            .collect()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.shared.forget_calls();
    }

    /// Waits until the calls so far are as wanted, and answers them. It looks whenever a call changes.
    ///
    /// # Panics
    ///
    /// With `what` when they are not within the deadline.
    pub async fn until_calls(
        &self,
        deadline: Duration,
        what: &str,
        wanted: impl Fn(&[Call]) -> bool,
    ) -> Vec<Call> {
        let mut changed = self.shared.changed.subscribe();
        let calls = async {
            loop {
                changed.mark_unchanged();
                let calls = self.calls();
                if wanted(&calls) {
                    return calls;
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        within(deadline, what, calls).await
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        // An accept that fails (too many open files) is tried again: there is nobody to tell.
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, shared.clone()));
        } else {
            tokio::task::yield_now().await;
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Answers the requests of one connection, one after the other.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let Ok(mut connection) = Connection::new(stream) else {
        return;
    };
    while let Ok(Some(request)) = connection.request().await {
        let goes_on = if let Some(wire) = wire_of(&request) {
            answer(&mut connection, &shared, wire, &request).await
        } else {
            let (status, body) = other(&shared, &request);
            connection
                .answer(status, &BTreeMap::new(), body.to_string().as_bytes())
                .await
                .is_ok()
        };
        if !goes_on
            || request
                .headers
                .get("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close"))
        {
            return;
        }
    }
}

/// The wire of a request that asks a model. Whatever stands before `/chat/completions` or `/messages` will do, as
/// clients differ in whether the version belongs to the base address.
fn wire_of(request: &Request) -> Option<Wire> {
    if request.method != "POST" {
        return None;
    }
    let ends = |end: &str| request.path.ends_with(end);
    if ends("/chat/completions") {
        Some(Wire::OpenAi)
    } else if ends("/messages") {
        Some(Wire::Anthropic)
    } else if ends(":generateContent") || ends(":streamGenerateContent") {
        Some(Wire::Gemini)
    } else if ends("/api/chat") {
        Some(Wire::Ollama)
    } else {
        None
    }
}

/// The model that a request asks for. Gemini and Azure have it in the path.
fn model_of(wire: Wire, request: &Request, body: &Value) -> String {
    let segment = |after: &str, until: &str| {
        let (_, rest) = request.path.split_once(after)?;
        let (name, _) = rest.split_once(until)?;
        Some(decoded(name))
    };
    let in_path = match wire {
        Wire::Gemini => segment("/models/", ":"),
        Wire::OpenAi => segment("/openai/deployments/", "/"),
        Wire::Anthropic | Wire::Ollama => None,
    };
    in_path.unwrap_or_else(|| body["model"].as_str().unwrap_or_default().to_owned())
}

/// Whether the answer is a stream, by each wire's own rule.
fn is_streamed(wire: Wire, request: &Request, body: &Value) -> bool {
    match wire {
        Wire::OpenAi | Wire::Anthropic => body["stream"] == true,
        Wire::Gemini => request.path.ends_with(":streamGenerateContent"),
        Wire::Ollama => body["stream"] != false,
    }
}

fn other(shared: &Shared, request: &Request) -> (u16, Value) {
    if let Some(path) = request.path.strip_prefix("/control/") {
        return control(shared, request, path);
    }
    let has = |header: &str| request.headers.contains_key(header);
    let wire = if has("anthropic-version") {
        Wire::Anthropic
    } else if has("x-goog-api-key") {
        Wire::Gemini
    } else if request.path.contains("/api/") {
        Wire::Ollama
    } else {
        Wire::OpenAi
    };
    let end = request.path.rsplit('/').next().unwrap_or_default();
    match (request.method.as_str(), wire, end) {
        ("GET", Wire::OpenAi, "models") => (200, openai::models(&shared.names())),
        ("GET", Wire::Anthropic, "models") => (200, anthropic::models(&shared.names())),
        ("GET", Wire::Gemini, "models") => (200, gemini::models(&shared.names())),
        ("GET", Wire::Ollama, "tags") => (200, ollama::models(&shared.names())),
        ("POST", Wire::Ollama, "show") => {
            let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let name = body["model"].as_str().unwrap_or_default();
            if shared.knows(name) {
                (200, ollama::shown())
            } else {
                let message = format!("model '{name}' not found");
                (404, refusal(wire, 404, &message, None))
            }
        }
        _ => (404, refusal(wire, 404, "no such address", None)),
    }
}

/// Whether the connection can take another request.
async fn answer(
    connection: &mut Connection,
    shared: &Shared,
    wire: Wire,
    request: &Request,
) -> bool {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let model = model_of(wire, request, &body);
    let is_streamed = is_streamed(wire, request, &body);
    let number = shared.began(wire, &model, request, &body);
    let mut asked = Asked {
        model,
        wire,
        n: 0,
        headers: request.headers.clone(),
        body,
    };
    let turn = shared.turn(&mut asked).unwrap_or_else(|| unknown(&asked));
    let end = Play::new(connection, shared, number, &asked, &turn, is_streamed)
        .run()
        .await;
    match end {
        End::Finished(goes_on) => {
            shared.ended(number, Outcome::Finished);
            goes_on
        }
        End::Dropped(side) => {
            shared.ended(number, Outcome::Dropped(side));
            false
        }
    }
}

/// What a model answers that there is not.
fn unknown(asked: &Asked) -> Turn {
    let (status, message) = match asked.model.as_str() {
        "" => (400, "the request names no model".to_owned()),
        model => (
            404,
            format!("The model `{model}` does not exist or you do not have access to it."),
        ),
    };
    Turn {
        status,
        ..Turn::text(&message)
    }
}
