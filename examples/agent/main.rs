//! An agent's server: AG-UI and A2A on one engine, and every tab of a user sees it all.
//!
//! ```text
//! cargo run --release --features protocols --example agent
//! ```
//!
//! ```text
//! POST /agent ──► run.rs ──┬─► the run's topic ─────► the response of whoever posts or attaches, from RUN_STARTED on
//!  (AG-UI 1.0)             └─► AgentRouter ─┬───────► GET /users/{user}/ag-ui      bare
//!                                           ├───────► GET /users/{user}/context    wrapped with the protocol's name
//! POST /a2a ────► task.rs ─┬─► AgentRouter ─┴───────► GET /users/{user}/a2a
//!  (v1.0, v0.3)            └─► the task's topics ───► the response, in the request's JSON-RPC envelope
//! POST /users/{user}/views ──► AgentRouter ─────────► GET /users/{user}/analytics
//! ```
//!
//! Read [`script`] for what the agent says, [`run`] and [`task`] for how it is published, [`ag_ui`], [`a2a`] and
//! [`streams`] for HTTP, [`app`] for what they share.
//! It is a demonstration: whoever reaches the port may be any user, so it listens on the loopback address unless told else.

mod a2a;
mod ag_ui;
mod app;
mod card;
mod contexts;
mod error;
mod json_rpc;
mod limits;
mod page;
mod request;
mod run;
mod script;
mod store;
mod streams;
mod task;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::app::App;
use crate::error::ApiError;

/// Longest wait, after all streams are closed, for requests that are still being answered and events that are on their way.
const DRAIN: Duration = Duration::from_secs(5);

const ROUTES: &str = "GET /, POST /agent, POST /a2a, GET /.well-known/agent-card.json, \
    GET /users/{user}/{ag-ui|a2a|context|analytics|all}, POST /users/{user}/views";

#[derive(Debug, Parser)]
#[command(
    name = "agent",
    about = "fanfare: an agent in AG-UI 1.0 and A2A, and every tab of a user sees it all."
)]
struct Options {
    /// Address to listen on; port 0 lets the system choose, and the choice is printed
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,

    /// Worker threads of the runtime [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    workers: Option<u16>,

    /// Milliseconds between two events of the agent; a request may ask for another pace
    #[arg(long, value_name = "MS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=limits::MAX_PACE_MS))]
    pace: u64,

    /// Milliseconds without anybody who listens after which a run is given up
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(..=60_000))]
    grace: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    // What the agent does, such as that it stops because nobody listens.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(io::stderr)
        .init();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // The failure is also the exit code, so a closed stderr loses nothing that matters.
            drop(writeln!(io::stderr(), "agent: {failure}"));
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
    let pace = Duration::from_millis(options.pace);
    let app = App::new(pace, Duration::from_millis(options.grace)).map_err(Failure::Hub)?;
    greet(address);

    let (stopping, mut stopped) = watch::channel(false);
    let closing = {
        let app = app.clone();
        async move {
            stop.await;
            // Ends every stream, so that the connections below have nothing left to wait for.
            app.close();
            stopping.send_replace(true);
        }
    };
    // A frame is one small write: Nagle's algorithm would only hold it back.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let serving = axum::serve(listener, router(app)).with_graceful_shutdown(closing);

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

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/agent", post(ag_ui::run))
        .route("/a2a", post(a2a::answer))
        .route("/.well-known/agent-card.json", get(card::card))
        .route("/users/{user}/ag-ui", get(streams::ag_ui))
        .route("/users/{user}/a2a", get(streams::a2a))
        .route("/users/{user}/context", get(streams::context))
        .route("/users/{user}/analytics", get(streams::analytics))
        .route("/users/{user}/all", get(streams::all))
        .route("/users/{user}/views", post(streams::view))
        .fallback(async || ApiError::not_found(format!("there are {ROUTES}")))
        .method_not_allowed_fallback(async || ApiError::wrong_method(format!("there are {ROUTES}")))
        .with_state(app)
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
fanfare agent on http://{address}

Open that in two tabs of a browser, or watch a user's streams:
  curl -N http://{address}/users/demo/context
  curl -N http://{address}/users/demo/ag-ui

Run the agent over AG-UI, and over A2A:
  curl -N -H 'Content-Type: application/json' http://{address}/agent -d \\
    '{{\"threadId\":\"t1\",\"runId\":\"r1\",\"messages\":[{{\"id\":\"m1\",\"role\":\"user\",\"content\":\"hello\"}}]}}'
  curl -N -H 'Content-Type: application/json' http://{address}/a2a -d \\
    '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"SendStreamingMessage\",\"params\":{{\"message\":{{\"messageId\":\"m1\",\"role\":\"ROLE_USER\",\"parts\":[{{\"text\":\"hello\"}}]}}}}}}'

Ctrl-C ends every stream and exits.
"
    );
    // Someone may have closed our stdout; the server is no worse for it.
    drop(io::stdout().write_all(greeting.as_bytes()));
}

/// Why the server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error("cannot build the hub: {0}")]
    Hub(fanfare::ConfigError),
    #[error("cannot listen for signals: {0}")]
    Signal(io::Error),
    #[error("cannot listen on {listen}: {error}")]
    Bind { listen: String, error: io::Error },
    #[error("cannot serve: {0}")]
    Serve(io::Error),
}
