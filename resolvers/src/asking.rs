//! What a resolver finds in its context: who asks, how the request came, and the parts of the program that answer.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use adapters::clock::SharedClock;
use async_graphql::{Context, ID, Result, Value};
use auth::{Authority, Identity, RequestContext, SignedIn};
use engine::{Asked, Engine};
use entities::{CommandError, Refusal, Scope, Tx, ids};
use futures_util::future::BoxFuture;
use loaders::Reader;

use crate::{
    errors::{self, UserError},
    identity::Allowances,
    service::{ServiceBackends, ServiceLimits},
};

/// Who asks and how the request came; in the data of each request.
#[derive(Debug)]
pub struct Asking {
    identity: Mutex<Option<Identity>>,
    request: RequestContext,
    by_post: bool,
    signing_in: AtomicBool,
}

impl Asking {
    /// For a request; `identity` is `None` without a credential. `by_post`: it came by HTTP, not over a socket.
    #[must_use]
    pub fn new(identity: Option<Identity>, request: RequestContext, by_post: bool) -> Self {
        Self {
            identity: Mutex::new(identity),
            request,
            by_post,
            signing_in: AtomicBool::new(false),
        }
    }
}

/// Writes what a new installation begins with, within the transaction that makes it.
pub type Seed =
    Box<dyn for<'c> FnOnce(&'c Tx, &'c Scope) -> BoxFuture<'c, Result<(), CommandError>> + Send>;

