//! What a subscription asks of whoever follows for as long as it lasts, and where he goes on.

use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::Context;
use entities::{CommandError, Permission, Scope};

use crate::scalars::Cursor;

/// The cursor after which a subscription goes on, in the data of a request: the way it came by says so, whatever the document says.
pub struct GoOnAfter(pub String);

/// Where a subscription goes on: what its transport says, else its argument.
pub(crate) fn after<'a>(ctx: &'a Context<'_>, argument: Option<&'a Cursor>) -> Option<&'a str> {
    let given = ctx.data_opt::<GoOnAfter>().map(|after| after.0.as_str());
    given.or_else(|| argument.map(|cursor| cursor.0.as_str()))
}

/// The cursor of the event that a subscription tells at the moment, in the data of a request whose client wants it beside each event.
/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Place(Arc<Mutex<Option<String>>>);

impl Place {
    /// Says it, before the event is answered.
    pub(crate) fn set(&self, cursor: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cursor);
    }

    /// What was said last; `None`: nothing since it was asked.
    #[must_use]
    pub fn taken(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Whether a subscription of this root field goes on where what its asker may do has changed.
///
/// One that says nothing here ends by the loss of any right: its client subscribes again with those that are left.
///
/// # Errors
/// FORBIDDEN.
pub fn goes_on(field: &str, before: &Scope, now: &Scope) -> Result<(), CommandError> {
    let missing = match field {
        "conversationEvents" | "runEvents" => {
            let needed = Permission::ConversationsUse;
            (!now.may(needed)).then_some(Some(needed))
        }
        _ => {
            let lost = before.permissions().iter().find(|&had| !now.may(had));
            lost.map(|_| None)
        }
    };
    match missing {
        Some(needed) => Err(CommandError::Forbidden(needed)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use entities::{Permissions, Principal, Role, SessionId, TenantId, UserId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_not_needed_may_go() {
        let with = |permissions: Permissions| {
            let (tenant, user) = (TenantId(Uuid::nil()), UserId(Uuid::nil()));
            let by = Principal::Session(SessionId(Uuid::nil()));
            Scope::new(tenant, user, Role::Editor, permissions, by)
        };
        let editor = with(Permissions::of(Role::Editor));
        let member = with(Permissions::of(Role::Member));
        let talks = with(Permissions::NONE.with(Permission::ConversationsUse));
        let nothing = with(Permissions::NONE.with(Permission::AgentsUse));
        for field in ["conversationEvents", "runEvents"] {
            assert!(goes_on(field, &editor, &talks).is_ok());
            assert!(matches!(
                goes_on(field, &editor, &nothing),
                Err(CommandError::Forbidden(Some(Permission::ConversationsUse)))
            ));
        }
        for field in ["somethingNew", ""] {
            assert!(goes_on(field, &member, &editor).is_ok());
            assert!(matches!(
                goes_on(field, &editor, &member),
                Err(CommandError::Forbidden(None))
            ));
        }
    }
}
