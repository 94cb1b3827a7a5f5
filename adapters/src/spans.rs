//! What belongs together in logs and traces: a request, a socket, a run, a step of it.
//!
//! Every line that is logged inside of a span carries its fields, so a request's id and a run's stand in all that they cause. The
//! same spans are what a collector of traces is sent. They hold ids, kinds, numbers and outcomes: no variables, no headers, no
//! payloads, nothing that was said.

use std::fmt::Display;

use opentelemetry::{
    Value,
    trace::{SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::{
    Dispatch, Span, Subscriber, error_span,
    field::{Field, Visit},
    span,
};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, Registry, layer::Context, registry::LookupSpan};

/// The target of all spans that are sent as traces. Filters of logs let it, and what is below it, through at every level: a line
/// that is let through is never without its request.
pub const TARGET: &str = "weft::spans";

/// The trace that a client's request belongs to, and whether it is believed.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The span that it was sent from.
    pub context: SpanContext,
    /// Whether the request's span is a part of that trace, its sampling included; else it only points to it.
    pub trusted: bool,
}

/// A request.
#[must_use]
pub fn request(id: &str, caller: Option<Caller>) -> Span {
    let span = error_span!(target: TARGET, "request", request = id);
    if let Some(Caller { context, trusted }) = caller {
        if trusted {
            let parent = opentelemetry::Context::new().with_remote_span_context(context);
            // refused by one that has begun, which this one has not
            drop(span.set_parent(parent));
        } else {
            span.add_link(context);
        }
    }
    span
}

/// A socket, for its lines alone: a trace is not as long as a connection.
#[must_use]
pub fn socket(id: &str) -> Span {
    error_span!(target: "weft::spans::unsent", "socket", request = id)
}

/// A request of whoever watches the server, for its lines alone: traces of these tell nothing.
#[must_use]
pub fn probe(id: &str) -> Span {
    error_span!(target: "weft::spans::unsent", "request", request = id)
}

/// What the current span's request asks for. `name` is the client's name for it.
pub fn operation(kind: &'static str, name: Option<&str>, transport: &'static str) {
    let span = Span::current();
    span.set_attribute("graphql.operation.type", kind);
    if let Some(name) = name {
        let name: String = name.chars().take(100).collect();
        span.set_attribute("graphql.operation.name", name);
    }
    span.set_attribute("weft.transport", transport);
}

/// A run in the hands of this process: a trace of its own, which points to the request that asked for it.
#[must_use]
pub fn run(run: impl Display, attempt: i32, origin: Option<&Origin>) -> Span {
    let span = match origin.and_then(|origin| origin.request.as_deref()) {
        Some(request) => {
            error_span!(target: TARGET, parent: None, "run", %run, attempt, request)
        }
        None => error_span!(target: TARGET, parent: None, "run", %run, attempt),
    };
    if let Some(origin) = origin
        && origin.context.is_valid()
    {
        span.add_link(origin.context.clone());
    }
    span
}

/// A step of a run, by its number: its calls of models, and the tools that the model asks for.
#[must_use]
pub fn step(step: i32) -> Span {
    error_span!(target: TARGET, "step", step)
}

/// A call of a model, by the provider's kind.
#[must_use]
pub fn model_call(provider: &'static str, purpose: &'static str) -> Span {
    let span = error_span!(target: TARGET, "model_call", provider);
    span.set_attribute("weft.purpose", purpose);
    span
}

/// A tool call, by its id.
#[must_use]
pub fn tool_call(call: impl Display) -> Span {
    error_span!(target: TARGET, "tool_call", %call)
}

/// Says something more of a span, for traces alone.
pub fn set(span: &Span, key: &'static str, value: impl Into<Value>) {
    span.set_attribute(key, value);
}

/// How what a span is about came out.
pub fn outcome(span: &Span, outcome: &'static str, is_failure: bool) {
    span.set_attribute("weft.outcome", outcome);
    if is_failure {
        span.set_status(Status::error(outcome));
    }
}

/// The request that something was asked for by: in memory alone.
#[derive(Debug, Clone)]
pub struct Origin {
    request: Option<String>,
    context: SpanContext,
}

impl Origin {
    /// Of the request whose span is open here; `None` outside of any.
    #[must_use]
    pub fn here() -> Option<Self> {
        let span = Span::current();
        let request = span.with_subscriber(request_of).flatten();
        let context = span.context().span().span_context().clone();
        (request.is_some() || context.is_valid()).then_some(Self { request, context })
    }
}

fn request_of((id, dispatch): (&span::Id, &Dispatch)) -> Option<String> {
    let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
    span.scope().find_map(|span| {
        let extensions = span.extensions();
        extensions
            .get::<RequestId>()
            .map(|RequestId(id)| id.clone())
    })
}

struct RequestId(String);

/// Keeps the ids of requests with their spans, for [`Origin::here`].
#[derive(Debug, Default)]
pub struct Requests;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Requests {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        if attributes.metadata().target() != TARGET {
            return;
        }
        let mut found = Found(None);
        attributes.record(&mut found);
        if let (Some(id), Some(span)) = (found.0, ctx.span(id)) {
            span.extensions_mut().insert(RequestId(id));
        }
    }
}

struct Found(Option<String>);

impl Visit for Found {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "request" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// The span that a `traceparent` of W3C's Trace Context names.
#[must_use]
pub fn traceparent(header: &str) -> Option<SpanContext> {
    let mut parts = header.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    // later versions may hold more
    let fits = is_hex(version, 2)
        && version != "ff"
        && (version != "00" || parts.next().is_none())
        && is_hex(trace, 32)
        && is_hex(parent, 16)
        && is_hex(flags, 2);
    if !fits {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(parent).ok()?,
        flags,
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_traceparent_is_one() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let parent = "b7ad6b7169203331";
        let good = traceparent(&format!("00-{trace}-{parent}-01")).unwrap();
        assert!(good.is_remote() && good.is_sampled());
        assert_eq!(good.trace_id().to_string(), trace);
        assert_eq!(good.span_id().to_string(), parent);
        assert!(
            !traceparent(&format!("00-{trace}-{parent}-00"))
                .unwrap()
                .is_sampled()
        );
        assert!(traceparent(&format!("cc-{trace}-{parent}-01-more")).is_some());
        for bad in [
            String::new(),
            format!("00-{trace}-{parent}"),
            format!("00-{trace}-{parent}-01-more"),
            format!("ff-{trace}-{parent}-01"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
            format!("00-{trace}-{parent}-0g"),
            format!("00-+{}-{parent}-01", &trace[1..]),
        ] {
            assert!(traceparent(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn whoever_works_for_a_request_knows_which() {
        use tracing_subscriber::layer::SubscriberExt as _;
        let subscriber = tracing_subscriber::registry().with(Requests);
        tracing::subscriber::with_default(subscriber, || {
            assert!(Origin::here().is_none());
            let _request = request("abc-1", None).entered();
            let _within = model_call("OPENAI", "ANSWER").entered();
            let origin = Origin::here().unwrap();
            assert_eq!(origin.request.as_deref(), Some("abc-1"));
            let _run = run("run_1", 1, Some(&origin)).entered();
            // a run begins anew, with the id as a field of its own
            assert_eq!(Origin::here().unwrap().request.as_deref(), Some("abc-1"));
            let _run = run("run_1", 2, None).entered();
            assert!(Origin::here().is_none());
        });
    }
}
