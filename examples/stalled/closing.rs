//! Connections of axum's server that can be closed from outside.
//!
//! hyper polls a body only when there is room for more. So a body whose client does not read cannot do anything by
//! itself, and its task waits for the socket until the client's host is given up, which takes minutes or does not happen at
//! all. Here the socket itself fails when it is told to, and hyper lets go of the connection.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A listener whose connections can be closed.
pub(crate) struct Closing(pub(crate) TcpListener);

/// Closes one connection. What a handler gets by `ConnectInfo<Closer>`.
#[derive(Clone)]
pub(crate) struct Closer(Arc<Mutex<Option<oneshot::Sender<()>>>>);

impl Closer {
    pub(crate) fn close(&self) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // If nobody hears it, the connection is gone already.
        if let Some(sender) = sender {
            let _ = sender.send(());
        }
    }
}

/// The socket of a connection.
pub(crate) struct Closable {
    socket: TcpStream,
    told: oneshot::Receiver<()>,
    closer: Closer,
}

impl Listener for Closing {
    type Io = Closable;
    type Addr = <TcpListener as Listener>::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (socket, address) = Listener::accept(&mut self.0).await;
        let (sender, told) = oneshot::channel();
        let closer = Closer(Arc::new(Mutex::new(Some(sender))));
        let socket = Closable {
            socket,
            told,
            closer,
        };
        (socket, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, Closing>> for Closer {
    fn connect_info(stream: IncomingStream<'_, Closing>) -> Self {
        stream.io().closer.clone()
    }
}

impl Closable {
    /// Fails if it was closed. Otherwise the task is woken when it is.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // The sender lives in `closer`, so an answer is an answer.
        match Pin::new(&mut self.told).poll(cx) {
            Poll::Ready(_) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Closable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Closable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
