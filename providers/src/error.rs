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
    /// The HTTP status, where there was an answer; 401 also where a wrong key is answered with another.
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
    /// The request is longer than the model's context window: a shorter one may be answered, by this model or a larger
    /// one. It says nothing about how the model does.
    ContextTooLong,
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
    /// Whether the same call may do better a moment later, provided nothing of the answer was shown yet. One that was
    /// heard out in silence for as long as it may last is not worth as long again: somebody else may answer meanwhile.
    pub fn is_passing(self) -> bool {
        match self {
            Self::Unreachable
            | Self::RateLimited { .. }
            | Self::Unavailable { .. }
            | Self::BrokenOff
            | Self::Timeout(TimeoutPhase::Connect) => true,
            Self::AddressRefused
            | Self::Timeout(TimeoutPhase::FirstToken | TimeoutPhase::Gap)
            | Self::Refused
            | Self::ContextTooLong
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
        let read = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let text = if (300..400).contains(&status) {
            None
        } else {
            text_of_body(body)
        };
        let too_long = || {
            let error = error_of(&read);
            status == 413
                || names_length(&error["code"])
                || names_length(&error["type"])
                || text.as_deref().is_some_and(speaks_of_length)
        };
        let retry_after = retry_after.or_else(|| retry_delay(error_of(&read)));
        // Google's word for a wrong key is that the argument is
        let status = match status {
            400 if names_key(error_of(&read)) => 401,
            _ => status,
        };
        let kind = match status {
            429 => ModelErrorKind::RateLimited { retry_after },
            // some servers say it with a 500
            400.. if too_long() => ModelErrorKind::ContextTooLong,
            500.. => ModelErrorKind::Unavailable { retry_after },
            _ => ModelErrorKind::Refused,
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
        let status = word("status");
        let says = |part: &str| {
            [&kind, &code, &status]
                .iter()
                .any(|word| word.contains(part))
        };
        let message = text_of(error).unwrap_or_else(|| "the provider reports an error".to_owned());
        let retry_after = retry_delay(error);
        let kind = if number == Some(429)
            || ["rate_limit", "ratelimit", "too_many", "resource_exhausted"]
                .iter()
                .any(|p| says(p))
        {
            ModelErrorKind::RateLimited { retry_after }
        } else if names_length(&error["code"])
            || names_length(&error["type"])
            || speaks_of_length(&message)
        {
            ModelErrorKind::ContextTooLong
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
            ModelErrorKind::Unavailable { retry_after }
        } else {
            ModelErrorKind::Refused
        };
        Self {
            kind,
            message,
            status: None,
        }
    }
}

/// The error object of a body; null where there is none.
pub(crate) fn error_of(body: &Value) -> &Value {
    match body {
        Value::Array(items) => items.first().map_or(&Value::Null, |item| &item["error"]),
        body => &body["error"],
    }
}

/// Whether a code or type is one by which a server says that the request exceeds the context window.
fn names_length(word: &Value) -> bool {
    let words = [
        // OpenAI and most that imitate it
        "context_length_exceeded",
        // llama.cpp
        "exceed_context_size_error",
        // Anthropic, for a request that is too large to be read at all
        "request_too_large",
    ];
    word.as_str().is_some_and(|word| words.contains(&word))
}

/// Whether a provider's sentence says that the request exceeds the context window, as most have no code for it.
pub(crate) fn speaks_of_length(text: &str) -> bool {
    // each group of words must occur as a whole; what providers say is in lower case here
    const SENTENCES: &[&[&str]] = &[
        // OpenAI, and with it vLLM, DeepSeek, OpenRouter, Mistral: "This model's maximum context length is 8192 tokens"
        &["maximum context length"],
        &["exceeds the context"],
        // Anthropic: "prompt is too long: 213462 tokens > 200000 maximum"
        &["prompt is too long"],
        // Anthropic: "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"
        &["exceed context limit"],
        // Gemini: "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576)."
        &["token count", "exceeds the maximum"],
        // Ollama: "the input length exceeds the context length"; "prompt too long; exceeded max context length by 5 tokens"
        &["context length", "exceed"],
        // LM Studio: "the number of tokens to keep from the initial prompt is greater than the context length"
        &["greater than the context length"],
        // llama.cpp: "the request exceeds the available context size"
        &["context size", "exceed"],
        // MiniMax: "context window exceeds limit"; Azure: "exceeds the model's context window"
        &["context window", "exceed"],
        // Bedrock: "Input is too long for requested model."
        &["input is too long"],
        // xAI: "This model's maximum prompt length is 131072 but the request contains 537812 tokens"
        &["maximum prompt length"],
        // Groq: "Please reduce the length of the messages or completion."
        &["reduce the length of the messages"],
        // Kimi: "Your request exceeded model token limit: 262144 (requested: 300000)"
        &["exceeded model token limit"],
        // Copilot: "prompt token count of 200000 exceeds the limit of 128000"
        &["prompt token count", "exceeds the limit"],
        // Cohere: "too many tokens: total number of tokens in the prompt cannot exceed 4081"
        &["too many tokens", "cannot exceed"],
    ];
    let text = text.to_lowercase();
    SENTENCES
        .iter()
        .any(|words| words.iter().all(|word| text.contains(word)))
}

/// Whether Google says that the key is wrong: `{"details": [{"@type": "…ErrorInfo", "reason": "API_KEY_INVALID"}]}`.
fn names_key(error: &Value) -> bool {
    let details = error["details"].as_array().into_iter().flatten();
    let mut reasons = details.filter_map(|detail| detail["reason"].as_str());
    reasons.any(|reason| reason.starts_with("API_KEY_"))
}

/// Google's way to say how long to wait: `{"details": [{"@type": "…RetryInfo", "retryDelay": "34s"}]}`.
fn retry_delay(error: &Value) -> Option<Duration> {
    let details = error["details"].as_array()?;
    let delay = details
        .iter()
        .find_map(|detail| detail["retryDelay"].as_str())?;
    let seconds: f64 = delay.trim_end_matches('s').parse().ok()?;
    Duration::try_from_secs_f64(seconds.clamp(0.0, 7.0 * 24.0 * 3600.0)).ok()
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
                429,
                r#"{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED","details":[{"reason":"x"},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.5s"}]}}"#,
                ModelErrorKind::RateLimited {
                    retry_after: Some(Duration::from_millis(34_500)),
                },
                "Quota",
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
    fn what_is_too_long_is_known_by_many_words() {
        for (status, body) in [
            (
                400,
                r#"{"error":{"message":"No","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
            ),
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens. However, your messages resulted in 8545 tokens.","code":null}}"#,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 213462 tokens > 200000 maximum"}}"#,
            ),
            (
                413,
                r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#,
            ),
            (
                400,
                r#"[{"error":{"code":400,"message":"The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}]"#,
            ),
            (
                400,
                r#"{"error":"the input length exceeds the context length"}"#,
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"no","type":"exceed_context_size_error","n_ctx":4096}}"#,
            ),
            (
                500,
                "the request exceeds the available context size, try increasing it",
            ),
            (
                422,
                r#"{"detail":"Input is too long for requested model."}"#,
            ),
            (413, "<html>Request Entity Too Large</html>"),
        ] {
            let error = ModelError::from_status(status, None, body.as_bytes());
            assert_eq!(error.kind, ModelErrorKind::ContextTooLong, "{body}");
            assert!(!error.kind.is_passing());
        }
        let object = r#"{"message":"prompt is too long: 3 tokens > 2 maximum","type":"invalid_request_error"}"#;
        let error = ModelError::from_object(&serde_json::from_str(object).expect("JSON"));
        assert_eq!(error.kind, ModelErrorKind::ContextTooLong);
        for (status, body) in [
            (
                400,
                r#"{"error":{"message":"max_tokens is too large: 40000. This model supports at most 16384 completion tokens"}}"#,
            ),
            (
                400,
                r#"{"error":{"message":"Invalid value for 'context'"}}"#,
            ),
            (401, "the key is too long"),
            (
                429,
                "Too many tokens, please wait before trying again. Limit 30000, Requested 50000",
            ),
            (503, "maximum pending requests exceeded"),
        ] {
            let error = ModelError::from_status(status, None, body.as_bytes());
            assert_ne!(error.kind, ModelErrorKind::ContextTooLong, "{body}");
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
            (
                r#"{"status":"RESOURCE_EXHAUSTED","message":"m"}"#,
                ModelErrorKind::RateLimited { retry_after: None },
            ),
            (
                r#"{"status":"UNAVAILABLE","message":"m"}"#,
                ModelErrorKind::Unavailable { retry_after: None },
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
