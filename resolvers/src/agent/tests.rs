//! Models and agents through the graph, as their owner and as others see them.

use std::sync::Arc;

use adapters::{
    clock::{Clock, ManualClock, SharedClock},
    outbound::{Outbound, OutboundConfig},
    sealing::{Keyring, Secret},
    tasks::Tasks,
};
use async_graphql::{
    EmptySubscription, MergedObject, Request, Schema, finish, parser::parse_query, tree,
};
use auth::{AuthConfig, Authority, RequestContext, SetUp};
use chrono::{DateTime, TimeDelta};
use engine::{Engine, EngineOptions};
use entities::{
    Db, ModelId, Permissions, Principal, Role, Scope, SessionId, SystemScope, UserId, db::Location,
    llm_model, model_minute, query::*,
};
use events::{Log, LogOptions};
use loaders::{Reader, quiesce::quiesce};
use providers::Providers;
use serde_json::{Value, json};
use support::database::{Chosen, Database};
use tempfile::TempDir;
use uuid::Uuid;

use super::{AgentMutation, AgentQuery, AgentSpec};
use crate::{
    asking::Asking,
    errors::describe,
    model::{ModelMutation, ModelQuery},
    node::NodeQuery,
    service::ServiceLimits,
};

#[derive(Default, MergedObject)]
struct Query(ModelQuery, AgentQuery, NodeQuery);

#[derive(Default, MergedObject)]
struct Mutation(ModelMutation, AgentMutation);

struct House {
    schema: Schema<Query, Mutation, EmptySubscription>,
    db: Db,
    owner: Scope,
    clock: Arc<ManualClock>,
    /// Gone with the house.
    _database: Option<Database>,
    _folder: TempDir,
}

impl House {
    async fn new() -> Self {
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
        let db = Db::connect(&location).await.unwrap();
        migration::migrate(db.owner(SystemScope::of("tests")))
            .await
            .unwrap();
        let clock = Arc::new(ManualClock::new(
            DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        ));
        let shared: SharedClock = clock.clone();
        let tasks = Tasks::new();
        let log = Log::start(
            db.clone(),
            shared.clone(),
            tasks.clone(),
            LogOptions::default(),
        )
        .await
        .unwrap();
        let keyring = Keyring::new([1; 32], None);
        let outbound = Outbound::new(OutboundConfig::default()).unwrap();
        let providers = Providers::new(outbound.clone(), shared.clone());
        let config = AuthConfig {
            issuer: "weft:tests".into(),
            setup_token: None,
            audit_kept: chrono::TimeDelta::days(365),
            signing_key_lasts: chrono::TimeDelta::days(90),
            oidc: None,
        };
        let authority = Authority::new(
            db.clone(),
            log.clone(),
            keyring.clone(),
            shared,
            &tasks,
            config,
        );
        let first = SetUp {
            email: "ada@example.com".into(),
            password: Secret::new("weaving-at-night"),
            name: "Ada".into(),
            tenant_name: "Looms".into(),
            token: None,
        };
        let at_the_machine = RequestContext {
            listener_loopback: true,
            peer_loopback: true,
            origin_ours_or_absent: true,
            ..RequestContext::default()
        };
        let signed_in = authority
            .set_up(first, at_the_machine, |_, _| Box::pin(async { Ok(()) }))
            .await
            .unwrap();
        let engine = Engine::new(
            log,
            keyring,
            providers,
            outbound,
            authority.clone(),
            EngineOptions::default(),
        );
        let schema = Schema::build(Query::default(), Mutation::default(), EmptySubscription)
            .register_output_type::<AgentSpec>()
            .data(engine)
            .data(authority)
            .data(limits())
            .finish();
        Self {
            schema,
            db,
            owner: signed_in.identity.scope().clone(),
            clock,
            _database: database,
            _folder: folder,
        }
    }

    fn member(&self, role: Role) -> Scope {
        let (user, session) = (UserId(Uuid::from_u128(7)), SessionId(Uuid::from_u128(7)));
        Scope::new(
            self.owner.tenant(),
            user,
            role,
            Permissions::of(role),
            Principal::Session(session),
        )
    }

