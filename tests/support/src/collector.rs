//! A collector of traces: takes what is sent by OTLP over HTTP, and reads it by the protocol's own messages.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::status::StatusCode,
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{lock, provider::http::Connection};

/// A span, with ids in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// `service.name` of who sent it.
    pub service: String,
    /// What it is called.
    pub name: String,
    /// Its trace.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// The id of the span that it is a part of; empty for the first of a trace.
    pub parent: String,
    /// What is said of it, as text.
    pub attributes: BTreeMap<String, String>,
    /// Traces and spans that it points to.
    pub links: Vec<(String, String)>,
    /// Whether it failed.
    pub has_failed: bool,
    /// How long it took, in nanoseconds.
    pub took: u64,
}

impl Span {
    /// Something that is said of it; empty where nothing is.
    pub fn said(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// What was sent.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Spans, in the order in which they came.
    pub spans: Vec<Span>,
    /// All bytes, as they came.
    pub bytes: Vec<u8>,
    /// Requests that were none of the protocol's.
    pub strange: Vec<String>,
    /// The last value of each header.
    pub headers: BTreeMap<String, String>,
}

/// A collector, listening until it is dropped.
pub struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    task: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    /// Starts one on a free port.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port for a collector");
        let address = listener.local_addr().expect("its address");
        let received = Arc::<Mutex<Received>>::default();
        let kept = received.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let Ok(mut connection) = Connection::new(stream) else {
                        return;
                    };
                    while let Ok(Some(request)) = connection.request().await {
                        let is_good = request.method == "POST"
                            && request.path == "/v1/traces"
                            && request
                                .headers
                                .get("content-type")
                                .is_some_and(|kind| kind == "application/x-protobuf");
                        let message = ExportTraceServiceRequest::decode(&*request.body);
                        {
                            let mut kept = lock(&kept);
                            match message {
                                Ok(message) if is_good => kept.spans.extend(spans(message)),
                                _ => kept
                                    .strange
                                    .push(format!("{} {}", request.method, request.path)),
                            }
                            kept.bytes.extend(&request.body);
                            kept.headers.extend(request.headers);
                        }
                        let kind = (
                            "content-type".to_owned(),
                            "application/x-protobuf".to_owned(),
                        );
                        let body = ExportTraceServiceResponse::default().encode_to_vec();
                        let headers = BTreeMap::from([kind]);
                        if connection.answer(200, &headers, &body).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            address,
            received,
            task,
        }
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that came so far.
    pub fn received(&self) -> Received {
        lock(&self.received).clone()
    }

    /// The spans of a name that came so far.
    pub fn spans(&self, name: &str) -> Vec<Span> {
        let mut spans = self.received().spans;
        spans.retain(|span| span.name == name);
        spans
    }
}

fn spans(message: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in message.resource_spans {
        let about = resource.resource.unwrap_or_default().attributes;
        let service = said(about).remove("service.name").unwrap_or_default();
        for span in resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            let status = span.status.unwrap_or_default();
            spans.push(Span {
                service: service.clone(),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                attributes: said(span.attributes),
                links: span
                    .links
                    .iter()
                    .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
                    .collect(),
                has_failed: status.code == StatusCode::Error as i32,
                took: span
                    .end_time_unix_nano
                    .saturating_sub(span.start_time_unix_nano),
            });
        }
    }
    spans
}

fn said(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes
        .into_iter()
        .map(|attribute| (attribute.key, text(attribute.value)))
        .collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is)) => is.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
