//! The audit log as those who may read it see it.

use chrono::TimeDelta;
use entities::{AgentId, ApiKeyId, AuditEntryId, AuditOutcome, Role, UserId, audit_entry};
use serde_json::{Value, json};

use super::house::{House, SYSTEM, id, listed};

#[tokio::test]
async fn the_log_is_filtered_and_shows_what_its_reader_may_see() {
    let house = House::new().await;
    let looms = house.ada.tenant();
    let mills = house.tenant(50, "mills").await;
    let bob = house.person(looms, 11, "Bob", Role::Admin).await;
    let cyd = house.person(looms, 12, "Cyd", Role::Editor).await;
    house.key(300, &cyd).await;
    let group = house.group(100, "Sales", &[]).await;
    house
        .write(async |tx| {
            audit_entry::Entity::delete_anywhere(SYSTEM)
                .exec(&**tx)
                .await
        })
        .await
        .unwrap();
    let entry = |number: u128, action: &str| audit_entry::Model {
        id: AuditEntryId(id(number)),
        tenant_id: looms,
        at: house.now() + TimeDelta::seconds(i64::try_from(number).unwrap()),
        actor_id: Some(bob.user()),
        api_key_id: None,
        on_behalf_of_id: None,
        action: action.into(),
        target_id: None,
        outcome: AuditOutcome::Allowed,
        address: Some("192.0.2.7".into()),
        details: json!({ "fields": ["name"] }),
    };
    let entries = vec![
        audit_entry::Model {
            target_id: Some(group.to_string()),
            ..entry(1, "createGroup")
        },
        audit_entry::Model {
            actor_id: Some(cyd.user()),
            api_key_id: Some(ApiKeyId(id(300))),
            on_behalf_of_id: Some(bob.user()),
            target_id: Some(AgentId(id(5)).to_string()),
            outcome: AuditOutcome::Refused,
            ..entry(2, "updateAgent")
        },
        // By an administrator of the platform, with what has no id.
        audit_entry::Model {
            actor_id: Some(UserId(id(99))),
            target_id: Some("something else".into()),
            address: None,
            ..entry(3, "updateTenant")
        },
        audit_entry::Model {
            target_id: Some(AuditEntryId(id(1)).to_string()),
            ..entry(4, "createGroup")
        },
        audit_entry::Model {
            tenant_id: mills,
            ..entry(6, "createGroup")
        },
    ];
    house
        .write(async |tx| audit_entry::Entity::add_all(&**tx, entries).await.unwrap())
        .await;

    let document = "query($filter: AuditFilter) { tenant { auditLog(filter: $filter) { totalCount nodes { id action actor { name } apiKey { name } onBehalfOf { name }
        target { __typename } targetId outcome address details at } } } }";
    let log = async |scope, filter: Value| {
        let found = house
            .ask(scope, document, json!({ "filter": filter }))
            .await;
        found["tenant"]["auditLog"].clone()
    };
    let all = log(&bob, Value::Null).await;
    let shown = |number: u128, action: &str, of: Value| {
        let at = house.now() + TimeDelta::seconds(i64::try_from(number).unwrap());
        let mut shown = json!({
            "id": AuditEntryId(id(number)).to_string(), "action": action, "actor": { "name": "Bob" }, "apiKey": null, "onBehalfOf": null,
            "target": null, "targetId": null, "outcome": "ALLOWED", "address": "192.0.2.7", "details": { "fields": ["name"] },
            "at": at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        });
        for (field, value) in of.as_object().unwrap() {
            shown[field] = value.clone();
        }
        shown
    };
    let entry_one = AuditEntryId(id(1)).to_string();
    let expected = json!([
        shown(
            4,
            "createGroup",
            json!({ "target": { "__typename": "AuditEntry" }, "targetId": entry_one })
        ),
        shown(
            3,
            "updateTenant",
            json!({ "actor": null, "targetId": "something else", "address": null })
        ),
        shown(
            2,
            "updateAgent",
            json!({
                "actor": { "name": "Cyd" }, "apiKey": { "name": "key 300" }, "onBehalfOf": { "name": "Bob" }, "outcome": "REFUSED",
                // It is not there any more.
                "targetId": AgentId(id(5)).to_string(),
            })
        ),
        shown(
            1,
            "createGroup",
            json!({ "target": { "__typename": "Group" }, "targetId": group.to_string() })
        ),
    ]);
    assert_eq!((&all["nodes"], &all["totalCount"]), (&expected, &json!(4)));

    // A visitor reads it, and finds no groups and no keys by it.
    let visitor = house.visitor(looms);
    let seen = log(&visitor, Value::Null).await;
    let targets = listed(&seen, |node| &node["target"]["__typename"]);
    assert_eq!(targets, json!([["AuditEntry", null, null, null], 4]));
    assert_eq!(seen["nodes"][2]["apiKey"], Value::Null);
    assert_eq!(log(&cyd, Value::Null).await, Value::Null);

    let at = |seconds: i64| (house.now() + TimeDelta::seconds(seconds)).to_rfc3339();
    for (filter, expected) in [
        (json!({ "actorId": bob.user().to_string() }), vec![4, 1]),
        (json!({ "actorId": cyd.user().to_string() }), vec![2]),
        (json!({ "actorId": "nobody" }), vec![]),
        (json!({ "action": "createGroup" }), vec![4, 1]),
        (json!({ "action": "creategroup" }), vec![]),
        (json!({ "action": "a\0" }), vec![]),
        (json!({ "targetId": group.to_string() }), vec![1]),
        (json!({ "outcome": "REFUSED" }), vec![2]),
        (json!({ "since": at(2), "until": at(4) }), vec![3, 2]),
        (
            json!({ "since": at(2), "action": "createGroup", "outcome": "ALLOWED" }),
            vec![4],
        ),
    ] {
        let found = log(&bob, filter.clone()).await;
        let ids: Vec<_> = expected
            .iter()
            .map(|number| AuditEntryId(id(*number)).to_string())
            .collect();
        let count = ids.len();
        assert_eq!(
            listed(&found, |node| &node["id"]),
            json!([ids, count]),
            "{filter}"
        );
    }
    // One entry, by its id.
    let ids = [entry_one, AuditEntryId(id(6)).to_string()];
    assert_eq!(house.nodes(&bob, &ids).await, "AuditEntry -");
    assert_eq!(house.nodes(&visitor, &ids).await, "AuditEntry -");
    assert_eq!(house.nodes(&cyd, &ids).await, "- -");
}
