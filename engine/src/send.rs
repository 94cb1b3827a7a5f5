//! Sending a message: the message, the run that answers it and the place of its answer, in one transaction, and where this
//! process has room the start of the run as well.

use entities::{
    Access, AgentId, ChangeAction, CommandError, ConversationId, Draft, MessageId, MessageRole,
    MessageStatus, ModelId, ModelKind, Part, Parts, Permission, Principal, Reference, Refusal,
    ResourceKind, RunId, RunStatus, RunTrigger, Scope, Usage, agent, conversation, input,
    llm_model, message, query::*, run,
};
use events::Command;
use serde_json::json;

use crate::{
    Engine, FORMAT,
    conversations::{self, may},
    event::{Body, ConversationFacts, MessageFacts, RunFacts},
    start::{self, Started},
};

/// What to do while a run is under way in the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenBusy {
    /// Refuse the message.
    Reject,
    /// Run afterwards, in order.
    Enqueue,
}

/// A message to send.
#[derive(Debug, Clone)]
pub struct SendMessage {
    /// Left out: a new conversation.
    pub conversation: Option<ConversationId>,
    /// Left out: the conversation's.
    pub agent: Option<AgentId>,
    /// What is said.
    pub text: String,
    /// What it follows; left out: the end of the branch last used.
    pub parent: Option<MessageId>,
    /// Left out: the agent's.
    pub model: Option<ModelId>,
    /// The agent's draft instead of its newest version.
    pub use_draft: bool,
    /// See [`WhenBusy`].
    pub when_busy: WhenBusy,
    /// What the sender calls it.
    pub client_id: Option<String>,
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The conversation.
    pub conversation: ConversationId,
    /// The message.
    pub message: MessageId,
    /// The run that answers it.
    pub run: RunId,
    /// The number before the first event of all this.
    pub before: i64,
}

/// Characters of a client's own name for its message.
const CLIENT_ID: usize = 200;

impl Engine {
    /// Sends a message. Answers when message and run are committed, without waiting for the model.
    ///
    /// # Errors
    /// FORBIDDEN without the right to use conversations and agents; refusals for input that is not acceptable, for what is not
    /// there, and a conflict where the conversation is busy and [`WhenBusy::Reject`] was said.
    pub async fn send_message(
        &self,
        scope: &Scope,
        input: SendMessage,
    ) -> Result<Sent, CommandError> {
        may(scope)?;
        check(&input, self.options().max_message_chars)?;
        let (engine, scope) = (self.clone(), scope.clone());
        // The run is taken up in here too: whoever waits for the answer may be gone by then.
        let task = self.log().tasks().spawn("sending a message", async move {
            let sent_at = engine.clock().instant();
            let starting = engine.clone();
            let (sent, started) = engine
                .log()
                .command(move |c| Box::pin(async move { send(&starting, c, &scope, input).await }))
                .await?;
            if let Some(started) = started {
                engine.take_up(started, sent_at);
            }
            Ok(sent)
        });
        task.await
            .unwrap_or_else(|_| Err(CommandError::Internal("sending a message panicked".into())))
    }
}

fn check(input: &SendMessage, max_chars: usize) -> Result<(), CommandError> {
    let mut refusals = Vec::new();
    refusals.extend(input::filled(&["input", "text"], &input.text, max_chars).err());
    if let Some(client_id) = &input.client_id {
        refusals.extend(input::text(&["input", "clientId"], client_id, CLIENT_ID).err());
    }
    if input.conversation.is_none() && input.agent.is_none() {
        refusals.push(Refusal::invalid(
            &["input", "agentId"],
            "agentId or conversationId must be given",
        ));
    }
    if refusals.is_empty() {
        Ok(())
    } else {
        Err(CommandError::Refused(refusals))
    }
}