    /// `data`, or the errors as code and message.
    async fn ask(&self, scope: &Scope, document: &str, variables: Value) -> Result<Value, String> {
        let reader = Reader::new(&self.db, Some(scope.clone()));
        let variables = async_graphql::Variables::from_json(variables);
        let request = Request::new(document)
            .variables(variables)
            .data(Asking::new(None, RequestContext::default(), true))
            .data(reader.clone());
        let mut response = quiesce(reader.gate(), self.schema.execute(request)).await;
        response.errors.iter_mut().for_each(describe);
        finish(
            &mut response,
            &parse_query(document).unwrap(),
            None,
            |_, _| "",
        );
        if response.errors.is_empty() {
            return Ok(tree(response.data).into_json().unwrap());
        }
        let code = |error: &async_graphql::ServerError| {
            error
                .extensions
                .as_ref()
                .and_then(|found| found.get("code").cloned())
        };
        let told = response
            .errors
            .iter()
            .map(|error| format!("{}: {}", code(error).unwrap_or_default(), error.message));
        Err(told.collect::<Vec<_>>().join("; "))
    }

    async fn owner(&self, document: &str, variables: Value) -> Value {
        self.ask(&self.owner, document, variables).await.unwrap()
    }

    async fn create_agent(&self, input: Value) -> Value {
        let document = "mutation($input: CreateAgentInput!) { createAgent(input: $input) { agent { id } errors { message } } }";
        let made = self.owner(document, json!({ "input": input })).await;
        assert_eq!(made["createAgent"]["errors"], json!([]));
        made["createAgent"]["agent"]["id"].clone()
    }
}

fn limits() -> ServiceLimits {
    ServiceLimits {
        max_depth: 15,
        max_complexity: 5_000,
        max_aliases: 30,
        max_page_size: 100,
        max_document_bytes: 32_768,
        max_request_bytes: 1 << 20,
        max_response_bytes: 1 << 25,
        query_timeout_ms: 10_000,
        mutation_timeout_ms: 30_000,
        max_subscriptions_per_connection: 50,
        max_connections_per_user: 10,
        max_message_chars: 200_000,
    }
}

const CREATE_MODEL: &str = "mutation($input: CreateModelInput!) { createModel(input: $input) {
    model { id slug name kind provider modelName baseUrl headerNames hasApiKey contextWindow supportsVision timeoutMs isDefault
        pricing { inputPerMillion outputPerMillion currency } fallbacks { name } health { status message } visibility viewerAccess }
    errors { __typename code message path } } }";

#[tokio::test]
async fn a_model_shows_its_address_to_those_who_may_change_it() {
    let house = House::new().await;
    let input = json!({
        "slug": "gpt-4o", "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": "gpt-4o", "baseUrl": "https://models.example/v1",
        "apiKey": "sk-1", "headers": [{ "name": "X-Team", "value": "looms" }], "pricing": { "inputPerMillion": "2.50" },
        "isDefault": true,
    });
    let made = house.owner(CREATE_MODEL, json!({ "input": input })).await;
    let mut model = made["createModel"]["model"].clone();
    let id = model["id"].take();
    assert_eq!(
        model,
        json!({
            "id": null, "slug": "gpt-4o", "name": "gpt-4o", "kind": "CHAT", "provider": "OPENAI_COMPATIBLE", "modelName": "gpt-4o",
            "baseUrl": "https://models.example/v1", "headerNames": ["X-Team"], "hasApiKey": true, "contextWindow": 128_000,
            "supportsVision": true, "timeoutMs": 60_000, "isDefault": true,
            "pricing": { "inputPerMillion": "2.50", "outputPerMillion": null, "currency": "USD" }, "fallbacks": [],
            "health": { "status": "UNKNOWN", "message": null }, "visibility": "TENANT", "viewerAccess": "MANAGE",
        })
    );
    let read = "query($id: ID!) { model(id: $id) { name baseUrl headerNames hasApiKey viewerAccess } node(id: $id) { __typename id } }";
    let seen = house
        .ask(&house.member(Role::Editor), read, json!({ "id": id }))
        .await
        .unwrap();
    let expected = json!({ "name": "gpt-4o", "baseUrl": null, "headerNames": null, "hasApiKey": true, "viewerAccess": "READ" });
    assert_eq!(seen["model"], expected);
    assert_eq!(seen["node"]["__typename"], "Model");

    let update = "mutation($input: UpdateModelInput!) { updateModel(input: $input) { model { name baseUrl hasApiKey } errors { code message path } } }";
    let nulls = house
        .owner(
            update,
            json!({ "input": { "id": id, "name": null, "timeoutMs": null, "fallbackIds": null } }),
        )
        .await;
    let errors = nulls["updateModel"]["errors"].as_array().unwrap();
    let paths: Vec<_> = errors
        .iter()
        .map(|error| (&error["code"], &error["path"][1]))
        .collect();
    let code = &json!("INVALID_INPUT");
    assert_eq!(
        paths,
        [
            (code, &json!("fallbackIds")),
            (code, &json!("name")),
            (code, &json!("timeoutMs"))
        ]
    );
    let moved = house
        .owner(
            update,
            json!({ "input": { "id": id, "baseUrl": "https://b.example" } }),
        )
        .await;
    assert_eq!(
        moved["updateModel"]["model"],
        json!({ "name": "gpt-4o", "baseUrl": "https://b.example", "hasApiKey": false })
    );
    let member = house.member(Role::Member);
    let refused = house
        .ask(&member, update, json!({ "input": { "id": id } }))
        .await
        .unwrap();
    assert_eq!(refused["updateModel"]["errors"][0]["code"], "FORBIDDEN");
    let not_one = house
        .ask(&member, update, json!({ "input": { "id": "agent_x" } }))
        .await
        .unwrap();
    assert_eq!(not_one["updateModel"]["errors"][0]["code"], "NOT_FOUND");
    let refused = house
        .ask(&member, CREATE_MODEL, json!({ "input": input }))
        .await;
    assert_eq!(
        refused,
        Err("FORBIDDEN: this credential may not do this".to_owned())
    );
}

