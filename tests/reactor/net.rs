//! Both ends of loopback connections, and what a client makes of a stream.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use fanfare::{
    CloseReason, Closed, ConnectionId, Event, EventId, Hub, Reactor, ReactorBuilder, Sse,
};
use socket2::{Domain, SockRef, Socket, Type};

use crate::common::{BOUND, Got, eventually};

/// What each stream begins with unless a test says otherwise.
pub(crate) const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

static TURN: RwLock<()> = RwLock::new(());

/// For a test that may run beside others.
pub(crate) fn beside_others() -> RwLockReadGuard<'static, ()> {
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}

/// For a test that counts what the whole process has.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

/// As many connections as asked for, or what the process may have open: both ends are in it.
pub(crate) fn affordable(connections: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open_files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = open_files.and_then(|line| line.split_ascii_whitespace().nth(3)?.parse().ok());
    let descriptors: usize = soft.unwrap_or(256);
    let most = descriptors.saturating_sub(150) / 2;
    if connections > most {
        println!("only {most} connections instead of {connections}: {descriptors} descriptors");
    }
    connections.min(most)
}

pub(crate) fn publish(hub: &Hub, key: &str, text: &str) {
    let _ = hub.publish(key, Event::text(text)).unwrap();
}

/// Numbers that look random, the same in each run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

// ------------------------------------------------------------------------------------------------ the server's end

pub(crate) struct Loopback {
    listener: TcpListener,
    address: SocketAddr,
}

impl Loopback {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// The client's end and the server's.
    pub(crate) fn pair(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.address).unwrap();
        (client, self.accept())
    }

    /// A client that has room for little, and so little is on the way to it.
    pub(crate) fn small_pair(&self) -> (TcpStream, TcpStream) {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Before it connects: the window follows from it. The default segment is larger than all of it.
        client.set_recv_buffer_size(4 * 1024).unwrap();
        #[cfg(target_os = "linux")]
        client.set_tcp_mss(536).unwrap();
        client.connect(&self.address.into()).unwrap();
        (client.into(), self.accept())
    }

    fn accept(&self) -> TcpStream {
        self.listener.accept().unwrap().0
    }
}

type Bells = HashMap<ConnectionId, (Sender<()>, Receiver<()>)>;

/// A reactor, where its connections come from, and how they ended.
pub(crate) struct Rig {
    pub(crate) reactor: Reactor,
    pub(crate) loopback: Loopback,
    closed: Arc<Mutex<HashMap<ConnectionId, CloseReason>>>,
    bells: Arc<Mutex<Bells>>,
}

/// While it lives, the thread of a shard stands still.
pub(crate) struct Held {
    _release: Sender<()>,
}

impl Rig {
    pub(crate) fn new(shards: usize) -> Self {
        Self::with(Reactor::builder().shards(shards))
    }

    /// Sets `on_close`.
    pub(crate) fn with(builder: ReactorBuilder) -> Self {
        let closed = Arc::new(Mutex::new(HashMap::new()));
        let bells = Arc::new(Mutex::new(Bells::new()));
        let (note, rung) = (Arc::clone(&closed), Arc::clone(&bells));
        let on_close = move |gone: &Closed| {
            let twice = note.lock().unwrap().insert(gone.connection, gone.reason);
            assert_eq!(twice, None, "told once");
            let bell = rung.lock().unwrap().remove(&gone.connection);
            if let Some((entered, released)) = bell {
                entered.send(()).unwrap();
                // Ends when the other side is dropped.
                let _ = released.recv();
            }
        };
        Self {
            reactor: builder.on_close(on_close).build().unwrap(),
            loopback: Loopback::new(),
            closed,
            bells,
        }
    }

    pub(crate) fn connect(&self, sse: Sse) -> Client {
        self.adopt(self.loopback.pair(), HEAD, sse)
    }

    /// As [`connect`](Self::connect), with little room at the client.
    pub(crate) fn connect_small(&self, sse: Sse) -> Client {
        self.adopt(self.loopback.small_pair(), HEAD, sse)
    }

    pub(crate) fn adopt(
        &self,
        (client, server): (TcpStream, TcpStream),
        first: &str,
        sse: Sse,
    ) -> Client {
        let id = self.reactor.adopt(server, first.to_owned(), sse).unwrap();
        Client::new(client, id)
    }

