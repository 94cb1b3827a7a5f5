//! Subscriptions in which nothing happens, and one in which too much does.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, Utc};
use serde_json::json;
use support::{
    client::{Frame, Socket, Viewers},
    wait::PATIENCE,
};
use tokio::time::sleep;

use super::{House, Row, SHARED, Sizes, ms, own, part, processor_time, tell, text, timed_out};

/// Conversations that those follow in whose conversations nothing happens.
const QUIET: usize = 100;

/// What a subscription costs in which nothing happens, with its share of its socket.
pub async fn idle(cluster: Option<&str>, sizes: Sizes) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (how, each, is_own) in [
        ("one on each socket", 1, false),
        ("one on each socket, each by a document of its own", 1, true),
        ("fifty on each socket", 50, false),
    ] {
        tell("subscriptions in which nothing happens");
        // what others gave back would be taken again, and not show
        let house = House::new(cluster).await?;
        let agent = house.agent("tokens-1-1").await;
        let mut conversations = Vec::new();
        for _ in 0..QUIET.min(sizes.idle) {
            conversations.push(house.conversation(&agent).await.id);
        }
        let half = sizes.idle / 2;
        // as for those above: the first half takes from the system what it takes to begin
        let (mut seated, mut resident) = (Vec::new(), [0, 0]);
        for (at, bytes) in resident.iter_mut().enumerate() {
            let owner = std::slice::from_ref(&house.owner);
            let mut viewers = Viewers::open(owner, (half / each).max(1)).await;
            let payload = |number: usize| {
                let id = &conversations[number % conversations.len()];
                let query = match is_own {
                    true => own(at * half + number),
                    false => SHARED.to_owned(),
                };
                json!({"query": query, "variables": {"id": id}})
            };
            viewers.subscribe_to(each, payload).await;
            at_rest(&house).await?;
            *bytes = house.weft.resident_bytes();
            seated.push(viewers);
            let here = seated.iter().map(Viewers::count).sum::<usize>();
            let open = open_subscriptions(&house).await?;
            ensure!(open == here, "{here} subscribed, and {open} are followed");
        }
        let count = seated.iter().map(Viewers::count).sum::<usize>();
        let bytes = resident[1].saturating_sub(resident[0]) as f64 / (count as f64 / 2.0);
        rows.push((
            format!("{count} subscriptions in which nothing happens, {how}: memory of each"),
            format!("{:.1} KiB", bytes / 1024.0),
        ));
    }
    Ok(rows)
}

/// Subscriptions that the server has, by its own count.
async fn open_subscriptions(house: &House) -> Result<usize> {
    let text = house.weft.client().get("/metrics").await.text();
    let of = |line: &str| {
        line.strip_prefix("weft_subscriptions{transport=\"websocket\"} ")?
            .parse()
            .ok()
    };
    let count: f64 = text
        .lines()
        .find_map(of)
        .context("no count of subscriptions")?;
    Ok(count as usize)
}

/// Until the server has had next to nothing to do for two seconds: all have begun.
async fn at_rest(house: &House) -> Result<()> {
    let (mut busy, mut quiet) = (processor_time(house.weft.pid())?, 0);
    while quiet < 2 {
        sleep(Duration::from_secs(1)).await;
        let now = processor_time(house.weft.pid())?;
        let idle = now.saturating_sub(busy) < Duration::from_millis(150);
        quiet = if idle { quiet + 1 } else { 0 };
        busy = now;
    }
    Ok(())
}

/// How long the events of a quiet answer take, alone on its socket and beside an operation that always has more.
pub async fn flood(house: &House, sizes: Sizes) -> Result<Row> {
    tell("one that always has more");
    let much = house
        .agent(&format!("tokens-{}-0", sizes.flood_tokens))
        .await;
    let mut told = house.conversation(&much).await;
    house.say(&told.id, "Tell me everything.").await;
    timed_out(told.until_end()).await?;
    let few = house
        .agent(&format!("tokens-{}-20", sizes.quiet_tokens))
        .await;
    quiet(house, &few, None).await?;
    let (mut alone, _) = quiet(house, &few, None).await?;
    let (mut beside, messages) = quiet(house, &few, Some(&told.id)).await?;
    let (without, with) = (part(&mut alone, 99), part(&mut beside, 99));
    house.provider.forget_calls();
    Ok((
        format!(
            "{} events of a quiet answer, p50 and p99: alone on its socket, beside an operation that always has more; ratio of p99",
            beside.len()
        ),
        format!(
            "{} {}, {} {} ({messages} messages of the other); {:.1}",
            ms(part(&mut alone, 50)),
            ms(without),
            ms(part(&mut beside, 50)),
            ms(with),
            with.as_secs_f64() / without.as_secs_f64().max(1e-6)
        ),
    ))
}

/// From when each piece of an answer was written to when it was read, on a socket on which a long conversation is read again and
/// again beside it; and how many messages that was.
async fn quiet(house: &House, agent: &str, beside: Option<&str>) -> Result<(Vec<Duration>, usize)> {
    const EACH: &str = "subscription ($id: ID!, $after: Cursor) { conversationEvents(conversationId: $id, after: $after) {
        __typename at ... on TextDelta { text } } }";
    const RUN: &str = "subscription ($id: ID!) { runEvents(runId: $id) { __typename at ... on TextDelta { text } } }";
    let broken = |closed| anyhow::anyhow!("{closed}");
    let conversation = house.conversation(agent).await.id;
    let mut socket = Socket::open(&house.weft.url()).await.map_err(broken)?;
    house.owner.initialise(&mut socket).await;
    let subscribe = |id: &str, document: &str, of: &str| json!({"id": id, "type": "subscribe", "payload": {"query": document, "variables": {"id": of}}});
    socket
        .send(&subscribe("quiet", EACH, &conversation))
        .await
        .map_err(broken)?;
    let run = match beside {
        None => None,
        Some(conversation) => {
            let document =
                "query ($id: ID!) { conversation(id: $id) { runs(first: 1) { nodes { id } } } }";
            let answer = house.owner.ok(document, json!({"id": conversation})).await;
            Some(text(&answer["conversation"]["runs"]["nodes"][0]["id"]))
        }
    };
    if let Some(run) = &run {
        socket
            .send(&subscribe("0", RUN, run))
            .await
            .map_err(broken)?;
    }
    sleep(Duration::from_millis(300)).await;
    house.say(&conversation, "Quietly.").await;
    let (mut took, mut messages, mut times) = (Vec::new(), 0_usize, 0_usize);
    loop {
        let Frame::Message(message) = socket.receive(PATIENCE).await else {
            continue;
        };
        match (message["id"].as_str(), message["type"].as_str(), &run) {
            (Some("quiet"), ..) => {
                let event = &message["payload"]["data"]["conversationEvents"];
                match event["__typename"].as_str() {
                    Some("TextDelta") => {
                        let at: DateTime<Utc> = text(&event["at"]).parse()?;
                        took.push((Utc::now() - at).to_std().unwrap_or_default());
                    }
                    Some("RunCompleted") => return Ok((took, messages)),
                    Some("RunFailed") | None => bail!("a run failed: {message}"),
                    Some(_) => {}
                }
            }
            (Some(_), Some("complete"), Some(run)) => {
                times += 1;
                let next = subscribe(&times.to_string(), RUN, run);
                socket.send(&next).await.map_err(broken)?;
            }
            (Some(_), Some("next"), _) => messages += 1,
            (Some(_), ..) => bail!("a subscription ended: {message}"),
            _ => {}
        }
    }
}
