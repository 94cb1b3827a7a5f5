//! Conversations that are longer than what their model can be told.

use std::collections::BTreeSet;

use engine::{
    event::{Body, Event},
    send::Sent,
};
use entities::{
    CallPurpose, ConversationId, MessageId, MessageRole, MessageStatus, ModelId, RunErrorKind,
    RunStatus, llm_model, message, model_call, query::*,
};
use providers::{Provider, tokens::TokenCounter};
use serde_json::Value;
use support::provider::{Asked, Call, Script, Step, Turn};

use crate::house::{House, PATIENCE, SYSTEM, names};

const WINDOW: u64 = 2000;

/// What a model really reads of a request.
fn tokens(body: &Value) -> u64 {
    let texts: Vec<String> = texts(body);
    let counter = TokenCounter::of(Provider::OpenAiCompatible, "small");
    3 + counter
        .count_each(&texts)
        .iter()
        .map(|tokens| tokens + 4)
        .sum::<u64>()
}

fn texts(body: &Value) -> Vec<String> {
    body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["content"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn summarises(body: &Value) -> bool {
    body["messages"][0]["content"]
        .as_str()
        .is_some_and(|system| system.starts_with("You summarise"))
}

/// The facts that a text names, by their numbers.
fn facts(text: &str) -> BTreeSet<usize> {
    text.split("fact-")
        .skip(1)
        .filter_map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        })
        .collect()
}

/// A summary that keeps what matters.
fn summary(body: &Value) -> Turn {
    let kept: Vec<String> = facts(&texts(body)[1])
        .into_iter()
        .map(|number| format!("fact-{number}"))
        .collect();
    Turn::text(&format!("Kept: {}", kept.join(" ")))
}

fn too_long() -> Turn {
    Turn {
        status: 400,
        ..Turn::of([Step::ErrorInStream(serde_json::json!({
            "message": "This model's maximum context length is exceeded.",
            "type": "invalid_request_error",
            "code": "context_length_exceeded",
        }))])
    }
}

/// Answers, summarises, and refuses what is too long for it.
fn reader(window: u64, asked: &Asked) -> Turn {
    if tokens(&asked.body) > window {
        too_long()
    } else if summarises(&asked.body) {
        summary(&asked.body)
    } else {
        Turn::text(&format!("Understood. {}", "It was noted. ".repeat(12)))
    }
}

fn turn(number: usize) -> String {
    format!(
        "fact-{number} is worth knowing. {}",
        "The loom was set up with care again. ".repeat(8)
    )
}

impl House {
    /// A model of the provider's with a window of so many tokens.
    async fn small(&self, name: &str, window: u64) -> ModelId {
        let id = self.model(name).await;
        let change = llm_model::ActiveModel {
            context_window: Set(Some(i32::try_from(window).unwrap())),
            ..Default::default()
        };
        self.change_model(id, change).await;
        id
    }

    /// That many turns of a conversation, from the number on.
    async fn talk(
        &self,
        model: ModelId,
        mut conversation: Option<ConversationId>,
        numbers: std::ops::Range<usize>,
    ) -> (ConversationId, Vec<(Sent, Vec<Event>)>) {
        let mut turns = Vec::new();
        for number in numbers {
            let sent = self.send(model, conversation, &turn(number)).await;
            let events = self.events(sent).await;
            assert!(
                matches!(events.last().unwrap().body, Body::RunCompleted(_)),
                "turn {number}: {:?}",
                events.last()
            );
            conversation = Some(sent.conversation);
            turns.push((sent, events));
        }
        (conversation.unwrap(), turns)
    }

    async fn summaries(&self, conversation: ConversationId) -> Vec<message::Model> {
        let mut messages = self.all_messages(conversation).await;
        messages.retain(|message| message.role == MessageRole::System);
        messages
    }

    pub async fn calls_for(&self, sent: Sent, purpose: CallPurpose) -> Vec<model_call::Model> {
        model_call::Entity::anywhere(SYSTEM)
            .filter(model_call::Column::RunId.eq(sent.run))
            .filter(model_call::Column::Purpose.eq(purpose))
            .all(self.db().owner(SYSTEM))
            .await
            .unwrap()
    }

    async fn path(&self, leaf: MessageId) -> Vec<message::Model> {
        let db = self.db().owner(SYSTEM);
        message::Entity::path(db, self.scope.tenant(), leaf)
            .await
            .unwrap()
    }
}

fn compactions(events: &[Event]) -> Vec<&engine::event::CompactionFacts> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            Body::ContextCompacted(facts) => Some(facts),
            _ => None,
        })
        .collect()
}

