//! Making, changing and deleting conversations.

use entities::{
    Access, AgentId, Audience, ChangeAction, CommandError, ConversationId, MessageId, Permission,
    Refusal, ResourceKind, RunStatus, Scope, TenantId, agent, conversation, input, message,
    query::*, run, tree,
};
use events::Command;

use crate::{
    Engine,
    event::{self, Body, ConversationFacts},
    start::SYSTEM,
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
    /// A message from whose branch it goes on; `Some(None)`: from none, so that the next message begins another tree.
    pub leaf: Option<Option<MessageId>>,
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
        self.command(scope.tenant(), move |c| {
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
        self.command(scope.tenant(), move |c| {
            Box::pin(async move {
                let mut row = locked(c, &scope, id, Access::Edit, &["input", "id"]).await?;
                if let Some(Some(agent)) = input.agent {
                    usable_agent(c, &scope, agent, &["input", "agentId"]).await?;
                }
                let mut set: conversation::ActiveModel = Default::default();
                if let Some(title) = input.title {
                    set.title_by_person = Set(title.is_some());
                    set.title = Set(title.clone());
                    set.is_indexed = Set(false);
                    // One that is taken off makes way for a model's, whatever became of earlier ones. Left alone otherwise: a
                    // process that is about to write a title does not wait for the stream.
                    set.title_due_at = Set(None);
                    set.title_failures = Set(0);
                    row.title = title;
                }
                if let Some(leaf) = input.leaf {
                    row.leaf_id = match leaf {
                        Some(message) => Some(leaf_of(c, &scope, id, message).await?),
                        None => None,
                    };
                }
                row.agent_id = input.agent.unwrap_or(row.agent_id);
                row.is_archived = input.is_archived.unwrap_or(row.is_archived);
                row.updated_at = c.now();
                conversation::Entity::change_in(&scope)
                    .filter(conversation::Column::Id.eq(id))
                    .set(conversation::ActiveModel {
                        agent_id: Set(row.agent_id),
                        is_archived: Set(row.is_archived),
                        leaf_id: Set(row.leaf_id),
                        updated_at: Set(row.updated_at),
                        ..set
                    })
                    .exec(&**c.tx())
                    .await?;
                let facts = facts(c, &row).await?;
                c.append(id.0, None, Body::ConversationUpdated(facts).draft());
                changed(c, &row, ChangeAction::Updated);
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
        self.command(scope.tenant(), move |c| {
            Box::pin(async move {
                let row = locked(c, &scope, id, Access::Manage, &["input", "id"]).await?;
                let open = [RunStatus::Queued, RunStatus::Running, RunStatus::Waiting];
                let runs = run::Entity::in_tenant(&scope)
                    .filter(run::Column::ConversationId.eq(id))
                    .filter(run::Column::Status.is_in(open))
                    .order_by_desc(run::Column::QueueNo)
                    .all(&**c.tx())
                    .await?;
                for run in runs {
                    let id = run.id.0;
                    crate::cancel::cancel(c, run).await?;
                    let seen_by = Some(row.audience());
                    c.changed(&scope, ResourceKind::Run, id, seen_by, None);
                }
                conversation::Entity::change_in(&scope)
                    .filter(conversation::Column::Id.eq(id))
                    .set(conversation::ActiveModel {
                        is_indexed: Set(false),
                        deleted_at: Set(Some(c.now())),
                        updated_at: Set(c.now()),
                        ..Default::default()
                    })
                    .exec(&**c.tx())
                    .await?;
                c.append(id.0, None, event::deleted());
                changed(c, &row, ChangeAction::Deleted);
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
    let row = conversation::Model {
        id,
        tenant_id: scope.tenant(),
        owner_id: scope.user(),
        reach: None,
        agent_id: agent,
        title_by_person: title.is_some(),
        title_due_at: None,
        title_failures: 0,
        is_indexed: false,
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
    };
    changed(c, &row, ChangeAction::Created);
    row
}

/// A conversation that the caller may go so far with, its stream locked.
pub(crate) async fn locked(
    c: &mut Command,
    scope: &Scope,
    id: ConversationId,
    least: Access,
    path: &[&str],
) -> Result<conversation::Model, CommandError> {
    let found = find_locked(c, scope, id, least, path).await?;
    Ok(found.ok_or_else(|| Refusal::not_found(path, id))?)
}

/// The same, for whoever has named something else at `path` by which it was found.
pub(crate) async fn find_locked(
    c: &mut Command,
    scope: &Scope,
    id: ConversationId,
    least: Access,
    path: &[&str],
) -> Result<Option<conversation::Model>, CommandError> {
    if c.lock(scope.tenant(), id.0).await?.is_none() {
        return Ok(None);
    }
    // In a statement of its own, after the wait for the lock.
    let row = conversation::Entity::seen(scope)
        .filter(conversation::Column::Id.eq(id))
        .one(&**c.tx())
        .await?;
    let access =
        |row: &conversation::Model| scope.access(ResourceKind::Conversation, &row.audience());
    if row.as_ref().is_some_and(|row| access(row) < Some(least)) {
        return Err(Refusal::forbidden(path, None).into());
    }
    Ok(row)
}

/// A message at `path` in a conversation that the caller may change, and that conversation, read when its stream is locked.
pub(crate) async fn locked_by_message(
    c: &mut Command,
    scope: &Scope,
    id: MessageId,
    path: &[&str],
) -> Result<Option<(conversation::Model, message::Model)>, CommandError> {
    let seen = message::Entity::seen(scope).filter(message::Column::Id.eq(id));
    let stream: Option<ConversationId> = seen
        .clone()
        .select_only()
        .column(message::Column::ConversationId)
        .into_tuple()
        .one(&**c.tx())
        .await?;
    let Some(stream) = stream else {
        return Ok(None);
    };
    let Some(conversation) = find_locked(c, scope, stream, Access::Edit, path).await? else {
        return Ok(None);
    };
    let row = seen.one(&**c.tx()).await?;
    Ok(row.map(|row| (conversation, row)))
}

/// The end of the branch that a message of this conversation is on: the latest below it, be it an answer that is yet to begin.
async fn leaf_of(
    c: &Command,
    scope: &Scope,
    id: ConversationId,
    message: MessageId,
) -> Result<MessageId, CommandError> {
    let not_found = || Refusal::not_found(&["input", "leafId"], message);
    message::Entity::in_tenant(scope)
        .filter(message::Column::Id.eq(message))
        .filter(message::Column::ConversationId.eq(id))
        .filter(message::Column::IsHidden.eq(false))
        .one(&**c.tx())
        .await?
        .ok_or_else(not_found)?;
    let leaf = message::Entity::latest_leaf(&**c.tx(), scope.tenant(), id, Some(message)).await?;
    Ok(leaf.unwrap_or(message))
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
        .filter(|row| scope.access(ResourceKind::Agent, &row.audience()).is_some())
        .ok_or_else(|| Refusal::not_found(path, id))?;
    if !scope.may(Permission::AgentsUse) {
        return Err(Refusal::forbidden(path, Some(Permission::AgentsUse)).into());
    }
    if !row.is_enabled {
        return Err(Refusal::invalid(path, format!("the agent {:?} is disabled", row.name)).into());
    }
    Ok(row)
}

/// A conversation as it is told of: its branch ends with a message that shows, so that it is told the same later, when an answer
/// that was yet to begin shows as well.
pub(crate) async fn facts(
    c: &Command,
    row: &conversation::Model,
) -> Result<ConversationFacts, CommandError> {
    let mut facts = ConversationFacts::of(row);
    if let Some(leaf) = facts.leaf {
        let shown = tree::shown(row.tenant_id, &**c.tx(), &[leaf]).await?;
        facts.leaf = shown.get(&leaf).copied();
    }
    Ok(facts)
}

/// Who sees a conversation at this moment.
pub(crate) async fn seen_by(
    c: &Command,
    tenant: TenantId,
    id: ConversationId,
) -> Result<Audience, CommandError> {
    let row = conversation::Entity::anywhere(SYSTEM)
        .filter(conversation::Column::TenantId.eq(tenant))
        .filter(conversation::Column::Id.eq(id))
        .one(&**c.tx())
        .await?;
    let row = row.ok_or_else(|| CommandError::Internal(format!("{id} is not there")))?;
    Ok(row.audience())
}

/// Says in the tenant's `changes` that a conversation changed.
pub(crate) fn changed(c: &mut Command, row: &conversation::Model, action: ChangeAction) {
    tell(c, row.tenant_id, row.audience(), row.id, action);
}

/// The same where the row is not at hand.
pub(crate) fn tell(
    c: &mut Command,
    tenant: TenantId,
    seen_by: Audience,
    id: ConversationId,
    action: ChangeAction,
) {
    let seen_by = Some(seen_by);
    let (before, after) = match action {
        ChangeAction::Created => (None, seen_by),
        ChangeAction::Updated => (seen_by.clone(), seen_by),
        ChangeAction::Deleted => (seen_by, None),
    };
    c.changed_in(tenant, ResourceKind::Conversation, id.0, before, after);
}
