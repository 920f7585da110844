//! The span of one attempt: what a trace tells of it.
//!
//! Names are OpenTelemetry's for messaging, and those of Celery's own instrumentation
//! (opentelemetry-instrumentation-celery).

use crate::event::Happening;
use crate::exception::Exception;
use crate::outcome::Attempt;
use crate::settle::Settlement;
use crate::timestamp::Timestamp;

use super::TraceContext;

/// Longer texts are cut, in bytes.
const TEXT_BYTES_MAX: usize = 4096;

/// What happened between two moments.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub context: TraceContext,
    pub parent: Option<[u8; 8]>,
    pub name: String,
    pub started: Timestamp,
    pub ended: Timestamp,
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it is an error.
    pub error: Option<String>,
    /// The exception behind it, as attributes of the event `exception`.
    pub exception: Vec<(&'static str, Value)>,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Int(i64),
    Real(f64),
}

/// The span of an attempt that starts. `system` is what OpenTelemetry calls the broker.
pub fn begin(attempt: &Attempt, context: TraceContext, parent: Option<&TraceContext>, system: &str) -> Span {
    let request = &attempt.request;
    let text = |text: &str| Value::Text(cut(text));
    let size = |size: usize| Value::Int(i64::try_from(size).unwrap_or(i64::MAX));
    let mut attributes = vec![
        ("messaging.system", text(system)),
        ("messaging.operation.name", text("run")),
        ("messaging.operation.type", text("process")),
        ("messaging.destination.name", text(request.delivery.queue.as_str())),
        ("messaging.message.id", text(request.id.as_str())),
        ("messaging.message.body.size", size(request.message.body.len())),
        ("celery.action", text("run")),
        ("celery.task_name", text(request.task.as_str())),
        ("celery.retries", Value::Int(request.retries.into())),
        ("taskhost.plugin", text(attempt.spec.plugin.as_str())),
        ("taskhost.plugin.version", text(attempt.pinned.as_ref().unwrap_or(&attempt.spec.version).as_str())),
    ];
    if let Some(id) = &request.message.properties.correlation_id {
        attributes.push(("messaging.message.conversation_id", text(id)));
    }
    if system == "rabbitmq" {
        attributes.push(("messaging.rabbitmq.destination.routing_key", text(&request.delivery.routing_key)));
    }
    Span {
        context,
        parent: parent.map(|parent| parent.span),
        name: cut(&format!("run {}", request.task)),
        started: attempt.started,
        ended: attempt.started,
        attributes,
        error: None,
        exception: Vec::new(),
    }
}

/// Says what the attempt came to.
pub fn end(span: &mut Span, settlement: &Settlement, ended: Timestamp) {
    span.ended = ended.max(span.started);
    for event in &settlement.events {
        let state = match &event.what {
            Happening::Succeeded { usage, .. } => {
                span.attributes.push(("taskhost.cpu_seconds", Value::Real(usage.cpu.as_secs_f64())));
                "SUCCESS"
            }
            Happening::Failed { exception, traceback, .. } => {
                fail(span, exception, traceback.as_deref());
                "FAILURE"
            }
            Happening::Lost { exception } => {
                fail(span, exception, None);
                "LOST"
            }
            Happening::Retried { cause, traceback, .. } => {
                // A retry is no error, but what led to it is told.
                if let Some(cause) = cause {
                    span.exception = told(cause, traceback.as_deref());
                }
                "RETRY"
            }
            Happening::Rejected { .. } => "REJECTED",
            Happening::Ignored => "IGNORED",
            Happening::Revoked { .. } => "REVOKED",
            Happening::Interrupted => "INTERRUPTED",
            Happening::DeadLettered { .. } => "DEAD_LETTERED",
            Happening::Received { .. }
            | Happening::Started { .. }
            | Happening::Unregistered { .. }
            | Happening::Parked { .. } => {
                continue;
            }
        };
        span.attributes.push(("celery.state", Value::Text(state.to_owned())));
    }
}

fn fail(span: &mut Span, exception: &Exception, traceback: Option<&str>) {
    span.error = Some(cut(&exception.repr()));
    span.attributes.push(("error.type", Value::Text(cut(&exception.kind))));
    span.exception = told(exception, traceback);
}

fn told(exception: &Exception, traceback: Option<&str>) -> Vec<(&'static str, Value)> {
    let mut told = vec![
        ("exception.type", Value::Text(cut(&exception.kind))),
        ("exception.message", Value::Text(cut(&exception.repr()))),
    ];
    if let Some(traceback) = traceback {
        told.push(("exception.stacktrace", Value::Text(cut(traceback))));
    }
    told
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}
