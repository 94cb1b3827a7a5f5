//! What operators see of runs and of calls of models: spans and numbers, without a word of what was said.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use adapters::{
    meter,
    spans::{self, Origin},
};
use entities::RunId;
use providers::{Answer, ModelError, Provider, TokenUsage};
use tokio::time::Instant;
use tracing::Span;

use crate::models::health;

/// Runs whose request is remembered until they begin.
const REMEMBERED: usize = 10_000;

/// Which requests asked for the runs that wait to be taken up: a hint, in memory alone. Whoever takes up a run that another process
/// was asked for knows nothing of it.
#[derive(Default)]
pub(crate) struct Origins(Mutex<HashMap<RunId, Origin>>);

impl Origins {
    pub(crate) fn remember(&self, run: RunId, origin: Origin) {
        let mut origins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // others took theirs up, or nobody ever will
        if origins.len() >= REMEMBERED {
            origins.clear();
        }
        origins.insert(run, origin);
    }

    pub(crate) fn take(&self, run: RunId) -> Option<Origin> {
        let mut origins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        origins.remove(&run)
    }
}

/// A call of a model: counted, and its span ended, when it is dropped.
pub(crate) struct Call {
    provider: &'static str,
    purpose: &'static str,
    span: Span,
    began: Instant,
    first: Option<Duration>,
    took: Option<Duration>,
    outcome: &'static str,
    has_failed: bool,
}

impl Call {
    /// One that begins now, within the current span. Where it does not come to an end of its own, it was stopped.
    pub(crate) fn begin(provider: Provider, purpose: &'static str) -> Self {
        Self {
            provider: provider.name(),
            purpose,
            span: spans::model_call(provider.name(), purpose),
            began: Instant::now(),
            first: None,
            took: None,
            outcome: "stopped",
            has_failed: false,
        }
    }

    /// One of a run's step.
    pub(crate) fn of_step(provider: Provider, step: i32) -> Self {
        let call = Self::begin(provider, "ANSWER");
        spans::set(&call.span, "weft.step", i64::from(step));
        call
    }

    /// Something was said.
    pub(crate) fn heard(&mut self) {
        if self.first.is_none() {
            self.first = Some(self.began.elapsed());
        }
    }

    /// It came to its end.
    pub(crate) fn succeeded(&mut self) {
        self.took = Some(self.began.elapsed());
        self.outcome = "finished";
    }

    /// It came to its end with this answer.
    pub(crate) fn finished(&mut self, answer: &Answer) {
        self.succeeded();
        if let Some(usage) = answer.usage {
            used(&self.span, usage);
        }
        let calls = i64::try_from(answer.tool_calls.len()).unwrap_or(i64::MAX);
        spans::set(&self.span, "weft.tool_calls", calls);
    }

    /// It was refused, or broke off.
    pub(crate) fn failed(&mut self, error: &ModelError) {
        self.took = Some(self.began.elapsed());
        self.outcome = health::outcome(error);
        self.has_failed = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let took = self.took.unwrap_or_else(|| self.began.elapsed());
        if let Some(first) = self.first {
            let ms = i64::try_from(first.as_millis()).unwrap_or(i64::MAX);
            spans::set(&self.span, "weft.first_token_ms", ms);
        }
        spans::outcome(&self.span, self.outcome, self.has_failed);
        meter::model_call(self.provider, self.purpose, self.outcome, self.first, took);
    }
}

/// What something used, on its span.
pub(crate) fn used(span: &Span, usage: TokenUsage) {
    let whole = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    spans::set(span, "gen_ai.usage.input_tokens", whole(usage.input));
    spans::set(span, "gen_ai.usage.output_tokens", whole(usage.output));
}
