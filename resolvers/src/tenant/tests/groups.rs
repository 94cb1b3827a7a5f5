//! Groups, and who sees them.

use entities::{GroupId, GroupMemberId, Role, Scope};
use serde_json::{Value, json};

use super::house::{House, id, listed};

/// Sales with North, Shop within that and South; Ops. Cyd is an EDITOR of Sales, Dan a MEMBER of North, Eve an ADMIN of Ops.
struct Groups {
    house: House,
    bob: Scope,
    cyd: Scope,
    dan: Scope,
    eve: Scope,
}

const NUMBERS: [(u128, &str); 5] = [
    (100, "Sales"),
    (101, "Sales/North"),
    (102, "Sales/North/Shop"),
    (103, "Sales/South"),
    (104, "Ops"),
];

impl Groups {
    async fn new() -> Self {
        let house = House::new().await;
        let tenant = house.ada.tenant();
        let sales = house.group(100, "Sales", &[]).await;
        let north = house.group(101, "North", &[(100, "Sales")]).await;
        let around = [(100, "Sales"), (101, "North")];
        house.group(102, "Shop", &around).await;
        house.group(103, "South", &[(100, "Sales")]).await;
        let ops = house.group(104, "Ops", &[]).await;
        let bob = house.person(tenant, 11, "Bob", Role::Admin).await;
        let cyd = house.person(tenant, 12, "Cyd", Role::Editor).await;
        let dan = house.person(tenant, 13, "Dan", Role::Member).await;
        let eve = house.person(tenant, 14, "Eve", Role::Member).await;
        Self {
            cyd: house.joins(201, sales, cyd, Role::Editor).await,
            dan: house.joins(202, north, dan, Role::Member).await,
            eve: house.joins(203, ops, eve, Role::Admin).await,
            bob,
            house,
        }
    }
}

fn group(number: u128) -> String {
    GroupId(id(number)).to_string()
}

#[tokio::test]
async fn a_group_is_seen_by_its_members_and_by_who_manages_members() {
    let groups = Groups::new().await;
    let all = [
        "Ops",
        "Sales",
        "Sales/North",
        "Sales/North/Shop",
        "Sales/South",
    ];
    let visitor = groups.house.visitor(groups.house.ada.tenant());
    let other = groups.house.tenant(50, "mills").await;
    let stranger = groups.house.person(other, 60, "Zed", Role::Owner).await;
    // Whoever belongs to another tenant has nothing of its groups here, whatever he says of himself.
    let stranger = stranger.in_groups(groups.cyd.groups().clone());
    for (scope, sees) in [
        (&groups.house.ada, &all[..]),
        (&groups.bob, &all[..]),
        (&groups.cyd, &all[1..]),
        (&groups.dan, &all[2..4]),
        (&groups.eve, &all[..1]),
        (&visitor, &[]),
        (&stranger, &[]),
    ] {
        let list = "{ tenant { groups { totalCount nodes { path } } } }";
        let seen = groups.house.ask(scope, list, json!({})).await;
        let seen = listed(&seen["tenant"]["groups"], |node| &node["path"]);
        assert_eq!(seen, json!([sees, sees.len()]), "{scope:?}");
        for (number, path) in NUMBERS {
            let find = "query($id: ID!, $path: String!) { id: group(id: $id) { path } path: group(path: $path) { path } node(id: $id) { id } }";
            let variables = json!({ "id": group(number), "path": path });
            let found = groups.house.ask(scope, find, variables).await;
            let shown = json!({ "path": path });
            let (group, node) = if sees.contains(&path) {
                (shown, json!({ "id": self::group(number) }))
            } else {
                (Value::Null, Value::Null)
            };
            let expected = json!({ "id": group, "path": group, "node": node });
            assert_eq!(found, expected, "{path} {scope:?}");
        }
    }
}

#[tokio::test]
async fn what_is_around_and_within_a_group_is_what_one_sees_of_it() {
    let groups = Groups::new().await;
    let find = "query($path: String!) { group(path: $path) { name description parent { path } children { totalCount nodes { path } } } }";
    let at = async |scope: &Scope, path: &str| {
        let found = groups.house.ask(scope, find, json!({ "path": path })).await;
        found["group"].clone()
    };
    let north = at(&groups.dan, "Sales/North").await;
    let expected = json!({
        "name": "North", "description": "The group North", "parent": null,
        "children": { "totalCount": 1, "nodes": [{ "path": "Sales/North/Shop" }] },
    });
    assert_eq!(north, expected);
    let north = at(&groups.cyd, "Sales/North").await;
    assert_eq!(north["parent"], json!({ "path": "Sales" }));
    let sales = at(&groups.cyd, "Sales").await;
    let children = listed(&sales["children"], |node| &node["path"]);
    assert_eq!(children, json!([["Sales/North", "Sales/South"], 2]));
    let shop = at(&groups.house.ada, "Sales/North/Shop").await;
    assert_eq!(shop["children"], json!({ "totalCount": 0, "nodes": [] }));
    for wrong in [
        "{ group { id } }",
        "{ group(id: \"x\", path: \"y\") { id } }",
    ] {
        let refused = groups
            .house
            .asked(Some(&groups.dan), wrong, json!({}))
            .await;
        assert!(refused.unwrap_err().contains("INVALID_INPUT"), "{wrong}");
    }
    for nothing in [
        "{ group(id: \"x\") { id } }",
        "{ group(path: \"a\\u0000\") { id } }",
    ] {
        let found = groups.house.ask(&groups.dan, nothing, json!({})).await;
        assert_eq!(found["group"], Value::Null, "{nothing}");
    }
}

