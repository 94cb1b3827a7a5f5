//! What a tenant decides for itself, as its runs and conversations feel it.

use chrono::TimeDelta;
use entities::{RunStatus, conversation, query::*, tenant};

use crate::house::{House, PATIENCE, SYSTEM};

impl House {
    async fn decide(&self, set: tenant::ActiveModel) {
        tenant::Entity::change_anywhere(SYSTEM)
            .filter(tenant::Column::Id.eq(self.scope.tenant()))
            .set(set)
            .exec(self.db().owner(SYSTEM))
            .await
            .unwrap();
    }
}

/// Fewer runs at once than the installation allows.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_allows_itself_fewer_runs() {
    let house = House::new().await;
    let model = house.gated_by_question("gated").await;
    house
        .decide(tenant::ActiveModel {
            max_concurrent_runs: Set(Some(1)),
            ..Default::default()
        })
        .await;
    let first = house.send(model, None, "one").await;
    support::wait::until(PATIENCE, "the first begins", async || {
        (house.run(first.run).await.status == RunStatus::Running).then_some(())
    })
    .await;
    let second = house.send(model, None, "two").await;
    // Another tenant's, or none of its own, would have begun with the message.
    assert_eq!(house.run(second.run).await.status, RunStatus::Queued);
    house.provider.open_gate("two");
    house.provider.open_gate("one");
    for sent in [first, second] {
        let run = house.until_over(sent, PATIENCE).await;
        assert_eq!(run.status, RunStatus::Completed);
    }
    let second = house.run(second.run).await;
    let first = house.run(first.run).await;
    assert!(
        second.started_at >= first.finished_at,
        "one after the other"
    );
}

/// Conversations that nobody touched for so long are deleted, others and those of other tenants stay.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_touches_is_deleted() {
    let house = House::new().await;
    let model = house.model("tokens-3-0").await;
    let old = house.ask(model, None, "long ago").await;
    let new = house.ask(model, None, "today").await;
    conversation::Entity::change_anywhere(SYSTEM)
        .filter(conversation::Column::Id.eq(old.conversation))
        .set(conversation::ActiveModel {
            last_activity_at: Set(house.engine.clock().now() - TimeDelta::days(31)),
            ..Default::default()
        })
        .exec(house.db().owner(SYSTEM))
        .await
        .unwrap();
    assert_eq!(
        house.engine.delete_untouched().await.unwrap(),
        0,
        "they are kept"
    );
    house
        .decide(tenant::ActiveModel {
            retention_days: Set(Some(30)),
            ..Default::default()
        })
        .await;
    assert_eq!(house.engine.delete_untouched().await.unwrap(), 1);
    assert_eq!(house.engine.delete_untouched().await.unwrap(), 0);
    for (id, is_deleted) in [(old.conversation, true), (new.conversation, false)] {
        let row = house.conversation(id).await;
        assert_eq!(row.deleted_at.is_some(), is_deleted);
    }
}
