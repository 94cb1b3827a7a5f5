//! The graph over a database, without HTTP in front.

use std::{net::IpAddr, sync::Arc, time::Duration};

use adapters::clock::{ManualClock, SharedClock, SystemClock};
use async_graphql::{
    Variables, may_be_raw,
    parser::{parse_query, types::OperationType},
    to_json,
};
use entities::{MembershipId, Role, SystemScope, TenantId, UserId, membership, tenant, user};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    config::{Config, Secret},
    edge::{Client, Code, Credentials, Event, Graph, Operation, Refused, Transport},
    graph::{AppGraph, Caller},
    wiring::{App, Ground},
};

mod costs;

const SCOPE: SystemScope = SystemScope::of("tests");
const PASSWORD: &str = "weaving-at-night";

struct House {
    graph: AppGraph,
    app: App,
    _ground: Ground,
    _folder: TempDir,
}

fn given<'a>(token: Option<&str>, tenant: impl Into<Option<&'a str>>) -> Credentials {
    let client = Client {
        address: IpAddr::from([127, 0, 0, 1]),
        loopback_peer: true,
        forwarded: false,
        origin_ours_or_absent: true,
        user_agent: None,
    };
    Credentials {
        bearer: token.map(Secret::new),
        api_key: None,
        tenant: tenant.into().map(str::to_owned),
        on_behalf_of: None,
        client,
        transport: Transport::Http,
    }
}

impl House {
    async fn with(settings: &[(&str, &str)]) -> Self {
        Self::by_clock(SystemClock::shared(), settings).await
    }

    async fn by_clock(clock: SharedClock, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("weft-data");
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = settings.chain([(
            "WEFT_DATA_DIR".to_owned(),
            data.to_str().unwrap().to_owned(),
        )]);
        let config = Config::load(None, settings).unwrap();
        let address = ([127, 0, 0, 1], 1).into();
        let ground = Ground::take(&config).unwrap();
        let app = App::by_clock(clock, &config, &ground, address)
            .await
            .unwrap();
        Self {
            graph: app.graph(&config, address),
            app,
            _ground: ground,
            _folder: folder,
        }
    }

    /// Set up, with the first user's access token.
    async fn new() -> (Self, String) {
        let house = Self::with(&[]).await;
        let answer = house.ok(None, SET_UP, owner()).await;
        let token = answer["setUp"]["accessToken"].as_str().unwrap().to_owned();
        (house, token)
    }

    async fn caller(&self, token: Option<&str>) -> Result<Caller, Refused> {
        self.graph.authenticate(given(token, None)).await
    }

    async fn ask(&self, token: Option<&str>, text: &str, variables: Value) -> Value {
        self.ask_as(given(token, None), text, variables).await
    }

    async fn ask_as(&self, credentials: Credentials, text: &str, variables: Value) -> Value {
        let caller = self.graph.authenticate(credentials).await.unwrap();
        let document = parse_query(text).unwrap();
        let mut answers = Vec::new();
        let kind = if text.starts_with("mutation") {
            OperationType::Mutation
        } else {
            OperationType::Query
        };
        let modes: &[bool] = if kind == OperationType::Query && may_be_raw(&document) {
            &[false, true]
        } else {
            &[false]
        };
        for &may_be_raw in modes {
            let mut request = async_graphql::Request::new(text)
                .variables(Variables::from_json(variables.clone()));
            request.set_parsed_query(document.clone());
            let operation = Operation {
                request,
                document: Arc::new(document.clone()),
                may_be_raw,
                kind,
                request_id: "test".to_owned(),
                wants_cursors: false,
                after: None,
            };
            let mut response = self.graph.execute(&caller, operation).await;
            // what is left in the bucket is another number each time
            response.extensions.clear();
            answers.push(to_json(&response));
        }
        if let [tree, raw] = &answers[..] {
            assert_eq!(
                std::str::from_utf8(tree),
                std::str::from_utf8(raw),
                "as a tree and as text"
            );
        }
        serde_json::from_slice(&answers[0]).unwrap()
    }

    async fn ok(&self, token: Option<&str>, text: &str, variables: Value) -> Value {
        let mut answer = self.ask(token, text, variables).await;
        assert_eq!(answer.get("errors"), None, "{text}");
        answer["data"].take()
    }

