//! Models that take only so many calls at once.

use std::{collections::BTreeMap, time::Duration};

use engine::{Engine, event::Body, send::Sent};
use entities::{
    MembershipId, ModelId, Permissions, Role, RunId, RunStatus, Scope, UserId, UserKind, WorkerId,
    llm_model, membership, model_call, model_turn, query::*, user,
};
use support::provider::{Call, Outcome};
use tokio::time::Instant;

use crate::house::{House, PATIENCE, SYSTEM};

const LEASE: Duration = Duration::from_secs(10);

impl House {
    /// A model that takes so many calls at once, and answers each when the gate opens that its question names.
    async fn limited(&self, most: i32) -> ModelId {
        let id = self.gated_by_question("limited").await;
        let change = llm_model::ActiveModel {
            max_concurrency: Set(Some(most)),
            ..Default::default()
        };
        self.change_model(id, change).await;
        id
    }

    async fn another_user(&self) -> Scope {
        let (now, clock) = (self.engine.clock().now(), self.engine.clock());
        let row = user::Model {
            is_email_proven: false,
            created_by_key_id: None,
            id: UserId(clock.uuid()),
            kind: UserKind::Person,
            name: "Bea".into(),
            email: None,
            email_key: None,
            password_hash: None,
            managed_tenant_id: None,
            is_active: true,
            is_platform_administrator: false,
            last_seen_at: None,
            created_at: now,
            updated_at: now,
        };
        let member = membership::Model {
            id: MembershipId(clock.uuid()),
            tenant_id: self.scope.tenant(),
            user_id: row.id,
            role: Role::Member,
            is_active: true,
            last_used_at: None,
            last_seen_at: None,
            ended_at: None,
            created_at: now,
            updated_at: now,
        };
        let permissions = Permissions::of(Role::Member);
        let (tenant, principal) = (self.scope.tenant(), self.scope.principal());
        let scope = Scope::new(tenant, row.id, Role::Member, permissions, principal);
        let db = self.db().owner(SYSTEM);
        user::Entity::add(db, row).await.unwrap();
        membership::Entity::add(db, member).await.unwrap();
        scope
    }

    async fn asked_by(&self, engine: &Engine, who: &Scope, model: ModelId, text: &str) -> Sent {
        engine
            .send_message(who, self.message(model, None, text))
            .await
            .unwrap()
    }

    async fn turns(&self) -> Vec<model_turn::Model> {
        model_turn::Entity::anywhere(SYSTEM)
            .all(self.db().owner(SYSTEM))
            .await
            .unwrap()
    }

    async fn until_turns(&self, what: &str, wanted: impl Fn(&[model_turn::Model]) -> bool) {
        support::wait::until(PATIENCE, what, async || {
            wanted(&self.turns().await).then_some(())
        })
        .await;
    }

    async fn until_calls(&self, count: usize) -> Vec<Call> {
        let wanted = |calls: &[Call]| calls.len() >= count;
        self.provider
            .until_calls(PATIENCE, "so many calls", wanted)
            .await
    }

    async fn outcome(&self, sent: Sent) -> RunStatus {
        self.until_over(sent, PATIENCE).await.status
    }
}

