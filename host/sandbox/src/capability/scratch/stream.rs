//! A stream into a file of a scratch folder: takes room before it writes.
//!
//! What it writes with is wasmtime's own, which may still be at it when the guest goes on. Until it is done
//! nobody gets the room back, whatever else is done to the file.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::Scratch;
use super::ledger::{Key, Writer};

/// Where the next bytes go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    At(u64),
    End,
}

pub(super) struct QuotaStream {
    inner: DynOutputStream,
    scratch: Arc<Scratch>,
    file: Arc<File>,
    key: Key,
    place: Place,
    /// The one writing that may be under way.
    writing: Option<Writer>,
}

impl QuotaStream {
    pub(super) fn new(inner: DynOutputStream, scratch: Arc<Scratch>, file: Arc<File>, key: Key, place: Place) -> Self {
        Self { inner, scratch, file, key, place, writing: None }
    }

    fn reserve(&mut self, bytes: usize) -> StreamResult<()> {
        let writer = self.scratch.new_writer();
        let reserved = {
            let mut state = self.scratch.state();
            let start = match self.place {
                Place::At(start) => start,
                Place::End => state.ledger.end(self.key),
            };
            let end = start.saturating_add(bytes as u64);
            state.ledger.reserve_for(self.key, writer, end).map(|()| end)
        };
        match reserved {
            Ok(end) => {
                if let Place::At(start) = &mut self.place {
                    *start = end;
                }
                self.writing = Some(writer);
                Ok(())
            }
            Err(full) => {
                self.scratch.remark(full);
                Err(StreamError::LastOperationFailed(Error::from(ErrorKind::QuotaExceeded).into()))
            }
        }
    }

    /// Nothing is under way any more.
    fn settle(&mut self) {
        if let Some(writer) = self.writing.take() {
            let mut state = self.scratch.state();
            // Without an answer it keeps the room that it took.
            let bytes = self.file.metadata().map_or_else(|_| state.ledger.end(self.key), |meta| meta.len());
            state.ledger.written(self.key, writer, bytes);
        }
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for QuotaStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // One that is under way makes this one an error.
        if self.writing.is_none() {
            self.reserve(bytes.len())?;
        }
        self.inner.write(bytes)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.reserve(bytes.len())?;
        let written = self.inner.blocking_write_and_flush(bytes).await;
        self.settle();
        written
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let ready = self.inner.check_write();
        if !matches!(ready, Ok(0)) {
            self.settle();
        }
        ready
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
        self.settle();
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for QuotaStream {
    async fn ready(&mut self) {
        self.inner.ready().await;
        self.settle();
    }
}
