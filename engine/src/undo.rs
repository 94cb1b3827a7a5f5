//! Taking messages out of their tree: the answer of a run that never started, and the turn that a message undoes.
//!
//! Such a message stays as a row, which events and cursors of before still name; nothing shows it. What followed it follows the
//! nearest message above it that is kept, and each message that is given another parent so is told of by itself, before the
//! removal: at every event the tree that a client has is whole.

use entities::{
    CommandError, ConversationId, MessageId, MessageRole, conversation, message, query::*, run,
};
use events::Command;

use crate::{
    event::{Body, MessageFacts},
    start::SYSTEM,
};

/// What was taken out.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    /// The messages, a question before its answer.
    pub(crate) messages: Vec<MessageId>,
    /// The nearest above them that is kept; `None`: they began the conversation.
    pub(crate) onto: Option<MessageId>,
}

impl Gone {
    pub(crate) fn has(&self, message: Option<MessageId>) -> bool {
        message.is_some_and(|id| self.messages.contains(&id))
    }
}

/// Undoes the turn of a run that was just ended: its answer goes, and with it the question where this run came with it and
/// nothing else answers it. `keep` is a question that stays, since it is about to be answered. The stream is locked.
pub(crate) async fn turn(
    c: &mut Command,
    run: &run::Model,
    keep: Option<MessageId>,
) -> Result<Gone, CommandError> {
    let answer = row(c, run.output_message_id).await?.ok_or_else(|| {
        CommandError::Internal(format!("{} has no answer that could be undone", run.id))
    })?;
    let question = match run.input_message_id {
        Some(id) => row(c, id).await?,
        None => None,
    };
    let its_own = question.filter(|question| {
        question.run_id == Some(run.id)
            && answer.parent_id == Some(question.id)
            && keep != Some(question.id)
    });
    let mut gone = Gone {
        messages: vec![answer.id],
        onto: answer.parent_id,
    };
    if let Some(question) = its_own
        && !is_answered_besides(c, &question, answer.id).await?
    {
        gone.onto = question.parent_id;
        gone.messages.insert(0, question.id);
    }
    take_out(c, run.conversation_id, &gone).await?;
    c.append(
        run.conversation_id.0,
        None,
        Body::MessagesRemoved(gone.messages.clone()).draft(),
    );
    Ok(gone)
}

async fn row(c: &Command, id: MessageId) -> Result<Option<message::Model>, CommandError> {
    Ok(message::Entity::anywhere(SYSTEM)
        .filter(message::Column::Id.eq(id))
        .filter(message::Column::RemovedAt.is_null())
        .one(&**c.tx())
        .await?)
}

async fn is_answered_besides(
    c: &Command,
    question: &message::Model,
    answer: MessageId,
) -> Result<bool, CommandError> {
    let others = message::Entity::anywhere(SYSTEM)
        .filter(message::Column::ParentId.eq(question.id))
        .filter(message::Column::Role.eq(MessageRole::Assistant))
        .filter(message::Column::Id.ne(answer))
        .filter(message::Column::RemovedAt.is_null())
        .one(&**c.tx())
        .await?;
    Ok(others.is_some())
}

/// Hangs what is below these messages onto what is above them, and lets nothing show them any more.
pub(crate) async fn take_out(
    c: &mut Command,
    conversation: ConversationId,
    gone: &Gone,
) -> Result<(), CommandError> {
    let now = c.now();
    let below = message::Entity::anywhere(SYSTEM)
        .filter(message::Column::ConversationId.eq(conversation))
        .filter(message::Column::ParentId.is_in(gone.messages.iter().copied()))
        .filter(message::Column::Id.is_not_in(gone.messages.iter().copied()))
        .filter(message::Column::RemovedAt.is_null())
        .order_by_asc(message::Column::Seq)
        .all(&**c.tx())
        .await?;
    if !below.is_empty() {
        message::Entity::change_anywhere(SYSTEM)
            .filter(message::Column::ConversationId.eq(conversation))
            .filter(message::Column::ParentId.is_in(gone.messages.iter().copied()))
            .filter(message::Column::Id.is_not_in(gone.messages.iter().copied()))
            .filter(message::Column::RemovedAt.is_null())
            .set(message::ActiveModel {
                parent_id: Set(gone.onto),
                updated_at: Set(now),
                ..Default::default()
            })
            .exec(&**c.tx())
            .await?;
    }
    message::Entity::change_anywhere(SYSTEM)
        .filter(message::Column::Id.is_in(gone.messages.iter().copied()))
        .set(message::ActiveModel {
            is_hidden: Set(true),
            // It is found no more: whoever keeps the words looks at it again.
            is_indexed: Set(false),
            removed_at: Set(Some(now)),
            updated_at: Set(now),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    for mut child in below {
        child.parent_id = gone.onto;
        child.updated_at = now;
        // One that does not show yet is told of, with its parent, when it does.
        if !child.is_hidden {
            c.append(
                conversation.0,
                None,
                Body::MessageUpdated(MessageFacts::of(&child)).draft(),
            );
        }
    }
    Ok(())
}

/// The conversation as it is after its runs and messages changed in this command; it names none of those that are gone. Where its
/// branch ended with one of them, it goes on from the latest message below what is kept, as if they had never been; whether it did is told beside.
pub(crate) async fn settle(
    c: &Command,
    id: ConversationId,
    gone: &Gone,
) -> Result<(conversation::Model, bool), CommandError> {
    let row = conversation::Entity::anywhere(SYSTEM)
        .filter(conversation::Column::Id.eq(id))
        .one(&**c.tx())
        .await?;
    let mut row = row.ok_or_else(|| CommandError::Internal(format!("there is no {id}")))?;
    let (leaf_is_gone, last_is_gone) = (gone.has(row.leaf_id), gone.has(row.last_message_id));
    if leaf_is_gone {
        row.leaf_id = message::Entity::latest_leaf(&**c.tx(), row.tenant_id, id, gone.onto).await?;
    }
    if last_is_gone {
        row.last_message_id = message::Entity::anywhere(SYSTEM)
            .filter(message::Column::ConversationId.eq(id))
            .filter(message::Column::IsHidden.eq(false))
            .order_by_desc(message::Column::Seq)
            .limit(1)
            .select_only()
            .column(message::Column::Id)
            .into_tuple()
            .one(&**c.tx())
            .await?;
    }
    if leaf_is_gone || last_is_gone {
        conversation::Entity::change_anywhere(SYSTEM)
            .filter(conversation::Column::Id.eq(id))
            .set(conversation::ActiveModel {
                leaf_id: Set(row.leaf_id),
                last_message_id: Set(row.last_message_id),
                ..Default::default()
            })
            .exec(&**c.tx())
            .await?;
    }
    Ok((row, leaf_is_gone))
}
