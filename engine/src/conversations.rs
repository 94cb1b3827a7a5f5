//! Making, changing and deleting conversations.

use entities::{
    AgentId, ChangeAction, CommandError, ConversationId, Permission, Refusal, ResourceKind,
    RunStatus, Scope, agent, conversation, input, query::*, run,
};
use events::Command;
use serde_json::json;

use crate::{
    Engine,
    event::{self, Body, ConversationFacts},
};

/// What a conversation is made of.
#[derive(Debug, Clone, Default)]
pub struct CreateConversation {
    /// The agent that answers in it.
    pub agent: Option<AgentId>,
    /// A person's title for it.
    pub title: Option<String>,
}

/// What changes of a conversation; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct UpdateConversation {
    /// `Some(None)` takes the title off: a model may write one again.
    pub title: Option<Option<String>>,
    /// The agent that answers from now on.
    pub agent: Option<Option<AgentId>>,
    /// Whether it is put aside.
    pub is_archived: Option<bool>,
}

impl Engine {
    /// Makes an empty conversation of the caller's own.
    ///
    /// # Errors
    /// FORBIDDEN without the right to use conversations; refusals for a title that is too long and an agent that is not there.
    pub async fn create_conversation(
        &self,
        scope: &Scope,
        input: CreateConversation,
    ) -> Result<ConversationId, CommandError> {
        may(scope)?;
        check_title(input.title.as_deref())?;
        let scope = scope.clone();
        self.log()
            .command(move |c| {
                Box::pin(async move {
                    if let Some(agent) = input.agent {
                        usable_agent(c, &scope, agent, &["input", "agentId"]).await?;
                    }
                    let row = new(c, &scope, input.agent, input.title);
                    let id = row.id;
                    conversation::Entity::add(&**c.tx(), row).await?;
                    Ok(id)
                })
            })
            .await
    }

    /// Changes a conversation of the caller's own.
    ///
    /// # Errors
    /// As [`Engine::create_conversation`], and where it is not there.
    pub async fn update_conversation(
        &self,
        scope: &Scope,
        id: ConversationId,
        input: UpdateConversation,
    ) -> Result<ConversationId, CommandError> {
        may(scope)?;
        check_title(input.title.as_ref().and_then(Option::as_deref))?;
        let scope = scope.clone();
        self.log()
            .command(move |c| {
                Box::pin(async move {
                    let mut row = locked(c, &scope, id, &["input", "id"]).await?;
                    if let Some(Some(agent)) = input.agent {
                        usable_agent(c, &scope, agent, &["input", "agentId"]).await?;
                    }
                    if let Some(title) = input.title {
                        row.title_by_person = title.is_some();
                        row.title = title;
                    }
                    row.agent_id = input.agent.unwrap_or(row.agent_id);
                    row.is_archived = input.is_archived.unwrap_or(row.is_archived);
                    row.updated_at = c.now();
                    conversation::Entity::change_in(&scope)
                        .filter(conversation::Column::Id.eq(id))
                        .set(conversation::ActiveModel {
                            title: Set(row.title.clone()),
                            title_by_person: Set(row.title_by_person),
                            agent_id: Set(row.agent_id),
                            is_archived: Set(row.is_archived),
                            updated_at: Set(row.updated_at),
                            ..Default::default()
                        })
                        .exec(&**c.tx())
                        .await?;
                    c.append(
                        id.0,
                        None,
                        Body::ConversationUpdated(ConversationFacts::of(&row)).draft(),
                    );
                    changed(c, &scope, id, ChangeAction::Updated);
                    Ok(id)
                })
            })
            .await
    }

