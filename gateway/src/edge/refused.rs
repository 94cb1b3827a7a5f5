//! Why something was refused, in the words of the contract's `ErrorCode`.

use std::time::Duration;

use async_graphql::{ErrorExtensionValues, Pos, ServerError, Value};
use axum::http::StatusCode;

/// `ErrorCode` of the contract, as far as a whole request can be refused with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// A bad or ended credential.
    Unauthenticated,
    /// Known, and not allowed.
    Forbidden,
    /// Nothing there.
    NotFound,
    /// The request itself is wrong.
    InvalidInput,
    /// Too fast, or too many at once.
    RateLimited,
    /// More than one request may ask for.
    QueryTooComplex,
    /// Not now; the same request may work later.
    Unavailable,
    /// Took longer than allowed.
    Timeout,
    /// A fault of the server.
    Internal,
}

impl Code {
    /// As the contract spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::InvalidInput => "INVALID_INPUT",
            Self::RateLimited => "RATE_LIMITED",
            Self::QueryTooComplex => "QUERY_TOO_COMPLEX",
            Self::Unavailable => "UNAVAILABLE",
            Self::Timeout => "TIMEOUT",
            Self::Internal => "INTERNAL",
        }
    }

    /// The status of an answer that holds nothing but this refusal.
    pub(super) fn status(self) -> StatusCode {
        Self::status_of(self.as_str())
    }

    /// The same from the text in an error's `extensions.code`; codes of the contract that are not above count as 400.
    pub(super) fn status_of(code: &str) -> StatusCode {
        match code {
            "UNAUTHENTICATED" => StatusCode::UNAUTHORIZED,
            "FORBIDDEN" => StatusCode::FORBIDDEN,
            "NOT_FOUND" => StatusCode::NOT_FOUND,
            "RATE_LIMITED" => StatusCode::TOO_MANY_REQUESTS,
            "UNAVAILABLE" => StatusCode::SERVICE_UNAVAILABLE,
            "TIMEOUT" => StatusCode::GATEWAY_TIMEOUT,
            "INTERNAL" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// A whole request, operation or socket refused. The message is for the client: it holds nothing internal.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// What kind of refusal.
    pub code: Code,
    /// What is wrong, for people.
    pub message: String,
    /// The limit that was hit.
    pub limit: Option<u64>,
    /// The value that was given against it.
    pub actual: Option<u64>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Where in the document.
    pub locations: Vec<Pos>,
}

impl Refused {
    /// A refusal without numbers.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            code,
            message,
            limit: None,
            actual: None,
            retry_after: None,
            locations: Vec::new(),
        }
    }

    /// The request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidInput, message)
    }

    /// Adds the limit and the value against it.
    #[must_use]
    pub fn over(mut self, limit: usize, actual: usize) -> Self {
        self.limit = u64::try_from(limit).ok();
        self.actual = u64::try_from(actual).ok();
        self
    }

    /// Adds when to try again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// As an error of an answer.
    pub fn into_error(self) -> ServerError {
        let mut extensions = ErrorExtensionValues::default();
        extensions.set("code", self.code.as_str());
        if let Some(limit) = self.limit {
            extensions.set("limit", limit);
        }
        if let Some(actual) = self.actual {
            extensions.set("actual", actual);
        }
        if let Some(after) = self.retry_after {
            extensions.set(
                "retryAfterMs",
                u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            );
        }
        let mut error = ServerError::new(self.message, None);
        error.locations = self.locations;
        error.extensions = Some(extensions);
        error
    }
}

/// `extensions.code` of an error.
pub(super) fn code_of(error: &ServerError) -> Option<&str> {
    match error.extensions.as_ref()?.get("code")? {
        Value::String(code) => Some(code),
        Value::Enum(code) => Some(code),
        _ => None,
    }
}
