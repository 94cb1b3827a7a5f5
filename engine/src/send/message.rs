//! A message.

use entities::{
    Access, AgentId, CommandError, ConversationId, MessageId, ModelId, Refusal, RunTrigger, Scope,
    input, message, query::*,
};
use events::Command;

use super::{
    Sending, Sent, WhenBusy,
    ask::{Asking, Below, Question, ask, check_model, drafted},
};
use crate::{
    Engine,
    conversations::{self, may},
};

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
        let mut refusals = check(self, &input.text, input.client_id.as_deref());
        if input.conversation.is_none() && input.agent.is_none() {
            refusals.push(Refusal::invalid(
                &["input", "agentId"],
                "agentId or conversationId must be given",
            ));
        }
        if !refusals.is_empty() {
            return Err(CommandError::Refused(refusals));
        }
        let (engine, scope) = (self.clone(), scope.clone());
        self.sending(scope.tenant(), move |c| {
            Box::pin(async move { send(&engine, c, &scope, input).await })
        })
        .await
    }
}

/// What is wrong with the words of a message.
pub(super) fn check(engine: &Engine, text: &str, client_id: Option<&str>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let max_chars = engine.options().max_message_chars;
    refusals.extend(input::filled(&["input", "text"], text, max_chars).err());
    if let Some(client_id) = client_id {
        refusals.extend(input::text(&["input", "clientId"], client_id, CLIENT_ID).err());
    }
    refusals
}

async fn send(
    engine: &Engine,
    c: &mut Command,
    scope: &Scope,
    input: SendMessage,
) -> Result<Sending, CommandError> {
    let existing = match input.conversation {
        Some(id) => Some(
            conversations::locked(c, scope, id, Access::Edit, &["input", "conversationId"]).await?,
        ),
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
    let draft = drafted(scope, &agent, input.use_draft, &["input", "useDraft"])?;
    if let Some(model) = input.model {
        check_model(c, scope, model).await?;
    }
    let is_new = existing.is_none();
    let conversation =
        existing.unwrap_or_else(|| conversations::new(c, scope, Some(agent_id), None));
    let below = match input.parent {
        Some(parent) => Below::Message(Some(parent_of(c, scope, conversation.id, parent).await?)),
        None => Below::Leaf,
    };
    let asking = Asking {
        conversation,
        is_new,
        question: Question::New {
            text: input.text,
            below,
            client_id: input.client_id,
        },
        agent: agent_id,
        takes_over: true,
        draft,
        model: input.model,
        trigger: RunTrigger::Message,
        when_busy: input.when_busy,
    };
    ask(engine, c, scope, asking).await
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
