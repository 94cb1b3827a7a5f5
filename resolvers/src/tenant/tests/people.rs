//! Tenants, members, invitations, keys and settings.

use chrono::TimeDelta;
use entities::{
    ApiKeyId, InvitationId, MembershipId, Permission, Role, Scope, TenantId, UserId,
    auto_join_domain, invitation, llm_model, membership, query::*, tenant, user,
};
use serde_json::{Value, json};

use super::house::{House, SYSTEM, id, listed, scope};

const LISTS: &str = "{ tenant { name isActive members { totalCount nodes { user { name } } } groups { totalCount }
    invitations { totalCount nodes { role } } apiKeys { totalCount nodes { name mayImpersonate mayCreateUsers } }
    auditLog { totalCount } settings { currency defaultModel { name } titleModel { name } retentionDays maxConcurrentRuns oidcAutoJoinDomains } } }";

fn counts(tenant: &Value) -> Value {
    let lists = ["members", "groups", "invitations", "apiKeys", "auditLog"];
    json!(lists.map(|list| tenant[list]["totalCount"].clone()))
}

/// Looms with an administrator, an editor and a member, a group, two invitations and a key, and Mills with Zed, where Bob belongs
/// as well.
struct People {
    house: House,
    bob: Scope,
    cyd: Scope,
    dan: Scope,
    zed: Scope,
    mills: TenantId,
}

impl People {
    async fn new() -> Self {
        let house = House::new().await;
        let looms = house.ada.tenant();
        let mills = house.tenant(50, "mills").await;
        let bob = house.person(looms, 11, "Bob", Role::Admin).await;
        let cyd = house.person(looms, 12, "Cyd", Role::Editor).await;
        let dan = house.person(looms, 13, "Dan", Role::Member).await;
        let zed = house.person(mills, 60, "Zed", Role::Owner).await;
        house.belongs(mills, 11, Role::Member).await;
        house.group(100, "Sales", &[]).await;
        house.key(300, &cyd).await;
        house.invitation(house.invited(400, "for anybody")).await;
        // By an administrator of the platform, who belongs to no tenant.
        let now = house.now();
        let pam = user::Model {
            id: UserId(id(99)),
            is_platform_administrator: true,
            ..account(&house, "Pam").await
        };
        house
            .write(async |tx| user::Entity::add(&**tx, pam).await.unwrap())
            .await;
        let owner = invitation::Model {
            role: Role::Owner,
            invited_by: UserId(id(99)),
            by_platform: true,
            email: Some("Eli@example.com".into()),
            created_at: now + TimeDelta::seconds(1),
            ..house.invited(401, "for an owner")
        };
        house.invitation(owner).await;
        let domains = ["looms.example", "cloth.example"].map(|domain| auto_join_domain::Model {
            domain: domain.into(),
            tenant_id: looms,
        });
        let before = house.write(async |tx| {
            auto_join_domain::Entity::add_all(&**tx, domains.into())
                .await
                .unwrap();
            tenant::Entity::change_anywhere(SYSTEM)
                .filter(tenant::Column::Id.eq(looms))
                .col_expr(tenant::Column::MaxConcurrentRuns, Expr::value(5_000))
                .exec(&**tx)
                .await
                .unwrap()
        });
        before.await;
        Self {
            house,
            bob,
            cyd,
            dan,
            zed,
            mills,
        }
    }
}

async fn account(house: &House, name: &str) -> user::Model {
    let ada = user::Entity::anywhere(SYSTEM)
        .filter(user::Column::Id.eq(house.ada.user()))
        .one(house.db.reader(SYSTEM))
        .await
        .unwrap()
        .unwrap();
    user::Model {
        name: name.into(),
        email: Some(format!("{name}@platform.example")),
        email_key: Some(format!("{}@platform.example", name.to_lowercase())),
        ..ada
    }
}