    /// Has the thread of the only shard stand still in a callback.
    pub(crate) fn hold(&self) -> Held {
        let hub = Hub::new();
        let bell = self.connect(hub.subscribe("bell").unwrap().into_sse());
        let (entered, has_entered) = channel();
        let (release, released) = channel();
        let ring = (entered, released);
        self.bells.lock().unwrap().insert(bell.id(), ring);
        drop(bell);
        has_entered.recv_timeout(BOUND).unwrap();
        Held { _release: release }
    }

    /// Why a connection has ended, if it has.
    pub(crate) fn reason(&self, id: ConnectionId) -> Option<CloseReason> {
        self.closed.lock().unwrap().get(&id).copied()
    }

    /// Waits for the end of a connection.
    #[track_caller]
    pub(crate) fn ended(&self, id: ConnectionId) -> CloseReason {
        eventually("a connection to end", || self.reason(id).is_some());
        self.reason(id).unwrap()
    }

    /// Waits until nothing is left.
    #[track_caller]
    pub(crate) fn emptied(&self, hub: &Hub) {
        eventually("all connections to be gone", || {
            self.reactor.connections() == 0 && hub.subscribers() == 0
        });
    }
}

// ------------------------------------------------------------------------------------------------ the client's end

/// How a stream ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    InOrder,
    Reset,
}

pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    id: Option<ConnectionId>,
    /// What came in and was not taken.
    pub(crate) received: Vec<u8>,
    pub(crate) ended: Option<Ended>,
}

/// One block of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Block {
    pub(crate) id: Option<EventId>,
    pub(crate) name: String,
    pub(crate) data: Option<String>,
}

impl Block {
    fn parse(text: &str) -> Self {
        let mut block = Self::default();
        for line in text.lines() {
            if let Some(id) = line.strip_prefix("id: ") {
                block.id = Some(id.parse().unwrap());
            } else if let Some(name) = line.strip_prefix("event: ") {
                name.clone_into(&mut block.name);
            } else if let Some(more) = line.strip_prefix("data: ") {
                let data = block.data.get_or_insert_default();
                if !data.is_empty() {
                    data.push('\n');
                }
                data.push_str(more);
            }
        }
        block
    }

    /// What was missed, if that is what it tells.
    pub(crate) fn lag(&self) -> Option<Got> {
        let data = self.data.as_deref().filter(|_| self.name == "lag")?;
        let number = data.strip_prefix("{\"missed\":")?.strip_suffix('}')?;
        Some(Got::Lag(number.parse().ok()))
    }
}

impl Client {
    pub(crate) fn new(socket: TcpStream, id: ConnectionId) -> Self {
        Self {
            id: Some(id),
            ..Self::unnumbered(socket)
        }
    }

