//! Somebody who uses Weft over its public wires: GraphQL over HTTP, and subscriptions over `graphql-transport-ws` and over HTTP.

mod follow;
mod socket;
mod store;
mod stream;
mod transcript;
mod verbs;
mod viewers;

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

pub use follow::{Follower, Stopped};
pub use socket::{Closed, Frame, PROTOCOL, Socket, Subscription};
pub use store::{Lists, Talk};
pub use stream::{Form, Next, Stream};
pub use transcript::{Fault, Part, Transcript};
pub use verbs::Sent;
pub use viewers::Viewers;

/// Who [`Client::set_up`] makes, and what signs him in.
pub const OWNER_EMAIL: &str = "owner@example.test";
/// The password of the same.
pub const OWNER_PASSWORD: &str = "a loom of one's own, 1929";

/// How long a request may take: longer than the server lets any take.
const REQUEST: Duration = Duration::from_secs(60);

/// An answer over HTTP, as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Of the answer.
    pub headers: HeaderMap,
    /// Of the answer.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    pub fn json(&self) -> Value {
        let json = serde_json::from_slice(&self.body);
        json.unwrap_or_else(|error| {
            panic!(
                "status {}, and the body is no JSON ({error}): {}",
                self.status,
                self.text()
            )
        })
    }
}

/// An answer that has top-level errors.
#[derive(Clone, Debug, PartialEq)]
pub struct Errors {
    /// HTTP status.
    pub status: u16,
    /// As they came.
    pub errors: Vec<Value>,
    /// What was answered nevertheless; null when nothing was.
    pub data: Value,
}

impl Errors {
    /// The code of the first error; empty when it has none.
    pub fn code(&self) -> &str {
        self.errors
            .first()
            .and_then(|error| error["extensions"]["code"].as_str())
            .unwrap_or_default()
    }
}

/// A client: where it asks and with which credential.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    /// Access token or API key.
    pub token: Option<String>,
    tenant: Option<String>,
    on_behalf_of: Option<String>,
    http: reqwest::Client,
}

