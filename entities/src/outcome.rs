//! What a command may answer besides success: refusals that a caller can act on, and failures that nobody can.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{DbErr, Permission};

/// Why a command did not do what was asked, in a form that a program can act on. Nothing was changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The input is not acceptable.
    #[error("{message}")]
    InvalidInput {
        /// The input field, outermost first: `["input", "name"]`.
        path: Vec<String>,
        /// What is wrong, naming the field, the limit and the value.
        message: String,
        /// The limit that was passed.
        limit: Option<i64>,
        /// The value against it.
        actual: Option<i64>,
    },
    /// There is no such thing, or the caller may not know of it.
    #[error("not found")]
    NotFound {
        /// The input field that named it.
        path: Vec<String>,
        /// The id as it was given.
        id: Option<String>,
    },
    /// It is there, and the caller may not do this with it.
    #[error("not allowed")]
    Forbidden {
        /// The input field that named it.
        path: Vec<String>,
        /// What he would need.
        needs: Option<Permission>,
    },
    /// It contradicts what is there.
    #[error("{message}")]
    Conflict {
        /// The input field at fault.
        path: Vec<String>,
        /// With what.
        message: String,
        /// The thing it contradicts.
        conflicting: Option<Reference>,
    },
    /// Others refer to it.
    #[error("in use")]
    InUse {
        /// The input field that named it.
        path: Vec<String>,
        /// Those that do.
        by: Vec<Reference>,
    },
    /// A limit of the tenant or the installation is reached.
    #[error("{message}")]
    LimitReached {
        /// The input field at fault.
        path: Vec<String>,
        /// Which one.
        message: String,
        /// Its value.
        limit: Option<i64>,
        /// When to try again.
        retry_at: Option<DateTime<Utc>>,
    },
}

/// Points at a thing of any kind: its id's prefix and UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reference {
    /// As in [`crate::AgentId::PREFIX`].
    pub prefix: &'static str,
    /// Its id.
    pub id: Uuid,
}

impl Refusal {
    /// An input field that is not acceptable, without numbers.
    #[must_use]
    pub fn invalid(path: &[&str], message: impl Into<String>) -> Self {
        Self::InvalidInput {
            path: own(path),
            message: message.into(),
            limit: None,
            actual: None,
        }
    }

    /// An input field that passes a limit.
    #[must_use]
    pub fn beyond(path: &[&str], message: impl Into<String>, limit: i64, actual: i64) -> Self {
        Self::InvalidInput {
            path: own(path),
            message: message.into(),
            limit: Some(limit),
            actual: Some(actual),
        }
    }

    /// The thing that an input field names is not there for the caller.
    #[must_use]
    pub fn not_found(path: &[&str], id: impl ToString + Copy) -> Self {
        Self::NotFound {
            path: own(path),
            id: Some(id.to_string()),
        }
    }

    /// The caller lacks a right.
    #[must_use]
    pub fn forbidden(path: &[&str], needs: Option<Permission>) -> Self {
        Self::Forbidden {
            path: own(path),
            needs,
        }
    }

    /// It contradicts what is there.
    #[must_use]
    pub fn conflict(
        path: &[&str],
        message: impl Into<String>,
        conflicting: Option<Reference>,
    ) -> Self {
        Self::Conflict {
            path: own(path),
            message: message.into(),
            conflicting,
        }
    }
}

fn own(path: &[&str]) -> Vec<String> {
    path.iter().map(|&step| step.to_owned()).collect()
}

/// How a command ends that does not succeed. In every case nothing of it was done, but for [`CommandError::Database`] where a
/// COMMIT was cut off: then it is unknown.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The caller can act on these.
    #[error("refused: {0:?}")]
    Refused(Vec<Refusal>),
    /// The credential is bad, ended, or missing where one is needed.
    #[error("not signed in: {0}")]
    Unauthenticated(&'static str),
    /// The credential may not do this at all.
    #[error("forbidden")]
    Forbidden(Option<Permission>),
    /// Too fast.
    #[error("too many attempts; try again in {retry_after:?}")]
    RateLimited {
        /// When to try again.
        retry_after: Duration,
    },
    /// The database failed.
    #[error("failed to use the database")]
    Database(#[from] DbErr),
    /// Something that must not be so.
    #[error("internal: {0}")]
    Internal(String),
}

impl From<Refusal> for CommandError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(vec![refusal])
    }
}