    /// The code of the first error.
    async fn fails(&self, token: Option<&str>, text: &str, variables: Value) -> String {
        let answer = self.ask(token, text, variables).await;
        answer["errors"][0]["extensions"]["code"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}"))
            .to_owned()
    }

    /// Another person, who has the first one's password, in the first tenant or in one of his own. Answers his token.
    async fn person(&self, name: &str, role: Role, own_tenant: bool) -> String {
        let reader = self.app.db.reader(SCOPE);
        let first = user::Entity::anywhere(SCOPE)
            .one(reader)
            .await
            .unwrap()
            .unwrap();
        let mut place = tenant::Entity::anywhere(SCOPE)
            .one(reader)
            .await
            .unwrap()
            .unwrap();
        let tx = self
            .app
            .db
            .begin(entities::Within::Owner(SCOPE))
            .await
            .unwrap();
        if own_tenant {
            place.id = TenantId(Uuid::from_u128(u128::from(name.as_bytes()[0])));
            name.clone_into(&mut place.slug);
            tenant::Entity::add(&*tx, place.clone()).await.unwrap();
        }
        let email = Some(format!("{name}@example.com"));
        let person = user::Model {
            id: UserId(Uuid::from_u128(u128::from(name.as_bytes()[0]) << 8)),
            name: name.to_owned(),
            email: email.clone(),
            email_key: email,
            is_platform_administrator: false,
            ..first
        };
        let membership = membership::Model {
            id: MembershipId(Uuid::from_u128(u128::from(name.as_bytes()[0]) << 16)),
            tenant_id: place.id,
            user_id: person.id,
            role,
            is_active: true,
            last_used_at: None,
            last_seen_at: None,
            ended_at: None,
            created_at: person.created_at,
            updated_at: person.created_at,
        };
        user::Entity::add(&*tx, person).await.unwrap();
        membership::Entity::add(&*tx, membership).await.unwrap();
        tx.commit().await.unwrap();
        let input =
            json!({"input": {"email": format!("{name}@example.com"), "password": PASSWORD}});
        let signed_in = self
            .ok(
                None,
                "mutation($input: SignInInput!) { signIn(input: $input) { accessToken } }",
                input,
            )
            .await;
        signed_in["signIn"]["accessToken"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

const SET_UP: &str = "mutation($input: SetUpInput!) { setUp(input: $input) { accessToken refreshToken expiresAt
    viewer { user { name email isActive } tenant { slug } role credential memberships { role tenant { slug } } apiKeys { totalCount } }
    errors { __typename code message path ... on InvalidInput { limit actual } } } }";

fn owner() -> Value {
    json!({"input": {"email": "ada@example.com", "password": PASSWORD, "name": "Ada", "tenantName": "Ada's looms"}})
}

const NEW_KEY: &str = "mutation($input: CreateApiKeyInput!) { createApiKey(input: $input) {
    apiKey { id name kind prefix permissions status owner { name } } secret errors { code path } } }";

async fn new_key(house: &House, token: &str, name: &str) -> (String, String) {
    let made = house
        .ok(
            Some(token),
            NEW_KEY,
            json!({"input": {"name": name, "kind": "PERSONAL"}}),
        )
        .await["createApiKey"]
        .take();
    (
        made["apiKey"]["id"].as_str().unwrap().to_owned(),
        made["secret"].as_str().unwrap().to_owned(),
    )
}

#[tokio::test]
async fn what_is_public_needs_no_credential() {
    let house = House::with(&[("WEFT_LIMITS__MAX_PAGE_SIZE", "50")]).await;
    let answer = house.ok(None, "{ service { name needsSetup signInMethods { kind } limits { maxDepth maxPageSize } } viewer { credential } }", json!({})).await;
    let service = json!({"name": "Weft", "needsSetup": true, "signInMethods": [{"kind": "PASSWORD"}], "limits": {"maxDepth": 15, "maxPageSize": 50}});
    assert_eq!(answer, json!({"service": service, "viewer": null}));
    for text in [
        "{ tenant { id } }",
        "{ node(id: \"x\") { id } }",
        "{ nodes(ids: []) { id } }",
    ] {
        assert_eq!(
            house.fails(None, text, json!({})).await,
            "UNAUTHENTICATED",
            "{text}"
        );
    }
    for (text, input) in [
        (NEW_KEY, json!({"name": "x", "kind": "PERSONAL"})),
        (
            "mutation($input: RevokeApiKeyInput!) { revokeApiKey(input: $input) { deletedIds } }",
            json!({"id": "x"}),
        ),
    ] {
        assert_eq!(
            house.fails(None, text, json!({"input": input})).await,
            "UNAUTHENTICATED",
            "{text}"
        );
    }
}