#[tokio::test]
async fn each_list_is_for_those_who_may_see_it() {
    let people = People::new().await;
    let looms = people.house.ada.tenant();
    let without = |scope: &Scope, permission| {
        let left = scope.permissions().without(permission);
        Scope::new(
            scope.tenant(),
            scope.user(),
            scope.role().unwrap(),
            left,
            scope.principal(),
        )
    };
    let none = Value::Null;
    let audit = people.house.ask(&people.house.ada, LISTS, json!({})).await;
    let audit = audit["tenant"]["auditLog"]["totalCount"].clone();
    for (who, scope, expected, settings) in [
        (
            "owner",
            people.house.ada.clone(),
            json!([4, 1, 2, 1, audit]),
            true,
        ),
        // TENANT_MANAGE is the owner's.
        (
            "admin",
            people.bob.clone(),
            json!([4, 1, 2, 1, audit]),
            false,
        ),
        (
            "editor",
            people.cyd.clone(),
            json!([none, 0, none, none, none]),
            false,
        ),
        (
            "member",
            people.dan.clone(),
            json!([none, 0, none, none, none]),
            false,
        ),
        // Whoever looks after the platform and belongs to another tenant.
        (
            "visitor",
            people.house.visitor(looms),
            json!([4, 0, 1, none, audit]),
            true,
        ),
        (
            "admin by a key",
            without(&people.bob, Permission::MembersManage),
            json!([none, 0, none, none, audit]),
            false,
        ),
        (
            "admin by a key",
            without(&people.bob, Permission::AuditRead),
            json!([4, 1, 2, 1, none]),
            false,
        ),
    ] {
        let seen = people.house.ask(&scope, LISTS, json!({})).await;
        let tenant = &seen["tenant"];
        assert_eq!(counts(tenant), expected, "{who}");
        assert_eq!(tenant["settings"].is_object(), settings, "{who}");
        assert_eq!(
            (&tenant["name"], &tenant["isActive"]),
            (&json!("Looms"), &json!(true)),
            "{who}"
        );
    }
    let seen = people.house.ask(&people.bob, LISTS, json!({})).await;
    let members = listed(&seen["tenant"]["members"], |node| &node["user"]["name"]);
    assert_eq!(members, json!([["Ada", "Bob", "Cyd", "Dan"], 4]));
    let roles = listed(&seen["tenant"]["invitations"], |node| &node["role"]);
    assert_eq!(roles, json!([["OWNER", "EDITOR"], 2]), "the newest first");
    let key = json!({ "name": "key 300", "mayImpersonate": true, "mayCreateUsers": false });
    assert_eq!(seen["tenant"]["apiKeys"]["nodes"], json!([key]));
    let seen = people
        .house
        .ask(&people.house.visitor(looms), LISTS, json!({}))
        .await;
    let roles = listed(&seen["tenant"]["invitations"], |node| &node["role"]);
    assert_eq!(roles, json!([["OWNER"], 1]), "what a visitor could make");
}

#[tokio::test]
async fn of_another_tenant_of_his_one_sees_its_name() {
    let people = People::new().await;
    let document = LISTS.replace("{ tenant {", "query($id: ID!) { tenant(id: $id) {");
    let looms = people.house.ada.tenant();
    let from_there = scope(people.mills, 11, Role::Member);
    // Bob administers Looms, and asks in Mills; Ada looks after the platform, and asks in Looms.
    for (scope, tenant) in [(&from_there, looms), (&people.house.ada, people.mills)] {
        let seen = people
            .house
            .ask(scope, &document, json!({ "id": tenant.to_string() }))
            .await;
        let seen = &seen["tenant"];
        let none = Value::Null;
        assert_eq!(
            counts(seen),
            json!([none, 0, none, none, none]),
            "{scope:?}"
        );
        assert_eq!((&seen["settings"], seen["name"].is_string()), (&none, true));
    }
    // And of one that is not his, nothing.
    for scope in [&people.zed, &people.cyd] {
        let other = if scope.tenant() == looms {
            people.mills
        } else {
            looms
        };
        let seen = people
            .house
            .ask(scope, &document, json!({ "id": other.to_string() }))
            .await;
        assert_eq!(seen["tenant"], Value::Null);
    }
}

#[tokio::test]
async fn tenants_are_ones_own_or_all_there_are() {
    let people = People::new().await;
    let document = "{ tenants { totalCount nodes { name } } }";
    let pam = people.house.visitor(people.mills);
    for (scope, expected) in [
        (&people.house.ada, json!([["Looms", "MILLS"], 2])),
        (&pam, json!([["Looms", "MILLS"], 2])),
        (&people.bob, json!([["Looms", "MILLS"], 2])),
        (&people.dan, json!([["Looms"], 1])),
        (&people.zed, json!([["MILLS"], 1])),
    ] {
        let seen = people.house.ask(scope, document, json!({})).await;
        assert_eq!(
            listed(&seen["tenants"], |node| &node["name"]),
            expected,
            "{scope:?}"
        );
    }
}

