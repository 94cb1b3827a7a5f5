use std::time::Duration;

use chrono::TimeDelta;
use entities::{
    AuditOutcome, CommandError, Scope, TenantId, audit_chain, audit_entry, audit_link,
    audit_pending, query::*,
};
use events::Asked;

use super::*;
use crate::testing::{House, SCOPE as TESTS, a_key, personal};

impl House {
    async fn entries(&self, tenant: TenantId) -> Vec<audit_entry::Model> {
        audit_entry::Entity::anywhere(TESTS)
            .filter(audit_entry::Column::TenantId.eq(tenant))
            .order_by_asc(audit_entry::Column::At)
            .order_by_asc(audit_entry::Column::Id)
            .all(self.db.reader(TESTS))
            .await
            .unwrap()
    }

    /// What is broken in the tenant's chain, or the installation's.
    async fn broken(&self, at: usize) -> Option<Break> {
        let found = self.auth.verify_audit(None).await.unwrap();
        found[at].broken.clone()
    }
}

fn asked(scope: &Scope, mutation: &str) -> Option<Asked> {
    let fields = vec!["name".to_owned(), "idempotencyKey".to_owned()];
    Asked::new(scope, mutation, fields, None, Some("192.0.2.7".into()))
}

#[tokio::test]
async fn what_is_done_and_what_is_refused() {
    let house = House::new().await;
    let scope = house.set_up().await.identity.scope().clone();
    let auth = house.auth.asked(asked(&scope, "createApiKey"));
    let made = auth
        .create_api_key(&scope, personal(None, None))
        .await
        .unwrap();
    let refused = asked(&scope, "deleteAgent");
    house
        .auth
        .refused(refused, "deleteAgent", None, &["NOT_FOUND"])
        .await
        .unwrap();
    for entry in house.entries(scope.tenant()).await {
        let told = (
            entry.action.as_str(),
            entry.outcome,
            entry.target_id.clone(),
        );
        let expected = match entry.action.as_str() {
            "setUp" => ("setUp", AuditOutcome::Allowed, entry.target_id.clone()),
            "createApiKey" => (
                "createApiKey",
                AuditOutcome::Allowed,
                Some(made.id.to_string()),
            ),
            _ => ("deleteAgent", AuditOutcome::Refused, None),
        };
        assert_eq!(told, expected);
        assert_eq!(entry.actor_id, Some(scope.user()));
        if entry.action != "setUp" {
            assert_eq!(entry.address.as_deref(), Some("192.0.2.7"));
            assert_eq!(entry.details["fields"], serde_json::json!(["name"]));
        }
    }
    assert_eq!(house.entries(scope.tenant()).await.len(), 3);
    let auth = house.auth.asked(asked(&scope, "signOut"));
    let other = house.sign_in().await.identity.scope().clone();
    auth.sign_out(&other, false).await.unwrap();
    let out = house.entries(scope.tenant()).await;
    let out = out.iter().filter(|entry| entry.action == "signOut");
    assert_eq!(out.count(), 1);
    let before = house.entries(scope.tenant()).await.len();
    // What was undone never was.
    let auth = house.auth.asked(asked(&scope, "createApiKey"));
    let undone = auth
        .command_for::<(), _>(|c| {
            Box::pin(async move {
                c.about("nothing");
                Err(CommandError::Internal("undone".into()))
            })
        })
        .await;
    assert!(undone.is_err());
    assert_eq!(house.entries(scope.tenant()).await.len(), before);
}

#[tokio::test]
async fn who_is_nobody_is_counted_by_the_minute() {
    let house = House::new().await;
    house.set_up().await;
    let (one, other) = (
        Some("192.0.2.1".parse().unwrap()),
        Some("192.0.2.2".parse().unwrap()),
    );
    for _ in 0..3 {
        house.auth.refused_nobody("signIn", one);
    }
    house.auth.refused_nobody("signIn", other);
    house.auth.write_down_refusals(false).await.unwrap();
    assert!(
        house.entries(events::audit::INSTALLATION).await.is_empty(),
        "the minute goes on"
    );
    house.clock.advance(Duration::from_secs(60));
    house.auth.refused_nobody("signIn", one);
    house.auth.write_down_refusals(false).await.unwrap();
    let mut counts: Vec<_> = house
        .entries(events::audit::INSTALLATION)
        .await
        .into_iter()
        .map(|entry| {
            (
                entry.address.unwrap(),
                entry.details["count"].as_i64().unwrap(),
            )
        })
        .collect();
    counts.sort();
    assert_eq!(
        counts,
        [("192.0.2.1".to_owned(), 3), ("192.0.2.2".to_owned(), 1)]
    );
    house.auth.write_down_refusals(true).await.unwrap();
    assert_eq!(house.entries(events::audit::INSTALLATION).await.len(), 3);
}

