//! Where in a stream a reader stands, as the opaque text that clients keep.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use uuid::Uuid;

/// The form of the text.
const VERSION: u8 = 1;

/// A place in a stream: after the record of this number. It names its stream and grants nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Of the database; another one means that numbers may mean something else now.
    pub generation: Uuid,
    /// The stream.
    pub stream: Uuid,
    /// The number of the last record that was seen.
    pub seq: i64,
}

/// Why a text is no cursor for the stream at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Not one that this server made, or for another stream.
    #[error("not a cursor of this stream")]
    Invalid,
    /// It was good once: what it points at is gone, or was never written after a restore.
    #[error("the cursor has expired; read the state anew")]
    Expired,
}

impl Cursor {
    /// As text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(41);
        bytes.push(VERSION);
        bytes.extend_from_slice(self.generation.as_bytes());
        bytes.extend_from_slice(self.stream.as_bytes());
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        BASE64.encode(bytes)
    }

    /// From text.
    ///
    /// # Errors
    /// [`CursorError::Invalid`] where it is not of that form.
    pub fn decode(text: &str) -> Result<Self, CursorError> {
        let bytes: [u8; 41] = BASE64
            .decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(CursorError::Invalid)?;
        let (head, rest) = bytes.split_at(17);
        let (stream, seq) = rest.split_at(16);
        let seq = i64::from_be_bytes(seq.try_into().map_err(|_| CursorError::Invalid)?);
        if head[0] != VERSION || seq < 0 {
            return Err(CursorError::Invalid);
        }
        Ok(Self {
            generation: Uuid::from_slice(&head[1..]).map_err(|_| CursorError::Invalid)?,
            stream: Uuid::from_slice(stream).map_err(|_| CursorError::Invalid)?,
            seq,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let cursor = Cursor {
            generation: Uuid::from_u128(1),
            stream: Uuid::from_u128(2),
            seq: 77,
        };
        assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        for text in [
            "",
            "x",
            "AAAA",
            &cursor.encode()[1..],
            &cursor.encode().replace('A', "!"),
            &"A".repeat(55),
        ] {
            assert_eq!(Cursor::decode(text), Err(CursorError::Invalid), "{text}");
        }
    }
}