#[tokio::test]
async fn a_model_in_use_names_what_uses_it() {
    let house = House::new().await;
    let input = json!({ "slug": "claude", "kind": "CHAT", "provider": "ANTHROPIC", "modelName": "claude-sonnet-4" });
    let id =
        house.owner(CREATE_MODEL, json!({ "input": input })).await["createModel"]["model"]["id"]
            .clone();
    let agent = house
        .create_agent(json!({ "name": "Weaver", "instructions": "Weave.", "modelId": id }))
        .await;
    let delete = "mutation($input: DeleteModelInput!) { deleteModel(input: $input) { deletedIds
        errors { code ... on InUse { by { __typename id } } } } }";
    let refused = house.owner(delete, json!({ "input": { "id": id } })).await;
    let by = json!([{ "code": "IN_USE", "by": [{ "__typename": "Agent", "id": agent }] }]);
    assert_eq!(
        refused["deleteModel"],
        json!({ "deletedIds": [], "errors": by })
    );
    let done = house
        .owner(delete, json!({ "input": { "id": id, "force": true } }))
        .await;
    assert_eq!(
        done["deleteModel"],
        json!({ "deletedIds": [id], "errors": [] })
    );
    let read = "query($id: ID!, $agent: ID!) { model(id: $id) { id } node(id: $id) { id } models { nodes { id } totalCount }
        agent(id: $agent) { model { id } draft { model { id } } hasUnpublishedChanges } }";
    let gone = house.owner(read, json!({ "id": id, "agent": agent })).await;
    assert_eq!(
        gone,
        json!({
            "model": null, "node": null, "models": { "nodes": [], "totalCount": 0 },
            "agent": { "model": null, "draft": { "model": null }, "hasUnpublishedChanges": true },
        })
    );
}

