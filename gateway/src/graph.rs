//! The graph as the edge sees it: who asks becomes a scope, a document an answer.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use adapters::tasks::Tasks;
use async_graphql::{Mode, Request, Response, ServerError, parser::types::ExecutableDocument};
use auth::{Authority, Credential, Identity, RequestContext};
use entities::{
    CommandError, Db, Scope,
    db::{Failure, failure},
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream, stream::BoxStream};
use loaders::{Reader, quiesce::quiesce};
use resolvers::{
    Asking,
    following::{GoOnAfter, Place},
};
use schema::{Schema, Served};

use crate::{
    budget::{Budgets, Payer},
    config::{Limits, Secret},
    edge::{
        Client, Code, Credentials, Event, Graph, Operation, Refused, Told, Transport, counted_as,
    },
};
use allowed::{Guard, root_field};
use bill::{Bill, Till};
use followers::{Followers, Made, Renewed};

mod allowed;
mod bill;
mod counted;
mod crowd;
mod follower;
mod followers;
mod grants;

/// The graph of this program.
pub struct AppGraph {
    served: Served,
    db: Db,
    authority: Authority,
    reached: Reached,
    till: Till,
    followers: Followers,
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

impl Caller {
    /// The same one as `identity` has him.
    fn with(&self, identity: &Identity) -> Self {
        Self(Arc::new(Parts {
            identity: Some(identity.clone()),
            request: self.0.request.clone(),
            transport: self.0.transport,
        }))
    }

