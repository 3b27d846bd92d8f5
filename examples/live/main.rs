//! A live server on one `fanfare` hub: a page, server-sent events, publishing over HTTP, and one topic that is always
//! alive because the machine itself speaks on it.
//!
//! ```text
//! cargo run --release --example live
//! ```
//!
//! ```text
//! POST /publish/{topic} ─┐                       ┌─► GET /events/{topic}   one SSE stream for each subscriber,
//! machine.rs, twice/s ───┴─► app.rs: the hub ────┴─►                       resumed by Last-Event-ID
//!                                 └──────────────────► GET /stats          counts, rates, memory
//! ```
//!
//! Read [`app`] for the engine as an application embeds it, [`routes`] for HTTP, [`machine`] for the demo topic.
//! It is a demonstration: whoever reaches the port may publish, so it listens on the loopback address unless told else.

mod app;
mod error;
mod machine;
mod routes;

use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::app::{App, Rates};

/// Longest wait, after the hub is closed, for requests that are still being answered.
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
}

fn main() -> ExitCode {
    let options = Options::parse();
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
    runtime.block_on(serve(&options.listen))
}

async fn serve(listen: &str) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::Bind {
            listen: listen.to_owned(),
            error,
        })?;
    let address = listener.local_addr().map_err(Failure::Serve)?;
    // Before the address is printed: whoever reads it may send a signal at once.
    let stop = stop_signal().map_err(Failure::Signal)?;

    let (rates_in, rates) = watch::channel(Rates::default());
    let app = App::new(rates).map_err(Failure::Hub)?;
    tokio::spawn(machine::speak(app.clone(), rates_in));
    greet(address);

    let (stopping, mut stopped) = watch::channel(false);
    let hub = app.hub().clone();
    let closing = async move {
        stop.await;
        // Ends every SSE body, so that the connections below have nothing left to wait for.
        hub.close();
        stopping.send_replace(true);
    };
    // A frame is one small write: Nagle's algorithm would only hold it back.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let serving = axum::serve(listener, routes::router(app)).with_graceful_shutdown(closing);

    let overdue = async move {
        // An error would mean that the sender is gone, which is as good a reason to stop.
        drop(stopped.wait_for(|stopping| *stopping).await);
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving.into_future() => served.map_err(Failure::Serve),
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
    Signal(io::Error),
    Bind { listen: String, error: io::Error },
    Serve(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => write!(f, "cannot start the runtime: {error}"),
            Self::Hub(error) => write!(f, "cannot build the hub: {error}"),
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
