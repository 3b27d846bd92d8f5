//! Two threads route events of one user to two streams: both streams have them in the same order. O1 of `router`.
//!
//! **Bound.** 2 preemptions.
//!
//! **Teeth.** No lock around the appends.

use loom::thread;

use super::{check, tag, text};
use crate::broadcaster::ToSse;
use crate::event::{Event, Payload};
use crate::hub::Hub;
use crate::router::{EventRouter, Route};
use crate::sync::HostArc;

struct Said(String);

impl ToSse for Said {
    fn to_sse(&self) -> Event<'_, impl Payload> {
        Event::text(&self.0)
    }
}

#[test]
fn router_order() {
    check("router_order", Some(2), || {
        let hubs: [Hub; 2] = [Hub::new(), Hub::new()];
        let mut readers = hubs.each_ref().map(|hub| hub.subscribe("t").expect("open"));
        let route = Route::new().bare_to(&hubs[0]).expect("room");
        let route = HostArc::new(route.bare_to(&hubs[1]).expect("room"));
        let router = EventRouter::new();
        let threads = ["a", "b"].map(|what| {
            let (router, route) = (router.clone(), HostArc::clone(&route));
            thread::spawn(move || {
                let reached = router.route(&"t".to_owned(), &Said(text(what)), &route);
                assert_eq!(reached.expect("open").subscribers(), 2);
            })
        });
        for thread in threads {
            thread.join().expect("no panic");
        }
        let orders = readers.each_mut().map(|reader| {
            let mut order = Vec::new();
            while let Ok(crate::Item::Frame(frame)) = reader.try_recv() {
                order.push(tag(&frame.data()));
            }
            order
        });
        assert_eq!(orders[0].len(), 2, "both events");
        assert_eq!(orders[0], orders[1], "one order");
    });
}
