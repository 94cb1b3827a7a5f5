//! Trees of messages: the same question again, other words for it, a run once more, ratings, and the branch that goes on.

use engine::{
    conversations::UpdateConversation,
    event::Body,
    rate::RateMessage,
    send::{EditMessage, RegenerateMessage, RetryRun, Sent, WhenBusy},
};
use entities::{
    CommandError, ConversationId, MessageId, MessageStatus, ModelId, Rating, Refusal, RunId,
    RunStatus, RunTrigger, agent, conversation, message, query::*,
};
use support::provider::{Step, Turn, expected_text};

use crate::house::{House, PATIENCE, SYSTEM, gated, names};

impl House {
    pub async fn conversation(&self, id: ConversationId) -> conversation::Model {
        conversation::Entity::anywhere(SYSTEM)
            .filter(conversation::Column::Id.eq(id))
            .one(self.db().owner(SYSTEM))
            .await
            .unwrap()
            .unwrap()
    }

    pub async fn said(&self, id: MessageId) -> message::Model {
        message::Entity::anywhere(SYSTEM)
            .filter(message::Column::Id.eq(id))
            .one(self.db().owner(SYSTEM))
            .await
            .unwrap()
            .unwrap()
    }

    pub async fn regenerate(&self, message: MessageId, model: ModelId) -> Sent {
        let again = RegenerateMessage {
            message,
            model: Some(model),
            when_busy: WhenBusy::Enqueue,
        };
        self.engine
            .regenerate_message(&self.scope, again)
            .await
            .unwrap()
    }

    pub async fn edit(&self, message: MessageId, text: &str) -> Sent {
        let edit = EditMessage {
            message,
            text: text.into(),
            when_busy: WhenBusy::Enqueue,
            client_id: Some("mine".into()),
        };
        self.engine.edit_message(&self.scope, edit).await.unwrap()
    }

    pub async fn retry(&self, run: RunId, model: Option<ModelId>) -> Result<Sent, CommandError> {
        self.engine
            .retry_run(&self.scope, RetryRun { run, model })
            .await
    }

    /// All of the model's agent's answers come from this one.
    pub async fn uses(&self, model: ModelId) {
        entities::agent_version::Entity::change_anywhere(SYSTEM)
            .filter(entities::agent_version::Column::AgentId.eq(self.agent))
            .set(entities::agent_version::ActiveModel {
                model_id: Set(Some(model)),
                ..Default::default()
            })
            .exec(self.db().owner(SYSTEM))
            .await
            .unwrap();
    }

    /// What the last call of a model was told, as roles and texts.
    pub fn told(&self, model: &str) -> Vec<(String, String)> {
        let calls = self.provider.calls_of(model);
        calls.last().unwrap().body["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| {
                let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
                (text("role"), text("content"))
            })
            .collect()
    }
}

