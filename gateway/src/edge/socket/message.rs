//! The messages of the protocol.

use serde_json::{Map, Value};

use crate::edge::request::Asked;

/// Bytes of an operation's id.
const MAX_ID_BYTES: usize = 256;

/// What a client sends.
#[derive(Debug)]
pub(super) enum Incoming {
    Init(Map<String, Value>),
    Ping(Map<String, Value>),
    Pong,
    Subscribe { id: String, asked: Box<Asked> },
    Complete { id: String },
}

impl Incoming {
    /// # Errors
    /// What is wrong with the message, for the reason of a 4400.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let value = serde_json::from_str(text).map_err(|_| "not JSON".to_owned())?;
        let Value::Object(mut fields) = value else {
            return Err("not an object".to_owned());
        };
        let Some(Value::String(kind)) = fields.remove("type") else {
            return Err("`type` must be a string".to_owned());
        };
        let mut payload = |required: bool| match fields.remove("payload") {
            None | Some(Value::Null) if !required => Ok(Map::new()),
            Some(Value::Object(payload)) => Ok(payload),
            _ => Err("`payload` must be an object".to_owned()),
        };
        match kind.as_str() {
            "connection_init" => Ok(Self::Init(payload(false)?)),
            "ping" => Ok(Self::Ping(payload(false)?)),
            "pong" => payload(false).map(|_| Self::Pong),
            "subscribe" => {
                let payload = payload(true)?;
                let asked =
                    Asked::from_value(Value::Object(payload)).map_err(|refused| refused.message)?;
                Ok(Self::Subscribe {
                    id: id(&mut fields)?,
                    asked: Box::new(asked),
                })
            }
            "complete" => Ok(Self::Complete {
                id: id(&mut fields)?,
            }),
            _ => Err("unknown `type`".to_owned()),
        }
    }
}

fn id(fields: &mut Map<String, Value>) -> Result<String, String> {
    match fields.remove("id") {
        Some(Value::String(id)) if (1..=MAX_ID_BYTES).contains(&id.len()) => Ok(id),
        _ => Err(format!(
            "`id` must be a string of 1 to {MAX_ID_BYTES} bytes"
        )),
    }
}

/// A message without an operation.
pub(super) fn plain(kind: &str) -> String {
    format!("{{\"type\":\"{kind}\"}}")
}

/// A message of an operation, its payload JSON already.
pub(super) fn about(id: &str, kind: &str, payload: Option<&[u8]>) -> String {
    let id = serde_json::to_string(id).expect("a string is plain data");
    let payload = payload.map(|payload| std::str::from_utf8(payload).expect("JSON is UTF-8"));
    match payload {
        Some(payload) => format!("{{\"id\":{id},\"type\":\"{kind}\",\"payload\":{payload}}}"),
        None => format!("{{\"id\":{id},\"type\":\"{kind}\"}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_message_is_told() {
        let cases = [
            ("", "not JSON"),
            ("[]", "not an object"),
            ("{}", "`type`"),
            (r#"{"type": 5}"#, "`type`"),
            (r#"{"type": "start"}"#, "unknown `type`"),
            (r#"{"type": "connection_init", "payload": 5}"#, "`payload`"),
            (r#"{"type": "ping", "payload": []}"#, "`payload`"),
            (r#"{"type": "subscribe", "id": "1"}"#, "`payload`"),
            (
                r#"{"type": "subscribe", "payload": {"query": "{a}"}}"#,
                "`id`",
            ),
            (
                r#"{"type": "subscribe", "id": "", "payload": {"query": "{a}"}}"#,
                "`id`",
            ),
            (
                r#"{"type": "subscribe", "id": 1, "payload": {"query": "{a}"}}"#,
                "`id`",
            ),
            (
                r#"{"type": "subscribe", "id": "1", "payload": {"query": 1}}"#,
                "`query`",
            ),
            (
                r#"{"type": "subscribe", "id": "1", "payload": {"query": "{a}", "variables": 1}}"#,
                "`variables`",
            ),
            (r#"{"type": "complete"}"#, "`id`"),
        ];
        for (text, expected) in cases {
            let error = Incoming::read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
