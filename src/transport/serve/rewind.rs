//! A socket whose first bytes were read already.
//!
//! **Role.** Gives the bytes read before the hand-over first, then the socket's own; writes go straight to the socket.
//!
//! **Invariants.**
//! * R1: no read of the socket before the prefix is used up. A reader that got the whole prefix has to come again, so
//!   nothing waits on the socket with bytes in hand.
//! * R2: from the first attempt to write until a flush completes there is something unflushed, whether or not the attempt
//!   succeeded: who writes and is told to wait has bytes in hand.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sync::{AtomicBool, HostArc, Ordering};

#[derive(Debug)]
pub(super) struct Rewind<T> {
    prefix: Bytes,
    io: T,
    unflushed: Unflushed,
}

/// Whether something was written and not flushed, told to who has given the io away. R2.
#[derive(Debug, Clone, Default)]
pub(super) struct Unflushed(HostArc<AtomicBool>);

impl Unflushed {
    // Relaxed, both: one task writes and asks.
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, unflushed: bool) {
        self.0.store(unflushed, Ordering::Relaxed);
    }
}

impl<T> Rewind<T> {
    pub(super) fn new(prefix: Bytes, io: T) -> Self {
        Self {
            prefix,
            io,
            unflushed: Unflushed::default(),
        }
    }

    pub(super) fn unflushed(&self) -> Unflushed {
        self.unflushed.clone()
    }

    /// What is left of the prefix, and the io.
    pub(super) fn into_parts(self) -> (Bytes, T) {
        (self.prefix, self.io)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewind<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let given = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..given]);
        self.prefix.advance(given);
        if self.prefix.is_empty() {
            // The memory goes now, not when the connection does.
            self.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewind<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unflushed.set(true);
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            self.unflushed.set(false);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unflushed.set(true);
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
