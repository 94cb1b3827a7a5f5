//! How a provider is asked: by the operator's own client, within a time and a length.

use std::{error::Error, time::Duration};

use adapters::outbound::{Outbound, Reach, ReadError, read_limited};
use openidconnect::{HttpRequest, HttpResponse};

/// How long an answer may take, from the connection to its last byte.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const LIMIT: usize = 512 * 1024;

/// Why there is no answer to read.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// No connection, or none that lasted.
    #[error("no answer came")]
    NoAnswer(#[source] Box<dyn Error + Send + Sync>),
    /// It says that it can't serve at the moment.
    #[error("it answers with status {0}")]
    Busy(u16),
    /// Too long, or broken off.
    #[error(transparent)]
    Unread(#[from] ReadError),
}

/// Sends a request. Redirects are not followed: what a provider serves, it serves at the addresses that it names.
pub(super) async fn ask(
    outbound: Outbound,
    request: HttpRequest,
) -> Result<HttpResponse, HttpError> {
    let (parts, body) = request.into_parts();
    let answer = outbound
        .client(Reach::Operator)
        .request(parts.method, parts.uri.to_string())
        .headers(parts.headers)
        .body(body)
        .timeout(TIMEOUT)
        .send()
        .await
        .map_err(|error| HttpError::NoAnswer(Box::new(error.without_url())))?;
    let status = answer.status();
    if status.is_server_error() || status.as_u16() == 429 {
        return Err(HttpError::Busy(status.as_u16()));
    }
    let headers = answer.headers().clone();
    let mut response = HttpResponse::new(read_limited(answer, LIMIT).await?.to_vec());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}
