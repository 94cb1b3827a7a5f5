//! The one path of all that asks for an answer: a question, new or there already → the place of its answer, its run, their events.

use entities::{
    Access, AgentId, ChangeAction, CommandError, Draft, MessageId, MessageRole, MessageStatus,
    ModelId, ModelKind, Part, Parts, Permission, Principal, Refusal, ResourceKind, RunId,
    RunStatus, RunTrigger, Scope, Usage, agent, conversation, llm_model, message, query::*, run,
};
use events::Command;

use super::{
    Sending, Sent, WhenBusy,
    busy::{Room, make_room},
};
use crate::{
    Engine, FORMAT, conversations,
    event::{Body, ConversationFacts, MessageFacts, RunFacts},
    start,
    undo::Gone,
};

/// Where a new question hangs.
pub(super) enum Below {
    /// At the end of the branch last used.
    Leaf,
    /// Below this message; `None`: below none.
    Message(Option<MessageId>),
}

/// What is to be answered.
pub(super) enum Question {
    /// Something that is said now.
    New {
        text: String,
        below: Below,
        client_id: Option<String>,
    },
    /// Something that was said before.
    There(Box<message::Model>),
}

/// What is asked for, all of it checked.
pub(super) struct Asking {
    /// Its stream is locked.
    pub(super) conversation: conversation::Model,
    /// It has no row yet.
    pub(super) is_new: bool,
    pub(super) question: Question,
    pub(super) agent: AgentId,
    /// Whether the agent answers in the conversation from now on.
    pub(super) takes_over: bool,
    pub(super) draft: Option<Draft>,
    pub(super) model: Option<ModelId>,
    pub(super) trigger: RunTrigger,
    pub(super) when_busy: WhenBusy,
}

/// Makes the run and all that comes with it.
pub(super) async fn ask(
    engine: &Engine,
    c: &mut Command,
    scope: &Scope,
    asking: Asking,
) -> Result<Sending, CommandError> {
    let Asking {
        mut conversation,
        is_new,
        question,
        agent,
        takes_over,
        draft,
        model,
        trigger,
        when_busy,
    } = asking;
    let id = conversation.id;
    let before = c.head(id.0);
    let keep = match &question {
        Question::There(row) => Some(row.id),
        Question::New { .. } => None,
    };
    let room = if is_new {
        Room {
            queue_no: 1,
            ..Room::default()
        }
    } else {
        make_room(c, scope, &mut conversation, when_busy, keep).await?
    };
    let (first_seq, now, run_id) = (c.head(id.0), c.now(), RunId(c.clock().uuid()));
    let said = match question {
        Question::New {
            text,
            below,
            client_id,
        } => {
            let parent = parent(&conversation, &below, &room.gone);
            Some(message::Model {
                parent_id: parent,
                client_id,
                parts: Parts(vec![Part::Text { text }]),
                author_id: Some(scope.user()),
                ..blank(c, scope, &conversation, run_id)
            })
        }
        Question::There(_) => None,
    };
    let asked = said
        .as_ref()
        .map(|row| row.id)
        .or(keep)
        .ok_or_else(|| CommandError::Internal("nothing was asked".into()))?;
    let answer = message::Model {
        seq: first_seq + 1 + i64::from(said.is_some()),
        role: MessageRole::Assistant,
        status: MessageStatus::Streaming,
        is_hidden: true,
        agent_id: Some(agent),
        parent_id: Some(asked),
        ..blank(c, scope, &conversation, run_id)
    };
    let run = run::Model {
        id: run_id,
        tenant_id: scope.tenant(),
        conversation_id: id,
        parent_run_id: None,
        agent_id: Some(agent),
        agent_version_id: None,
        draft,
        asked_model_id: model,
        primary_model_id: None,
        model_id: None,
        status: RunStatus::Queued,
        trigger,
        user_id: scope.user(),
        api_key_id: if let Principal::Key(key) = scope.principal() {
            Some(key)
        } else {
            None
        },
        permissions: scope.permissions(),
        queue_no: room.queue_no,
        input_message_id: Some(asked),
        output_message_id: answer.id,
        attempt: 0,
        losses: 0,
        losses_in_step: 0,
        owner: None,
        lease_until: None,
        progress_at: None,
        steps: 0,
        error: None,
        usage: Usage::default(),
        first_seq,
        terminal_seq: None,
        format: FORMAT,
        created_at: now,
        started_at: None,
        first_token_at: None,
        finished_at: None,
    };

    let has_new_agent = takes_over && conversation.agent_id != Some(agent);
    if has_new_agent {
        conversation.agent_id = Some(agent);
    }
    conversation.leaf_id = Some(answer.id);
    if let Some(said) = &said {
        conversation.last_message_id = Some(said.id);
    }
    conversation.last_queue_no = conversation.last_queue_no.max(room.queue_no);
    conversation.last_activity_at = now;
    conversation.updated_at = now;
    store(c, scope, &conversation, is_new).await?;
    let by = Some((run_id, 0));
    if let Some(said) = &said {
        c.append(
            id.0,
            by,
            Body::MessageCreated(MessageFacts::of(said)).draft(),
        );
    }
    let position = i32::try_from(room.ahead).unwrap_or(i32::MAX);
    c.append(
        id.0,
        by,
        Body::RunQueued {
            position,
            run: RunFacts {
                position: Some(position),
                ..RunFacts::of(&run)
            },
        }
        .draft(),
    );
    // A new question shows by itself which branch goes on; an answer that is to come does not.
    if (has_new_agent && !is_new) || said.is_none() {
        let facts = ConversationFacts {
            // The answer does not show yet.
            leaf: Some(asked),
            ..ConversationFacts::of(&conversation)
        };
        c.append(id.0, None, Body::ConversationUpdated(facts).draft());
    }
    let seen_by = Some(conversation.audience());
    c.changed(scope, ResourceKind::Run, run_id.0, None, seen_by);
    let rows = said.into_iter().chain([answer.clone()]).collect();
    message::Entity::add_all(&**c.tx(), rows).await?;
    run::Entity::add(&**c.tx(), run.clone()).await?;
    let sent = Sent {
        conversation: id,
        message: asked,
        run: run_id,
        before,
    };
    let started = if room.ahead == 0 && engine.has_slot() {
        let places = (engine.options().places_at_once(), true);
        start::start(engine, c, run, answer, places).await?
    } else {
        None
    };
    if started.is_none() {
        c.wake_workers();
    }
    Ok(Sending { sent, started })
}

