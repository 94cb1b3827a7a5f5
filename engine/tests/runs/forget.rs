//! What is left of a conversation that was deleted.

use std::time::Duration;

use chrono::TimeDelta;
use engine::conversations::UpdateConversation;
use entities::{
    ConversationId, RunId, conversation, message, model_call, query::*, run, run_step, search,
    stream, tool_call,
};
use events::read;
use support::provider::Turn;

use crate::house::{House, PATIENCE, SYSTEM, gated};

impl House {
    async fn delete(&self, id: ConversationId) {
        self.engine
            .delete_conversation(&self.scope, id)
            .await
            .unwrap();
    }

    /// As if it had been deleted so long ago.
    async fn deleted_before(&self, id: ConversationId, ago: TimeDelta) {
        conversation::Entity::change_anywhere(SYSTEM)
            .filter(conversation::Column::Id.eq(id))
            .set(conversation::ActiveModel {
                deleted_at: Set(Some(self.engine.clock().now() - ago)),
                ..Default::default()
            })
            .exec(self.db().owner(SYSTEM))
            .await
            .unwrap();
    }

    /// What is stored of a conversation and of these runs: (conversation and stream, messages, runs, steps, tool calls).
    async fn stored(&self, id: ConversationId, runs: &[RunId]) -> [u64; 5] {
        let db = self.db().owner(SYSTEM);
        let one = conversation::Entity::anywhere(SYSTEM)
            .filter(conversation::Column::Id.eq(id))
            .count(db)
            .await;
        let stream = stream::Entity::anywhere(SYSTEM)
            .filter(stream::Column::Id.eq(id.0))
            .count(db)
            .await;
        let messages = message::Entity::anywhere(SYSTEM)
            .filter(message::Column::ConversationId.eq(id))
            .count(db)
            .await;
        let of_it = run::Entity::anywhere(SYSTEM)
            .filter(run::Column::ConversationId.eq(id))
            .count(db)
            .await;
        let steps = run_step::Entity::anywhere(SYSTEM)
            .filter(run_step::Column::RunId.is_in(runs.iter().copied()))
            .count(db)
            .await;
        let calls = tool_call::Entity::anywhere(SYSTEM)
            .filter(tool_call::Column::RunId.is_in(runs.iter().copied()))
            .count(db)
            .await;
        let both = one.unwrap() + stream.unwrap();
        [
            both,
            messages.unwrap(),
            of_it.unwrap(),
            steps.unwrap(),
            calls.unwrap(),
        ]
    }

    async fn calls_of_runs(&self, runs: &[RunId]) -> u64 {
        model_call::Entity::anywhere(SYSTEM)
            .filter(model_call::Column::RunId.is_in(runs.iter().copied()))
            .count(self.db().owner(SYSTEM))
            .await
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_conversation_is_forgotten_after_a_day() {
    let house = House::new().await;
    let asks = Turn::tool_call("a", "weather", &serde_json::json!({}));
    let no = || Turn::text("No such tool.");
    house
        .provider
        .script("tools", vec![asks.clone(), no(), asks, no()]);
    house.provider.script("gated", gated("never"));
    let (tools, stuck) = (house.model("tools").await, house.model("gated").await);
    let kept = house.ask(tools, None, "keep this").await;
    let gone = house.ask(tools, None, "forget this").await;
    let quick = house.model("tokens-3-0").await;
    // More than one piece of anything.
    let mut runs = vec![gone.run];
    for _ in 0..52 {
        let sent = house.ask(quick, Some(gone.conversation), "and this").await;
        runs.push(sent.run);
    }
    let title = UpdateConversation {
        title: Some(Some("Forget".into())),
        ..UpdateConversation::default()
    };
    house
        .engine
        .update_conversation(&house.scope, gone.conversation, title)
        .await
        .unwrap();
    // It is deleted in the midst of an answer.
    let open = house.send(stuck, Some(gone.conversation), "and that").await;
    house.until_text(open).await;
    runs.push(open.run);
    house.delete(gone.conversation).await;
    let before = house.stored(gone.conversation, &runs).await;
    let paid = house.calls_of_runs(&runs).await;
    assert!(before[1] > 100 && before[2] > 50 && before[4] > 0 && paid > 50);

    // For a day it is there, for whoever is told late.
    house
        .deleted_before(gone.conversation, TimeDelta::hours(23))
        .await;
    assert_eq!(house.engine.forget_conversations().await.unwrap(), 0);
    assert_eq!(house.stored(gone.conversation, &runs).await, before);
    house
        .deleted_before(gone.conversation, TimeDelta::hours(25))
        .await;
    // Given up somewhere in between, it goes on from there.
    for _ in 0..5 {
        let some = house.engine.forget_conversations();
        let _ = tokio::time::timeout(Duration::from_millis(10), some).await;
    }
    // On SQLite what was said last may still be on its way to its place; a piece is then taken the next time.
    let other_process = house.neighbour().await;
    support::wait::until(PATIENCE, "it is forgotten", async || {
        let other = async {
            if let Some(other) = &other_process {
                other.forget_conversations().await.unwrap();
            }
        };
        let ours = async { house.engine.forget_conversations().await.unwrap() };
        tokio::join!(ours, other);
        (house.stored(gone.conversation, &runs).await == [0; 5]).then_some(())
    })
    .await;
    let reader = house.db().reader(SYSTEM);
    let left = read::page(reader, gone.conversation.0, 0).await.unwrap();
    assert!(left.is_none());
    assert_eq!(house.calls_of_runs(&runs).await, paid);
    house.engine.catch_up_index().await.unwrap();
    assert!(!search::is_behind(SYSTEM, reader).await.unwrap());
    assert_eq!(house.engine.forget_conversations().await.unwrap(), 0);

    // What nobody deleted is as it was.
    let (_, answer) = house.run_and_answer(kept).await;
    assert_eq!(answer.parts.text(), "No such tool.");
    let left = read::page(reader, kept.conversation.0, 0).await.unwrap();
    assert!(left.is_some_and(|page| page.floor == 0 && !page.records.is_empty()));
    house.ask(quick, Some(kept.conversation), "and on").await;
}

/// What still runs in a conversation writes to the log; the next time will do.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_over_is_not_forgotten() {
    let house = House::new().await;
    house.provider.script("gated", gated("go"));
    let model = house.model("gated").await;
    let sent = house.send(model, None, "go").await;
    house.until_text(sent).await;
    house
        .deleted_before(sent.conversation, TimeDelta::days(9))
        .await;
    assert_eq!(house.engine.forget_conversations().await.unwrap(), 0);
    assert!(house.answer(sent.run).await.is_some());
    house.provider.open_gate("go");
    house.until_over(sent, PATIENCE).await;
    support::wait::until(PATIENCE, "it is forgotten", async || {
        (house.engine.forget_conversations().await.unwrap() == 1).then_some(())
    })
    .await;
    assert_eq!(house.stored(sent.conversation, &[sent.run]).await, [0; 5]);
}