#[tokio::test]
async fn set_up_works_once_and_is_asked_by_its_user_from_then_on() {
    let house = House::with(&[]).await;
    let mut short = owner();
    short["input"]["password"] = "short".into();
    let refused = house.ok(None, SET_UP, short).await;
    let expected = json!([{"__typename": "InvalidInput", "code": "INVALID_INPUT", "message": "password has 5 characters, at least 10 are needed", "path": ["input", "password"], "limit": 10, "actual": 5}]);
    assert_eq!(
        (&refused["setUp"]["errors"], &refused["setUp"]["viewer"]),
        (&expected, &Value::Null)
    );

    let done = house.ok(None, SET_UP, owner()).await["setUp"].take();
    assert_eq!(done["errors"], json!([]));
    let viewer = json!({
        "user": {"name": "Ada", "email": "ada@example.com", "isActive": true}, "tenant": {"slug": "ada-s-looms"}, "role": "OWNER",
        "credential": "PASSWORD_SESSION", "memberships": [{"role": "OWNER", "tenant": {"slug": "ada-s-looms"}}], "apiKeys": {"totalCount": 0},
    });
    assert_eq!(done["viewer"], viewer);
    assert!(done["expiresAt"].as_str().unwrap().ends_with('Z'));
    let token = done["accessToken"].as_str();
    assert_eq!(
        house
            .ok(
                token,
                "{ viewer { user { name } } service { needsSetup } }",
                json!({})
            )
            .await,
        json!({"viewer": {"user": {"name": "Ada"}}, "service": {"needsSetup": false}})
    );

    let over_a_socket = Credentials {
        transport: Transport::WebSocket,
        ..given(None, None)
    };
    let answer = house.ask_as(over_a_socket, SET_UP, owner()).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "INVALID_INPUT");
    let again = house.ok(None, SET_UP, owner()).await;
    assert_eq!(again["setUp"]["errors"][0]["__typename"], "Conflict");
}

