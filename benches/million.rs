//! What do a million connections cost a shard of the reactor, without the kernel? Sockets are simulated: they take
//! everything at once. Bytes are counted by the allocator; a walk is a publish until every socket was given it.
//!
//! ```text
//! cargo bench --bench million --features _simulate
//! ```

#[path = "../tests/common/alloc.rs"]
#[expect(dead_code, reason = "a bench uses a part of it")]
mod alloc;

use std::env;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use fanfare::{Event, Hub, SimulatedShard};

#[global_allocator]
static COUNTING: alloc::Counting = alloc::Counting;

const WALKS: usize = 25;

/// 100 bytes of text.
const PAYLOAD: &str = "a text of one hundred characters, so that the frame with its id and its fields is about 150 bytes!!!";

/// Turns until nothing is left to do: the sum of their times, and the longest.
fn settle(shard: &mut SimulatedShard) -> (Duration, Duration) {
    let (mut sum, mut longest) = (Duration::ZERO, Duration::ZERO);
    loop {
        let begin = Instant::now();
        let busy = shard.turn();
        let turn = begin.elapsed();
        sum += turn;
        longest = longest.max(turn);
        if !busy {
            return (sum, longest);
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    // `cargo bench` gives the first; `cargo bench -- --test` and `cargo test` do not want figures.
    let full = env::args().any(|arg| arg == "--bench") && !env::args().any(|arg| arg == "--test");
    let (connections, walks) = if full { (1_000_000, WALKS) } else { (2_000, 3) };

    let heartbeat = Duration::from_millis(600);
    let hub = Hub::builder()
        .heartbeat(heartbeat)
        .build()
        .expect("the limits are possible");
    let mut shard = SimulatedShard::default();
    let before = alloc::live_bytes();
    let begin = Instant::now();
    for _ in 0..connections {
        let subscription = hub.subscribe("topic").expect("the hub is open");
        shard.join(subscription.into_sse());
    }
    let joined = begin.elapsed();
    settle(&mut shard);
    let bytes = alloc::live_bytes() - before;

    let mut publishes = Vec::new();
    for _ in 0..walks {
        let sent = hub.publish("topic", Event::text(PAYLOAD));
        assert_eq!(sent.expect("the hub is open").subscribers(), connections);
        publishes.push(settle(&mut shard).0);
    }

    // The topic falls silent: the next walks are heartbeats. One turn is what other topics wait for.
    let (mut beats, mut ticks) = (Vec::new(), Vec::new());
    while beats.len() < walks.min(5) {
        let (sum, longest) = settle(&mut shard);
        if sum > Duration::from_micros(connections as u64 / 1000) {
            beats.push(sum);
            ticks.push(longest);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the hub's clock is another thread"
        )]
        std::thread::yield_now();
    }

    #[expect(clippy::cast_precision_loss, reason = "figures to print")]
    let report = format!(
        "\
{connections} connections on one topic of one shard
  memory of each                {:>10.1} bytes
  join of each                  {:>10.0} ns
  a publish, until all have it  {:>10.2} ms, median of {walks}
  a heartbeat, until all have it{:>10.2} ms, median of {}
  the longest turn of it        {:>10.3} ms
",
        bytes as f64 / connections as f64,
        joined.as_nanos() as f64 / connections as f64,
        median(publishes).as_secs_f64() * 1e3,
        median(beats.clone()).as_secs_f64() * 1e3,
        beats.len(),
        median(ticks).as_secs_f64() * 1e3,
    );
    // A closed stdout loses the figures and nothing else.
    drop(io::stdout().write_all(report.as_bytes()));
}
