//! What a run's model is told: the agent's instructions, the path from the conversation's root to the question, and what this run
//! did so far. What a summary stands for is told by the summary, in its place.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use entities::{
    AgentSpec, DbErr, MessageId, MessageRole, ModelId, RunId, Snapshot, ToolCallStatus, llm_model,
    message, query::*, run, run_step, tool_call,
};
use providers::{Answer, ChatMessage, ChatRequest};

use crate::start::SYSTEM;

/// Said to a model that has used up its steps.
const CONCLUDE: &str = "You have used all the steps of this run. No tool can be called any more: answer now, with what you have.";
/// What stands before a summary.
const SO_FAR: &str = "Summary of the conversation so far: ";

/// What a model is told in a step.
pub(crate) struct Told {
    pub(crate) request: ChatRequest,
    /// What stands before the question, oldest first; the messages after them are the question and what the run did so far.
    pub(crate) before: Vec<Section>,
}

/// A turn of the conversation, or a summary of some.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Section {
    /// The first message of the path that it tells of.
    pub(crate) from: MessageId,
    /// And the last.
    pub(crate) through: MessageId,
    /// The text of a summary; absent: a turn.
    pub(crate) summary: Option<String>,
    /// The messages of the request that it is.
    pub(crate) messages: Range<usize>,
}

/// A summary as a model is told it.
pub(crate) fn summarised(text: &str) -> ChatMessage {
    ChatMessage::User {
        text: format!("{SO_FAR}{text}"),
    }
}

impl Told {
    /// As it stands before a run's next step. Three statements, whatever the length of the conversation.
    ///
    /// # Errors
    /// What the database says; a stored answer that can't be read is [`DbErr::Json`].
    pub(crate) async fn read(
        snapshot: &Snapshot,
        run: &run::Model,
        spec: &AgentSpec,
        model: &llm_model::Model,
    ) -> Result<Self, DbErr> {
        let tx = snapshot.tx().await?;
        let mut path = match run.input_message_id {
            Some(question) => message::Entity::path(&**tx, run.tenant_id, question).await?,
            None => Vec::new(),
        };
        let question = path.pop();
        let spans = spans(&path);
        let is_told = |place: usize| !spans.iter().any(|span| span.has(place));
        let mut runs: Vec<RunId> = path
            .iter()
            .enumerate()
            .filter(|(place, row)| row.role == MessageRole::Assistant && is_told(*place))
            .filter_map(|(_, row)| row.run_id)
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
        let mut said = Said::of(steps, calls, model.id)?;
        let (before, mut messages) = sections(path, &spans, &mut said);
        if let Some(question) = question {
            messages.extend(turns(&question, &mut said));
        }
        messages.extend(said.take(run.id, true));
        let mut system = spec.instructions.clone();
        if run.steps >= spec.max_steps {
            if !system.is_empty() {
                system.push_str("\n\n");
            }
            system.push_str(CONCLUDE);
        }
        let request = ChatRequest {
            system: (!system.is_empty()).then_some(system),
            messages,
            tools: Vec::new(),
            temperature: spec.temperature,
            max_output_tokens: spec
                .max_output_tokens
                .or(model.max_output_tokens)
                .and_then(|tokens| u32::try_from(tokens).ok()),
            passages: Vec::new(),
        };
        Ok(Self { request, before })
    }
}

/// The messages of a path that a summary is told for, by their places.
#[derive(Debug, Clone, PartialEq)]
struct Span {
    from: usize,
    through: usize,
    text: String,
}

impl Span {
    fn has(&self, place: usize) -> bool {
        (self.from..=self.through).contains(&place)
    }
}

/// The summaries of a path that are told: of two for the same messages the later one, which was made of the earlier.
fn spans(path: &[message::Model]) -> Vec<Span> {
    let places: HashMap<MessageId, usize> = path
        .iter()
        .enumerate()
        .map(|(place, row)| (row.id, place))
        .collect();
    let mut spans: Vec<Span> = Vec::new();
    for row in path.iter().rev() {
        let Some(of) = row.summary else { continue };
        // One whose messages are elsewhere is none of this path: they are told themselves.
        let (Some(&from), Some(&through)) = (places.get(&of.from), places.get(&of.through)) else {
            continue;
        };
        let is_new = from <= through
            && spans
                .iter()
                .all(|span| through < span.from || span.through < from);
        if is_new {
            spans.push(Span {
                from,
                through,
                text: row.parts.text(),
            });
        }
    }
    spans
}

/// Turn by turn: each begins with what a person says.
fn sections(
    path: Vec<message::Model>,
    spans: &[Span],
    said: &mut Said,
) -> (Vec<Section>, Vec<ChatMessage>) {
    let mut sections: Vec<Section> = Vec::new();
    let mut messages = Vec::new();
    for (place, row) in path.into_iter().enumerate() {
        if let Some(span) = spans.iter().find(|span| span.has(place)) {
            match sections.last_mut().filter(|_| place > span.from) {
                Some(section) => section.through = row.id,
                None => {
                    messages.push(summarised(&span.text));
                    sections.push(Section {
                        from: row.id,
                        through: row.id,
                        summary: Some(span.text.clone()),
                        messages: messages.len() - 1..messages.len(),
                    });
                }
            }
            continue;
        }
        // Where a summary hangs in the tree says nothing to a model.
        if row.summary.is_some() {
            continue;
        }
        let begin = messages.len();
        messages.extend(turns(&row, said));
        match sections.last_mut() {
            Some(section) if row.role == MessageRole::Assistant && section.summary.is_none() => {
                section.through = row.id;
                section.messages.end = messages.len();
            }
            _ => sections.push(Section {
                from: row.id,
                through: row.id,
                summary: None,
                messages: begin..messages.len(),
            }),
        }
    }
    (sections, messages)
}

