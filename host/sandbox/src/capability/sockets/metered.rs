//! The two streams of a TCP connection, with their bytes counted, and with an end to waiting for more when the guest should
//! come to an end.

use std::mem::replace;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::p2::pipe::{ClosedInputStream, ClosedOutputStream};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use crate::capability::network::TrafficMeter;
use crate::clock::Ending;

/// Puts a counter around both streams, in their places.
pub(super) fn wrap(
    table: &mut ResourceTable,
    input: &Resource<DynInputStream>,
    output: &Resource<DynOutputStream>,
    meter: &Arc<TrafficMeter>,
    ending: Option<Ending>,
) -> Result<(), ResourceTableError> {
    let place = table.get_mut(input)?;
    let inner = replace(place, Box::new(ClosedInputStream));
    *place = Box::new(MeteredInput { inner, meter: Arc::clone(meter), ending, is_over: false });
    let place = table.get_mut(output)?;
    let inner = replace(place, Box::new(ClosedOutputStream));
    *place = Box::new(MeteredOutput { inner, meter: Arc::clone(meter) });
    Ok(())
}

struct MeteredInput {
    inner: DynInputStream,
    meter: Arc<TrafficMeter>,
    /// For a guest that listens.
    ending: Option<Ending>,
    /// It was let go while it waited, and has not been told yet.
    is_over: bool,
}

#[wasmtime_wasi::async_trait]
impl InputStream for MeteredInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let bytes = self.inner.read(size)?;
        // Whoever reads nothing waits again: only an error brings libraries back to their callers.
        if bytes.is_empty() && size > 0 && replace(&mut self.is_over, false) {
            let over = wasmtime::Error::msg("the time of the task was over while it waited for bytes");
            return Err(StreamError::LastOperationFailed(over));
        }
        self.meter.count_received(bytes.len());
        Ok(bytes)
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for MeteredInput {
    async fn ready(&mut self) {
        match &self.ending {
            Some(ending) => tokio::select! {
                () = self.inner.ready() => {}
                () = ending.comes() => self.is_over = true,
            },
            None => self.inner.ready().await,
        }
    }
}

struct MeteredOutput {
    inner: DynOutputStream,
    meter: Arc<TrafficMeter>,
}

#[wasmtime_wasi::async_trait]
impl OutputStream for MeteredOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let count = bytes.len();
        self.inner.write(bytes)?;
        self.meter.count_sent(count);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.inner.check_write()
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for MeteredOutput {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}
