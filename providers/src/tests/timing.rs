//! Silence, slow consumers, and streams that are dropped. Times are real, since sockets are.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

use super::server::{Server, Step, events, head, send};
use super::{endpoint, listen, providers, question, short};
use crate::Provider;

const TEXT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"ok\"}}]}\n\n";
const END: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[tokio::test]
async fn silence_ends_a_call() {
    let keep_alive = |text: &str| {
        (0..8)
            .flat_map(|_| [send(text), Step::Pause(ms(120))])
            .collect::<Vec<_>>()
    };
    for (name, script, expected) in [
        (
            "no head",
            vec![Step::AwaitClose],
            vec!["e:Timeout(FirstToken)"],
        ),
        (
            "no event",
            vec![head(), Step::AwaitClose],
            vec!["e:Timeout(FirstToken)"],
        ),
        (
            "signs of life only",
            [vec![head()], keep_alive(": busy\n\n")].concat(),
            vec!["e:Timeout(FirstToken)"],
        ),
        (
            "silence after text",
            vec![head(), send(TEXT), Step::AwaitClose],
            vec!["t:ok", "e:Timeout(Gap)"],
        ),
        (
            "signs of life after text",
            [
                vec![head(), send(TEXT)],
                keep_alive("data: {\"choices\":[]}\n\n"),
            ]
            .concat(),
            vec!["t:ok", "e:Timeout(Gap)"],
        ),
        (
            "silence after the reason",
            vec![head(), send(TEXT), send(END), Step::AwaitClose],
            vec!["t:ok", "f:stop"],
        ),
        (
            "slow but alive",
            vec![
                head(),
                Step::Pause(ms(160)),
                send(TEXT),
                Step::Pause(ms(160)),
                send(TEXT),
                Step::Pause(ms(160)),
                send(TEXT),
                send(END),
            ],
            vec!["t:ok", "t:ok", "t:ok", "f:stop"],
        ),
    ] {
        let server = Server::start(vec![script; 3]);
        let mut endpoint = endpoint(Provider::OpenAiCompatible, &server);
        endpoint.timeout = ms(400);
        assert_eq!(listen(&endpoint).await.events, expected, "{name}");
        // nobody waits in silence twice
        assert_eq!(server.asked().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn the_clock_stands_while_nobody_asks() {
    let server = Server::start(vec![vec![
        head(),
        send(TEXT),
        Step::Pause(ms(1_100)),
        send(TEXT),
        send(END),
    ]]);
    let mut endpoint = endpoint(Provider::OpenAiCompatible, &server);
    endpoint.timeout = ms(400);
    let mut stream = providers().chat(endpoint).stream(question("hello")).await;
    assert_eq!(short(&stream.next().await.expect("an event")), "t:ok");
    // longer than the time-out: silence, but nobody waits for it
    sleep(ms(900)).await;
    assert_eq!(short(&stream.next().await.expect("an event")), "t:ok");
    assert_eq!(short(&stream.next().await.expect("an event")), "f:stop");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn who_comes_back_late_finds_the_call_alive() {
    let server = Server::start(vec![vec![
        head(),
        send(TEXT),
        Step::Pause(ms(1_500)),
        send(TEXT),
        send(END),
    ]]);
    let mut endpoint = endpoint(Provider::OpenAiCompatible, &server);
    endpoint.timeout = ms(400);
    let mut stream = providers().chat(endpoint).stream(question("hello")).await;
    assert_eq!(short(&stream.next().await.expect("an event")), "t:ok");
    // asked once, then left alone with the timer running
    assert!(futures_util::poll!(stream.next()).is_pending());
    sleep(ms(1_300)).await;
    assert_eq!(short(&stream.next().await.expect("an event")), "t:ok");
}

#[tokio::test]
async fn nothing_is_read_ahead_of_who_asks() {
    let flood = TEXT.repeat(1000).into_bytes();
    let mut server = Server::start(vec![vec![head(), Step::Flood(flood)]]);
    let mut stream = providers()
        .chat(endpoint(Provider::OpenAiCompatible, &server))
        .stream(question("hello"))
        .await;
    assert_eq!(short(&stream.next().await.expect("an event")), "t:ok");
    let sent = timeout(Duration::from_secs(20), server.reports.recv())
        .await
        .expect("the server is stuck in time");
    // what the two sockets hold, far below what it would have sent otherwise
    assert!(sent.is_some_and(|sent| sent < 16 * 1024 * 1024), "{sent:?}");
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    for script in [
        vec![head(), send(TEXT), Step::AwaitClose],
        vec![head(), Step::AwaitClose],
    ] {
        let mut server = Server::start(vec![script]);
        let mut stream = providers()
            .chat(endpoint(Provider::OpenAi, &server))
            .stream(question("hello"))
            .await;
        // an event, or none in this time
        let _ = timeout(ms(150), stream.next()).await;
        let dropped = Instant::now();
        drop(stream);
        let closed = timeout(Duration::from_secs(10), server.reports.recv()).await;
        assert_eq!(closed, Ok(Some(0)), "closed after {:?}", dropped.elapsed());
    }
}

#[tokio::test]
async fn nothing_is_called_before_it_is_asked_for() {
    let server = Server::start(vec![events(&[])]);
    let stream = providers()
        .chat(endpoint(Provider::OpenAi, &server))
        .stream(question("hello"))
        .await;
    sleep(ms(50)).await;
    drop(stream);
    assert_eq!(server.asked().len(), 0);
}
