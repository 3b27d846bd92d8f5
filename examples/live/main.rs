//! A live server on one `fanfare` hub: a page, server-sent events, publishing over HTTP, and one topic that is always
//! alive because the machine itself speaks on it.
//!
//! ```text
//! cargo run --release --features serve --example live
//! cargo run --release --features serve --example live -- --reactor
//! ```
//!
//! ```text
//! POST /publish/{topic} ─┐                       ┌─► GET /events/{topic}   one SSE stream for each subscriber,
//! machine.rs, twice/s ───┴─► app.rs: the hub ────┴─►                       resumed by Last-Event-ID
//!                                 └──────────────────► GET /stats          counts, rates, memory
//! ```
//!
//! Read [`app`] for the hub as an application embeds it, [`routes`] for HTTP, [`engine`] for the two ways to serve the
//! same routes, [`machine`] for the demo topic.
//! It is a demonstration: whoever reaches the port may publish, so it listens on the loopback address unless told else.

mod app;
mod engine;
mod error;
mod machine;
mod routes;

use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::app::{App, Rates};
use crate::engine::Engine;

/// Longest wait, after the hub is closed, for requests that are still being answered and events that are on their way.
const DRAIN: Duration = Duration::from_secs(5);

#[derive(Debug, Parser)]
#[command(
    name = "live",
    about = "fanfare: one event in, every live connection out. Page, SSE, publish, stats."
)]
struct Options {
    /// Address to listen on; port 0 lets the system choose, and the choice is printed
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,

    /// Worker threads of the runtime [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    workers: Option<u16>,

    /// Streams run on the reactor: a few threads that own the sockets, and no task for a connection
    #[arg(long)]
    reactor: bool,

    /// Threads of the reactor [default: one for each core]
    #[arg(long, value_name = "N", requires = "reactor", value_parser = clap::value_parser!(u16).range(1..=512))]
    shards: Option<u16>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    // Warnings, such as that connections wait because there are no more descriptors.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(io::stderr)
        .init();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // The failure is also the exit code, so a closed stderr loses nothing that matters.
            drop(writeln!(io::stderr(), "live: {failure}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = options.workers {
        runtime.worker_threads(usize::from(workers));
    }
    let runtime = runtime.enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(serve(options))
}

async fn serve(options: &Options) -> Result<(), Failure> {
    let listen = options.listen.as_str();
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::Bind {
            listen: listen.to_owned(),
            error,
        })?;
    let address = listener.local_addr().map_err(Failure::Serve)?;
    // Before the address is printed: whoever reads it may send a signal at once.
    let stop = stop_signal().map_err(Failure::Signal)?;

    let engine = if options.reactor {
        Engine::reactor(options.shards).map_err(Failure::Reactor)?
    } else {
        Engine::Axum
    };
    let (rates_in, rates) = watch::channel(Rates::default());
    let app = App::new(engine.clone(), rates).map_err(Failure::Hub)?;
    tokio::spawn(machine::speak(app.clone(), rates_in));
    greet(address);

    let (stopping, mut stopped) = watch::channel(false);
    let hub = app.hub().clone();
    let closing = async move {
        stop.await;
        // Ends every stream, so that the connections below have nothing left to wait for.
        hub.close();
        stopping.send_replace(true);
    };
    let serving = engine.serve(listener, routes::router(app), closing);

    let overdue = async move {
        // An error would mean that the sender is gone, which is as good a reason to stop.
        drop(stopped.wait_for(|stopping| *stopping).await);
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => served.map_err(Failure::Serve),
        () = overdue => Ok(()),
    }
}

/// Resolves at the first Ctrl-C or SIGTERM; the handlers are in place when this returns.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Resolves at the first Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// The first line carries the address, alone, so that a script can read it.
fn greet(address: SocketAddr) {
    let greeting = format!(
        "\
fanfare live on http://{address}

Open that in a browser, or watch the demo topic:
  curl -N http://{address}/events/machine

Publish to a topic of your own, from a second terminal:
  curl -N http://{address}/events/hello
  curl -d 'hello, world' http://{address}/publish/hello
  curl -H 'Content-Type: application/json' -d '{{\"n\":1}}' 'http://{address}/publish/hello?event=count'

Resume after an id you have seen, and look at the numbers:
  curl -N -H 'Last-Event-ID: <id>' http://{address}/events/hello
  curl http://{address}/stats

Ctrl-C ends every stream and exits.
"
    );
    // Someone may have closed our stdout; the server is no worse for it.
    drop(io::stdout().write_all(greeting.as_bytes()));
}

/// Why the server did not start, or stopped.
#[derive(Debug)]
enum Failure {
    Runtime(io::Error),
    Hub(fanfare::ConfigError),
    Reactor(fanfare::ReactorError),
    Signal(io::Error),
    Bind { listen: String, error: io::Error },
    Serve(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => write!(f, "cannot start the runtime: {error}"),
            Self::Hub(error) => write!(f, "cannot build the hub: {error}"),
            Self::Reactor(error) => write!(f, "cannot start the reactor: {error}"),
            Self::Signal(error) => write!(f, "cannot listen for signals: {error}"),
            Self::Serve(error) => write!(f, "cannot serve: {error}"),
            Self::Bind { listen, error } if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "{listen} is in use by another program; choose another address, e.g. --listen 127.0.0.1:0 for any free port"
            ),
            Self::Bind { listen, error } => write!(f, "cannot listen on {listen}: {error}"),
        }
    }
}
