//! Models that fail, and others that take their place.

use std::time::Duration;

use engine::{
    Engine,
    event::{Body, Event},
    models::status,
    send::Sent,
};
use entities::{
    Backend, ConversationId, MessageStatus, ModelHealthStatus, ModelId, RunErrorKind, RunStatus,
    llm_model, model_call, model_fallback, query::*, run, run_step, tool_call,
};
use support::provider::{Step, Turn};

use crate::house::{House, PATIENCE, SYSTEM, names, parts};

/// The key is wrong: nothing that waiting would mend.
fn refused() -> Turn {
    Turn::refuse(401, &[])
}

fn busy(status: u16) -> Turn {
    Turn::refuse(status, &[("retry-after", "0")])
}

fn drops(text: &str) -> Turn {
    let mut turn = Turn::text(text);
    turn.steps.push(Step::Drop);
    turn
}

impl House {
    pub async fn fall_back(&self, model: ModelId, to: &[ModelId]) {
        let rows = (0..).zip(to).map(|(position, &fallback_id)| {
            let tenant_id = self.scope.tenant();
            model_fallback::Model {
                tenant_id,
                model_id: model,
                position,
                fallback_id,
            }
        });
        let db = self.db().owner(SYSTEM);
        model_fallback::Entity::add_all(db, rows.collect())
            .await
            .unwrap();
    }

    pub async fn row(&self, id: ModelId) -> llm_model::Model {
        llm_model::Entity::anywhere(SYSTEM)
            .filter(llm_model::Column::Id.eq(id))
            .one(self.db().owner(SYSTEM))
            .await
            .unwrap()
            .unwrap()
    }

    /// The calls of a run as they are booked: model, outcome, whether its tokens are an estimate.
    async fn booked(&self, sent: Sent) -> Vec<(ModelId, String, bool)> {
        let rows = model_call::Entity::anywhere(SYSTEM)
            .filter(model_call::Column::RunId.eq(sent.run))
            .order_by_asc(model_call::Column::Id)
            .all(self.db().owner(SYSTEM))
            .await
            .unwrap();
        rows.into_iter()
            .map(|row| (row.model_id, row.outcome, row.is_estimate))
            .collect()
    }

    /// As half a minute later.
    async fn rest(&self, id: ModelId) {
        let past = self.engine.clock().now() - Duration::from_secs(1);
        let rested = llm_model::ActiveModel {
            breaker_until: Set(Some(past)),
            ..Default::default()
        };
        self.change_model(id, rested).await;
    }

    async fn is_open(&self, id: ModelId) -> bool {
        let now = self.engine.clock().now();
        self.row(id)
            .await
            .breaker_until
            .is_some_and(|until| until > now)
    }

    async fn send_to(&self, engine: &Engine, model: ModelId, text: &str) -> Sent {
        engine
            .send_message(&self.scope, self.message(model, None, text))
            .await
            .unwrap()
    }
}

fn calls(house: &House, name: &str) -> usize {
    house.provider.calls_of(name).len()
}

