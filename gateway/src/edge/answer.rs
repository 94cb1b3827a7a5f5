//! Answers as bytes: every error with its code and the request's id.

use adapters::meter;
use async_graphql::{ErrorExtensionValues, Response, ServerError, Value};

use super::{Code, Refused, refused::code_of};

/// An answer ready to be sent.
#[derive(Debug)]
pub(super) struct Answer {
    /// `{"data": …}` or `{"errors": …}`.
    pub(super) json: Vec<u8>,
    /// The errors alone, as a JSON list, where nothing ran: the `error` message of the WebSocket protocol.
    pub(super) request_errors: Option<Vec<u8>>,
    /// `extensions.code` of the first error where nothing ran.
    pub(super) code: Option<String>,
    /// The first error's `retryAfterMs`.
    pub(super) retry_after_ms: Option<u64>,
}

impl Answer {
    /// Of a query or mutation.
    pub(super) fn of(response: Response, request_id: &str) -> Self {
        let refused = async_graphql::refused(&response);
        Self::made(response, refused, request_id)
    }

    /// Of a subscription: an error of its root field is no event. Either there is no stream of events, or it ends by it; the
    /// protocol has a message for both.
    pub(super) fn of_event(response: Response, request_id: &str) -> Self {
        let refused = response.data == Value::Null
            && !response.errors.is_empty()
            && response.errors.iter().all(|error| error.path.len() <= 1);
        Self::made(response, refused, request_id)
    }

    fn made(mut response: Response, refused: bool, request_id: &str) -> Self {
        for error in &mut response.errors {
            complete(error, request_id);
        }
        let json = async_graphql::to_json(&response);
        if !refused {
            return Self {
                json,
                request_errors: None,
                code: None,
                retry_after_ms: None,
            };
        }
        let first = &response.errors[0];
        let retry_after_ms = match first
            .extensions
            .as_ref()
            .and_then(|extensions| extensions.get("retryAfterMs"))
        {
            Some(Value::Number(ms)) => ms.as_u64(),
            _ => None,
        };
        let code = code_of(first).map(str::to_owned);
        let errors =
            serde_json::to_vec(&response.errors).expect("errors are maps with keys of text");
        Self {
            json,
            request_errors: Some(errors),
            code,
            retry_after_ms,
        }
    }

    pub(super) fn refused(refused: Refused, request_id: &str) -> Self {
        Self::of(
            Response::from_errors(vec![refused.into_error()]),
            request_id,
        )
    }
}

/// Adds what each error has: a code, and the id to quote. A foreign error's text stays here.
fn complete(error: &mut ServerError, request_id: &str) {
    if code_of(error).is_none() {
        let code = if error.source.is_some() {
            Code::Internal
        } else {
            Code::InvalidInput
        };
        if code == Code::Internal {
            tracing::error!(message = %error.message.escape_debug(), "an error without a code");
            error.message = "internal error".to_owned();
        }
        error
            .extensions
            .get_or_insert_default()
            .set("code", code.as_str());
    }
    meter::error(code_of(error).unwrap_or_default());
    let extensions: &mut ErrorExtensionValues = error.extensions.get_or_insert_default();
    extensions.set("requestId", request_id);
}
