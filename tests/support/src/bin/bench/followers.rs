//! What those cost who follow the same, and one of them who never reads.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use serde_json::json;
use support::{
    client::{Frame, Socket, Viewers},
    provider::expected_text,
    wait::PATIENCE,
};
use tokio::time::sleep;

use super::{House, Row, SHARED, Sizes, ms, own, part, processor_time, tell, text};

/// Many who follow one conversation.
pub async fn viewers(house: &House, sizes: Sizes) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    // named apart from those of the others that are measured
    let agent = house.agent(&format!("tokens-0{}-20", sizes.told)).await;
    for (how, count, is_own) in [
        ("each by a document of his own", sizes.few_viewers, true),
        ("all by one document", sizes.few_viewers, false),
        ("all by one document", sizes.viewers, false),
    ] {
        tell("viewers");
        let watched = house.conversation(&agent).await;
        let variables = json!({"id": watched.id});
        let owner = std::slice::from_ref(&house.owner);
        let mut viewers = Viewers::open(owner, count / 2).await;
        // What it takes to begin is given back, but not to the system: the first half takes it, the second finds it.
        let mut resident = [0, 0];
        for (half, bytes) in resident.iter_mut().enumerate() {
            let payload = |number| match is_own {
                true => json!({"query": own(half * count + number), "variables": variables}),
                false => json!({"query": SHARED, "variables": variables}),
            };
            viewers.subscribe_to(1, payload).await;
            sleep(sizes.settled.min(Duration::from_secs(3))).await;
            *bytes = house.weft.resident_bytes();
        }
        let each = resident[1].saturating_sub(resident[0]) / (count as u64 / 2).max(1);
        let (begun, busy) = (Instant::now(), processor_time(house.weft.pid())?);
        house.say(&watched.id, "To all of you.").await;
        let told: Vec<(usize, usize)> = viewers
            .read(|(messages, letters): &mut (usize, usize), payload| {
                let event = &payload["data"]["conversationEvents"];
                *messages += 1;
                *letters += event["text"].as_str().unwrap_or_default().len();
                event["__typename"] == "RunCompleted"
            })
            .await;
        let took = begun.elapsed();
        let busy = processor_time(house.weft.pid())?.saturating_sub(busy);
        let whole = expected_text("To all of you.", sizes.told).len();
        ensure!(
            told.iter().all(|(_, letters)| *letters == whole),
            "not everybody was told everything"
        );
        let messages: usize = told.iter().map(|(messages, _)| messages).sum();
        let micros = busy.as_secs_f64() * 1e6;
        rows.push((
            format!("{count} viewers of one answer at 50 tokens/s, {how}: processor of the server for each event of each (for each message), memory of each"),
            format!(
                "{:.1} µs ({:.1} µs), {:.1} KiB; {:.1} s",
                micros / (count * sizes.told) as f64,
                micros / messages.max(1) as f64,
                each as f64 / 1024.0,
                took.as_secs_f64()
            ),
        ));
        house.provider.forget_calls();
    }
    Ok(rows)
}

/// Two follow the same on a socket each, and one never reads: how long the other waits, without and beside him.
pub async fn deaf(house: &House, sizes: Sizes) -> Result<Vec<Row>> {
    tell("one that never reads");
    let agent = house
        .agent(&format!("tokens-{}-10", sizes.deaf_tokens))
        .await;
    let mut warm = reader(house, &agent, sizes.deaf, false).await?;
    let before = house.weft.resident_bytes();
    let mut without = reader(house, &agent, sizes.deaf, false).await?;
    let alone = house.weft.resident_bytes();
    let mut beside = reader(house, &agent, sizes.deaf, true).await?;
    let after = house.weft.resident_bytes();
    Ok(vec![(
        format!(
            "{} events to one who reads, p50 and p99: alone (first, again), beside one who does not; memory: by the second, by the third",
            beside.len()
        ),
        format!(
            "{} {} ({} {}), {} {}; {} KiB, {} KiB",
            ms(part(&mut without, 50)),
            ms(part(&mut without, 99)),
            ms(part(&mut warm, 50)),
            ms(part(&mut warm, 99)),
            ms(part(&mut beside, 50)),
            ms(part(&mut beside, 99)),
            alone.saturating_sub(before) / 1024,
            after.saturating_sub(alone) / 1024,
        ),
    )])
}

/// From when a piece of text was written to when it was read, for all conversations on one socket.
async fn reader(
    house: &House,
    agent: &str,
    runs: usize,
    beside_deaf: bool,
) -> Result<Vec<Duration>> {
    let document = "subscription ($id: ID!) { conversationEvents(conversationId: $id) { __typename cursor at ... on TextDelta { text } } }";
    let mut conversations = Vec::new();
    for _ in 0..runs {
        conversations.push(house.conversation(agent).await.id);
    }
    let mut reading = Socket::open(&house.weft.url())
        .await
        .map_err(|closed| anyhow::anyhow!("{closed}"))?;
    house.owner.initialise(&mut reading).await;
    let mut deaf = Socket::open_narrow(house.weft.address()).await;
    house.owner.initialise(&mut deaf).await;
    for (at, id) in conversations.iter().enumerate() {
        let payload = json!({"query": document, "variables": {"id": id}});
        let message = json!({"id": at.to_string(), "type": "subscribe", "payload": payload});
        if beside_deaf {
            deaf.send(&message)
                .await
                .map_err(|closed| anyhow::anyhow!("{closed}"))?;
        }
        reading
            .send(&message)
            .await
            .map_err(|closed| anyhow::anyhow!("{closed}"))?;
    }
    sleep(Duration::from_secs(1)).await;
    join_all(conversations.iter().map(|id| house.say(id, "Go on."))).await;
    let (mut took, mut left) = (Vec::new(), runs);
    while left > 0 {
        let Frame::Message(message) = reading.receive(PATIENCE).await else {
            continue;
        };
        let event = &message["payload"]["data"]["conversationEvents"];
        match event["__typename"].as_str() {
            Some("TextDelta") => {
                let at: DateTime<Utc> = text(&event["at"]).parse()?;
                took.push((Utc::now() - at).to_std().unwrap_or_default());
            }
            Some("RunCompleted") => left -= 1,
            Some("RunFailed") => bail!("a run failed: {message}"),
            _ => {}
        }
    }
    drop(deaf);
    house.provider.forget_calls();
    Ok(took)
}