fn parent(conversation: &conversation::Model, below: &Below, gone: &Gone) -> Option<MessageId> {
    match *below {
        Below::Leaf => conversation.leaf_id,
        Below::Message(parent) if gone.has(parent) => gone.onto,
        Below::Message(parent) => parent,
    }
}

/// A message of the next number, as a person's is before anything is in it.
fn blank(
    c: &Command,
    scope: &Scope,
    conversation: &conversation::Model,
    run: RunId,
) -> message::Model {
    let (now, next) = (c.now(), c.head(conversation.id.0) + 1);
    message::Model {
        id: MessageId(c.clock().uuid()),
        tenant_id: scope.tenant(),
        conversation_id: conversation.id,
        seq: next,
        role: MessageRole::User,
        status: MessageStatus::Complete,
        is_hidden: false,
        author_id: None,
        agent_id: None,
        model_id: None,
        parent_id: None,
        run_id: Some(run),
        client_id: None,
        parts: Parts::default(),
        parts_seq: next,
        usage: None,
        rating: None,
        rating_comment: None,
        summary: None,
        is_indexed: false,
        removed_at: None,
        created_at: now,
        updated_at: now,
    }
}

async fn store(
    c: &mut Command,
    scope: &Scope,
    row: &conversation::Model,
    is_new: bool,
) -> Result<(), CommandError> {
    if is_new {
        conversation::Entity::add(&**c.tx(), row.clone()).await?;
        return Ok(());
    }
    conversation::Entity::change_in(scope)
        .filter(conversation::Column::Id.eq(row.id))
        .set(conversation::ActiveModel {
            agent_id: Set(row.agent_id),
            leaf_id: Set(row.leaf_id),
            last_message_id: Set(row.last_message_id),
            last_queue_no: Set(row.last_queue_no),
            last_activity_at: Set(row.last_activity_at),
            updated_at: Set(row.updated_at),
            ..Default::default()
        })
        .exec(&**c.tx())
        .await?;
    conversations::changed(c, row, ChangeAction::Updated);
    Ok(())
}

/// The agent's draft as it is now, where that is what is to answer.
pub(super) fn drafted(
    scope: &Scope,
    agent: &agent::Model,
    use_draft: bool,
    path: &[&str],
) -> Result<Option<Draft>, CommandError> {
    if !use_draft {
        return Ok(None);
    }
    let may_edit = scope.may(Permission::AgentsEdit)
        && scope.access(ResourceKind::Agent, &agent.audience()) >= Some(Access::Edit);
    if !may_edit {
        return Err(Refusal::forbidden(path, Some(Permission::AgentsEdit)).into());
    }
    Ok(Some(Draft {
        spec: agent.draft.clone(),
        model_id: agent.draft_model_id,
    }))
}

/// A model that the caller may name.
pub(super) async fn check_model(
    c: &Command,
    scope: &Scope,
    id: ModelId,
) -> Result<(), CommandError> {
    let row = seen_model(c, scope, id)
        .await?
        .ok_or_else(|| Refusal::not_found(&["input", "modelId"], id))?;
    if row.kind != ModelKind::Chat {
        return Err(Refusal::invalid(
            &["input", "modelId"],
            format!("{:?} is no chat model", row.name),
        )
        .into());
    }
    Ok(())
}

/// The model if it is there and the caller sees it.
pub(super) async fn seen_model(
    c: &Command,
    scope: &Scope,
    id: ModelId,
) -> Result<Option<llm_model::Model>, CommandError> {
    Ok(llm_model::Entity::in_tenant(scope)
        .filter(llm_model::Column::Id.eq(id))
        .filter(llm_model::Column::DeletedAt.is_null())
        .one(&**c.tx())
        .await?
        .filter(|row| scope.access(ResourceKind::Model, &row.audience()).is_some()))
}