#[tokio::test]
async fn an_agent_is_read_as_it_runs_and_as_it_will() {
    let house = House::new().await;
    let id = house.create_agent(json!({ "name": "Weaver", "instructions": "Weave.", "greeting": "Hello", "starters": ["Begin"] })).await;
    let update = "mutation($input: UpdateAgentInput!) { updateAgent(input: $input) { agent {
        name instructions greeting hasUnpublishedChanges draft { instructions greeting maxSteps } } errors { code path } } }";
    let change = json!({ "id": id, "name": "Spinner", "instructions": "Spin.", "greeting": null, "maxSteps": 3 });
    let changed = house.owner(update, json!({ "input": change })).await;
    assert_eq!(
        changed["updateAgent"]["agent"],
        json!({
            "name": "Spinner", "instructions": "Weave.", "greeting": "Hello", "hasUnpublishedChanges": true,
            "draft": { "instructions": "Spin.", "greeting": null, "maxSteps": 3 },
        })
    );
    let nulls = house
        .owner(
            update,
            json!({ "input": { "id": id, "instructions": null } }),
        )
        .await;
    assert_eq!(
        nulls["updateAgent"]["errors"],
        json!([{ "code": "INVALID_INPUT", "path": ["input", "instructions"] }])
    );

    let publish = "mutation($input: PublishAgentInput!) { publishAgent(input: $input) {
        agent { instructions hasUnpublishedChanges version { number } } version { id number name instructions publishedBy { name } }
        errors { message } } }";
    let published = house
        .owner(
            publish,
            json!({ "input": { "id": id, "name": "Spinning" } }),
        )
        .await;
    let version = published["publishAgent"]["version"]["id"].clone();
    assert_eq!(
        published["publishAgent"]["agent"],
        json!({ "instructions": "Spin.", "hasUnpublishedChanges": false, "version": { "number": 2 } })
    );
    let read = "query($id: ID!, $version: ID!, $after: Cursor) {
        agent(slug: \"weaver\") { id owner { name } draft { instructions }
            versions(first: 1, after: $after) { nodes { number ... on AgentSpec { greeting } } pageInfo { hasNextPage endCursor } totalCount } }
        nodes(ids: [$id, $version]) { __typename ... on AgentSpec { instructions starters } } }";
    let found = house
        .owner(read, json!({ "id": id, "version": version }))
        .await;
    let agent = &found["agent"];
    assert_eq!(
        (&agent["id"], &agent["owner"]["name"]),
        (&id, &json!("Ada"))
    );
    let versions = &agent["versions"];
    assert_eq!(
        versions["nodes"],
        json!([{ "number": 2, "greeting": null }])
    );
    assert_eq!(
        (
            &versions["totalCount"],
            &versions["pageInfo"]["hasNextPage"]
        ),
        (&json!(2), &json!(true))
    );
    let spec =
        |name: &str| json!({ "__typename": name, "instructions": "Spin.", "starters": ["Begin"] });
    assert_eq!(found["nodes"], json!([spec("Agent"), spec("AgentVersion")]));
    let after = &versions["pageInfo"]["endCursor"];
    let next = house
        .owner(
            read,
            json!({ "id": id, "version": version, "after": after }),
        )
        .await;
    assert_eq!(
        next["agent"]["versions"]["nodes"],
        json!([{ "number": 1, "greeting": "Hello" }])
    );
    let seen = house
        .ask(
            &house.member(Role::Member),
            read,
            json!({ "id": id, "version": version }),
        )
        .await
        .unwrap();
    assert_eq!(seen["agent"]["draft"], json!(null));

    let delete = "mutation($input: DeleteAgentInput!) { deleteAgent(input: $input) { deletedIds errors { code } } }";
    let done = house.owner(delete, json!({ "input": { "id": id } })).await;
    assert_eq!(
        done["deleteAgent"],
        json!({ "deletedIds": [id], "errors": [] })
    );
    let gone = house
        .owner(read, json!({ "id": id, "version": version }))
        .await;
    // A run that used it still shows its version, less what only those see who may read the agent.
    let hidden =
        json!({ "__typename": "AgentVersion", "instructions": null, "starters": ["Begin"] });
    assert_eq!(
        (&gone["agent"], &gone["nodes"]),
        (&json!(null), &json!([null, hidden]))
    );
}

