//! Forgetting what was said in conversations that were deleted: hourly, a day after the deletion, piece by piece.
//!
//! The conversation's row goes last, together with its stream: whatever a kill leaves in between is found by it again. Each piece is
//! one short transaction under the stream's lock, so that several processes may be at it, and SQLite's writer is nobody's for long.
//! What tells of money stays: calls of models, bookings and what they were rolled up to hold no words.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    CommandError, ConversationId, MessageId, RunId, RunStatus, TenantId, Within, conversation, db,
    message, query::*, run, run_step, search, stream, tool_call,
};
use events::Command;
use tokio::time::{MissedTickBehavior, interval};

use crate::{Engine, start::SYSTEM};

/// How long after its deletion a conversation is kept. For as long as a repetition of the command is answered by its key; whoever
/// followed it, or is told late that it is gone, still finds the rows that the events name.
const KEPT: TimeDelta = TimeDelta::hours(24);
/// How often it is looked for such: all conversations are gone through for it.
const EVERY: Duration = Duration::from_secs(3600);
/// Conversations that one statement finds.
const PAGE: u64 = 200;
/// What one transaction takes away: a joined record may have 16 KiB, a message as much as a model says, a run many steps.
const RECORDS: u64 = 500;
const MESSAGES: u64 = 100;
const RUNS: u64 = 20;

/// What became of a conversation, or of a piece of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// Some of it is gone.
    Some,
    /// It was the last.
    Last,
    /// Another process is at it, or something of it is not over yet: there is a next time.
    NotNow,
}

impl Engine {
    /// Forgets deleted conversations, until the process closes.
    pub(crate) async fn forget_hourly(self) {
        let mut hour = interval(EVERY);
        hour.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.closing().cancelled() => return,
                _ = hour.tick() => {}
            }
            match self.forget_conversations().await {
                Ok(0) => {}
                Ok(conversations) => {
                    tracing::info!(conversations, "forgot conversations that were deleted");
                }
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to forget conversations that were deleted; it is tried again"
                ),
            }
        }
    }

    /// Forgets the conversations that were deleted a day ago or longer, as is done hourly, and answers how many those were.
    ///
    /// # Errors
    /// What the database says; what was taken away by then is gone.
    pub async fn forget_conversations(&self) -> Result<u64, CommandError> {
        let before = self.clock().now() - KEPT;
        let mut last = ConversationId(uuid::Uuid::nil());
        let mut forgotten = 0;
        loop {
            let found: Vec<(ConversationId, TenantId)> = conversation::Entity::anywhere(SYSTEM)
                .filter(conversation::Column::DeletedAt.lte(before))
                .filter(conversation::Column::Id.gt(last))
                .order_by_asc(conversation::Column::Id)
                .limit(PAGE)
                .select_only()
                .column(conversation::Column::Id)
                .column(conversation::Column::TenantId)
                .into_tuple()
                .all(self.log().db().reader(SYSTEM))
                .await?;
            let is_full = found.len() as u64 == PAGE;
            for (id, tenant) in found {
                last = id;
                match self.forget_conversation(tenant, id, before).await {
                    Ok(is_gone) => forgotten += u64::from(is_gone),
                    Err(CommandError::Database(error))
                        if db::failure(&error) == db::Failure::Transient =>
                    {
                        return Err(error.into());
                    }
                    // One that can't be forgotten must not keep the others.
                    Err(error) => tracing::error!(
                        conversation = %id,
                        error = &error as &dyn std::error::Error,
                        "failed to forget a conversation"
                    ),
                }
                if self.closing().is_cancelled() {
                    return Ok(forgotten);
                }
            }
            if !is_full {
                return Ok(forgotten);
            }
        }
    }

    async fn forget_conversation(
        &self,
        tenant: TenantId,
        id: ConversationId,
        before: DateTime<Utc>,
    ) -> Result<bool, CommandError> {
        while !self.closing().is_cancelled() {
            let piece = self
                .log()
                .command(Within::Tenant(tenant), move |c| {
                    Box::pin(async move { forget(c, tenant, id, before).await })
                })
                .await?;
            match piece {
                Piece::Some => {}
                Piece::Last => return Ok(true),
                Piece::NotNow => break,
            }
        }
        Ok(false)
    }
}

