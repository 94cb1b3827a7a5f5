//! Asking a model for what nobody watches being written: a summary, a title.

use std::time::Duration;

use chrono::{DateTime, Utc};
use entities::{CallPurpose, llm_model, model_call, run};
use futures_util::StreamExt;
use providers::{
    Answer, ChatEvent, ChatRequest, Endpoint, ModelError, ModelErrorKind, TimeoutPhase, TokenUsage,
};
use tokio::time::{Instant, timeout};

use crate::{Engine, models::health, prices::priced};

/// A call that is over.
pub(crate) struct Asked {
    pub(crate) result: Result<Answer, ModelError>,
    began: DateTime<Utc>,
    first: Option<Duration>,
    took: Duration,
    /// Characters received, of whatever kind.
    letters: usize,
}

impl Engine {
    /// Calls a model and waits for its whole answer. Dropping the future breaks the call off.
    pub(crate) async fn hear_out(&self, endpoint: Endpoint, request: ChatRequest) -> Asked {
        self.hear_out_within(endpoint, request, Duration::MAX).await
    }

    /// The same, but not for longer than that.
    pub(crate) async fn hear_out_within(
        &self,
        endpoint: Endpoint,
        request: ChatRequest,
        within: Duration,
    ) -> Asked {
        let began = self.clock().now();
        let clock = Instant::now();
        let mut stream = self.providers().chat(endpoint).stream(request).await;
        let (mut first, mut letters) = (None, 0);
        let result = loop {
            let Some(left) = within.checked_sub(clock.elapsed()) else {
                break Err(late());
            };
            let Ok(next) = timeout(left, stream.next()).await else {
                break Err(late());
            };
            match next {
                Some(Ok(ChatEvent::Finished(answer))) => break Ok(answer),
                Some(Ok(ChatEvent::Text(text) | ChatEvent::Reasoning(text))) => {
                    first = first.or_else(|| Some(clock.elapsed()));
                    letters += text.chars().count();
                }
                Some(Ok(ChatEvent::ToolCall { .. } | ChatEvent::ToolArguments { .. })) => {}
                Some(Err(error)) => break Err(error),
                None => break Err(empty("the model's stream ended without an end")),
            }
        };
        Asked {
            result,
            began,
            first,
            took: clock.elapsed(),
            letters,
        }
    }
}

impl Asked {
    /// What the model said, without the blanks around it; an error where that is nothing.
    pub(crate) fn text(&self) -> Result<&str, ModelError> {
        match &self.result {
            Ok(answer) if answer.text.trim().is_empty() => {
                Err(empty("the model answered with nothing"))
            }
            Ok(answer) => Ok(answer.text.trim()),
            Err(error) => Err(error.clone()),
        }
    }

    /// The call as it is booked.
    pub(crate) fn booked(
        &self,
        engine: &Engine,
        run: &run::Model,
        model: &llm_model::Model,
        currency: &str,
        purpose: CallPurpose,
    ) -> model_call::Model {
        let said = self.result.as_ref().ok().and_then(|answer| answer.usage);
        let usage = said.unwrap_or_else(|| TokenUsage {
            output: self.letters.div_ceil(4) as u64,
            ..TokenUsage::default()
        });
        let millis = |took: Duration| i32::try_from(took.as_millis()).ok();
        model_call::Model {
            id: engine.clock().uuid(),
            tenant_id: run.tenant_id,
            run_id: run.id,
            step: run.steps,
            attempt: run.attempt,
            model_id: model.id,
            purpose,
            usage: priced(model, currency, usage),
            is_estimate: said.is_none() && self.letters > 0,
            outcome: match self.text() {
                Ok(_) => "finished".into(),
                Err(error) => health::outcome(&error).to_owned(),
            },
            latency_ms: self.result.is_ok().then(|| millis(self.took)).flatten(),
            time_to_first_token_ms: self.first.and_then(millis),
            started_at: self.began,
            finished_at: engine.clock().now(),
        }
    }
}

fn late() -> ModelError {
    ModelError {
        kind: ModelErrorKind::Timeout(TimeoutPhase::Gap),
        message: "the answer took too long".into(),
        status: None,
    }
}

fn empty(message: &str) -> ModelError {
    ModelError {
        kind: ModelErrorKind::Malformed,
        message: message.into(),
        status: None,
    }
}
