//! A shard that falls asleep while publishers signal its topic and somebody puts a command in. When it sleeps, nobody having
//! roused it, it has seen all that was published and taken all commands (I1, I2).
//!
//! **Bound.** All interleavings with one teller; 3 preemptions with two.
//!
//! **Teeth.** `awake` swapped without Acquire by the shard or without Release by a teller; `awake` cleared after the look at
//! the queues; `dirty` cleared without Acquire, set without Release, or cleared after the look at the log.

use loom::thread;

use super::check;
use crate::inbox::{Clear as _, Inbox, Rouse, Signal};
use crate::sync::{AtomicBool, AtomicUsize, HostArc, Ordering};
use std::task::Wake as _;

/// The shard's poll: roused or not.
struct Poked(AtomicBool);

impl Rouse for HostArc<Poked> {
    fn rouse(&self) {
        // Relaxed: the system call orders nothing that the protocol relies on.
        self.0.store(true, Ordering::Relaxed);
    }
}

/// `signals` threads publish once and signal; `commands` threads put a command in.
fn inbox(name: &str, bound: Option<usize>, signals: usize, commands: usize) {
    check(name, bound, move || {
        let poked = HostArc::new(Poked(AtomicBool::new(false)));
        let inbox = Inbox::<usize, _>::new(HostArc::clone(&poked));
        let signal = Signal::new(&inbox, 7);
        // What was published: the log has orderings of its own, this one has none.
        let log = HostArc::new(AtomicUsize::new(0));
        let mut tellers = Vec::new();
        for _ in 0..signals {
            let (signal, log) = (HostArc::clone(&signal), HostArc::clone(&log));
            tellers.push(thread::spawn(move || {
                log.fetch_add(1, Ordering::Relaxed);
                signal.wake();
            }));
        }
        for command in 0..commands {
            let inbox = HostArc::clone(&inbox);
            tellers.push(thread::spawn(move || inbox.command(command)));
        }
        let mut seen = 0;
        let mut taken = 0;
        let mut asleep = false;
        for _ in 0..2 {
            while inbox.next_command().is_some() {
                taken += 1;
            }
            while let Some(topic) = inbox.next_topic() {
                assert_eq!(topic, 7);
                signal.clear();
                seen = log.load(Ordering::Relaxed);
            }
            asleep = inbox.try_sleep();
            if asleep {
                break;
            }
        }
        for teller in tellers {
            teller.join().expect("no panic");
        }
        // Relaxed: after the joins.
        if asleep && !poked.0.load(Ordering::Relaxed) {
            assert_eq!((seen, taken), (signals, commands), "slept over something");
        } else {
            // It looks again.
            inbox.stay_awake();
            while inbox.next_command().is_some() {
                taken += 1;
            }
            while inbox.next_topic().is_some() {
                signal.clear();
                seen = log.load(Ordering::Relaxed);
            }
            assert_eq!((seen, taken), (signals, commands), "something is lost");
        }
    });
}

#[test]
fn inbox_one_signal() {
    inbox("inbox_one_signal", None, 1, 0);
}

#[test]
fn inbox_two_signals() {
    inbox("inbox_two_signals", Some(3), 2, 0);
}

#[test]
fn inbox_signal_and_command() {
    inbox("inbox_signal_and_command", Some(3), 1, 1);
}