#[tokio::test]
async fn a_visitor_finds_people_and_nothing_they_made() {
    let people = People::new().await;
    let looms = people.house.ada.tenant();
    let model = people.house.write(async |tx| {
        let model = super::sharing::model(&people.house, 500);
        let id = model.id;
        llm_model::Entity::add(&**tx, model).await.unwrap();
        let chosen = tenant::Entity::change_anywhere(SYSTEM)
            .filter(tenant::Column::Id.eq(looms))
            .col_expr(tenant::Column::DefaultModelId, Expr::value(Some(id.0)))
            .col_expr(tenant::Column::TitleModelId, Expr::value(Some(id.0)));
        chosen.exec(&**tx).await.unwrap();
        id
    });
    let model = model.await;
    let visitor = people.house.visitor(looms);
    let found = people.house.ask(&visitor, LISTS, json!({})).await;
    let settings = |models: Value| {
        json!({
            "currency": "USD", "defaultModel": models, "titleModel": models, "retentionDays": null,
            // The tenant asks for more than there are.
            "maxConcurrentRuns": 1000, "oidcAutoJoinDomains": ["cloth.example", "looms.example"],
        })
    };
    assert_eq!(found["tenant"]["settings"], settings(Value::Null));
    let found = people.house.ask(&people.house.ada, LISTS, json!({})).await;
    assert_eq!(
        found["tenant"]["settings"],
        settings(json!({ "name": "Model 500" }))
    );
    let document = "{ agents { totalCount } models { totalCount } conversations { totalCount } }";
    let found = people.house.ask(&visitor, document, json!({})).await;
    let nothing = json!({ "totalCount": 0 });
    assert_eq!(
        found,
        json!({ "agents": nothing, "models": nothing, "conversations": nothing })
    );
    let belonging = MembershipId(id(13 ^ looms.0.as_u128()));
    let ids = [
        looms.to_string(),
        people.dan.user().to_string(),
        belonging.to_string(),
        InvitationId(id(400)).to_string(),
        InvitationId(id(401)).to_string(),
        ApiKeyId(id(300)).to_string(),
        entities::GroupId(id(100)).to_string(),
        model.to_string(),
    ];
    let expected = "Tenant User Membership - Invitation - - -";
    assert_eq!(people.house.nodes(&visitor, &ids).await, expected);
    let expected = "Tenant User Membership Invitation Invitation ApiKey Group Model";
    assert_eq!(people.house.nodes(&people.house.ada, &ids).await, expected);
    assert_eq!(
        people.house.nodes(&people.dan, &ids).await,
        "Tenant User Membership - - - - -"
    );
    assert_eq!(
        people.house.nodes(&people.cyd, &ids).await,
        "Tenant User - - - ApiKey - -"
    );
    assert_eq!(
        people.house.nodes(&people.zed, &ids).await,
        "- - - - - - - -"
    );
}

#[tokio::test]
async fn members_are_found_by_name_and_address() {
    let people = People::new().await;
    let looms = people.house.ada.tenant();
    let document = "query($query: String, $first: Int, $after: Cursor) { tenant { members(query: $query, first: $first, after: $after) {
        totalCount pageInfo { endCursor } nodes { isActive user { name email isManaged } } } } }";
    people
        .house
        .write(async |tx| {
            let mine = || {
                membership::Entity::change_anywhere(SYSTEM)
                    .filter(membership::Column::TenantId.eq(looms))
            };
            let suspended = mine().filter(membership::Column::UserId.eq(people.cyd.user()));
            suspended
                .col_expr(membership::Column::IsActive, Expr::value(false))
                .exec(&**tx)
                .await
                .unwrap();
            let ended = mine().filter(membership::Column::UserId.eq(people.dan.user()));
            ended
                .col_expr(membership::Column::EndedAt, Expr::value(people.house.now()))
                .exec(&**tx)
                .await
                .unwrap();
            let managed = user::Entity::change_anywhere(SYSTEM)
                .filter(user::Column::Id.eq(people.bob.user()));
            managed
                .col_expr(user::Column::ManagedTenantId, Expr::value(Some(looms.0)))
                .exec(&**tx)
                .await
                .unwrap();
        })
        .await;
    let members = async |variables: Value| {
        let found = people.house.ask(&people.bob, document, variables).await;
        found["tenant"]["members"].clone()
    };
    let all = members(json!({})).await;
    // Who left is not among them; who is suspended is.
    let person = |name: &str, is_active: bool, is_managed: bool| {
        let email = format!("{}@example.com", name.to_lowercase());
        json!({ "isActive": is_active, "user": { "name": name, "email": email, "isManaged": is_managed } })
    };
    let expected = json!([
        person("Ada", true, false),
        person("Bob", true, true),
        person("Cyd", false, false)
    ]);
    assert_eq!((&all["nodes"], &all["totalCount"]), (&expected, &json!(3)));
    let first = members(json!({ "first": 2 })).await;
    let after = &first["pageInfo"]["endCursor"];
    assert_eq!(
        members(json!({ "first": 2, "after": after })).await["nodes"],
        json!([expected[2]])
    );
    for (text, count) in [
        ("b", 1),
        ("BOB@", 1),
        ("example", 3),
        ("dan", 0),
        ("_", 0),
        ("  ", 3),
    ] {
        let found = members(json!({ "query": text })).await;
        assert_eq!(found["totalCount"], count, "{text}");
    }
    let long = people
        .house
        .asked(
            Some(&people.bob),
            document,
            json!({ "query": "x".repeat(201) }),
        )
        .await;
    assert!(
        long.unwrap_err()
            .contains("query has 201 characters, at most 200 are allowed")
    );
    // He is there for what he wrote.
    let user = "query($id: ID!) { user(id: $id) { name isActive email } }";
    let dan = people
        .house
        .ask(
            &people.zed,
            user,
            json!({ "id": people.dan.user().to_string() }),
        )
        .await;
    assert_eq!(dan["user"], Value::Null);
    let dan = people
        .house
        .ask(
            &people.cyd,
            user,
            json!({ "id": people.dan.user().to_string() }),
        )
        .await;
    assert_eq!(
        dan["user"],
        json!({ "name": "Dan", "isActive": false, "email": null })
    );
}