/// Finds out what a new installation begins with, before there is a transaction; in the data of the schema.
pub struct FirstContent(pub Box<dyn Fn() -> BoxFuture<'static, Seed> + Send + Sync>);

/// What resolvers ask their context for.
pub trait ContextExt {
    /// The reads of this request, in the tenant that is asked in.
    fn reader(&self) -> &Reader;

    /// Who asks and where.
    ///
    /// # Errors
    /// UNAUTHENTICATED without a credential.
    fn scope(&self) -> Result<Arc<Scope>>;

    /// Who asks, with the rows that say so; `None` without a credential.
    fn identity(&self) -> Option<Identity>;

    /// From here on the request is asked by whoever has just signed in.
    fn become_signed_in(&self, signed_in: &SignedIn);

    /// From here on the request is asked as this one is: in another tenant.
    fn become_somebody(&self, identity: Identity);

    /// How the request came.
    fn request(&self) -> &RequestContext;

    /// That it came by HTTP, not over a socket.
    ///
    /// # Errors
    /// INVALID_INPUT.
    fn only_by_post(&self) -> Result<()>;

    /// Passwords are work: one field of a request may ask for it.
    ///
    /// # Errors
    /// INVALID_INPUT the second time.
    fn sign_in_once(&self) -> Result<()>;

    /// Who may do what.
    fn authority(&self) -> &Authority;

    /// What does things: the commands of models, agents, conversations and runs.
    fn engine(&self) -> &Engine;

    /// The same for the mutation that is being answered.
    fn commands(&self) -> Engine;

    /// The mutation that is being answered, as it was asked for; `None` without a credential.
    fn asked(&self) -> Option<Asked>;

    /// The time of day.
    fn clock(&self) -> &SharedClock;

    /// The limits that are in force.
    fn limits(&self) -> &ServiceLimits;

    /// What this installation is built on.
    fn backends(&self) -> &ServiceBackends;

    /// How much credentials may still ask for.
    fn allowances(&self) -> &Allowances;

    /// How a command went: its value or what the caller can act on, for the payload; everything else is an error of the field.
    /// What is read from here on sees what the command did. What was refused stands in the audit log by then.
    ///
    /// # Errors
    /// Those nobody can act on.
    fn settle<T: Send>(
        &self,
        outcome: Result<T, CommandError>,
    ) -> impl Future<Output = Result<Result<T, Vec<UserError>>>> + Send;
}

/// The data that [`ContextExt`] reads is put there by whoever wires the program, always.
const WIRED: &str = "the data of requests and schema is complete";

impl ContextExt for Context<'_> {
    fn reader(&self) -> &Reader {
        self.data().expect(WIRED)
    }

    fn scope(&self) -> Result<Arc<Scope>> {
        let missing = || CommandError::Unauthenticated("this needs a credential");
        Ok(self.reader().scope().ok_or_else(missing)?)
    }

    fn identity(&self) -> Option<Identity> {
        asking(self)
            .identity
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn become_signed_in(&self, signed_in: &SignedIn) {
        self.become_somebody(signed_in.identity.clone());
    }

    fn become_somebody(&self, identity: Identity) {
        self.reader().renew_as(identity.scope().clone());
        *asking(self)
            .identity
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(identity);
    }

    fn request(&self) -> &RequestContext {
        &asking(self).request
    }

    fn only_by_post(&self) -> Result<()> {
        if !asking(self).by_post {
            return Err(Refusal::invalid(&[], "this is taken by an HTTP POST only").into());
        }
        Ok(())
    }

    fn sign_in_once(&self) -> Result<()> {
        if asking(self).signing_in.swap(true, Ordering::Relaxed) {
            return Err(Refusal::invalid(&[], "one field of a request may take a password").into());
        }
        Ok(())
    }

    fn authority(&self) -> &Authority {
        self.data().expect(WIRED)
    }

    fn engine(&self) -> &Engine {
        self.data().expect(WIRED)
    }

    fn commands(&self) -> Engine {
        self.engine().asked(self.asked())
    }

    fn asked(&self) -> Option<Asked> {
        let scope = self.reader().scope()?;
        let field = self.field();
        let arguments = field.arguments().ok()?;
        let Some((_, Value::Object(mut input))) =
            arguments.into_iter().find(|(name, _)| name == "input")
        else {
            return None;
        };
        let fields = input.keys().map(ToString::to_string).collect();
        let target = TARGETS.iter().find_map(|field| match input.get(*field) {
            // What has not the form of an id names nothing, and may hold what no database takes.
            Some(Value::String(id)) => ids::parse(id).map(|_| id.chars().take(TARGET).collect()),
            _ => None,
        });
        let address = self.request().address;
        let address = address.map(|address| address.to_canonical().to_string());
        let asked = Asked::new(&scope, field.name(), fields, target, address)?;
        let Some(Value::String(key)) = input.swap_remove("idempotencyKey") else {
            return Some(asked);
        };
        let mut canonical = String::new();
        write_canonical(&Value::Object(input), &mut canonical);
        let keyring = self.engine().keyring();
        Some(asked.with_key(&scope, key, canonical.into_bytes(), keyring))
    }

    fn clock(&self) -> &SharedClock {
        self.engine().clock()
    }

    fn limits(&self) -> &ServiceLimits {
        self.data().expect(WIRED)
    }

    fn backends(&self) -> &ServiceBackends {
        self.data().expect(WIRED)
    }

    fn allowances(&self) -> &Allowances {
        self.data().expect(WIRED)
    }

    async fn settle<T: Send>(
        &self,
        outcome: Result<T, CommandError>,
    ) -> Result<Result<T, Vec<UserError>>> {
        if let Err(error) = &outcome {
            let codes = errors::codes(error);
            if !codes.is_empty() {
                let (asked, address) = (self.asked(), self.request().address);
                let field = self.field().name();
                self.authority()
                    .refused(asked, field, address, &codes)
                    .await?;
            }
        }
        self.reader().renew();
        match outcome {
            Ok(value) => Ok(Ok(value)),
            Err(CommandError::Refused(refusals)) => Ok(Err(refusals
                .into_iter()
                .map(errors::UserError::from)
                .collect())),
            Err(error) => Err(error.into()),
        }
    }
}

/// Fields of an input that say what a mutation is about, the first that is there.
const TARGETS: [&str; 7] = [
    "id",
    "conversationId",
    "groupId",
    "userId",
    "parentId",
    "agentId",
    "modelId",
];
/// Characters of such an id that are kept; ours are shorter.
const TARGET: usize = 100;

/// Writes a value so that equal inputs are equal texts, whatever the order of their fields.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (name, value) in sorted {
                out.push_str(name);
                out.push(':');
                write_canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::List(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        leaf => out.push_str(&leaf.to_string()),
    }
}

fn asking<'a>(ctx: &'a Context<'_>) -> &'a Asking {
    ctx.data().expect(WIRED)
}

/// An id as a client gives it.
pub trait GivenId {
    /// The typed id; `None` where the text has another form, which is the same as an id of nothing.
    fn typed<T: std::str::FromStr>(&self) -> Option<T>;

    /// The typed id that a mutation's input field names.
    ///
    /// # Errors
    /// NOT_FOUND at `path`.
    fn named<T: std::str::FromStr>(&self, path: &[&str]) -> Result<T, CommandError>;
}

impl GivenId for ID {
    fn typed<T: std::str::FromStr>(&self) -> Option<T> {
        self.parse().ok()
    }

    fn named<T: std::str::FromStr>(&self, path: &[&str]) -> Result<T, CommandError> {
        self.typed()
            .ok_or_else(|| Refusal::not_found(path, self.as_str()).into())
    }
}
