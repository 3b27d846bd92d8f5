//! The floors: what one core cannot do with less, when every event is sent to every socket.
//!
//! An epoll loop; per topic a `Vec` of sockets. A socket that does not take all that it is sent is closed: a floor keeps
//! nothing for those who are behind.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};

use memchr::memchr_iter;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::{SocketFlags, accept_with};

use super::Listeners;
use crate::harness::failure::{During as _, Failure};
use crate::harness::http::{self, Route};
use crate::harness::wire::{self, Command};

/// When the sockets of a topic are walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    /// For each event.
    EachEvent,
    /// For all that was published up to the end of a turn.
    AllThatWait,
}

/// What stands behind a descriptor.
#[derive(Debug, Default)]
enum Role {
    #[default]
    None,
    Listener,
    ControlListener,
    Control(TcpStream),
    /// Asks for something; the bytes of a request that is not complete.
    Asking(TcpStream, Vec<u8>),
    /// One of the sockets of the topic.
    Stream(usize),
}

#[derive(Debug, Default)]
struct Topic {
    sockets: Vec<TcpStream>,
    /// Frames that were published and not sent.
    waiting: Vec<u8>,
}

struct Floor {
    walk: Walk,
    epoll: OwnedFd,
    listeners: Listeners,
    /// By descriptor.
    roles: Vec<Role>,
    topics: Vec<Topic>,
    /// Topics with frames that wait.
    dirty: Vec<usize>,
    scratch: Vec<u8>,
    /// Bytes of a command whose line has not ended.
    rest: Vec<u8>,
}

pub(super) fn run(listeners: Listeners, walk: Walk) -> Result<(), Failure> {
    listeners
        .streams
        .set_nonblocking(true)
        .during("making a listener")?;
    let mut floor = Floor {
        walk,
        epoll: epoll::create(CreateFlags::CLOEXEC).during("making an epoll")?,
        roles: Vec::new(),
        topics: Vec::new(),
        dirty: Vec::new(),
        scratch: vec![0; 64 * 1024],
        rest: Vec::new(),
        listeners,
    };
    let streams = floor.listeners.streams.as_raw_fd();
    let control = floor.listeners.control.as_raw_fd();
    floor.watch(&floor.listeners.streams)?;
    floor.watch(&floor.listeners.control)?;
    *floor.role(streams) = Role::Listener;
    *floor.role(control) = Role::ControlListener;
    floor.listeners.announce()?;
    let mut events: Vec<Event> = Vec::with_capacity(1024);
    loop {
        events.clear();
        match epoll::wait(&floor.epoll, spare_capacity(&mut events), None) {
            Err(rustix::io::Errno::INTR) => continue,
            waited => waited.during("waiting for events")?,
        };
        for event in &events {
            let fd = RawFd::try_from(event.data.u64()).unwrap_or(-1);
            if !floor.turn(fd)? {
                return Ok(());
            }
        }
        while let Some(topic) = floor.dirty.pop() {
            let topic = &mut floor.topics[topic];
            send_to_all(&mut topic.sockets, &topic.waiting);
            topic.waiting.clear();
        }
    }
}

/// One `send` per socket.
fn send_to_all(sockets: &mut Vec<TcpStream>, bytes: &[u8]) {
    sockets.retain(|mut socket| matches!(socket.write(bytes), Ok(sent) if sent == bytes.len()));
}

impl Floor {
    fn watch(&self, socket: impl AsFd) -> Result<(), Failure> {
        let fd = u64::try_from(socket.as_fd().as_raw_fd()).unwrap_or_default();
        let level = if fd == u64::try_from(self.listeners.control.as_raw_fd()).unwrap_or_default() {
            EventFlags::IN
        } else {
            EventFlags::IN | EventFlags::RDHUP | EventFlags::ET
        };
        epoll::add(&self.epoll, socket, EventData::new_u64(fd), level).during("watching a socket")
    }

    fn role(&mut self, fd: RawFd) -> &mut Role {
        let index = usize::try_from(fd).unwrap_or_default();
        if index >= self.roles.len() {
            self.roles.resize_with(index + 1, Role::default);
        }
        &mut self.roles[index]
    }

    fn topic(&mut self, topic: u32) -> usize {
        let index = topic as usize;
        if index >= self.topics.len() {
            self.topics.resize_with(index + 1, Topic::default);
        }
        index
    }