/// Takes a piece away. First the log: as long as there is a row that an event names, it is there.
async fn forget(
    c: &mut Command,
    tenant: TenantId,
    id: ConversationId,
    before: DateTime<Utc>,
) -> Result<Piece, CommandError> {
    if c.try_lock(tenant, id.0).await?.is_none() {
        return Ok(Piece::NotNow);
    }
    let is_deleted = conversation::Entity::anywhere(SYSTEM)
        .filter(conversation::Column::Id.eq(id))
        .filter(conversation::Column::DeletedAt.lte(before))
        .one(&**c.tx())
        .await?
        .is_some();
    // Its deletion ended all of them; whatever began one since writes into the log.
    let is_busy = run::Entity::anywhere(SYSTEM)
        .filter(run::Column::ConversationId.eq(id))
        .filter(run::Column::Status.is_in([
            RunStatus::Queued,
            RunStatus::Running,
            RunStatus::Waiting,
        ]))
        .one(&**c.tx())
        .await?
        .is_some();
    if !is_deleted || is_busy {
        return Ok(Piece::NotNow);
    }
    match c.forget(id.0, RECORDS).await? {
        Some(0) => {}
        Some(_) => return Ok(Piece::Some),
        None => return Ok(Piece::NotNow),
    }
    if forget_messages(c, id).await? || forget_runs(c, id).await? {
        return Ok(Piece::Some);
    }
    search::forget_conversation(SYSTEM, c.tx(), id).await?;
    stream::Entity::delete_anywhere(SYSTEM)
        .filter(stream::Column::Id.eq(id.0))
        .exec(&**c.tx())
        .await?;
    conversation::Entity::delete_anywhere(SYSTEM)
        .filter(conversation::Column::Id.eq(id))
        .exec(&**c.tx())
        .await?;
    Ok(Piece::Last)
}

/// Takes some messages away; `false`: there are none.
async fn forget_messages(c: &Command, id: ConversationId) -> Result<bool, CommandError> {
    let messages: Vec<MessageId> = message::Entity::anywhere(SYSTEM)
        .filter(message::Column::ConversationId.eq(id))
        .limit(MESSAGES)
        .select_only()
        .column(message::Column::Id)
        .into_tuple()
        .all(&**c.tx())
        .await?;
    if messages.is_empty() {
        return Ok(false);
    }
    message::Entity::delete_anywhere(SYSTEM)
        .filter(message::Column::Id.is_in(messages))
        .exec(&**c.tx())
        .await?;
    Ok(true)
}

/// Takes some runs away, with their steps and tool calls; `false`: there are none.
async fn forget_runs(c: &Command, id: ConversationId) -> Result<bool, CommandError> {
    let runs: Vec<RunId> = run::Entity::anywhere(SYSTEM)
        .filter(run::Column::ConversationId.eq(id))
        .limit(RUNS)
        .select_only()
        .column(run::Column::Id)
        .into_tuple()
        .all(&**c.tx())
        .await?;
    if runs.is_empty() {
        return Ok(false);
    }
    run_step::Entity::delete_anywhere(SYSTEM)
        .filter(run_step::Column::RunId.is_in(runs.iter().copied()))
        .exec(&**c.tx())
        .await?;
    tool_call::Entity::delete_anywhere(SYSTEM)
        .filter(tool_call::Column::RunId.is_in(runs.iter().copied()))
        .exec(&**c.tx())
        .await?;
    run::Entity::delete_anywhere(SYSTEM)
        .filter(run::Column::Id.is_in(runs))
        .exec(&**c.tx())
        .await?;
    Ok(true)
}