/// A message as a model is told of it.
fn turns(row: &message::Model, said: &mut Said) -> Vec<ChatMessage> {
    let text = row.parts.text();
    match row.role {
        MessageRole::User | MessageRole::System if text.is_empty() => Vec::new(),
        MessageRole::User | MessageRole::System => vec![ChatMessage::User { text }],
        MessageRole::Assistant => {
            let mut turns = row
                .run_id
                .map(|run| said.take(run, false))
                .unwrap_or_default();
            // An answer that was broken off within its first step, or whose steps are gone.
            let is_whole = turns.iter().any(
                |turn| matches!(turn, ChatMessage::Assistant { text, .. } if !text.is_empty()),
            );
            if !is_whole && !text.is_empty() {
                turns.push(ChatMessage::Assistant {
                    text,
                    reasoning: Vec::new(),
                    tool_calls: Vec::new(),
                });
            }
            turns
        }
    }
}

/// The finished steps of runs, with what came of their tool calls.
struct Said(HashMap<RunId, BTreeMap<i32, (Answer, Vec<tool_call::Model>)>>);

impl Said {
    /// What another model thought is not told: only who signed it may read it.
    fn of(
        steps: Vec<run_step::Model>,
        calls: Vec<tool_call::Model>,
        model: ModelId,
    ) -> Result<Self, DbErr> {
        let mut said: HashMap<RunId, BTreeMap<i32, (Answer, Vec<tool_call::Model>)>> =
            HashMap::new();
        for step in steps {
            let mut answer: Answer = serde_json::from_value(step.answer).map_err(|error| {
                DbErr::Json(format!("step {} of {}: {error}", step.number, step.run_id))
            })?;
            if step.model_id != Some(model) {
                answer.reasoning.clear();
            }
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

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use entities::{ConversationId, MessageStatus, Part, Parts, Summary, TenantId};
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> MessageId {
        MessageId(Uuid::from_u128(number))
    }

    fn message(number: u128, role: MessageRole, text: &str) -> message::Model {
        message::Model {
            id: id(number),
            tenant_id: TenantId(Uuid::nil()),
            conversation_id: ConversationId(Uuid::nil()),
            seq: 0,
            role,
            status: MessageStatus::Complete,
            is_hidden: false,
            author_id: None,
            agent_id: None,
            model_id: None,
            parent_id: None,
            run_id: None,
            client_id: None,
            parts: Parts(vec![Part::Text { text: text.into() }]),
            parts_seq: 0,
            usage: None,
            rating: None,
            rating_comment: None,
            summary: None,
            is_indexed: false,
            removed_at: None,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        }
    }

    fn summary(number: u128, from: u128, through: u128) -> message::Model {
        message::Model {
            summary: Some(Summary {
                from: id(from),
                through: id(through),
            }),
            ..message(number, MessageRole::System, &format!("s{number}"))
        }
    }

    /// Six turns, 1 and 2, 3 and 4, and so on.
    fn talk() -> Vec<message::Model> {
        (1..=12)
            .map(|number| {
                let role = if number % 2 == 1 {
                    MessageRole::User
                } else {
                    MessageRole::Assistant
                };
                message(number, role, &format!("m{number}"))
            })
            .collect()
    }

    fn told(path: Vec<message::Model>) -> (Vec<(u128, u128)>, Vec<String>) {
        let spans = spans(&path);
        let mut said = Said(HashMap::new());
        let (sections, messages) = sections(path, &spans, &mut said);
        assert_eq!(
            sections.last().map_or(0, |section| section.messages.end),
            messages.len()
        );
        let ends = sections
            .iter()
            .map(|section| (section.from.0.as_u128(), section.through.0.as_u128()));
        let texts = messages.iter().map(|message| match message {
            ChatMessage::User { text } | ChatMessage::Assistant { text, .. } => text.clone(),
            ChatMessage::ToolResult { content, .. } => content.clone(),
        });
        (ends.collect(), texts.collect())
    }

    #[test]
    fn a_summary_stands_in_the_place_of_what_it_tells_of() {
        let mut path = talk();
        path.insert(10, summary(20, 3, 8));
        let (ends, texts) = told(path);
        assert_eq!(ends, [(1, 2), (3, 8), (9, 10), (11, 12)]);
        let so_far = format!("{SO_FAR}s20");
        assert_eq!(texts, ["m1", "m2", &so_far, "m9", "m10", "m11", "m12"]);
    }

    #[test]
    fn of_two_summaries_the_later_one_counts() {
        let mut path = talk();
        path.insert(6, summary(20, 3, 4));
        path.push(summary(21, 3, 8));
        let (ends, texts) = told(path);
        assert_eq!(ends, [(1, 2), (3, 8), (9, 10), (11, 12)]);
        assert_eq!(texts[2], format!("{SO_FAR}s21"));
        assert_eq!(texts.len(), 7);
    }

    #[test]
    fn one_whose_messages_are_not_on_the_path_tells_nothing() {
        let mut path = talk();
        path.insert(2, summary(20, 3, 99));
        path.insert(4, summary(21, 9, 3));
        let (ends, texts) = told(path);
        assert_eq!(ends.len(), 6);
        assert_eq!(texts.len(), 12);
        assert!(texts.iter().all(|text| text.starts_with('m')));
    }
}
