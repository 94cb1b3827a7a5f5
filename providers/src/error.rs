//! What can go wrong in a call to a model, and how a provider's own words for it are read.

use std::time::Duration;

use serde_json::Value;

/// Why a call to a model failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// What happened, for those who decide about retries and fallbacks.
    pub kind: ModelErrorKind,
    /// One sentence. The provider's own words where there are any; without URLs, secret values and control
    /// characters, at most 500 characters. For those who may change the model only.
    pub message: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
}

/// The kinds of failure of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelErrorKind {
    /// The address is one that may not be called.
    AddressRefused,
    /// No connection: refused, no such name, or the TLS handshake failed.
    Unreachable,
    /// Silence, in the phase named.
    Timeout(TimeoutPhase),
    /// Status 429, or a rate limit reported within the stream.
    RateLimited {
        /// How long the provider asks to wait, not capped.
        retry_after: Option<Duration>,
    },
    /// The provider refused the request: status 3xx or 4xx, or the like of it within the stream.
    Refused,
    /// Status 5xx, or an overload reported within the stream.
    Unavailable {
        /// How long the provider asks to wait, not capped.
        retry_after: Option<Duration>,
    },
    /// The stream ended before its end marker.
    BrokenOff,
    /// The answer is not what the wire says it should be, or exceeds a limit.
    Malformed,
    /// The endpoint can't be called as it is configured.
    Unsupported,
}

/// Where a call waited in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutPhase {
    /// For the connection.
    Connect,
    /// For the first token.
    FirstToken,
    /// Between tokens.
    Gap,
}

impl ModelErrorKind {
    /// Whether the same call may do better a moment later, provided nothing of the answer was shown yet.
    pub fn is_passing(self) -> bool {
        match self {
            Self::Unreachable
            | Self::RateLimited { .. }
            | Self::Unavailable { .. }
            | Self::BrokenOff
            | Self::Timeout(TimeoutPhase::Connect | TimeoutPhase::FirstToken) => true,
            Self::AddressRefused
            | Self::Timeout(TimeoutPhase::Gap)
            | Self::Refused
            | Self::Malformed
            | Self::Unsupported => false,
        }
    }

    /// How long the provider asked to wait, if it did.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::Unavailable { retry_after } => retry_after,
            _ => None,
        }
    }
}

impl ModelError {
    pub(crate) fn new(kind: ModelErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            status: None,
        }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(ModelErrorKind::Malformed, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ModelErrorKind::Unsupported, message)
    }

    pub(crate) fn broken_off() -> Self {
        Self::new(
            ModelErrorKind::BrokenOff,
            "the provider broke off the answer",
        )
    }

    pub(crate) fn timeout(phase: TimeoutPhase) -> Self {
        let message = match phase {
            TimeoutPhase::Connect => "no connection to the provider in time",
            TimeoutPhase::FirstToken => "no answer from the provider in time",
            TimeoutPhase::Gap => "the provider fell silent within its answer",
        };
        Self::new(ModelErrorKind::Timeout(phase), message)
    }

    /// From an answer whose status is not a success; `body` may be cut off.
    pub(crate) fn from_status(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let kind = match status {
            429 => ModelErrorKind::RateLimited { retry_after },
            500.. => ModelErrorKind::Unavailable { retry_after },
            _ => ModelErrorKind::Refused,
        };
        let text = if (300..400).contains(&status) {
            None
        } else {
            text_of_body(body)
        };
        let message = text.unwrap_or_else(|| match status {
            300..400 => "the provider redirects, which is not followed".to_owned(),
            _ => format!("the provider answered with status {status}"),
        });
        Self {
            kind,
            message,
            status: Some(status),
        }
    }

    /// From an error object within a stream, or in place of one. Its type or code says what the status would have.
    pub(crate) fn from_object(error: &Value) -> Self {
        let word = |key: &str| match &error[key] {
            Value::String(text) => text.to_ascii_lowercase(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let (kind, code) = (word("type"), word("code"));
        let number: Option<u16> = code.parse().ok().or_else(|| word("status").parse().ok());
        let says = |part: &str| kind.contains(part) || code.contains(part);
        let kind =
            if number == Some(429) || says("rate_limit") || says("ratelimit") || says("too_many") {
                ModelErrorKind::RateLimited { retry_after: None }
            } else if number.is_some_and(|code| (500..600).contains(&code))
                || [
                    "overloaded",
                    "server_error",
                    "api_error",
                    "internal",
                    "unavailable",
                    "timeout",
                ]
                .iter()
                .any(|p| says(p))
            {
                ModelErrorKind::Unavailable { retry_after: None }
            } else {
                ModelErrorKind::Refused
            };
        let message = text_of(error).unwrap_or_else(|| "the provider reports an error".to_owned());
        Self {
            kind,
            message,
            status: None,
        }
    }
}

/// The provider's sentence in an error body: JSON in one of its usual shapes, or plain text. Pages of HTML say nothing.
fn text_of_body(body: &[u8]) -> Option<String> {
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        return text_of(&value);
    }
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() || text.starts_with('<') {
        None
    } else {
        Some(text.to_owned())
    }
}

