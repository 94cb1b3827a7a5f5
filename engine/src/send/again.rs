//! Asking again: the same question, the same in other words, and the request of a run that came to nothing.

use entities::{
    Access, AgentId, CommandError, MessageId, MessageRole, ModelId, Reference, Refusal, RunId,
    RunStatus, RunTrigger, Scope, conversation, message, query::*, run,
};
use events::Command;

use super::{
    Sending, Sent, WhenBusy,
    ask::{Asking, Below, Question, ask, check_model, drafted, seen_model},
    message::check,
};
use crate::{
    Engine,
    conversations::{self, may},
};

/// A question that is to be answered again, as a sibling of the answers that it has.
#[derive(Debug, Clone)]
pub struct RegenerateMessage {
    /// One of the answers, or the question itself.
    pub message: MessageId,
    /// Left out: the agent's.
    pub model: Option<ModelId>,
    /// See [`WhenBusy`].
    pub when_busy: WhenBusy,
}

/// Other words for a question, as a sibling of it.
#[derive(Debug, Clone)]
pub struct EditMessage {
    /// The question.
    pub message: MessageId,
    /// What is said instead.
    pub text: String,
    /// See [`WhenBusy`].
    pub when_busy: WhenBusy,
    /// What the sender calls it.
    pub client_id: Option<String>,
}

/// A run whose request is to be run again.
#[derive(Debug, Clone)]
pub struct RetryRun {
    /// One that failed or was cancelled.
    pub run: RunId,
    /// Left out: the one that was asked for then, if any was.
    pub model: Option<ModelId>,
}

const PATH: &[&str] = &["input", "id"];

impl Engine {
    /// Answers a question again. The agent is the conversation's; its draft where the answer of before came from that.
    ///
    /// # Errors
    /// As [`Engine::send_message`]; a refusal for a message that is neither a question nor an answer.
    pub async fn regenerate_message(
        &self,
        scope: &Scope,
        input: RegenerateMessage,
    ) -> Result<Sent, CommandError> {
        may(scope)?;
        let (engine, scope) = (self.clone(), scope.clone());
        self.sending(scope.tenant(), move |c| {
            Box::pin(async move { regenerate(&engine, c, &scope, input).await })
        })
        .await
    }

    /// Asks again in other words. The agent is the conversation's; its draft where the question of before went to that.
    ///
    /// # Errors
    /// As [`Engine::send_message`]; a refusal for a message that nobody asked.
    pub async fn edit_message(
        &self,
        scope: &Scope,
        input: EditMessage,
    ) -> Result<Sent, CommandError> {
        may(scope)?;
        let refusals = check(self, &input.text, input.client_id.as_deref());
        if !refusals.is_empty() {
            return Err(CommandError::Refused(refusals));
        }
        let (engine, scope) = (self.clone(), scope.clone());
        self.sending(scope.tenant(), move |c| {
            Box::pin(async move { edit(&engine, c, &scope, input).await })
        })
        .await
    }

    /// Runs the request of a run again that failed or was cancelled: the same question to the same agent, whose version, or draft
    /// where that was asked for, is chosen anew. It waits its turn.
    ///
    /// # Errors
    /// As [`Engine::send_message`]; a conflict with a run that did not fail.
    pub async fn retry_run(&self, scope: &Scope, input: RetryRun) -> Result<Sent, CommandError> {
        may(scope)?;
        let (engine, scope) = (self.clone(), scope.clone());
        self.sending(scope.tenant(), move |c| {
            Box::pin(async move { retry(&engine, c, &scope, input).await })
        })
        .await
    }
}

async fn regenerate(
    engine: &Engine,
    c: &mut Command,
    scope: &Scope,
    input: RegenerateMessage,
) -> Result<Sending, CommandError> {
    let (conversation, row) = talk_of(c, scope, input.message).await?;
    let earlier = run_of(c, scope, row.run_id).await?;
    let before = earlier.as_ref().and_then(|run| run.agent_id);
    let question = match row.role {
        MessageRole::User => Some(row),
        MessageRole::Assistant => match row.parent_id {
            Some(parent) => question(c, scope, parent).await?,
            None => None,
        },
        MessageRole::System => None,
    };
    let question = question.ok_or_else(|| {
        Refusal::invalid(PATH, "this message is neither a question nor an answer")
    })?;
    if let Some(model) = input.model {
        check_model(c, scope, model).await?;
    }
    let again = Again {
        agent: conversation.agent_id.or(before),
        conversation,
        question: Question::There(Box::new(question)),
        earlier,
    };
    let mut asking = again.asking(c, scope, RunTrigger::Regenerate).await?;
    asking.model = input.model;
    asking.when_busy = input.when_busy;
    ask(engine, c, scope, asking).await
}

