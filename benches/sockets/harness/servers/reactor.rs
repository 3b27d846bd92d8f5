//! `Reactor::adopt`: accept, read the head, hand the socket over.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use fanfare::{Hub, Reactor};

use super::control::{self, Publish};
use super::{Listeners, Setup};
use crate::harness::failure::{During as _, Failure};
use crate::harness::http::{self, Route};
use crate::harness::options::Engine;
use crate::harness::wire;

#[derive(Debug)]
struct Engines {
    hub: Hub,
    reactor: Reactor,
}

impl Publish for Engines {
    fn publish(&self, topic: u32, payload: &str) {
        Publish::publish(&self.hub, topic, payload);
    }

    fn shards(&self) -> Vec<usize> {
        self.reactor.connections_per_shard()
    }
}

/// Built on a thread that is pinned: what it starts stays on the same core.
pub(super) fn reactor(setup: &Setup, engine: Engine) -> Result<Reactor, Failure> {
    Reactor::builder()
        .shards(setup.shards)
        .build()
        .map_err(|error| Failure::Start {
            engine,
            why: error.to_string(),
        })
}

pub(super) fn run(listeners: Listeners, setup: &Setup) -> Result<(), Failure> {
    let hub = super::fanfare::hub();
    let reactor = reactor(setup, Engine::FanfareReactor)?;
    listeners.announce()?;
    let Listeners { streams, control } = listeners;
    let engines = Engines {
        hub: hub.clone(),
        reactor: reactor.clone(),
    };
    thread::spawn(move || accept(&streams, &hub, &reactor));
    control::on_thread(&control, &engines)
}

/// One connection after the other; the client sends its request with the handshake.
fn accept(listener: &TcpListener, hub: &Hub, reactor: &Reactor) {
    let mut buffer = vec![0; 16 * 1024];
    for socket in listener.incoming() {
        let adopted = socket
            .during("accepting")
            .and_then(|socket| adopt(socket, &mut buffer, hub, reactor));
        if let Err(failure) = adopted {
            eprintln!("fanfare-reactor: {failure}");
        }
    }
}

fn adopt(
    mut socket: TcpStream,
    buffer: &mut [u8],
    hub: &Hub,
    reactor: &Reactor,
) -> Result<(), Failure> {
    let mut len = 0;
    loop {
        let read = socket.read(&mut buffer[len..]).during("reading a head")?;
        len += read;
        if let Some(message) = http::message(&buffer[..len]) {
            return match Route::parse(message.start) {
                Some(Route::Stream(topic)) => hand_over(socket, topic, hub, reactor),
                _ => socket
                    .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                    .during("answering"),
            };
        }
        if read == 0 || len == buffer.len() {
            return Ok(());
        }
    }
}

fn hand_over(socket: TcpStream, topic: u32, hub: &Hub, reactor: &Reactor) -> Result<(), Failure> {
    let refused = |why: String| Failure::Start {
        engine: Engine::FanfareReactor,
        why,
    };
    let subscription = hub
        .subscribe(topic.to_string().as_str())
        .map_err(|error| refused(error.to_string()))?;
    match reactor.adopt(socket, wire::HEAD, subscription.into_sse()) {
        Ok(_) => Ok(()),
        Err(error) => Err(refused(error.to_string())),
    }
}
