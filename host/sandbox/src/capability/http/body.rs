//! The two bodies of an exchange, bounded in size, and the response's in time.
//!
//! Nothing is decompressed: what a server says it sends is what the guest gets.

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::JoinSet;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi_http::{Error, WasiBody};

use super::patience::{Elapsed, Patience};
use crate::capability::remarks::Remarks;

/// Why an exchange had to end, if that was the host's doing. Both bodies and the connection know of it.
pub(super) type Verdict = Arc<OnceLock<String>>;

/// Takes what guests go on to send when nobody wants it any more: a library whose body cannot be written says that, and
/// not what the response says. Ends with the attempt.
#[derive(Debug, Default)]
pub(super) struct Sink(Arc<Mutex<JoinSet<()>>>);

/// What a guest sends.
pub(super) struct RequestBody {
    /// None once it has ended.
    inner: Option<WasiBody>,
    limit_bytes: u64,
    left_bytes: u64,
    sink: Weak<Mutex<JoinSet<()>>>,
    pub(super) verdict: Verdict,
    /// Told whenever a part of it is sent.
    pub(super) moved: Arc<Notify>,
}

impl RequestBody {
    pub(super) fn new(inner: WasiBody, limit_bytes: u64, sink: &Sink) -> Self {
        Self {
            inner: Some(inner),
            limit_bytes,
            left_bytes: limit_bytes,
            sink: Arc::downgrade(&sink.0),
            verdict: Verdict::default(),
            moved: Arc::default(),
        }
    }

    pub(super) fn too_large(limit_bytes: u64) -> String {
        format!("the body of the request has more than {limit_bytes} bytes; raise limits.http_request_body")
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let frame = match Pin::new(inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Pending => return Poll::Pending,
            ended => {
                this.inner = None;
                return ended;
            }
        };
        this.moved.notify_one();
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        if bytes > this.left_bytes {
            let text = this.verdict.get_or_init(|| Self::too_large(this.limit_bytes)).clone();
            return Poll::Ready(Some(Err(Error::InternalError(Some(text)))));
        }
        this.left_bytes -= bytes;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take().filter(|inner| !inner.is_end_stream()) else { return };
        // Without the attempt or a runtime nobody sends any more.
        let (Some(sink), Ok(runtime)) = (self.sink.upgrade(), Handle::try_current()) else { return };
        let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
        while sink.try_join_next().is_some() {}
        sink.spawn_on(swallow(inner, self.limit_bytes), &runtime);
    }
}

/// Reads a body to its end, but no more than this of it.
async fn swallow(mut body: WasiBody, mut left_bytes: u64) {
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        let Some(left) = left_bytes.checked_sub(bytes) else { return };
        left_bytes = left;
    }
}

/// What a server sends, as the guest reads it.
pub(super) struct ResponseBody {
    pub(super) inner: Incoming,
    pub(super) limit_bytes: u64,
    pub(super) left_bytes: u64,
    pub(super) patience: Patience,
    pub(super) waiting: Option<Elapsed>,
    pub(super) verdict: Verdict,
    /// Drives the connection, and ends it when the body is dropped.
    pub(super) connection: Option<AbortOnDropJoinHandle<()>>,
    /// The place among the requests of the attempt.
    pub(super) turn: Option<OwnedSemaphorePermit>,
    pub(super) remarks: Arc<Remarks>,
}

impl ResponseBody {
    fn end(&mut self) {
        self.waiting = None;
        self.connection = None;
        self.turn = None;
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if this.connection.is_none() {
            return Poll::Ready(None);
        }
        let error = match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting = None;
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                if bytes <= this.left_bytes {
                    this.left_bytes -= bytes;
                    return Poll::Ready(Some(Ok(frame)));
                }
                let limit = this.limit_bytes;
                let text =
                    format!("the body of the response has more than {limit} bytes; raise limits.http_response_body");
                Error::InternalError(Some(this.remarks.make(text)))
            }
            Poll::Ready(None) => {
                this.end();
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => match this.verdict.get() {
                Some(text) => Error::InternalError(Some(this.remarks.make(text.clone()))),
                None => super::exchange::failed(&error),
            },
            Poll::Pending => {
                let patience = &this.patience;
                let waiting = this.waiting.get_or_insert_with(|| patience.begin("the next bytes"));
                match waiting.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(error) => error,
                }
            }
        };
        this.end();
        Poll::Ready(Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_none() || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
