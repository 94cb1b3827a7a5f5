//! What a model is told: the agent's instructions, the path from the conversation's root to the question, and what this run did
//! so far.

use std::collections::{BTreeMap, HashMap};

use entities::{
    AgentSpec, DbErr, MessageRole, RunId, Snapshot, ToolCallStatus, llm_model, message, query::*,
    run, run_step, tool_call,
};
use providers::{Answer, ChatMessage, ChatRequest};

use crate::start::SYSTEM;

/// Said to a model that has used up its steps.
const CONCLUDE: &str = "You have used all the steps of this run. No tool can be called any more: answer now, with what you have.";

/// The request of the run's next step. Three statements, whatever the length of the conversation.
///
/// # Errors
/// What the database says; a stored answer that can't be read is [`DbErr::Json`].
pub async fn request(
    snapshot: &Snapshot,
    run: &run::Model,
    spec: &AgentSpec,
    model: &llm_model::Model,
) -> Result<ChatRequest, DbErr> {
    let tx = snapshot.tx().await?;
    let path = match run.input_message_id {
        Some(question) => message::Entity::path(&**tx, run.tenant_id, question).await?,
        None => Vec::new(),
    };
    let mut runs: Vec<RunId> = path
        .iter()
        .filter(|row| row.role == MessageRole::Assistant)
        .filter_map(|row| row.run_id)
        .collect();
    runs.push(run.id);
    let steps = run_step::Entity::anywhere(SYSTEM)
        .filter(run_step::Column::RunId.is_in(runs.iter().copied()))
        .order_by_asc(run_step::Column::Number)
        .all(&**tx)
        .await?;
    let calls = tool_call::Entity::anywhere(SYSTEM)
        .filter(tool_call::Column::RunId.is_in(runs.iter().copied()))
        .order_by_asc(tool_call::Column::Position)
        .all(&**tx)
        .await?;
    let mut said = Said::of(steps, calls)?;
    let mut messages = Vec::with_capacity(path.len() + 1);
    for row in path {
        let text = row.parts.text();
        match row.role {
            MessageRole::User | MessageRole::System if !text.is_empty() => {
                messages.push(ChatMessage::User { text });
            }
            MessageRole::User | MessageRole::System => {}
            MessageRole::Assistant => {
                let steps = row
                    .run_id
                    .map(|run| said.take(run, false))
                    .unwrap_or_default();
                // An answer that was broken off within its first step, or whose steps are gone.
                let is_whole = steps.iter().any(
                    |turn| matches!(turn, ChatMessage::Assistant { text, .. } if !text.is_empty()),
                );
                messages.extend(steps);
                if !is_whole && !text.is_empty() {
                    messages.push(ChatMessage::Assistant {
                        text,
                        reasoning: Vec::new(),
                        tool_calls: Vec::new(),
                    });
                }
            }
        }
    }
    messages.extend(said.take(run.id, true));
    let mut system = spec.instructions.clone();
    if run.steps >= spec.max_steps {
        if !system.is_empty() {
            system.push_str("\n\n");
        }
        system.push_str(CONCLUDE);
    }
    Ok(ChatRequest {
        system: (!system.is_empty()).then_some(system),
        messages,
        tools: Vec::new(),
        temperature: spec.temperature,
        max_output_tokens: spec
            .max_output_tokens
            .or(model.max_output_tokens)
            .and_then(|tokens| u32::try_from(tokens).ok()),
        passages: Vec::new(),
    })
}

/// The finished steps of runs, with what came of their tool calls.
struct Said(HashMap<RunId, BTreeMap<i32, (Answer, Vec<tool_call::Model>)>>);

impl Said {
    fn of(steps: Vec<run_step::Model>, calls: Vec<tool_call::Model>) -> Result<Self, DbErr> {
        let mut said: HashMap<RunId, BTreeMap<i32, (Answer, Vec<tool_call::Model>)>> =
            HashMap::new();
        for step in steps {
            let answer = serde_json::from_value(step.answer).map_err(|error| {
                DbErr::Json(format!("step {} of {}: {error}", step.number, step.run_id))
            })?;
            said.entry(step.run_id)
                .or_default()
                .insert(step.number, (answer, Vec::new()));
        }
        for call in calls {
            if let Some((_, calls)) = said
                .get_mut(&call.run_id)
                .and_then(|steps| steps.get_mut(&call.step))
            {
                calls.push(call);
            }
        }
        Ok(Self(said))
    }

    /// The turns of a run. Reasoning is shown to a model again only within the run that it belongs to.
    fn take(&mut self, run: RunId, its_own: bool) -> Vec<ChatMessage> {
        let mut turns = Vec::new();
        for (mut answer, calls) in self.0.remove(&run).unwrap_or_default().into_values() {
            if !its_own {
                answer.reasoning.clear();
            }
            if answer.text.is_empty() && answer.tool_calls.is_empty() {
                continue;
            }
            turns.push(answer.into_message());
            turns.extend(calls.into_iter().map(result));
        }
        turns
    }
}

fn result(call: tool_call::Model) -> ChatMessage {
    let is_error = call.status != ToolCallStatus::Completed;
    let content = match (call.result, call.error_message) {
        (Some(serde_json::Value::String(text)), _) => text,
        (Some(value), _) => value.to_string(),
        (None, Some(message)) => message,
        (None, None) => "the call was cancelled".into(),
    };
    ChatMessage::ToolResult {
        call_id: call.call_id,
        name: call.name,
        content,
        is_error,
    }
}
