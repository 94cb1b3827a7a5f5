//! Refusals and failures as clients see them: what they can act on in the payloads, the rest in `errors` with a code.

use async_graphql::{
    ComplexObject, Context, Enum, ErrorExtensionValues, ID, Interface, Result, ServerError,
    SimpleObject, plain_abstract, resolver_utils::enum_value,
};
use entities::{
    CommandError, DbErr, Reference, Refusal,
    db::{Failure, failure},
};
use events::CursorError;
use loaders::LoadError;

use crate::{
    identity::Permission,
    node::{self, Node},
    scalars::{DateTime, Long},
};

/// What kind of thing went wrong, in `UserError.code` and in `extensions.code` of every error. More may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum ErrorCode {
    /// The credential is missing, wrong, ended or run out.
    Unauthenticated,
    /// Known, and not allowed to do this.
    Forbidden,
    /// There is no such thing, or whoever asks may not know of it.
    NotFound,
    /// The request or an input value is not acceptable.
    InvalidInput,
    /// It contradicts what is there.
    Conflict,
    /// Others refer to it.
    InUse,
    /// Too fast, or too many at once; the same may work later: `extensions.retryAfterMs` says when, where that is known.
    RateLimited,
    /// A budget or a limit of the tenant is used up.
    QuotaExceeded,
    /// It asks for more than one request may: see `ServiceLimits`. The error says the limit and the value.
    QueryTooComplex,
    /// What a cursor of a log points at is gone: read the state anew and go on from its cursor.
    CursorExpired,
    /// Not now; the same request may work later.
    Unavailable,
    /// It took longer than allowed.
    Timeout,
    /// A fault of the server. Quote `extensions.requestId` to whoever runs it.
    Internal,
}

/// Why a mutation did not do what was asked, in a form that a program can act on. Nothing of it was done.
#[derive(Debug, Interface)]
#[graphql(
    crate = "user_error_gql",
    field(
        name = "code",
        ty = "&ErrorCode",
        desc = "What kind of reason it is, for programs."
    ),
    field(
        name = "message",
        ty = "&String",
        desc = "The reason for people, in English."
    ),
    field(
        name = "path",
        ty = "&Option<Vec<String>>",
        desc = "The input field at fault, outermost first, as `[\"input\", \"starters\", \"0\"]`; null where it is about no \
                single one."
    )
)]
pub enum UserError {
    /// The input is not acceptable.
    InvalidInput(InvalidInput),
    /// There is no such thing.
    NotFound(NotFound),
    /// It may not be done.
    Forbidden(Forbidden),
    /// It contradicts what is there.
    Conflict(Conflict),
    /// Others refer to it.
    InUse(InUse),
    /// A limit is reached.
    LimitReached(LimitReached),
}

plain_abstract!(UserError as user_error_gql { InvalidInput, NotFound, Forbidden, Conflict, InUse, LimitReached });

