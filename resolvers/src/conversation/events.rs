//! What happens in a conversation, as it is told to those who follow it.
//!
//! An event is made of the log alone: ids, and the changing fields of its objects as of its number. The objects themselves are
//! read where they are asked for.

use std::sync::Arc;

use async_graphql::{Context, ID, Interface, Object, Result, plain, plain_abstract};
use chrono::Utc;
use engine::event::{
    Body, CompactionFacts, ConversationFacts, Event, MessageFacts, RunFacts, StepFacts,
    ToolCallFacts,
};
use entities::{ConversationId, MessageId, Part, RunErrorKind, RunId, ToolCallId};
use events::Delta;
use uuid::Uuid;

use super::object::Conversation;
use crate::{
    asking::ContextExt,
    message::{Message, MessagePart},
    run::{Run, RunError, RunStep, ToolCall},
    scalars::{Cursor, DateTime},
};

/// What every event says.
#[derive(Clone, Copy)]
struct Origin {
    seq: i64,
    at: chrono::DateTime<Utc>,
    conversation: ConversationId,
    run: Option<RunId>,
}

fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

macro_rules! events {
    ($(
        $(#[$doc:meta])*
        $name:ident as $module:ident $module_name:tt
        ($($field:ident: $ty:ty),*)
        plain { $($plain:literal => $plain_method:ident),* $(,)? }
        { $($methods:tt)* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            origin: Origin,
            $($field: $ty,)*
        }

        plain!($name as $module {
            "cursor" => cursor, "at" => at, "conversationId" => conversation_id, "runId" => run_id, $($plain => $plain_method),*
        });

        $(#[$doc])*
        #[Object(crate = $module_name)]
        impl $name {
            /// Its place in the log of its conversation: go on after it, and this one is not told again.
            pub(crate) async fn cursor(&self, ctx: &Context<'_>) -> Cursor {
                let Origin { seq, conversation, .. } = self.origin;
                Cursor(ctx.engine().log().cursor(conversation.0, seq).encode())
            }

            /// When it happened.
            pub(crate) async fn at(&self) -> DateTime {
                self.origin.at.into()
            }

            /// The conversation in which it happened.
            pub(crate) async fn conversation_id(&self) -> ID {
                self.origin.conversation.into()
            }

            /// The run that it is part of; null where it is part of none.
            pub(crate) async fn run_id(&self) -> Option<ID> {
                self.origin.run.map(ID::from)
            }

            $($methods)*
        }
    )*};
}

events! {
    /// A message is there: one that was sent, or an answer that begins, STREAMING and without parts.
    MessageCreated as message_created_gql "message_created_gql" (facts: MessageFacts)
    plain { "messageId" => message_id }
    {
        /// The message's id.
        async fn message_id(&self) -> ID {
            self.facts.id.into()
        }

        /// The message as of this event.
        async fn message(&self, ctx: &Context<'_>) -> Result<Option<Message>> {
            Ok(Message::told(ctx, &self.facts).await?)
        }
    }

    /// An answer is over: COMPLETE, or INCOMPLETE or FAILED with what was said so far. Its parts change no more.
    MessageCompleted as message_completed_gql "message_completed_gql" (facts: MessageFacts)
    plain { "messageId" => message_id }
    {
        /// The message's id.
        async fn message_id(&self) -> ID {
            self.facts.id.into()
        }

        /// The message as of this event.
        async fn message(&self, ctx: &Context<'_>) -> Result<Option<Message>> {
            Ok(Message::told(ctx, &self.facts).await?)
        }
    }

    /// A message was rated, given a parent, or else changed.
    MessageUpdated as message_updated_gql "message_updated_gql" (facts: MessageFacts)
    plain { "messageId" => message_id }
    {
        /// The message's id.
        async fn message_id(&self) -> ID {
            self.facts.id.into()
        }

        /// The message as of this event.
        async fn message(&self, ctx: &Context<'_>) -> Result<Option<Message>> {
            Ok(Message::told(ctx, &self.facts).await?)
        }
    }

    /// A turn was undone: its messages are gone, and what followed them follows what stood before.
    MessagesRemoved as messages_removed_gql "messages_removed_gql" (messages: Vec<MessageId>)
    plain { "messageIds" => message_ids }
    {
        /// The ids of the messages that are gone.
        async fn message_ids(&self) -> Vec<ID> {
            self.messages.iter().copied().map(ID::from).collect()
        }
    }

    /// A run was asked for.
    RunQueued as run_queued_gql "run_queued_gql" (position: i32, facts: RunFacts)
    plain { "position" => position }
    {
        /// How many runs stood before it in its conversation, from 0.
        async fn position(&self) -> i32 {
            self.position
        }

        /// The run as of this event.
        async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
            Ok(Run::told(ctx, &self.facts).await?)
        }
    }

    /// A run was taken up: for the first time, or again after whoever carried it was lost.
    RunStarted as run_started_gql "run_started_gql" (attempt: i32, facts: RunFacts)
    plain { "attempt" => attempt }
    {
        /// How often it was taken up by now: 1 for the first time.
        async fn attempt(&self) -> i32 {
            self.attempt
        }

        /// The run as of this event.
        async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
            Ok(Run::told(ctx, &self.facts).await?)
        }
    }

    /// A run began to wait for somebody or waits no more, or another model took the place of one that failed.
    RunUpdated as run_updated_gql "run_updated_gql" (facts: RunFacts)
    plain {}
    {
        /// The run as of this event.
        async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
            Ok(Run::told(ctx, &self.facts).await?)
        }
    }

    /// A model is about to be called.
    StepStarted as step_started_gql "step_started_gql" (step: i32)
    plain { "step" => step }
    {
        /// Which step of the run, from 0.
        async fn step(&self) -> i32 {
            self.step
        }
    }

    /// A worker was lost, or a model failed midway: what the step had said so far is said again.
    StepRestarted as step_restarted_gql "step_restarted_gql" (step: i32, reason: String, message: MessageId, from_part: u32)
    plain { "step" => step, "reason" => reason, "messageId" => message_id, "fromPart" => from_part }
    {
        /// Which step of the run, from 0.
        async fn step(&self) -> i32 {
            self.step
        }

        /// Why, for people, in English.
        async fn reason(&self) -> &str {
            &self.reason
        }

        /// The message that the step writes.
        async fn message_id(&self) -> ID {
            self.message.into()
        }

        /// Drop the message's parts from this place on.
        async fn from_part(&self) -> i32 {
            small(self.from_part)
        }
    }

    /// A model's answer is whole.
    StepFinished as step_finished_gql "step_finished_gql" (facts: StepFacts)
    plain { "step" => step }
    {
        /// Which step of the run, from 0.
        async fn step(&self) -> i32 {
            self.facts.step
        }

        /// The step that is finished.
        async fn result(&self) -> RunStep {
            let run = self.origin.run.unwrap_or(RunId(Uuid::nil()));
            RunStep { run, facts: self.facts.clone() }
        }
    }

    /// A conversation got too long for its model: a part of it is told to models by a summary from now on. The summary is a
    /// message of the role SYSTEM, which stands between the latest answer and the question that the run is for.
    ContextCompacted as context_compacted_gql "context_compacted_gql" (facts: CompactionFacts)
    plain { "tokensBefore" => tokens_before, "tokensAfter" => tokens_after }
    {
        /// What the model would have been told otherwise, in tokens, as estimated.
        async fn tokens_before(&self) -> i32 {
            self.facts.tokens_before
        }

        /// What it is told, in tokens, as estimated.
        async fn tokens_after(&self) -> i32 {
            self.facts.tokens_after
        }

        /// The summary, a message that is new: put it where its parent says. The questions that followed that parent follow the
        /// summary now; a MessageUpdated tells so of each.
        async fn message(&self, ctx: &Context<'_>) -> Result<Option<Message>> {
            Ok(Message::told(ctx, &self.facts.message).await?)
        }
    }

    /// A piece of the text of a message.
    TextDelta as text_delta_gql "text_delta_gql" (delta: Delta)
    plain { "messageId" => message_id, "part" => part, "offset" => offset, "text" => text }
    {
        /// The id of the message.
        async fn message_id(&self) -> ID {
            MessageId(self.delta.of).into()
        }

        /// The place of its part; where there is none yet, this begins one.
        async fn part(&self) -> i32 {
            small(self.delta.part)
        }

        /// The length of the part before this piece, in UTF-16 code units. Where the part is longer already, the piece is known.
        async fn offset(&self) -> i32 {
            small(self.delta.offset)
        }

        /// The piece, to be put at the end of the part.
        async fn text(&self) -> &str {
            self.delta.text()
        }
    }

    /// A piece of what a model thought before it answered.
    ReasoningDelta as reasoning_delta_gql "reasoning_delta_gql" (delta: Delta)
    plain { "messageId" => message_id, "part" => part, "offset" => offset, "text" => text }
    {
        /// The id of the message.
        async fn message_id(&self) -> ID {
            MessageId(self.delta.of).into()
        }

        /// The place of its part; where there is none yet, this begins one.
        async fn part(&self) -> i32 {
            small(self.delta.part)
        }

        /// The length of the part before this piece, in UTF-16 code units. Where the part is longer already, the piece is known.
        async fn offset(&self) -> i32 {
            small(self.delta.offset)
        }

        /// The piece, to be put at the end of the part.
        async fn text(&self) -> &str {
            self.delta.text()
        }
    }

    /// A message got a part that does not come in pieces: an error.
    PartAdded as part_added_gql "part_added_gql" (message: MessageId, part: u32, content: Part)
    plain { "messageId" => message_id, "part" => part }
    {
        /// The id of the message.
        async fn message_id(&self) -> ID {
            self.message.into()
        }

        /// The place of the part in the message, from 0.
        async fn part(&self) -> i32 {
            small(self.part)
        }

        /// The part.
        async fn content(&self) -> MessagePart {
            MessagePart::at(self.part as usize, self.content.clone())
        }
    }

    /// A model began to call a tool. The message gets a part for it; what it is called with comes in pieces.
    ToolCallStarted as tool_call_started_gql "tool_call_started_gql" (message: MessageId, part: u32, call: Arc<ToolCallFacts>)
    plain { "toolCallId" => tool_call_id, "messageId" => message_id, "part" => part }
    {
        /// The call's id.
        async fn tool_call_id(&self) -> ID {
            self.call.id.into()
        }

        /// The message in which it is called.
        async fn message_id(&self) -> ID {
            self.message.into()
        }

        /// The place of the part in the message, from 0.
        async fn part(&self) -> i32 {
            small(self.part)
        }

        /// The call as of this event.
        async fn tool_call(&self) -> Option<ToolCall> {
            Some(ToolCall(self.call.clone()))
        }
    }

    /// A piece of what a tool is called with, which is JSON once it is whole.
    ToolCallArgumentsDelta as arguments_delta_gql "arguments_delta_gql" (delta: Delta)
    plain { "toolCallId" => tool_call_id, "offset" => offset, "text" => text }
    {
        /// The call's id.
        async fn tool_call_id(&self) -> ID {
            ToolCallId(self.delta.of).into()
        }

        /// The length of the text before this piece, in UTF-16 code units.
        async fn offset(&self) -> i32 {
            small(self.delta.offset)
        }

        /// The piece.
        async fn text(&self) -> &str {
            self.delta.text()
        }
    }

    /// A tool call is over: it has a result, or says why not.
    ToolCallFinished as tool_call_finished_gql "tool_call_finished_gql" (call: Arc<ToolCallFacts>)
    plain { "toolCallId" => tool_call_id }
    {
        /// The call's id.
        async fn tool_call_id(&self) -> ID {
            self.call.id.into()
        }

        /// The call as of this event.
        async fn tool_call(&self) -> Option<ToolCall> {
            Some(ToolCall(self.call.clone()))
        }
    }

    /// A run answered. Its last event.
    RunCompleted as run_completed_gql "run_completed_gql" (facts: RunFacts)
    plain {}
    {
        /// The run as of this event.
        async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
            Ok(Run::told(ctx, &self.facts).await?)
        }
    }

    /// A run failed. Its last event.
    RunFailed as run_failed_gql "run_failed_gql" (facts: RunFacts)
    plain {}
    {
        /// The run as of this event.
        async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
            Ok(Run::told(ctx, &self.facts).await?)
        }

        /// Why it failed.
        async fn error(&self) -> RunError {
            RunError(self.facts.error.clone().unwrap_or_else(|| entities::RunError {
                kind: RunErrorKind::Internal,
                message: "the run failed".to_owned(),
                detail: None,
                retryable: false,
            }))
        }
    }

    /// A run was stopped. Its last event.
    RunCancelled as run_cancelled_gql "run_cancelled_gql" (facts: RunFacts)
    plain {}
    {
        /// The run as of this event.
        async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
            Ok(Run::told(ctx, &self.facts).await?)
        }
    }

    /// The conversation itself changed: its title, its agent, its branch, or that it was put aside.
    ConversationUpdated as conversation_updated_gql "conversation_updated_gql" (facts: ConversationFacts)
    plain {}
    {
        /// The conversation as of this event.
        async fn conversation(&self, ctx: &Context<'_>) -> Result<Option<Conversation>> {
            let Origin { seq, conversation, .. } = self.origin;
            Ok(Conversation::told(ctx, conversation, seq, &self.facts).await?)
        }
    }
}

