//! Ways in which a run could be lost, stuck or paid for twice, each tried.

use std::time::{Duration, Instant};

use entities::{
    Backend, MessageStatus, RunErrorKind, RunStatus, message, model_call, query::*, run, stream,
};

use support::provider::{Step, Turn};
use tokio::time::sleep;

use crate::house::{House, SYSTEM, gated};

/// Says something to the server itself.
async fn psql(house: &House, sql: String) {
    let options = house.db().postgres_options(SYSTEM).unwrap();
    let url = format!(
        "postgres://{}@{}:{}/{}",
        options.get_username(),
        options.get_host(),
        options.get_port(),
        options.get_database().unwrap()
    );
    let done = tokio::task::spawn_blocking(move || {
        std::process::Command::new("psql")
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &url, "-c", &sql])
            .output()
            .unwrap()
    });
    let done = done.await.unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A run that its worker does not carry any more (a claim whose COMMIT was answered too late, a task that panicked, a checkpoint
/// that failed) is taken up again, also while the same process carries others.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_living_process_lost_is_taken_up_again() {
    let house = House::new().await;
    house
        .provider
        .script("stalls", Turn::of([Step::Text("x".into()), Step::Stall]));
    let (stalls, quick) = (house.model("stalls").await, house.model("tokens-2-0").await);
    let carried = house.send(stalls, None, "go").await;
    house.until_text(carried).await;
    let lost = house.ask(quick, None, "go").await;
    let db = house.db().owner(SYSTEM);
    let row = run::ActiveModel {
        status: Set(RunStatus::Running),
        owner: Set(house.run(carried.run).await.owner),
        lease_until: Set(Some(house.engine.clock().now() + Duration::from_secs(4))),
        terminal_seq: Set(None),
        finished_at: Set(None),
        ..Default::default()
    };
    let answer = message::ActiveModel {
        status: Set(MessageStatus::Streaming),
        ..Default::default()
    };
    let output = house.run(lost.run).await.output_message_id;
    message::Entity::change_anywhere(SYSTEM)
        .filter(message::Column::Id.eq(output))
        .set(answer)
        .exec(db)
        .await
        .unwrap();
    house.change_run(lost.run, row).await;
    house.until_over(lost, Duration::from_secs(25)).await;
}

/// The same, with nothing but the database's doing: a command holds the stream for longer than the worker waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_fails_is_made_up_for() {
    let house = House::new().await;
    if house.db().backend() == Backend::Sqlite {
        return; // one writer, which nobody else holds
    }
    house
        .provider
        .script("stalls", Turn::of([Step::Text("x".into()), Step::Stall]));
    house.provider.script(
        "gated",
        Turn::of([
            Step::Text("all of it".into()),
            Step::WaitFor("go".into()),
            Step::Finish("stop".into()),
        ]),
    );
    let (stalls, model) = (house.model("stalls").await, house.model("gated").await);
    let carried = house.send(stalls, None, "go").await;
    house.until_text(carried).await;
    let sent = house.send(model, None, "go").await;
    house.until_text(sent).await;
    let tx = house
        .db()
        .begin(entities::Within::Owner(SYSTEM))
        .await
        .unwrap();
    let began = Instant::now();
    let mut opened = false;
    while began.elapsed() < Duration::from_secs(7) {
        stream::Entity::change_anywhere(SYSTEM)
            .filter(stream::Column::Id.eq(sent.conversation.0))
            .set(stream::ActiveModel {
                floor: Set(0),
                ..Default::default()
            })
            .exec(&*tx)
            .await
            .unwrap();
        if !opened {
            house.provider.open_gate("go");
            opened = true;
        }
        sleep(Duration::from_millis(500)).await;
    }
    tx.rollback().await.unwrap();
    house.until_over(sent, Duration::from_secs(30)).await;
}