fn answers(calls: Vec<Call>) -> Vec<Call> {
    let is_answer = |call: &Call| !summarises(&call.body);
    calls.into_iter().filter(is_answer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_gets_too_long_is_summarised() {
    let house = House::new().await;
    house
        .provider
        .script("small", Script::answer(|asked| reader(WINDOW, asked)));
    let model = house.small("small", WINDOW).await;
    let (conversation, turns) = house.talk(model, None, 0..30).await;

    // every request fits, and the last one knows all there was: the first turn and the last ones word for word
    let calls = house.provider.calls_of("small");
    assert!(calls.iter().all(|call| tokens(&call.body) <= WINDOW));
    let last = answers(calls.clone()).pop().unwrap();
    let told = texts(&last.body);
    assert_eq!(facts(&told.join("\n")), (0..30).collect());
    assert_eq!(told[1], turn(0));
    assert_eq!(told.last().unwrap(), &turn(29));
    assert_eq!(told[told.len() - 3], turn(28));
    let so_far: Vec<&String> = told
        .iter()
        .filter(|text| text.starts_with("Summary of the conversation so far: Kept:"))
        .collect();
    assert_eq!(so_far.len(), 1);
    assert!(!told.contains(&turn(5)));

    // each summary stands between an answer and the question of the run that made it
    let (compacted, events) = turns
        .iter()
        .find(|(_, events)| !compactions(events).is_empty())
        .unwrap();
    assert_eq!(
        names(events),
        [
            "MessageCreated",
            "RunQueued",
            "RunStarted",
            "MessageCreated",
            "StepStarted",
            "ContextCompacted",
            "MessageUpdated",
            "text",
            "StepFinished",
            "MessageCompleted",
            "RunCompleted"
        ]
    );
    assert!(
        events
            .iter()
            .filter(|event| !matches!(event.body, Body::ConversationUpdated(_)))
            .all(|event| event.run == Some(compacted.run))
    );
    let facts_of = compactions(events)[0];
    assert!(
        i64::from(facts_of.tokens_before) > 1700 && facts_of.tokens_after < 1400,
        "{facts_of:?}"
    );
    let summaries = house.summaries(conversation).await;
    assert!(summaries.len() > 2, "{}", summaries.len());
    let made = &summaries[0];
    assert_eq!(
        (made.id, made.status, made.model_id, made.run_id),
        (
            facts_of.message.id,
            MessageStatus::Complete,
            Some(model),
            Some(compacted.run)
        )
    );
    let path = house.path(turns[29].0.message).await;
    let place = |id| path.iter().position(|row| row.id == id).unwrap();
    let at = place(made.id);
    assert_eq!(path[at + 1].id, compacted.message);
    assert_eq!(path[at - 1].role, MessageRole::Assistant);
    assert_eq!(path.len(), 59 + summaries.len());
    // the first turn and the last ones are not in it
    let of = made.summary.unwrap();
    assert_eq!(place(of.from), 2);
    assert!(place(of.through) < at - 2);

    // what it costs is the run's, and nobody is shown it as an answer
    let calls = house.calls_for(*compacted, CallPurpose::Summary).await;
    assert_eq!(calls.len(), 1);
    let usage = house.run(compacted.run).await.usage;
    let answer = &house.calls_for(*compacted, CallPurpose::Answer).await[0];
    assert_eq!(usage.input, calls[0].usage.input + answer.usage.input);
    assert!(calls[0].usage.cost.is_some() && usage.cost > answer.usage.cost);
    let messages = house.all_messages(conversation).await;
    assert!(
        messages
            .iter()
            .filter(|message| message.role == MessageRole::Assistant)
            .all(|message| message.parts.text().starts_with("Understood."))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_wordings_of_the_question_stay_beside_it() {
    let house = House::new().await;
    house
        .provider
        .script("small", Script::answer(|asked| reader(WINDOW, asked)));
    let (small, large) = (
        house.small("small", WINDOW).await,
        house.small("small", 100_000).await,
    );
    let (conversation, turns) = house.talk(large, None, 0..12).await;
    let end = house.run(turns[11].0.run).await.output_message_id;
    let mut beside = house.message(large, Some(conversation), "Something else, then.");
    beside.parent = Some(end);
    let beside = house
        .engine
        .send_message(&house.scope, beside)
        .await
        .unwrap();
    house.events(beside).await;
    let mut question = house.message(small, Some(conversation), &turn(12));
    question.parent = Some(end);
    let sent = house
        .engine
        .send_message(&house.scope, question)
        .await
        .unwrap();
    let events = house.events(sent).await;
    let summary = compactions(&events)[0].message.id;
    let moved: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.body {
            Body::MessageUpdated(facts) => Some((facts.id, facts.parent)),
            _ => None,
        })
        .collect();
    assert_eq!(
        moved,
        [
            (beside.message, Some(summary)),
            (sent.message, Some(summary))
        ]
    );
    assert_eq!(house.said(summary).await.parent_id, Some(end));
    for message in [beside.message, sent.message] {
        assert_eq!(house.said(message).await.parent_id, Some(summary));
    }
    // said again, it is told with the summary that there is
    let before = house.provider.calls_of("small").len();
    let again = house
        .regenerate(house.run(sent.run).await.output_message_id, small)
        .await;
    let events = house.events(again).await;
    assert!(compactions(&events).is_empty());
    let calls = house.provider.calls_of("small");
    assert_eq!(calls.len(), before + 1);
    assert_eq!(
        texts(&calls[before].body),
        texts(&calls[before - 1].body),
        "the same question with the same path is told the same"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_summary_can_help_costs_nothing() {
    let house = House::new().await;
    house
        .provider
        .script("small", Script::answer(|asked| reader(WINDOW, asked)));
    let small = house.small("small", WINDOW).await;
    let (conversation, _) = house.talk(small, None, 0..3).await;
    let calls = house.provider.calls_of("small").len();
    for conversation in [None, Some(conversation)] {
        let sent = house
            .ask(small, conversation, &"more than fits ".repeat(2000))
            .await;
        let run = house.run(sent.run).await;
        let error = run.error.unwrap();
        assert_eq!(
            (run.status, error.kind, error.retryable),
            (RunStatus::Failed, RunErrorKind::ContextTooLong, false)
        );
        assert_eq!(run.usage.cost, None);
    }
    assert_eq!(house.provider.calls_of("small").len(), calls);
    assert!(house.summaries(conversation).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_counts_otherwise_is_told_less_once() {
    let house = House::new().await;
    // it takes half of what its window is said to be
    house
        .provider
        .script("small", Script::answer(|asked| reader(WINDOW / 2, asked)));
    let (small, large) = (
        house.small("small", WINDOW).await,
        house.model("tokens-40-0").await,
    );
    let (conversation, _) = house.talk(large, None, 0..6).await;
    let (_, turns) = house.talk(small, Some(conversation), 6..7).await;
    assert_eq!(compactions(&turns[0].1).len(), 1);
    let outcomes: Vec<_> = house
        .calls_for(turns[0].0, CallPurpose::Answer)
        .await
        .into_iter()
        .map(|call| call.outcome)
        .collect();
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.contains(&"ContextTooLong".to_owned()));
    // one that takes nothing at all is asked twice, and no more
    house.provider.script("never", too_long());
    let never = house.small("never", WINDOW).await;
    let sent = house.ask(never, Some(conversation), "and now?").await;
    let error = house.run(sent.run).await.error.unwrap();
    assert_eq!(error.kind, RunErrorKind::ContextTooLong);
    assert!(house.provider.calls_of("never").len() <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_that_fails_leaves_nothing_behind() {
    let house = House::new().await;
    house.provider.script(
        "small",
        Script::answer(|asked| {
            if summarises(&asked.body) {
                Turn::refuse(401, &[])
            } else {
                reader(WINDOW, asked)
            }
        }),
    );
    let small = house.small("small", WINDOW).await;
    let large = house.model("tokens-40-0").await;
    let (conversation, _) = house.talk(large, None, 0..14).await;
    let before = house.all_messages(conversation).await;
    let sent = house.ask(small, Some(conversation), "and now?").await;
    let run = house.run(sent.run).await;
    assert_eq!(run.error.unwrap().kind, RunErrorKind::ModelError);
    let after = house.all_messages(conversation).await;
    assert_eq!(after.len(), before.len() + 2);
    assert!(house.summaries(conversation).await.is_empty());
    let calls = house.calls_for(sent, CallPurpose::Summary).await;
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].outcome, "Refused");
    // with an empty one it is the same
    house.provider.script(
        "small",
        Script::answer(|asked| {
            if summarises(&asked.body) {
                Turn::text(" ")
            } else {
                reader(WINDOW, asked)
            }
        }),
    );
    let sent = house.ask(small, Some(conversation), "and now?").await;
    let run = house.run(sent.run).await;
    assert_eq!(run.error.unwrap().kind, RunErrorKind::ModelError);
    assert!(house.summaries(conversation).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_lost_while_it_summarises_leaves_nothing_half_done() {
    let house = House::new().await;
    house.provider.script(
        "small",
        Script::answer(|asked| {
            let mut turn = reader(WINDOW, asked);
            if summarises(&asked.body) {
                let gate = if asked.n == 0 { "never" } else { "go" };
                turn.steps.insert(1, Step::WaitFor(gate.into()));
            }
            turn
        }),
    );
    let small = house.small("small", WINDOW).await;
    let large = house.model("tokens-40-0").await;
    let (conversation, _) = house.talk(large, None, 0..14).await;
    let sent = house.send(small, Some(conversation), &turn(14)).await;
    let waits = |calls: &[Call], gate: &str| {
        calls
            .iter()
            .any(|call| call.waits_for.as_deref() == Some(gate))
    };
    house
        .provider
        .until_calls(PATIENCE, "it summarises", |calls| waits(calls, "never"))
        .await;
    house.lapse(sent.run).await;
    house
        .provider
        .until_calls(PATIENCE, "another summarises", |calls| waits(calls, "go"))
        .await;
    // whoever was lost comes to its end first, and can write nothing
    house.provider.open_gate("never");
    house.provider.open_gate("go");
    let events = house.events(sent).await;
    assert_eq!(compactions(&events).len(), 1);
    assert_eq!(house.summaries(conversation).await.len(), 1);
    let calls = house.calls_for(sent, CallPurpose::Summary).await;
    assert!(!calls.is_empty() && calls.iter().all(|call| call.attempt == 2));
    let run = house.run(sent.run).await;
    assert_eq!((run.status, run.losses), (RunStatus::Completed, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_longer_than_the_window_is_summarised_piece_by_piece() {
    let house = House::new().await;
    house
        .provider
        .script("small", Script::answer(|asked| reader(WINDOW, asked)));
    let large = house.model("tokens-40-0").await;
    let (conversation, _) = house.talk(large, None, 0..39).await;
    let long = format!("fact-39 {}", "one very long message, ".repeat(1200));
    house.ask(large, Some(conversation), &long).await;
    let small = house.small("small", WINDOW).await;
    let (_, turns) = house.talk(small, Some(conversation), 40..41).await;
    assert_eq!(compactions(&turns[0].1).len(), 1);
    let calls = house.provider.calls_of("small");
    assert!(calls.iter().all(|call| tokens(&call.body) <= WINDOW));
    let made = house.calls_for(turns[0].0, CallPurpose::Summary).await;
    assert!(made.len() > 5 && made.len() == calls.len() - 1);
    let told = texts(&calls.last().unwrap().body).join("\n");
    assert_eq!(facts(&told), (0..41).collect());
    assert_eq!(house.summaries(conversation).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_takes_what_the_model_cannot_be_told() {
    let house = House::new().await;
    // one that fails at summaries, one that can be told no more, and one that can
    house.provider.script(
        "fails",
        Script::answer(|asked| {
            if summarises(&asked.body) {
                Turn::refuse(401, &[])
            } else {
                reader(WINDOW, asked)
            }
        }),
    );
    house
        .provider
        .script("small", Script::answer(|asked| reader(WINDOW, asked)));
    house
        .provider
        .script("large", Script::answer(|asked| reader(50_000, asked)));
    let fails = house.small("fails", WINDOW).await;
    let small = house.small("small", WINDOW).await;
    let large = house.small("large", 50_000).await;
    house.fall_back(fails, &[small, large]).await;
    let (conversation, _) = house.talk(large, None, 0..14).await;
    house.provider.forget_calls();
    let (_, turns) = house.talk(fails, Some(conversation), 14..15).await;
    let (sent, events) = &turns[0];
    assert_eq!(compactions(events).len(), 1);
    assert_eq!(house.run(sent.run).await.model_id, Some(small));
    let made = house.summaries(conversation).await;
    assert_eq!(made[0].model_id, Some(small));
    let failed = house.calls_for(*sent, CallPurpose::Summary).await;
    assert!(
        failed
            .iter()
            .any(|call| call.model_id == fails && call.outcome == "Refused")
    );
    assert_eq!(house.provider.calls_of("fails").len(), 1);
    // what is too long for it goes to one with a larger window, and nobody else is asked
    house.provider.forget_calls();
    let long = format!("fact-15 {}", "more than fits ".repeat(1500));
    let sent = house.send(fails, Some(conversation), &long).await;
    let events = house.events(sent).await;
    assert!(matches!(events.last().unwrap().body, Body::RunCompleted(_)));
    assert_eq!(house.run(sent.run).await.model_id, Some(large));
    let asked: Vec<String> = house
        .provider
        .calls()
        .into_iter()
        .map(|call| call.model)
        .collect();
    assert_eq!(asked, ["large"]);
}
