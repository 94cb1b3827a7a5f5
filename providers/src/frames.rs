//! How the bytes of an answer become events: server-sent events, or one JSON text a line.
//!
//! Lines are taken apart as [`crate::sse`] takes events: bytes go in as the network cuts them, nothing is decoded before
//! a line is whole, and what isn't UTF-8 becomes U+FFFD.

use bytes::{Buf, Bytes};
use serde_json::Value;

use crate::sse::{MAX_EVENT_BYTES, SseDecoder, SseEvent, TooLong, text};

/// A decoder for one of the two. It holds one piece of the network and one event.
pub(crate) enum Frames {
    Events(SseDecoder),
    Lines(Lines),
}

impl Frames {
    pub(crate) fn events() -> Self {
        Self::Events(SseDecoder::default())
    }

    pub(crate) fn lines() -> Self {
        Self::Lines(Lines::default())
    }

    /// The next piece of the network, once [`Self::next_event`] has found nothing more in the last.
    pub(crate) fn feed(&mut self, piece: Bytes) {
        match self {
            Self::Events(decoder) => decoder.feed(piece),
            Self::Lines(lines) => lines.feed(piece),
        }
    }

    /// The next whole event of what was fed.
    pub(crate) fn next_event(&mut self) -> Result<Option<SseEvent>, TooLong> {
        match self {
            Self::Events(decoder) => decoder.next_event(),
            Self::Lines(lines) => lines.next_event(),
        }
    }

    /// The connection has ended: what came of an event without its end, if that is whole all the same. JSON tells, a
    /// server-sent event does not.
    pub(crate) fn last_event(&mut self) -> Option<SseEvent> {
        match self {
            Self::Events(_) => None,
            Self::Lines(lines) => lines.last_event(),
        }
    }
}

#[derive(Default)]
pub(crate) struct Lines {
    chunk: Bytes,
    line: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "the piece before is used up");
        self.chunk = chunk;
    }

    fn next_event(&mut self) -> Result<Option<SseEvent>, TooLong> {
        loop {
            let end = self.chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(self.chunk.len());
            if self.line.len() + taken > MAX_EVENT_BYTES {
                return Err(TooLong);
            }
            self.line.extend_from_slice(&self.chunk[..taken]);
            let Some(end) = end else {
                self.chunk.clear();
                return Ok(None);
            };
            self.chunk.advance(end + 1);
            let line = std::mem::take(&mut self.line);
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(event(line)));
            }
        }
    }

    fn last_event(&mut self) -> Option<SseEvent> {
        let line = std::mem::take(&mut self.line);
        serde_json::from_slice::<Value>(&line).ok()?;
        Some(event(line))
    }
}

fn event(line: Vec<u8>) -> SseEvent {
    SseEvent {
        name: String::new(),
        data: text(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let mut frames = Frames::lines();
        let mut lines = Vec::new();
        for piece in pieces {
            frames.feed(Bytes::copy_from_slice(piece));
            while let Some(event) = frames.next_event().expect("short enough") {
                lines.push(event.data);
            }
        }
        (lines, frames.last_event().map(|event| event.data))
    }

    #[test]
    fn every_cut_gives_the_same_lines() {
        let text = "{\"a\":\"é\"}\r\n\n \n{\"b\":\"語\"}\n{\"c\":1}".as_bytes();
        let expected = (
            vec!["{\"a\":\"é\"}\r".to_owned(), "{\"b\":\"語\"}".to_owned()],
            Some("{\"c\":1}".to_owned()),
        );
        assert_eq!(lines_of(&[text]), expected);
        for cut in 1..text.len() {
            assert_eq!(
                lines_of(&[&text[..cut], &text[cut..]]),
                expected,
                "cut at {cut}"
            );
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(lines_of(&bytes), expected);
    }

    #[test]
    fn half_a_line_is_no_event() {
        for half in [&b"{\"done\":tr"[..], b"", b"{\"a\":\"b", b"{\"a\":1}\n{\"b"] {
            assert_eq!(lines_of(&[half]).1, None);
        }
    }

    #[test]
    fn a_line_has_a_limit() {
        let mut frames = Frames::lines();
        let piece = Bytes::from(vec![b'x'; 300_000]);
        let found = (0..4).find_map(|_| {
            frames.feed(piece.clone());
            frames.next_event().err()
        });
        assert_eq!(found, Some(TooLong));
    }
}
