//! What a shard needs of a socket, so that tests and benches can put others in its place.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::TcpStream;

use socket2::SockRef;

#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: i32 = libc::MSG_NOSIGNAL;
/// There the option is the socket's.
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: i32 = 0;

pub(crate) trait Socket {
    /// Sends what fits.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing fits now; anything else ends the connection.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Sends what fits of `pieces`, in their order and in one call.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    fn send_pieces(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Takes what has arrived; 0 when the peer has ended.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing has.
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Ends the sending side before the socket is closed; see [`finish`](super::finish).
    fn finish(&mut self) {}
}

impl Socket for TcpStream {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn send_pieces(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        // Not `write_vectored`: that is `writev`, which raises SIGPIPE where a program has not had it ignored.
        SockRef::from(&*self).send_vectored_with_flags(pieces, NO_SIGNAL)
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.read(into)
    }

    fn finish(&mut self) {
        super::finish(self);
    }
}
