use bytes::{Bytes, BytesMut};

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The body is, or says it is, longer than it may be.
    #[error("answer is longer than {limit} bytes")]
    TooLong {
        /// The most it may be, in bytes.
        limit: usize,
    },
    /// The connection broke off.
    #[error("answer broke off")]
    BrokenOff(#[source] reqwest::Error),
}

/// Reads the body of `response`, at most `limit` bytes of it.
///
/// # Errors
///
/// [`ReadError::TooLong`] as soon as more is announced or has come; [`ReadError::BrokenOff`] where the connection ends early.
/// Neither holds the address.
pub async fn read_limited(
    mut response: reqwest::Response,
    limit: usize,
) -> Result<Bytes, ReadError> {
    let announced = response.content_length();
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(ReadError::TooLong { limit });
    }
    let mut body = BytesMut::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|error| ReadError::BrokenOff(error.without_url()))?
    {
        if piece.len() > limit - body.len() {
            return Err(ReadError::TooLong { limit });
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}
