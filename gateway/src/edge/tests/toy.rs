//! A small graph: a schema and a few tokens.

use std::{sync::Arc, time::Duration};

use async_graphql::{
    Context, ErrorExtensions, Mode, Object, Response, Schema, ServerError, Subscription, finish,
    parser::types::{ExecutableDocument, OperationType},
};
use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture, stream, stream::BoxStream};
use tokio::sync::{Notify, watch};

use crate::{
    config::Secret,
    edge::{
        Client, Code, Credentials, Event, Grant, Granted, Graph, Issuer, Operation, Refused, Told,
    },
};

/// What a token stands for: `user` or `user/session`; `bad…` is refused.
#[derive(Debug, Clone)]
pub(super) struct Caller(pub(super) Option<Arc<Who>>);

#[derive(Debug)]
pub(super) struct Who {
    user: String,
    token: String,
    credentials: Credentials,
}

pub(super) struct Toy {
    schema: Schema<Query, Mutation, Events>,
    /// Tokens that have ended.
    ended: watch::Sender<Vec<String>>,
    /// Dropped streams of `forever`.
    pub(super) dropped: Arc<Notify>,
}

/// After which number to go on.
struct After(i32);

/// Told when it is dropped.
struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Toy {
    pub(super) fn new() -> Self {
        let dropped = Arc::<Notify>::default();
        let schema = Schema::build(Query, Mutation, Events)
            .data(dropped.clone())
            .finish();
        Self {
            schema,
            ended: watch::Sender::new(Vec::new()),
            dropped,
        }
    }

    pub(super) fn end(&self, token: &str) {
        self.ended.send_modify(|ended| ended.push(token.to_owned()));
    }
}

impl Graph for Toy {
    type Caller = Caller;

    fn check(&self, _document: &ExecutableDocument) -> Vec<ServerError> {
        Vec::new()
    }

    async fn authenticate(&self, credentials: Credentials) -> Result<Caller, Refused> {
        let given = credentials.bearer.as_ref().or(credentials.api_key.as_ref());
        let Some(token) = given.map(|token| token.expose().to_owned()) else {
            return Ok(Caller(None));
        };
        match token.as_str() {
            "bad" => {
                return Err(Refused::new(
                    Code::Unauthenticated,
                    "the credential is not valid",
                ));
            }
            "slow" => {
                let refused = Refused::new(Code::RateLimited, "too many tries");
                return Err(refused.retry_after(Duration::from_millis(1500)));
            }
            "broken" => return Err(Refused::new(Code::Unavailable, "try again")),
            "panic" => panic!("in authenticate"),
            _ => {}
        }
        let user = token.split('/').next().unwrap_or_default().to_owned();
        Ok(Caller(Some(Arc::new(Who {
            user,
            token,
            credentials,
        }))))
    }

    async fn execute(&self, caller: &Caller, mut operation: Operation) -> Response {
        operation
            .request
            .set_parsed_query((*operation.document).clone());
        let name = operation.request.operation_name.clone();
        let mode = if operation.may_be_raw {
            Mode::Raw
        } else {
            Mode::Tree
        };
        let mut response = self
            .schema
            .execute(operation.request.data(caller.clone()).data(mode))
            .await;
        finish(
            &mut response,
            &operation.document,
            name.as_deref(),
            root_type,
        );
        response
    }

    fn subscribe(&self, caller: &Caller, operation: Operation) -> BoxStream<'static, Told> {
        let name = operation.request.operation_name.clone();
        let after = operation.after.and_then(|after| after.parse().ok());
        let mut request = operation.request.data(After(after.unwrap_or_default()));
        request.set_parsed_query((*operation.document).clone());
        let events = self.schema.execute_stream(request.data(caller.clone()));
        let mut number = after.unwrap_or_default();
        let wants_cursors = operation.wants_cursors;
        let finished = move |mut response: Response| {
            finish(
                &mut response,
                &operation.document,
                name.as_deref(),
                root_type,
            );
            number += 1;
            Told {
                event: Event::Own(response),
                cursor: wants_cursors.then(|| number.to_string()),
            }
        };
        events.map(finished).boxed()
    }

    fn ended(&self, caller: &Caller) -> BoxFuture<'static, String> {
        let token = caller.0.as_ref().map(|who| who.token.clone());
        let mut ended = self.ended.subscribe();
        async move {
            let over =
                |ended: &Vec<String>| token.as_ref().is_some_and(|token| ended.contains(token));
            ended
                .wait_for(over)
                .await
                .expect("the toy lives as long as its server");
            "Session ended".to_owned()
        }
        .boxed()
    }

    fn same_identity(&self, a: &Caller, b: &Caller) -> bool {
        a.0.as_ref().map(|who| &who.user) == b.0.as_ref().map(|who| &who.user)
    }

    fn user_key(&self, caller: &Caller) -> Option<String> {
        caller.0.as_ref().map(|who| who.user.clone())
    }
}

