//! What follows the tables a moment later: that it misses nothing, and that nothing of one tenant's stops it for all.

use engine::{agents::CreateAgent, conversations::UpdateConversation};
use entities::{
    BookingKind, CommandError, booking, search,
    usage::{Additions, Money, summed},
};
use support::provider::Turn;

use crate::house::{House, PATIENCE, SYSTEM};

impl House {
    async fn until_found(&self, what: &str) {
        support::wait::until(PATIENCE, what, async || {
            let reader = self.db().reader(SYSTEM);
            (!search::is_behind(SYSTEM, reader).await.unwrap()).then_some(())
        })
        .await;
    }

    async fn until_rolled_up(&self) {
        support::wait::until(PATIENCE, "the bookings are rolled up", async || {
            let reader = self.db().reader(SYSTEM);
            (!booking::Entity::is_any(SYSTEM, reader).await.unwrap()).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_is_found_and_booked_a_moment_later() {
    let house = House::new().await;
    let model = house.model("tokens-5-0").await;
    let sent = house.ask(model, None, "a shuttle").await;
    house.until_found("the messages are in the index").await;
    house.until_rolled_up().await;
    let input = UpdateConversation {
        title: Some(Some("Looms".into())),
        ..UpdateConversation::default()
    };
    house
        .engine
        .update_conversation(&house.scope, sent.conversation, input)
        .await
        .unwrap();
    house.until_found("the title is in the index").await;
}

/// One text that the database would not take would keep everybody's from being found.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_very_many_words_is_found_like_any_other() {
    let house = House::new().await;
    // 200,000 letters without a space, no two of them together twice: a term each.
    let letter = |number: u32| char::from_u32(0x20000 + number);
    let endless: String = (0..447u32)
        .flat_map(|a| (0..447).filter_map(move |b| Some([letter(a)?, letter(500 + b)?])))
        .flatten()
        .take(200_000)
        .collect();
    // And an answer of long ones, which no limit of ours is for.
    let long: String = (0..10_000)
        .map(|number| format!("{number:05}{} ", "\u{10330}".repeat(59)))
        .collect();
    house.provider.script("wordy", Turn::text(&long));
    let model = house.model("wordy").await;
    house.ask(model, None, &endless).await;
    house.until_found("even that is in the index").await;
}

/// A tenant's own prices and a provider of its own may come to any sum.
#[tokio::test(flavor = "multi_thread")]
async fn no_sum_is_too_large_to_be_rolled_up() {
    let house = House::new().await;
    let model = house.model("tokens-2-0").await;
    let sent = house.ask(model, None, "go").await;
    house.until_rolled_up().await;
    let one = booking::Model {
        id: 0,
        tenant_id: house.scope.tenant(),
        kind: BookingKind::Call,
        conversation_id: sent.conversation,
        agent_id: Some(house.agent),
        model_id: Some(model),
        user_id: house.scope.user(),
        failed: false,
        input_tokens: 4_294_967_295,
        output_tokens: 4_294_967_295,
        cost: Some("9000000000000000.000000001".into()),
        latency_ms: None,
        time_to_first_token_ms: None,
        at: house.engine.clock().now(),
    };
    for _ in 0..6 {
        booking::Entity::record(house.db().owner(SYSTEM), vec![one.clone(); 500])
            .await
            .unwrap();
        house.engine.roll_up().await.unwrap();
    }
    let subject = sent.conversation.0;
    let db = house.db().reader(SYSTEM);
    let used = summed(&house.scope, db, &[subject], None, None)
        .await
        .unwrap();
    let used = used[&subject].used;
    assert!(used.input_tokens > 3000 * 4_294_967_295);
    assert!(used.cost.decimal() >= Money::of("3000000000000000".parse().unwrap()).decimal());
}

/// Processes add to the same agents, each in an order of its own.
#[tokio::test(flavor = "multi_thread")]
async fn roll_ups_wait_for_each_other_in_no_circle() {
    let house = House::idle().await;
    let mut agents = vec![house.agent];
    for name in ["Heddle", "Treadle", "Reed"] {
        let input = CreateAgent {
            group: None,
            slug: None,
            name: name.into(),
            description: None,
            instructions: "Be brief.".into(),
            greeting: None,
            starters: Vec::new(),
            model: None,
            temperature: None,
            max_output_tokens: None,
            max_steps: None,
            visibility: None,
        };
        agents.push(
            house
                .engine
                .create_agent(&house.scope, input)
                .await
                .unwrap(),
        );
    }
    let additions = |numbers: [i64; 4]| Additions {
        agents: agents.iter().copied().zip(numbers).collect(),
        ..Additions::default()
    };
    let both = [additions([1, 2, 3, 4]), additions([4, 3, 2, 1])];
    let adding = both.map(|additions| {
        let log = house.engine.log().clone();
        tokio::spawn(async move {
            for _ in 0..200 {
                let additions = additions.clone();
                let added: Result<(), CommandError> = log
                    .command(entities::Within::Owner(SYSTEM), move |c| {
                        Box::pin(async move { Ok(additions.write(c.tx()).await?) })
                    })
                    .await;
                added.unwrap();
            }
        })
    });
    for adding in adding {
        adding.await.unwrap();
    }
}
