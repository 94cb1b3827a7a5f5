//! What most tests do before they come to their point.

use serde_json::{Value, json};

use super::{Client, OWNER_EMAIL, OWNER_PASSWORD};

/// What `sendMessage` has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The conversation, new if none was named.
    pub conversation: String,
    /// The user's message.
    pub message: String,
    /// The run that answers it.
    pub run: String,
    /// Stands before its first event.
    pub cursor: String,
}

impl Client {
    /// Creates the first user, as owner of the first tenant, and keeps his token.
    ///
    /// # Panics
    ///
    /// When that is refused.
    pub async fn set_up(&mut self) -> Value {
        let document = "mutation ($input: SetUpInput!) {
            setUp(input: $input) { accessToken viewer { user { id } tenant { id slug } } errors { code message } }
        }";
        let input = json!({"email": OWNER_EMAIL, "password": OWNER_PASSWORD, "name": "Owner", "tenantName": "Looms"});
        self.enter(document, json!({"input": input})).await
    }

    /// Signs in and keeps the token.
    ///
    /// # Panics
    ///
    /// When that is refused.
    pub async fn sign_in(&mut self, email: &str, password: &str) -> Value {
        let document = "mutation ($input: SignInInput!) {
            signIn(input: $input) { accessToken viewer { user { id } tenant { id slug } } errors { code message } }
        }";
        self.enter(
            document,
            json!({"input": {"email": email, "password": password}}),
        )
        .await
    }

    async fn enter(&mut self, document: &str, variables: Value) -> Value {
        let payload = self.with_token(None).done(document, variables).await;
        self.token = Some(text(&payload["accessToken"]));
        payload["viewer"].clone()
    }

    /// Creates a chat model of this provider (`OPENAI_COMPATIBLE`, `ANTHROPIC`) and name; answers its id. The slug is
    /// left to the server.
    ///
    /// # Panics
    ///
    /// When that is refused.
    pub async fn create_model(&self, provider: &str, base_url: &str, model_name: &str) -> String {
        let document = "mutation ($input: CreateModelInput!) {
            createModel(input: $input) { model { id } errors { code message } }
        }";
        let input = json!({
            "slug": slug(model_name), "name": model_name, "kind": "CHAT", "provider": provider, "modelName": model_name, "baseUrl": base_url,
            "apiKey": "sk-scripted",
        });
        text(&self.done(document, json!({"input": input})).await["model"]["id"])
    }

    /// Creates an agent on a model; answers its id.
    ///
    /// # Panics
    ///
    /// When that is refused.
    pub async fn create_agent(&self, name: &str, model: &str) -> String {
        let document = "mutation ($input: CreateAgentInput!) {
            createAgent(input: $input) { agent { id } errors { code message } }
        }";
        let input = json!({"name": name, "instructions": "Answer.", "modelId": model});
        text(&self.done(document, json!({"input": input})).await["agent"]["id"])
    }

    /// Says something to an agent in a new conversation.
    ///
    /// # Panics
    ///
    /// When that is refused.
    pub async fn send_to_agent(&self, agent: &str, words: &str) -> Sent {
        self.send_message(json!({"agentId": agent, "text": words}))
            .await
    }

    /// Says something more in a conversation.
    ///
    /// # Panics
    ///
    /// When that is refused.
    pub async fn send_to_conversation(&self, conversation: &str, words: &str) -> Sent {
        self.send_message(json!({"conversationId": conversation, "text": words}))
            .await
    }

    /// Does `sendMessage` with this input.
    ///
    /// # Panics
    ///
    /// When that is refused.
    pub async fn send_message(&self, input: Value) -> Sent {
        let document = "mutation ($input: SendMessageInput!) {
            sendMessage(input: $input) {
                conversation { id } message { id } run { id } cursor errors { code message }
            }
        }";
        let payload = self.done(document, json!({"input": input})).await;
        Sent {
            conversation: text(&payload["conversation"]["id"]),
            message: text(&payload["message"]["id"]),
            run: text(&payload["run"]["id"]),
            cursor: text(&payload["cursor"]),
        }
    }
}

/// What a name's characters give of a slug.
fn slug(name: &str) -> String {
    let slug: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .collect();
    slug.chars().take(63).collect()
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a string, not {value}"))
        .to_owned()
}
