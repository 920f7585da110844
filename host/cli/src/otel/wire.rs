//! Spans as OTLP's JSON has them (opentelemetry-proto, trace/v1/trace.proto).
//!
//! Written straight from what is there, since a busy worker ends thousands of spans a second.

use serde::Serialize;
use taskhost_core::Timestamp;
use taskhost_core::trace::{Span, Value, hex};

/// OpenTelemetry's number for a span of whoever receives a message, and for an error.
const KIND_CONSUMER: u8 = 5;
const STATUS_ERROR: u8 = 2;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireRequest<'a> {
    resource_spans: [WireResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireResourceSpans<'a> {
    resource: WireResource<'a>,
    scope_spans: [WireScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct WireResource<'a> {
    attributes: Vec<WireAttribute<'a>>,
}

#[derive(Serialize)]
struct WireScopeSpans<'a> {
    scope: WireScope,
    spans: Vec<WireSpan<'a>>,
}

#[derive(Serialize)]
struct WireScope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireSpan<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'a str>,
    flags: u8,
    name: &'a str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<WireAttribute<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<WireEvent<'a>>,
    status: WireStatus<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireEvent<'a> {
    time_unix_nano: String,
    name: &'static str,
    attributes: Vec<WireAttribute<'a>>,
}

#[derive(Serialize)]
struct WireStatus<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

#[derive(Serialize)]
struct WireAttribute<'a> {
    key: &'a str,
    value: WireValue<'a>,
}

#[derive(Serialize)]
enum WireValue<'a> {
    #[serde(rename = "stringValue")]
    Text(&'a str),
    /// 64 bits are text in protobuf's JSON.
    #[serde(rename = "intValue")]
    Int(String),
    #[serde(rename = "doubleValue")]
    Real(f64),
}

/// A batch as the body of one request.
pub(super) fn document(resource: &[(String, String)], batch: &[Span]) -> Vec<u8> {
    let attributes = resource.iter().map(|(key, text)| WireAttribute { key, value: WireValue::Text(text) });
    let request = WireRequest {
        resource_spans: [WireResourceSpans {
            resource: WireResource { attributes: attributes.collect() },
            scope_spans: [WireScopeSpans {
                scope: WireScope { name: "taskhost", version: env!("CARGO_PKG_VERSION") },
                spans: batch.iter().map(span).collect(),
            }],
        }],
    };
    serde_json::to_vec(&request).expect("texts and numbers can be written")
}

fn span(span: &Span) -> WireSpan<'_> {
    let ended = nanos(span.ended);
    let mut events = Vec::new();
    if !span.exception.is_empty() {
        let attributes = attributes(&span.exception);
        events.push(WireEvent { time_unix_nano: ended.clone(), name: "exception", attributes });
    }
    WireSpan {
        trace_id: hex(&span.context.trace),
        span_id: hex(&span.context.span),
        parent_span_id: span.parent.as_ref().map(|parent| hex(parent)),
        trace_state: span.context.state(),
        flags: span.context.is_sampled().into(),
        name: &span.name,
        kind: KIND_CONSUMER,
        start_time_unix_nano: nanos(span.started),
        end_time_unix_nano: ended,
        attributes: attributes(&span.attributes),
        events,
        status: WireStatus { code: span.error.as_ref().map(|_| STATUS_ERROR), message: span.error.as_deref() },
    }
}

fn attributes<'a>(attributes: &'a [(&'static str, Value)]) -> Vec<WireAttribute<'a>> {
    let attribute = |(key, value): &'a (&'static str, Value)| {
        let value = match value {
            Value::Text(text) => WireValue::Text(text),
            Value::Int(number) => WireValue::Int(number.to_string()),
            Value::Real(number) => WireValue::Real(*number),
        };
        WireAttribute { key, value }
    };
    attributes.iter().map(attribute).collect()
}

fn nanos(at: Timestamp) -> String {
    (i128::from(at.as_micros()) * 1000).to_string()
}
