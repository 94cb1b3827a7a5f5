//! What stands in a stream: records, and the text in pieces that adjacent ones may be joined into.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use entities::{RunId, TenantId};
use uuid::Uuid;

/// What a record is about, as a small number that is never given another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(pub i16);

impl Kind {
    /// Text of an answer, in pieces.
    pub const TEXT: Self = Self(1);
    /// Reasoning, in pieces.
    pub const REASONING: Self = Self(2);
    /// The arguments of a tool call, in pieces.
    pub const ARGUMENTS: Self = Self(3);

    /// Whether its payload is a [`Delta`]. The numbers up to 15 are kept for such.
    #[must_use]
    pub fn is_delta(self) -> bool {
        self.0 < 16
    }
}

/// The version of the payloads that are written now.
pub const VERSION: i16 = 1;

/// The most bytes of text that joining makes one record of.
pub const JOINED: usize = 16 * 1024;

/// A piece of a text that comes in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The message, or for arguments the tool call.
    pub of: Uuid,
    /// Which part of the message; 0 for arguments.
    pub part: u32,
    /// The length of the text before this piece, in UTF-16 code units.
    pub offset: u32,
    /// The piece.
    text: String,
    /// Its length, in UTF-16 code units: counted once.
    units: u32,
}

/// The length of a text in UTF-16 code units, as clients count.
#[must_use]
pub fn utf16_len(text: &str) -> u32 {
    u32::try_from(text.encode_utf16().count()).unwrap_or(u32::MAX)
}

impl Delta {
    /// A piece of the text of part `part` of `of`, which stands after `offset` UTF-16 code units of it.
    #[must_use]
    pub fn new(of: Uuid, part: u32, offset: u32, text: String) -> Self {
        Self {
            of,
            part,
            offset,
            units: utf16_len(&text),
            text,
        }
    }

    /// The piece.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The length of the text with this piece, in UTF-16 code units.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.offset + self.units
    }

    /// Whether `next` goes on where this one ends.
    #[must_use]
    pub fn joins(&self, next: &Self) -> bool {
        self.of == next.of && self.part == next.part && self.end() == next.offset
    }

    /// Appends what goes on where this one ends.
    pub(crate) fn push(&mut self, next: &Self) {
        self.text.push_str(&next.text);
        self.units += next.units;
    }

    /// 16 bytes of `of`, 4 of `part`, 4 of `offset`, the text.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24 + self.text.len());
        bytes.extend_from_slice(self.of.as_bytes());
        bytes.extend_from_slice(&self.part.to_be_bytes());
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        bytes.extend_from_slice(self.text.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (of, rest) = bytes.split_first_chunk::<16>()?;
        let (part, rest) = rest.split_first_chunk::<4>()?;
        let (offset, text) = rest.split_first_chunk::<4>()?;
        let text = String::from_utf8(text.to_vec()).ok()?;
        Some(Self::new(
            Uuid::from_bytes(*of),
            u32::from_be_bytes(*part),
            u32::from_be_bytes(*offset),
            text,
        ))
    }
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A piece of a text.
    Delta(Delta),
    /// Anything else, in the words of whoever wrote it.
    Whole(Bytes),
}

impl Payload {
    /// How much memory and room on the disk it takes, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Delta(delta) => 24 + delta.text.len(),
            Self::Whole(bytes) => bytes.len(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Delta(delta) => delta.encode(),
            Self::Whole(bytes) => bytes.to_vec(),
        }
    }

    /// `None`: no payload of this kind, as after damage, or one that a later version wrote.
    pub(crate) fn decode(kind: Kind, bytes: Vec<u8>) -> Option<Self> {
        if kind.is_delta() {
            Delta::decode(&bytes).map(Self::Delta)
        } else {
            Some(Self::Whole(bytes.into()))
        }
    }
}

/// Something that has yet to get its number.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What it is about.
    pub kind: Kind,
    /// What it says.
    pub payload: Payload,
}

/// One record of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The tenant.
    pub tenant: TenantId,
    /// The stream.
    pub stream: Uuid,
    /// Its number; of a joined one, that of the last piece.
    pub seq: i64,
    /// The run that it belongs to.
    pub run: Option<RunId>,
    /// The attempt of that run.
    pub attempt: i32,
    /// Its number within the attempt; tells whether it was written.
    pub n: i32,
    /// The version of its payload.
    pub v: i16,
    /// When.
    pub at: DateTime<Utc>,
    /// What it is about.
    pub kind: Kind,
    /// What it says.
    pub payload: Payload,
}