/// Gives tokens for the password `right` and the refresh token `good`; they say for what.
impl Issuer for Toy {
    async fn grant(&self, grant: Grant, client: Client) -> Result<Granted, Refused> {
        let (by, secret, tenant) = match grant {
            Grant::Password {
                username,
                password,
                tenant,
            } => (username, password, tenant),
            Grant::RefreshToken {
                refresh_token,
                tenant,
            } => ("refreshed".to_owned(), refresh_token, tenant),
        };
        match secret.expose() {
            "right" | "good" => {}
            "fast" => {
                let refused = Refused::new(Code::RateLimited, "too many attempts");
                return Err(refused.retry_after(Duration::from_millis(1500)));
            }
            "broken" => return Err(Refused::new(Code::Unavailable, "try again")),
            "odd" => return Err(Refused::invalid("username: got \"\\ \u{e9}\n\"")),
            "never" => std::future::pending().await,
            "panic" => panic!("in grant"),
            _ => return Err(Refused::new(Code::Unauthenticated, "wrong")),
        }
        let tenant = tenant.as_deref().unwrap_or("-");
        let origin = client.origin_ours_or_absent;
        Ok(Granted {
            access_token: Secret::new(format!("{by} {tenant} {} {origin}", client.address)),
            lasts: Duration::from_millis(3_599_999),
            refresh_token: Secret::new("next"),
        })
    }

    async fn keys(&self) -> Result<serde_json::Value, Refused> {
        Ok(serde_json::json!({ "keys": [{ "kid": "k" }] }))
    }
}

fn root_type(_: OperationType, field: &str) -> &'static str {
    match field {
        "me" => "String",
        "denied" => "Boolean",
        "hello" | "endless" => "String!",
        "forever" => "Boolean!",
        _ => "Int!",
    }
}

pub(super) struct Query;

#[Object]
impl Query {
    async fn hello(&self, name: Option<String>) -> String {
        format!("hello {}", name.as_deref().unwrap_or("world"))
    }

    /// `user tenant address origin transport`.
    async fn me(&self, ctx: &Context<'_>) -> Option<String> {
        let who = ctx.data::<Caller>().ok()?.0.as_ref()?;
        let Credentials {
            tenant,
            client,
            transport,
            ..
        } = &who.credentials;
        let tenant = tenant.as_deref().unwrap_or("-");
        Some(format!(
            "{} {tenant} {} {} {transport:?}",
            who.user, client.address, client.origin_ours_or_absent
        ))
    }

    async fn never(&self) -> bool {
        std::future::pending().await
    }

    async fn panics(&self) -> bool {
        std::hint::black_box(None).expect("in a resolver")
    }

    async fn foreign(&self) -> async_graphql::Result<bool> {
        Err(std::io::Error::other("the password is geheim"))?
    }

    async fn denied(&self) -> async_graphql::Result<Option<bool>> {
        Err(async_graphql::Error::new("not yours").extend_with(|_, e| e.set("code", "FORBIDDEN")))
    }
}

pub(super) struct Mutation;

#[Object]
impl Mutation {
    async fn double(&self, n: i32) -> i32 {
        n.wrapping_mul(2)
    }

    async fn stuck(&self) -> bool {
        std::future::pending().await
    }
}

pub(super) struct Events;

#[Subscription]
impl Events {
    async fn count(&self, ctx: &Context<'_>, to: i32) -> impl Stream<Item = i32> + use<> {
        let After(after) = ctx.data_unchecked();
        stream::iter(after + 1..=to)
    }

    /// Always has one more.
    async fn endless(&self, bytes: i32) -> impl Stream<Item = String> {
        stream::repeat("x".repeat(usize::try_from(bytes).unwrap_or(0)))
    }

    /// Has one, and then never another.
    async fn forever(&self, ctx: &Context<'_>) -> impl Stream<Item = bool> {
        let dropped = Dropped(ctx.data::<Arc<Notify>>().unwrap().clone());
        stream::once(async { true }).chain(stream::once(async move {
            let _dropped = dropped;
            std::future::pending().await
        }))
    }

    async fn panics(&self) -> impl Stream<Item = bool> {
        stream::once(async { panic!("in a stream") })
    }
}
