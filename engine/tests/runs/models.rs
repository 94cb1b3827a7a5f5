//! Models that are silent, that ask to be left alone, whose last check failed, or that do not say what they used.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use engine::{EngineOptions, send::Sent};
use entities::{
    CallPurpose, ModelHealthStatus, ModelId, RunErrorKind, RunStatus, llm_model, model_call,
    query::*,
};
use providers::{ChatMessage, ChatRequest, Provider, tokens::TokenCounter};
use support::provider::{Step, Turn};

use crate::house::{House, PATIENCE, SYSTEM};

/// An answer whose provider does not say what it used.
fn unpriced(text: &str) -> Turn {
    let chunk = |delta: serde_json::Value, reason: Option<&str>| {
        let choice = serde_json::json!({"index": 0, "delta": delta, "finish_reason": reason});
        format!("data: {}\n\n", serde_json::json!({"choices": [choice]}))
    };
    let mut stream = chunk(serde_json::json!({ "content": text }), None);
    stream += &chunk(serde_json::json!({}), Some("stop"));
    stream += "data: [DONE]\n\n";
    Turn::of([Step::Raw(stream.into_bytes()), Step::End])
}

impl House {
    /// As after a check that failed so long ago.
    async fn fail_check(&self, model: ModelId, ago: TimeDelta) {
        let failed = llm_model::ActiveModel {
            health: Set(ModelHealthStatus::Unhealthy),
            health_message: Set(Some("out of order".into())),
            checked_at: Set(Some(self.engine.clock().now() - ago)),
            ..Default::default()
        };
        self.change_model(model, failed).await;
    }

    async fn open(&self, model: ModelId) {
        let until = self.engine.clock().now() + TimeDelta::minutes(10);
        let open = llm_model::ActiveModel {
            breaker_until: Set(Some(until)),
            ..Default::default()
        };
        self.change_model(model, open).await;
    }

    fn called(&self, names: &[&str]) -> Vec<usize> {
        let calls = names.iter().map(|name| self.provider.calls_of(name).len());
        calls.collect()
    }

    async fn ending(&self, sent: Sent) -> (RunStatus, String) {
        let (run, answer) = self.run_and_answer(sent).await;
        (run.status, answer.parts.text())
    }

    async fn failure(&self, sent: Sent) -> (RunErrorKind, bool) {
        let error = self.run(sent.run).await.error.unwrap();
        (error.kind, error.retryable)
    }

