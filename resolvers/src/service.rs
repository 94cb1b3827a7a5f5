//! What this server is; for anybody.

use async_graphql::{Context, Enum, Object, Result, SimpleObject};

use entities::Permission;

use crate::asking::ContextExt;

/// The limits that are in force here. What passes one is refused, and told the limit and the value.
#[derive(Debug, Clone, PartialEq, Eq, SimpleObject)]
pub struct ServiceLimits {
    /// Levels of a query, introspection apart.
    pub max_depth: i32,
    /// Cost of one request: an object is 1, a scalar nothing, a connection 2 and `first` (or `last`, or 20) times what one
    /// entry costs, another list five times what one of it costs, a mutation 10 and what its payload holds, a subscription 10
    /// and each event what it holds. An interface costs as the dearest object that it can be. The most that a credential may use
    /// at once, and how it comes back, stands in `Viewer.rateLimit`, what a request took in `extensions.cost` of its answer.
    pub max_complexity: i32,
    /// Aliases of one field in one place.
    pub max_aliases: i32,
    /// The greatest `first` and `last` of a list.
    pub max_page_size: i32,
    /// Bytes of the GraphQL document in a request.
    pub max_document_bytes: i32,
    /// Bytes of a whole request, uploads aside.
    pub max_request_bytes: i32,
    /// Bytes of an answer, or of an event of a subscription, about; a longer one is QUERY_TOO_COMPLEX.
    pub max_response_bytes: i32,
    /// Milliseconds that a query may take.
    pub query_timeout_ms: i32,
    /// Milliseconds that a mutation may take.
    pub mutation_timeout_ms: i32,
    /// Subscriptions on one WebSocket.
    pub max_subscriptions_per_connection: i32,
    /// Connections of one user at once: WebSockets, and subscriptions over HTTP.
    pub max_connections_per_user: i32,
    /// Characters of a message's text.
    pub max_message_chars: i32,
}

/// How somebody can sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum SignInMethodKind {
    /// By the mutation `signIn`.
    Password,
    /// By a sign-in provider (OpenID Connect), in a browser.
    Oidc,
}

/// A way to sign in.
#[derive(Debug, Clone, SimpleObject)]
pub struct SignInMethod {
    /// How it is done.
    kind: SignInMethodKind,
    /// Its name, unique among the ways to sign in here.
    name: String,
    /// What to write on its button.
    label: String,
    /// The address where a browser starts, for OIDC; null for PASSWORD. It is given as parameters `return_to`, one of the addresses
    /// that the server is set to return to, and `code_challenge` (S256, RFC 7636), and may be given `state`, `login_hint`,
    /// `invitation` (a token) and `link=true`. The browser comes back to `return_to` with `state`, and with `code`, for
    /// `redeemSignInCode` or `linkIdentity`, or `error`: access_denied, no_account, invalid_response or unavailable.
    url: Option<String>,
}

/// Where tables are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum DatabaseKind {
    /// A file of SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// How the processes of an installation tell each other that something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum BusKind {
    /// There is one process, which needs to tell nobody.
    Memory,
    /// By notifications of PostgreSQL.
    Postgres,
    /// By Redis. Not served yet.
    Redis,
}

/// Where files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum ObjectStoreKind {
    /// The data folder of the server.
    Filesystem,
    /// A bucket that speaks the protocol of Amazon S3.
    S3,
}

/// Where knowledge is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum SearchKind {
    /// An index in the data folder.
    Embedded,
    /// OpenSearch.
    #[graphql(name = "OPENSEARCH")]
    OpenSearch,
}

/// What this installation is built on: a database, a bus between its processes, a place for files and one to search in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SimpleObject)]
pub struct ServiceBackends {
    /// Where tables are kept.
    pub database: DatabaseKind,
    /// How processes tell each other that something happened.
    pub bus: BusKind,
    /// Where files go, as the server is set.
    pub objects: ObjectStoreKind,
    /// Where knowledge is searched, as the server is set.
    pub search: SearchKind,
}

/// This server.
pub struct Service;

/// This server.
#[Object]
impl Service {
    /// The product's name: `Weft`.
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
    async fn sign_in_methods(&self, ctx: &Context<'_>) -> Vec<SignInMethod> {
        let (name, label) = ("password".to_owned(), "Password".to_owned());
        let password = SignInMethod {
            kind: SignInMethodKind::Password,
            name,
            label,
            url: None,
        };
        let providers = ctx.authority().sign_in_providers().into_iter();
        let providers = providers.map(|provider| SignInMethod {
            kind: SignInMethodKind::Oidc,
            name: provider.name,
            label: provider.label,
            url: Some(provider.url),
        });
        std::iter::once(password).chain(providers).collect()
    }

    /// What one request, socket or user may ask for.
    async fn limits<'a>(&self, ctx: &'a Context<'_>) -> &'a ServiceLimits {
        ctx.limits()
    }

    /// Where the data lives, for platform administrators in a session; null for others.
    async fn backends<'a>(&self, ctx: &'a Context<'_>) -> Option<&'a ServiceBackends> {
        let scope = ctx.reader().scope()?;
        scope
            .permissions()
            .has(Permission::PlatformManage)
            .then(|| ctx.backends())
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
