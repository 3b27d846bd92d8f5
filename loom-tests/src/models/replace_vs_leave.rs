//! A connection goes while another one is registered by its name: the newer one stays, whoever is first. B1 of
//! `broadcaster`.
//!
//! **Bound.** 3 preemptions.
//!
//! **Teeth.** An entry is removed whosesoever it is.

use loom::thread;

use super::{check, text};
use crate::broadcaster::{Broadcaster, ToSse};
use crate::event::{Event, Payload};

struct Said(String);

impl ToSse for Said {
    fn to_sse(&self) -> Event<'_, impl Payload> {
        Event::text(&self.0)
    }
}

#[test]
fn replace_vs_leave() {
    check("replace_vs_leave", Some(3), || {
        let broadcaster = Broadcaster::<Said, u32>::with_hub(crate::Hub::default());
        let older = broadcaster.register(&1, "tab").expect("open");
        let leaves = thread::spawn(move || drop(older));
        let mut newer = broadcaster.register(&1, "tab").expect("open");
        leaves.join().expect("no panic");
        assert_eq!(broadcaster.connection_count(&1), 1);
        assert_eq!(broadcaster.total_connections(), 1);
        let sent = broadcaster.broadcast(&1, &Said(text("a"))).expect("open");
        assert_eq!(sent.subscribers(), 1);
        assert!(newer.try_recv().is_ok());
        drop(newer);
        assert_eq!(broadcaster.connection_info().users, 0);
    });
}
