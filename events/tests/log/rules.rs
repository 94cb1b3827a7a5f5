//! Each test tries to break a rule of the log.

use std::{sync::Arc, time::Duration};

use entities::{CommandError, db::Location};
use events::{Fate, Kind, Payload, Record, read};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::house::{House, PATIENCE, SYSTEM, append, delta, say, start, text, whole, words};

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_consecutive_and_a_follower_sees_each_once() {
    let house = House::new().await;
    let (stream, _, mut line) = house.run().await;
    let tenant = house.tenant_of(stream).await;
    let mut early = house.log.follow(stream, 0);
    let follower = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            let record = early.next().await.unwrap();
            seen.push(record.as_ref().clone());
            if record.payload == whole("end").payload {
                return seen;
            }
        }
    });
    let mut said = String::new();
    for round in 0..20 {
        said.push_str(&{
            let mut more = String::new();
            for word in words(30) {
                let offset = u32::try_from(said.len() + more.len()).unwrap();
                line.push(Kind::TEXT, delta(0, offset, &word))
                    .await
                    .unwrap();
                more.push_str(&word);
            }
            more
        });
        if round % 5 == 0 {
            append(&house.log, tenant, stream, "between").await;
        }
    }
    let last = line.flush().await.unwrap();
    assert_eq!(append(&house.log, tenant, stream, "end").await, last + 1);
    let seen = tokio::time::timeout(PATIENCE, follower)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(text(&seen), said);
    assert!(seen.is_sorted_by(|a, b| a.seq < b.seq));
    let page = house.all(stream, 0).await;
    assert_eq!(page.head, last + 1);
    assert_eq!(text(&page.records), said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_run_was_taken_over_writes_nothing() {
    let house = House::new().await;
    let (stream, run, mut line) = house.run().await;
    let tenant = house.tenant_of(stream).await;
    let said = say(&mut line, words(3)).await;
    line.flush().await.unwrap();
    house.take_over(tenant, stream, run).await;
    let head = house.all(stream, 0).await.head;
    // it does not know yet: this is what a worker does that was paused past its lease
    line.push(
        Kind::TEXT,
        delta(0, u32::try_from(said.len()).unwrap(), "too late"),
    )
    .await
    .unwrap();
    let shut = tokio::time::timeout(PATIENCE, line.flush())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(shut.0, Fate::Fenced);
    let page = house.all(stream, 0).await;
    assert_eq!((page.head, text(&page.records)), (head, said));
    assert!(line.push(Kind::TEXT, delta(0, 0, "x")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raised_fence_stops_nobody_whose_run_it_is_not() {
    let house = House::new().await;
    let (stream, _, mut line) = house.run().await;
    let tenant = house.tenant_of(stream).await;
    let mut said = say(&mut line, words(2)).await;
    line.flush().await.unwrap();
    let raised: Result<(), CommandError> = house
        .log
        .command(entities::Within::Tenant(tenant), move |c| {
            Box::pin(async move {
                c.lock(tenant, stream).await?;
                c.raise_fence(stream);
                Ok(())
            })
        })
        .await;
    raised.unwrap();
    line.push(
        Kind::TEXT,
        delta(0, u32::try_from(said.len()).unwrap(), "goes on"),
    )
    .await
    .unwrap();
    said.push_str("goes on");
    tokio::time::timeout(PATIENCE, line.flush())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(text(&house.all(stream, 0).await.records), said);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cursor_is_good_before_and_after_folding() {
    let house = House::new().await;
    let (stream, run, mut line) = house.run().await;
    let tenant = house.tenant_of(stream).await;
    let mut said = String::new();
    let mut ends = vec![(0, 0)];
    for (i, word) in words(60).enumerate() {
        // UTF-16 offsets differ from bytes
        let word = if i % 7 == 0 {
            format!("{word}😀ß")
        } else {
            word
        };
        let offset = u32::try_from(said.encode_utf16().count()).unwrap();
        line.push(Kind::TEXT, delta(0, offset, &word))
            .await
            .unwrap();
        said.push_str(&word);
        ends.push((line.flush().await.unwrap(), said.len()));
        if i % 11 == 0 {
            ends.push((
                append(&house.log, tenant, stream, "between").await,
                said.len(),
            ));
        }
    }
    let rest = |records: &[Record]| -> String {
        records
            .iter()
            .filter_map(|r| {
                if let Payload::Delta(delta) = &r.payload {
                    Some(delta.text())
                } else {
                    None
                }
            })
            .collect()
    };
    let check = async |when: &str| {
        for &(seq, end) in &ends {
            assert_eq!(
                rest(&house.all(stream, seq).await.records),
                said[end..],
                "{when}, after {seq}"
            );
            // and page by page, stopping after every record
            let mut position = seq;
            let mut text = String::new();
            loop {
                let db = house.log.db().reader(SYSTEM);
                let page = read::pages(db, &[(stream, position)], 1)
                    .await
                    .unwrap()
                    .remove(&stream)
                    .unwrap();
                text.push_str(&rest(&page.records));
                if page.position == position {
                    break;
                }
                position = page.position;
            }
            assert_eq!(text, said[end..], "{when}, record by record after {seq}");
        }
    };
    check("as written").await;
    if house.is_postgres() {
        let head = house.all(stream, 0).await.head;
        let over: Result<(), CommandError> = house
            .log
            .command(entities::Within::Tenant(tenant), move |c| {
                Box::pin(async move {
                    c.finished(tenant, stream, run, 0, head);
                    Ok(())
                })
            })
            .await;
        over.unwrap();
        let count = async |sql: &str| -> i64 {
            let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, sql);
            let row = house.log.db().reader(SYSTEM).query_one_raw(statement).await;
            row.unwrap().unwrap().try_get_by(0).unwrap()
        };
        support::wait::until(PATIENCE, "what the run said is folded", async || {
            (count("select count(*) from unfolded").await == 0).then_some(())
        })
        .await;
        assert!(
            count("select count(*) from events").await < 40,
            "what is adjacent is joined"
        );
        check("folded").await;
    } else {
        let count = async |sql: &str| -> i64 {
            let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, sql);
            house
                .log
                .db()
                .reader(SYSTEM)
                .query_one_raw(statement)
                .await
                .unwrap()
                .unwrap()
                .try_get_by(0)
                .unwrap()
        };
        support::wait::until(PATIENCE, "the tail is folded", async || {
            (count("select count(*) from event_tail").await == 0).then_some(())
        })
        .await;
        assert!(
            count("select count(*) from events").await < 40,
            "what is adjacent is joined"
        );
        check("folded").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_far_behind_holds_little_of_it_however_large_it_is() {
    const WORDS: usize = 160;
    let house = House::new().await;
    let (stream, _, mut line) = house.run().await;
    for part in 0..u32::try_from(WORDS).unwrap() {
        let large = char::from(b'a' + u8::try_from(part % 26).unwrap()).to_string();
        line.push(Kind::TEXT, delta(part, 0, &large.repeat(8 * 1024)))
            .await
            .unwrap();
    }
    let last = line.flush().await.unwrap();
    let mut follow = house.log.follow(stream, 0);
    let mut seen = Vec::new();
    let mut most = 0;
    while seen.last().is_none_or(|record: &Record| record.seq < last) {
        tokio::time::timeout(PATIENCE, follow.wait())
            .await
            .unwrap()
            .unwrap();
        let held = follow.records().iter();
        most = most.max(held.map(|record| record.payload.size()).sum::<usize>());
        seen.push(follow.next().await.unwrap().as_ref().clone());
    }
    assert!(most <= 80 * 1024, "{most} bytes at once");
    assert!(
        seen == house.all(stream, 0).await.records,
        "each once, in order"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_were_told_as_one_is_taken_as_one() {
    let house = House::new().await;
    let (stream, _, mut line) = house.run().await;
    let tenant = house.tenant_of(stream).await;
    let mut follow = house.log.follow(stream, 0);
    let first = append(&house.log, tenant, stream, "first").await;
    assert_eq!(follow.next().await.unwrap().seq, first);
    line.push(Kind::TEXT, delta(0, 0, "a")).await.unwrap();
    let a = line.flush().await.unwrap();
    tokio::time::timeout(PATIENCE, follow.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(follow.is_live());
    assert_eq!(follow.records().len(), 1);
    // more comes, which is not looked at here
    line.push(Kind::TEXT, delta(0, 1, "b")).await.unwrap();
    let b = line.flush().await.unwrap();
    let end = append(&house.log, tenant, stream, "end").await;
    assert!(a < b);
    follow.take(b);
    let next = tokio::time::timeout(PATIENCE, follow.next()).await;
    assert_eq!(next.unwrap().unwrap().seq, end);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_far_behind_catches_up_by_pages_and_goes_live() {
    let house = House::new().await;
    let (stream, _, mut line) = house.run().await;
    let mut said = String::new();
    for word in words(1500) {
        // another part each time, so that nothing is joined
        line.push(
            Kind::TEXT,
            delta(u32::try_from(said.len()).unwrap(), 0, &word),
        )
        .await
        .unwrap();
        said.push_str(&word);
    }
    let last = line.flush().await.unwrap();
    let mut follow = house.log.follow(stream, 0);
    let mut seen = String::new();
    let mut position = 0;
    while position < last {
        let record = tokio::time::timeout(PATIENCE, follow.next())
            .await
            .unwrap()
            .unwrap();
        assert!(record.seq > position);
        position = record.seq;
        if let Payload::Delta(delta) = &record.payload {
            seen.push_str(delta.text());
        }
    }
    assert_eq!(seen, said);
    line.push(Kind::TEXT, delta(7_000_000, 0, "live"))
        .await
        .unwrap();
    let record = tokio::time::timeout(PATIENCE, follow.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(record.seq, last + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_that_are_not_in_the_stream_are_refused() {
    let house = House::new().await;
    let (tenant, stream) = house.stream().await;
    append(&house.log, tenant, stream, "one").await;
    assert!(matches!(
        house.log.follow(stream, 2).next().await,
        Err(events::FollowError::Expired)
    ));
    assert!(matches!(
        house.log.follow(Uuid::now_v7(), 0).next().await,
        Err(events::FollowError::Gone)
    ));
    let cursor = house.log.cursor(stream, 1);
    assert_eq!(house.log.position(&cursor.encode(), stream), Ok(1));
    assert_eq!(
        house.log.position(&cursor.encode(), Uuid::now_v7()),
        Err(events::CursorError::Invalid)
    );
    let other = events::Cursor {
        generation: Uuid::now_v7(),
        ..cursor
    };
    assert_eq!(
        house.log.position(&other.encode(), stream),
        Err(events::CursorError::Expired)
    );
}

/// What is forgotten is not to be begun at, and nothing of it stays in the tables; the stream goes on with the next number.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_is_gone_piece_by_piece() {
    let house = House::new().await;
    let (stream, _, mut line) = house.run().await;
    let (tenant, other) = (house.tenant_of(stream).await, house.stream().await);
    for said in ["a", "b", "c", "d"] {
        append(&house.log, tenant, stream, said).await;
        append(&house.log, other.0, other.1, said).await;
    }
    line.push(Kind::TEXT, delta(0, 0, "said")).await.unwrap();
    let last = line.flush().await.unwrap();
    let forget = || {
        house
            .log
            .command::<_, CommandError, _>(entities::Within::Tenant(tenant), move |c| {
                Box::pin(async move {
                    c.lock(tenant, stream).await?;
                    Ok(c.forget(stream, 3).await?)
                })
            })
    };
    // On SQLite what a run said is not in its place at once, and would come back.
    let first = support::wait::until(PATIENCE, "it is in its place", async || {
        forget().await.unwrap()
    });
    assert_eq!(first.await, 3);
    assert_eq!(forget().await.unwrap(), Some(2));
    assert_eq!(forget().await.unwrap(), Some(0));
    let page = house.all(stream, 0).await;
    assert_eq!((page.floor, page.head), (last, last));
    assert!(page.records.is_empty());
    assert!(matches!(
        house.log.follow(stream, 0).next().await,
        Err(events::FollowError::Expired)
    ));
    assert_eq!(append(&house.log, tenant, stream, "e").await, last + 1);
    assert_eq!(house.all(other.1, 0).await.records.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_leaves_nothing() {
    let house = House::new().await;
    let (tenant, stream) = house.stream().await;
    let failed: Result<(), CommandError> = house
        .log
        .command(entities::Within::Tenant(tenant), move |c| {
            Box::pin(async move {
                c.lock(tenant, stream).await?;
                c.append(stream, None, whole("never"));
                Err(CommandError::Internal("no".into()))
            })
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(append(&house.log, tenant, stream, "first").await, 1);
    // whoever waits for a command may go away: it is done all the same
    let log = house.log.clone();
    drop(
        tokio::time::timeout(
            Duration::from_nanos(1),
            append(&log, tenant, stream, "second"),
        )
        .await,
    );
    support::wait::until(PATIENCE, "the command is done", async || {
        (house.all(stream, 0).await.head == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_written_fails_alone() {
    let house = House::new().await;
    if !house.is_postgres() {
        return; // SQLite takes any bytes
    }
    let (bad_stream, _, mut bad) = house.run().await;
    let (stream, _, mut good) = house.run().await;
    // no timestamp of PostgreSQL: what a fault of ours would look like
    let statement = sea_orm::Statement::from_string(
        sea_orm::DbBackend::Postgres,
        format!(
            "alter table events add constraint poison check (stream_id <> '{bad_stream}' or kind <> 100)"
        ),
    );
    house
        .log
        .db()
        .owner(SYSTEM)
        .execute_raw(statement)
        .await
        .unwrap();
    let said = say(&mut good, words(3)).await;
    bad.push(Kind(100), whole("poison").payload).await.unwrap();
    let (bad_end, good_end) = tokio::join!(bad.flush(), good.flush());
    assert_eq!(bad_end.unwrap_err().0, Fate::Failed);
    good_end.unwrap();
    assert_eq!(text(&house.all(stream, 0).await.records), said);
    assert_eq!(house.all(bad_stream, 0).await.head, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_held_does_not_hold_the_others() {
    let house = House::new().await;
    if !house.is_postgres() {
        return; // one writer
    }
    let (held_stream, _, mut held) = house.run().await;
    let (stream, _, mut free) = house.run().await;
    let tx = house
        .log
        .db()
        .begin(entities::Within::Owner(SYSTEM))
        .await
        .unwrap();
    let lock = sea_orm::Statement::from_sql_and_values(
        sea_orm::DbBackend::Postgres,
        "select 1 from streams where id = $1 for update",
        [held_stream.into()],
    );
    tx.query_one_raw(lock).await.unwrap();
    held.push(Kind::TEXT, delta(0, 0, "waits")).await.unwrap();
    let said = say(&mut free, words(3)).await;
    tokio::time::timeout(Duration::from_secs(2), free.flush())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(text(&house.all(stream, 0).await.records), said);
    tx.rollback().await.unwrap();
    tokio::time::timeout(PATIENCE, held.flush())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(text(&house.all(held_stream, 0).await.records), "waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_answer_is_lost_is_done_once() {
    let house = House::open(true).await;
    let Some(proxy) = &house.proxy else { return };
    let (stream, _, mut line) = house.run().await;
    let mut said = say(&mut line, words(3)).await;
    line.flush().await.unwrap();
    for round in 1..=5 {
        // The statement is prepared by now: what goes over the wire is its execution. Any answer to the writer is lost.
        proxy.drop_answers(true);
        for word in words(5) {
            line.push(
                Kind::TEXT,
                delta(0, u32::try_from(said.len()).unwrap(), &word),
            )
            .await
            .unwrap();
            said.push_str(&word);
        }
        proxy.until_lost(round).await;
        proxy.drop_answers(false);
        tokio::time::timeout(PATIENCE, line.flush())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            text(&house.all(stream, 0).await.records),
            said,
            "round {round}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_hears_of_it() {
    let house = House::new().await;
    if !house.is_postgres() {
        return; // one process
    }
    let other = house.replica().await;
    let (stream, _, mut line) = house.run().await;
    let mut follow = other.follow(stream, 0);
    let follower = tokio::spawn(async move {
        let mut text = String::new();
        while !text.ends_with("word199 ") {
            if let Payload::Delta(delta) = &follow.next().await.unwrap().payload {
                assert_eq!(delta.offset as usize, text.len());
                text.push_str(delta.text());
            }
        }
        text
    });
    let said = say(&mut line, words(200)).await;
    line.flush().await.unwrap();
    assert_eq!(
        tokio::time::timeout(PATIENCE, follower)
            .await
            .unwrap()
            .unwrap(),
        said
    );
    let mut work = other.work();
    work.mark_unchanged();
    let woken: Result<(), CommandError> = house
        .log
        .command(entities::Within::System(SYSTEM), |c| {
            Box::pin(async move {
                c.wake_workers();
                Ok(())
            })
        })
        .await;
    woken.unwrap();
    tokio::time::timeout(PATIENCE, work.changed())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_at_once_lose_nothing() {
    let house = Arc::new(House::new().await);
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let (stream, _, mut line) = house.run().await;
        let house = house.clone();
        tasks.push(tokio::spawn(async move {
            let said = say(&mut line, words(200)).await;
            line.flush().await.unwrap();
            assert_eq!(text(&house.all(stream, 0).await.records), said);
        }));
    }
    for task in tasks {
        tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_order_keeps_the_generation() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Sqlite(folder.path().join("weft.db"));
    let log = start(&location).await;
    let cursor = log.cursor(Uuid::nil(), 3).encode();
    log.close().await.unwrap();
    log.db().close().await;
    let log = start(&location).await;
    assert_eq!(
        log.position(&cursor, Uuid::nil()),
        Ok(3),
        "stopped in order"
    );
    let log = {
        drop(log);
        start(&location).await
    };
    assert_eq!(
        log.position(&cursor, Uuid::nil()),
        Ok(3),
        "killed, on the same boot of the machine"
    );
    let forget = sea_orm::Statement::from_string(
        sea_orm::DbBackend::Sqlite,
        "update meta set boot_id = 'another', clean_stop = false",
    );
    log.db().owner(SYSTEM).execute_raw(forget).await.unwrap();
    let log = start(&location).await;
    assert_eq!(
        log.position(&cursor, Uuid::nil()),
        Err(events::CursorError::Expired),
        "the power was cut"
    );
}
