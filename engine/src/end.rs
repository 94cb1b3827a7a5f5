//! Ends: the message's, then the run's, in one transaction with the stream's lock held, and nothing after them.

use entities::{
    ChangeAction, CommandError, MessageStatus, Part, Parts, ResourceKind, RunError, RunStatus,
    ToolCallStatus, conversation, message, query::*, run, tool_call,
};
use events::Command;

use crate::{
    conversations,
    event::{Body, MessageFacts, RunFacts, ToolCallFacts},
    start::SYSTEM,
    titles, usage,
};

/// How a run ends.
pub(crate) struct Ending {
    pub(crate) status: RunStatus,
    /// All parts of the answer; absent: those of its row.
    pub(crate) parts: Option<Parts>,
    pub(crate) error: Option<RunError>,
}

impl Ending {
    pub(crate) fn completed(parts: Parts) -> Self {
        Self {
            status: RunStatus::Completed,
            parts: Some(parts),
            error: None,
        }
    }

    pub(crate) fn failed(error: RunError) -> Self {
        Self {
            status: RunStatus::Failed,
            parts: None,
            error: Some(error),
        }
    }
}

/// Ends a run that the caller read under the stream's lock and found open. `run` and `answer` hold what else is to be written of
/// them. Raises the fence: whoever carried it can write nothing more.
pub(crate) async fn end(
    c: &mut Command,
    mut run: run::Model,
    mut answer: message::Model,
    ending: Ending,
) -> Result<(), CommandError> {
    let stream = run.conversation_id.0;
    let by = Some((run.id, run.attempt));
    let now = c.now();
    drop_tool_calls(c, &run).await?;
    answer.parts = ending.parts.unwrap_or(answer.parts);
    if let Some(error) = &ending.error {
        let part = u32::try_from(answer.parts.0.len()).unwrap_or(u32::MAX);
        let content = Part::Error {
            error: error.clone(),
        };
        c.append(
            stream,
            by,
            Body::PartAdded {
                message: answer.id,
                part,
                content: content.clone(),
            }
            .draft(),
        );
        answer.parts.0.push(content);
    }
    answer.status = match ending.status {
        RunStatus::Completed => MessageStatus::Complete,
        RunStatus::Failed => MessageStatus::Failed,
        _ => MessageStatus::Incomplete,
    };
    answer.usage = Some(run.usage.clone());
    answer.updated_at = now;
    answer.parts_seq = c.append(
        stream,
        by,
        Body::MessageCompleted(MessageFacts::of(&answer)).draft(),
    );
    run.status = ending.status;
    run.error = ending.error;
    run.finished_at = Some(now);
    let facts = RunFacts::of(&run);
    let last = match ending.status {
        RunStatus::Completed => Body::RunCompleted(facts),
        RunStatus::Failed => Body::RunFailed(facts),
        _ => Body::RunCancelled(facts),
    };
    let terminal_seq = c.append(stream, by, last.draft());
    message::Entity::change_anywhere(SYSTEM)
        .filter(message::Column::Id.eq(answer.id))
        .set(message::ActiveModel {
            status: Set(answer.status),
            parts: Set(answer.parts),
            parts_seq: Set(answer.parts_seq),
            usage: Set(answer.usage),
            updated_at: Set(now),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    run::Entity::change_anywhere(SYSTEM)
        .filter(run::Column::Id.eq(run.id))
        .set(run::ActiveModel {
            status: Set(run.status),
            attempt: Set(run.attempt + 1),
            owner: Set(None),
            lease_until: Set(None),
            losses: Set(run.losses),
            steps: Set(run.steps),
            error: Set(run.error.clone()),
            usage: Set(run.usage.clone()),
            model_id: Set(run.model_id),
            agent_version_id: Set(run.agent_version_id),
            terminal_seq: Set(Some(terminal_seq)),
            first_token_at: Set(run.first_token_at),
            started_at: Set(run.started_at),
            finished_at: Set(run.finished_at),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    let mut change = conversation::Entity::change_anywhere(SYSTEM)
        .filter(conversation::Column::Id.eq(run.conversation_id))
        .set(conversation::ActiveModel {
            active_run_id: Set(None),
            last_activity_at: Set(now),
            ..Default::default()
        });
    if run.status == RunStatus::Completed {
        let due = conversation::Column::TitleDueAt;
        change = change.col_expr(due, titles::due(now));
    }
    change.exec(&**c.tx()).await?;
    c.raise_fence(stream);
    c.stop(run.id);
    c.finished(run.tenant_id, stream, run.id, run.first_seq, terminal_seq);
    c.wake_workers();
    usage::ended(c, &run).await?;
    tell(c, &run).await?;
    Ok(())
}

/// Calls that nobody will carry out any more.
async fn drop_tool_calls(c: &mut Command, run: &run::Model) -> Result<(), CommandError> {
    let open = [
        ToolCallStatus::Pending,
        ToolCallStatus::Running,
        ToolCallStatus::WaitingApproval,
        ToolCallStatus::WaitingClient,
    ];
    let calls = tool_call::Entity::anywhere(SYSTEM)
        .filter(tool_call::Column::RunId.eq(run.id))
        .filter(tool_call::Column::Status.is_in(open))
        .order_by_asc(tool_call::Column::Step)
        .order_by_asc(tool_call::Column::Position)
        .all(&**c.tx())
        .await?;
    if calls.is_empty() {
        return Ok(());
    }
    tool_call::Entity::change_anywhere(SYSTEM)
        .filter(tool_call::Column::Id.is_in(calls.iter().map(|call| call.id)))
        .set(tool_call::ActiveModel {
            status: Set(ToolCallStatus::Cancelled),
            finished_at: Set(Some(c.now())),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    for mut call in calls {
        call.status = ToolCallStatus::Cancelled;
        call.finished_at = Some(c.now());
        c.append(
            run.conversation_id.0,
            Some((run.id, run.attempt)),
            Body::ToolCallFinished(ToolCallFacts::of(&call)).draft(),
        );
    }
    Ok(())
}

/// Says in the tenant's `changes` that a run changed, and with it its conversation: what runs in it, when something was last said.
pub(crate) async fn tell(c: &mut Command, run: &run::Model) -> Result<(), CommandError> {
    let seen_by = conversations::seen_by(c, run.tenant_id, run.conversation_id).await?;
    conversations::tell(
        c,
        run.tenant_id,
        seen_by.clone(),
        run.conversation_id,
        ChangeAction::Updated,
    );
    let seen_by = Some(seen_by);
    c.changed_in(
        run.tenant_id,
        ResourceKind::Run,
        run.id.0,
        seen_by.clone(),
        seen_by,
    );
    Ok(())
}
