//! The servers. Each prints the address of its streams and of its control connection as its first line, and ends when the
//! control connection does.

mod axum;
mod control;
mod fanfare;
mod floor;
#[cfg(feature = "reactor")]
mod reactor;
#[cfg(feature = "serve")]
mod serve;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, SockRef, Socket, Type};

use super::failure::{During as _, Failure};
use super::options::{Congestion, Engine};
use super::proc;

/// The queue of every listener: more than connect at once.
const LISTEN_QUEUE: i32 = 4096;

/// How a server is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) core: usize,
    /// Worker threads of a runtime; 0 is the current-thread runtime.
    pub(crate) workers: usize,
    pub(crate) shards: usize,
    /// Events that a broadcast channel keeps.
    pub(crate) capacity: usize,
    pub(crate) congestion: Congestion,
}

/// Where a server is reached.
#[derive(Debug)]
struct Listeners {
    streams: TcpListener,
    control: TcpListener,
}

pub(crate) fn run(engine: Engine, setup: &Setup) -> Result<(), Failure> {
    proc::pin(setup.core)?;
    let listeners = Listeners {
        streams: listen(setup)?,
        control: listen(setup)?,
    };
    match engine {
        Engine::SingleFloor => floor::run(listeners, floor::Walk::EachEvent),
        Engine::BatchFloor => floor::run(listeners, floor::Walk::AllThatWait),
        Engine::AxumIdiomatic => axum::idiomatic(listeners, setup),
        Engine::AxumFramed => axum::framed(listeners, setup),
        Engine::FanfareAxum => fanfare::run(listeners, setup),
        #[cfg(feature = "reactor")]
        Engine::FanfareReactor => reactor::run(listeners, setup),
        #[cfg(not(feature = "reactor"))]
        Engine::FanfareReactor => Err(Failure::NotBuilt {
            engine,
            feature: "reactor",
        }),
        #[cfg(feature = "serve")]
        Engine::FanfareServe => serve::run(listeners, setup),
        #[cfg(not(feature = "serve"))]
        Engine::FanfareServe => Err(Failure::NotBuilt {
            engine,
            feature: "serve",
        }),
        Engine::Nchan => Err(Failure::Start {
            engine,
            why: "nginx is its own program".to_owned(),
        }),
    }
}

/// A listener on a free port, the same for every engine. What it accepts inherits the options.
fn listen(setup: &Setup) -> Result<TcpListener, Failure> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).during("making a listener")?;
    socket.set_tcp_nodelay(true).during("making a listener")?;
    setup.congestion.set(&SockRef::from(&socket))?;
    socket
        .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .during("binding a listener")?;
    socket.listen(LISTEN_QUEUE).during("listening")?;
    Ok(socket.into())
}

impl Listeners {
    /// Says where they are, and that the server is ready.
    fn announce(&self) -> Result<(), Failure> {
        let streams = self.streams.local_addr().during("reading an address")?;
        let control = self.control.local_addr().during("reading an address")?;
        println!("{streams} {control}");
        std::io::stdout().flush().during("printing an address")
    }
}
