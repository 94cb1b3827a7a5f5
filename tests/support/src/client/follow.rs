//! Follows a conversation through whatever happens to the connection, as a good front end does.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Client, Closed, Subscription, Transcript};
use crate::wait::{PATIENCE, until, within};

/// Asks for the kinds of events that there are.
const KINDS: &str = "{ __type(name: \"ConversationEvent\") { possibleTypes { name } } }";

/// What is asked of each kind of event. Kinds that the server doesn't have are left out of the document.
const FIELDS: [(&str, &str); 19] = [
    (
        "MessageCreated",
        "messageId message { id role status clientId parentId }",
    ),
    (
        "MessageCompleted",
        "messageId message { id role status text }",
    ),
    ("MessageUpdated", "messageId message { id parentId rating }"),
    ("MessagesRemoved", "messageIds"),
    ("RunQueued", "position"),
    ("RunStarted", "attempt"),
    ("StepStarted", "step"),
    ("StepRestarted", "step reason messageId fromPart"),
    (
        "StepFinished",
        "step result { finishReason usage { inputTokens outputTokens } }",
    ),
    (
        "ContextCompacted",
        "tokensBefore tokensAfter message { id parentId role text }",
    ),
    ("TextDelta", "messageId part offset text"),
    ("ReasoningDelta", "messageId part offset text"),
    ("PartAdded", "messageId part"),
    ("ToolCallStarted", "messageId part toolCallId"),
    ("ToolCallArgumentsDelta", "toolCallId offset text"),
    (
        "ToolCallFinished",
        "toolCallId toolCall { name status errorMessage }",
    ),
    ("RunCompleted", "run { status attempts }"),
    ("RunFailed", "error { kind message retryable }"),
    ("RunCancelled", "run { status attempts }"),
];

/// How a following came to an end that is not a break.
#[derive(Clone, Debug, PartialEq)]
pub struct Stopped(pub Closed);

/// Somebody who follows one conversation and comes back with his last cursor after every break.
#[derive(Debug)]
pub struct Follower {
    /// Whom he asks, one after the other: each break takes him to the next.
    clients: Vec<Client>,
    conversation: String,
    document: String,
    subscription: Option<Subscription>,
    /// Where he began.
    after: Option<String>,
    /// What he has made of it.
    pub transcript: Transcript,
    /// How often he came back.
    pub breaks: usize,
}

impl Follower {
    /// Somebody who follows from a cursor on, or from now; he asks nothing yet but which events there are.
    ///
    /// # Panics
    ///
    /// When the server can't say.
    pub async fn new(client: &Client, conversation: &str, after: Option<&str>) -> Self {
        Self::across(std::slice::from_ref(client), conversation, after).await
    }

    /// The same at a server that may be away for a while.
    ///
    /// # Panics
    ///
    /// When it stays away.
    pub async fn new_patiently(client: &Client, conversation: &str, after: Option<&str>) -> Self {
        let known = until(PATIENCE, "the server is here", || async {
            client.try_query(KINDS, json!({})).await.ok()?.ok()
        })
        .await;
        Self::knowing(&known, std::slice::from_ref(client), conversation, after)
    }

    /// Somebody who goes to the next of several replicas with each break.
    ///
    /// # Panics
    ///
    /// When there is none, or the first can't say which events there are.
    pub async fn across(clients: &[Client], conversation: &str, after: Option<&str>) -> Self {
        let first = clients.first().expect("somebody to ask");
        let known = first.ok(KINDS, json!({})).await;
        Self::knowing(&known, clients, conversation, after)
    }

    fn knowing(known: &Value, clients: &[Client], conversation: &str, after: Option<&str>) -> Self {
        let known: Vec<&str> = known["__type"]["possibleTypes"]
            .as_array()
            .expect("ConversationEvent is an interface")
            .iter()
            .filter_map(|kind| kind["name"].as_str())
            .collect();
        Self {
            clients: clients.to_vec(),
            conversation: conversation.to_owned(),
            document: document(&known),
            subscription: None,
            after: after.map(str::to_owned),
            transcript: Transcript::default(),
            breaks: 0,
        }
    }

    /// Follows until the transcript is as wanted. It is looked at after each event.
    ///
    /// # Errors
    ///
    /// When the server ends the subscription for good before: it was refused, or completed.
    ///
    /// # Panics
    ///
    /// When it takes longer than the deadline.
    pub async fn until(
        &mut self,
        deadline: Duration,
        wanted: impl Fn(&Transcript) -> bool,
    ) -> Result<(), Stopped> {
        let follow = async {
            while !wanted(&self.transcript) {
                let event = self.event(deadline).await?;
                self.transcript.apply(&event);
            }
            Ok(())
        };
        within(deadline, "the events that were followed for", follow).await
    }

    /// Follows until a run has ended; answers the kind of its terminal event.
    ///
    /// # Errors
    ///
    /// As [`Follower::until`].
    ///
    /// # Panics
    ///
    /// As [`Follower::until`].
    pub async fn until_end_of(&mut self, run: &str, deadline: Duration) -> Result<String, Stopped> {
        self.until(deadline, |transcript| transcript.end(run).is_some())
            .await?;
        Ok(self.transcript.end(run).unwrap_or_default().to_owned())
    }

    /// Breaks the connection off; he comes back when he is asked to follow again.
    pub fn leave(&mut self) {
        self.subscription = None;
    }

    /// The next event, over as many connections as it takes.
    async fn event(&mut self, deadline: Duration) -> Result<Value, Stopped> {
        loop {
            let subscription = match &mut self.subscription {
                Some(subscription) => subscription,
                None => self.come_back(deadline).await?,
            };
            if let Some(event) = subscription.next(deadline).await {
                return Ok(event["conversationEvents"].clone());
            }
            let ended = subscription.ended().cloned().unwrap_or(Closed::Complete);
            if !ended.is_a_break() {
                return Err(Stopped(ended));
            }
            self.subscription = None;
            self.breaks += 1;
        }
    }

    /// Subscribes after the last event seen, as soon as somebody takes him in.
    async fn come_back(&mut self, deadline: Duration) -> Result<&mut Subscription, Stopped> {
        let after = self.transcript.cursor.as_ref().or(self.after.as_ref());
        let variables = json!({"conversation": self.conversation, "after": after});
        let (clients, document, mut next) = (&self.clients, &self.document, self.breaks);
        let taken = until(deadline, "somebody to follow", || {
            let client = &clients[next % clients.len()];
            next += 1;
            let attempt = client.try_subscribe(document, variables.clone());
            async move {
                match attempt.await {
                    Err(closed) if closed.is_a_break() => None,
                    taken => Some(taken),
                }
            }
        })
        .await;
        Ok(self.subscription.insert(taken.map_err(Stopped)?))
    }
}

/// The subscription, for the kinds of events that the server has.
fn document(known: &[&str]) -> String {
    let fields: String = FIELDS
        .iter()
        .filter(|(kind, _)| known.contains(kind))
        .map(|(kind, fields)| format!("    ... on {kind} {{ {fields} }}\n"))
        .collect();
    format!(
        "subscription ($conversation: ID!, $after: Cursor) {{\n  \
         conversationEvents(conversationId: $conversation, after: $after) {{\n    \
         __typename cursor runId\n{fields}  }}\n}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_only_for_what_there_is() {
        let document = document(&["TextDelta", "SomethingNew"]);
        assert!(document.contains("... on TextDelta { messageId part offset text }"));
        assert!(!document.contains("RunQueued") && !document.contains("SomethingNew"));
    }
}
