//! Why a run fails, in words for its asker: nothing of the inside, and of a provider's words only what those may read who may
//! change the model.

use entities::{RunError, RunErrorKind, tool_call};
use providers::{ModelError, ModelErrorKind};

pub(crate) fn internal(message: &str) -> RunError {
    RunError {
        kind: RunErrorKind::Internal,
        message: message.into(),
        detail: None,
        retryable: true,
    }
}

pub(crate) fn refusal(call: &tool_call::Model) -> String {
    if call.arguments.is_none() {
        return format!("the arguments of {:?} are not valid JSON", call.name);
    }
    format!("there is no tool named {:?}", call.name)
}

pub(crate) fn too_many_steps() -> RunError {
    RunError {
        kind: RunErrorKind::MaxSteps,
        message: "the model did not come to a conclusion within its steps".into(),
        detail: None,
        retryable: true,
    }
}

pub(crate) fn run_error(error: &ModelError) -> RunError {
    let (kind, message) = match error.kind {
        ModelErrorKind::Timeout(_) => (
            RunErrorKind::ModelTimeout,
            "the model did not answer in time",
        ),
        ModelErrorKind::RateLimited { .. } => (
            RunErrorKind::RateLimited,
            "the provider allows no more requests for now",
        ),
        ModelErrorKind::AddressRefused => (
            RunErrorKind::ModelError,
            "the model's address is not allowed",
        ),
        ModelErrorKind::Unreachable => (
            RunErrorKind::ModelError,
            "the provider could not be reached",
        ),
        ModelErrorKind::Refused => (RunErrorKind::ModelError, "the provider refused the request"),
        ModelErrorKind::ContextTooLong => (
            RunErrorKind::ContextTooLong,
            "the conversation is longer than the model's context window",
        ),
        ModelErrorKind::Unavailable { .. } => {
            (RunErrorKind::ModelError, "the provider is not available")
        }
        ModelErrorKind::BrokenOff => (
            RunErrorKind::ModelError,
            "the provider broke off the answer",
        ),
        ModelErrorKind::Malformed => (
            RunErrorKind::ModelError,
            "the provider's answer could not be understood",
        ),
        ModelErrorKind::Unsupported => (
            RunErrorKind::ModelError,
            "the model cannot be called as it is configured",
        ),
    };
    let retryable = !matches!(
        error.kind,
        ModelErrorKind::AddressRefused
            | ModelErrorKind::Unsupported
            | ModelErrorKind::Refused
            | ModelErrorKind::ContextTooLong
    );
    RunError {
        kind,
        message: message.into(),
        detail: Some(error.message.clone()),
        retryable,
    }
}