/// Something that happened in a conversation. Applying one twice changes nothing. Objects are null when they are gone by the
/// time of delivery; their ids stand beside them. More kinds may come: ignore what you don't know.
#[derive(Clone, Interface)]
#[graphql(
    crate = "conversation_event_gql",
    field(
        name = "cursor",
        ty = "Cursor",
        desc = "Its place in the log of its conversation: go on after it, and this one is not told again."
    ),
    field(name = "at", ty = "DateTime", desc = "When it happened."),
    field(
        name = "conversation_id",
        ty = "ID",
        desc = "The conversation in which it happened."
    ),
    field(
        name = "run_id",
        ty = "Option<ID>",
        desc = "The run that it is part of; null where it is part of none."
    )
)]
#[expect(missing_docs, reason = "each variant is the event of its name")]
pub enum ConversationEvent {
    MessageCreated(MessageCreated),
    MessageCompleted(MessageCompleted),
    MessageUpdated(MessageUpdated),
    MessagesRemoved(MessagesRemoved),
    RunQueued(RunQueued),
    RunStarted(RunStarted),
    RunUpdated(RunUpdated),
    StepStarted(StepStarted),
    StepRestarted(StepRestarted),
    StepFinished(StepFinished),
    ContextCompacted(ContextCompacted),
    TextDelta(TextDelta),
    ReasoningDelta(ReasoningDelta),
    PartAdded(PartAdded),
    ToolCallStarted(ToolCallStarted),
    ToolCallArgumentsDelta(ToolCallArgumentsDelta),
    ToolCallFinished(ToolCallFinished),
    RunCompleted(RunCompleted),
    RunFailed(RunFailed),
    RunCancelled(RunCancelled),
    ConversationUpdated(ConversationUpdated),
}