    /// Serves what is ready; false when the control connection ended.
    fn turn(&mut self, fd: RawFd) -> Result<bool, Failure> {
        match std::mem::take(self.role(fd)) {
            Role::None => {}
            Role::Listener => {
                *self.role(fd) = Role::Listener;
                self.accept()?;
            }
            Role::ControlListener => {
                let (control, _) = self.listeners.control.accept().during("accepting")?;
                control.set_nonblocking(true).during("accepting")?;
                self.watch(&control)?;
                let fd = control.as_raw_fd();
                *self.role(fd) = Role::Control(control);
            }
            Role::Control(control) => {
                let open = self.obey(&control)?;
                *self.role(fd) = Role::Control(control);
                return Ok(open);
            }
            Role::Asking(socket, partial) => self.answer(socket, partial)?,
            Role::Stream(topic) => {
                if self.is_open(fd, topic) {
                    *self.role(fd) = Role::Stream(topic);
                }
            }
        }
        Ok(true)
    }

    fn accept(&mut self) -> Result<(), Failure> {
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match accept_with(&self.listeners.streams, flags) {
                Ok(socket) => {
                    let socket = TcpStream::from(socket);
                    self.watch(&socket)?;
                    // The request comes with the handshake as a rule.
                    self.answer(socket, Vec::new())?;
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).during("accepting"),
            }
        }
    }

    /// Answers the requests that are complete; the socket goes to its topic, stays, or is closed.
    fn answer(&mut self, mut socket: TcpStream, mut partial: Vec<u8>) -> Result<(), Failure> {
        let fd = socket.as_raw_fd();
        let mut answers = Vec::new();
        loop {
            match socket.read(&mut self.scratch) {
                Ok(0) => return Ok(()),
                Ok(len) => partial.extend_from_slice(&self.scratch[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Ok(()),
            }
            let mut used = 0;
            while let Some(message) = http::message(&partial[used..]) {
                match Route::parse(message.start) {
                    Some(Route::Stream(topic)) => {
                        let index = self.topic(topic);
                        if matches!(socket.write(wire::HEAD), Ok(sent) if sent == wire::HEAD.len())
                        {
                            self.topics[index].sockets.push(socket);
                            *self.role(fd) = Role::Stream(index);
                        }
                        return Ok(());
                    }
                    Some(Route::Publish(topic)) => {
                        let payload = std::str::from_utf8(message.body).unwrap_or_default();
                        self.publish(topic, payload);
                        answers.extend_from_slice(b"HTTP/1.1 204 No Content\r\n\r\n");
                    }
                    None => return Ok(()),
                }
                used += message.len;
            }
            partial.drain(..used);
            if !answers.is_empty() {
                socket.write_all(&answers).during("answering")?;
                answers.clear();
            }
        }
        *self.role(fd) = Role::Asking(socket, partial);
        Ok(())
    }

    fn publish(&mut self, topic: u32, payload: &str) {
        let index = self.topic(topic);
        let topic = &mut self.topics[index];
        if topic.waiting.is_empty() && self.walk == Walk::AllThatWait {
            self.dirty.push(index);
        }
        wire::frame(&mut topic.waiting, payload);
        if self.walk == Walk::EachEvent {
            send_to_all(&mut topic.sockets, &topic.waiting);
            topic.waiting.clear();
        }
    }

    /// Obeys all commands that wait; false at the end of the connection.
    fn obey(&mut self, mut control: &TcpStream) -> Result<bool, Failure> {
        loop {
            match control.read(&mut self.scratch) {
                Ok(0) => return Ok(false),
                Ok(len) => self.rest.extend_from_slice(&self.scratch[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error).during("reading a command"),
            }
            let lines = std::mem::take(&mut self.rest);
            let mut used = 0;
            for end in memchr_iter(b'\n', &lines) {
                match Command::parse(&lines[used..end]) {
                    Some(Command::Publish {
                        topic,
                        number,
                        bytes,
                    }) => self.publish(topic, &wire::payload(number, bytes)),
                    Some(Command::Shards) => control.write_all(b"\n").during("answering")?,
                    None => {
                        return Err(Failure::Protocol {
                            line: String::from_utf8_lossy(&lines[used..end]).into_owned(),
                        });
                    }
                }
                used = end + 1;
            }
            self.rest.extend_from_slice(&lines[used..]);
        }
    }

    /// Reads what a subscriber sends and drops it; closes it if it is gone.
    fn is_open(&mut self, fd: RawFd, topic: usize) -> bool {
        let sockets = &mut self.topics[topic].sockets;
        let Some(at) = sockets.iter().position(|socket| socket.as_raw_fd() == fd) else {
            return false;
        };
        loop {
            match sockets[at].read(&mut self.scratch) {
                Ok(len) if len > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                _ => {
                    sockets.swap_remove(at);
                    return false;
                }
            }
        }
    }
}