    /// Deletes a conversation of the caller's own; what runs in it is cancelled.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn delete_conversation(
        &self,
        scope: &Scope,
        id: ConversationId,
    ) -> Result<ConversationId, CommandError> {
        may(scope)?;
        let scope = scope.clone();
        self.log()
            .command(move |c| {
                Box::pin(async move {
                    locked(c, &scope, id, &["input", "id"]).await?;
                    let open = [RunStatus::Queued, RunStatus::Running, RunStatus::Waiting];
                    let runs = run::Entity::in_tenant(&scope)
                        .filter(run::Column::ConversationId.eq(id))
                        .filter(run::Column::Status.is_in(open))
                        .order_by_desc(run::Column::QueueNo)
                        .all(&**c.tx())
                        .await?;
                    for run in runs {
                        crate::cancel::cancel(c, run).await?;
                    }
                    conversation::Entity::change_in(&scope)
                        .filter(conversation::Column::Id.eq(id))
                        .set(conversation::ActiveModel {
                            deleted_at: Set(Some(c.now())),
                            updated_at: Set(c.now()),
                            ..Default::default()
                        })
                        .exec(&**c.tx())
                        .await?;
                    c.append(id.0, None, event::deleted());
                    changed(c, &scope, id, ChangeAction::Deleted);
                    Ok(id)
                })
            })
            .await
    }
}

pub(crate) fn may(scope: &Scope) -> Result<(), CommandError> {
    let needs = Permission::ConversationsUse;
    if scope.may(needs) {
        Ok(())
    } else {
        Err(CommandError::Forbidden(Some(needs)))
    }
}

fn check_title(title: Option<&str>) -> Result<(), Refusal> {
    title.map_or(Ok(()), |title| {
        input::filled(&["input", "title"], title, input::NAME)
    })
}

/// A new conversation with its stream; the row is the caller's to add.
pub(crate) fn new(
    c: &mut Command,
    scope: &Scope,
    agent: Option<AgentId>,
    title: Option<String>,
) -> conversation::Model {
    let id = ConversationId(c.clock().uuid());
    c.create(scope.tenant(), id.0);
    changed(c, scope, id, ChangeAction::Created);
    conversation::Model {
        id,
        tenant_id: scope.tenant(),
        owner_id: scope.user(),
        agent_id: agent,
        title_by_person: title.is_some(),
        title,
        is_archived: false,
        leaf_id: None,
        last_message_id: None,
        active_run_id: None,
        last_queue_no: 0,
        last_activity_at: c.now(),
        created_at: c.now(),
        updated_at: c.now(),
        deleted_at: None,
    }
}

/// The caller's conversation, its stream locked.
pub(crate) async fn locked(
    c: &mut Command,
    scope: &Scope,
    id: ConversationId,
    path: &[&str],
) -> Result<conversation::Model, CommandError> {
    let not_found = || Refusal::not_found(path, id);
    c.lock(scope.tenant(), id.0).await?.ok_or_else(not_found)?;
    // In a statement of its own, after the wait for the lock.
    let row = conversation::Entity::seen(scope)
        .filter(conversation::Column::Id.eq(id))
        .one(&**c.tx())
        .await?;
    Ok(row.ok_or_else(not_found)?)
}

/// An agent that the caller may run.
pub(crate) async fn usable_agent(
    c: &Command,
    scope: &Scope,
    id: AgentId,
    path: &[&str],
) -> Result<agent::Model, CommandError> {
    let row = agent::Entity::in_tenant(scope)
        .filter(agent::Column::Id.eq(id))
        .filter(agent::Column::DeletedAt.is_null())
        .one(&**c.tx())
        .await?;
    let row = row
        .filter(|row| scope.access(row.owner_id, row.visibility).is_some())
        .ok_or_else(|| Refusal::not_found(path, id))?;
    if !scope.may(Permission::AgentsUse) {
        return Err(Refusal::forbidden(path, Some(Permission::AgentsUse)).into());
    }
    if !row.is_enabled {
        return Err(Refusal::invalid(path, format!("the agent {:?} is disabled", row.name)).into());
    }
    Ok(row)
}

pub(crate) fn changed(c: &mut Command, scope: &Scope, id: ConversationId, action: ChangeAction) {
    let owner = json!({ "owner": scope.user() });
    let (before, after) = match action {
        ChangeAction::Created => (None, Some(owner)),
        ChangeAction::Updated => (Some(owner.clone()), Some(owner)),
        ChangeAction::Deleted => (Some(owner), None),
    };
    c.changed(
        scope,
        ResourceKind::Conversation,
        id.0,
        action,
        json!({ "before": before, "after": after }),
    );
}
