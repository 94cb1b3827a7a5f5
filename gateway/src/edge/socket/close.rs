//! Why a socket is closed, as its client sees it.

use axum::extract::ws::CloseFrame;

use crate::edge::{Code, Refused};

/// A close code and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closing {
    code: u16,
    reason: String,
}

impl Closing {
    fn new(code: u16, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }

    /// The server ends or restarts: clients come back.
    pub(super) fn restart() -> Self {
        Self::new(1012, "Service Restart")
    }

    /// Nothing was heard for too long.
    pub(super) fn silent() -> Self {
        Self::new(1001, "No answer to pings")
    }

    pub(super) fn too_big() -> Self {
        Self::new(1009, "Message too big")
    }

    pub(super) fn not_text() -> Self {
        Self::new(1007, "Not UTF-8")
    }

    pub(super) fn invalid(what: impl std::fmt::Display) -> Self {
        Self::new(4400, format!("Invalid message: {what}"))
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(4401, "Unauthorized")
    }

    pub(super) fn forbidden(reason: impl Into<String>) -> Self {
        Self::new(4403, reason)
    }

    pub(super) fn no_protocol() -> Self {
        Self::new(4406, "Subprotocol not acceptable")
    }

    pub(super) fn init_timeout() -> Self {
        Self::new(4408, "Connection initialisation timeout")
    }

    pub(super) fn subscriber_exists(id: &str) -> Self {
        Self::new(4409, format!("Subscriber for {id} already exists"))
    }

    pub(super) fn too_many_inits() -> Self {
        Self::new(4429, "Too many initialisation requests")
    }

    pub(super) fn too_many_sockets() -> Self {
        Self::new(4429, "Too many connections")
    }

    /// A credential that wasn't accepted; or that could not be looked at now, which clients may try again.
    pub(super) fn refused(refused: &Refused) -> Self {
        match refused.code {
            Code::Unavailable | Code::Timeout | Code::Internal => {
                Self::new(1013, refused.message.clone())
            }
            Code::RateLimited => Self::new(4429, refused.message.clone()),
            _ => Self::forbidden(refused.message.clone()),
        }
    }

    /// As a frame: a reason has at most 123 bytes (RFC 6455, 5.5).
    pub(super) fn frame(&self) -> CloseFrame {
        let end = (0..=self.reason.len().min(123))
            .rev()
            .find(|end| self.reason.is_char_boundary(*end));
        CloseFrame {
            code: self.code,
            reason: self.reason[..end.unwrap_or(0)].into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_its_frame() {
        let frame = Closing::subscriber_exists(&"ä".repeat(100)).frame();
        assert!(frame.reason.len() <= 123 && frame.reason.starts_with("Subscriber for ä"));
    }
}
