//! What this server is; for anybody.

use async_graphql::{Context, Enum, Object, Result, SimpleObject};

use crate::asking::ContextExt;

/// The limits that are in force here. What passes one is refused, and told the limit and the value.
#[derive(Debug, Clone, PartialEq, Eq, SimpleObject)]
pub struct ServiceLimits {
    /// Levels of a query, introspection apart.
    pub max_depth: i32,
    /// Cost of one request.
    pub max_complexity: i32,
    /// Aliases of one field in one place.
    pub max_aliases: i32,
    /// The greatest `first` and `last` of a list.
    pub max_page_size: i32,
    /// Bytes of the GraphQL document in a request.
    pub max_document_bytes: i32,
    /// Bytes of a whole request, uploads aside.
    pub max_request_bytes: i32,
    /// Milliseconds that a query may take.
    pub query_timeout_ms: i32,
    /// Milliseconds that a mutation may take.
    pub mutation_timeout_ms: i32,
    /// Subscriptions on one WebSocket.
    pub max_subscriptions_per_connection: i32,
    /// WebSockets of one user.
    pub max_connections_per_user: i32,
    /// Characters of a message's text.
    pub max_message_chars: i32,
}

/// How somebody can sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum SignInMethodKind {
    /// By the mutation `signIn`.
    Password,
    /// By a provider, in a browser.
    Oidc,
}

/// A way to sign in.
#[derive(Debug, Clone, SimpleObject)]
pub struct SignInMethod {
    /// How it is done.
    kind: SignInMethodKind,
    /// Its name in the configuration.
    name: String,
    /// What to write on its button.
    label: String,
    /// Where a browser starts, for OIDC.
    url: Option<String>,
}

/// This server.
pub struct Service;

/// This server.
#[Object]
impl Service {
    /// The product's name.
    async fn name(&self) -> &str {
        "Weft"
    }

    /// Its version, as in Semantic Versioning.
    async fn version(&self) -> &str {
        env!("CARGO_PKG_VERSION")
    }

    /// Whether the first user still has to be made, by `setUp`.
    async fn needs_setup(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(ctx.authority().needs_setup().await?)
    }

    /// How one can sign in here.
    async fn sign_in_methods(&self) -> Vec<SignInMethod> {
        let (name, label) = ("password".to_owned(), "Password".to_owned());
        vec![SignInMethod {
            kind: SignInMethodKind::Password,
            name,
            label,
            url: None,
        }]
    }

    /// What one request, socket or user may ask for.
    async fn limits<'a>(&self, ctx: &'a Context<'_>) -> &'a ServiceLimits {
        ctx.limits()
    }
}

/// What is public.
#[derive(Default)]
pub struct ServiceQuery;

#[Object]
impl ServiceQuery {
    /// What this server is, its limits, and how to sign in. Needs no credential.
    async fn service(&self) -> Service {
        Service
    }
}
