//! What a delivery over a socket costs: fanfare's servers beside bare loops and other servers, in one interleaved run.
//!
//! ```text
//! cargo sockets all --json sockets.json
//! cargo sockets single --engines single-floor,fanfare-axum --connections 1000 --bytes 100 --reps 3 --seconds 1
//! cargo sockets backlog --engines axum-framed --perf profiles
//! ```
//!
//! ```text
//!  core 1: this process                                core 0: a child per engine, made anew for each measurement
//!  ┌──────────────────────────────────┐  publish      ┌────────────────────────────┐
//!  │ scenario ── Publisher ───────────┼──────────────▶│ control connection         │
//!  │    ▲                             │               │    │ append / send         │
//!  │    └─────── Client (one epoll) ◀─┼───────────────┤ thousands of SSE streams   │
//!  └──────────────────────────────────┘  events       └────────────────────────────┘
//!        reads /proc/<child>: nanoseconds on the core, memory
//! ```
//!
//! Every repetition measures every engine, in an order that rotates; a ratio is taken within its repetition, and the
//! median of the ratios is printed with the least and the greatest. Each event carries its number, and the client checks
//! order, loss and duplicates of every connection as it reads. The client never sleeps while it waits for events, so no
//! engine pays for waking it.
//!
//! | engine | what it is |
//! |---|---|
//! | `single-floor` | an epoll loop and one `send` per event and socket, nothing else |
//! | `batch-floor` | the same with all waiting events of a socket in one `send` |
//! | `axum-idiomatic` | axum's `Sse<Event>` over `tokio::sync::broadcast` and `BroadcastStream`, with `KeepAlive` |
//! | `axum-framed` | axum, events framed once as `Bytes`, over `tokio::sync::broadcast` |
//! | `fanfare-axum` | fanfare's `Sse` as an axum response |
//! | `fanfare-reactor` | `Reactor::adopt` (feature `reactor`) |
//! | `fanfare-serve` | `fanfare::serve` (feature `serve`) |
//! | `nchan` | nginx with nchan, one worker, where installed |
//!
//! All engines get one core. axum runs on tokio's current-thread runtime, which is the faster one there; `--workers 1`
//! takes the multi-threaded one. Frames have the same bytes everywhere, without ids, except that nchan always adds them.
//!
//! The column "cores of others" tells what other processes used meanwhile. Time on a core is counted per process, but who
//! shares a core shares its caches too: on a machine that is not quiet, times on the clock mean little, and a server that
//! is bound by memory looks dearer than it is.
//!
//! Limits are judged at the default sizes. Without a scenario, or with `--test`, everything runs briefly with few connections:
//! order, loss and duplicates are checked and no figure means anything.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a bench counts and starts threads for itself; src/sync.rs is for what loom checks"
)]

#[cfg(target_os = "linux")]
mod harness;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    harness::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("the socket benchmark reads /proc and uses epoll: Linux only");
}