impl Record {
    /// Appends `next` where it goes on with the same text; else gives it back, unchanged.
    #[must_use]
    pub fn join(&mut self, next: Self) -> Option<Self> {
        let fits = match (&self.payload, &next.payload) {
            (Payload::Delta(a), Payload::Delta(b)) => {
                self.kind == next.kind
                    && self.run == next.run
                    && self.attempt == next.attempt
                    && self.v == next.v
                    && a.text.len() + b.text.len() <= JOINED
                    && a.joins(b)
            }
            _ => false,
        };
        if !fits {
            return Some(next);
        }
        if let (Payload::Delta(a), Payload::Delta(b)) = (&mut self.payload, next.payload) {
            a.push(&b);
        }
        self.seq = next.seq;
        self.at = next.at;
        None
    }
}

/// Joins what is adjacent, for whoever reads many records at once.
#[must_use]
pub fn joined(records: Vec<Record>) -> Vec<Record> {
    let mut out: Vec<Record> = Vec::with_capacity(records.len());
    for record in records {
        match out.last_mut() {
            Some(last) => {
                if let Some(record) = last.join(record) {
                    out.push(record);
                }
            }
            None => out.push(record),
        }
    }
    out
}

/// Where the pieces of a joined record ended: its numbers and the bytes of text up to each, so that it can be cut again after
/// any of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Originals(pub Vec<(i64, usize)>);

impl Originals {
    /// Differences, as LEB128.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 2);
        let (mut seq, mut end) = (0, 0);
        for &(s, e) in &self.0 {
            leb128((s - seq).unsigned_abs(), &mut bytes);
            leb128((e - end) as u64, &mut bytes);
            (seq, end) = (s, e);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut pieces = Vec::new();
        let (mut seq, mut end) = (0i64, 0usize);
        while !rest.is_empty() {
            seq += i64::try_from(read_leb128(&mut rest)?).ok()?;
            end += usize::try_from(read_leb128(&mut rest)?).ok()?;
            pieces.push((seq, end));
        }
        Some(Self(pieces))
    }

    /// Takes off the text that was said up to `after`.
    pub(crate) fn cut(&self, delta: &mut Delta, after: i64) {
        let said = self
            .0
            .iter()
            .take_while(|(seq, _)| *seq <= after)
            .last()
            .map_or(0, |&(_, end)| end);
        if said > 0 && delta.text.is_char_boundary(said) {
            let before = utf16_len(&delta.text[..said]);
            delta.offset += before;
            delta.units -= before;
            delta.text.drain(..said);
        }
    }
}

fn leb128(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_leb128(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn piece(seq: i64, offset: u32, text: &str) -> Record {
        Record {
            tenant: TenantId(Uuid::nil()),
            stream: Uuid::nil(),
            seq,
            run: None,
            attempt: 1,
            n: 0,
            v: VERSION,
            at: DateTime::UNIX_EPOCH,
            kind: Kind::TEXT,
            payload: Payload::Delta(Delta::new(Uuid::nil(), 0, offset, text.into())),
        }
    }

    #[test]
    fn a_delta_survives_its_bytes() {
        let Payload::Delta(delta) = piece(1, 7, "größe 翻译 😀").payload else {
            unreachable!()
        };
        assert_eq!(Delta::decode(&delta.encode()), Some(delta));
        assert_eq!(Delta::decode(&[0; 23]), None);
    }

    #[test]
    fn only_what_goes_on_is_joined() {
        let all = joined(vec![
            piece(1, 0, "a😀"),
            piece(2, 3, "b"),
            piece(5, 9, "c"),
            piece(6, 10, "d"),
        ]);
        let texts: Vec<_> = all.iter().map(|r| (r.seq, r.payload.clone())).collect();
        assert_eq!(
            texts,
            [
                (2, piece(0, 0, "a😀b").payload),
                (6, piece(0, 9, "cd").payload)
            ]
        );
    }

    #[test]
    fn a_joined_record_is_cut_after_any_of_its_numbers() {
        let originals = Originals(vec![(3, 2), (9, 6), (300, 7)]);
        let originals = Originals::decode(&originals.encode()).unwrap();
        let text = "ab😀c";
        for (after, offset, rest) in [
            (0, 5, "ab😀c"),
            (2, 5, "ab😀c"),
            (3, 7, "😀c"),
            (8, 7, "😀c"),
            (9, 9, "c"),
            (299, 9, "c"),
            (300, 10, ""),
        ] {
            let mut delta = Delta::new(Uuid::nil(), 0, 5, text.into());
            originals.cut(&mut delta, after);
            assert_eq!(
                (delta.offset, delta.text.as_str()),
                (offset, rest),
                "after {after}"
            );
        }
    }
}
