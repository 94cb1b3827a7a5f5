//! How far whoever asks may go with what belongs to somebody and is shown to some.

use chrono::{DateTime, Utc};
use entities::{Access, Audience, ResourceKind, Scope};

/// [`Scope::access`] to what may be deleted by now: then it is USE, for what used it shows its name.
pub(crate) fn access(
    scope: &Scope,
    kind: ResourceKind,
    audience: &Audience,
    deleted_at: Option<DateTime<Utc>>,
) -> Option<Access> {
    let access = scope.access(kind, audience)?;
    Some(if deleted_at.is_none() {
        access
    } else {
        Access::Use
    })
}
