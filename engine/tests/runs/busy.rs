//! Messages that come while a run is under way, by each of the four policies.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use engine::{
    Engine,
    event::{Body, Event},
    send::{EditMessage, RegenerateMessage, SendMessage, Sent, WhenBusy},
};
use entities::{
    CommandError, ConversationId, MessageId, MessageStatus, ModelId, RunId, RunStatus, query::*,
    run,
};

use crate::house::{House, PATIENCE, SYSTEM, gated, names};

impl House {
    async fn send_so(
        &self,
        model: ModelId,
        conversation: ConversationId,
        text: &str,
        when_busy: WhenBusy,
    ) -> Sent {
        let message = SendMessage {
            when_busy,
            ..self.message(model, Some(conversation), text)
        };
        self.engine
            .send_message(&self.scope, message)
            .await
            .unwrap()
    }

    /// A conversation whose first answer stands still in its midst.
    async fn half_answered(&self) -> (ModelId, Sent) {
        self.provider.script("gated", gated("never"));
        let model = self.model("gated").await;
        let sent = self.send(model, None, "one").await;
        self.until_text(sent).await;
        (model, sent)
    }

    async fn runs(&self, conversation: ConversationId) -> Vec<run::Model> {
        run::Entity::anywhere(SYSTEM)
            .filter(run::Column::ConversationId.eq(conversation))
            .all(self.db().owner(SYSTEM))
            .await
            .unwrap()
    }

    async fn store(&self, sent: Sent, last: Sent) -> Store {
        let cursor = Sent {
            run: last.run,
            ..sent
        };
        let mut store = Store::default();
        for event in self.events(cursor).await {
            store.apply(&event);
        }
        store
    }
}

/// What a front end makes of the events, and what it holds them against.
#[derive(Default)]
struct Store {
    /// What shows, with what it follows.
    messages: BTreeMap<MessageId, Option<MessageId>>,
    removed: BTreeSet<MessageId>,
    /// The runs that are not over, in their order.
    open: Vec<RunId>,
    running: Option<RunId>,
    ended: BTreeMap<RunId, &'static str>,
}

impl Store {
    fn apply(&mut self, event: &Event) {
        if let Some(run) = event.run {
            assert!(!self.ended.contains_key(&run), "after its end: {event:?}");
        }
        match &event.body {
            Body::MessageCreated(facts) | Body::MessageUpdated(facts) => {
                assert!(!self.removed.contains(&facts.id), "{event:?}");
                self.messages.insert(facts.id, facts.parent);
            }
            Body::MessagesRemoved(messages) => {
                for message in messages {
                    assert!(self.messages.remove(message).is_some(), "{event:?}");
                    self.removed.insert(*message);
                }
            }
            Body::RunQueued { position, .. } => {
                let at = usize::try_from(*position).unwrap();
                self.open.insert(at, event.run.unwrap());
            }
            Body::RunStarted { .. } => {
                assert_eq!(self.open.first(), event.run.as_ref(), "its turn");
                let before = self.running.replace(event.run.unwrap());
                assert!(
                    before.is_none_or(|before| Some(before) == event.run),
                    "one at a time: {event:?}"
                );
            }
            body if body.is_terminal() => {
                let run = event.run.unwrap();
                self.open.retain(|open| *open != run);
                if self.running == Some(run) {
                    self.running = None;
                }
                let name = names(std::slice::from_ref(event))[0];
                self.ended.insert(run, name);
            }
            _ => {}
        }
        // at every event the tree is whole
        for parent in self.messages.values().flatten() {
            assert!(!self.removed.contains(parent), "{event:?}");
        }
    }