#[tokio::test]
async fn an_invitation_tells_who_made_it_and_where_it_leads() {
    let people = People::new().await;
    let document = "{ tenant { invitations { nodes { email role status usesLeft tenant { name } groups { path } invitedBy { name email } expiresAt createdAt } } } }";
    let group = entities::invitation_group::Model {
        tenant_id: people.house.ada.tenant(),
        invitation_id: InvitationId(id(400)),
        group_id: entities::GroupId(id(100)),
    };
    people
        .house
        .write(async |tx| {
            entities::invitation_group::Entity::add(&**tx, group)
                .await
                .unwrap();
        })
        .await;
    let seen = people.house.ask(&people.bob, document, json!({})).await;
    let expected = json!([
        {
            "email": "Eli@example.com", "role": "OWNER", "status": "OPEN", "usesLeft": 1, "tenant": { "name": "Looms" }, "groups": [],
            "invitedBy": { "name": "Pam", "email": null }, "expiresAt": "2023-11-15T22:13:20Z", "createdAt": "2023-11-14T22:13:21Z",
        },
        {
            "email": null, "role": "EDITOR", "status": "OPEN", "usesLeft": 1, "tenant": { "name": "Looms" }, "groups": [{ "path": "Sales" }],
            "invitedBy": { "name": "Ada", "email": "ada@example.com" }, "expiresAt": "2023-11-15T22:13:20Z", "createdAt": "2023-11-14T22:13:20Z",
        },
    ]);
    assert_eq!(seen["tenant"]["invitations"]["nodes"], expected);
}

#[tokio::test]
async fn whoever_has_the_token_is_shown_what_it_offers() {
    let people = People::new().await;
    let document = "query($token: String!) { invitation(token: $token) { tenantName role email status expiresAt } }";
    let preview = async |token: &str| {
        let found = people
            .house
            .asked(None, document, json!({ "token": token }))
            .await;
        found.unwrap()["invitation"].clone()
    };
    let open = json!({ "tenantName": "Looms", "role": "OWNER", "email": "Eli@example.com", "status": "OPEN", "expiresAt": "2023-11-15T22:13:20Z" });
    assert_eq!(preview("for an owner").await, open);
    for nothing in ["", "for an Owner", "another"] {
        assert_eq!(preview(nothing).await, Value::Null, "{nothing}");
    }
    // Everything else needs a credential.
    let refused = people
        .house
        .asked(None, "{ tenants { totalCount } }", json!({}))
        .await;
    assert!(refused.unwrap_err().starts_with("UNAUTHENTICATED"));
    people
        .house
        .clock
        .advance(TimeDelta::days(1).to_std().unwrap());
    assert_eq!(preview("for an owner").await["status"], "EXPIRED");
    people
        .house
        .write(async |tx| {
            let suspended = tenant::Entity::change_anywhere(SYSTEM)
                .col_expr(tenant::Column::IsActive, Expr::value(false));
            suspended.exec(&**tx).await.unwrap()
        })
        .await;
    assert_eq!(
        preview("for an owner").await,
        Value::Null,
        "its tenant is suspended"
    );
}
