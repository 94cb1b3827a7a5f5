//! The parts of an answer that is not finished: those of its finished steps and what the log has beyond them.

use std::{collections::HashMap, sync::Arc};

use entities::{ConversationId, DbErr, MessageId, Part, Parts, Snapshot, Tx, message};
use events::{
    Delta, Record, read,
    record::{joined, utf16_len},
};

use crate::event::{Body, Event};

/// More records than one answer ever has; what bounds it is the size of an answer.
const ALL: i64 = 1_000_000;

/// The parts of answers that are STREAMING, as of the snapshot: what its cursor has seen, and nothing else. One statement.
///
/// # Errors
/// What the database says.
pub async fn parts(
    snapshot: &Snapshot,
    messages: &[message::Model],
) -> Result<HashMap<MessageId, Parts>, DbErr> {
    of(snapshot.tx().await?, messages).await
}

/// The same inside a command, which holds the streams' locks.
pub(crate) async fn of(
    tx: &Tx,
    messages: &[message::Model],
) -> Result<HashMap<MessageId, Parts>, DbErr> {
    // Two answers under way in one conversation share a page, from the earlier checkpoint on.
    let mut positions: HashMap<ConversationId, i64> = HashMap::new();
    for message in messages {
        positions
            .entry(message.conversation_id)
            .and_modify(|seq| *seq = (*seq).min(message.parts_seq))
            .or_insert(message.parts_seq);
    }
    let positions: Vec<_> = positions.into_iter().map(|(id, seq)| (id.0, seq)).collect();
    let pages = read::pages(&**tx, &positions, ALL).await?;
    messages
        .iter()
        .map(|message| {
            let records = pages
                .get(&message.conversation_id.0)
                .map_or(&[][..], |page| &page.records);
            Ok((message.id, grown(message, records)?))
        })
        .collect()
}

fn grown(message: &message::Model, records: &[Record]) -> Result<Parts, DbErr> {
    let mut parts = message.parts.clone();
    let its_own = records.iter().filter(|record| {
        record.run.is_some() && record.run == message.run_id && record.seq > message.parts_seq
    });
    // Joined first: to be sure that a piece goes on where the text ends, its length is counted once for each piece.
    for record in joined(its_own.cloned().collect()) {
        apply(
            &mut parts,
            message.id,
            &Event::read(&Arc::new(record))?.body,
        );
    }
    Ok(parts)
}

/// Applies an event to the parts of `message`, by the rules that clients follow. Applying it twice changes nothing.
pub fn apply(parts: &mut Parts, message: MessageId, body: &Body) {
    match body {
        Body::TextDelta(delta) if delta.of == message.0 => {
            grow(parts, delta, |text| Part::Text { text });
        }
        Body::ReasoningDelta(delta) if delta.of == message.0 => {
            grow(parts, delta, |text| Part::Reasoning { text });
        }
        Body::ToolCallStarted {
            message: of,
            part,
            call,
        } if *of == message => put(parts, *part, Part::ToolCall { id: call.id }),
        Body::PartAdded {
            message: of,
            part,
            content,
        } if *of == message => put(parts, *part, content.clone()),
        Body::StepRestarted {
            message: of,
            from_part,
            ..
        } if *of == message => parts.0.truncate(*from_part as usize),
        _ => {}
    }
}

fn put(parts: &mut Parts, place: u32, part: Part) {
    if place as usize == parts.0.len() {
        parts.0.push(part);
    }
}

fn grow(parts: &mut Parts, delta: &Delta, part: impl FnOnce(String) -> Part) {
    put(parts, delta.part, part(String::new()));
    if let Some(Part::Text { text } | Part::Reasoning { text }) =
        parts.0.get_mut(delta.part as usize)
        && utf16_len(text) == delta.offset
    {
        text.push_str(delta.text());
    }
}