#[tokio::test]
async fn members_of_a_group_are_those_of_the_groups_around_it_too() {
    let groups = Groups::new().await;
    let north = GroupId(id(101));
    // He is one of Sales by now, and so twice in North.
    let dan = groups.dan.clone();
    let dan = groups
        .house
        .joins(204, GroupId(id(100)), dan, Role::Admin)
        .await;
    let find = "query($id: ID!, $query: String, $first: Int, $after: Cursor, $last: Int) { group(id: $id) {
        members(query: $query, first: $first, after: $after, last: $last) { totalCount pageInfo { endCursor hasNextPage hasPreviousPage } nodes { id user { name } role inherited } } } }";
    let members = async |scope: &Scope, mut variables: Value| {
        variables["id"] = json!(north.to_string());
        let found = groups.house.ask(scope, find, variables).await;
        found["group"]["members"].clone()
    };
    let number = |number: u128| GroupMemberId(id(number)).to_string();
    let all = members(&dan, json!({})).await;
    let expected = json!([
        { "id": number(201), "user": { "name": "Cyd" }, "role": "EDITOR", "inherited": true },
        { "id": number(202), "user": { "name": "Dan" }, "role": "MEMBER", "inherited": false },
        { "id": number(204), "user": { "name": "Dan" }, "role": "ADMIN", "inherited": true },
    ]);
    assert_eq!((&all["nodes"], &all["totalCount"]), (&expected, &json!(3)));
    // Pages, from both ends.
    let first = members(&dan, json!({ "first": 2 })).await;
    assert_eq!(first["pageInfo"]["hasNextPage"], true);
    let after = first["pageInfo"]["endCursor"].clone();
    let rest = members(&dan, json!({ "first": 2, "after": after })).await;
    assert_eq!(rest["nodes"], json!([expected[2]]));
    assert_eq!(rest["pageInfo"]["hasPreviousPage"], true);
    let last = members(&dan, json!({ "last": 1 })).await;
    assert_eq!(last["nodes"], json!([expected[2]]));
    // By name for everybody, by address for those who see addresses.
    for (scope, text, count) in [
        (&dan, "cY", 1),
        (&dan, "example.com", 0),
        (&groups.bob, "example.com", 3),
        (&groups.bob, "dan@", 2),
        (&dan, "%", 0),
    ] {
        let found = members(scope, json!({ "query": text })).await;
        assert_eq!(found["totalCount"], count, "{text} {scope:?}");
        assert_eq!(found["nodes"].as_array().unwrap().len(), count, "{text}");
    }
    // As nodes they are seen as in the lists that they are in.
    let ids = [201, 202, 203, 204].map(number);
    for (scope, sees) in [
        (
            &groups.bob,
            "GroupMember GroupMember GroupMember GroupMember",
        ),
        (&groups.dan, "GroupMember GroupMember - GroupMember"),
        (&groups.eve, "- - GroupMember -"),
        (&groups.house.visitor(dan.tenant()), "- - - -"),
    ] {
        assert_eq!(groups.house.nodes(scope, &ids).await, sees, "{scope:?}");
    }
}

#[tokio::test]
async fn a_membership_shows_the_groups_that_both_know() {
    let groups = Groups::new().await;
    let document =
        "query($user: String!) { tenant { members(query: $user) { nodes { groups { path } } } } }";
    let mine =
        "query($id: ID!) { node(id: $id) { ... on Membership { user { name } groups { path } } } }";
    let seen = groups
        .house
        .ask(&groups.bob, document, json!({ "user": "Dan" }))
        .await;
    let nodes = &seen["tenant"]["members"]["nodes"];
    assert_eq!(nodes, &json!([{ "groups": [{ "path": "Sales/North" }] }]));
    let membership = |number: u128, tenant: entities::TenantId| {
        let bits = number ^ tenant.0.as_u128();
        entities::MembershipId(id(bits)).to_string()
    };
    let here = groups.dan.tenant();
    let own = groups
        .house
        .ask(&groups.dan, mine, json!({ "id": membership(13, here) }))
        .await;
    let expected = json!({ "user": { "name": "Dan" }, "groups": [{ "path": "Sales/North" }] });
    assert_eq!(own["node"], expected);
    // His in another tenant, asked for from here.
    let other = groups.house.tenant(50, "mills").await;
    groups.house.belongs(other, 13, Role::Member).await;
    let there = groups
        .house
        .ask(&groups.dan, mine, json!({ "id": membership(13, other) }))
        .await;
    assert_eq!(there["node"]["groups"], json!([]));
    // Without the right to manage members nobody else's is seen.
    let others = groups
        .house
        .ask(&groups.eve, mine, json!({ "id": membership(13, here) }))
        .await;
    assert_eq!(others["node"], Value::Null);
}
