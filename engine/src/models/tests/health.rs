use std::time::Duration;

use chrono::TimeDelta;
use entities::{
    CallPurpose, ModelHealthStatus, ModelId, RunId, Usage, health::Tally, llm_model, model_call,
    model_minute, query::*,
};

use super::{chat, compatible, provider::provider};
use crate::{
    agents::CreateAgent,
    models::{CreateModel, status, testing::House},
};

const SYSTEM: entities::SystemScope = entities::SystemScope::of("tests");
const LISTS: (u16, &str) = (200, r#"{"data":[]}"#);
const FAILS: (u16, &str) = (503, r#"{"error":{"message":"out of order"}}"#);
const FIVE_MINUTES: Duration = Duration::from_secs(300);

impl House {
    async fn add_model(&self, name: &str, answers: Vec<(u16, &'static str)>) -> ModelId {
        let new = CreateModel {
            slug: Some(name.to_owned()),
            ..compatible(&provider(answers).await)
        };
        self.engine.create_model(&self.owner, new).await.unwrap()
    }

    async fn make_default(&self, id: ModelId) {
        let change = crate::models::UpdateModel {
            is_default: Some(true),
            ..crate::models::UpdateModel::default()
        };
        self.engine
            .update_model(&self.owner, id, change)
            .await
            .unwrap();
    }

    async fn add_call(&self, model: ModelId, outcome: &str) {
        let now = self.engine.clock().now();
        let row = model_call::Model {
            id: self.engine.clock().uuid(),
            tenant_id: self.owner.tenant(),
            run_id: RunId(self.engine.clock().uuid()),
            step: 0,
            attempt: 1,
            model_id: model,
            purpose: CallPurpose::Answer,
            usage: Usage::default(),
            is_estimate: false,
            outcome: outcome.into(),
            latency_ms: None,
            time_to_first_token_ms: None,
            started_at: now,
            finished_at: now,
        };
        model_call::Entity::add(self.engine.log().db().system(SYSTEM), row)
            .await
            .unwrap();
    }

    async fn add_minute(&self, model: ModelId, calls: i32, failed: i32) {
        let row = model_minute::Model {
            tenant_id: self.owner.tenant(),
            model_id: model,
            minute: self.engine.clock().now(),
            calls,
            failed,
        };
        model_minute::Entity::add(self.engine.log().db().system(SYSTEM), row)
            .await
            .unwrap();
    }

    async fn change_model(&self, id: ModelId, change: llm_model::ActiveModel) {
        llm_model::Entity::change_anywhere(SYSTEM)
            .filter(llm_model::Column::Id.eq(id))
            .set(change)
            .exec(self.engine.log().db().system(SYSTEM))
            .await
            .unwrap();
    }

    /// How often it was told that a model changed.
    async fn told(&self) -> usize {
        let changes = self.changes().await;
        let updated = changes.iter().filter(|change| *change == "Model Updated");
        updated.count()
    }

    /// Of a model whose first turn came already.
    async fn due(&self) -> usize {
        self.engine.check_due_models().await.unwrap()
    }
}

#[tokio::test]
async fn models_in_use_are_looked_after_each_by_one() {
    let house = House::new().await;
    let answers = vec![LISTS; 4];
    let default = house.add_model("default", answers.clone()).await;
    house.make_default(default).await;
    let behind = house.add_model("behind", answers.clone()).await;
    let of_agent = CreateModel {
        slug: Some("agents".into()),
        fallbacks: vec![behind],
        ..compatible(&provider(answers.clone()).await)
    };
    let of_agent = house
        .engine
        .create_model(&house.owner, of_agent)
        .await
        .unwrap();
    let unused = house.add_model("unused", answers).await;
    let agent = CreateAgent {
        name: "Weaver".into(),
        instructions: "Weave.".into(),
        model: Some(of_agent),
        ..CreateAgent::default()
    };
    house
        .engine
        .create_agent(&house.owner, agent)
        .await
        .unwrap();

    // Each gets its turn within five minutes, and not all the same.
    assert_eq!(house.due().await, 0);
    let now = house.engine.clock().now();
    let mut turns = Vec::new();
    for row in house.models().await {
        let at = row.check_at.unwrap();
        assert!(now <= at && at - now <= TimeDelta::minutes(5));
        turns.push(at);
    }
    turns.dedup();
    assert_eq!(turns.len(), 4);

    house.clock.advance(FIVE_MINUTES);
    // Two at once: each model is asked by one of them.
    let (one, other) = tokio::join!(house.due(), house.due());
    assert_eq!(one + other, 3);
    for id in [default, of_agent, behind] {
        let row = house.model(id).await;
        assert_eq!(
            (row.health, row.checked_at),
            (ModelHealthStatus::Healthy, Some(house.engine.clock().now()))
        );
    }
    let row = house.model(unused).await;
    assert_eq!(
        (row.health, row.checked_at),
        (ModelHealthStatus::Unknown, None)
    );
    assert_eq!(house.due().await, 0);

    // One that was answered meanwhile is not asked.
    house.clock.advance(FIVE_MINUTES.mul_f64(1.2));
    house.add_call(default, "finished").await;
    house.add_call(behind, "Unavailable").await;
    assert_eq!(house.due().await, 2);
}

#[tokio::test]
async fn what_a_look_finds_is_told_where_it_is_something_else() {
    let house = House::new().await;
    let id = house
        .add_model("m", vec![LISTS, LISTS, FAILS, FAILS, LISTS])
        .await;
    house.make_default(id).await;
    assert_eq!(house.due().await, 0);
    let mut seen = Vec::new();
    let before = house.told().await;
    for _ in 0..5 {
        house.clock.advance(FIVE_MINUTES.mul_f64(1.2));
        assert_eq!(house.due().await, 1);
        let row = house.model(id).await;
        seen.push((row.health, house.told().await - before));
        let message = (row.health == ModelHealthStatus::Unhealthy).then_some("out of order");
        assert_eq!(row.health_message.as_deref(), message);
    }
    use ModelHealthStatus::{Healthy, Unhealthy};
    assert_eq!(
        seen,
        [
            (Healthy, 1),
            (Healthy, 1),
            (Unhealthy, 2),
            (Unhealthy, 2),
            (Healthy, 3)
        ]
    );

    // Nobody is there to be asked any more, but a call was answered: that says more than a check that failed.
    let failed = llm_model::ActiveModel {
        health: Set(ModelHealthStatus::Unhealthy),
        ..Default::default()
    };
    house.change_model(id, failed).await;
    house.clock.advance(FIVE_MINUTES.mul_f64(1.2));
    house.add_call(id, "finished").await;
    house.add_minute(id, 20, 3).await;
    assert_eq!(house.due().await, 0);
    assert_eq!(
        (house.model(id).await.health, house.told().await - before),
        (ModelHealthStatus::Degraded, 4)
    );
}

#[tokio::test]
async fn a_check_closes_a_breaker_that_has_rested() {
    let house = House::new().await;
    let id = house.add_model("m", vec![LISTS, LISTS]).await;
    let now = house.engine.clock().now();
    let open = llm_model::ActiveModel {
        breaker_until: Set(Some(now + TimeDelta::seconds(30))),
        ..Default::default()
    };
    house.change_model(id, open).await;
    house.engine.check_model(&house.owner, id).await.unwrap();
    let row = house.model(id).await;
    assert_eq!(status(&row, None), ModelHealthStatus::Unhealthy);
    house.clock.advance(Duration::from_secs(30));
    house.engine.check_model(&house.owner, id).await.unwrap();
    let row = house.model(id).await;
    assert_eq!(
        (row.breaker_until, status(&row, None)),
        (None, ModelHealthStatus::Healthy)
    );
}

#[tokio::test]
async fn status_is_read_from_row_and_calls() {
    use ModelHealthStatus::{Degraded, Healthy, Unhealthy, Unknown};
    let house = House::new().await;
    let id = house
        .engine
        .create_model(&house.owner, chat("gpt-4o"))
        .await
        .unwrap();
    let row = house.model(id).await;
    let of = |calls, failed| Some(Tally { calls, failed });
    for (stored, tally, expected) in [
        (Unknown, None, Unknown),
        (Unknown, of(0, 0), Unknown),
        (Unknown, of(1, 0), Healthy),
        (Unknown, of(1, 1), Degraded),
        (Healthy, None, Healthy),
        (Healthy, of(10, 1), Healthy),
        (Healthy, of(100, 11), Degraded),
        (Degraded, None, Healthy),
        (Degraded, of(10, 0), Healthy),
        (Unhealthy, of(10, 0), Unhealthy),
        (Unhealthy, None, Unhealthy),
    ] {
        let row = llm_model::Model {
            health: stored,
            ..row.clone()
        };
        assert_eq!(status(&row, tally), expected, "{stored:?} {tally:?}");
    }
    let open = llm_model::Model {
        breaker_until: Some(house.engine.clock().now()),
        ..row
    };
    assert_eq!(status(&open, of(10, 0)), Unhealthy);
}
