//! The graph as the edge sees it: who asks becomes a scope, a document an answer.

use std::{sync::Arc, time::Duration};

use async_graphql::{Mode, Request, Response};
use auth::{Authority, Credential, Identity, RequestContext};
use entities::{
    CommandError, Db,
    db::{Failure, failure},
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream, stream::BoxStream};
use loaders::{Reader, quiesce::quiesce};
use resolvers::Asking;
use schema::{Schema, Served};

use crate::{
    config::Secret,
    edge::{Client, Code, Credentials, Graph, Operation, Refused, Transport},
};

/// The graph of this program.
pub struct AppGraph {
    served: Served,
    db: Db,
    authority: Authority,
    reached: Reached,
}

/// How the server can be reached, as far as the rule of set-up asks.
#[derive(Debug, Clone, Copy)]
pub struct Reached {
    /// It listens on a loopback address.
    pub listener_loopback: bool,
    /// `public_url` or `trusted_proxies` is given.
    pub public_url_or_proxies_set: bool,
}

/// Who asks, and from where. Clones are the same.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    identity: Option<Identity>,
    request: RequestContext,
    transport: Transport,
}

impl AppGraph {
    /// The schema must hold the data that its resolvers need.
    pub fn new(schema: Schema, db: Db, authority: Authority, reached: Reached) -> Self {
        Self {
            served: Served::new(schema),
            db,
            authority,
            reached,
        }
    }

    fn request_context(&self, client: Client) -> RequestContext {
        RequestContext {
            listener_loopback: self.reached.listener_loopback,
            peer_loopback: client.loopback_peer,
            forwarded: client.forwarded,
            origin_ours_or_absent: client.origin_ours_or_absent,
            public_url_or_proxies_set: self.reached.public_url_or_proxies_set,
            address: Some(client.address),
            user_agent: client.user_agent,
        }
    }

    /// The request with what its resolvers look for, and its reader.
    fn prepared(&self, caller: &Caller, request: Request, may_be_raw: bool) -> (Request, Reader) {
        let Parts {
            identity,
            request: context,
            transport,
        } = &*caller.0;
        let scope = identity.as_ref().map(|identity| identity.scope().clone());
        let reader = Reader::new(&self.db, scope);
        let mode = if may_be_raw { Mode::Raw } else { Mode::Tree };
        let request = request.data(mode).data(reader.clone()).data(Asking::new(
            identity.clone(),
            context.clone(),
            *transport == Transport::Http,
        ));
        (request, reader)
    }
}

impl Graph for AppGraph {
    type Caller = Caller;

    async fn authenticate(&self, credentials: Credentials) -> Result<Caller, Refused> {
        let credential = Credential {
            bearer: credentials.bearer.as_ref().map(Secret::expose),
            api_key: credentials.api_key.as_ref().map(Secret::expose),
            tenant: credentials.tenant.as_deref(),
            on_behalf_of: credentials.on_behalf_of.as_deref(),
        };
        let identity = self.authority.identify(credential).await.map_err(refused)?;
        Ok(Caller(Arc::new(Parts {
            identity,
            request: self.request_context(credentials.client),
            transport: credentials.transport,
        })))
    }

    async fn execute(&self, caller: &Caller, operation: Operation) -> Response {
        let (request, reader) = self.prepared(caller, operation.request, operation.may_be_raw);
        let answer = self.served.execute(request, operation.document);
        quiesce(reader.gate(), answer).await
    }

    fn subscribe(&self, caller: &Caller, operation: Operation) -> BoxStream<'static, Response> {
        let (request, reader) = self.prepared(caller, operation.request, operation.may_be_raw);
        let events = self.served.execute_stream(request, operation.document);
        stream::unfold((events, reader), async move |(mut events, reader)| {
            let response = quiesce(reader.gate(), events.next()).await?;
            // The next event may be long in coming, and is of another moment.
            reader.renew();
            Some((response, (events, reader)))
        })
        .boxed()
    }

    fn ended(&self, caller: &Caller) -> BoxFuture<'static, String> {
        match &caller.0.identity {
            Some(identity) => self.authority.ended(identity).map(str::to_owned).boxed(),
            None => std::future::pending().boxed(),
        }
    }

    fn same_identity(&self, a: &Caller, b: &Caller) -> bool {
        let who = |caller: &Caller| {
            let identity = caller.0.identity.as_ref()?;
            Some((
                identity.user().id,
                identity.tenant().id,
                identity.session(),
                identity.key(),
            ))
        };
        who(a) == who(b)
    }

    fn user_key(&self, caller: &Caller) -> Option<String> {
        caller
            .0
            .identity
            .as_ref()
            .map(|identity| identity.user().id.to_string())
    }
}

fn refused(error: CommandError) -> Refused {
    match error {
        CommandError::Unauthenticated(why) => Refused::new(Code::Unauthenticated, why),
        CommandError::Forbidden(_) => {
            Refused::new(Code::Forbidden, "this credential may not act there")
        }
        CommandError::RateLimited { retry_after } => {
            Refused::new(Code::RateLimited, "too many attempts").retry_after(retry_after)
        }
        CommandError::Database(cause) if failure(&cause) == Failure::Transient => {
            tracing::warn!(
                error = &cause as &dyn std::error::Error,
                "a credential could not be read"
            );
            Refused::new(
                Code::Unavailable,
                "the database can't be used at the moment",
            )
            .retry_after(Duration::from_secs(1))
        }
        error @ (CommandError::Refused(_)
        | CommandError::Database(_)
        | CommandError::Internal(_)) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a credential could not be read"
            );
            Refused::new(Code::Internal, "internal error")
        }
    }
}

#[cfg(test)]
mod tests;