#[tokio::test]
async fn agents_are_listed_page_by_page() {
    let house = House::new().await;
    for name in ["Carder", "100% Wool", "Weaver", "Ängel"] {
        house.clock.advance(std::time::Duration::from_secs(1));
        house
            .create_agent(
                json!({ "name": name, "instructions": "Work.", "description": "At the LOOM" }),
            )
            .await;
    }
    let private = json!({ "name": "Secret", "instructions": "Hide.", "visibility": "PRIVATE" });
    house.create_agent(private).await;
    let list = "query($first: Int, $last: Int, $after: Cursor, $before: Cursor, $filter: AgentFilter, $orderBy: AgentOrder! = NAME) {
        agents(first: $first, last: $last, after: $after, before: $before, filter: $filter, orderBy: $orderBy) {
            nodes { name } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } totalCount } }";
    let member = house.member(Role::Member);
    let names = |answer: &Value| -> Vec<String> {
        let nodes = answer["agents"]["nodes"].as_array().unwrap();
        nodes
            .iter()
            .map(|node| node["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = house
        .ask(&member, list, json!({ "first": 2 }))
        .await
        .unwrap();
    assert_eq!(
        (names(&first), &first["agents"]["totalCount"]),
        (vec!["100% Wool".into(), "Carder".into()], &json!(4))
    );
    let after = &first["agents"]["pageInfo"]["endCursor"];
    let second = house
        .ask(&member, list, json!({ "first": 2, "after": after }))
        .await
        .unwrap();
    assert_eq!(names(&second), ["Weaver", "Ängel"]);
    assert_eq!(second["agents"]["pageInfo"]["hasNextPage"], json!(false));
    let before = &second["agents"]["pageInfo"]["startCursor"];
    let back = house
        .ask(&member, list, json!({ "last": 1, "before": before }))
        .await
        .unwrap();
    assert_eq!(
        (names(&back), &back["agents"]["pageInfo"]["hasPreviousPage"]),
        (vec!["Carder".into()], &json!(true))
    );
    let newest = house
        .ask(
            &member,
            list,
            json!({ "orderBy": "RECENTLY_UPDATED", "first": 2 }),
        )
        .await
        .unwrap();
    assert_eq!(names(&newest), ["Ängel", "Weaver"]);
    let other = house
        .ask(
            &member,
            list,
            json!({ "orderBy": "RECENTLY_UPDATED", "after": after }),
        )
        .await
        .unwrap_err();
    assert!(other.starts_with("INVALID_INPUT: "), "{other}");

    let owner = house.owner.user().to_string();
    for (filter, expected) in [
        (json!({ "query": "weAV" }), vec!["Weaver"]),
        (
            json!({ "query": "loom", "isEnabled": true }),
            vec!["100% Wool", "Carder", "Weaver", "Ängel"],
        ),
        (json!({ "query": "%" }), vec!["100% Wool"]),
        (json!({ "query": "_" }), vec![]),
        (
            json!({ "query": " " }),
            vec!["100% Wool", "Carder", "Weaver", "Ängel"],
        ),
        (json!({ "visibility": "PRIVATE" }), vec![]),
        (json!({ "ownerId": owner, "query": "car" }), vec!["Carder"]),
        (json!({ "ownerId": "nobody" }), vec![]),
        (json!({ "isEnabled": false }), vec![]),
    ] {
        let found = house
            .ask(&member, list, json!({ "filter": filter }))
            .await
            .unwrap();
        assert_eq!(
            (names(&found), &found["agents"]["totalCount"]),
            (
                expected.iter().map(ToString::to_string).collect(),
                &json!(expected.len())
            ),
            "{filter}"
        );
    }
    let long = json!({ "filter": { "query": "x".repeat(201) } });
    assert_eq!(
        house.ask(&member, list, long).await.unwrap_err(),
        "INVALID_INPUT: query has 201 characters, at most 200 are allowed"
    );
    let neither = house
        .ask(&member, "{ agent { id } }", json!({}))
        .await
        .unwrap_err();
    assert_eq!(neither, "INVALID_INPUT: give `id` or `slug`");
    let blind = Scope::new(
        member.tenant(),
        member.user(),
        Role::Member,
        Permissions::NONE,
        member.principal(),
    );
    let nothing = house.ask(&blind, list, json!({})).await.unwrap();
    assert_eq!(
        (names(&nothing), &nothing["agents"]["totalCount"]),
        (vec![], &json!(0))
    );
}

#[tokio::test]
async fn a_models_health_is_of_its_row_and_of_its_calls() {
    const SYSTEM: SystemScope = SystemScope::of("tests");
    let house = House::new().await;
    let mut ids = Vec::new();
    for name in ["busy", "open", "quiet"] {
        let input =
            json!({ "slug": name, "kind": "CHAT", "provider": "OPENAI", "modelName": name });
        let made = house.owner(CREATE_MODEL, json!({ "input": input })).await;
        ids.push(made["createModel"]["model"]["id"].clone());
    }
    let id = |at: usize| -> ModelId { ids[at].as_str().unwrap().parse().unwrap() };
    let now = house.clock.now();
    let minute = |ago: i64, calls, failed| model_minute::Model {
        tenant_id: house.owner.tenant(),
        model_id: id(0),
        minute: now - TimeDelta::minutes(ago),
        calls,
        failed,
    };
    // An hour ago is another hour.
    let minutes = vec![minute(0, 5, 1), minute(50, 3, 1), minute(70, 100, 0)];
    let db = house.db.owner(SYSTEM);
    model_minute::Entity::add_all(db, minutes).await.unwrap();
    llm_model::Entity::change_anywhere(SYSTEM)
        .filter(llm_model::Column::Id.eq(id(1)))
        .set(llm_model::ActiveModel {
            breaker_until: Set(Some(now)),
            ..Default::default()
        })
        .exec(db)
        .await
        .unwrap();
    let read =
        "{ models { nodes { name health { status errorRate checkedAt latencyMs message } } } }";
    let seen = house.owner(read, json!({})).await;
    let health = |name: &str, status: &str, rate: Option<f64>, message: Option<&str>| json!({ "name": name, "health": { "status": status, "errorRate": rate, "checkedAt": null, "latencyMs": null, "message": message } });
    let left_alone = "too many of its calls failed, so it is not called for a moment";
    assert_eq!(
        seen["models"]["nodes"],
        json!([
            health("busy", "DEGRADED", Some(0.25), None),
            health("open", "UNHEALTHY", None, Some(left_alone)),
            health("quiet", "UNKNOWN", None, None)
        ])
    );
}
