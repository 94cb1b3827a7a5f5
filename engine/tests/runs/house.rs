//! An engine with one person, one agent and a provider that follows a script, over the database that `WEFT_TEST_DATABASE` names.

use std::time::Duration;

use adapters::{
    clock::SystemClock,
    outbound::{Outbound, OutboundConfig},
    sealing::{Keyring, Secret},
    tasks::Tasks,
};
use auth::{AuthConfig, Authority, RequestContext, SetUp};
use engine::{
    Engine, EngineOptions,
    event::{Body, Event},
    live,
    send::{SendMessage, Sent, WhenBusy},
};
use entities::{
    AgentId, AgentSpec, AgentVersionId, ConversationId, Db, MessageId, ModelHealthStatus, ModelId,
    ModelKind, ModelProvider, Names, Parts, RunId, Scope, SystemScope, Visibility, Within,
    WorkerId, agent, agent_version, db::Location, llm_model, message, query::*, run,
};
use events::{Log, LogOptions};
use providers::Providers;
use support::{
    database::{Chosen, Database},
    provider::{Provider, Step, Turn},
};

pub const SYSTEM: SystemScope = SystemScope::of("tests");
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct House {
    pub engine: Engine,
    pub scope: Scope,
    pub provider: Provider,
    pub agent: AgentId,
    location: Location,
    _folder: tempfile::TempDir,
    _database: Option<Database>,
}

/// Titles cost calls of their own: only tests of them want any.
fn quiet() -> EngineOptions {
    EngineOptions {
        titles: false,
        ..EngineOptions::default()
    }
}

async fn engine(location: &Location, options: EngineOptions) -> Engine {
    let db = Db::connect(location).await.unwrap();
    migration::migrate(db.owner(SYSTEM)).await.unwrap();
    let clock = SystemClock::shared();
    let tasks = Tasks::new();
    let log = Log::start(
        db.clone(),
        clock.clone(),
        tasks.clone(),
        LogOptions::default(),
    )
    .await
    .unwrap();
    let keyring = Keyring::new([7; 32], None);
    let config = AuthConfig {
        issuer: "tests".into(),
        setup_token: None,
        audit_kept: chrono::TimeDelta::days(365),
        signing_key_lasts: chrono::TimeDelta::days(90),
        oidc: None,
    };
    let authority = Authority::new(
        db,
        log.clone(),
        keyring.clone(),
        clock.clone(),
        &tasks,
        config,
    );
    let allow = OutboundConfig {
        allow: vec!["127.0.0.1/32".parse().unwrap()],
        ..OutboundConfig::default()
    };
    let outbound = Outbound::new(allow).unwrap();
    let providers = Providers::new(outbound.clone(), clock);
    Engine::new(log, keyring, providers, outbound, authority, options)
}

/// Says half of its answer, then waits for the gate.
pub fn gated(gate: &str) -> Turn {
    Turn::of([
        Step::Text("half ".into()),
        Step::WaitFor(gate.into()),
        Step::Text("whole".into()),
        Step::Finish("stop".into()),
    ])
}

impl House {
    /// A model that answers each when the gate opens that its question names.
    pub async fn gated_by_question(&self, name: &str) -> ModelId {
        let gated = |asked: &support::provider::Asked| {
            let question = asked.last_user_message();
            Turn::of([
                Step::Head,
                Step::WaitFor(question.clone()),
                Step::Text(question),
            ])
        };
        self.provider
            .script(name, support::provider::Script::answer(gated));
        self.model(name).await
    }

    pub async fn new() -> Self {
        Self::with_max_steps(3).await
    }

    pub async fn with_max_steps(max_steps: i32) -> Self {
        Self::with(max_steps, quiet()).await
    }

    /// One whose process carries no runs.
    pub async fn idle() -> Self {
        let options = EngineOptions {
            works: false,
            ..quiet()
        };
        Self::with(3, options).await
    }

    pub async fn with(max_steps: i32, options: EngineOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (location, database) = match Chosen::from_environment() {
            Chosen::Sqlite => (Location::Sqlite(folder.path().join("weft.db")), None),
            Chosen::Postgres(cluster) => {
                let database = Database::create(&cluster).await.unwrap();
                (
                    Location::Postgres(database.url().to_owned()),
                    Some(database),
                )
            }
        };
        let engine = engine(&location, options).await;
        let set_up = SetUp {
            email: "ada@example.test".into(),
            password: Secret::new("weaving-at-night"),
            name: "Ada".into(),
            tenant_name: "Loom".into(),
            token: None,
        };
        let at_the_machine = RequestContext {
            listener_loopback: true,
            peer_loopback: true,
            origin_ours_or_absent: true,
            ..RequestContext::default()
        };
        let signed_in = engine
            .authority()
            .set_up(set_up, at_the_machine, |_, _| Box::pin(async { Ok(()) }))
            .await
            .unwrap();
        let scope = signed_in.identity.scope().clone();
        let provider = Provider::start().await;
        let house = Self {
            agent: AgentId(engine.clock().uuid()),
            engine,
            scope,
            provider,
            location,
            _folder: folder,
            _database: database,
        };
        house.add_agent(max_steps).await;
        house.engine.start().await.unwrap();
        house
    }