impl Client {
    /// Somebody without a credential who asks the server at this base address (`http://127.0.0.1:8080`).
    ///
    /// # Panics
    ///
    /// When no HTTP client can be made on this machine.
    pub fn new(base: &str) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(REQUEST)
            .build()
            .expect("an HTTP client");
        Self {
            base: base.trim_end_matches('/').to_owned(),
            token: None,
            tenant: None,
            on_behalf_of: None,
            http,
        }
    }

    /// The same one at another server.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            ..self.clone()
        }
    }

    /// The same one with another credential, or none.
    #[must_use]
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self {
            token: token.map(str::to_owned),
            ..self.clone()
        }
    }

    /// The same one asking in the tenant of this slug, or in the credential's own; over sockets in that one in any case.
    #[must_use]
    pub fn in_tenant(&self, slug: Option<&str>) -> Self {
        Self {
            tenant: slug.map(str::to_owned),
            ..self.clone()
        }
    }

    /// The same one acting for somebody, by a service key; not over sockets.
    #[must_use]
    pub fn on_behalf_of(&self, whom: Option<&str>) -> Self {
        Self {
            on_behalf_of: whom.map(str::to_owned),
            ..self.clone()
        }
    }

    /// The base address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request to a path with this client's credential, to be finished by the caller.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(tenant) = &self.tenant {
            request = request.header("Weft-Tenant", tenant);
        }
        if let Some(whom) = &self.on_behalf_of {
            request = request.header("Weft-On-Behalf-Of", whom);
        }
        request
    }

    /// Sends a request.
    ///
    /// # Panics
    ///
    /// When there is no whole answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        match self.try_send(request).await {
            Ok(answer) => answer,
            Err(error) => panic!("{} gave no whole answer: {error:?}", self.base),
        }
    }

    /// Sends a request to a server that may be away.
    ///
    /// # Errors
    ///
    /// When there is no whole answer.
    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Answer {
            status,
            headers,
            body: answer.bytes().await?.to_vec(),
        })
    }

    /// A path, by GET.
    ///
    /// # Panics
    ///
    /// When there is no whole answer.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(reqwest::Method::GET, path)).await
    }

    /// The request that asks for a document.
    pub fn graphql(&self, document: &str, variables: &Value) -> reqwest::RequestBuilder {
        self.request(reqwest::Method::POST, "/graphql")
            .header(
                "accept",
                "application/graphql-response+json, application/json;q=0.9",
            )
            .json(&json!({"query": document, "variables": variables}))
    }

    /// Asks for a document; answers status, headers and body as they came.
    ///
    /// # Panics
    ///
    /// When there is no whole answer.
    pub async fn raw(&self, document: &str, variables: Value) -> Answer {
        self.send(self.graphql(document, &variables)).await
    }

    /// Asks for a document; answers its data.
    ///
    /// # Errors
    ///
    /// When there are top-level errors.
    ///
    /// # Panics
    ///
    /// When there is no whole answer, or none of GraphQL.
    pub async fn query(&self, document: &str, variables: Value) -> Result<Value, Errors> {
        outcome(&self.raw(document, variables).await)
    }

    /// Asks for a document of a server that may be away.
    ///
    /// # Errors
    ///
    /// When there is no whole answer.
    ///
    /// # Panics
    ///
    /// As [`Client::query`].
    pub async fn try_query(
        &self,
        document: &str,
        variables: Value,
    ) -> reqwest::Result<Result<Value, Errors>> {
        Ok(outcome(
            &self.try_send(self.graphql(document, &variables)).await?,
        ))
    }

    /// Asks for a document in which nothing may go wrong; answers its data.
    ///
    /// # Panics
    ///
    /// When there are errors, or no answer.
    pub async fn ok(&self, document: &str, variables: Value) -> Value {
        match self.query(document, variables.clone()).await {
            Ok(data) => data,
            Err(errors) => panic!("{document}\nwith {variables}\nfailed: {errors:#?}"),
        }
    }

    /// Does a mutation of one field that selects `errors`, of which there may be none; answers its payload.
    ///
    /// # Panics
    ///
    /// When it was refused, or failed.
    pub async fn done(&self, document: &str, variables: Value) -> Value {
        let payload = only_field(self.ok(document, variables.clone()).await);
        let refusals = payload["errors"].as_array();
        let refusals =
            refusals.unwrap_or_else(|| panic!("the mutation selects no errors: {document}"));
        assert!(
            refusals.is_empty(),
            "{document}\nwith {variables}\nwas refused: {refusals:#?}"
        );
        payload
    }

    /// Does a mutation of one field that selects `errors` and is to be refused; answers the refusals.
    ///
    /// # Panics
    ///
    /// When it was done, or failed.
    pub async fn refused(&self, document: &str, variables: Value) -> Vec<Value> {
        let payload = only_field(self.ok(document, variables.clone()).await);
        let refusals = payload["errors"].as_array().cloned().unwrap_or_default();
        assert!(
            !refusals.is_empty(),
            "{document}\nwith {variables}\nwas not refused: {payload:#}"
        );
        refusals
    }

    /// Opens a socket, is taken in with this client's credential, and subscribes.
    ///
    /// # Panics
    ///
    /// When the server doesn't take it in.
    pub async fn subscribe(&self, document: &str, variables: Value) -> Subscription {
        match self.try_subscribe(document, variables).await {
            Ok(subscription) => subscription,
            Err(closed) => panic!("{} took no subscription in: {closed}", self.base),
        }
    }

    /// The same at a server that may be away.
    ///
    /// # Errors
    ///
    /// How it came to nothing.
    pub async fn try_subscribe(
        &self,
        document: &str,
        variables: Value,
    ) -> Result<Subscription, Closed> {
        let mut socket = Socket::open(&self.base).await?;
        let payload = self
            .token
            .as_ref()
            .map(|token| json!({"Authorization": format!("Bearer {token}")}));
        socket.initialise(payload).await?;
        Subscription::on(socket, document, variables).await
    }
}

fn outcome(answer: &Answer) -> Result<Value, Errors> {
    let json = answer.json();
    let errors = json["errors"].as_array().cloned().unwrap_or_default();
    if !errors.is_empty() {
        return Err(Errors {
            status: answer.status,
            errors,
            data: json["data"].clone(),
        });
    }
    assert!(
        json["data"].is_object(),
        "status {}, and neither data nor errors: {}",
        answer.status,
        answer.text()
    );
    Ok(json["data"].clone())
}

/// The value of the only field.
fn only_field(data: Value) -> Value {
    let Value::Object(fields) = data else {
        panic!("not an object: {data}")
    };
    let mut values = fields.into_iter().map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(value), None) => value,
        _ => panic!("not one field"),
    }
}

#[cfg(test)]
mod tests;
