//! Traces to an OpenTelemetry collector: OTLP over HTTP, in JSON.
//!
//! Best effort: a collector that is slow or away costs spans, which are counted, and never a task. Speaks HTTP/1.1 without
//! TLS, as to a collector beside the worker or in its network.

mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use taskhost_core::trace::Span;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};
use worker::SpanSink;

use crate::config::{OtelConfig, SecretUrl};

/// Spans that wait to be sent; more are dropped (OTEL_BSP_MAX_QUEUE_SIZE's default).
const QUEUE_MAX: usize = 2048;
/// Spans of one request (OTEL_BSP_MAX_EXPORT_BATCH_SIZE's default).
const BATCH_MAX: usize = 512;
/// How long a span waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long a request may take, connecting included (OTEL_EXPORTER_OTLP_TIMEOUT's default).
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Tries of one batch, and the wait after the first, which doubles.
const TRIES_MAX: u32 = 3;
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long the last spans may take when the worker ends.
pub(crate) const FLUSH_MAX: Duration = Duration::from_secs(5);
/// Between two complaints.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Where spans go, and who they say they are from.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: Uri,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Attributes of the resource, `service.name` among them.
    pub(crate) resource: Vec<(String, String)>,
}

impl Target {
    /// From the settings; the error says which header is wrong.
    pub(crate) fn new(config: &OtelConfig, node: &str) -> Result<Self, String> {
        let url = config.endpoint.expose().parse().map_err(|error| format!("otel.endpoint: {error}"))?;
        let given = config.headers.as_ref().map(|headers| headers.expose()).unwrap_or_default();
        let mut headers = Vec::new();
        // What is wrong is not repeated, since it may be a secret.
        for (number, header) in given.split(',').map(str::trim).filter(|header| !header.is_empty()).enumerate() {
            let read = header.split_once('=').and_then(|(name, value)| {
                Some((name.trim().parse().ok()?, HeaderValue::from_str(&decoded(value.trim())).ok()?))
            });
            headers.push(read.ok_or_else(|| format!("otel.headers: number {} is not NAME=VALUE", number + 1))?);
        }
        let own = [
            ("service.name", config.service_name.as_str()),
            ("service.instance.id", node),
            ("telemetry.sdk.name", "taskhost"),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ];
        let mut resource: Vec<(String, String)> =
            own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        for (key, value) in &config.resource_attributes {
            // OTEL_SERVICE_NAME counts more than a name among the attributes, as the specification has it.
            if resource.iter().all(|(own, _)| own != key) {
                resource.push((key.clone(), decoded(value)));
            }
        }
        Ok(Self { url, headers, resource })
    }
}

/// True for what spans can be sent to.
pub(crate) fn is_collector(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    uri.scheme_str() == Some("http") && !authority.is_empty() && !authority.contains('@')
}

/// Where traces go at a collector of this URL.
pub(crate) fn traces_below(endpoint: &SecretUrl) -> SecretUrl {
    SecretUrl::new(&format!("{}/v1/traces", endpoint.expose().trim_end_matches('/')))
}

/// Text with `%20` and the like, as the variables have it.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hexadecimal = after.get(..2).filter(|_| first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match hexadecimal.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What became of spans, for the metrics.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

/// Takes spans from the worker.
pub(crate) struct Queue {
    spans: mpsc::Sender<Span>,
    counts: Arc<Counts>,
}

impl SpanSink for Queue {
    fn put(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// Sends what the queue takes.
pub(crate) struct Exporter {
    target: Target,
    spans: mpsc::Receiver<Span>,
    counts: Arc<Counts>,
    complained: Option<Instant>,
}

/// A queue and who empties it.
pub(crate) fn exporter(target: Target) -> (Queue, Exporter, Arc<Counts>) {
    let (spans_in, spans) = mpsc::channel(QUEUE_MAX);
    let counts = Arc::new(Counts::default());
    let queue = Queue { spans: spans_in, counts: counts.clone() };
    (queue, Exporter { target, spans, counts: counts.clone(), complained: None }, counts)
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("connect")]
    Connect(#[source] std::io::Error),
    #[error("it did not answer within {} s", REQUEST_MAX.as_secs())]
    Slow,
    #[error("talk to it")]
    Http(#[from] hyper::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
}

impl ExportError {
    /// The same batch may be taken later (OTLP, "Retryable Response Codes").
    fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Slow | Self::Http(_) => true,
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }
}

impl Exporter {
    /// Runs until the queue is gone and empty.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            if self.spans.recv_many(&mut batch, BATCH_MAX).await == 0 {
                return;
            }
            let until = Instant::now() + GATHER;
            while batch.len() < BATCH_MAX {
                let room = BATCH_MAX - batch.len();
                match timeout(until.saturating_duration_since(Instant::now()), self.spans.recv_many(&mut batch, room))
                    .await
                {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            self.send(&batch).await;
            batch.clear();
        }
    }

    async fn send(&mut self, batch: &[Span]) {
        let body = Bytes::from(wire::document(&self.target.resource, batch));
        let mut wait = RETRY_AFTER;
        for attempt in 1..=TRIES_MAX {
            let posted = timeout(REQUEST_MAX, post(&self.target, body.clone())).await;
            match posted.unwrap_or(Err(ExportError::Slow)) {
                Ok(()) => {
                    self.counts.sent.fetch_add(batch.len() as u64, Relaxed);
                    return;
                }
                Err(error) if error.is_transient() && attempt < TRIES_MAX => {
                    debug!("traces: {:#}; trying again", anyhow::anyhow!(error));
                    sleep(wait).await;
                    wait *= 2;
                }
                Err(error) => {
                    self.counts.dropped.fetch_add(batch.len() as u64, Relaxed);
                    return self.complain(error);
                }
            }
        }
    }

    fn complain(&mut self, error: ExportError) {
        if self.complained.is_some_and(|at| at.elapsed() < COMPLAIN_EVERY) {
            return;
        }
        self.complained = Some(Instant::now());
        let dropped = self.counts.dropped.load(Relaxed);
        let url = &self.target.url;
        warn!(dropped, "traces are lost, {dropped} spans so far: cannot reach {url}: {:#}", anyhow::anyhow!(error));
    }
}

async fn post(target: &Target, body: Bytes) -> Result<(), ExportError> {
    let authority = target.url.authority().map_or("", |authority| authority.as_str());
    let host = target.url.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = target.url.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host, port)).await.map_err(ExportError::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let path = target.url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().expect("it is the path of a URI");
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(authority).expect("it is part of a URI"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("taskhost/", env!("CARGO_PKG_VERSION"))));
    headers.extend(target.headers.iter().cloned());
    // A set, since it ends the connection when it is dropped: it lives as long as its one exchange.
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    // Read, so that the collector is not cut off while it answers; what it says is not looked at.
    let _ = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    if status.is_success() { Ok(()) } else { Err(ExportError::Status(status)) }
}

#[cfg(test)]
mod tests;
