//! Server-sent events, as the HTML standard's "event stream interpretation" reads them, taken apart piece by piece.
//!
//! Bytes go in as the network cuts them; nothing is decoded before a line is whole, so a character may be split
//! anywhere. What isn't UTF-8 becomes U+FFFD. An event without its closing empty line doesn't count.

use bytes::{Buf, Bytes};

/// Bytes that one event may have.
pub(crate) const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// An event with data; others are dropped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SseEvent {
    /// The `event` field, empty where there is none.
    pub name: String,
    /// The `data` lines, joined.
    pub data: String,
}

/// An event exceeds [`MAX_EVENT_BYTES`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Holds one piece of the network and one event, no more.
#[derive(Default)]
pub(crate) struct SseDecoder {
    chunk: Bytes,
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last line ended in CR: an LF that follows belongs to it.
    after_cr: bool,
    begun: bool,
}

impl SseDecoder {
    /// The next piece of the network, once [`Self::next_event`] has found nothing more in the last.
    pub(crate) fn feed(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "the piece before is used up");
        self.chunk = chunk;
    }

    /// The next whole event of what was fed.
    pub(crate) fn next_event(&mut self) -> Result<Option<SseEvent>, TooLong> {
        loop {
            if self.after_cr && !self.chunk.is_empty() {
                self.after_cr = false;
                if self.chunk[0] == b'\n' {
                    self.chunk.advance(1);
                }
            }
            let end = self
                .chunk
                .iter()
                .position(|byte| matches!(byte, b'\n' | b'\r'));
            let taken = end.unwrap_or(self.chunk.len());
            if self.line.len() + self.data.len() + taken > MAX_EVENT_BYTES {
                return Err(TooLong);
            }
            self.line.extend_from_slice(&self.chunk[..taken]);
            let Some(end) = end else {
                self.chunk.clear();
                return Ok(None);
            };
            self.after_cr = self.chunk[end] == b'\r';
            self.chunk.advance(end + 1);
            let event = self.take_line();
            self.line.clear();
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    fn take_line(&mut self) -> Option<SseEvent> {
        let mut line = self.line.as_slice();
        if !self.begun {
            self.begun = true;
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        if line.is_empty() {
            let (name, data) = (
                std::mem::take(&mut self.name),
                std::mem::take(&mut self.data),
            );
            return std::mem::take(&mut self.has_data).then(|| SseEvent {
                name: text(name),
                data: text(data),
            });
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => self.name = value.to_vec(),
            // comments (an empty field name), `id` and `retry`
            _ => {}
        }
        None
    }
}

pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events_of(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut decoder = SseDecoder::default();
        let mut events = Vec::new();
        for piece in pieces {
            decoder.feed(Bytes::copy_from_slice(piece));
            while let Some(event) = decoder.next_event().expect("short enough") {
                events.push((event.name, event.data));
            }
        }
        events
    }

    #[test]
    fn every_cut_gives_the_same_events() {
        let text = "\u{feff}: hello\r\nevent: a\r\ndata: é\r\ndata:語 \r\n\r\ndata\n\nid: 7\n\ndata: x\r\rdata: half".as_bytes();
        let expected = vec![
            ("a".to_owned(), "é\n語 ".to_owned()),
            (String::new(), String::new()),
            (String::new(), "x".to_owned()),
        ];
        assert_eq!(events_of(&[text]), expected);
        for cut in 1..text.len() {
            assert_eq!(
                events_of(&[&text[..cut], &text[cut..]]),
                expected,
                "cut at {cut}"
            );
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(events_of(&bytes), expected);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        assert_eq!(
            events_of(&[b"data: a\xffb\n\n"]),
            [(String::new(), "a\u{fffd}b".to_owned())]
        );
    }

    #[test]
    fn an_event_has_a_limit() {
        let mut decoder = SseDecoder::default();
        let piece = Bytes::from(vec![b'x'; 300_000]);
        let found = (0..4).find_map(|_| {
            decoder.feed(piece.clone());
            decoder.next_event().err()
        });
        assert_eq!(found, Some(TooLong));
        let mut decoder = SseDecoder::default();
        let line = Bytes::from(format!("data: {}\n", "x".repeat(300_000)));
        let found = (0..4).find_map(|_| {
            decoder.feed(line.clone());
            decoder.next_event().err()
        });
        assert_eq!(found, Some(TooLong));
    }
}
