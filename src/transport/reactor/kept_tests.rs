//! What a subscription keeps, on either engine: it is there as long as the connection, and goes before the end is told.

use std::io::Read as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{CloseReason, Reactor};
use crate::sync::{AtomicUsize, HostArc, Mutex, Ordering};
use crate::{EndReason, Event, Hub};

/// Counts its drop, and may panic in it.
struct Kept {
    drops: HostArc<AtomicUsize>,
    hub: Hub,
    panics: bool,
}

impl Drop for Kept {
    fn drop(&mut self) {
        // AcqRel: it is read on another thread.
        self.drops.fetch_add(1, Ordering::AcqRel);
        assert_eq!(self.hub.subscribers_of("t"), 0, "counted out before");
        assert!(!self.panics, "as asked");
    }
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(30), "{what}");
        std::hint::spin_loop();
    }
}

#[test]
fn what_is_kept_goes_with_the_connection_and_before_its_end_is_told() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let reasons = [
        CloseReason::PeerClosed,
        CloseReason::TopicClosed,
        CloseReason::Ended(EndReason::Requested),
        CloseReason::Shutdown,
    ];
    for (reason, panics) in reasons.into_iter().flat_map(|it| [(it, false), (it, true)]) {
        let hub = Hub::new();
        let drops = HostArc::new(AtomicUsize::new(0));
        let told = HostArc::new(Mutex::new(None));
        let (seen, told_in) = (HostArc::clone(&drops), HostArc::clone(&told));
        let reactor = Reactor::builder()
            .shards(1)
            .on_close(move |closed| {
                // Acquire: what was dropped before this.
                let dropped = seen.load(Ordering::Acquire);
                *told_in.lock().unwrap() = Some((closed.reason, dropped));
            })
            .build()
            .unwrap();
        let (mut client, socket) = pair();
        let mut subscription = hub.subscribe("t").unwrap();
        let handle = subscription.end_handle();
        subscription.keep(Box::new(Kept {
            drops: HostArc::clone(&drops),
            hub: hub.clone(),
            panics,
        }));
        reactor.adopt(socket, "", subscription.into_sse()).unwrap();
        let _ = hub.publish("t", Event::text("event")).unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"data: event\n\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            received.extend(byte);
        }
        // Acquire: as above.
        assert_eq!(drops.load(Ordering::Acquire), 0);
        match reason {
            CloseReason::PeerClosed => client.shutdown(Shutdown::Write).unwrap(),
            CloseReason::TopicClosed => hub.close(),
            CloseReason::Shutdown => reactor.shutdown(),
            _ => assert!(handle.end(EndReason::Requested)),
        }
        eventually("the end", || told.lock().unwrap().is_some());
        assert_eq!(*told.lock().unwrap(), Some((reason, 1)), "{panics}");
        eventually("the count", || reactor.connections() == 0);
        assert_eq!(hub.subscribers(), 0);
    }
}
