//! What the edge needs of a graph, and what it hands to one.

use std::{net::IpAddr, sync::Arc};

use async_graphql::{
    Request, Response, ServerError,
    parser::types::{ExecutableDocument, OperationType},
};
use auth::{Authority, RequestContext};
use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};

use super::{Code, Refused};
use crate::config::Secret;

/// The graph behind the edge. One value serves all requests.
///
/// A [`Response`] that comes back is finished: keys in the document's order, nulls as the specification wants them. An answer
/// that never ran has no data and only errors without a path; the edge takes such a one for a request error. Errors without
/// `extensions.code` get one from the edge: INTERNAL, and no text, where they wrap a foreign error; else INVALID_INPUT.
pub trait Graph: Send + Sync + 'static {
    /// Who is asking, established once per request or socket. Cheap to clone.
    type Caller: Clone + Send + Sync + 'static;

    /// What is wrong with a document, whatever values its variables get. Asked once for each document that is kept.
    fn check(&self, document: &ExecutableDocument) -> Vec<ServerError>;

    /// Who is asking. No credential at all is fine: an anonymous caller.
    ///
    /// # Errors
    /// A credential that is bad, ended or not allowed to do what the other headers ask: UNAUTHENTICATED, FORBIDDEN,
    /// RATE_LIMITED or UNAVAILABLE.
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> impl Future<Output = Result<Self::Caller, Refused>> + Send;

    /// Runs a query or mutation. May be dropped at any await, when its time is over or the client went away; a mutation's
    /// command must not depend on being polled.
    fn execute(
        &self,
        caller: &Self::Caller,
        operation: Operation,
    ) -> impl Future<Output = Response> + Send;

    /// Runs a subscription. A request error, at the beginning or later, is one response and the end. Dropped when the client
    /// unsubscribes. It must outlive the token of `caller`, which the socket may renew: what ends with a credential is told
    /// by [`Graph::ended`].
    fn subscribe(&self, caller: &Self::Caller, operation: Operation) -> BoxStream<'static, Told>;

    /// Resolves when the caller's credential no longer holds (expired, ended), with the reason for the close frame; never
    /// for one that can't end.
    fn ended(&self, caller: &Self::Caller) -> BoxFuture<'static, String>;

    /// Whether `b` may take the place of `a` on a socket: same user, session and tenant.
    fn same_identity(&self, a: &Self::Caller, b: &Self::Caller) -> bool;

    /// Who signs people in at providers, and how the request came; its client's address pays for it.
    ///
    /// # Errors
    /// NOT_FOUND where there is nobody for that, RATE_LIMITED where the address has asked too much.
    fn sign_in(&self, client: Client) -> Result<(Authority, RequestContext), Refused> {
        let _ = client;
        Err(Refused::new(
            Code::NotFound,
            "nothing is served at this path",
        ))
    }

    /// What a user's sockets are counted by; `None`: not counted, for callers without a credential.
    fn user_key(&self, caller: &Self::Caller) -> Option<String>;
}

/// What whoever follows a subscription is told at once.
#[derive(Debug)]
pub struct Told {
    /// The event.
    pub event: Event,
    /// Where to go on after it, where [`Operation::wants_cursors`].
    pub cursor: Option<String>,
}

/// An event of a subscription.
#[derive(Debug)]
pub enum Event {
    /// An answer of one's own.
    Own(Response),
    /// `{"data": …}`: the same bytes as others are told. Nothing went wrong in it.
    Shared(Bytes),
}

impl From<Event> for Told {
    fn from(event: Event) -> Self {
        Self {
            event,
            cursor: None,
        }
    }
}

impl From<Response> for Told {
    fn from(response: Response) -> Self {
        Event::Own(response).into()
    }
}

/// Which way a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One request, one answer.
    Http,
    /// One request, answers as long as there are any: server-sent events, or parts of one body.
    Stream,
    /// `graphql-transport-ws`.
    WebSocket,
}

/// From where a request comes.
#[derive(Debug, Clone)]
pub struct Client {
    /// The client's own address: the peer's, or what a trusted proxy says. To count by it, see [`super::counted_as`].
    pub address: IpAddr,
    /// Whether the connection itself comes from this machine.
    pub loopback_peer: bool,
    /// Whether the request holds any forwarding header, believed or not.
    pub forwarded: bool,
    /// Whether `Origin` is absent or ours; false for those of `cors_origins`.
    pub origin_ours_or_absent: bool,
    /// `User-Agent`, without control characters, at most 256 characters.
    pub user_agent: Option<String>,
}

/// What a request or `connection_init` says of who is asking.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// After `Bearer`: an access token or an API key.
    pub bearer: Option<Secret>,
    /// `X-API-Key`; never together with a different `bearer`.
    pub api_key: Option<Secret>,
    /// `Weft-Tenant`.
    pub tenant: Option<String>,
    /// `Weft-On-Behalf-Of`.
    pub on_behalf_of: Option<String>,
    /// From where.
    pub client: Client,
    /// Which way.
    pub transport: Transport,
}

/// One operation, its document parsed and within the limits of size, depth and aliases.
#[derive(Debug)]
pub struct Operation {
    /// Without its document parsed.
    pub request: Request,
    /// The document, shared with the cache.
    pub document: Arc<ExecutableDocument>,
    /// Whether it can be executed with `Mode::Raw`: [`async_graphql::may_be_raw`].
    pub may_be_raw: bool,
    /// What the chosen operation is.
    pub kind: OperationType,
    /// To quote in errors and logs.
    pub request_id: String,
    /// Of a subscription: whether each event is told with its cursor.
    pub wants_cursors: bool,
    /// Of a subscription: the cursor after which to go on, whatever the document says.
    pub after: Option<String>,
}