fn refused(error: CommandError) -> Refusal {
    match error {
        CommandError::Refused(mut refusals) if refusals.len() == 1 => refusals.remove(0),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_given_again_beside_the_first() {
    let house = House::new().await;
    let model = house.model("tokens-5-0").await;
    let first = house.ask(model, None, "one").await;
    let answer = house.answer(first.run).await.unwrap();
    house.ask(model, Some(first.conversation), "two").await;
    // of an answer in the midst of the conversation; what follows it stays where it is
    let again = house.regenerate(answer.id, model).await;
    assert_eq!(
        (again.conversation, again.message),
        (first.conversation, first.message)
    );
    let events = house.events(again).await;
    assert_eq!(
        names(&events),
        [
            "RunQueued",
            "ConversationUpdated",
            "RunStarted",
            "MessageCreated",
            "StepStarted",
            "text",
            "StepFinished",
            "MessageCompleted",
            "RunCompleted"
        ]
    );
    assert!(events.iter().all(|event| event.seq > again.before));
    let run = house.run(again.run).await;
    assert_eq!(
        (run.trigger, run.input_message_id),
        (RunTrigger::Regenerate, Some(first.message))
    );
    let sibling = house.answer(again.run).await.unwrap();
    assert_eq!(sibling.parent_id, Some(first.message));
    assert_eq!(sibling.parts.text(), expected_text("one", 5));
    let told: Vec<_> = house.told("tokens-5-0").into_iter().skip(1).collect();
    assert_eq!(told, [("user".to_owned(), "one".to_owned())]);
    let row = house.conversation(first.conversation).await;
    assert_eq!(
        (row.leaf_id, row.last_message_id),
        (Some(sibling.id), Some(sibling.id))
    );
    // of the question itself it is the same
    let third = house.regenerate(first.message, model).await;
    house.events(third).await;
    let answers: Vec<_> = house
        .all_messages(first.conversation)
        .await
        .into_iter()
        .filter(|row| row.parent_id == Some(first.message))
        .collect();
    assert_eq!(answers.len(), 3);
    assert!(
        answers
            .iter()
            .all(|row| row.status == MessageStatus::Complete)
    );
    // what is said next follows the newest of them
    let next = house.ask(model, Some(first.conversation), "three").await;
    let parent = house.said(next.message).await.parent_id;
    assert_eq!(parent, Some(house.answer(third.run).await.unwrap().id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_put_in_other_words_beside_the_first() {
    let house = House::new().await;
    let model = house.model("tokens-3-0").await;
    house.uses(model).await;
    let first = house.ask(model, None, "one").await;
    let second = house.ask(model, Some(first.conversation), "two").await;
    let edited = house.edit(second.message, "two, better").await;
    let events = house.events(edited).await;
    assert_eq!(names(&events)[..2], ["MessageCreated", "RunQueued"]);
    let (was, now) = (
        house.said(second.message).await,
        house.said(edited.message).await,
    );
    assert_eq!(was.parent_id, now.parent_id);
    assert_eq!(was.parts.text(), "two");
    assert_eq!(now.parts.text(), "two, better");
    assert_eq!(now.client_id.as_deref(), Some("mine"));
    assert_eq!(house.run(edited.run).await.trigger, RunTrigger::Edit);
    let told: Vec<_> = house
        .told("tokens-3-0")
        .into_iter()
        .skip(1)
        .map(|(_, text)| text)
        .collect();
    assert_eq!(
        told,
        [
            "one".to_owned(),
            expected_text("one", 3),
            "two, better".to_owned()
        ]
    );
    // of the first one another root
    let root = house.edit(first.message, "zero").await;
    house.events(root).await;
    assert_eq!(house.said(root.message).await.parent_id, None);
    let answer = house.answer(root.run).await.unwrap();
    assert_eq!(
        house.conversation(first.conversation).await.leaf_id,
        Some(answer.id)
    );
    // an answer is not edited
    let edit = EditMessage {
        message: answer.id,
        text: "mine".into(),
        when_busy: WhenBusy::Enqueue,
        client_id: None,
    };
    let error = house.engine.edit_message(&house.scope, edit).await;
    assert!(matches!(
        refused(error.unwrap_err()),
        Refusal::InvalidInput { .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_or_was_stopped_is_run_again() {
    let house = House::new().await;
    house.provider.script(
        "weak",
        vec![Turn::refuse(401, &[]), Turn::text("now it works")],
    );
    let model = house.model("weak").await;
    let failed = house.ask(model, None, "go").await;
    assert_eq!(house.run(failed.run).await.status, RunStatus::Failed);
    let retried = house.retry(failed.run, None).await.unwrap();
    house.events(retried).await;
    let run = house.run(retried.run).await;
    assert_eq!(
        (run.trigger, run.status, run.model_id),
        (RunTrigger::Retry, RunStatus::Completed, Some(model))
    );
    assert_eq!(retried.message, failed.message);
    assert_eq!(
        house.answer(retried.run).await.unwrap().parts.text(),
        "now it works"
    );
    // one that answered is not
    let error = house.retry(retried.run, None).await.unwrap_err();
    assert!(matches!(
        refused(error),
        Refusal::Conflict {
            conflicting: Some(reference),
            ..
        } if reference.id == retried.run.0
    ));
    // one that is under way neither, until it is stopped
    house
        .provider
        .script("silent", Turn::of([Step::Text("x".into()), Step::Stall]));
    let silent = house.model("silent").await;
    let stopped = house.send(silent, Some(failed.conversation), "again").await;
    assert!(house.retry(stopped.run, None).await.is_err());
    house.cancel(stopped).await;
    let other = house.model("tokens-2-0").await;
    let retried = house.retry(stopped.run, Some(other)).await.unwrap();
    house.events(retried).await;
    assert_eq!(house.run(retried.run).await.model_id, Some(other));
    // the agent is gone by then
    house.cancel(retried).await;
    let now = house.engine.clock().now();
    agent::Entity::change_anywhere(SYSTEM)
        .set(agent::ActiveModel {
            deleted_at: Set(Some(now)),
            ..Default::default()
        })
        .exec(house.db().owner(SYSTEM))
        .await
        .unwrap();
    let error = house.retry(failed.run, None).await.unwrap_err();
    assert!(matches!(refused(error), Refusal::NotFound { .. }));
}

/// A run in the queue that is taken out of it: the branch goes back to where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_answer_that_never_began_leaves_the_first() {
    let house = House::new().await;
    house.provider.script("gated", gated("go"));
    let (gated, quick) = (house.model("gated").await, house.model("tokens-2-0").await);
    let first = house.ask(quick, None, "one").await;
    let answer = house.answer(first.run).await.unwrap();
    let busy = house.send(gated, Some(first.conversation), "two").await;
    house.until_text(busy).await;
    let under_way = house.answer(busy.run).await.unwrap();
    let again = house.regenerate(answer.id, quick).await;
    // what is said now follows the answer that is to come
    let next = house.send(quick, Some(first.conversation), "three").await;
    let to_come = house.run(again.run).await.output_message_id;
    assert_eq!(house.said(next.message).await.parent_id, Some(to_come));
    house.cancel(next).await;
    house.cancel(again).await;
    // it follows the question now: nothing was answered in between
    assert_eq!(
        house.said(next.message).await.parent_id,
        Some(first.message)
    );
    let row = house.conversation(first.conversation).await;
    assert_eq!(row.leaf_id, Some(next.message));
    // a second one, which nothing follows
    let again = house.regenerate(answer.id, quick).await;
    assert_ne!(
        house.conversation(first.conversation).await.leaf_id,
        Some(next.message)
    );
    house.cancel(again).await;
    let events = house.events(again).await;
    assert_eq!(
        names(&events),
        ["RunQueued", "ConversationUpdated", "RunCancelled"]
    );
    let row = house.conversation(first.conversation).await;
    assert_eq!(row.leaf_id, Some(next.message), "the latest below it");
    assert!(house.said(under_way.id).await.removed_at.is_none());
    house.provider.open_gate("go");
    house.events(busy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_from_any_of_its_branches() {
    let house = House::new().await;
    let model = house.model("tokens-2-0").await;
    house.uses(model).await;
    let first = house.ask(model, None, "one").await;
    let second = house.ask(model, Some(first.conversation), "two").await;
    let edited = house.edit(first.message, "one, better").await;
    house.events(edited).await;
    let leaf = house.answer(second.run).await.unwrap().id;
    let choose = |leaf: Option<MessageId>| UpdateConversation {
        leaf: Some(leaf),
        ..UpdateConversation::default()
    };
    let id = first.conversation;
    let update = house
        .engine
        .update_conversation(&house.scope, id, choose(Some(first.message)));
    update.await.unwrap();
    assert_eq!(house.conversation(id).await.leaf_id, Some(leaf));
    let next = house.ask(model, Some(id), "three").await;
    assert_eq!(house.said(next.message).await.parent_id, Some(leaf));
    // from none
    let update = house
        .engine
        .update_conversation(&house.scope, id, choose(None));
    update.await.unwrap();
    let anew = house.ask(model, Some(id), "anew").await;
    assert_eq!(house.said(anew.message).await.parent_id, None);
    // of another conversation
    let other = house.ask(model, None, "elsewhere").await;
    let update = house
        .engine
        .update_conversation(&house.scope, id, choose(Some(other.message)));
    assert!(matches!(
        refused(update.await.unwrap_err()),
        Refusal::NotFound { .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_rated_and_that_is_told() {
    let house = House::new().await;
    let model = house.model("tokens-2-0").await;
    let sent = house.send(model, None, "one").await;
    let end = house.events(sent).await.last().unwrap().seq;
    let answer = house.answer(sent.run).await.unwrap().id;
    let rate = |message, rating, comment: Option<String>| {
        let input = RateMessage {
            message,
            rating,
            comment,
        };
        house.engine.rate_message(&house.scope, input)
    };
    rate(answer, Some(Rating::Down), Some("too short".into()))
        .await
        .unwrap();
    let row = house.said(answer).await;
    assert_eq!(
        (row.rating, row.rating_comment.as_deref()),
        (Some(Rating::Down), Some("too short"))
    );
    rate(answer, None, None).await.unwrap();
    let row = house.said(answer).await;
    assert_eq!((row.rating, row.rating_comment), (None, None));
    let events = house
        .events_until(
            sent,
            |event, _| matches!(&event.body, Body::MessageUpdated(facts) if facts.rating.is_none()),
        )
        .await;
    let told: Vec<_> = events
        .iter()
        .filter(|event| event.seq > end)
        .map(|event| match &event.body {
            Body::MessageUpdated(facts) => (facts.id, facts.rating, facts.rating_comment.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            (answer, Some(Rating::Down), Some("too short".to_owned())),
            (answer, None, None)
        ]
    );
    for (message, rating, comment) in [
        (sent.message, Some(Rating::Up), None),
        (answer, None, Some("why".to_owned())),
        (answer, Some(Rating::Up), Some("x".repeat(10_001))),
        (answer, Some(Rating::Up), Some("\0".to_owned())),
    ] {
        let error = rate(message, rating, comment).await.unwrap_err();
        assert!(matches!(refused(error), Refusal::InvalidInput { .. }));
    }
}

/// Whoever rates an answer while it is written loses nothing of it, and nothing of the rating.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_under_way_can_be_rated() {
    let house = House::new().await;
    house.provider.script("gated", gated("go"));
    let model = house.model("gated").await;
    let sent = house.send(model, None, "one").await;
    house.until_text(sent).await;
    let message = house.run(sent.run).await.output_message_id;
    let rating = RateMessage {
        message,
        rating: Some(Rating::Up),
        comment: None,
    };
    support::wait::within(
        PATIENCE,
        "the rating",
        house.engine.rate_message(&house.scope, rating),
    )
    .await
    .unwrap();
    house.provider.open_gate("go");
    house.events(sent).await;
    let row = house.said(message).await;
    assert_eq!(
        (row.rating, row.parts.text().as_str()),
        (Some(Rating::Up), "half whole")
    );
}

/// A run that can't even begin has an answer that says so, and that is the newest message.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_model_ends_with_an_answer() {
    let house = House::new().await;
    let message = engine::send::SendMessage {
        model: None,
        ..house.message(ModelId(house.engine.clock().uuid()), None, "go")
    };
    let sent = house
        .engine
        .send_message(&house.scope, message)
        .await
        .unwrap();
    house.events(sent).await;
    let answer = house.answer(sent.run).await.unwrap();
    assert_eq!(
        (answer.status, house.run(sent.run).await.status),
        (MessageStatus::Failed, RunStatus::Failed)
    );
    let row = house.conversation(sent.conversation).await;
    assert_eq!(
        (row.last_message_id, row.leaf_id, row.active_run_id),
        (Some(answer.id), Some(answer.id), None)
    );
    // with a model it is another matter
    let model = house.model("tokens-2-0").await;
    let retried = house.retry(sent.run, Some(model)).await.unwrap();
    house.events(retried).await;
    assert_eq!(house.run(retried.run).await.status, RunStatus::Completed);
}