    /// Tokens of what is told with the house's instructions, as its models count, and of a text.
    fn counted(&self, told: &str, text: &str) -> (i64, i64) {
        let counter = TokenCounter::of(Provider::OpenAiCompatible, "counted");
        let request = ChatRequest {
            system: Some("Be brief.".into()),
            messages: vec![ChatMessage::User { text: told.into() }],
            ..ChatRequest::default()
        };
        let input = counter.weigh(&request).total();
        let output = counter.count_each(&[text])[0];
        (input as i64, output as i64)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_model_holds_its_run_for_one_time_out() {
    let house = House::new().await;
    house
        .provider
        .script("silent", Turn::of([Step::Head, Step::Stall]));
    house.provider.script("other", Turn::text("Here."));
    let (silent, other) = (house.model("silent").await, house.model("other").await);
    let hasty = llm_model::ActiveModel {
        timeout_ms: Set(1500),
        ..Default::default()
    };
    house.change_model(silent, hasty).await;
    let sent = house.ask(silent, None, "hello").await;
    assert_eq!(
        house.failure(sent).await,
        (RunErrorKind::ModelTimeout, true)
    );
    assert_eq!(house.called(&["silent"]), [1]);

    house.fall_back(silent, &[other]).await;
    let asked = Instant::now();
    let sent = house.ask(silent, None, "hello").await;
    assert!(asked.elapsed() < Duration::from_secs(8));
    assert_eq!(
        house.ending(sent).await,
        (RunStatus::Completed, "Here.".into())
    );
    assert_eq!(house.called(&["silent", "other"]), [2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_longer_than_a_minute_is_not_called_sooner() {
    let house = House::new().await;
    let busy = Turn::refuse(429, &[("retry-after", "120")]);
    house.provider.script("busy", busy);
    let down = Turn::refuse(503, &[("retry-after", "3600")]);
    house.provider.script("down", down);
    house.provider.script("other", Turn::text("Here."));
    let (busy, down) = (house.model("busy").await, house.model("down").await);
    let other = house.model("other").await;
    let asked = Instant::now();
    let sent = house.ask(busy, None, "hello").await;
    assert_eq!(house.failure(sent).await, (RunErrorKind::RateLimited, true));
    house.fall_back(busy, &[down, other]).await;
    let sent = house.ask(busy, None, "hello").await;
    assert_eq!(
        house.ending(sent).await,
        (RunStatus::Completed, "Here.".into())
    );
    assert_eq!(house.called(&["busy", "down", "other"]), [2, 1, 1]);
    assert!(asked.elapsed() < Duration::from_secs(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_check_failed_is_passed_over_while_others_are_well() {
    let house = House::new().await;
    for name in ["first", "second", "third"] {
        house.provider.script(name, Turn::text(name));
    }
    let (first, second, third) = (
        house.model("first").await,
        house.model("second").await,
        house.model("third").await,
    );
    let names = ["first", "second", "third"];
    house.fail_check(first, TimeDelta::minutes(1)).await;
    // Without another it is called, and is well again when it answers.
    let sent = house.ask(first, None, "hello").await;
    assert_eq!(house.ending(sent).await.1, "first");
    let row = house.row(first).await;
    assert_eq!(
        (row.health, row.health_message),
        (ModelHealthStatus::Healthy, None)
    );

    house.fail_check(first, TimeDelta::minutes(1)).await;
    house.fail_check(second, TimeDelta::minutes(1)).await;
    house.fall_back(first, &[second, third]).await;
    let sent = house.ask(first, None, "hello").await;
    let run = house.run(sent.run).await;
    assert_eq!(
        (run.status, run.primary_model_id, run.model_id),
        (RunStatus::Completed, Some(first), Some(third))
    );
    assert_eq!(house.called(&names), [1, 0, 1]);

    // Of those that are left alone, or no better, none is preferred.
    house.open(third).await;
    let sent = house.ask(first, None, "hello").await;
    assert_eq!(house.ending(sent).await.1, "first");
    assert_eq!(house.called(&names), [2, 0, 1]);

    // What was found long ago says nothing any more.
    house.fail_check(first, TimeDelta::minutes(11)).await;
    let closed = llm_model::ActiveModel {
        breaker_until: Set(None),
        ..Default::default()
    };
    house.change_model(third, closed).await;
    let sent = house.ask(first, None, "hello").await;
    assert_eq!(house.ending(sent).await.1, "first");
}

/// A check may be wrong: who was passed over is called where nobody else is left.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_passed_over_is_the_last_resort() {
    let house = House::new().await;
    let refuse = || Turn::refuse(401, &[]);
    house.provider.script("first", Turn::text("After all."));
    house.provider.script("second", refuse());
    house.provider.script("third", refuse());
    let (first, second, third) = (
        house.model("first").await,
        house.model("second").await,
        house.model("third").await,
    );
    house.fall_back(first, &[second, third]).await;
    house.fail_check(first, TimeDelta::minutes(1)).await;
    house.fail_check(second, TimeDelta::minutes(1)).await;
    let sent = house.ask(first, None, "hello").await;
    assert_eq!(
        house.ending(sent).await,
        (RunStatus::Completed, "After all.".into())
    );
    // Each once at most.
    assert_eq!(house.called(&["first", "second", "third"]), [1, 0, 1]);

    house.provider.script("first", refuse());
    house.fail_check(first, TimeDelta::minutes(1)).await;
    let sent = house.ask(first, None, "hello").await;
    assert_eq!(house.failure(sent).await, (RunErrorKind::ModelError, false));
    assert_eq!(house.called(&["first", "second", "third"]), [2, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_could_be_called_it_says_so() {
    let house = House::new().await;
    house.provider.script("first", Turn::refuse(401, &[]));
    house.provider.script("second", Turn::text("no"));
    let (first, second) = (house.model("first").await, house.model("second").await);
    let broken = house.model("broken").await;
    let nowhere = llm_model::ActiveModel {
        base_url: Set(Some("no address".into())),
        ..Default::default()
    };
    house.change_model(broken, nowhere).await;
    // Its settings are of no use, and no wait mends that.
    let sent = house.ask(broken, None, "hello").await;
    assert_eq!(house.failure(sent).await, (RunErrorKind::NoModel, false));
    // A breaker closes again.
    house.open(second).await;
    let sent = house.ask(second, None, "hello").await;
    assert_eq!(house.failure(sent).await, (RunErrorKind::NoModel, true));
    house.fall_back(second, &[broken]).await;
    let sent = house.ask(second, None, "hello").await;
    assert_eq!(house.failure(sent).await, (RunErrorKind::NoModel, true));
    assert_eq!(house.called(&["first", "second", "broken"]), [0, 0, 0]);
    // One was called, and that is what failed.
    house.fall_back(first, &[second, broken]).await;
    let sent = house.ask(first, None, "hello").await;
    assert_eq!(house.failure(sent).await, (RunErrorKind::ModelError, false));
    assert_eq!(house.called(&["first", "second", "broken"]), [1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_does_not_say_is_counted_as_the_model_counts() {
    let house = House::new().await;
    let text = "Antidisestablishmentarianism, weaving: 語 語 語. ".repeat(20);
    house.provider.script("silent", unpriced(&text));
    let model = house.model("silent").await;
    let sent = house.ask(model, None, "How is it done?").await;
    let (input, output) = house.counted("How is it done?", &text);
    let usage = house.run(sent.run).await.usage;
    assert_eq!((usage.input, usage.output), (input, output));
    let calls = house.calls_for(sent, CallPurpose::Answer).await;
    assert!(calls[0].is_estimate && calls[0].usage.cost.is_some());

    // Broken off, by what was said.
    let breaks = Turn::of([
        Step::Reasoning("Let me see.".into()),
        Step::Text(text.clone()),
        Step::Drop,
    ]);
    house.provider.script("breaks", breaks);
    let model = house.model("breaks").await;
    let sent = house.ask(model, None, "How is it done?").await;
    let calls = house.calls_for(sent, CallPurpose::Answer).await;
    let (_, thought) = house.counted("", "Let me see.");
    let usage = &calls[0].usage;
    assert_eq!(
        (usage.input, usage.output, usage.reasoning),
        (input, output + thought, thought)
    );
    assert_eq!(house.run(sent.run).await.usage.input, input);

    // Refused, nothing.
    house.provider.script("refuses", Turn::refuse(401, &[]));
    let model = house.model("refuses").await;
    let sent = house.ask(model, None, "How is it done?").await;
    let calls = house.calls_for(sent, CallPurpose::Answer).await;
    assert_eq!((calls[0].usage.input, calls[0].is_estimate), (0, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn titles_are_counted_as_well() {
    let house = House::with(3, EngineOptions::default()).await;
    house.provider.script_titles(unpriced("Looms of old"));
    let model = house.model("tokens-1-0").await;
    let sent = house.ask(model, None, &"Warp and weft. ".repeat(100)).await;
    let calls = support::wait::until(PATIENCE, "the title is booked", async || {
        let calls = house.calls_for(sent, CallPurpose::Title).await;
        (!calls.is_empty()).then_some(calls)
    })
    .await;
    let (input, _) = house.counted(&"Warp and weft. ".repeat(100), "");
    let (_, output) = house.counted("", "Looms of old");
    let usage = &calls[0].usage;
    // What it is told around the question is some hundred tokens more.
    assert!(
        (input..input + 300).contains(&usage.input),
        "{usage:?} {input}"
    );
    assert_eq!((usage.output, calls[0].is_estimate), (output, true));
}

/// A call that only shows whether a model answers is no part of any run, and none of its calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_is_booked_for_the_tenant() {
    let house = House::new().await;
    let model = house.model("tokens-3-0").await;
    house.engine.check_model(&house.scope, model).await.unwrap();
    let rows = model_call::Entity::anywhere(SYSTEM)
        .filter(model_call::Column::ModelId.eq(model))
        .all(house.db().owner(SYSTEM))
        .await
        .unwrap();
    let of: Vec<_> = rows
        .iter()
        .map(|row| (row.purpose, row.outcome.as_str()))
        .collect();
    assert_eq!(of, [(CallPurpose::Check, "finished")]);
    assert!(rows[0].usage.input > 0 && rows[0].usage.cost.is_some());
    let asked = house.provider.calls_of("tokens-3-0");
    assert_eq!((asked.len(), &asked[0].body["max_tokens"]), (1, &1.into()));
}