plain_abstract!(ConversationEvent as conversation_event_gql {
    MessageCreated, MessageCompleted, MessageUpdated, MessagesRemoved, RunQueued, RunStarted, RunUpdated, StepStarted, StepRestarted, StepFinished, ContextCompacted,
    TextDelta, ReasoningDelta, PartAdded, ToolCallStarted, ToolCallArgumentsDelta, ToolCallFinished, RunCompleted, RunFailed,
    RunCancelled, ConversationUpdated,
});

impl From<Event> for ConversationEvent {
    fn from(event: Event) -> Self {
        let Event {
            seq,
            at,
            conversation,
            run,
            body,
        } = event;
        let origin = Origin {
            seq,
            at,
            conversation,
            run,
        };
        match body {
            Body::MessageCreated(facts) => Self::MessageCreated(MessageCreated { origin, facts }),
            Body::MessageCompleted(facts) => {
                Self::MessageCompleted(MessageCompleted { origin, facts })
            }
            Body::MessageUpdated(facts) => Self::MessageUpdated(MessageUpdated { origin, facts }),
            Body::MessagesRemoved(messages) => {
                Self::MessagesRemoved(MessagesRemoved { origin, messages })
            }
            Body::RunQueued {
                position,
                run: facts,
            } => Self::RunQueued(RunQueued {
                origin,
                position,
                facts,
            }),
            Body::RunStarted {
                attempt,
                run: facts,
            } => Self::RunStarted(RunStarted {
                origin,
                attempt,
                facts,
            }),
            Body::RunUpdated(facts) => Self::RunUpdated(RunUpdated { origin, facts }),
            Body::StepStarted { step } => Self::StepStarted(StepStarted { origin, step }),
            Body::StepRestarted {
                step,
                reason,
                message,
                from_part,
            } => Self::StepRestarted(StepRestarted {
                origin,
                step,
                reason,
                message,
                from_part,
            }),
            Body::StepFinished(facts) => Self::StepFinished(StepFinished { origin, facts }),
            Body::ContextCompacted(facts) => {
                Self::ContextCompacted(ContextCompacted { origin, facts })
            }
            Body::TextDelta(delta) => Self::TextDelta(TextDelta { origin, delta }),
            Body::ReasoningDelta(delta) => Self::ReasoningDelta(ReasoningDelta { origin, delta }),
            Body::ArgumentsDelta(delta) => {
                Self::ToolCallArgumentsDelta(ToolCallArgumentsDelta { origin, delta })
            }
            Body::PartAdded {
                message,
                part,
                content,
            } => Self::PartAdded(PartAdded {
                origin,
                message,
                part,
                content,
            }),
            Body::ToolCallStarted {
                message,
                part,
                call,
            } => Self::ToolCallStarted(ToolCallStarted {
                origin,
                message,
                part,
                call: Arc::new(call),
            }),
            Body::ToolCallFinished(call) => Self::ToolCallFinished(ToolCallFinished {
                origin,
                call: Arc::new(call),
            }),
            Body::RunCompleted(facts) => Self::RunCompleted(RunCompleted { origin, facts }),
            Body::RunFailed(facts) => Self::RunFailed(RunFailed { origin, facts }),
            Body::RunCancelled(facts) => Self::RunCancelled(RunCancelled { origin, facts }),
            Body::ConversationUpdated(facts) => {
                Self::ConversationUpdated(ConversationUpdated { origin, facts })
            }
        }
    }
}
