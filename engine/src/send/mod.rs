//! Saying something, and having it answered: a message, the same question again, other words for it, a run once more. What is
//! made stands in one transaction (the question, the run that answers it and the place of its answer), and where this process
//! has room the start of the run as well.

mod again;
mod ask;
mod busy;
mod message;

use adapters::spans::Origin;
use entities::{CommandError, ConversationId, MessageId, RunId, TenantId};
use events::{Command, Work};
use serde::{Deserialize, Serialize};

pub use again::{EditMessage, RegenerateMessage, RetryRun};
pub use message::SendMessage;

use crate::{Engine, start::Started};

/// What to do while a run is under way in the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenBusy {
    /// Refuse the message.
    Reject,
    /// Run afterwards, in order.
    Enqueue,
    /// Cancel the run, whose answer stays as far as it went, and run before all that waits.
    Interrupt,
    /// Cancel the run and take its turn out of the conversation, and run before all that waits.
    Rollback,
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The conversation.
    pub conversation: ConversationId,
    /// The question.
    pub message: MessageId,
    /// The run that answers it.
    pub run: RunId,
    /// The number before the first event of all this.
    pub before: i64,
}

/// What was made, and its run where it began at once: a repetition begins nothing.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sending {
    pub(crate) sent: Sent,
    #[serde(skip)]
    pub(crate) started: Option<Started>,
}

impl Engine {
    /// Does a command that sends, and takes its run up where it began in it. In a task of its own: whoever waits for the answer
    /// may be gone by then.
    async fn sending<F>(&self, tenant: TenantId, work: F) -> Result<Sent, CommandError>
    where
        F: for<'c> FnOnce(&'c mut Command) -> Work<'c, Sending, CommandError> + Send + 'static,
    {
        let engine = self.clone();
        let task = self.log().tasks().spawn("sending a message", async move {
            let sent_at = engine.clock().instant();
            let sending = engine.command(tenant, work).await?;
            let origin = Origin::here().filter(|_| engine.options().works);
            if let Some(origin) = origin {
                engine.origins().remember(sending.sent.run, origin);
            }
            if let Some(started) = sending.started {
                engine.take_up(started, sent_at);
            }
            Ok(sending.sent)
        });
        task.await
            .unwrap_or_else(|_| Err(CommandError::Internal("sending a message panicked".into())))
    }
}
