//! Asking a model for what nobody watches being written: a summary, a title.

use std::time::Duration;

use chrono::{DateTime, Utc};
use entities::{CallPurpose, Part, llm_model, model_call, run};
use futures_util::StreamExt;
use providers::{
    Answer, ChatEvent, ChatRequest, Endpoint, ModelError, ModelErrorKind, TimeoutPhase, TokenUsage,
    tokens::TokenCounter,
};
use tokio::time::{Instant, timeout};

use crate::{Engine, heard::Heard, models::health, prices::priced, watched::Call};

/// A call that is over.
pub(crate) struct Asked {
    pub(crate) result: Result<Answer, ModelError>,
    began: DateTime<Utc>,
    first: Option<Duration>,
    took: Duration,
    used: TokenUsage,
    /// The provider did not say.
    is_estimate: bool,
}

/// What a model said, to be counted.
#[derive(Debug, Default)]
pub(crate) struct Said {
    texts: Vec<String>,
    thoughts: Vec<String>,
    /// Tokens of what is not at hand any more.
    more: u64,
}

impl Said {
    /// Of an answer that came to its end.
    pub(crate) fn of(answer: &Answer) -> Self {
        let calls = answer.tool_calls.iter();
        let calls = calls.flat_map(|call| [call.name.clone(), call.arguments.clone()]);
        Self {
            texts: calls.chain([answer.text.clone()]).collect(),
            thoughts: answer
                .reasoning
                .iter()
                .map(|thought| thought.text.clone())
                .collect(),
            more: 0,
        }
    }

    /// Of one that was broken off. The arguments of its calls are written down elsewhere; they are taken for four letters to a
    /// token.
    pub(crate) fn of_parts(heard: &Heard) -> Self {
        let mut said = Self::default();
        for part in &heard.parts {
            match part {
                Part::Text { text } => said.texts.push(text.clone()),
                Part::Reasoning { text } => said.thoughts.push(text.clone()),
                _ => {}
            }
        }
        let arguments = heard.calls.values();
        said.more = arguments
            .map(|(_, length)| u64::from(length.div_ceil(4)))
            .sum();
        said
    }
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
        let counter = TokenCounter::of(endpoint.provider, &endpoint.model_name);
        let told = request.clone();
        let began = self.clock().now();
        let clock = Instant::now();
        let mut call = Call::begin(endpoint.provider, "OTHER");
        let mut stream = self.providers().chat(endpoint).stream(request).await;
        let (mut first, mut said) = (None, Said::default());
        let result = loop {
            let Some(left) = within.checked_sub(clock.elapsed()) else {
                break Err(late());
            };
            let Ok(next) = timeout(left, stream.next()).await else {
                break Err(late());
            };
            match next {
                Some(Ok(ChatEvent::Finished(answer))) => break Ok(answer),
                Some(Ok(ChatEvent::Text(text))) => {
                    call.heard();
                    first = first.or_else(|| Some(clock.elapsed()));
                    joined(&mut said.texts, text);
                }
                Some(Ok(ChatEvent::Reasoning(text))) => {
                    call.heard();
                    first = first.or_else(|| Some(clock.elapsed()));
                    joined(&mut said.thoughts, text);
                }
                Some(Ok(ChatEvent::ToolCall { .. } | ChatEvent::ToolArguments { .. })) => {}
                Some(Err(error)) => break Err(error),
                None => break Err(empty("the model's stream ended without an end")),
            }
        };
        let took = clock.elapsed();
        match &result {
            Ok(answer) => call.finished(answer),
            Err(error) => call.failed(error),
        }
        drop((stream, call));
        let (used, is_estimate) = match &result {
            Ok(Answer {
                usage: Some(used), ..
            }) => (*used, false),
            Ok(answer) => (self.estimate(counter, told, Said::of(answer)).await, true),
            Err(_) if first.is_some() => (self.estimate(counter, told, said).await, true),
            // Whoever said nothing charges nothing.
            Err(_) => (TokenUsage::default(), false),
        };
        Asked {
            result,
            began,
            first,
            took,
            used,
            is_estimate,
        }
    }

    /// What a call took whose provider does not say, counted as the model counts, away from the threads that serve.
    pub(crate) async fn estimate(
        &self,
        counter: TokenCounter,
        told: ChatRequest,
        said: Said,
    ) -> TokenUsage {
        let counted = self
            .log()
            .tasks()
            .spawn_blocking("estimating what a call took", move || {
                let sum = |texts: &[String]| counter.count_each(texts).iter().sum::<u64>();
                let reasoning = sum(&said.thoughts);
                TokenUsage {
                    input: counter.weigh(&told).total(),
                    output: sum(&said.texts) + reasoning + said.more,
                    cached_input: 0,
                    reasoning,
                }
            });
        counted.await.unwrap_or_default()
    }
}

/// Pieces of one text are one text.
fn joined(texts: &mut Vec<String>, piece: String) {
    match texts.last_mut() {
        Some(text) => text.push_str(&piece),
        None => texts.push(piece),
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
        let millis = |took: Duration| i32::try_from(took.as_millis()).ok();
        model_call::Model {
            id: engine.clock().uuid(),
            tenant_id: run.tenant_id,
            run_id: run.id,
            step: run.steps,
            attempt: run.attempt,
            model_id: model.id,
            purpose,
            usage: priced(model, currency, self.used),
            is_estimate: self.is_estimate,
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

pub(crate) fn late() -> ModelError {
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
