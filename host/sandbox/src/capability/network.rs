//! What http and sockets have in common: looking up names, and counting bytes.
//!
//! Decides nothing about addresses: `grant` did.

use std::io::{Error, IoSlice};
use std::net::{IpAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;

/// Look-ups of the whole process at once. Each has a thread until the name server answers, which cannot be
/// interrupted.
const LOOKUPS_MAX: usize = 32;
/// Addresses of one name that are looked at.
const ADDRESSES_MAX: usize = 16;

static LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS_MAX);

/// Asks the system for the addresses of a name.
pub(super) async fn look_up(name: String) -> Result<Vec<IpAddr>, Error> {
    let turn = LOOKUPS.acquire().await.expect("the semaphore is never closed");
    let looked_up = tokio::task::spawn_blocking(move || {
        let addresses = (name.as_str(), 0).to_socket_addrs();
        drop(turn);
        addresses.map(|addresses| addresses.map(|address| address.ip().to_canonical()).take(ADDRESSES_MAX).collect())
    });
    looked_up.await.map_err(Error::other)?
}

/// Bytes that an attempt sent and received over the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
}

/// Counts them, whoever sends.
#[derive(Debug, Default)]
pub(crate) struct TrafficMeter {
    sent: AtomicU64,
    received: AtomicU64,
}

impl TrafficMeter {
    pub(super) fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What it was so far.
    pub(crate) fn read(&self) -> Traffic {
        let read = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
        Traffic { sent_bytes: read(&self.sent), received_bytes: read(&self.received) }
    }
}

/// A connection whose bytes are counted.
pub(super) struct Metered<S> {
    pub(super) inner: S,
    pub(super) meter: Arc<TrafficMeter>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<(), Error>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        self.meter.count_received(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.meter.count_sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, slices))?;
        self.meter.count_sent(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
