//! Connections that ask, and nothing else.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::common::BOUND;

pub(crate) fn ask(address: SocketAddr, topic: &str) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    write!(socket, "GET /events/{topic} HTTP/1.1\r\nHost: h\r\n\r\n")?;
    Ok(socket)
}

/// Reads up to the first event.
pub(crate) fn first_event(socket: TcpStream) {
    socket.set_read_timeout(Some(BOUND)).unwrap();
    let mut lines = BufReader::new(socket).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("data:")));
}

/// Holds so many connections until it is killed.
pub(crate) fn run(address: SocketAddr, count: usize) {
    let crowd: Vec<_> = (0..count).map(|_| ask(address, "crowd").unwrap()).collect();
    // Ends with its parent, should that forget it.
    drop(io::stdin().read(&mut [0]));
    drop(crowd);
}