    /// Whose bucket pays for what he asks.
    fn payer(&self) -> Payer {
        let identity = self.0.identity.as_ref();
        let known = identity.and_then(payer);
        known.unwrap_or_else(|| {
            let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            Payer::Address(counted_as(self.0.request.address.unwrap_or(unspecified)))
        })
    }
}

/// What a step of a sign-in at a provider costs its address: a row, and perhaps a question to the provider.
const SIGN_IN: u64 = 50;

/// The bucket of a session or key.
pub fn payer(identity: &Identity) -> Option<Payer> {
    let session = identity.session().map(Payer::Session);
    session.or_else(|| identity.key().map(Payer::Key))
}

impl AppGraph {
    /// The schema must hold the data that its resolvers need.
    pub fn new(
        schema: Schema,
        db: Db,
        authority: Authority,
        reached: Reached,
        limits: &Limits,
        budgets: Arc<Budgets>,
        tasks: &Tasks,
    ) -> Self {
        let served = Served::new(schema);
        let followers = Followers::new(served.clone(), db.clone());
        followers.keep(tasks);
        Self {
            till: Till::new(limits, budgets),
            served,
            followers,
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

    /// The caller with the rights that he has at this moment: a socket is opened once, and is asked by for hours.
    async fn as_of_now(&self, caller: &Caller) -> Result<Caller, Refused> {
        match &caller.0.identity {
            Some(identity) if caller.0.transport == Transport::WebSocket => {
                let identity = self.authority.again(identity).await.map_err(refused)?;
                Ok(caller.with(&identity))
            }
            Some(_) | None => Ok(caller.clone()),
        }
    }

    /// The request with what its resolvers look for, and its reader.
    fn prepared(
        &self,
        reader: fn(&Db, Option<Scope>) -> Reader,
        caller: &Caller,
        request: Request,
        may_be_raw: bool,
    ) -> (Request, Reader) {
        let Parts {
            identity,
            request: context,
            transport,
        } = &*caller.0;
        let scope = identity.as_ref().map(|identity| identity.scope().clone());
        let reader = reader(&self.db, scope);
        let mode = if may_be_raw { Mode::Raw } else { Mode::Tree };
        let request = request.data(mode).data(reader.clone()).data(Asking::new(
            identity.clone(),
            context.clone(),
            *transport == Transport::Http,
        ));
        (request, reader)
    }
}

/// What the audit log calls a credential that was refused.
const CREDENTIAL: &str = "credential";

impl Graph for AppGraph {
    type Caller = Caller;

    fn check(&self, document: &ExecutableDocument) -> Vec<ServerError> {
        self.served.check(document)
    }

    async fn authenticate(&self, credentials: Credentials) -> Result<Caller, Refused> {
        let credential = Credential {
            bearer: credentials.bearer.as_ref().map(Secret::expose),
            api_key: credentials.api_key.as_ref().map(Secret::expose),
            tenant: credentials.tenant.as_deref(),
            on_behalf_of: credentials.on_behalf_of.as_deref(),
        };
        let identity = self.authority.identify(credential).await;
        let context = self.request_context(credentials.client);
        if identity.is_err() {
            self.authority.refused_nobody(CREDENTIAL, context.address);
        }
        Ok(Caller(Arc::new(Parts {
            identity: identity.map_err(refused)?,
            request: context,
            transport: credentials.transport,
        })))
    }

    async fn execute(&self, caller: &Caller, operation: Operation) -> Response {
        let caller = &match self.as_of_now(caller).await {
            Ok(caller) => caller,
            Err(refused) => return Response::from_errors(vec![refused.into_error()]),
        };
        let mut bill = match self.till.charge(caller, &operation) {
            Ok(bill) => bill,
            Err(refused) => return *refused,
        };
        let (request, reader) =
            self.prepared(Reader::new, caller, operation.request, operation.may_be_raw);
        let answer = self
            .served
            .execute(request.data(bill.tally()), operation.document);
        let mut response = quiesce(reader.gate(), answer).await;
        bill.tell(&mut response);
        response
    }

    fn subscribe(&self, caller: &Caller, operation: Operation) -> BoxStream<'static, Told> {
        let identity = caller.0.identity.as_ref();
        let rights = identity.map(|identity| self.authority.rights(identity));
        let caller = &match &rights {
            Some(rights) => caller.with(rights.identity()),
            None => caller.clone(),
        };
        let guard = Guard::new(rights, root_field(&operation));
        let mut bill = match self.till.charge(caller, &operation) {
            Ok(bill) => bill,
            Err(refused) => return stream::once(async { (*refused).into() }).boxed(),
        };
        let asked = self.followers.asked(&operation, bill.cost(), bill.room());
        let (mut request, reader) = self.prepared(
            Reader::following,
            caller,
            operation.request,
            operation.may_be_raw,
        );
        request = request.data(bill.tally());
        if let Some(after) = operation.after {
            request = request.data(GoOnAfter(after));
        }
        if let Some(asked) = asked {
            let identity = caller.0.identity.clone();
            let renewed = Renewed::default();
            let made = self
                .followers
                .follow(asked, request, reader, identity, renewed.clone());
            let events = made
                .map(move |(made, cursor)| Told {
                    event: told(made, &mut bill),
                    cursor,
                })
                .boxed();
            return guard.watch(events, move |identity| renewed.set(identity));
        }
        let place = operation.wants_cursors.then(Place::default);
        if let Some(place) = place.clone() {
            request = request.data(place);
        }
        let events = self.served.execute_stream(request, operation.document);
        let renewed = reader.clone();
        let events = stream::unfold((events, reader), async move |(mut events, reader)| {
            let response = quiesce(reader.gate(), events.next()).await?;
            // The next event may be long in coming, and is of another moment.
            reader.renew();
            Some((response, (events, reader)))
        })
        .map(move |mut response| {
            bill.event(&mut response);
            Told {
                event: Event::Own(response),
                cursor: place.as_ref().and_then(Place::taken),
            }
        })
        .boxed();
        guard.watch(events, move |identity| {
            renewed.renew_as(identity.scope().clone());
        })
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

    fn sign_in(&self, client: Client) -> Result<(Authority, RequestContext), Refused> {
        let payer = Payer::Address(counted_as(client.address));
        self.till.take(payer, SIGN_IN)?;
        Ok((self.authority.clone(), self.request_context(client)))
    }

    fn user_key(&self, caller: &Caller) -> Option<String> {
        caller
            .0
            .identity
            .as_ref()
            .map(|identity| identity.user().id.to_string())
    }
}

/// What was made for whoever follows, as one of them is told it.
fn told(made: Made, bill: &mut Bill) -> Event {
    match made {
        Made::Well(json, weight) => bill.shared(json, weight),
        Made::Badly(made) => {
            let mut response = Response::new(made.data.clone());
            response.errors.clone_from(&made.errors);
            bill.event(&mut response);
            Event::Own(response)
        }
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
