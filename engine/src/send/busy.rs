//! What becomes of the run that is under way, and where the new one stands in the queue.

use entities::{
    CommandError, ConversationId, MessageId, Reference, Refusal, RunId, RunStatus, Scope,
    conversation, query::*, run,
};
use events::Command;

use super::WhenBusy;
use crate::{
    cancel,
    undo::{self, Gone},
};

/// The new run's place.
#[derive(Default)]
pub(super) struct Room {
    /// How many runs stand before it.
    pub(super) ahead: usize,
    /// Its number in the queue.
    pub(super) queue_no: i64,
    /// What was undone for it.
    pub(super) gone: Gone,
}

/// A run that is not over.
struct Open {
    id: RunId,
    status: RunStatus,
    queue_no: i64,
}

/// Makes room for a run by the policy; `keep` is the question that it answers, where that is there already. INTERRUPT and
/// ROLLBACK end the run that is under way and go before all that waits, also where nothing is under way at that moment. The
/// stream is locked; `conversation` is afterwards as it is then.
///
/// The events come in this order: the end of the run that was under way, its `RunCancelled` the last of them; where its turn is
/// undone, a `MessageUpdated` for each message that has another parent now, then `MessagesRemoved`; then those of the new run.
pub(super) async fn make_room(
    c: &mut Command,
    scope: &Scope,
    conversation: &mut conversation::Model,
    policy: WhenBusy,
    keep: Option<MessageId>,
) -> Result<Room, CommandError> {
    let mut open = open(c, scope, conversation.id).await?;
    if let (WhenBusy::Reject, Some(busy)) = (policy, open.first()) {
        let conflicting = Some(Reference {
            prefix: RunId::PREFIX,
            id: busy.id.0,
        });
        return Err(Refusal::conflict(
            &["input", "whenBusy"],
            "a run is under way in this conversation",
            conflicting,
        )
        .into());
    }
    if matches!(policy, WhenBusy::Reject | WhenBusy::Enqueue) {
        return Ok(Room {
            ahead: open.len(),
            queue_no: conversation.last_queue_no + 1,
            gone: Gone::default(),
        });
    }
    let mut gone = Gone::default();
    let under_way = open.iter().position(|run| run.status != RunStatus::Queued);
    if let Some(at) = under_way {
        let id = open.remove(at).id;
        let run = run::Entity::in_tenant(scope)
            .filter(run::Column::Id.eq(id))
            .one(&**c.tx())
            .await?
            .ok_or_else(|| CommandError::Internal(format!("{id} is gone")))?;
        cancel::cancel(c, run.clone()).await?;
        if policy == WhenBusy::Rollback {
            gone = undo::turn(c, &run, keep).await?;
        }
        (*conversation, _) = undo::settle(c, conversation.id, &gone).await?;
    }
    let first = open.iter().map(|run| run.queue_no).min();
    Ok(Room {
        ahead: 0,
        queue_no: first.map_or(conversation.last_queue_no + 1, |first| first - 1),
        gone,
    })
}

/// The runs under way and waiting in a conversation, in their order.
async fn open(c: &Command, scope: &Scope, id: ConversationId) -> Result<Vec<Open>, CommandError> {
    let runs: Vec<(RunId, RunStatus, i64)> = run::Entity::in_tenant(scope)
        .filter(run::Column::ConversationId.eq(id))
        .filter(run::Column::ParentRunId.is_null())
        // Spelled out, for the two indexes that hold such runs alone: in a long conversation nearly all are over.
        .filter(Expr::cust(
            "(status in ('RUNNING', 'WAITING') or status = 'QUEUED')",
        ))
        .order_by_asc(run::Column::QueueNo)
        .select_only()
        .column(run::Column::Id)
        .column(run::Column::Status)
        .column(run::Column::QueueNo)
        .into_tuple()
        .all(&**c.tx())
        .await?;
    Ok(runs
        .into_iter()
        .map(|(id, status, queue_no)| Open {
            id,
            status,
            queue_no,
        })
        .collect())
}