fn restarts(events: &[Event]) -> Vec<(i32, u32, &str)> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            Body::StepRestarted {
                step,
                reason,
                from_part,
                ..
            } => Some((*step, *from_part, reason.as_str())),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn before_anything_was_shown_the_next_model_just_answers() {
    let house = House::new().await;
    house.provider.script("first", busy(503));
    house.provider.script("second", Turn::text("Here I am."));
    let (first, second) = (house.model("first").await, house.model("second").await);
    let dear = llm_model::ActiveModel {
        output_per_million: Set(Some("1000000".into())),
        input_per_million: Set(Some("0".into())),
        ..Default::default()
    };
    house.change_model(second, dear).await;
    house.fall_back(first, &[second]).await;
    let sent = house.send(first, None, "hello").await;
    let events = house.events(sent).await;
    assert_eq!(
        names(&events)[2..],
        [
            "RunStarted",
            "MessageCreated",
            "StepStarted",
            "RunUpdated",
            "MessageUpdated",
            "text",
            "StepFinished",
            "MessageCompleted",
            "RunCompleted"
        ]
    );
    // Retried twice, then left.
    assert_eq!((calls(&house, "first"), calls(&house, "second")), (3, 1));
    let (run, answer) = house.run_and_answer(sent).await;
    assert_eq!(
        (run.status, run.primary_model_id, run.model_id),
        (RunStatus::Completed, Some(first), Some(second))
    );
    assert_eq!(
        (answer.model_id, answer.parts.text().as_str()),
        (Some(second), "Here I am.")
    );
    assert_eq!(parts(&events, answer.id), answer.parts);
    assert_eq!(
        house.booked(sent).await,
        [
            (first, "Unavailable".to_owned(), false),
            (second, "finished".to_owned(), false)
        ]
    );
    // By the prices of whoever answered: a unit each token.
    assert_eq!(run.usage.cost, Some(run.usage.output.to_string()));
    let named: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.body {
            Body::RunUpdated(facts) => facts.model,
            Body::MessageUpdated(facts) => facts.model,
            _ => None,
        })
        .collect();
    assert_eq!(named, [second, second]);
    let row = house.row(first).await;
    assert_eq!(status(&row, None), ModelHealthStatus::Healthy);
    assert_eq!(row.health, ModelHealthStatus::Degraded);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shown_is_taken_back_and_said_by_the_next() {
    let house = House::new().await;
    let breaks = Turn::of([
        Step::Reasoning("Let me think.".into()),
        Step::Text("Half an ans".into()),
        Step::ToolCall {
            index: 0,
            id: "a".into(),
            name: "weather".into(),
        },
        Step::ToolArguments {
            index: 0,
            text: "{\"ci".into(),
        },
        Step::Drop,
    ]);
    let asks = Turn::tool_call("b", "clock", &serde_json::json!({}));
    house.provider.script("first", breaks);
    house.provider.script("second", [asks, drops("Quarter")]);
    house.provider.script("third", Turn::text("A whole one."));
    let (first, second, third) = (
        house.model("first").await,
        house.model("second").await,
        house.model("third").await,
    );
    house.fall_back(first, &[second, third]).await;
    // Only the direct ones count.
    house.fall_back(second, &[first]).await;
    let sent = house.send(first, None, "hello").await;
    let events = house.events(sent).await;
    let answer = house.answer(sent.run).await.unwrap();
    assert_eq!(answer.status, MessageStatus::Complete);
    assert_eq!(answer.parts.text(), "A whole one.");
    assert_eq!(parts(&events, answer.id), answer.parts);
    let reason = "the provider broke off the answer: another model goes on";
    assert_eq!(restarts(&events), [(0, 0, reason), (1, 1, reason)]);
    assert_eq!(
        house.booked(sent).await,
        [
            (first, "BrokenOff".to_owned(), true),
            (second, "finished".to_owned(), false),
            (second, "BrokenOff".to_owned(), true),
            (third, "finished".to_owned(), false)
        ]
    );
    // The abandoned call went with its step.
    let db = house.db().owner(SYSTEM);
    let left = tool_call::Entity::anywhere(SYSTEM)
        .filter(tool_call::Column::RunId.eq(sent.run))
        .all(db)
        .await
        .unwrap();
    assert_eq!(
        left.iter()
            .map(|call| call.call_id.as_str())
            .collect::<Vec<_>>(),
        ["b"]
    );
    let steps = run_step::Entity::anywhere(SYSTEM)
        .filter(run_step::Column::RunId.eq(sent.run))
        .order_by_asc(run_step::Column::Number)
        .all(db)
        .await
        .unwrap();
    let by: Vec<_> = steps.iter().map(|step| step.model_id).collect();
    assert_eq!(by, [Some(second), Some(third)]);
    assert_eq!((calls(&house, "first"), calls(&house, "third")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_fail_the_last_one_says_why() {
    let house = House::new().await;
    house.provider.script("first", drops("Half"));
    house.provider.script("second", refused());
    house.provider.script("third", busy(429));
    house.provider.script("gone", Turn::text("no"));
    let mut models = Vec::new();
    for name in ["first", "second", "gone", "third"] {
        models.push(house.model(name).await);
    }
    let deleted = llm_model::ActiveModel {
        deleted_at: Set(Some(house.engine.clock().now())),
        ..Default::default()
    };
    house.change_model(models[2], deleted).await;
    house.fall_back(models[0], &models[1..]).await;
    let sent = house.send(models[0], None, "hello").await;
    let events = house.events(sent).await;
    let (run, answer) = house.run_and_answer(sent).await;
    assert_eq!(
        run.error.map(|error| error.kind),
        Some(RunErrorKind::RateLimited)
    );
    assert_eq!(
        (run.status, answer.status),
        (RunStatus::Failed, MessageStatus::Failed)
    );
    assert_eq!(answer.parts.text(), "");
    assert_eq!(parts(&events, answer.id), answer.parts);
    assert_eq!((calls(&house, "third"), calls(&house, "gone")), (3, 0));
    assert_eq!(answer.model_id, Some(models[3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_at_fault_is_put_to_nobody_else_but_who_reads_more() {
    let house = House::new().await;
    house
        .provider
        .script("refuses", Turn::refuse(400, &[("x", "y")]));
    let mut long = Turn::refuse(400, &[]);
    long.steps.push(Step::Text(
        "This model's maximum context length is 8192 tokens".into(),
    ));
    house.provider.script("small", long);
    house.provider.script("as-small", Turn::text("no"));
    house.provider.script("large", Turn::text("I read it all."));
    let (refuses, small) = (house.model("refuses").await, house.model("small").await);
    let (as_small, large) = (house.model("as-small").await, house.model("large").await);
    let wide = llm_model::ActiveModel {
        context_window: Set(Some(200_000)),
        ..Default::default()
    };
    house.change_model(large, wide).await;
    house.fall_back(refuses, &[large]).await;
    house.fall_back(small, &[as_small, large]).await;

    let sent = house.ask(refuses, None, "hello").await;
    let run = house.run(sent.run).await;
    assert_eq!(
        run.error.map(|error| error.kind),
        Some(RunErrorKind::ModelError)
    );
    assert_eq!(calls(&house, "large"), 0);
    assert_eq!(house.booked(sent).await[0].1, "RequestRefused");

    let sent = house.ask(small, None, "hello").await;
    assert_eq!(
        house.answer(sent.run).await.unwrap().parts.text(),
        "I read it all."
    );
    assert_eq!(calls(&house, "as-small"), 0);
    let row = house.row(small).await;
    assert_eq!(row.health, ModelHealthStatus::Unknown);
}

/// Killed after the fallback took over, whoever goes on goes on with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_taken_up_again_stays_with_its_model() {
    let house = House::new().await;
    house.provider.script("first", drops("Half"));
    let slow = Turn::of([
        Step::Text("Anew, ".into()),
        Step::WaitFor("on".into()),
        Step::Text("whole.".into()),
    ]);
    house.provider.script("second", slow);
    let (first, second) = (house.model("first").await, house.model("second").await);
    house.fall_back(first, &[second]).await;
    let sent = house.send(first, None, "hello").await;
    house.until_said(sent, "Anew, ").await;
    house.lapse(sent.run).await;
    house
        .provider
        .until_calls(PATIENCE, "the second is called again", |calls| {
            calls.iter().filter(|call| call.model == "second").count() == 2
        })
        .await;
    house.provider.open_gate("on");
    let events = house.events(sent).await;
    let answer = house.answer(sent.run).await.unwrap();
    assert_eq!(answer.parts.text(), "Anew, whole.");
    assert_eq!(parts(&events, answer.id), answer.parts);
    assert_eq!((calls(&house, "first"), calls(&house, "second")), (1, 2));
    let run = house.run(sent.run).await;
    assert_eq!(
        (run.primary_model_id, run.model_id, run.losses),
        (Some(first), Some(second), 1)
    );
    assert_eq!(restarts(&events).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_fails_too_often_is_left_alone_until_one_call_is_answered() {
    let house = House::new().await;
    house.provider.script("bad", refused());
    house.provider.script("good", Turn::text("Fine."));
    let (bad, good) = (house.model("bad").await, house.model("good").await);
    let ask = async |text: &str| house.ask(bad, None, text).await;
    for _ in 0..9 {
        ask("hello").await;
    }
    assert!(!house.is_open(bad).await);
    let sent = ask("hello").await;
    assert!(house.is_open(bad).await);
    assert_eq!(house.run(sent.run).await.status, RunStatus::Failed);
    assert_eq!(
        status(&house.row(bad).await, None),
        ModelHealthStatus::Unhealthy
    );

    // Not called any more: without a fallback the run fails at once, with one it is taken at once.
    let run = house.run(ask("hello").await.run).await;
    let error = run.error.unwrap();
    assert_eq!((error.kind, error.retryable), (RunErrorKind::NoModel, true));
    assert!(error.message.contains("not called"), "{}", error.message);
    house.fall_back(bad, &[good]).await;
    let sent = ask("hello").await;
    assert_eq!(house.run(sent.run).await.model_id, Some(good));
    assert_eq!(house.booked(sent).await.len(), 1);
    assert_eq!(calls(&house, "bad"), 10);

    // After its rest one call tries, and fails.
    house.rest(bad).await;
    ask("hello").await;
    assert_eq!(calls(&house, "bad"), 11);
    assert!(house.is_open(bad).await);
    ask("hello").await;
    assert_eq!(calls(&house, "bad"), 11);

    // One call tries, and nobody else meanwhile; it is answered.
    let slow = Turn::of([Step::WaitFor("on".into()), Step::Text("Back.".into())]);
    house.provider.script("bad", slow);
    house.rest(bad).await;
    let tries = house.send(bad, None, "do you").await;
    house
        .provider
        .until_calls(PATIENCE, "it is tried", |calls| {
            calls.iter().filter(|call| call.model == "bad").count() == 12
        })
        .await;
    ask("hello").await;
    assert_eq!(calls(&house, "bad"), 12);
    house.provider.open_gate("on");
    house.events(tries).await;
    let answer = house.answer(tries.run).await.unwrap();
    assert_eq!(
        (answer.model_id, answer.parts.text().as_str()),
        (Some(bad), "Back.")
    );
    let row = house.row(bad).await;
    assert_eq!(row.breaker_until, None);
    ask("hello").await;
    assert_eq!(calls(&house, "bad"), 13);
}

/// What others cancel, or tell too much, is none of a model's failures.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_models_own_failures_open_its_breaker() {
    let house = House::new().await;
    house.provider.script("refuses", Turn::refuse(422, &[]));
    let refuses = house.model("refuses").await;
    for _ in 0..11 {
        house.ask(refuses, None, "hello").await;
    }
    assert!(!house.is_open(refuses).await);
    // Half of ten, but no less.
    house.provider.script("moody", Turn::text("Fine."));
    let moody = house.model("moody").await;
    for failing in [
        false, false, false, false, false, false, true, true, true, true, true,
    ] {
        if failing {
            house.provider.script("moody", refused());
        }
        house.ask(moody, None, "hello").await;
        assert!(!house.is_open(moody).await);
    }
    house.ask(moody, None, "hello").await;
    assert!(house.is_open(moody).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_a_breaker() {
    let house = House::new().await;
    let Some(neighbour) = house.neighbour().await else {
        return;
    };
    assert_eq!(house.db().backend(), Backend::Postgres);
    house.provider.script("bad", refused());
    let bad = house.model("bad").await;
    for number in 0..10 {
        let engine = if number % 2 == 0 {
            &house.engine
        } else {
            &neighbour
        };
        let sent = house.send_to(engine, bad, "hello").await;
        house.events(sent).await;
    }
    for engine in [&house.engine, &neighbour] {
        let sent = house.send_to(engine, bad, "hello").await;
        house.events(sent).await;
    }
    assert_eq!(calls(&house, "bad"), 10);
    // After its rest one of them tries.
    let slow = Turn::of([Step::WaitFor("on".into()), Step::Text("Back.".into())]);
    house.provider.script("bad", slow);
    house.rest(bad).await;
    let mut sent = Vec::new();
    for engine in [&house.engine, &neighbour, &house.engine, &neighbour] {
        sent.push(house.send_to(engine, bad, "hello").await);
    }
    support::wait::until(PATIENCE, "three are refused", async || {
        let mut failed = 0;
        for sent in &sent {
            failed += usize::from(house.run(sent.run).await.status == RunStatus::Failed);
        }
        (failed == 3).then_some(())
    })
    .await;
    assert_eq!(calls(&house, "bad"), 11);
    house.provider.open_gate("on");
    for sent in sent {
        house.events(sent).await;
    }
    assert_eq!(house.row(bad).await.breaker_until, None);
    neighbour.close().await;
}

/// A step that fell back is said by the same model in the next turn of its run only: another run begins with the first again.
#[tokio::test(flavor = "multi_thread")]
async fn each_run_begins_with_its_own_model() {
    let house = House::new().await;
    house
        .provider
        .script("first", [refused(), Turn::text("One.")]);
    house.provider.script("second", Turn::text("Two."));
    let (first, second) = (house.model("first").await, house.model("second").await);
    house.fall_back(first, &[second]).await;
    let mut conversation: Option<ConversationId> = None;
    for expected in ["Two.", "One."] {
        let sent = house.send(first, conversation, "hello").await;
        conversation = Some(sent.conversation);
        house.events(sent).await;
        let answer = house.answer(sent.run).await.unwrap();
        assert_eq!(answer.parts.text(), expected);
    }
}

/// Its call is booked with the end that it means, or not at all: whoever takes the run over books what it said.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_could_not_be_stored_is_booked_once() {
    let house = House::new().await;
    let breaks = Turn::of([
        Step::Text("This ".into()),
        Step::WaitFor("on".into()),
        Step::Drop,
    ]);
    house
        .provider
        .script("breaks", vec![breaks, Turn::text("Whole.")]);
    let model = house.model("breaks").await;
    let sent = house.send(model, None, "hello").await;
    house.until_text(sent).await;
    // Nobody can end the run while it is so.
    let answer = house.run(sent.run).await.output_message_id;
    let to = async |id| {
        let change = run::ActiveModel {
            output_message_id: Set(id),
            ..Default::default()
        };
        house.change_run(sent.run, change).await;
    };
    to(entities::MessageId(house.engine.clock().uuid())).await;
    house.provider.open_gate("on");
    support::wait::until(PATIENCE, "its worker gives up", async || {
        (house.engine.carries() == 0).then_some(())
    })
    .await;
    to(answer).await;
    house.lapse(sent.run).await;
    house.events(sent).await;
    let outcomes = house.booked(sent).await.into_iter();
    let outcomes: Vec<_> = outcomes.map(|(_, outcome, _)| outcome).collect();
    assert_eq!(outcomes, ["lost", "finished"]);
}