    /// One that was not adopted, or whose number nobody asks for.
    pub(crate) fn unnumbered(socket: TcpStream) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            id: None,
            received: Vec::new(),
            ended: None,
        }
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id.unwrap()
    }

    /// Reads once, at most so many bytes and 16 KiB, without waiting. Tells how many came.
    pub(crate) fn read(&mut self, most: usize) -> usize {
        if self.ended.is_some() {
            return 0;
        }
        let mut scratch = [0; 16 * 1024];
        let most = most.min(scratch.len());
        let read = loop {
            match self.socket.read(&mut scratch[..most]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(0) => self.ended = Some(Ended::InOrder),
            Ok(count) => {
                self.received.extend_from_slice(&scratch[..count]);
                return count;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                self.ended = Some(Ended::Reset);
            }
            Err(error) => panic!("{error}"),
        }
        0
    }

    /// Reads what is there.
    pub(crate) fn read_all(&mut self) {
        while self.read(usize::MAX) > 0 {}
    }

    /// Takes the blocks that are complete; what comes before the first one is part of it.
    pub(crate) fn take(&mut self) -> Vec<Block> {
        let Some(end) = self.received.windows(2).rposition(|at| at == b"\n\n") else {
            return Vec::new();
        };
        let rest = self.received.split_off(end + 2);
        let complete = std::mem::replace(&mut self.received, rest);
        let text = String::from_utf8(complete).unwrap();
        text.split_terminator("\n\n").map(Block::parse).collect()
    }

    /// Reads until the end of the stream.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> Ended {
        eventually("the end of a stream", || {
            self.read_all();
            self.ended.is_some()
        });
        self.ended.unwrap()
    }

    /// Reads until so many bytes came in that were not taken.
    #[track_caller]
    pub(crate) fn read_until(&mut self, bytes: usize) {
        eventually("bytes", || {
            self.read_all();
            self.received.len() >= bytes
        });
    }

    /// Reads until `text` is the last that came in.
    #[track_caller]
    pub(crate) fn read_until_text(&mut self, text: &str) {
        eventually("a text", || {
            self.read_all();
            self.received.ends_with(text.as_bytes())
        });
    }

    /// What the complete blocks tell that carry data; the end too, once the stream is read to it.
    pub(crate) fn got(&mut self) -> Vec<Got> {
        let blocks = self.take();
        let mut got: Vec<Got> = blocks
            .into_iter()
            .filter_map(|block| block.lag().or_else(|| block.data.map(Got::Event)))
            .collect();
        got.extend(self.ended.map(|_| Got::End));
        got
    }

    /// Goes away at once and lets the other side know.
    pub(crate) fn reset(self) {
        SockRef::from(&self.socket)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

/// A client that checks what it gets: no gap that is not told, no duplicate, each publisher's numbers in order.
pub(crate) struct Follower {
    pub(crate) client: Client,
    epoch: u64,
    /// The offset of the last event or missed one.
    pub(crate) at: u64,
    pub(crate) events: u64,
    pub(crate) missed: u64,
    pub(crate) notices: u64,
    last: HashMap<String, u64>,
}

impl Follower {
    /// One whose subscription stood at `position`.
    pub(crate) fn new(client: Client, position: EventId) -> Self {
        Self {
            client,
            epoch: position.epoch(),
            at: position.offset(),
            events: 0,
            missed: 0,
            notices: 0,
            last: HashMap::new(),
        }
    }

    pub(crate) fn follow(rig: &Rig, hub: &Hub, key: &str) -> Self {
        let subscription = hub.subscribe(key).unwrap();
        let position = subscription.position();
        Self::new(rig.connect(subscription.into_sse()), position)
    }

    /// The id after which its next event comes.
    pub(crate) fn position(&self) -> EventId {
        EventId::new(self.epoch, self.at)
    }

    /// Reads what is there and checks it.
    pub(crate) fn read_all(&mut self) {
        self.client.read_all();
        self.check();
    }

    /// Checks what was read. An event's text is a publisher, a number, and anything.
    pub(crate) fn check(&mut self) {
        for block in self.client.take() {
            let Some(data) = &block.data else { continue };
            let id = block.id.unwrap();
            assert_eq!(id.epoch(), self.epoch, "an event of another topic");
            if let Some(notice) = block.lag() {
                let Got::Lag(Some(missed)) = notice else {
                    panic!("a notice without a number");
                };
                self.at += missed;
                self.missed += missed;
                self.notices += 1;
                assert_eq!(id.offset(), self.at, "a notice that fits");
                continue;
            }
            assert_eq!(id.offset(), self.at + 1, "no gap, no duplicate");
            self.at += 1;
            self.events += 1;
            let mut words = data.split(' ');
            let publisher = words.next().unwrap().to_owned();
            let number: u64 = words.next().unwrap().parse().unwrap();
            if let Some(last) = self.last.insert(publisher, number) {
                assert!(number > last, "order of a publisher");
                assert!(self.missed > 0 || number == last + 1, "all of a publisher");
            }
        }
    }

    /// Reads until it has got, or was told that it missed, all up to `offset`.
    #[track_caller]
    pub(crate) fn reach(&mut self, offset: u64) {
        eventually("a client to get everything", || {
            self.read_all();
            let ended = self.client.ended.filter(|_| self.at < offset);
            assert!(ended.is_none(), "{ended:?} at {} of {offset}", self.at);
            self.at >= offset
        });
        assert_eq!(self.at, offset);
    }
}
