//! Runs from a message to their end, and what may come between.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests stand outside of what they drive: on the machine's clock, with tasks of their own"
)]

mod branches;
mod busy;
mod context;
mod failover;
mod faults;
mod forget;
mod house;
mod idle;
mod limits;
mod models;
mod tenants;
mod titles;
mod turns;

use std::time::{Duration, Instant};

use engine::{event::Body, send::WhenBusy};
use entities::{
    CommandError, MessageStatus, Part, Refusal, RunErrorKind, RunStatus, ToolCallStatus, query::*,
    tool_call,
};
use house::{House, PATIENCE, SYSTEM, gated, names, parts};
use serde_json::json;
use support::provider::{Step, Turn, expected_text};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_answered_in_order() {
    let house = House::new().await;
    let model = house.model("tokens-40-1").await;
    let sent = house.send(model, None, "hello").await;
    let events = house.events(sent).await;
    assert_eq!(
        names(&events),
        [
            "MessageCreated",
            "RunQueued",
            "RunStarted",
            "MessageCreated",
            "StepStarted",
            "text",
            "StepFinished",
            "MessageCompleted",
            "RunCompleted"
        ]
    );
    assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    let (run, answer) = house.run_and_answer(sent).await;
    assert_eq!(answer.parts.text(), expected_text("hello", 40));
    assert_eq!(parts(&events, answer.id), answer.parts);
    assert_eq!(
        (answer.status, answer.is_hidden),
        (MessageStatus::Complete, false)
    );
    assert_eq!(
        (run.status, run.steps, run.losses),
        (RunStatus::Completed, 1, 0)
    );
    assert_eq!(run.terminal_seq, events.last().map(|event| event.seq));
    assert!(
        run.usage.output > 0 && run.usage.cost.is_some(),
        "{:?}",
        run.usage
    );
    // the second turn sees the first
    house.ask(model, Some(sent.conversation), "and again").await;
    let calls = house.provider.calls_of("tokens-40-1");
    let told: Vec<_> = calls[1].body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["role"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, ["system", "user", "assistant", "user"]);
    assert_eq!(calls.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn reasoning_and_tool_calls_are_parts_and_steps() {
    let house = House::new().await;
    let asks = Turn::of([
        Step::Reasoning("Let me ".into()),
        Step::Reasoning("look.".into()),
        Step::Text("One moment.".into()),
        Step::ToolCall {
            index: 0,
            id: "a".into(),
            name: "weather".into(),
        },
        Step::ToolCall {
            index: 1,
            id: "b".into(),
            name: "clock".into(),
        },
        Step::ToolArguments {
            index: 0,
            text: "{\"city\":".into(),
        },
        Step::ToolArguments {
            index: 1,
            text: "not json".into(),
        },
        Step::ToolArguments {
            index: 0,
            text: "\"Oslo\"}".into(),
        },
        Step::Finish("tool_calls".into()),
    ]);
    house
        .provider
        .script("tools", vec![asks, Turn::text("No such tools, then.")]);
    let model = house.model("tools").await;
    let sent = house.send(model, None, "what is the weather?").await;
    let events = house.events(sent).await;
    assert_eq!(
        names(&events),
        [
            "MessageCreated",
            "RunQueued",
            "RunStarted",
            "MessageCreated",
            "StepStarted",
            "reasoning",
            "text",
            "ToolCallStarted",
            "arguments",
            "StepFinished",
            "ToolCallFinished",
            "StepStarted",
            "text",
            "StepFinished",
            "MessageCompleted",
            "RunCompleted"
        ],
    );
    let answer = house.answer(sent.run).await.unwrap();
    assert_eq!(parts(&events, answer.id), answer.parts);
    let kinds: Vec<_> = answer
        .parts
        .0
        .iter()
        .map(|part| match part {
            Part::Text { text } => format!("text {text}"),
            Part::Reasoning { text } => format!("reasoning {text}"),
            Part::ToolCall { .. } => "call".into(),
            Part::Error { .. } => "error".into(),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "reasoning Let me look.",
            "text One moment.",
            "call",
            "call",
            "text No such tools, then."
        ]
    );
    let calls = tool_call::Entity::anywhere(SYSTEM)
        .filter(tool_call::Column::RunId.eq(sent.run))
        .order_by_asc(tool_call::Column::Position)
        .all(house.db().owner(SYSTEM))
        .await
        .unwrap();
    let said: Vec<_> = calls
        .iter()
        .map(|call| (call.name.as_str(), call.arguments.clone(), call.status))
        .collect();
    assert_eq!(
        said,
        [
            (
                "weather",
                Some(json!({"city": "Oslo"})),
                ToolCallStatus::Failed
            ),
            ("clock", None, ToolCallStatus::Failed)
        ]
    );
    assert!(
        calls[1]
            .error_message
            .as_ref()
            .unwrap()
            .contains("not valid JSON")
    );
    // the model is told, each call answered
    let requests = house.provider.calls_of("tools");
    let messages = requests[1].body["messages"].as_array().unwrap();
    let results: Vec<_> = messages
        .iter()
        .filter(|m| m["role"] == "tool")
        .map(|m| m["tool_call_id"].as_str().unwrap())
        .collect();
    assert_eq!(results, ["a", "b"]);
    assert_eq!(house.run(sent.run).await.steps, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_never_concludes_is_stopped() {
    let house = House::with_max_steps(2).await;
    house
        .provider
        .script("loops", Turn::tool_call("x", "again", &json!({})));
    let model = house.model("loops").await;
    let sent = house.ask(model, None, "go").await;
    let run = house.run(sent.run).await;
    assert_eq!(
        (run.status, run.error.unwrap().kind),
        (RunStatus::Failed, RunErrorKind::MaxSteps)
    );
    // two steps, and the last one in which it is told to conclude
    assert_eq!(house.provider.calls_of("loops").len(), 3);
    let answer = house.answer(sent.run).await.unwrap();
    assert!(matches!(answer.parts.0.last(), Some(Part::Error { .. })));
    assert_eq!(answer.status, MessageStatus::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_model_is_cancelled_at_once_and_what_it_said_is_kept() {
    let house = House::new().await;
    house.provider.script(
        "silent",
        Turn::of([
            Step::Text("Half an ".into()),
            Step::Text("answer".into()),
            Step::Stall,
        ]),
    );
    let model = house.model("silent").await;
    let sent = house.send(model, None, "go").await;
    house.until_said(sent, "answer").await;
    let asked = Instant::now();
    house.cancel(sent).await;
    assert!(asked.elapsed() < Duration::from_secs(1));
    let (run, answer) = house.run_and_answer(sent).await;
    assert_eq!(
        (run.status, answer.status, answer.parts.text().as_str()),
        (
            RunStatus::Cancelled,
            MessageStatus::Incomplete,
            "Half an answer"
        )
    );
    let events = house.events(sent).await;
    assert_eq!(
        names(&events).last_chunk(),
        Some(&["text", "MessageCompleted", "RunCancelled"])
    );
    // the provider is let go of
    house
        .provider
        .until_calls(PATIENCE, "the call is dropped", |calls| {
            calls.iter().all(|call| call.ended_ms.is_some())
        })
        .await;
    // and once more is no error
    house.cancel(sent).await;
    assert_eq!(house.events(sent).await.len(), events.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_against_completing_ends_each_run_once_and_last() {
    let house = House::new().await;
    let model = house.model("tokens-3-0").await;
    let mut completed = 0;
    let mut head_start = Duration::from_millis(2);
    for round in 0..200 {
        let sent = house.send(model, None, "race").await;
        tokio::time::sleep(head_start).await;
        house.cancel(sent).await;
        let events = house.events(sent).await;
        let ends: Vec<_> = events
            .iter()
            .filter(|event| event.body.is_terminal())
            .collect();
        assert_eq!(ends.len(), 1, "round {round}");
        let run = house.run(sent.run).await;
        assert!(run.status.is_terminal());
        // Whoever won has it harder in the next round, so that most rounds are close, on a quick machine as on a slow one.
        if run.status == RunStatus::Completed {
            completed += 1;
            head_start = head_start.mul_f64(0.9);
        } else {
            head_start = head_start.mul_f64(1.1);
        }
        assert_eq!(run.terminal_seq, Some(ends[0].seq), "round {round}");
        let heads = events::read::heads(house.db().reader(SYSTEM), &[sent.conversation.0])
            .await
            .unwrap();
        assert_eq!(
            heads[&sent.conversation.0], ends[0].seq,
            "nothing comes after the end, round {round}"
        );
        if let Some(answer) = house.answer(sent.run).await {
            assert_eq!(parts(&events, answer.id), answer.parts, "round {round}");
        }
    }
    assert!(
        (1..200).contains(&completed),
        "no race was run: {completed} of 200 were quicker than their cancelling"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_their_turn_or_are_refused() {
    let house = House::new().await;
    house.provider.script("gated", gated("go"));
    let (gated, quick) = (house.model("gated").await, house.model("tokens-2-0").await);
    let first = house.send(gated, None, "one").await;
    house.until_text(first).await;
    let conversation = Some(first.conversation);
    let second = house.send(quick, conversation, "two").await;
    let third = house.send(quick, conversation, "three").await;
    let mut refused = house.message(quick, conversation, "four");
    refused.when_busy = WhenBusy::Reject;
    let refused = house
        .engine
        .send_message(&house.scope, refused)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, CommandError::Refused(ref refusals) if matches!(refusals[..], [Refusal::Conflict { conflicting: Some(_), .. }])),
        "{refused:?}"
    );
    // taking the second out of the queue takes its answer's place out of the tree
    house.cancel(second).await;
    let withdrawn = house.answer(second.run).await.unwrap();
    assert!(withdrawn.is_hidden && withdrawn.removed_at.is_some());
    let messages = house.all_messages(first.conversation).await;
    let of = |id| messages.iter().find(|message| message.id == id).unwrap();
    assert_eq!(of(third.message).parent_id, Some(second.message));
    assert_eq!(
        of(second.message).parent_id,
        Some(house.run(first.run).await.output_message_id)
    );
    house.provider.open_gate("go");
    let events = house.events(third).await;
    let order: Vec<_> = events
        .iter()
        .filter(|event| matches!(event.body, Body::RunCompleted(_) | Body::RunStarted { .. }))
        .filter_map(|event| event.run)
        .collect();
    assert_eq!(order, [first.run, third.run, third.run]);
    assert_eq!(house.run(second.run).await.status, RunStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_costs_one_step_and_no_token() {
    let house = House::new().await;
    let asks = Turn::tool_call("x", "nothing", &json!({}));
    let dies = Turn::of([Step::Text("This is ".into()), Step::WaitFor("never".into())]);
    let tells = Turn::of([
        Step::Text("This is ".into()),
        Step::Text("whole.".into()),
        Step::Finish("stop".into()),
    ]);
    house.provider.script("dies", vec![asks, dies, tells]);
    let model = house.model("dies").await;
    let sent = house.send(model, None, "go").await;
    house.until_said(sent, "is ").await;
    // as after a worker that died: its lease lapses. It is still there, and must not write a word more.
    house.lapse(sent.run).await;
    let events = house.events(sent).await;
    assert_eq!(
        names(&events),
        [
            "MessageCreated",
            "RunQueued",
            "RunStarted",
            "MessageCreated",
            "StepStarted",
            "ToolCallStarted",
            "arguments",
            "StepFinished",
            "ToolCallFinished",
            "StepStarted",
            "text",
            "RunStarted",
            "StepRestarted",
            "text",
            "StepFinished",
            "MessageCompleted",
            "RunCompleted"
        ],
    );
    let (run, answer) = house.run_and_answer(sent).await;
    assert_eq!((run.losses, run.status), (1, RunStatus::Completed));
    assert_eq!(answer.parts.text(), "This is whole.");
    assert_eq!(parts(&events, answer.id), answer.parts);
    assert_eq!(
        house.provider.calls_of("dies").len(),
        3,
        "the finished step is not asked for again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_loses_every_worker_fails() {
    let house = House::new().await;
    house
        .provider
        .script("dies", Turn::of([Step::Text("x".into()), Step::Stall]));
    let model = house.model("dies").await;
    let sent = house.send(model, None, "go").await;
    for losses in 1..=5 {
        house
            .provider
            .until_calls(PATIENCE, "it is asked again", move |calls| {
                calls.len() >= losses
            })
            .await;
        house.lapse(sent.run).await;
    }
    house.events(sent).await;
    let run = house.run(sent.run).await;
    assert_eq!(
        (run.status, run.error.map(|error| error.kind)),
        (RunStatus::Failed, Some(RunErrorKind::Interrupted))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_the_right_gets_no_further_step() {
    let house = House::new().await;
    house.provider.script(
        "slow",
        vec![
            Turn::of([
                Step::ToolCall {
                    index: 0,
                    id: "a".into(),
                    name: "x".into(),
                },
                Step::WaitFor("go".into()),
                Step::Finish("tool_calls".into()),
            ]),
            Turn::text("never said"),
        ],
    );
    let model = house.model("slow").await;
    let sent = house.send(model, None, "go").await;
    house
        .events_until(sent, |event, _| {
            matches!(event.body, Body::ToolCallStarted { .. })
        })
        .await;
    entities::membership::Entity::change_anywhere(SYSTEM)
        .set(entities::membership::ActiveModel {
            is_active: Set(false),
            ..Default::default()
        })
        .exec(house.db().owner(SYSTEM))
        .await
        .unwrap();
    house.provider.open_gate("go");
    let run = house.until_over(sent, PATIENCE).await;
    assert_eq!(
        run.error.map(|error| error.kind),
        Some(RunErrorKind::Forbidden)
    );
    assert_eq!(house.provider.calls_of("slow").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_under_way_comes_to_its_end_in_a_shutdown() {
    let house = House::new().await;
    let model = house.model("tokens-30-20").await;
    let sent = house.send(model, None, "carry on").await;
    house.until_text(sent).await;
    let closing = tokio::spawn({
        let engine = house.engine.clone();
        async move { engine.close().await }
    });
    let events = house.events(sent).await;
    closing.await.unwrap();
    let answer = house.answer(sent.run).await.unwrap();
    assert_eq!(parts(&events, answer.id), answer.parts);
    assert_eq!(answer.parts.text(), expected_text("carry on", 30));
    assert_eq!(
        house.run(sent.run).await.losses,
        0,
        "a shutdown in order loses no worker"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_on_after_a_shutdown_in_order_whatever_runs_there_were() {
    let house = House::new().await;
    let model = house.model("tokens-300-10").await;
    let sent = house.send(model, None, "stop it").await;
    house.until_text(sent).await;
    // told to stop while it is still carried
    house.cancel(sent).await;
    house.events(sent).await;
    house.engine.close().await;
    let log = house.engine.log();
    let tasks = log.tasks().clone();
    let (closed, ended) = tokio::join!(log.close(), tasks.close(Duration::from_secs(4)));
    closed.unwrap();
    assert!(ended, "a task did not end");
}
