//! Clients that come back with the id they have, and know what they are to get.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanfare::EventId;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// Before a client comes back.
const RETRY: Duration = Duration::from_millis(50);

/// What one client got, over all its connections.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    events: AtomicU64,
    unknown: AtomicU64,
    wrong: Mutex<Option<String>>,
}

impl Ledger {
    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// How often it was told that nobody knows what it missed.
    pub(crate) fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    pub(crate) fn wrong(&self) -> Option<String> {
        let wrong = self.wrong.lock();
        wrong.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) fn spawn_clients(
    runtime: &Runtime,
    address: SocketAddr,
    count: usize,
) -> Vec<Arc<Ledger>> {
    let spawn = |_| {
        let ledger = Arc::<Ledger>::default();
        runtime.spawn(live(address, Arc::clone(&ledger)));
        ledger
    };
    (0..count).map(spawn).collect()
}

async fn live(address: SocketAddr, ledger: Arc<Ledger>) {
    let mut last = None;
    loop {
        // That a connection ends is what these tests are about.
        drop(connection(address, &mut last, &ledger).await);
        if ledger.wrong().is_some() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// One block of the stream.
#[derive(Debug, Default)]
struct Block {
    name: String,
    data: String,
    id: Option<EventId>,
}

async fn connection(
    address: SocketAddr,
    last: &mut Option<EventId>,
    ledger: &Ledger,
) -> io::Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    let id = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
    let request = format!("GET /events/news HTTP/1.1\r\nHost: h\r\n{id}\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut lines = BufReader::new(socket);
    let mut line = String::new();
    let mut block = Block::default();
    loop {
        line.clear();
        if lines.read_line(&mut line).await? == 0 || !line.ends_with('\n') {
            return Ok(());
        }
        // The head, and what frames chunks, has CRLF; what is in them has LF.
        if line.ends_with("\r\n") {
            continue;
        }
        let text = line.trim_end_matches('\n');
        match text.split_once(": ") {
            Some(("event", name)) => name.clone_into(&mut block.name),
            Some(("data", data)) => data.clone_into(&mut block.data),
            Some(("id", id)) => block.id = id.parse().ok(),
            _ if text.is_empty() => {
                let block = std::mem::take(&mut block);
                if let Err(wrong) = got(&block, last, ledger) {
                    let wrong = format!("{wrong}: {block:?} after {last:?}");
                    let mut first = ledger.wrong.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(wrong);
                    return Ok(());
                }
            }
            _ => {}
        }
    }
}

/// Checks what came next.
fn got(block: &Block, last: &mut Option<EventId>, ledger: &Ledger) -> Result<(), &'static str> {
    let Some(id) = block.id else {
        return if block.data.is_empty() {
            Ok(())
        } else {
            Err("an event without an id")
        };
    };
    let Some(before) = *last else {
        *last = Some(id);
        return Ok(());
    };
    let same_life = id.epoch() == before.epoch();
    if block.data.is_empty() {
        // Where it stands, at the beginning of a stream.
        if id != before {
            return Err("another place than the one it came with");
        }
    } else if block.name == "lag" {
        let missed = block.data.strip_prefix("{\"missed\":");
        match missed.and_then(|missed| missed.strip_suffix('}')) {
            Some("null") if !same_life => {
                ledger.unknown.fetch_add(1, Ordering::Relaxed);
            }
            Some(missed) if same_life => {
                if missed.parse() != Ok(id.offset() - before.offset()) {
                    return Err("a gap of another size");
                }
            }
            _ => return Err("a strange notice"),
        }
    } else {
        if !same_life {
            return Err("a gap without a notice, to another life");
        }
        if id.offset() <= before.offset() {
            return Err("a duplicate");
        }
        if id.offset() != before.offset() + 1 {
            return Err("a gap without a notice");
        }
        if block.data != id.offset().to_string() {
            return Err("another event");
        }
        ledger.events.fetch_add(1, Ordering::Relaxed);
    }
    *last = Some(id);
    Ok(())
}