fn question(call: &Call) -> String {
    let messages = call.body["messages"].as_array().unwrap();
    messages.last().unwrap()["content"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn under_way(calls: &[Call]) -> usize {
    calls
        .iter()
        .filter(|call| call.outcome == Outcome::UnderWay)
        .count()
}

/// How many calls were under way at once, at most.
fn most_at_once(calls: &[Call]) -> i32 {
    let mut changes: Vec<(u64, i32)> = Vec::new();
    for call in calls {
        changes.push((call.at_ms, 1));
        changes.push((call.ended_ms.unwrap(), -1));
    }
    // Within a millisecond, ends first.
    changes.sort_unstable();
    let mut now = 0;
    let counts = changes.into_iter().map(|(_, change)| {
        now += change;
        now
    });
    counts.max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_alone_is_served_before_who_waits_with_many() {
    let house = House::new().await;
    let model = house.limited(2).await;
    let bea = house.another_user().await;
    let mut all = Vec::new();
    for number in 0..20 {
        let text = format!("a{number}");
        all.push(
            house
                .asked_by(&house.engine, &house.scope, model, &text)
                .await,
        );
        if number == 1 {
            house.until_calls(2).await;
        }
    }
    house
        .until_turns("eighteen wait", |turns| turns.len() == 20)
        .await;
    all.push(house.asked_by(&house.engine, &bea, model, "b").await);
    house
        .until_turns("so does she", |turns| turns.len() == 21)
        .await;
    assert_eq!(house.provider.calls().len(), 2);
    house.provider.open_gate("a1");
    let calls = house.until_calls(3).await;
    assert_eq!(question(&calls[2]), "b");
    assert_eq!(under_way(&calls), 2);
    let waits = house.run(all[20].run).await;
    assert_eq!(waits.status, RunStatus::Running);
    // His next in their order.
    house.provider.open_gate("b");
    let calls = house.until_calls(4).await;
    assert_eq!(question(&calls[3]), "a2");
    for number in 0..20 {
        house.provider.open_gate(&format!("a{number}"));
    }
    for sent in all {
        assert_eq!(house.outcome(sent).await, RunStatus::Completed);
    }
    let calls = house.provider.calls();
    assert_eq!((calls.len(), most_at_once(&calls)), (21, 2));
    house
        .until_turns("nothing is left of it", <[_]>::is_empty)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_can_be_cancelled_and_its_wait_is_no_latency() {
    let house = House::new().await;
    let model = house.limited(1).await;
    let first = house.send(model, None, "first").await;
    house.until_calls(1).await;
    let second = house.send(model, None, "second").await;
    let third = house.send(model, None, "third").await;
    house
        .until_turns("two wait", |turns| turns.len() == 3)
        .await;
    let began = Instant::now();
    house.cancel(second).await;
    house
        .until_turns("it leaves the queue", |turns| turns.len() == 2)
        .await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(house.run(second.run).await.status, RunStatus::Cancelled);
    assert_eq!(house.provider.calls().len(), 1);
    house.provider.open_gate("first");
    let opened = house.engine.clock().now();
    assert_eq!(house.outcome(first).await, RunStatus::Completed);
    house.until_calls(2).await;
    house.provider.open_gate("third");
    assert_eq!(house.outcome(third).await, RunStatus::Completed);
    let calls = house.provider.calls();
    assert_eq!(
        calls.iter().map(question).collect::<Vec<_>>(),
        ["first", "third"]
    );
    let booked = model_call::Entity::anywhere(SYSTEM)
        .filter(model_call::Column::RunId.eq(third.run))
        .one(house.db().owner(SYSTEM))
        .await
        .unwrap()
        .unwrap();
    assert!(booked.started_at >= opened);
}

/// The process that held the turn is gone: it lapses, and the next one gets it.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_of_a_dead_process_lapses() {
    let house = House::new().await;
    let model = house.limited(1).await;
    let dead = WorkerId(house.engine.clock().uuid());
    let id = house.engine.clock().uuid();
    let now = house.engine.clock().now();
    let row = model_turn::Model {
        id,
        tenant_id: house.scope.tenant(),
        model_id: model,
        user_id: house.scope.user(),
        run_id: RunId(house.engine.clock().uuid()),
        owner: dead,
        held_at: Some(now),
        asked_at: now,
        lease_until: now + Duration::from_secs(60),
    };
    let db = house.db().owner(SYSTEM);
    model_turn::Entity::add(db, row).await.unwrap();
    house.provider.open_gate("hello");
    let sent = house.send(model, None, "hello").await;
    house
        .until_turns("it waits", |turns| turns.len() == 2)
        .await;
    assert_eq!(house.provider.calls().len(), 0);
    let lapsed = model_turn::ActiveModel {
        lease_until: Set(now - Duration::from_secs(1)),
        ..Default::default()
    };
    model_turn::Entity::change_anywhere(SYSTEM)
        .filter(model_turn::Column::Id.eq(id))
        .set(lapsed)
        .exec(db)
        .await
        .unwrap();
    assert_eq!(house.outcome(sent).await, RunStatus::Completed);
}

/// A row that lapsed while its process lived (its database was away) is asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_the_queue_that_was_lost_is_taken_anew() {
    let house = House::new().await;
    let model = house.limited(1).await;
    let first = house.send(model, None, "first").await;
    house.until_calls(1).await;
    let second = house.send(model, None, "second").await;
    house
        .until_turns("it waits", |turns| turns.len() == 2)
        .await;
    model_turn::Entity::delete_anywhere(SYSTEM)
        .filter(model_turn::Column::HeldAt.is_null())
        .exec(house.db().owner(SYSTEM))
        .await
        .unwrap();
    house
        .until_turns("it waits again", |turns| turns.len() == 2)
        .await;
    house.provider.open_gate("second");
    house.provider.open_gate("first");
    assert_eq!(house.outcome(first).await, RunStatus::Completed);
    assert_eq!(house.outcome(second).await, RunStatus::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_the_turns() {
    let house = House::new().await;
    let Some(neighbour) = house.neighbour().await else {
        return;
    };
    let model = house.limited(2).await;
    let mut all = Vec::new();
    for number in 0..12 {
        let engine = if number % 2 == 0 {
            &house.engine
        } else {
            &neighbour
        };
        let text = format!("q{number}");
        all.push(house.asked_by(engine, &house.scope, model, &text).await);
        if number < 2 {
            // Each of them holds one.
            house.until_calls(number + 1).await;
        }
    }
    house
        .until_turns("ten wait", |turns| turns.len() == 12)
        .await;
    assert_eq!(house.provider.calls().len(), 2);
    let mut by_owner: BTreeMap<WorkerId, usize> = BTreeMap::new();
    for turn in house.turns().await {
        *by_owner.entry(turn.owner).or_default() += 1;
    }
    assert_eq!(by_owner.into_values().collect::<Vec<_>>(), [6, 6]);
    for number in 0..12 {
        house.provider.open_gate(&format!("q{number}"));
    }
    for sent in all {
        assert_eq!(house.outcome(sent).await, RunStatus::Completed);
    }
    let calls = house.provider.calls();
    assert_eq!(calls.len(), 12);
    assert!(most_at_once(&calls) <= 2);
    neighbour.close().await;
}

/// Users in turn, whoever asked for how many; of one user's in their order.
#[tokio::test(flavor = "multi_thread")]
async fn turns_go_round() {
    let house = House::idle().await;
    let model = house.limited(1).await;
    let clock = house.engine.clock();
    let people: BTreeMap<char, UserId> = ['a', 'b', 'c']
        .map(|name| (name, UserId(clock.uuid())))
        .into();
    let owner = WorkerId(clock.uuid());
    let mut asked = BTreeMap::new();
    let db = house.db();
    let mut order = String::new();
    let mut held = None;
    for who in "aaaabbc".chars() {
        let row = model_turn::Model {
            id: clock.uuid(),
            tenant_id: house.scope.tenant(),
            model_id: model,
            user_id: people[&who],
            run_id: RunId(clock.uuid()),
            owner,
            held_at: None,
            asked_at: clock.now(),
            lease_until: clock.now(),
        };
        let tx = db.begin(entities::Within::Owner(SYSTEM)).await.unwrap();
        model_turn::Entity::decide(SYSTEM, &tx, model)
            .await
            .unwrap();
        let now = clock.now();
        model_turn::Entity::ask(SYSTEM, &tx, &row, now, LEASE)
            .await
            .unwrap();
        let given = model_turn::Entity::give(SYSTEM, &tx, model, now)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        held = held.or(given.first().map(|given| given.id));
        asked.insert(row.id, who);
    }
    while let Some(turn) = held.take() {
        order.push(asked[&turn]);
        let tx = db.begin(entities::Within::Owner(SYSTEM)).await.unwrap();
        model_turn::Entity::decide(SYSTEM, &tx, model)
            .await
            .unwrap();
        model_turn::Entity::give_back(SYSTEM, &tx, turn)
            .await
            .unwrap();
        let given = model_turn::Entity::give(SYSTEM, &tx, model, clock.now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert!(given.len() <= 1);
        held = given.first().map(|given| given.id);
    }
    assert_eq!(order, "abcabaa");
}

/// One that has no limit costs nothing, and one whose limit is taken away holds nobody up.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_taken_away_lets_all_go_on() {
    let house = House::new().await;
    let model = house.limited(1).await;
    let mut all = vec![house.send(model, None, "q0").await];
    house.until_calls(1).await;
    for text in ["q1", "q2"] {
        all.push(house.send(model, None, text).await);
    }
    house
        .until_turns("two wait", |turns| turns.len() == 3)
        .await;
    let change = llm_model::ActiveModel {
        max_concurrency: Set(None),
        ..Default::default()
    };
    house.change_model(model, change).await;
    let calls = house.until_calls(3).await;
    assert_eq!(under_way(&calls), 3);
    for text in ["q0", "q1", "q2"] {
        house.provider.open_gate(text);
    }
    for sent in all {
        let events = house.events(sent).await;
        assert!(matches!(events.last().unwrap().body, Body::RunCompleted(_)));
    }
}
