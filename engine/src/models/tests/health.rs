use std::time::Duration;

use chrono::TimeDelta;
use entities::{
    CallPurpose, CommandError, ModelHealthStatus, ModelId, ModelKind, ModelProvider, RunId, Usage,
    health::Tally, llm_model, model_call, model_minute, query::*, usage_hour,
};
use support::provider::Turn;

use super::{chat, compatible, provider::provider};
use crate::{
    agents::CreateAgent,
    models::{CreateModel, status, testing::House},
    turns::{Asker, Free},
};

const SYSTEM: entities::SystemScope = entities::SystemScope::of("tests");
const LISTS: (u16, &str) = (200, r#"{"data":[{"id":"local"}]}"#);
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
        model_call::Entity::add(self.engine.log().db().owner(SYSTEM), row)
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
        model_minute::Entity::add(self.engine.log().db().owner(SYSTEM), row)
            .await
            .unwrap();
    }

    async fn change_model(&self, id: ModelId, change: llm_model::ActiveModel) {
        llm_model::Entity::change_anywhere(SYSTEM)
            .filter(llm_model::Column::Id.eq(id))
            .set(change)
            .exec(self.engine.log().db().owner(SYSTEM))
            .await
            .unwrap();
    }

    async fn calls(&self) -> Vec<model_call::Model> {
        let snapshot = self.engine.log().snapshot(entities::Within::Owner(SYSTEM));
        let select = model_call::Entity::anywhere(SYSTEM).order_by_asc(model_call::Column::Id);
        select.all(&**snapshot.tx().await.unwrap()).await.unwrap()
    }

    /// Opens a model's breaker for so long.
    async fn open(&self, id: ModelId, during: Duration) {
        let open = llm_model::ActiveModel {
            breaker_until: Set(Some(self.engine.clock().now() + during)),
            ..Default::default()
        };
        self.change_model(id, open).await;
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
async fn a_list_closes_no_breaker_but_an_answer_does() {
    let house = House::new().await;
    let provider = support::provider::Provider::start().await;
    let refuses = Turn::refuse(503, &[]);
    provider.script("local", [refuses, Turn::text("Hello")]);
    let new = compatible(&provider.base_url());
    let id = house.engine.create_model(&house.owner, new).await.unwrap();
    house.make_default(id).await;
    assert_eq!(house.due().await, 0);

    // While it is open nobody calls, and that it is listed changes nothing.
    house.open(id, FIVE_MINUTES * 2).await;
    house.clock.advance(FIVE_MINUTES.mul_f64(1.2));
    assert_eq!(house.due().await, 1);
    let row = house.model(id).await;
    assert_eq!(status(&row, None), ModelHealthStatus::Unhealthy);
    assert!(row.breaker_until > Some(house.engine.clock().now()));
    assert_eq!(provider.calls().len(), 0);

    // After its rest one call shows whether it does better: it is refused.
    house.clock.advance(FIVE_MINUTES.mul_f64(1.2));
    let before = house.told().await;
    assert_eq!(house.due().await, 1);
    let row = house.model(id).await;
    assert_eq!(
        (row.health, row.breaker_until),
        (
            ModelHealthStatus::Unhealthy,
            Some(house.engine.clock().now() + TimeDelta::seconds(30))
        )
    );
    assert_eq!(row.health_message.as_deref(), Some("refused by the script"));
    assert_eq!(house.told().await, before + 1);

    // Answered, it is closed.
    house.clock.advance(FIVE_MINUTES.mul_f64(1.2));
    assert_eq!(house.due().await, 1);
    let row = house.model(id).await;
    assert_eq!(
        (row.breaker_until, row.health, row.health_message),
        (None, ModelHealthStatus::Healthy, None)
    );
    assert_eq!(house.told().await, before + 2);
    let made: Vec<_> = house
        .calls()
        .await
        .into_iter()
        .map(|call| (call.purpose, call.outcome))
        .collect();
    let check = CallPurpose::Check;
    assert_eq!(
        made,
        [(check, "Unavailable".into()), (check, "finished".into())]
    );
    // An answer to the check itself is no reason to leave the next one out.
    house.clock.advance(FIVE_MINUTES.mul_f64(1.2));
    assert_eq!(house.due().await, 1);
    assert_eq!(provider.calls().len(), 2);

    // Whoever insists has it called at once.
    house.open(id, FIVE_MINUTES).await;
    house.engine.check_model(&house.owner, id).await.unwrap();
    assert_eq!(house.model(id).await.breaker_until, None);
    assert_eq!(provider.calls().len(), 3);
}

#[tokio::test]
async fn one_of_several_shows_whether_a_model_does_better() {
    let house = House::new().await;
    let new = compatible("https://models.example/v1");
    let id = house.engine.create_model(&house.owner, new).await.unwrap();
    house.open(id, Duration::ZERO).await;
    let rested = house.model(id).await.breaker_until.unwrap();
    let tenant = house.tenant().await.id;
    let tries = || house.engine.try_anew((tenant, id), rested);
    let (one, other) = tokio::join!(tries(), tries());
    assert_ne!(one.unwrap(), other.unwrap());
    assert!(house.model(id).await.breaker_until.unwrap() > rested);
}

#[tokio::test]
async fn a_model_that_no_list_names_has_to_answer() {
    let house = House::new().await;
    let provider = support::provider::Provider::start().await;
    let mut checked = Vec::new();
    // One is known by its name alone, the other to nobody.
    for name in ["tokens-2-0", "nobody-knows"] {
        let new = CreateModel {
            base_url: Some(provider.base_url()),
            ..CreateModel::new(ModelKind::Chat, ModelProvider::OpenAiCompatible, name)
        };
        let id = house.engine.create_model(&house.owner, new).await.unwrap();
        house.engine.check_model(&house.owner, id).await.unwrap();
        let row = house.model(id).await;
        assert_eq!(row.checked_at, Some(house.engine.clock().now()));
        checked.push(row.health);
    }
    assert_eq!(
        checked,
        [ModelHealthStatus::Healthy, ModelHealthStatus::Unhealthy]
    );
    let calls = house.calls().await;
    let outcomes: Vec<_> = calls.iter().map(|call| call.outcome.as_str()).collect();
    assert_eq!(outcomes, ["finished", "Refused"]);
    // Of the tenant, and of nothing else.
    house.engine.roll_up().await.unwrap();
    let snapshot = house.engine.log().snapshot(entities::Within::Owner(SYSTEM));
    let hours = usage_hour::Entity::anywhere(SYSTEM)
        .all(&**snapshot.tx().await.unwrap())
        .await
        .unwrap();
    let of: Vec<_> = hours
        .iter()
        .map(|hour| (hour.subject_id, hour.runs, hour.output_tokens))
        .collect();
    let said = calls[0].usage.output;
    assert!(said > 0);
    assert_eq!(of, [(house.owner.tenant().0, 0, said)]);
}

#[tokio::test]
async fn a_check_takes_a_turn_or_is_left_out() {
    let house = House::new().await;
    let provider = support::provider::Provider::start().await;
    let new = CreateModel {
        base_url: Some(provider.base_url()),
        max_concurrency: Some(1),
        ..CreateModel::new(
            ModelKind::Chat,
            ModelProvider::OpenAiCompatible,
            "tokens-2-0",
        )
    };
    let id = house.engine.create_model(&house.owner, new).await.unwrap();
    let model = house.model(id).await;
    let asker = Asker {
        tenant: house.owner.tenant(),
        user: house.owner.user(),
        run: None,
    };
    let free = async || house.engine.free_turn(&model, asker).await.unwrap();
    let Free::Turn(held) = free().await else {
        panic!("nobody else has it");
    };
    house.engine.check_model(&house.owner, id).await.unwrap();
    let row = house.model(id).await;
    assert_eq!(
        (row.health, row.checked_at),
        (ModelHealthStatus::Unknown, None)
    );
    assert_eq!(provider.calls().len(), 0);
    drop(held);
    // It is given back a moment later, and so is what the check asked for.
    support::wait::until(Duration::from_secs(30), "it is checked", async || {
        house.engine.check_model(&house.owner, id).await.unwrap();
        (house.model(id).await.health == ModelHealthStatus::Healthy).then_some(())
    })
    .await;
    assert_eq!(provider.calls().len(), 1);
    // And what the check took.
    support::wait::until(Duration::from_secs(30), "it is free", async || {
        matches!(free().await, Free::Turn(_)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_check_is_made_once_for_its_key() {
    let house = House::new().await;
    let provider = support::provider::Provider::start().await;
    let new = CreateModel {
        base_url: Some(provider.base_url()),
        ..CreateModel::new(
            ModelKind::Chat,
            ModelProvider::OpenAiCompatible,
            "tokens-2-0",
        )
    };
    let id = house.engine.create_model(&house.owner, new).await.unwrap();
    let check = async |key: &str, input: &str| {
        let (key, input) = (key.to_owned(), input.as_bytes().to_vec());
        let keyring = house.engine.keyring();
        let asked = events::Asked::new(&house.owner, "checkModel", Vec::new(), None, None);
        let asked = asked.map(|asked| asked.with_key(&house.owner, key, input, keyring));
        let engine = house.engine.asked(asked);
        engine.check_model(&house.owner, id).await
    };
    for _ in 0..3 {
        assert_eq!(check("a", "x").await.unwrap(), id);
    }
    assert_eq!(provider.calls().len(), 1);
    // Another key is another check; the same with another input, or none at all, is refused before anybody is asked.
    check("b", "x").await.unwrap();
    for (key, input) in [("a", "y"), ("", "x")] {
        assert!(matches!(
            check(key, input).await,
            Err(CommandError::Refused(_))
        ));
    }
    assert_eq!(provider.calls().len(), 2);
    // A day later it is forgotten.
    house.clock.advance(Duration::from_secs(25 * 3600));
    check("a", "y").await.unwrap();
    assert_eq!(provider.calls().len(), 3);
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