/// A queued run whose row can't be read keeps no other from starting.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_taken_up_keeps_no_other_from_it() {
    let house = House::new().await;
    house.provider.script("gated-1", gated("one"));
    house.provider.script("gated-2", gated("two"));
    let (slow, slower, quick) = (
        house.model("gated-1").await,
        house.model("gated-2").await,
        house.model("tokens-2-0").await,
    );
    let first = house.send(slow, None, "one").await;
    let bad = house
        .send(quick, Some(first.conversation), "of a later version")
        .await;
    let second = house.send(slower, None, "two").await;
    let good = house.send(quick, Some(second.conversation), "next").await;
    house.until_text(second).await;
    let db = house.db().owner(SYSTEM);
    run::Entity::change_anywhere(SYSTEM)
        .filter(run::Column::Id.eq(bad.run))
        .col_expr(run::Column::Usage, Expr::cust("'\"of a later version\"'"))
        .exec(db)
        .await
        .unwrap();
    house.provider.open_gate("one");
    house.events(first).await;
    house.provider.open_gate("two");
    house.until_over(good, Duration::from_secs(20)).await;
}

/// What the model said can't be stored: the run fails, now, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn text_that_cannot_be_stored_fails_its_run() {
    let house = House::new().await;
    if house.db().backend() == Backend::Sqlite {
        return; // takes anything
    }
    house.provider.script(
        "gated",
        Turn::of([
            Step::Text("half ".into()),
            Step::WaitFor("go".into()),
            Step::Text("whole".into()),
            Step::WaitFor("never".into()),
        ]),
    );
    let model = house.model("gated").await;
    let sent = house.send(model, None, "go").await;
    house.until_text(sent).await;
    let stream = sent.conversation.0;
    psql(&house, format!("alter table events add constraint poison check (stream_id <> '{stream}' or n = 0) not valid")).await;
    house.provider.open_gate("go");
    let run = house.until_over(sent, Duration::from_secs(8)).await;
    assert_eq!(
        run.error.map(|error| error.kind),
        Some(RunErrorKind::Internal)
    );
}

/// What a lost worker's model had said was paid for: it is booked, as an estimate.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_was_broken_off_is_booked() {
    let house = House::new().await;
    house.provider.script(
        "dies",
        vec![
            Turn::of([
                Step::Text("some words that were paid for ".into()),
                Step::WaitFor("never".into()),
            ]),
            Turn::text("whole"),
        ],
    );
    let model = house.model("dies").await;
    let sent = house.send(model, None, "go").await;
    house.until_text(sent).await;
    house.lapse(sent.run).await;
    house.events(sent).await;
    let calls = model_call::Entity::anywhere(SYSTEM)
        .filter(model_call::Column::RunId.eq(sent.run))
        .order_by_asc(model_call::Column::StartedAt)
        .all(house.db().owner(SYSTEM))
        .await
        .unwrap();
    let booked: Vec<_> = calls
        .iter()
        .map(|call| (call.attempt, call.is_estimate))
        .collect();
    assert_eq!(booked, [(1, true), (2, false)]);
}

/// The answer that a client sees after cancelling is long, in many pieces: 80 KB in 20,000.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_is_cancelled_in_time() {
    let house = House::new().await;
    if house.db().backend() == Backend::Sqlite {
        return; // folded
    }
    house
        .provider
        .script("stalls", Turn::of([Step::Text("abcd".into()), Step::Stall]));
    let model = house.model("stalls").await;
    let sent = house.send(model, None, "go").await;
    house.until_text(sent).await;
    let (stream, answer) = (
        sent.conversation.0,
        house
            .run(sent.run)
            .await
            .output_message_id
            .0
            .simple()
            .to_string(),
    );
    psql(
        &house,
        format!(
            "insert into events (tenant_id, stream_id, seq, run_id, attempt, n, v, at, kind, payload)
               select s.tenant_id, s.id, s.head + i, '{}', 1, 1 + i, 1, now(), 1, decode('{answer}', 'hex') || int4send(0) || int4send(4 * i) || 'abcd'::bytea
               from streams s, generate_series(1, 20000) i where s.id = '{stream}';
             update streams set head = head + 20000 where id = '{stream}'",
            sent.run.0
        ),
    )
    .await;
    let asked = Instant::now();
    house.cancel(sent).await;
    let took = asked.elapsed();
    assert_eq!(
        house.answer(sent.run).await.unwrap().parts.text().len(),
        80_004
    );
    assert!(took < Duration::from_secs(2), "{took:?}");
}