#[tokio::test]
async fn a_chain_shows_what_was_done_to_it() {
    let house = House::new().await;
    let scope = house.set_up().await.identity.scope().clone();
    let tenant = scope.tenant();
    let replica = house.replica();
    for _ in 0..5 {
        let auth = house.auth.asked(asked(&scope, "createApiKey"));
        auth.create_api_key(&scope, personal(None, None))
            .await
            .unwrap();
    }
    let (here, there) = tokio::join!(house.auth.link(), replica.link());
    here.unwrap();
    there.unwrap();
    let found = house.auth.verify_audit(Some("ada-s-looms")).await.unwrap();
    assert_eq!((found.len(), found[0].entries, found[0].pending), (1, 6, 0));
    assert_eq!(found[0].broken, None);
    assert!(
        house
            .auth
            .verify_audit(Some("nowhere"))
            .await
            .unwrap()
            .is_empty()
    );

    let db = house.db.owner(TESTS);
    let entries = house.entries(tenant).await;
    let third = &entries[2];
    let change = async |set: audit_entry::ActiveModel| {
        audit_entry::Entity::change_anywhere(TESTS)
            .filter(audit_entry::Column::Id.eq(third.id))
            .set(set)
            .exec(db)
            .await
            .unwrap();
    };
    let changed = Some(Break::Changed {
        seq: 3,
        entry: third.id,
    });
    for other in [
        audit_entry::ActiveModel {
            action: Set("signIn".into()),
            ..Default::default()
        },
        audit_entry::ActiveModel {
            actor_id: Set(None),
            ..Default::default()
        },
        audit_entry::ActiveModel {
            details: Set(serde_json::json!({})),
            ..Default::default()
        },
        audit_entry::ActiveModel {
            at: Set(third.at + TimeDelta::microseconds(1)),
            ..Default::default()
        },
    ] {
        change(other).await;
        assert_eq!(house.broken(0).await, changed);
        change(third.clone().into_active_model().reset_all()).await;
        assert_eq!(house.broken(0).await, None);
    }

    // One that is taken out, with its link, leaves a gap; put back, all is well.
    let link = audit_link::Entity::anywhere(TESTS)
        .filter(audit_link::Column::EntryId.eq(third.id))
        .one(db)
        .await
        .unwrap()
        .unwrap();
    audit_link::Entity::delete_anywhere(TESTS)
        .filter(audit_link::Column::EntryId.eq(third.id))
        .exec(db)
        .await
        .unwrap();
    assert_eq!(house.broken(0).await, Some(Break::Gap { seq: 3 }));
    audit_link::Entity::add(db, link).await.unwrap();
    audit_entry::Entity::delete_anywhere(TESTS)
        .filter(audit_entry::Column::Id.eq(third.id))
        .exec(db)
        .await
        .unwrap();
    let missing = Some(Break::Missing {
        seq: 3,
        entry: third.id,
    });
    assert_eq!(house.broken(0).await, missing);
    audit_entry::Entity::add(db, third.clone()).await.unwrap();
    audit_pending::Entity::delete_anywhere(TESTS)
        .exec(db)
        .await
        .unwrap();
    assert_eq!(house.broken(0).await, None);

    // One that was put in beside the chain.
    let foreign = audit_entry::Model {
        id: entities::AuditEntryId(uuid::Uuid::from_u128(7)),
        ..third.clone()
    };
    let entry = foreign.id;
    audit_entry::Entity::add(db, foreign).await.unwrap();
    audit_pending::Entity::delete_anywhere(TESTS)
        .exec(db)
        .await
        .unwrap();
    assert_eq!(house.broken(0).await, Some(Break::Foreign { entry }));
    audit_entry::Entity::delete_anywhere(TESTS)
        .filter(audit_entry::Column::Id.eq(entry))
        .exec(db)
        .await
        .unwrap();

    // The beginning is moved by who has the key alone.
    audit_chain::Entity::change_anywhere(TESTS)
        .filter(audit_chain::Column::TenantId.eq(tenant))
        .set(audit_chain::ActiveModel {
            floor: Set(1),
            ..Default::default()
        })
        .exec(db)
        .await
        .unwrap();
    assert_eq!(house.broken(0).await, Some(Break::Floor));
}

#[tokio::test]
async fn what_is_old_goes_and_the_rest_still_holds() {
    let house = House::new().await;
    let scope = house.set_up().await.identity.scope().clone();
    a_key(&house, &scope).await;
    house.auth.link().await.unwrap();
    house.clock.advance(Duration::from_secs(86_400));
    let auth = house.auth.asked(asked(&scope, "createApiKey"));
    auth.create_api_key(&scope, personal(None, None))
        .await
        .unwrap();
    house.auth.link().await.unwrap();
    let old = house.entries(scope.tenant()).await.len() as u64 - 1;
    let before = house.auth.0.clock.now() - TimeDelta::hours(1);
    assert_eq!(house.auth.expire_audit(before).await.unwrap(), old);
    assert_eq!(house.auth.expire_audit(before).await.unwrap(), 0);
    let found = house.auth.verify_audit(None).await.unwrap();
    assert_eq!((found[0].entries, found[0].broken.clone()), (1, None));
    assert_eq!(house.entries(scope.tenant()).await.len(), 1);
}