async fn send(
    engine: &Engine,
    c: &mut Command,
    scope: &Scope,
    input: SendMessage,
) -> Result<(Sent, Option<Started>), CommandError> {
    let existing = match input.conversation {
        Some(id) => Some(conversations::locked(c, scope, id, &["input", "conversationId"]).await?),
        None => None,
    };
    let agent_id = input.agent.or_else(|| existing.as_ref()?.agent_id);
    let agent_id = agent_id.ok_or_else(|| {
        Refusal::invalid(
            &["input", "agentId"],
            "the conversation has no agent; agentId must be given",
        )
    })?;
    let agent = conversations::usable_agent(c, scope, agent_id, &["input", "agentId"]).await?;
    let draft = drafted(scope, &agent, input.use_draft)?;
    if let Some(model) = input.model {
        check_model(c, scope, model).await?;
    }

    let is_new = existing.is_none();
    let mut conversation =
        existing.unwrap_or_else(|| conversations::new(c, scope, Some(agent_id), None));
    let id = conversation.id;
    let ahead = if is_new {
        Vec::new()
    } else {
        waiting(c, scope, id).await?
    };
    if let (WhenBusy::Reject, Some(busy)) = (input.when_busy, ahead.first()) {
        let conflicting = Some(Reference {
            prefix: RunId::PREFIX,
            id: busy.0,
        });
        return Err(Refusal::conflict(
            &["input", "whenBusy"],
            "a run is under way in this conversation",
            conflicting,
        )
        .into());
    }
    let parent = match input.parent {
        Some(parent) => Some(parent_of(c, scope, id, parent).await?),
        None => conversation.leaf_id,
    };

    let before = c.head(id.0);
    let now = c.now();
    let run_id = RunId(c.clock().uuid());
    let question = message::Model {
        id: MessageId(c.clock().uuid()),
        tenant_id: scope.tenant(),
        conversation_id: id,
        seq: before + 1,
        role: MessageRole::User,
        status: MessageStatus::Complete,
        is_hidden: false,
        author_id: Some(scope.user()),
        agent_id: None,
        model_id: None,
        parent_id: parent,
        run_id: Some(run_id),
        client_id: input.client_id,
        parts: Parts(vec![Part::Text { text: input.text }]),
        parts_seq: before + 1,
        usage: None,
        rating: None,
        rating_comment: None,
        created_at: now,
        updated_at: now,
    };
    let answer = message::Model {
        id: MessageId(c.clock().uuid()),
        seq: before + 2,
        role: MessageRole::Assistant,
        status: MessageStatus::Streaming,
        is_hidden: true,
        author_id: None,
        agent_id: Some(agent_id),
        parent_id: Some(question.id),
        client_id: None,
        parts: Parts::default(),
        ..question.clone()
    };
    let run = run::Model {
        id: run_id,
        tenant_id: scope.tenant(),
        conversation_id: id,
        parent_run_id: None,
        agent_id: Some(agent_id),
        agent_version_id: None,
        draft,
        asked_model_id: input.model,
        model_id: None,
        status: RunStatus::Queued,
        trigger: RunTrigger::Message,
        user_id: scope.user(),
        api_key_id: if let Principal::Key(key) = scope.principal() {
            Some(key)
        } else {
            None
        },
        permissions: scope.permissions(),
        queue_no: conversation.last_queue_no + 1,
        input_message_id: Some(question.id),
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
        first_seq: before,
        terminal_seq: None,
        format: FORMAT,
        created_at: now,
        started_at: None,
        first_token_at: None,
        finished_at: None,
    };

    let has_new_agent = !is_new && conversation.agent_id != Some(agent_id);
    conversation.agent_id = Some(agent_id);
    conversation.leaf_id = Some(answer.id);
    conversation.last_message_id = Some(question.id);
    conversation.last_queue_no += 1;
    conversation.last_activity_at = now;
    conversation.updated_at = now;
    store(c, scope, &conversation, is_new).await?;
    let sent = Sent {
        conversation: id,
        message: question.id,
        run: run_id,
        before,
    };
    c.append(
        id.0,
        Some((run_id, 0)),
        Body::MessageCreated(MessageFacts::of(&question)).draft(),
    );
    let position = i32::try_from(ahead.len()).unwrap_or(i32::MAX);
    c.append(
        id.0,
        Some((run_id, 0)),
        Body::RunQueued {
            position,
            run: RunFacts {
                position: Some(position),
                ..RunFacts::of(&run)
            },
        }
        .draft(),
    );
    if has_new_agent {
        let facts = ConversationFacts::of(&conversation);
        c.append(id.0, None, Body::ConversationUpdated(facts).draft());
    }
    let audience = json!({ "owner": scope.user() });
    c.changed(
        scope,
        ResourceKind::Run,
        run_id.0,
        ChangeAction::Created,
        json!({ "before": null, "after": audience }),
    );
    message::Entity::add_all(&**c.tx(), vec![question, answer.clone()]).await?;
    run::Entity::add(&**c.tx(), run.clone()).await?;

    if ahead.is_empty() && engine.has_slot() {
        return Ok((sent, start::start(engine, c, run, answer).await?));
    }
    c.wake_workers();
    Ok((sent, None))
}

fn drafted(
    scope: &Scope,
    agent: &agent::Model,
    use_draft: bool,
) -> Result<Option<Draft>, CommandError> {
    if !use_draft {
        return Ok(None);
    }
    let may_edit = scope.may(Permission::AgentsEdit)
        && scope.access(agent.owner_id, agent.visibility) >= Some(Access::Edit);
    if !may_edit {
        return Err(
            Refusal::forbidden(&["input", "useDraft"], Some(Permission::AgentsEdit)).into(),
        );
    }
    Ok(Some(Draft {
        spec: agent.draft.clone(),
        model_id: agent.draft_model_id,
    }))
}

async fn check_model(c: &Command, scope: &Scope, id: ModelId) -> Result<(), CommandError> {
    let row = llm_model::Entity::in_tenant(scope)
        .filter(llm_model::Column::Id.eq(id))
        .filter(llm_model::Column::DeletedAt.is_null())
        .one(&**c.tx())
        .await?
        .filter(|row| scope.access(row.owner_id, row.visibility).is_some())
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

/// The runs under way and waiting in a conversation, the one under way first.
async fn waiting(
    c: &Command,
    scope: &Scope,
    id: ConversationId,
) -> Result<Vec<RunId>, CommandError> {
    let open = [RunStatus::Queued, RunStatus::Running, RunStatus::Waiting];
    let runs = run::Entity::in_tenant(scope)
        .filter(run::Column::ConversationId.eq(id))
        .filter(run::Column::ParentRunId.is_null())
        .filter(run::Column::Status.is_in(open))
        .order_by_asc(run::Column::QueueNo)
        .select_only()
        .column(run::Column::Id)
        .into_tuple()
        .all(&**c.tx())
        .await?;
    Ok(runs)
}

async fn parent_of(
    c: &Command,
    scope: &Scope,
    id: ConversationId,
    parent: MessageId,
) -> Result<MessageId, CommandError> {
    let found = message::Entity::in_tenant(scope)
        .filter(message::Column::Id.eq(parent))
        .filter(message::Column::ConversationId.eq(id))
        .filter(message::Column::IsHidden.eq(false))
        .one(&**c.tx())
        .await?;
    Ok(found
        .ok_or_else(|| Refusal::not_found(&["input", "parentId"], parent))?
        .id)
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
    conversations::changed(c, scope, row.id, ChangeAction::Updated);
    Ok(())
}