macro_rules! user_errors {
    ($($(#[$doc:meta])* $name:ident $(($complex:ident))? { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, SimpleObject)]
        $(#[graphql($complex)])?
        pub struct $name {
            /// What kind of reason it is, for programs.
            pub code: ErrorCode,
            /// The reason for people, in English.
            pub message: String,
            /// The input field at fault, outermost first, as `["input", "starters", "0"]`; null where it is about no single one.
            pub path: Option<Vec<String>>,
            $($(#[$field_doc])* pub $field: $ty,)*
        }
    )*};
}

user_errors! {
    /// An input value is not acceptable.
    InvalidInput {
        /// The limit that was passed, in the unit of `actual`; null where it is about no number.
        limit: Option<Long>,
        /// What was given, as it counts against `limit`: a number of characters, bytes or entries, or the number itself.
        actual: Option<Long>,
    }
    /// What the input names is not there, or whoever asks may not know of it.
    NotFound {
        /// The id as it was given.
        id: Option<ID>,
    }
    /// It is there, and may not be changed so by whoever asks.
    Forbidden {
        /// The permission that is missing, where one would be enough.
        needs: Option<Permission>,
    }
    /// It contradicts what is there.
    Conflict(complex) {
        /// See `conflicting`.
        #[graphql(skip)]
        with: Option<Reference>,
    }
    /// Others refer to it.
    InUse(complex) {
        /// See `by`.
        #[graphql(skip)]
        referrers: Vec<Reference>,
    }
    /// A limit of the tenant or of the installation is reached.
    LimitReached {
        /// The limit that is reached; null where it has no number.
        limit: Option<Long>,
        /// When to try again; null where waiting does not help.
        retry_at: Option<DateTime>,
    }
}

#[ComplexObject]
impl Conflict {
    /// What it contradicts; null when the viewer may not see it.
    async fn conflicting(&self, ctx: &Context<'_>) -> Result<Option<Node>> {
        match self.with {
            Some(reference) => Ok(node::find(ctx, reference.prefix, reference.id).await?),
            None => Ok(None),
        }
    }
}

#[ComplexObject]
impl InUse {
    /// Those that refer to it and that the viewer may see.
    async fn by(&self, ctx: &Context<'_>) -> Result<Vec<Node>> {
        let found = self
            .referrers
            .iter()
            .map(|reference| node::find(ctx, reference.prefix, reference.id));
        Ok(futures_util::future::try_join_all(found)
            .await?
            .into_iter()
            .flatten()
            .collect())
    }
}

/// The codes of why something was refused, for the audit log; none where it failed for a reason of ours.
#[must_use]
pub fn codes(error: &CommandError) -> Vec<&'static str> {
    let of = |refusal: &Refusal| match refusal {
        Refusal::InvalidInput { .. } => "INVALID_INPUT",
        Refusal::NotFound { .. } => "NOT_FOUND",
        Refusal::Forbidden { .. } => "FORBIDDEN",
        Refusal::Conflict { .. } => "CONFLICT",
        Refusal::InUse { .. } => "IN_USE",
        Refusal::LimitReached { .. } => "QUOTA_EXCEEDED",
    };
    match error {
        CommandError::Refused(refusals) => {
            let mut codes: Vec<_> = refusals.iter().map(of).collect();
            codes.dedup();
            codes
        }
        CommandError::Unauthenticated(_) => vec!["UNAUTHENTICATED"],
        CommandError::Forbidden(_) => vec!["FORBIDDEN"],
        CommandError::RateLimited { .. } => vec!["RATE_LIMITED"],
        CommandError::Database(_) | CommandError::Internal(_) => Vec::new(),
    }
}

impl From<Refusal> for UserError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let some = |path: Vec<String>| (!path.is_empty()).then_some(path);
        match refusal {
            Refusal::InvalidInput {
                path,
                limit,
                actual,
                ..
            } => Self::InvalidInput(InvalidInput {
                code: ErrorCode::InvalidInput,
                message,
                path: some(path),
                limit: limit.map(Long),
                actual: actual.map(Long),
            }),
            Refusal::NotFound { path, id } => Self::NotFound(NotFound {
                code: ErrorCode::NotFound,
                message,
                path: some(path),
                id: id.map(ID),
            }),
            Refusal::Forbidden { path, needs } => Self::Forbidden(Forbidden {
                code: ErrorCode::Forbidden,
                message,
                path: some(path),
                needs: needs.map(Permission::from),
            }),
            Refusal::Conflict {
                path, conflicting, ..
            } => Self::Conflict(Conflict {
                code: ErrorCode::Conflict,
                message,
                path: some(path),
                with: conflicting,
            }),
            Refusal::InUse { path, by } => Self::InUse(InUse {
                code: ErrorCode::InUse,
                message,
                path: some(path),
                referrers: by,
            }),
            Refusal::LimitReached {
                path,
                limit,
                retry_at,
                ..
            } => Self::LimitReached(LimitReached {
                code: ErrorCode::QuotaExceeded,
                message,
                path: some(path),
                limit: limit.map(Long),
                retry_at: retry_at.map(DateTime),
            }),
        }
    }
}

/// Gives an error that came of a resolver's `?` its code, and takes from it what must not reach a client: the cause is logged
/// here, in the span of the request. Errors that have a code already stay as they are.
pub fn describe(error: &mut ServerError) {
    let Some(source) = error.source.take() else {
        return;
    };
    let mut extensions = error.extensions.take().unwrap_or_default();
    let set = &mut extensions;
    let (code, message) = if let Some(failed) = source.downcast_ref::<CommandError>() {
        command(failed, set)
    } else if let Some(refusal) = source.downcast_ref::<Refusal>() {
        refused(refusal, set)
    } else if let Some(failed) = source.downcast_ref::<LoadError>() {
        match failed {
            LoadError::Database(cause) => database(cause),
            LoadError::Panicked(_) => internal(failed),
        }
    } else if let Some(failed) = source.downcast_ref::<DbErr>() {
        database(failed)
    } else if let Some(wrong) = source.downcast_ref::<CursorError>() {
        match wrong {
            CursorError::Invalid => (ErrorCode::InvalidInput, wrong.to_string()),
            CursorError::Expired => (ErrorCode::CursorExpired, wrong.to_string()),
        }
    } else {
        tracing::error!(error = %error.message.escape_debug(), "a field failed");
        (ErrorCode::Internal, INTERNAL.to_owned())
    };
    set.set("code", enum_value(code));
    error.message = message;
    error.extensions = Some(extensions);
}

/// What a client is told of what is not its matter.
const INTERNAL: &str = "internal error";

fn command(failed: &CommandError, set: &mut ErrorExtensionValues) -> (ErrorCode, String) {
    match failed {
        CommandError::Refused(refusals) => match refusals.first() {
            Some(first) => refused(first, set),
            None => internal(failed),
        },
        CommandError::Unauthenticated(why) => (ErrorCode::Unauthenticated, (*why).to_owned()),
        CommandError::Forbidden(needs) => {
            if let Some(needs) = needs {
                set.set("needs", enum_value(Permission::from(*needs)));
            }
            (
                ErrorCode::Forbidden,
                "this credential may not do this".to_owned(),
            )
        }
        CommandError::RateLimited { retry_after } => {
            set.set(
                "retryAfterMs",
                u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
            );
            (ErrorCode::RateLimited, "too many attempts".to_owned())
        }
        CommandError::Database(cause) => database(cause),
        CommandError::Internal(_) => internal(failed),
    }
}

fn refused(refusal: &Refusal, set: &mut ErrorExtensionValues) -> (ErrorCode, String) {
    let code = match refusal {
        Refusal::InvalidInput { limit, actual, .. } => {
            for (name, value) in [("limit", limit), ("actual", actual)] {
                if let Some(value) = value {
                    set.set(name, *value);
                }
            }
            ErrorCode::InvalidInput
        }
        Refusal::NotFound { .. } => ErrorCode::NotFound,
        Refusal::Forbidden { .. } => ErrorCode::Forbidden,
        Refusal::Conflict { .. } => ErrorCode::Conflict,
        Refusal::InUse { .. } => ErrorCode::InUse,
        Refusal::LimitReached { .. } => ErrorCode::QuotaExceeded,
    };
    (code, refusal.to_string())
}

fn database(cause: &DbErr) -> (ErrorCode, String) {
    tracing::error!(
        error = cause as &dyn std::error::Error,
        "the database failed"
    );
    match failure(cause) {
        Failure::Transient => (
            ErrorCode::Unavailable,
            "the database can't be used at the moment".to_owned(),
        ),
        Failure::Taken | Failure::Permanent => (ErrorCode::Internal, INTERNAL.to_owned()),
    }
}

fn internal(failed: &(dyn std::error::Error + 'static)) -> (ErrorCode, String) {
    tracing::error!(error = failed, "a fault of ours");
    (ErrorCode::Internal, INTERNAL.to_owned())
}

/// A source as resolvers make one by `?`.
#[cfg(test)]
fn of<T: std::fmt::Display + Send + Sync + 'static>(cause: T) -> ServerError {
    async_graphql::Error::from(cause).into_server_error(async_graphql::Pos::default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_graphql::Value;

    use super::*;

    fn told(mut error: ServerError) -> (String, String, Value) {
        describe(&mut error);
        assert!(error.source.is_none());
        let extensions = error.extensions.unwrap();
        let code = match extensions.get("code") {
            Some(Value::Enum(code)) => code.to_string(),
            other => panic!("{other:?}"),
        };
        let number = ["retryAfterMs", "actual", "needs"]
            .iter()
            .find_map(|name| extensions.get(name))
            .cloned();
        (code, error.message, number.unwrap_or_default())
    }

    #[test]
    fn causes_get_their_code_and_keep_their_text() {
        let secret = || DbErr::Custom("select password from users".to_owned());
        let cases = [
            (
                of(CommandError::Unauthenticated("no")),
                "UNAUTHENTICATED",
                "no",
                Value::Null,
            ),
            (
                of(CommandError::Forbidden(Some(
                    entities::Permission::AgentsEdit,
                ))),
                "FORBIDDEN",
                "this credential may not do this",
                Value::Enum(async_graphql::Name::new("AGENTS_EDIT")),
            ),
            (
                of(CommandError::RateLimited {
                    retry_after: Duration::from_millis(1500),
                }),
                "RATE_LIMITED",
                "too many attempts",
                1500.into(),
            ),
            (
                of(CommandError::from(secret())),
                "INTERNAL",
                INTERNAL,
                Value::Null,
            ),
            (
                of(CommandError::Internal("secret".to_owned())),
                "INTERNAL",
                INTERNAL,
                Value::Null,
            ),
            (
                of(CommandError::from(Refusal::beyond(
                    &["first"],
                    "too many",
                    100,
                    101,
                ))),
                "INVALID_INPUT",
                "too many",
                101.into(),
            ),
            (
                of(Refusal::not_found(&["id"], "x")),
                "NOT_FOUND",
                "not found",
                Value::Null,
            ),
            (
                of(LoadError::from(secret())),
                "INTERNAL",
                INTERNAL,
                Value::Null,
            ),
            (of(secret()), "INTERNAL", INTERNAL, Value::Null),
            (
                of(CursorError::Expired),
                "CURSOR_EXPIRED",
                "the cursor has expired; read the state anew",
                Value::Null,
            ),
            (
                of(std::io::Error::other("secret")),
                "INTERNAL",
                INTERNAL,
                Value::Null,
            ),
        ];
        for (error, code, message, number) in cases {
            let was = format!("{error:?}");
            assert_eq!(
                told(error),
                (code.to_owned(), message.to_owned(), number),
                "{was}"
            );
        }
    }

    #[test]
    fn what_has_no_cause_stays() {
        let mut error = ServerError::new("unknown field", None);
        describe(&mut error);
        assert_eq!(
            (error.message.as_str(), error.extensions.is_none()),
            ("unknown field", true)
        );
    }
}
