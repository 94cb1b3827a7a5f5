//! Traces, sent by OTLP over HTTP where somebody takes them.
//!
//! Whom to send them to is said by the variables of OpenTelemetry's specification, or by `otlp_endpoint`; how many, by the
//! specification's variables alone, which the library reads: see `docs/operating.md`.

use std::{env, time::Duration};

use anyhow::bail;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};

use crate::config::{Config, Secret};

/// Either says where traces go; the first is whole, the second is one for all that OpenTelemetry sends.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
const PROTOCOLS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];

/// How long the last spans may take to be sent when the program ends.
const FLUSH: Duration = Duration::from_secs(5);

/// What sends them, if anything does.
#[derive(Debug)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Starts sending. Made outside of the runtime: it works on threads of its own.
    ///
    /// # Errors
    /// Something is asked for that it can't do: one line that names the setting.
    pub fn start(config: &Config) -> anyhow::Result<Self> {
        let given = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let says = |name, value| given(name).is_some_and(|given| given.trim() == value);
        let is_off = given("OTEL_SDK_DISABLED")
            .is_some_and(|off| off.trim().eq_ignore_ascii_case("true"))
            || says("OTEL_TRACES_EXPORTER", "none");
        let by_variable = ENDPOINTS.iter().any(|name| given(name).is_some());
        if is_off || !(by_variable || config.otlp_endpoint.is_some()) {
            return Ok(Self(None));
        }
        if let Some((name, protocol)) = PROTOCOLS
            .iter()
            .find_map(|name| Some((name, given(name)?)))
            .filter(|(_, protocol)| protocol.trim() != "http/protobuf")
        {
            bail!("variable `{name}`: {protocol:?}: traces are sent by http/protobuf alone");
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary);
        let exporter = match config.otlp_endpoint.as_ref().map(Secret::expose) {
            Some(base) if !by_variable => {
                exporter.with_endpoint(format!("{}/v1/traces", base.trim_end_matches('/')))
            }
            Some(_) | None => exporter,
        };
        // not with what the library says, which may hold the address
        let Ok(exporter) = exporter.build() else {
            bail!(
                "setting `otlp_endpoint`, or the variables that begin with OTEL_EXPORTER_OTLP_: traces can't be sent there"
            );
        };
        let mut resource = Resource::builder();
        let is_named = given("OTEL_SERVICE_NAME").is_some()
            || given("OTEL_RESOURCE_ATTRIBUTES")
                .is_some_and(|attributes| attributes.contains("service.name="));
        if !is_named {
            resource = resource.with_service_name("weft");
        }
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.with_attribute(version).build())
            .with_batch_exporter(exporter)
            .build();
        Ok(Self(Some(provider)))
    }

    /// What makes spans of them.
    pub fn tracer(&self) -> Option<SdkTracer> {
        self.0.as_ref().map(|provider| provider.tracer("weft"))
    }

    /// Sends what is left, within its time.
    pub fn end(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown_with_timeout(FLUSH)
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}