    /// The engine of another process on the same database; `None` on SQLite, which one process has for itself.
    pub async fn neighbour(&self) -> Option<Engine> {
        self.neighbour_with(quiet()).await
    }

    pub async fn neighbour_with(&self, options: EngineOptions) -> Option<Engine> {
        if matches!(self.location, Location::Sqlite(_)) {
            return None;
        }
        let engine = engine(&self.location, options).await;
        engine.start().await.unwrap();
        Some(engine)
    }

    pub fn db(&self) -> &Db {
        self.engine.log().db()
    }

    async fn add_agent(&self, max_steps: i32) {
        let (now, clock) = (self.engine.clock().now(), self.engine.clock());
        let spec = AgentSpec {
            instructions: "Be brief.".into(),
            greeting: None,
            starters: Vec::new(),
            temperature: None,
            max_output_tokens: None,
            max_steps,
        };
        let version = agent_version::Model {
            id: AgentVersionId(clock.uuid()),
            tenant_id: self.scope.tenant(),
            agent_id: self.agent,
            number: 1,
            name: None,
            notes: None,
            spec: spec.clone(),
            model_id: None,
            published_by: self.scope.user(),
            published_at: now,
        };
        let row = agent::Model {
            group_id: None,
            reach: None,
            id: self.agent,
            tenant_id: self.scope.tenant(),
            owner_id: self.scope.user(),
            slug: "weaver".into(),
            name: "Weaver".into(),
            description: String::new(),
            visibility: Visibility::Tenant,
            is_enabled: true,
            draft: spec,
            draft_model_id: None,
            draft_updated_at: now,
            version_id: version.id,
            uses: 0,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        };
        // In one transaction, as they name each other.
        let tx = self.db().begin(Within::Owner(SYSTEM)).await.unwrap();
        agent::Entity::add(&*tx, row).await.unwrap();
        agent_version::Entity::add(&*tx, version).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// A model of the scripted provider's.
    pub async fn model(&self, name: &str) -> ModelId {
        let now = self.engine.clock().now();
        let id = ModelId(self.engine.clock().uuid());
        let row = llm_model::Model {
            group_id: None,
            reach: None,
            id,
            tenant_id: self.scope.tenant(),
            owner_id: self.scope.user(),
            slug: format!("m-{}", id.0.simple()),
            name: name.into(),
            kind: ModelKind::Chat,
            provider: ModelProvider::OpenAiCompatible,
            model_name: name.into(),
            base_url: Some(self.provider.base_url()),
            by_operator: false,
            header_names: Names::default(),
            has_api_key: false,
            secret_id: None,
            context_window: None,
            max_output_tokens: None,
            dimensions: None,
            supports_tools: true,
            supports_vision: false,
            supports_reasoning: false,
            input_per_million: Some("1".into()),
            output_per_million: Some("2.5".into()),
            cached_input_per_million: None,
            max_concurrency: None,
            timeout_ms: 60_000,
            visibility: Visibility::Tenant,
            health: ModelHealthStatus::Unknown,
            checked_at: None,
            latency_ms: None,
            health_message: None,
            breaker_until: None,
            check_at: None,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        };
        llm_model::Entity::add(self.db().owner(SYSTEM), row)
            .await
            .unwrap();
        id
    }

    pub async fn change_model(&self, id: ModelId, change: llm_model::ActiveModel) {
        llm_model::Entity::change_anywhere(SYSTEM)
            .filter(llm_model::Column::Id.eq(id))
            .set(change)
            .exec(self.db().owner(SYSTEM))
            .await
            .unwrap();
    }

    pub fn message(
        &self,
        model: ModelId,
        conversation: Option<ConversationId>,
        text: &str,
    ) -> SendMessage {
        SendMessage {
            conversation,
            agent: Some(self.agent),
            text: text.into(),
            parent: None,
            model: Some(model),
            use_draft: false,
            when_busy: WhenBusy::Enqueue,
            client_id: None,
        }
    }

    pub async fn send(
        &self,
        model: ModelId,
        conversation: Option<ConversationId>,
        text: &str,
    ) -> Sent {
        self.engine
            .send_message(&self.scope, self.message(model, conversation, text))
            .await
            .unwrap()
    }

    /// Says something, and waits for the end of its run.
    pub async fn ask(
        &self,
        model: ModelId,
        conversation: Option<ConversationId>,
        text: &str,
    ) -> Sent {
        let sent = self.send(model, conversation, text).await;
        self.events(sent).await;
        sent
    }

    pub async fn cancel(&self, sent: Sent) {
        self.engine.cancel_run(&self.scope, sent.run).await.unwrap();
    }

    /// All events of a conversation after a number, up to the end of `run`.
    pub async fn events(&self, sent: Sent) -> Vec<Event> {
        self.events_until(sent, |event, run| {
            event.run == Some(run) && event.body.is_terminal()
        })
        .await
    }

    pub async fn events_until(
        &self,
        sent: Sent,
        done: impl Fn(&Event, RunId) -> bool,
    ) -> Vec<Event> {
        let after = self
            .engine
            .log()
            .cursor(sent.conversation.0, sent.before)
            .encode();
        let mut events = self
            .engine
            .conversation_events(&self.scope, sent.conversation, Some(&after))
            .await
            .unwrap();
        let mut seen: Vec<Event> = Vec::new();
        while !seen.last().is_some_and(|event| done(event, sent.run)) {
            let next = support::wait::within(PATIENCE, "the next event", events.next()).await;
            seen.push(next.unwrap().expect("a conversation has no end"));
        }
        seen
    }

    /// Until a model has begun to say something.
    pub async fn until_text(&self, sent: Sent) {
        self.until_said(sent, "").await;
    }

    /// Until a piece of text has come that ends so.
    pub async fn until_said(&self, sent: Sent, end: &str) {
        self.events_until(sent, |event, _| match &event.body {
            Body::TextDelta(delta) => delta.text().ends_with(end),
            _ => false,
        })
        .await;
    }

    /// Until the run is over, as its row says.
    pub async fn until_over(&self, sent: Sent, deadline: Duration) -> run::Model {
        support::wait::until(deadline, "the end of a run", async || {
            Some(self.run(sent.run).await).filter(|run| run.status.is_terminal())
        })
        .await
    }

    pub async fn run(&self, id: RunId) -> run::Model {
        run::Entity::anywhere(SYSTEM)
            .filter(run::Column::Id.eq(id))
            .one(self.db().owner(SYSTEM))
            .await
            .unwrap()
            .unwrap()
    }

    /// As after a worker that died: its lease lapses. The task that carried the run here is still there.
    pub async fn lapse(&self, id: RunId) {
        let dead = run::ActiveModel {
            owner: Set(Some(WorkerId(self.engine.clock().uuid()))),
            lease_until: Set(Some(chrono::DateTime::UNIX_EPOCH)),
            ..Default::default()
        };
        self.change_run(id, dead).await;
    }

    pub async fn change_run(&self, id: RunId, change: run::ActiveModel) {
        run::Entity::change_anywhere(SYSTEM)
            .filter(run::Column::Id.eq(id))
            .set(change)
            .exec(self.db().owner(SYSTEM))
            .await
            .unwrap();
    }

    pub async fn answer(&self, run: RunId) -> Option<message::Model> {
        let id = self.run(run).await.output_message_id;
        message::Entity::anywhere(SYSTEM)
            .filter(message::Column::Id.eq(id))
            .one(self.db().owner(SYSTEM))
            .await
            .unwrap()
    }

    pub async fn run_and_answer(&self, sent: Sent) -> (run::Model, message::Model) {
        let run = self.run(sent.run).await;
        (run, self.answer(sent.run).await.unwrap())
    }

    pub async fn all_messages(&self, conversation: ConversationId) -> Vec<message::Model> {
        message::Entity::anywhere(SYSTEM)
            .filter(message::Column::ConversationId.eq(conversation))
            .order_by_asc(message::Column::Seq)
            .all(self.db().owner(SYSTEM))
            .await
            .unwrap()
    }
}

/// The parts that a client has after these events, by its own rules.
pub fn parts(events: &[Event], message: MessageId) -> Parts {
    let mut parts = Parts::default();
    for event in events {
        live::apply(&mut parts, message, &event.body);
    }
    parts
}

/// The names of what happened, each run of deltas once.
pub fn names(events: &[Event]) -> Vec<&'static str> {
    let mut names: Vec<_> = events
        .iter()
        .map(|event| match event.body {
            Body::TextDelta(_) => "text",
            Body::ReasoningDelta(_) => "reasoning",
            Body::ArgumentsDelta(_) => "arguments",
            Body::MessageCreated(_) => "MessageCreated",
            Body::MessageCompleted(_) => "MessageCompleted",
            Body::MessageUpdated(_) => "MessageUpdated",
            Body::MessagesRemoved(_) => "MessagesRemoved",
            Body::RunQueued { .. } => "RunQueued",
            Body::RunStarted { .. } => "RunStarted",
            Body::RunUpdated(_) => "RunUpdated",
            Body::StepStarted { .. } => "StepStarted",
            Body::StepRestarted { .. } => "StepRestarted",
            Body::StepFinished(_) => "StepFinished",
            Body::ContextCompacted(_) => "ContextCompacted",
            Body::PartAdded { .. } => "PartAdded",
            Body::ToolCallStarted { .. } => "ToolCallStarted",
            Body::ToolCallFinished(_) => "ToolCallFinished",
            Body::RunCompleted(_) => "RunCompleted",
            Body::RunFailed(_) => "RunFailed",
            Body::RunCancelled(_) => "RunCancelled",
            Body::ConversationUpdated(_) => "ConversationUpdated",
        })
        .collect();
    names.dedup();
    names
}