    async fn assert_is(&self, house: &House, conversation: ConversationId) {
        let rows = house.all_messages(conversation).await;
        let shown: BTreeMap<_, _> = rows
            .iter()
            .filter(|row| !row.is_hidden)
            .map(|row| (row.id, row.parent_id))
            .collect();
        assert_eq!(self.messages, shown);
        let removed: BTreeSet<_> = rows
            .iter()
            .filter(|row| row.removed_at.is_some() && self.removed.contains(&row.id))
            .map(|row| row.id)
            .collect();
        assert_eq!(self.removed, removed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_keeps_what_was_said_and_goes_before_what_waits() {
    let house = House::new().await;
    let (_, first) = house.half_answered().await;
    let quick = house.model("tokens-2-0").await;
    let id = first.conversation;
    let waits = house.send(quick, Some(id), "two").await;
    let quicker = house.send_so(quick, id, "now", WhenBusy::Interrupt).await;
    let store = house.store(first, waits).await;
    let order: Vec<_> = [first, quicker, waits]
        .map(|sent| store.ended[&sent.run])
        .to_vec();
    assert_eq!(order, ["RunCancelled", "RunCompleted", "RunCompleted"]);
    let (broken, answer) = house.run_and_answer(first).await;
    assert_eq!(broken.status, RunStatus::Cancelled);
    assert_eq!(
        (answer.status, answer.parts.text().as_str()),
        (MessageStatus::Incomplete, "half ")
    );
    let started = |run: run::Model| run.started_at.unwrap();
    assert!(
        started(house.run(quicker.run).await) <= started(house.run(waits.run).await),
        "its turn comes first"
    );
    store.assert_is(&house, id).await;
    let row = house.conversation(id).await;
    assert_eq!(
        row.leaf_id,
        Some(house.answer(quicker.run).await.unwrap().id)
    );
    assert_eq!(row.active_run_id, None);
    // its events, in order
    let events = house.events(quicker).await;
    assert_eq!(
        names(&events)[..4],
        [
            "MessageCompleted",
            "RunCancelled",
            "MessageCreated",
            "RunQueued"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_takes_the_turn_out_and_what_followed_it_follows_what_stood_before() {
    let house = House::new().await;
    let quick = house.model("tokens-2-0").await;
    house.provider.script("gated", gated("never"));
    let gated = house.model("gated").await;
    let first = house.ask(quick, None, "one").await;
    let id = first.conversation;
    let undone = house.send(gated, Some(id), "two, undone").await;
    house.until_text(undone).await;
    let waits = house.send(quick, Some(id), "three").await;
    let instead = house
        .send_so(quick, id, "two, instead", WhenBusy::Rollback)
        .await;
    let events = house.events(instead).await;
    assert_eq!(
        names(&events)[..6],
        [
            "MessageCompleted",
            "RunCancelled",
            "MessageUpdated",
            "MessagesRemoved",
            "MessageCreated",
            "RunQueued"
        ]
    );
    let store = house.store(first, waits).await;
    store.assert_is(&house, id).await;
    let answer = house.run(undone.run).await.output_message_id;
    assert_eq!(
        store.removed,
        BTreeSet::from([undone.message, answer]),
        "question and answer"
    );
    let before = house.answer(first.run).await.unwrap().id;
    assert_eq!(house.said(waits.message).await.parent_id, Some(before));
    // nothing of it is told to a model any more
    for (_, text) in house.told("tokens-2-0") {
        assert!(!text.contains("undone") && !text.contains("half"), "{text}");
    }
    assert_eq!(house.run(undone.run).await.status, RunStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_of_the_first_turn_begins_anew() {
    let house = House::new().await;
    let (_, first) = house.half_answered().await;
    let quick = house.model("tokens-2-0").await;
    let id = first.conversation;
    let instead = house
        .send_so(quick, id, "instead", WhenBusy::Rollback)
        .await;
    let store = house.store(first, instead).await;
    store.assert_is(&house, id).await;
    assert_eq!(house.said(instead.message).await.parent_id, None);
    assert_eq!(store.messages.len(), 2);
    // and what was undone can neither be answered again nor edited
    let again = RegenerateMessage {
        message: first.message,
        model: None,
        when_busy: WhenBusy::Enqueue,
    };
    let again = house.engine.regenerate_message(&house.scope, again);
    assert!(matches!(again.await, Err(CommandError::Refused(_))));
    assert!(matches!(
        house.retry(first.run, None).await,
        Err(CommandError::Refused(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_takes_no_more_than_its_turn_brought() {
    let house = House::new().await;
    let quick = house.model("tokens-2-0").await;
    house.provider.script("gated", gated("never"));
    let gated = house.model("gated").await;
    let first = house.ask(quick, None, "one").await;
    let id = first.conversation;
    let answer = house.answer(first.run).await.unwrap().id;
    // a second answer to the same question: the question and the first answer stay, and the branch is that one's again
    let again = house.regenerate(answer, gated).await;
    house.until_text(again).await;
    let next = house.send_so(quick, id, "two", WhenBusy::Rollback).await;
    let store = house.store(first, next).await;
    store.assert_is(&house, id).await;
    assert_eq!(store.removed.len(), 1);
    assert_eq!(house.said(next.message).await.parent_id, Some(answer));
    // the answer under way is to be given again at once: its question stays
    let third = house.send(gated, Some(id), "three").await;
    house.until_text(third).await;
    let broken = house.run(third.run).await.output_message_id;
    let instead = RegenerateMessage {
        message: broken,
        model: Some(quick),
        when_busy: WhenBusy::Rollback,
    };
    let instead = house
        .engine
        .regenerate_message(&house.scope, instead)
        .await
        .unwrap();
    let store = house.store(first, instead).await;
    store.assert_is(&house, id).await;
    assert!(store.removed.contains(&broken));
    assert_eq!(instead.message, third.message);
    // other words for the question under way take its place
    let fourth = house.send(gated, Some(id), "four").await;
    house.until_text(fourth).await;
    let was = house.said(fourth.message).await;
    let edit = EditMessage {
        message: fourth.message,
        text: "four, better".into(),
        when_busy: WhenBusy::Rollback,
        client_id: None,
    };
    let edited = house.engine.edit_message(&house.scope, edit).await.unwrap();
    let is = house.said(edited.message).await;
    assert_eq!(is.parent_id, was.parent_id);
    assert!(house.said(fourth.message).await.removed_at.is_some());
    house.cancel(edited).await;
    let store = house.store(first, edited).await;
    store.assert_is(&house, id).await;
    // a question that waits below the answer under way: its own words change nothing of what stands before
    let fifth = house.send(gated, Some(id), "five").await;
    house.until_text(fifth).await;
    let sixth = house.send(quick, Some(id), "six").await;
    let edit = EditMessage {
        message: sixth.message,
        text: "six, better".into(),
        when_busy: WhenBusy::Rollback,
        client_id: None,
    };
    let edited = house.engine.edit_message(&house.scope, edit).await.unwrap();
    let (six, better) = (
        house.said(sixth.message).await,
        house.said(edited.message).await,
    );
    assert_eq!(six.parent_id, better.parent_id);
    assert!(house.said(fifth.message).await.removed_at.is_some());
    let store = house.store(first, sixth).await;
    store.assert_is(&house, id).await;
}

/// Where nothing is under way there is nothing to stop, and the new run comes first all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_stays_and_waits_behind() {
    let house = House::idle().await;
    let model = house.model("tokens-2-0").await;
    let first = house.send(model, None, "one").await;
    let id = first.conversation;
    let second = house.send(model, Some(id), "two").await;
    let third = house.send_so(model, id, "three", WhenBusy::Interrupt).await;
    let fourth = house.send_so(model, id, "four", WhenBusy::Rollback).await;
    let last = house.send(model, Some(id), "five").await;
    let mut runs = house.runs(id).await;
    runs.sort_by_key(|run| run.queue_no);
    let order: Vec<_> = runs.iter().map(|run| run.id).collect();
    let wanted = [fourth, third, first, second, last].map(|sent| sent.run);
    assert_eq!(order, wanted);
    assert!(runs.iter().all(|run| run.status == RunStatus::Queued));
    let ahead = run::Entity::ahead_of(&house.scope, house.db().reader(SYSTEM), &wanted)
        .await
        .unwrap();
    let places: Vec<_> = wanted
        .iter()
        .map(|run| ahead.get(run).copied().unwrap_or_default())
        .collect();
    assert_eq!(places, [0, 1, 2, 3, 4]);
    // one that stands behind others is not begun, even if it was seen when it did not
    let row = house.run(second.run).await;
    let tx = house
        .db()
        .begin(entities::Within::Owner(SYSTEM))
        .await
        .unwrap();
    let now = house.engine.clock().now();
    let taken = run::Entity::take(
        &tx,
        &row,
        entities::WorkerId(house.engine.clock().uuid()),
        now,
        Duration::from_secs(10),
        u64::MAX,
        false,
    )
    .await
    .unwrap();
    tx.rollback().await.unwrap();
    assert!(!taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_refuses_to_wait_is_refused() {
    let house = House::new().await;
    let (model, first) = house.half_answered().await;
    let again = RegenerateMessage {
        message: first.message,
        model: Some(model),
        when_busy: WhenBusy::Reject,
    };
    let refused = house.engine.regenerate_message(&house.scope, again).await;
    assert!(matches!(refused, Err(CommandError::Refused(_))));
    let edit = EditMessage {
        message: first.message,
        text: "two".into(),
        when_busy: WhenBusy::Reject,
        client_id: None,
    };
    let refused = house.engine.edit_message(&house.scope, edit).await;
    assert!(matches!(refused, Err(CommandError::Refused(_))));
    assert_eq!(house.run(first.run).await.status, RunStatus::Running);
}

/// Sends, each by another policy, from several tasks and, where the database is shared, from two processes; cancels and asks
/// again in between. Whatever comes of it: one runs at a time, in the order of the queue, each ends once, nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn all_at_once_leave_one_order() {
    const TASKS: usize = 6;
    const ROUNDS: usize = 12;
    let house = House::new().await;
    let neighbour = house.neighbour().await;
    let model = house.model("tokens-6-3").await;
    house.uses(model).await;
    let first = house.send(model, None, "one").await;
    let id = first.conversation;
    let tasks = (0..TASKS).map(|task| {
        let engine = match &neighbour {
            Some(neighbour) if task % 2 == 1 => neighbour.clone(),
            _ => house.engine.clone(),
        };
        let (scope, message) = (
            house.scope.clone(),
            house.message(model, Some(id), &format!("task {task}")),
        );
        tokio::spawn(async move { talk(engine, scope, message, task, ROUNDS).await })
    });
    let mut sent = vec![first];
    for task in tasks.collect::<Vec<_>>() {
        sent.extend(task.await.unwrap());
    }
    let ends = support::wait::until(PATIENCE * 2, "all of them end", async || {
        let runs = house.runs(id).await;
        runs.iter()
            .all(|run| run.status.is_terminal())
            .then_some(runs)
    })
    .await;
    // nothing that was answered to whoever sent it is lost
    let made: BTreeSet<_> = ends.iter().map(|run| run.id).collect();
    let told: BTreeSet<_> = sent.iter().map(|sent| sent.run).collect();
    assert_eq!(made, told);
    let last = ends.iter().max_by_key(|run| run.terminal_seq).unwrap();
    let store = house
        .store(
            first,
            Sent {
                run: last.id,
                ..first
            },
        )
        .await;
    assert_eq!(
        store.ended.keys().copied().collect::<BTreeSet<_>>(),
        made,
        "each ends once"
    );
    assert!(store.open.is_empty() && store.running.is_none());
    let heads = events::read::heads(house.db().reader(SYSTEM), &[id.0])
        .await
        .unwrap();
    assert_eq!(Some(heads[&id.0]), last.terminal_seq, "nothing comes after");
    store.assert_is(&house, id).await;
    // what each answer holds is what was told of it
    let row = house.conversation(id).await;
    assert_eq!(row.active_run_id, None);
    let leaf = house.said(row.leaf_id.unwrap()).await;
    assert!(leaf.removed_at.is_none());
    let newest = house
        .all_messages(id)
        .await
        .into_iter()
        .rfind(|row| !row.is_hidden)
        .unwrap();
    assert_eq!(row.last_message_id, Some(newest.id));
    for message in house.all_messages(id).await {
        assert_ne!(
            (message.status, message.is_hidden),
            (MessageStatus::Streaming, false),
            "{message:?}"
        );
    }
    let kinds: BTreeSet<_> = store.ended.values().copied().collect();
    assert!(
        kinds.contains("RunCompleted") && kinds.contains("RunCancelled"),
        "{kinds:?}"
    );
    assert!(!store.removed.is_empty(), "no turn was undone");
    if let Some(neighbour) = neighbour {
        neighbour.close().await;
    }
}

async fn talk(
    engine: Engine,
    scope: entities::Scope,
    message: SendMessage,
    task: usize,
    rounds: usize,
) -> Vec<Sent> {
    let policies = [
        WhenBusy::Enqueue,
        WhenBusy::Interrupt,
        WhenBusy::Rollback,
        WhenBusy::Reject,
    ];
    let mut sent: Vec<Sent> = Vec::new();
    for round in 0..rounds {
        let when_busy = policies[(task * 5 + round * 3) % policies.len()];
        let asked = match (round % 4, sent.last()) {
            (1, Some(before)) => {
                let again = RegenerateMessage {
                    message: before.message,
                    model: None,
                    when_busy,
                };
                engine.regenerate_message(&scope, again).await
            }
            (2, Some(before)) => {
                let edit = EditMessage {
                    message: before.message,
                    text: format!("{} once more", message.text),
                    when_busy,
                    client_id: None,
                };
                engine.edit_message(&scope, edit).await
            }
            _ => {
                let message = SendMessage {
                    when_busy,
                    text: format!("{} round {round}", message.text),
                    ..message.clone()
                };
                engine.send_message(&scope, message).await
            }
        };
        match asked {
            Ok(asked) => {
                sent.push(asked);
                if round % 5 == 4 {
                    engine.cancel_run(&scope, asked.run).await.unwrap();
                }
            }
            // by REJECT, or since somebody undid what was to be asked again
            Err(CommandError::Refused(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
        let pause = u64::try_from((task * 7 + round * 11) % 40).unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    sent
}
