//! A worker that was away writes nothing; a COMMIT whose answer is lost is done once; replicas take over from each other.

use std::time::Duration;

use serde_json::json;
use support::{
    client::Follower,
    database::{Chosen, Database},
    provider::{Script, Step, Turn, expected_text},
    proxy::Proxy,
    server::{Options, Weft},
};

use crate::scene::{PATIENCE, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_paused_past_its_lease_writes_nothing() {
    if !Chosen::from_environment().is_postgres() {
        return; // SQLite has one process: nobody takes over while it sleeps
    }
    let scene = Scene::new().await;
    let agent = scene.agent("tokens-200-30").await;
    let sent = scene.client.send_to_agent(&agent, "carry on").await;
    let mut follower = Follower::new(&scene.client, &sent.conversation, Some(&sent.cursor)).await;
    follower
        .until(PATIENCE, |transcript| transcript.said(&sent.run).len() > 20)
        .await
        .unwrap();
    let other = Weft::replica_of(&scene.weft).await;
    scene.weft.pause();
    let other_client = scene.client.at(&other.url());
    let mut follower = Follower::new(&other_client, &sent.conversation, Some(&sent.cursor)).await;
    follower
        .until(PATIENCE, |transcript| {
            transcript
                .kinds(&sent.run)
                .iter()
                .filter(|kind| **kind == "RunStarted")
                .count()
                == 2
        })
        .await
        .unwrap();
    // It wakes in the middle of the other's answer, with a socket full of words.
    scene.weft.resume();
    assert_eq!(
        follower.until_end_of(&sent.run, PATIENCE).await.unwrap(),
        "RunCompleted"
    );
    follower.transcript.assert_faultless();
    assert_eq!(
        follower.transcript.said(&sent.run),
        expected_text("carry on", 200)
    );
    let run = scene.run(&sent.run).await;
    assert_eq!(
        (run["attempts"].as_i64(), run["output"]["text"].as_str()),
        (Some(2), Some(expected_text("carry on", 200).as_str()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_appends_once() {
    let Chosen::Postgres(cluster) = Chosen::from_environment() else {
        return; // no wire to lose it on
    };
    let database = Database::create(&cluster).await.unwrap();
    let proxy = Proxy::start(database.address().await.unwrap()).await;
    let url = database.url_through(proxy.address()).unwrap();
    let scene = Scene::with(Options::default().on(&url)).await;
    let agent = scene.agent("tokens-150-20").await;
    let sent = scene.client.send_to_agent(&agent, "once").await;
    let mut follower = Follower::new(&scene.client, &sent.conversation, Some(&sent.cursor)).await;
    for round in 1..=3 {
        let said = follower.transcript.said(&sent.run).len();
        follower
            .until(PATIENCE, |transcript| {
                transcript.said(&sent.run).len() > said + 20
            })
            .await
            .unwrap();
        // every statement under way is executed, and nobody is told
        proxy.drop_answers(true);
        proxy.until_lost(round).await;
        proxy.drop_answers(false);
        proxy.cut();
    }
    assert_eq!(
        follower
            .until_end_of(&sent.run, PATIENCE * 2)
            .await
            .unwrap(),
        "RunCompleted"
    );
    follower.transcript.assert_faultless();
    assert_eq!(
        follower.transcript.said(&sent.run),
        expected_text("once", 150)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_goes_away_and_comes_back() {
    let Chosen::Postgres(cluster) = Chosen::from_environment() else {
        return;
    };
    let database = Database::create(&cluster).await.unwrap();
    let proxy = Proxy::start(database.address().await.unwrap()).await;
    let url = database.url_through(proxy.address()).unwrap();
    let scene = Scene::with(Options::default().on(&url)).await;
    let agent = scene.agent("tokens-100-20").await;
    let sent = scene.client.send_to_agent(&agent, "still here").await;
    let mut follower = Follower::new(&scene.client, &sent.conversation, Some(&sent.cursor)).await;
    follower
        .until(PATIENCE, |transcript| {
            !transcript.said(&sent.run).is_empty()
        })
        .await
        .unwrap();
    proxy.refuse(true);
    proxy.cut();
    let errors = support::wait::until(PATIENCE, "the server says that it can't", async || {
        scene
            .client
            .query("{ viewer { user { id } } }", json!({}))
            .await
            .err()
    })
    .await;
    assert_eq!(errors.code(), "UNAVAILABLE", "{errors:?}");
    proxy.refuse(false);
    assert_eq!(
        follower
            .until_end_of(&sent.run, PATIENCE * 2)
            .await
            .unwrap(),
        "RunCompleted"
    );
    follower.transcript.assert_faultless();
    assert_eq!(
        follower.transcript.said(&sent.run),
        expected_text("still here", 100)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_begun_on_one_replica_is_watched_and_cancelled_on_another() {
    if !Chosen::from_environment().is_postgres() {
        return;
    }
    let scene = Scene::new().await;
    scene.provider.script(
        "slow",
        Turn::of([Step::Text("Half an answer".into()), Step::Stall]),
    );
    let agent = scene.agent("slow").await;
    let other = Weft::replica_of(&scene.weft).await;
    let there = scene.client.at(&other.url());
    let sent = scene.client.send_to_agent(&agent, "go").await;
    let mut follower = Follower::new(&there, &sent.conversation, Some(&sent.cursor)).await;
    follower
        .until(PATIENCE, |transcript| {
            transcript.said(&sent.run) == "Half an answer"
        })
        .await
        .unwrap();
    there.done("mutation ($id: ID!) { cancelRun(input: { id: $id }) { run { status } errors { code } } }", json!({ "id": sent.run })).await;
    assert_eq!(
        follower
            .until_end_of(&sent.run, Duration::from_secs(2))
            .await
            .unwrap(),
        "RunCancelled"
    );
    // the worker's socket to the provider is closed too
    scene
        .provider
        .until_calls(PATIENCE, "the call is dropped", |calls| {
            calls.iter().all(|call| call.ended_ms.is_some())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_gives_runs_back() {
    if !Chosen::from_environment().is_postgres() {
        return;
    }
    let scene = Scene::new().await;
    // two steps: after the first the run can change hands
    scene.provider.script(
        "two",
        Script::answer(|asked| {
            let steps = asked.body["messages"].as_array().map_or(0, |messages| {
                messages
                    .iter()
                    .filter(|message| message["role"] == "tool")
                    .count()
            });
            if steps == 0 {
                return Turn::of([
                    Step::ToolCall {
                        index: 0,
                        id: "c".into(),
                        name: "x".into(),
                    },
                    Step::WaitFor("go".into()),
                    Step::Finish("tool_calls".into()),
                ]);
            }
            Turn::text("the end")
        }),
    );
    let agent = scene.agent("two").await;
    let sent = scene.client.send_to_agent(&agent, "go").await;
    let other = Weft::replica_of(&scene.weft).await;
    let there = scene.client.at(&other.url());
    let mut follower = Follower::new(&there, &sent.conversation, Some(&sent.cursor)).await;
    follower
        .until(PATIENCE, |transcript| {
            transcript.kinds(&sent.run).contains(&"ToolCallStarted")
        })
        .await
        .unwrap();
    scene.weft.terminate();
    scene.provider.open_gate("go");
    assert_eq!(
        follower.until_end_of(&sent.run, PATIENCE).await.unwrap(),
        "RunCompleted"
    );
    follower.transcript.assert_faultless();
    let run = there
        .ok(
            "query ($id: ID!) { run(id: $id) { attempts steps { index } } }",
            json!({ "id": sent.run }),
        )
        .await;
    assert_eq!(
        run["run"],
        json!({ "attempts": 1, "steps": [{ "index": 0 }, { "index": 1 }] })
    );
}
