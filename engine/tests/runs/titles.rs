//! Titles that models write.

use engine::{EngineOptions, conversations::UpdateConversation, event::Body, send::Sent};
use entities::{
    CallPurpose, ConversationId, ModelProvider, conversation, llm_model, model_call, query::*,
};
use support::provider::{Step, Turn};

use crate::house::{House, PATIENCE, SYSTEM};

async fn house() -> House {
    House::with(3, EngineOptions::default()).await
}

impl House {
    async fn title_calls(&self, sent: Sent) -> Vec<model_call::Model> {
        self.calls_for(sent, CallPurpose::Title).await
    }

    async fn until_title(
        &self,
        id: ConversationId,
        what: &str,
        wanted: impl Fn(&conversation::Model) -> bool,
    ) -> conversation::Model {
        support::wait::until(PATIENCE, what, async || {
            Some(self.conversation(id).await).filter(|row| wanted(row))
        })
        .await
    }

    async fn name(&self, id: ConversationId, title: Option<&str>) {
        let input = UpdateConversation {
            title: Some(title.map(str::to_owned)),
            ..UpdateConversation::default()
        };
        self.engine
            .update_conversation(&self.scope, id, input)
            .await
            .unwrap();
    }

    /// Has a title looked for now rather than in a while.
    async fn fall_due(&self, id: ConversationId) {
        let now = self.engine.clock().now();
        conversation::Entity::change_anywhere(SYSTEM)
            .filter(conversation::Column::Id.eq(id))
            .set(conversation::ActiveModel {
                title_due_at: Set(Some(now)),
                ..Default::default()
            })
            .exec(self.db().owner(SYSTEM))
            .await
            .unwrap();
        // an end of any run makes the process look
        let model = self.model("tokens-1-0").await;
        let other = self.send(model, None, "something else").await;
        self.name(other.conversation, Some("Other")).await;
        self.events(other).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_is_followed_by_a_title() {
    let house = house().await;
    house.provider.script_titles(Turn::text(
        "**\"Setting up a loom.\"**\n\nIt is about looms.",
    ));
    let model = house.model("tokens-5-0").await;
    let sent = house.send(model, None, "How do I set up a loom?").await;
    let events = house
        .events_until(sent, |event, _| {
            matches!(event.body, Body::ConversationUpdated(_))
        })
        .await;
    let updated = events.last().unwrap();
    let Body::ConversationUpdated(facts) = &updated.body else {
        panic!("{updated:?}")
    };
    assert_eq!(facts.title.as_deref(), Some("Setting up a loom"));
    // it delays nothing: the run was over
    assert!(
        events[..events.len() - 1]
            .iter()
            .any(|event| event.body.is_terminal())
    );
    let row = house.conversation(sent.conversation).await;
    assert_eq!(row.title.as_deref(), Some("Setting up a loom"));
    assert!(!row.title_by_person && row.title_due_at.is_none());
    let calls = house.title_calls(sent).await;
    assert_eq!(calls.len(), 1);
    assert!(calls[0].usage.cost.is_some() && calls[0].outcome == "finished");
    // the model is told question and answer, and that is no part of the conversation
    let asked = house.provider.titles();
    let told = asked[0].body["messages"][1]["content"].as_str().unwrap();
    assert!(told.contains("How do I set up a loom?") && told.contains("Assistant: "));
    assert_eq!(house.all_messages(sent.conversation).await.len(), 2);
    // once
    house.ask(model, Some(sent.conversation), "And then?").await;
    assert_eq!(
        house.conversation(sent.conversation).await.title_due_at,
        None
    );
    assert_eq!(house.provider.titles().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_named_keeps_its_name() {
    let house = house().await;
    house.provider.script_titles(Turn::of([
        Step::Text("A model's ".into()),
        Step::WaitFor("go".into()),
        Step::Text("title".into()),
    ]));
    let model = house.model("tokens-5-0").await;
    let sent = house.ask(model, None, "hello").await;
    support::wait::until(PATIENCE, "a title is asked for", async || {
        (house.provider.titles().len() == 1).then_some(())
    })
    .await;
    house.name(sent.conversation, Some("Mine")).await;
    house.provider.open_gate("go");
    support::wait::until(PATIENCE, "the call is booked", async || {
        (house.title_calls(sent).await.len() == 1).then_some(())
    })
    .await;
    let row = house.conversation(sent.conversation).await;
    assert_eq!(row.title.as_deref(), Some("Mine"));
    // taken off, it makes way for a model's after the next answer
    house.name(sent.conversation, None).await;
    assert_eq!(
        house.conversation(sent.conversation).await.title_due_at,
        None
    );
    let second = house.ask(model, Some(sent.conversation), "again").await;
    let row = house
        .until_title(sent.conversation, "it is named", |row| row.title.is_some())
        .await;
    assert_eq!(row.title.as_deref(), Some("A model's title"));
    assert_eq!(house.title_calls(second).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_writes_none_is_left_alone_after_three_times() {
    let house = house().await;
    house.provider.script_titles(vec![
        Turn::refuse(401, &[]),
        Turn::text("..."),
        Turn::text(""),
    ]);
    let model = house.model("tokens-5-0").await;
    let sent = house.ask(model, None, "hello").await;
    for failures in 1..=3 {
        let row = house
            .until_title(sent.conversation, "it failed", |row| {
                row.title_failures == failures
            })
            .await;
        let now = house.engine.clock().now();
        assert_eq!(row.title_due_at.is_some_and(|at| at > now), failures < 3);
        if failures < 3 {
            house.fall_due(sent.conversation).await;
        }
    }
    // another answer does not make it due again
    house.ask(model, Some(sent.conversation), "again").await;
    let row = house.conversation(sent.conversation).await;
    assert_eq!((row.title, row.title_due_at), (None, None));
    assert_eq!(house.title_calls(sent).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_model_names_by_what_was_asked() {
    let house = house().await;
    let model = house.model("extractive").await;
    let change = llm_model::ActiveModel {
        provider: Set(ModelProvider::Builtin),
        base_url: Set(None),
        ..Default::default()
    };
    house.change_model(model, change).await;
    let sent = house
        .ask(model, None, "What does a loom hold? I want to know.")
        .await;
    let row = house
        .until_title(sent.conversation, "it is named", |row| row.title.is_some())
        .await;
    assert_eq!(row.title.as_deref(), Some("What does a loom hold?"));
    assert!(house.title_calls(sent).await.is_empty() && house.provider.titles().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_write_one_title() {
    let house = house().await;
    let Some(_neighbour) = house.neighbour_with(EngineOptions::default()).await else {
        return; // one process
    };
    let model = house.model("tokens-5-0").await;
    let mut sent = Vec::new();
    for number in 0..20 {
        sent.push(house.send(model, None, &format!("question {number}")).await);
    }
    for sent in sent {
        house
            .until_title(sent.conversation, "it is named", |row| row.title.is_some())
            .await;
        assert_eq!(house.title_calls(sent).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_while_a_title_is_written_asks_for_no_other() {
    let house = house().await;
    house.provider.script_titles(Turn::of([
        Step::WaitFor("go".into()),
        Step::Text("One title".into()),
    ]));
    let model = house.model("tokens-5-0").await;
    let sent = house.ask(model, None, "hello").await;
    support::wait::until(PATIENCE, "a title is asked for", async || {
        (house.provider.titles().len() == 1).then_some(())
    })
    .await;
    house.ask(model, Some(sent.conversation), "again").await;
    let row = house.conversation(sent.conversation).await;
    assert!(
        row.title_due_at
            .is_some_and(|at| at > house.engine.clock().now())
    );
    house.provider.open_gate("go");
    house
        .until_title(sent.conversation, "it is named", |row| row.title.is_some())
        .await;
    assert_eq!(house.provider.titles().len(), 1);
}
