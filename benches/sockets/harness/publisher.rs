//! The writing side: tells a server to publish.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::failure::{During as _, Failure};
use super::wire::{self, Command};

#[derive(Debug)]
pub(crate) struct Publisher {
    socket: TcpStream,
    protocol: Protocol,
    out: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The lines of [`Command`].
    Lines,
    /// A request per event; the answers are read and dropped.
    Http,
}

impl Publisher {
    pub(crate) fn connect(address: SocketAddr, protocol: Protocol) -> Result<Self, Failure> {
        let socket = TcpStream::connect(address).during("connecting the publisher")?;
        socket
            .set_nodelay(true)
            .during("connecting the publisher")?;
        Ok(Self {
            socket,
            protocol,
            out: Vec::new(),
        })
    }

    /// One more event for the next [`flush`](Self::flush).
    pub(crate) fn queue(&mut self, topic: u32, number: u64, bytes: usize) {
        match self.protocol {
            Protocol::Lines => Command::Publish {
                topic,
                number,
                bytes,
            }
            .write(&mut self.out),
            Protocol::Http => {
                let payload = wire::payload(number, bytes);
                wire::publish_request(&mut self.out, topic, &payload);
            }
        }
    }

    /// Sends all that was queued in one write.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        if self.protocol == Protocol::Http {
            self.drop_answers()
                .during("reading a publisher's answers")?;
        }
        self.socket
            .write_all(&self.out)
            .during("telling the server to publish")?;
        self.out.clear();
        Ok(())
    }

    pub(crate) fn publish(&mut self, topic: u32, number: u64, bytes: usize) -> Result<(), Failure> {
        self.queue(topic, number, bytes);
        self.flush()
    }

    /// How many connections each shard has; nothing from servers that have no shards.
    pub(crate) fn shards(&mut self) -> Result<Vec<u64>, Failure> {
        Command::Shards.write(&mut self.out);
        self.flush()?;
        let mut line = Vec::new();
        let mut byte = [0];
        while line.last() != Some(&b'\n') {
            self.socket
                .read_exact(&mut byte)
                .during("asking for the shards")?;
            line.extend_from_slice(&byte);
        }
        let line = String::from_utf8_lossy(&line);
        line.split_ascii_whitespace()
            .map(|word| {
                word.parse().map_err(|_| Failure::Protocol {
                    line: line.clone().into_owned(),
                })
            })
            .collect()
    }

    fn drop_answers(&mut self) -> io::Result<()> {
        let mut scratch = [0; 16 * 1024];
        self.socket.set_nonblocking(true)?;
        while matches!(self.socket.read(&mut scratch), Ok(read) if read > 0) {}
        self.socket.set_nonblocking(false)
    }
}
