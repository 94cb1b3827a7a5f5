//! With whom things are shared, and what those see of them.

use chrono::TimeDelta;
use entities::{
    Access, AgentId, AgentSpec, AgentVersionId, ConversationId, Grantee, GroupId, MessageId,
    MessageRole, MessageStatus, ModelHealthStatus, ModelId, ModelKind, ModelProvider, Names, Part,
    Parts, Permissions, Reach, ResourceKind, Role, RunId, RunStatus, RunTrigger, Scope, ShareId,
    Shared, TenantId, Usage, UserId, Visibility, agent, agent_version, conversation, llm_model,
    message, query::*, run, share,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::house::{House, SYSTEM, id};

/// A model of Ada's that nobody else is shown.
pub(super) fn model(house: &House, number: u128) -> llm_model::Model {
    llm_model::Model {
        id: ModelId(id(number)),
        tenant_id: house.ada.tenant(),
        owner_id: house.ada.user(),
        slug: format!("model-{number}"),
        name: format!("Model {number}"),
        kind: ModelKind::Chat,
        provider: ModelProvider::OpenAi,
        model_name: "gpt-4o".into(),
        base_url: None,
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
        input_per_million: None,
        output_per_million: None,
        cached_input_per_million: None,
        max_concurrency: None,
        timeout_ms: 60_000,
        visibility: Visibility::Private,
        group_id: None,
        reach: None,
        health: ModelHealthStatus::Unknown,
        checked_at: None,
        latency_ms: None,
        health_message: None,
        breaker_until: None,
        check_at: None,
        created_at: house.now(),
        updated_at: house.now(),
        deleted_at: None,
    }
}

fn agent(house: &House, number: u128) -> (agent::Model, agent_version::Model) {
    let spec = AgentSpec {
        instructions: "Weave.".into(),
        greeting: None,
        starters: Vec::new(),
        temperature: None,
        max_output_tokens: None,
        max_steps: 3,
    };
    let row = agent::Model {
        id: AgentId(id(number)),
        tenant_id: house.ada.tenant(),
        owner_id: house.ada.user(),
        slug: format!("agent-{number}"),
        name: format!("Agent {number}"),
        description: String::new(),
        visibility: Visibility::Private,
        group_id: None,
        reach: None,
        is_enabled: true,
        draft: spec.clone(),
        draft_model_id: None,
        draft_updated_at: house.now(),
        version_id: AgentVersionId(id(number + 1)),
        uses: 0,
        created_at: house.now(),
        updated_at: house.now(),
        deleted_at: None,
    };
    let version = agent_version::Model {
        id: row.version_id,
        tenant_id: row.tenant_id,
        agent_id: row.id,
        number: 1,
        name: None,
        notes: None,
        spec,
        model_id: None,
        published_by: row.owner_id,
        published_at: house.now(),
    };
    (row, version)
}

/// Rows that say the same as `reach`, a second apart.
fn rows(house: &House, kind: ResourceKind, resource: Uuid, reach: &Reach) -> Vec<share::Model> {
    let row = |(at, shared): (usize, &Shared)| {
        let seconds = i64::try_from(at).unwrap();
        share::Model {
            id: ShareId(Uuid::from_u128(resource.as_u128() << 8 | at as u128)),
            tenant_id: house.ada.tenant(),
            kind,
            resource_id: resource,
            user_id: match shared.with {
                Grantee::User(user) => Some(user),
                _ => None,
            },
            group_id: match &shared.with {
                Grantee::Group(chain) => Some(chain[0]),
                _ => None,
            },
            with_tenant: shared.with == Grantee::Tenant,
            access: shared.access,
            created_at: house.now() + TimeDelta::seconds(seconds),
        }
    };
    reach.shares.iter().enumerate().map(row).collect()
}

fn shared(with: Grantee, access: Access) -> Shared {
    Shared { with, access }
}

/// Dan, Eve, who is of Ops, Cyd, who is an EDITOR of Sales, and Fay, who is an ADMIN of it.
async fn people(house: &House) -> [Scope; 5] {
    let looms = house.ada.tenant();
    let sales = house.group(100, "Sales", &[]).await;
    let ops = house.group(104, "Ops", &[]).await;
    let bob = house.person(looms, 11, "Bob", Role::Admin).await;
    let cyd = house.person(looms, 12, "Cyd", Role::Editor).await;
    let dan = house.person(looms, 13, "Dan", Role::Member).await;
    let eve = house.person(looms, 14, "Eve", Role::Member).await;
    let fay = house.person(looms, 15, "Fay", Role::Member).await;
    let cyd = house.joins(201, sales, cyd, Role::Editor).await;
    let eve = house.joins(202, ops, eve, Role::Member).await;
    let fay = house.joins(203, sales, fay, Role::Admin).await;
    [bob, cyd, dan, eve, fay]
}

#[tokio::test]
async fn agents_and_models_say_where_they_live_and_with_whom_they_are_shared() {
    let house = House::new().await;
    let [bob, cyd, dan, eve, fay] = people(&house).await;
    let reach = Reach {
        group: vec![GroupId(id(100))],
        shares: vec![
            shared(Grantee::User(dan.user()), Access::Use),
            shared(Grantee::Group(vec![GroupId(id(104))]), Access::Read),
            shared(Grantee::Tenant, Access::Use),
        ],
    };
    let model = llm_model::Model {
        group_id: Some(GroupId(id(100))),
        reach: Some(reach.clone()),
        ..model(&house, 500)
    };
    let (agent, version) = agent(&house, 600);
    let agent = agent::Model {
        group_id: Some(GroupId(id(100))),
        reach: Some(reach.clone()),
        ..agent
    };
    let (model_id, agent_id) = (model.id, agent.id);
    house
        .write(async |tx| {
            llm_model::Entity::add(&**tx, model).await.unwrap();
            agent::Entity::add(&**tx, agent).await.unwrap();
            agent_version::Entity::add(&**tx, version).await.unwrap();
            let of_model = rows(&house, ResourceKind::Model, model_id.0, &reach);
            share::Entity::add_all(&**tx, of_model).await.unwrap();
            let of_agent = rows(&house, ResourceKind::Agent, agent_id.0, &reach);
            share::Entity::add_all(&**tx, of_agent).await.unwrap();
        })
        .await;
    let fields = "viewerAccess group { path } shares { user { name } group { path } tenant { name } access createdAt }";
    let document = format!(
        "query($model: ID!, $agent: ID!) {{ model(id: $model) {{ {fields} }} agent(id: $agent) {{ {fields} }} }}"
    );
    let variables = json!({ "model": model_id.to_string(), "agent": agent_id.to_string() });
    let shares = |ops: Value| {
        json!([
            { "user": { "name": "Dan" }, "group": null, "tenant": null, "access": "USE", "createdAt": "2023-11-14T22:13:20Z" },
            { "user": null, "group": ops, "tenant": null, "access": "READ", "createdAt": "2023-11-14T22:13:21Z" },
            { "user": null, "group": null, "tenant": { "name": "Looms" }, "access": "USE", "createdAt": "2023-11-14T22:13:22Z" },
        ])
    };
    let (sales, ops) = (json!({ "path": "Sales" }), json!({ "path": "Ops" }));
    for (scope, access, group, shares) in [
        (&house.ada, "MANAGE", &sales, shares(ops.clone())),
        (&bob, "MANAGE", &sales, shares(ops)),
        (&cyd, "EDIT", &sales, Value::Null),
        (&dan, "USE", &Value::Null, Value::Null),
        (&eve, "READ", &Value::Null, Value::Null),
        // She manages what lives in Sales, and knows nothing of Ops.
        (&fay, "MANAGE", &sales, shares(Value::Null)),
    ] {
        let seen = house.ask(scope, &document, variables.clone()).await;
        let expected = json!({ "viewerAccess": access, "group": group, "shares": shares });
        assert_eq!(
            (&seen["model"], &seen["agent"]),
            (&expected, &expected),
            "{scope:?}"
        );
    }
}

fn conversation(tenant: TenantId, owner: UserId, house: &House) -> conversation::Model {
    conversation::Model {
        id: ConversationId(id(700)),
        tenant_id: tenant,
        owner_id: owner,
        reach: None,
        agent_id: None,
        title: Some("Cloth".into()),
        title_by_person: true,
        title_due_at: None,
        title_failures: 0,
        is_indexed: false,
        is_archived: false,
        leaf_id: Some(MessageId(id(701))),
        last_message_id: Some(MessageId(id(701))),
        active_run_id: None,
        last_queue_no: 1,
        last_activity_at: house.now(),
        created_at: house.now(),
        updated_at: house.now(),
        deleted_at: None,
    }
}

fn said(talk: &conversation::Model) -> message::Model {
    message::Model {
        id: MessageId(id(701)),
        tenant_id: talk.tenant_id,
        conversation_id: talk.id,
        seq: 1,
        role: MessageRole::User,
        status: MessageStatus::Complete,
        is_hidden: false,
        author_id: Some(talk.owner_id),
        agent_id: None,
        model_id: None,
        parent_id: None,
        run_id: None,
        client_id: None,
        parts: Parts(vec![Part::Text {
            text: "How is cloth made?".into(),
        }]),
        parts_seq: 1,
        usage: None,
        rating: None,
        rating_comment: None,
        summary: None,
        is_indexed: false,
        removed_at: None,
        created_at: talk.created_at,
        updated_at: talk.created_at,
    }
}

fn ran(talk: &conversation::Model) -> run::Model {
    run::Model {
        id: RunId(id(702)),
        tenant_id: talk.tenant_id,
        conversation_id: talk.id,
        parent_run_id: None,
        agent_id: None,
        agent_version_id: None,
        draft: None,
        asked_model_id: None,
        primary_model_id: None,
        model_id: None,
        status: RunStatus::Completed,
        trigger: RunTrigger::Message,
        user_id: talk.owner_id,
        api_key_id: None,
        permissions: Permissions::NONE,
        queue_no: 1,
        input_message_id: Some(MessageId(id(701))),
        output_message_id: MessageId(id(703)),
        attempt: 1,
        losses: 0,
        losses_in_step: 0,
        owner: None,
        lease_until: None,
        progress_at: None,
        steps: 1,
        error: None,
        usage: Usage::default(),
        first_seq: 1,
        terminal_seq: Some(2),
        format: 1,
        created_at: talk.created_at,
        started_at: None,
        first_token_at: None,
        finished_at: None,
    }
}

#[tokio::test]
async fn a_conversation_is_its_owners_until_it_is_shared() {
    let house = House::new().await;
    let [bob, cyd, dan, eve, _] = people(&house).await;
    let talk = conversation(dan.tenant(), dan.user(), &house);
    house
        .write(async |tx| {
            message::Entity::add(&**tx, said(&talk)).await.unwrap();
            run::Entity::add(&**tx, ran(&talk)).await.unwrap();
            conversation::Entity::add(&**tx, talk.clone())
                .await
                .unwrap();
        })
        .await;
    let document = "query($id: ID!) { conversation(id: $id) { visibility viewerAccess group { path } shares { access } messages { nodes { text } } runs { totalCount nodes { status } } } }";
    let variables = json!({ "id": talk.id.to_string() });
    let ids = [
        talk.id.to_string(),
        MessageId(id(701)).to_string(),
        RunId(id(702)).to_string(),
    ];
    let seen = |visibility: &str, access: &str, shares: Value| {
        json!({
            "visibility": visibility, "viewerAccess": access, "group": null, "shares": shares,
            "messages": { "nodes": [{ "text": "How is cloth made?" }] }, "runs": { "totalCount": 1, "nodes": [{ "status": "COMPLETED" }] },
        })
    };
    let check = async |expected: &[(&Scope, Value)]| {
        for (scope, expected) in expected {
            let found = house.ask(scope, document, variables.clone()).await;
            assert_eq!(&found["conversation"], expected, "{scope:?}");
            let nodes = if expected.is_null() {
                "- - -"
            } else {
                "Conversation Message Run"
            };
            assert_eq!(house.nodes(scope, &ids).await, nodes, "{scope:?}");
        }
    };
    let none = Value::Null;
    let nobody_else = [&house.ada, &bob, &cyd, &eve].map(|scope| (scope, none.clone()));
    check(&nobody_else).await;
    check(&[(&dan, seen("PRIVATE", "MANAGE", json!([])))]).await;

    let share_with = async |shares: Vec<Shared>| {
        let reach = Reach {
            group: Vec::new(),
            shares,
        };
        let rows = rows(&house, ResourceKind::Conversation, talk.id.0, &reach);
        house
            .write(async |tx| {
                share::Entity::delete_anywhere(SYSTEM)
                    .filter(share::Column::ResourceId.eq(talk.id.0))
                    .exec(&**tx)
                    .await
                    .unwrap();
                share::Entity::add_all(&**tx, rows).await.unwrap();
                conversation::Entity::change_anywhere(SYSTEM)
                    .filter(conversation::Column::Id.eq(talk.id))
                    .col_expr(conversation::Column::Reach, Expr::value(Some(reach)))
                    .exec(&**tx)
                    .await
                    .unwrap();
            })
            .await;
    };
    // What is shared is found by its words as well, by those with whom it is.
    house
        .write(async |tx| entities::search::catch_up(SYSTEM, tx, 10).await.unwrap())
        .await;
    let found = async |scope: &Scope| {
        let document =
            "{ conversations(filter: { query: \"cloth made\" }) { totalCount nodes { title } } }";
        let found = house.ask(scope, document, json!({})).await;
        let nodes = found["conversations"]["nodes"].as_array().map(Vec::len);
        (nodes, found["conversations"]["totalCount"].clone())
    };
    assert_eq!(found(&dan).await, (Some(1), json!(1)));
    assert_eq!(found(&cyd).await, (Some(0), json!(0)));
    let with_cyd = shared(Grantee::User(cyd.user()), Access::Edit);
    let with_ops = shared(Grantee::Group(vec![GroupId(id(104))]), Access::Read);
    share_with(vec![with_cyd.clone()]).await;
    assert_eq!(found(&cyd).await, (Some(1), json!(1)));
    assert_eq!(found(&eve).await, (Some(0), json!(0)));
    check(&[
        (
            &dan,
            seen("PRIVATE", "MANAGE", json!([{ "access": "EDIT" }])),
        ),
        (&cyd, seen("PRIVATE", "EDIT", none.clone())),
        (&eve, none.clone()),
    ])
    .await;
    share_with(vec![with_cyd.clone(), with_ops.clone()]).await;
    check(&[
        (&eve, seen("GROUP", "READ", none.clone())),
        (&bob, none.clone()),
        (&house.ada, none.clone()),
    ])
    .await;
    let with_all = shared(Grantee::Tenant, Access::Read);
    share_with(vec![with_all, with_ops]).await;
    check(&[
        (&bob, seen("TENANT", "READ", none.clone())),
        (&cyd, seen("TENANT", "READ", none.clone())),
        (&house.visitor(dan.tenant()), none.clone()),
    ])
    .await;
}