async fn edit(
    engine: &Engine,
    c: &mut Command,
    scope: &Scope,
    input: EditMessage,
) -> Result<Sending, CommandError> {
    let (conversation, row) = talk_of(c, scope, input.message).await?;
    if row.role != MessageRole::User {
        return Err(Refusal::invalid(PATH, "only what a person said can be edited").into());
    }
    let earlier = run_of(c, scope, row.run_id).await?;
    let before = earlier.as_ref().and_then(|run| run.agent_id);
    let again = Again {
        agent: conversation.agent_id.or(before),
        conversation,
        question: Question::New {
            text: input.text,
            below: Below::Message(row.parent_id),
            client_id: input.client_id,
        },
        earlier,
    };
    let mut asking = again.asking(c, scope, RunTrigger::Edit).await?;
    asking.when_busy = input.when_busy;
    ask(engine, c, scope, asking).await
}

async fn retry(
    engine: &Engine,
    c: &mut Command,
    scope: &Scope,
    input: RetryRun,
) -> Result<Sending, CommandError> {
    let not_found = || Refusal::not_found(PATH, input.run);
    let seen = run::Entity::seen(scope).filter(run::Column::Id.eq(input.run));
    let conversation = seen.clone().one(&**c.tx()).await?.ok_or_else(not_found)?;
    let conversation =
        conversations::find_locked(c, scope, conversation.conversation_id, Access::Edit, PATH)
            .await?
            .ok_or_else(not_found)?;
    // Again, now that nobody can change it.
    let run = seen.one(&**c.tx()).await?.ok_or_else(not_found)?;
    let conflicting = Some(Reference {
        prefix: RunId::PREFIX,
        id: run.id.0,
    });
    let conflict = |why: &str| Refusal::conflict(PATH, why, conflicting);
    if run.parent_run_id.is_some()
        || !matches!(run.status, RunStatus::Failed | RunStatus::Cancelled)
    {
        let why = "only a run that failed or was cancelled is run again";
        return Err(conflict(why).into());
    }
    let question = match run.input_message_id {
        Some(id) => question(c, scope, id).await?,
        None => None,
    };
    let question = question.ok_or_else(|| conflict("the question of this run is gone"))?;
    let model = match (input.model, run.asked_model_id) {
        (Some(model), _) => {
            check_model(c, scope, model).await?;
            Some(model)
        }
        // One that is gone since leaves the choice to the agent.
        (None, Some(model)) => seen_model(c, scope, model).await?.map(|row| row.id),
        (None, None) => None,
    };
    let again = Again {
        // Whoever answers in the conversation by now: this request went to its own.
        agent: run.agent_id.or(conversation.agent_id),
        conversation,
        question: Question::There(Box::new(question)),
        earlier: Some(run),
    };
    let mut asking = again.asking(c, scope, RunTrigger::Retry).await?;
    asking.model = model;
    ask(engine, c, scope, asking).await
}

/// What is asked for again, and what is known of the first time.
struct Again {
    conversation: conversation::Model,
    question: Question,
    earlier: Option<run::Model>,
    agent: Option<AgentId>,
}

impl Again {
    async fn asking(
        self,
        c: &Command,
        scope: &Scope,
        trigger: RunTrigger,
    ) -> Result<Asking, CommandError> {
        let id = self
            .agent
            .ok_or_else(|| Refusal::invalid(PATH, "the conversation has no agent"))?;
        let agent = conversations::usable_agent(c, scope, id, PATH).await?;
        let use_draft = self
            .earlier
            .is_some_and(|run| run.draft.is_some() && run.agent_id == Some(id));
        Ok(Asking {
            conversation: self.conversation,
            is_new: false,
            question: self.question,
            agent: id,
            takes_over: false,
            draft: drafted(scope, &agent, use_draft, PATH)?,
            model: None,
            trigger,
            when_busy: WhenBusy::Enqueue,
        })
    }
}

/// A message that the caller sees, read when its conversation is locked.
async fn talk_of(
    c: &mut Command,
    scope: &Scope,
    id: MessageId,
) -> Result<(conversation::Model, message::Model), CommandError> {
    let (conversation, row) = conversations::locked_by_message(c, scope, id, PATH)
        .await?
        .ok_or_else(|| Refusal::not_found(PATH, id))?;
    Ok((conversation, row))
}

/// What a person said, if it was not taken out since.
async fn question(
    c: &Command,
    scope: &Scope,
    id: MessageId,
) -> Result<Option<message::Model>, CommandError> {
    Ok(message::Entity::in_tenant(scope)
        .filter(message::Column::Id.eq(id))
        .filter(message::Column::Role.eq(MessageRole::User))
        .filter(message::Column::IsHidden.eq(false))
        .one(&**c.tx())
        .await?)
}

async fn run_of(
    c: &Command,
    scope: &Scope,
    id: Option<RunId>,
) -> Result<Option<run::Model>, CommandError> {
    let Some(id) = id else {
        return Ok(None);
    };
    Ok(run::Entity::in_tenant(scope)
        .filter(run::Column::Id.eq(id))
        .one(&**c.tx())
        .await?)
}