#[tokio::test]
async fn signing_in() {
    let (house, _) = House::new().await;
    let text = "mutation($input: SignInInput!) { signIn(input: $input) { viewer { user { email } } errors { code } }
        createApiKey(input: {name: \"mine\", kind: PERSONAL}) { apiKey { owner { name } } } }";
    let right = json!({"input": {"email": "ADA@example.com", "password": PASSWORD}});
    let done = house.ok(None, text, right).await;
    assert_eq!(done["signIn"]["viewer"]["user"]["email"], "ada@example.com");
    assert_eq!(done["createApiKey"]["apiKey"]["owner"]["name"], "Ada");

    let sign_in = "mutation($input: SignInInput!) { signIn(input: $input) { accessToken } }";
    for (email, password) in [
        ("ada@example.com", "something-else"),
        ("nobody@example.com", PASSWORD),
    ] {
        assert_eq!(
            house
                .fails(
                    None,
                    sign_in,
                    json!({"input": {"email": email, "password": password}})
                )
                .await,
            "UNAUTHENTICATED"
        );
    }
    let twice = "mutation($input: SignInInput!) { signIn(input: $input) { accessToken } again: signIn(input: $input) { accessToken } }";
    assert_eq!(
        house
            .fails(
                None,
                twice,
                json!({"input": {"email": "ada@example.com", "password": PASSWORD}})
            )
            .await,
        "INVALID_INPUT"
    );
}

#[tokio::test]
async fn the_life_of_an_api_key() {
    let (house, token) = House::new().await;
    let bad = json!({"input": {"name": " ", "kind": "SERVICE", "permissions": ["PLATFORM_MANAGE"], "expiresAt": "2020-01-01T00:00:00Z"}});
    let refused = house.ok(Some(&token), NEW_KEY, bad).await["createApiKey"].take();
    let paths: Vec<_> = refused["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["path"][1].as_str().unwrap())
        .collect();
    assert_eq!(
        (paths.as_slice(), &refused["apiKey"]),
        (
            ["name", "expiresAt", "permissions"].as_slice(),
            &Value::Null
        )
    );

    let (id, secret) = new_key(&house, &token, "first").await;
    let by_key = house
        .ok(
            Some(&secret),
            "{ viewer { credential permissions } }",
            json!({}),
        )
        .await;
    assert_eq!(by_key["viewer"]["credential"], "PERSONAL_KEY");
    let rights = by_key["viewer"]["permissions"].as_array().unwrap();
    assert!(
        rights.contains(&"AGENTS_EDIT".into()) && !rights.contains(&"MEMBERS_MANAGE".into()),
        "{rights:?}"
    );
    assert_eq!(
        house
            .fails(
                Some(&secret),
                NEW_KEY,
                json!({"input": {"name": "x", "kind": "PERSONAL"}})
            )
            .await,
        "FORBIDDEN"
    );

    let revoke = "mutation($input: RevokeApiKeyInput!) { revokeApiKey(input: $input) { deletedIds errors { __typename code path ... on NotFound { id } } } }";
    for unknown in [
        "nothing",
        "key_01h455vb4pex5vsknk084sn02q",
        "user_01h455vb4pex5vsknk084sn02q",
    ] {
        let refused = house
            .ok(Some(&token), revoke, json!({"input": {"id": unknown}}))
            .await;
        let expected = json!({"deletedIds": [], "errors": [{"__typename": "NotFound", "code": "NOT_FOUND", "path": ["input", "id"], "id": unknown}]});
        assert_eq!(refused["revokeApiKey"], expected);
    }
    let revoked = house
        .ok(Some(&token), revoke, json!({"input": {"id": id}}))
        .await;
    assert_eq!(
        revoked["revokeApiKey"],
        json!({"deletedIds": [id], "errors": []})
    );
    assert_eq!(
        house
            .caller(Some(&secret))
            .await
            .map(|_| ())
            .unwrap_err()
            .code,
        Code::Unauthenticated
    );
    let seen = house
        .ok(
            Some(&token),
            "query($id: ID!) { node(id: $id) { ... on ApiKey { status } } }",
            json!({"id": id}),
        )
        .await;
    assert_eq!(seen["node"]["status"], "REVOKED");
}

const LIST: &str = "query($first: Int, $after: Cursor, $last: Int, $before: Cursor) { viewer { apiKeys(first: $first, after: $after, last: $last, before: $before) {
    totalCount nodes { name } edges { cursor node { name } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }";

async fn page(house: &House, token: &str, arguments: Value) -> (Vec<String>, bool, bool, Value) {
    let page = house.ok(Some(token), LIST, arguments).await["viewer"]["apiKeys"].take();
    let names = |list: &Value, at: &str| -> Vec<String> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|one| one.pointer(at).unwrap().as_str().unwrap().to_owned())
            .collect()
    };
    let nodes = names(&page["nodes"], "/name");
    assert_eq!(nodes, names(&page["edges"], "/node/name"));
    let info = &page["pageInfo"];
    if let (Some(first), Some(last)) = (
        page["edges"].get(0),
        page["edges"].as_array().unwrap().last(),
    ) {
        assert_eq!(
            (&info["startCursor"], &info["endCursor"]),
            (&first["cursor"], &last["cursor"])
        );
    }
    assert_eq!(page["totalCount"], 5);
    (
        nodes,
        info["hasNextPage"].as_bool().unwrap(),
        info["hasPreviousPage"].as_bool().unwrap(),
        info.clone(),
    )
}

#[tokio::test]
async fn a_list_can_be_walked_both_ways() {
    let (house, token) = House::new().await;
    for name in ["1", "2", "3", "4", "5"] {
        new_key(&house, &token, name).await;
    }
    let (names, next, previous, info) = page(&house, &token, json!({"first": 2})).await;
    assert_eq!(
        (names.join(" ").as_str(), next, previous),
        ("5 4", true, false)
    );
    let (names, next, previous, info) = page(
        &house,
        &token,
        json!({"first": 2, "after": info["endCursor"]}),
    )
    .await;
    assert_eq!(
        (names.join(" ").as_str(), next, previous),
        ("3 2", true, true)
    );
    let (names, next, previous, back) = page(
        &house,
        &token,
        json!({"first": 2, "after": info["endCursor"]}),
    )
    .await;
    assert_eq!(
        (names.join(" ").as_str(), next, previous),
        ("1", false, true)
    );
    let (names, next, previous, _) = page(
        &house,
        &token,
        json!({"last": 3, "before": back["startCursor"]}),
    )
    .await;
    assert_eq!(
        (names.join(" ").as_str(), next, previous),
        ("4 3 2", true, true)
    );
    let (names, next, previous, _) = page(&house, &token, json!({"last": 20})).await;
    assert_eq!(
        (names.join(" ").as_str(), next, previous),
        ("5 4 3 2 1", false, false)
    );
    let (names, next, _, _) = page(&house, &token, json!({"first": 0})).await;
    assert_eq!((names.len(), next), (0, true));
    for wrong in [
        json!({"first": 101}),
        json!({"first": -1}),
        json!({"first": 1, "last": 1}),
        json!({"after": "x"}),
        json!({"before": info["endCursor"].as_str().unwrap().to_uppercase()}),
    ] {
        assert_eq!(
            house.fails(Some(&token), LIST, wrong.clone()).await,
            "INVALID_INPUT",
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn nodes_are_seen_with_the_viewers_rights() {
    let (house, ada) = House::new().await;
    let me = "{ viewer { user { id } tenant { id } memberships { id } } }";
    let own = house.ok(Some(&ada), me, json!({})).await["viewer"].take();
    let (key, _) = new_key(&house, &ada, "a").await;
    let ids = json!({"ids": [own["user"]["id"], "nonsense", own["tenant"]["id"], key, own["memberships"][0]["id"], "agent_01h455vb4pex5vsknk084sn02q", own["user"]["id"]]});
    let text = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename ... on User { name email } ... on ApiKey { owner { name } } ... on Membership { role user { name } } ... on Tenant { slug } } }";
    let seen = |answer: &Value| {
        answer["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["__typename"].as_str().unwrap_or("-").to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };

    let by_ada = house.ok(Some(&ada), text, ids.clone()).await;
    assert_eq!(seen(&by_ada), "User - Tenant ApiKey Membership - User");
    assert_eq!(by_ada["nodes"][0]["email"], "ada@example.com");

    let member = house.person("member", Role::Member, false).await;
    let by_member = house.ok(Some(&member), text, ids.clone()).await;
    assert_eq!(seen(&by_member), "User - Tenant - - - User");
    assert_eq!(
        by_member["nodes"][0],
        json!({"__typename": "User", "name": "Ada", "email": null})
    );

    let admin = house.person("boss", Role::Admin, false).await;
    let by_admin = house.ok(Some(&admin), text, ids.clone()).await;
    assert_eq!(seen(&by_admin), "User - Tenant ApiKey Membership - User");
    assert_eq!(by_admin["nodes"][0]["email"], "ada@example.com");

    let stranger = house.person("stranger", Role::Owner, true).await;
    assert_eq!(
        seen(&house.ok(Some(&stranger), text, ids.clone()).await),
        "- - - - - - -"
    );
    let tenant = house
        .ok(
            Some(&stranger),
            "query($id: ID) { tenant { slug } other: tenant(id: $id) { slug } }",
            json!({"id": own["tenant"]["id"]}),
        )
        .await;
    assert_eq!(
        tenant,
        json!({"tenant": {"slug": "stranger"}, "other": null})
    );

    let too_many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    assert_eq!(
        house
            .fails(Some(&ada), text, json!({"ids": too_many}))
            .await,
        "INVALID_INPUT"
    );
}

#[tokio::test]
async fn credentials_that_are_refused() {
    let (house, token) = House::new().await;
    let code = async |credentials| {
        house
            .graph
            .authenticate(credentials)
            .await
            .map(|_| ())
            .unwrap_err()
            .code
    };
    assert_eq!(
        code(given(Some("nonsense"), None)).await,
        Code::Unauthenticated
    );
    assert_eq!(
        code(given(Some(&token[..token.len() - 2]), None)).await,
        Code::Unauthenticated
    );
    assert_eq!(
        code(given(Some(&token), "elsewhere")).await,
        Code::Forbidden
    );
    assert_eq!(
        code(Credentials {
            on_behalf_of: Some("x".to_owned()),
            ..given(Some(&token), None)
        })
        .await,
        Code::Forbidden
    );

    let nobody = house.caller(None).await.unwrap();
    let ada = house.caller(Some(&token)).await.unwrap();
    assert!(
        house
            .graph
            .same_identity(&ada, &house.caller(Some(&token)).await.unwrap())
    );
    assert!(!house.graph.same_identity(&ada, &nobody));
    assert!(house.graph.user_key(&ada).is_some() && house.graph.user_key(&nobody).is_none());
}

#[tokio::test]
async fn changes_are_told_past_the_token_that_they_were_begun_with() {
    let clock = Arc::new(ManualClock::new(SystemClock::shared().now()));
    let house = House::by_clock(clock.clone(), &[]).await;
    let made = house.ok(None, SET_UP, owner()).await;
    let token = made["setUp"]["accessToken"].as_str().unwrap();
    let caller = house
        .graph
        .authenticate(Credentials {
            transport: Transport::WebSocket,
            ..given(Some(token), None)
        })
        .await
        .unwrap();
    let text = "subscription { changes { __typename } }";
    let document = parse_query(text).unwrap();
    let mut request = async_graphql::Request::new(text);
    request.set_parsed_query(document.clone());
    let mut changes = house.graph.subscribe(
        &caller,
        Operation {
            request,
            document: Arc::new(document),
            may_be_raw: false,
            kind: OperationType::Subscription,
            request_id: "test".to_owned(),
            wants_cursors: false,
            after: None,
        },
    );
    let an_hour_later = async {
        // It begins from now on.
        tokio::time::sleep(Duration::from_secs(1)).await;
        clock.advance(Duration::from_secs(3_700));
        let refused = house.caller(Some(token)).await.err();
        assert_eq!(
            refused.map(|refused| refused.code),
            Some(Code::Unauthenticated)
        );
        let input = json!({"input": {"email": "ada@example.com", "password": PASSWORD}});
        let sign_in = "mutation($input: SignInInput!) { signIn(input: $input) { accessToken } }";
        let again = house.ok(None, sign_in, input).await;
        let create = "mutation { createAgent(input: { name: \"Weaver\", instructions: \"x\" }) { errors { code } } }";
        house
            .ok(again["signIn"]["accessToken"].as_str(), create, json!({}))
            .await;
    };
    let first = tokio::time::timeout(Duration::from_secs(20), changes.next());
    let (first, ()) = tokio::join!(first, an_hour_later);
    let Event::Own(response) = first.unwrap().unwrap().event else {
        panic!("told otherwise")
    };
    assert_eq!(response.errors, []);
}

#[tokio::test]
async fn introspection_can_be_turned_off() {
    let house = House::with(&[("WEFT_INTROSPECTION", "false")]).await;
    let answer = house
        .ask(None, "{ __schema { queryType { name } } }", json!({}))
        .await;
    assert!(!answer.to_string().contains("\"Query\""), "{answer}");
    let house = House::with(&[]).await;
    assert_eq!(
        house
            .ok(None, "{ __schema { queryType { name } } }", json!({}))
            .await["__schema"]["queryType"]["name"],
        "Query"
    );
}

#[tokio::test]
async fn a_database_that_is_closed_shows_nothing_of_itself() {
    let (house, token) = House::new().await;
    let caller = house.caller(Some(&token)).await.unwrap();
    house.app.db.close().await;
    let text = "{ viewer { memberships { id } } }";
    let document = parse_query(text).unwrap();
    let mut request = async_graphql::Request::new(text);
    request.set_parsed_query(document.clone());
    let operation = Operation {
        request,
        document: Arc::new(document),
        may_be_raw: true,
        kind: OperationType::Query,
        request_id: "test".to_owned(),
        wants_cursors: false,
        after: None,
    };
    let answer: Value =
        serde_json::from_slice(&to_json(&house.graph.execute(&caller, operation).await)).unwrap();
    assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAVAILABLE");
    assert_eq!(
        answer["errors"][0]["message"],
        "the database can't be used at the moment"
    );
    assert_eq!(answer["data"], json!({"viewer": null}));
}