/// `{"error": {"message": …}}`, `{"error": …}`, `{"message": …}`, `{"detail": …}`, or a list with one of them.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        // two levels are all there are; deeper ones are not followed
        Value::Array(items) => items
            .first()
            .filter(|item| item.is_object())
            .and_then(text_of),
        Value::Object(fields) => ["error", "message", "detail"].iter().find_map(|key| {
            let inner = fields.get(*key)?;
            match inner {
                Value::Object(inner) => match inner.get("message") {
                    Some(Value::String(text)) if !text.trim().is_empty() => Some(text.clone()),
                    _ => None,
                },
                Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
                _ => None,
            }
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_many_shapes_are_read() {
        for (status, body, kind, message) in [
            (
                401,
                r#"{"error":{"message":"Bad key","type":"x"}}"#,
                ModelErrorKind::Refused,
                "Bad key",
            ),
            (
                400,
                r#"{"error":"No such model"}"#,
                ModelErrorKind::Refused,
                "No such model",
            ),
            (
                422,
                r#"{"detail":"Too hot"}"#,
                ModelErrorKind::Refused,
                "Too hot",
            ),
            (
                404,
                r#"[{"error":{"message":"Not here"}}]"#,
                ModelErrorKind::Refused,
                "Not here",
            ),
            (
                502,
                "<html>Bad Gateway</html>",
                ModelErrorKind::Unavailable { retry_after: None },
                "the provider answered with status 502",
            ),
            (
                503,
                "busy",
                ModelErrorKind::Unavailable { retry_after: None },
                "busy",
            ),
            (
                429,
                "",
                ModelErrorKind::RateLimited { retry_after: None },
                "the provider answered with status 429",
            ),
            (
                302,
                "moved",
                ModelErrorKind::Refused,
                "the provider redirects, which is not followed",
            ),
        ] {
            let error = ModelError::from_status(status, None, body.as_bytes());
            assert_eq!(
                (error.kind, error.message.as_str(), error.status),
                (kind, message, Some(status))
            );
        }
    }

    #[test]
    fn errors_within_a_stream_are_sorted() {
        for (object, kind) in [
            (
                r#"{"type":"overloaded_error","message":"m"}"#,
                ModelErrorKind::Unavailable { retry_after: None },
            ),
            (
                r#"{"type":"rate_limit_error","message":"m"}"#,
                ModelErrorKind::RateLimited { retry_after: None },
            ),
            (
                r#"{"code":429,"message":"m"}"#,
                ModelErrorKind::RateLimited { retry_after: None },
            ),
            (
                r#"{"code":502,"message":"m"}"#,
                ModelErrorKind::Unavailable { retry_after: None },
            ),
            (
                r#"{"type":"InternalServerError","message":"m"}"#,
                ModelErrorKind::Unavailable { retry_after: None },
            ),
            (
                r#"{"type":"invalid_request_error","message":"m"}"#,
                ModelErrorKind::Refused,
            ),
            (r#""m""#, ModelErrorKind::Refused),
        ] {
            let error = ModelError::from_object(&serde_json::from_str(object).expect("JSON"));
            assert_eq!(
                (error.kind, error.message.as_str()),
                (kind, "m"),
                "{object}"
            );
        }
    }
}
