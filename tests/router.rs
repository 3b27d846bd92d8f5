//! One event on several streams: in which form, in which order, and what is refused as a whole.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::similar_names,
    reason = "in a test, helpers included, a panic is the report, threads are std's, and a router routes along a route"
)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;

use common::{Got, WAYS, Wakes, Way, block_on, event, events, frame};
use fanfare::{
    Broadcaster, EncodeError, EnvelopeError, Event, EventError, EventRouter, Hub, Item,
    MAX_ENVELOPE_BYTES, MAX_ROUTE_STREAMS, Payload, Route, Routed, Subscription, ToSse,
};
use serde::ser::{Serialize, Serializer};

const THREADS: usize = 4;
const EVENTS: usize = if cfg!(miri) { 30 } else { 1000 };

#[derive(Clone, Copy)]
struct Said<'a>(&'a str);

impl ToSse for Said<'_> {
    fn to_sse(&self) -> Event<'_, impl Payload> {
        Event::text(self.0)
    }
}

/// JSON that counts how often it is serialized.
struct Counting<'a>(&'a AtomicUsize);

impl Serialize for Counting<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        serializer.serialize_u64(7)
    }
}

impl ToSse for Counting<'_> {
    fn to_sse(&self) -> Event<'_, impl Payload> {
        Event::json(self).name("count")
    }
}

/// Without an id, whatever its hub has.
struct WithoutId;

impl ToSse for WithoutId {
    fn to_sse(&self) -> Event<'_, impl Payload> {
        Event::text("x").without_id()
    }
}

/// JSON that cannot be serialized.
struct Broken;

impl Serialize for Broken {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("broken"))
    }
}

impl ToSse for Broken {
    fn to_sse(&self) -> Event<'_, impl Payload> {
        Event::json(self)
    }
}

fn user() -> String {
    "ann".to_owned()
}

fn without_ids() -> Hub {
    Hub::builder().event_ids(false).build().unwrap()
}

fn route_all(router: &EventRouter, route: &Route<String>, texts: &[&str]) {
    for text in texts {
        drop(router.route(&user(), &Said(text), route).unwrap());
    }
}

fn read_exactly(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let read = |_| match block_on(subscription.recv()) {
        Some(Item::Frame(frame)) => frame.data().into_owned(),
        other => panic!("{other:?}"),
    };
    (0..count).map(read).collect()
}

// ------------------------------------------------------------------------------------------------- forms

#[test]
fn each_stream_gets_its_form() {
    for way in WAYS {
        let hubs = [Hub::new(), without_ids(), Hub::new()];
        let mut readers = hubs.each_ref().map(|hub| hub.subscribe("ann").unwrap());
        let other = hubs[0].subscribe("bob").unwrap();
        let route = Route::new()
            .bare_to(&hubs[0])
            .and_then(|it| it.wrapped_to(&hubs[1], "<", ">"))
            .and_then(|it| it.wrapped_to(&hubs[2], r#"{"event":"#, "}"))
            .unwrap();
        let router = EventRouter::new();
        let routed = router.route(&user(), &Said("a"), &route).unwrap();
        assert_eq!((routed.streams().len(), routed.subscribers()), (3, 3));
        drop(router.route(&user(), &Said(""), &route).unwrap());
        let expected = [
            ["a", ""],
            ["<a>", "<>"],
            [r#"{"event":a}"#, r#"{"event":}"#],
        ];
        for (reader, expected) in readers.iter_mut().zip(expected) {
            assert_eq!(way.read(reader), events(expected), "{way:?}");
        }
        drop(other);
    }
}

#[test]
fn what_is_told_of_each_stream() {
    let hubs = [Hub::new(), without_ids(), Hub::new()];
    let _two = [
        hubs[0].subscribe("ann").unwrap(),
        hubs[0].subscribe("ann").unwrap(),
    ];
    let mut one = hubs[1].subscribe("ann").unwrap();
    let route = hubs.iter().try_fold(Route::new(), Route::bare_to).unwrap();
    let routed = EventRouter::new()
        .route(&user(), &Said("abc"), &route)
        .unwrap();
    let reach: Vec<_> = routed
        .streams()
        .iter()
        .map(fanfare::Published::subscribers)
        .collect();
    assert_eq!(reach, [2, 1, 0]);
    let kept: Vec<_> = routed
        .streams()
        .iter()
        .map(|it| it.id().is_some())
        .collect();
    assert_eq!(kept, [true, true, false], "nobody was there");
    let block = "data: abc\n\n";
    assert!(routed.streams().iter().all(|it| it.bytes() == block.len()));
    assert_eq!(frame(one.try_recv()).as_sse(), block.as_bytes());
    assert_eq!(Routed::default().subscribers(), 0);
}

#[test]
fn an_empty_route_goes_nowhere() {
    let routed = EventRouter::new()
        .route(&user(), &Said("x"), &Route::default())
        .unwrap();
    assert!(routed.streams().is_empty());
    // What cannot be encoded is refused all the same.
    assert!(
        EventRouter::new()
            .route(&user(), &Broken, &Route::<String>::new())
            .is_err()
    );
}

#[test]
fn ids_are_each_streams_own() {
    let (with, without) = (Hub::new(), without_ids());
    let mut readers = [&with, &with, &without].map(|hub| hub.subscribe("ann").unwrap());
    // The streams are apart: one is ahead.
    let _ = with.publish("ann", Event::text("before")).unwrap();
    let route = Route::new()
        .bare_to(&with)
        .and_then(|it| it.wrapped_to(&without, "(", ")"))
        .unwrap();
    let routed = EventRouter::new()
        .route(&user(), &Said("x"), &route)
        .unwrap();
    let [ahead, other] = routed.streams() else {
        panic!()
    };
    assert_eq!(ahead.id().unwrap().offset(), 2);
    assert_eq!(other.id().unwrap().offset(), 1, "told, and not sent");
    for reader in &mut readers[..2] {
        assert_eq!(&*frame(reader.try_recv()).data(), "before");
        let got = frame(reader.try_recv());
        assert_eq!(got.id(), ahead.id());
        let block = format!("id: {}\ndata: x\n\n", ahead.id().unwrap());
        assert_eq!(got.as_sse(), block.as_bytes());
    }
    let got = frame(readers[2].try_recv());
    assert_eq!((got.id(), got.as_sse()), (None, &b"data: (x)\n\n"[..]));

    drop(
        EventRouter::new()
            .route(&user(), &WithoutId, &route)
            .unwrap(),
    );
    assert_eq!(frame(readers[0].try_recv()).as_sse(), b"data: x\n\n");
}

/// The prefix on the first line, the suffix on the last.
#[test]
fn a_text_of_several_lines_is_wrapped_as_one() {
    let hubs = [without_ids(), without_ids()];
    let mut readers = hubs.each_ref().map(|hub| hub.subscribe("ann").unwrap());
    let route = Route::new()
        .bare_to(&hubs[0])
        .and_then(|it| it.wrapped_to(&hubs[1], "<<", ">>"))
        .unwrap();
    let cases = [
        ("a\nb", "data: <<a\ndata: b>>\n\n"),
        ("a\r\nb\rc", "data: <<a\ndata: b\ndata: c>>\n\n"),
        ("\n", "data: <<\ndata: >>\n\n"),
        ("a\n", "data: <<a\ndata: >>\n\n"),
    ];
    for (text, wrapped) in cases {
        drop(
            EventRouter::new()
                .route(&user(), &Said(text), &route)
                .unwrap(),
        );
        let [bare, around] = readers.each_mut().map(|reader| frame(reader.try_recv()));
        assert_eq!(std::str::from_utf8(around.as_sse()).unwrap(), wrapped);
        let lf = text.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(
            (&*bare.data(), &*around.data()),
            (&*lf, &*format!("<<{lf}>>"))
        );
        assert_eq!(around.payload(), None);
    }
}

#[test]
fn the_name_goes_along() {
    let hubs = [Hub::new(), Hub::new()];
    let mut readers = hubs.each_ref().map(|hub| hub.subscribe("ann").unwrap());
    let route = Route::new()
        .bare_to(&hubs[0])
        .and_then(|it| it.wrapped_to(&hubs[1], "[", "]"))
        .unwrap();
    let count = AtomicUsize::new(0);
    drop(
        EventRouter::new()
            .route(&user(), &Counting(&count), &route)
            .unwrap(),
    );
    let got = readers.each_mut().map(|reader| frame(reader.try_recv()));
    for (got, payload) in got.iter().zip(["7", "[7]"]) {
        assert_eq!(got.name(), Some("count"));
        assert_eq!(got.payload(), Some(payload.as_bytes()));
        assert!(got.as_sse().starts_with(b"id: "));
    }
}

#[test]
fn the_serializer_runs_once() {
    let hubs: Vec<_> = (0..MAX_ROUTE_STREAMS)
        .map(|at| Hub::builder().event_ids(at % 2 == 0).build().unwrap())
        .collect();
    let readers: Vec<_> = hubs
        .iter()
        .map(|hub| hub.subscribe("ann").unwrap())
        .collect();
    let route = hubs
        .iter()
        .enumerate()
        .try_fold(Route::new(), |route, (at, hub)| {
            if at % 3 == 0 {
                route.bare_to(hub)
            } else {
                route.wrapped_to(hub, at.to_string(), "")
            }
        });
    let count = AtomicUsize::new(0);
    let routed = EventRouter::new()
        .route(&user(), &Counting(&count), &route.unwrap())
        .unwrap();
    assert_eq!(
        (routed.subscribers(), count.into_inner()),
        (MAX_ROUTE_STREAMS, 1)
    );
    drop(readers);
}

#[test]
fn streams_of_the_same_bytes_share_a_frame() {
    let hubs = [
        without_ids(),
        without_ids(),
        without_ids(),
        without_ids(),
        Hub::new(),
    ];
    let mut readers = hubs.each_ref().map(|hub| hub.subscribe("ann").unwrap());
    let route = Route::new()
        .bare_to(&hubs[0])
        .and_then(|it| it.wrapped_to(&hubs[1], "<", ">"))
        .and_then(|it| it.bare_to(&hubs[2]))
        .and_then(|it| it.wrapped_to(&hubs[3], "<", ">"))
        .and_then(|it| it.bare_to(&hubs[4]))
        .unwrap();
    drop(
        EventRouter::new()
            .route(&user(), &Said("shared"), &route)
            .unwrap(),
    );
    let frames = readers.each_mut().map(|reader| frame(reader.try_recv()));
    let at = frames.each_ref().map(|frame| frame.as_sse().as_ptr());
    assert_eq!((at[0], at[1]), (at[2], at[3]));
    assert_ne!(at[0], at[1]);
    assert_ne!(at[0], at[4], "it has an id");
    // The same stream twice is twice the event.
    let twice = Route::new()
        .bare_to(&hubs[0])
        .and_then(|it| it.bare_to(&hubs[0]))
        .unwrap();
    let routed = EventRouter::new()
        .route(&user(), &Said("x"), &twice)
        .unwrap();
    assert_eq!(routed.subscribers(), 2);
    assert_eq!(Way::Recv.read(&mut readers[0]), events(["x", "x"]));
}

// ------------------------------------------------------------------------------------------------- targets

#[test]
fn a_topic_gets_it_whoever_the_user_is() {
    let (hub, log) = (Hub::new(), Hub::new());
    let run = log.topic("run:1").unwrap();
    let mut reader = log.subscribe("run:1").unwrap();
    let route = Route::new()
        .bare_to(&hub)
        .and_then(|it| it.bare_topic(&run))
        .and_then(|it| it.wrapped_topic(&run, "(", ")"))
        .unwrap();
    let router = EventRouter::new();
    for user in ["ann", "bob"] {
        drop(router.route(&user.to_owned(), &Said(user), &route).unwrap());
    }
    assert_eq!(
        Way::Recv.read(&mut reader),
        events(["ann", "(ann)", "bob", "(bob)"])
    );
    // A topic that was closed by itself ends the route.
    run.close();
    let mut ann = hub.subscribe("ann").unwrap();
    let closed = router.route(&user(), &Said("x"), &route);
    assert!(matches!(closed, Err(EventError::Closed)));
    assert_eq!(Way::TryRecv.read(&mut ann), []);
}

#[test]
fn hubs_with_history_keep_what_nobody_hears() {
    let hub = Hub::builder().history(true).build().unwrap();
    let plain = Hub::new();
    let route = Route::new()
        .bare_to(&hub)
        .and_then(|it| it.wrapped_to(&plain, "<", ">"))
        .unwrap();
    let router = EventRouter::new();
    let routed = router.route(&user(), &Said("one"), &route).unwrap();
    let [kept, gone] = routed.streams() else {
        panic!()
    };
    assert_eq!((kept.subscribers(), gone.id()), (0, None));
    assert_eq!((hub.topics(), plain.topics()), (1, 0));
    drop(router.route(&user(), &Said("two"), &route).unwrap());
    let mut late = hub.subscribe_from("ann", kept.id()).unwrap();
    assert_eq!(Way::Recv.read(&mut late), events(["two"]));
}

#[test]
fn nobody_is_left_behind_on_the_streams() {
    let hubs = [Hub::new(), Hub::new()];
    let route = hubs.iter().try_fold(Route::new(), Route::bare_to).unwrap();
    let router = EventRouter::new();
    route_all(&router, &route, &["x", "y"]);
    let readers = hubs.each_ref().map(|hub| hub.subscribe("ann").unwrap());
    route_all(&router, &route, &["z"]);
    drop(readers);
    route_all(&router, &route, &["w"]);
    assert_eq!(hubs.each_ref().map(Hub::topics), [0, 0]);
}

#[test]
fn at_most_eight_streams() {
    let hub = Hub::new();
    let topic = hub.topic("ann").unwrap();
    let full = || {
        let mut route = Route::new();
        for _ in 0..MAX_ROUTE_STREAMS {
            route = route.bare_to(&hub).unwrap();
        }
        route
    };
    let refused = |route: Result<Route<String>, EventError>| matches!(route, Err(EventError::TooManyStreams { limit }) if limit == MAX_ROUTE_STREAMS);
    assert!(refused(full().bare_to(&hub)));
    assert!(refused(full().wrapped_to(&hub, "<", ">")));
    assert!(refused(full().bare_topic(&topic)));
    assert!(refused(full().wrapped_topic(&topic, "<", ">")));
    let mut reader = hub.subscribe("ann").unwrap();
    let routed = EventRouter::new()
        .route(&user(), &Said("x"), &full())
        .unwrap();
    assert_eq!(routed.streams().len(), MAX_ROUTE_STREAMS);
    assert_eq!(
        Way::Recv.read(&mut reader),
        events(["x"; MAX_ROUTE_STREAMS])
    );
    assert!(format!("{:?} {:?}", full(), EventRouter::new()).contains("EventRouter"));
}

#[test]
fn what_goes_around_an_event_is_one_short_line() {
    let hub = Hub::new();
    for bad in ["a\nb", "\r", "\n"] {
        let refused = Route::<String>::new().wrapped_to(&hub, bad, "");
        assert!(matches!(
            refused,
            Err(EventError::Envelope(EnvelopeError::LineBreak { .. }))
        ));
        assert!(Route::<String>::new().wrapped_to(&hub, "", bad).is_err());
    }
    let half = "x".repeat(MAX_ENVELOPE_BYTES / 2);
    assert!(
        Route::<String>::new()
            .wrapped_to(&hub, half.clone(), half.clone())
            .is_ok()
    );
    let refused = Route::<String>::new().wrapped_to(&hub, half.clone() + "x", half);
    assert!(matches!(
        refused,
        Err(EventError::Envelope(EnvelopeError::TooLong { len, .. })) if len == MAX_ENVELOPE_BYTES + 1
    ));
}

// ------------------------------------------------------------------------------------------------- refused as a whole

/// Two streams with readers, the second of them behind `route`'s last leg.
fn refused_by<E: ToSse>(second: &Hub, say: &E) -> EventError {
    let first = Hub::builder().history(true).build().unwrap();
    let mut reader = first.subscribe("ann").unwrap();
    for route in [
        Route::new()
            .bare_to(&first)
            .and_then(|it| it.wrapped_to(second, "<", ">")),
        Route::new()
            .wrapped_to(second, "<", ">")
            .and_then(|it| it.bare_to(&first)),
    ] {
        let route = route.unwrap();
        let error = EventRouter::new().route(&user(), say, &route).unwrap_err();
        assert_eq!(Way::TryRecv.read(&mut reader), [], "{error}");
        // Neither to somebody nor to nobody.
        let nobody = EventRouter::new().route(&"bob".to_owned(), say, &route);
        assert!(nobody.is_err());
        assert_eq!((first.topics(), first.stats().published), (1, 0), "{error}");
    }
    let route = Route::new().bare_to(second).unwrap();
    EventRouter::new().route(&user(), say, &route).unwrap_err()
}

#[test]
fn too_large_for_one_stream_is_refused_on_all() {
    let small = Hub::builder().max_event_bytes(5).build().unwrap();
    let mut reader = small.subscribe("ann").unwrap();
    let error = refused_by(&small, &Said("123456"));
    assert!(matches!(
        error,
        EventError::Encode(EncodeError::TooLarge { limit: 5, size: 6 })
    ));
    // What goes around it counts: five with it fit, six do not.
    let wrapped = Route::new().wrapped_to(&small, "<", ">").unwrap();
    let router = EventRouter::new();
    assert!(router.route(&user(), &Said("123"), &wrapped).is_ok());
    let error = router.route(&user(), &Said("1234"), &wrapped).unwrap_err();
    assert!(matches!(
        error,
        EventError::Encode(EncodeError::TooLarge { limit: 5, size: 6 })
    ));
    assert_eq!(Way::TryRecv.read(&mut reader), events(["<123>"]));
    // The other way round: a form that is shared with a stream that takes more.
    let large = without_ids();
    let small = Hub::builder()
        .event_ids(false)
        .max_event_bytes(5)
        .build()
        .unwrap();
    let route = Route::new()
        .bare_to(&large)
        .and_then(|it| it.bare_to(&small))
        .unwrap();
    assert!(router.route(&user(), &Said("12345"), &route).is_ok());
    assert!(router.route(&user(), &Said("123456"), &route).is_err());
    assert!(
        router.route(&user(), &Said("1\n2"), &route).is_err(),
        "lines cost their fields"
    );
}

#[test]
fn what_cannot_be_encoded_is_published_nowhere() {
    let error = refused_by(&Hub::new(), &Broken);
    assert!(matches!(
        error,
        EventError::Encode(EncodeError::Serialize(_))
    ));
}

#[test]
fn a_closed_hub_is_told_before_anything_is_published() {
    let closed = Hub::new();
    closed.close();
    assert!(matches!(
        refused_by(&closed, &Said("x")),
        EventError::Closed
    ));
    let closed = Hub::builder().history(true).build().unwrap();
    closed.close();
    assert!(matches!(
        refused_by(&closed, &Said("x")),
        EventError::Closed
    ));
}

#[test]
fn a_waker_that_panics_keeps_no_stream_from_its_event() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as it was told");
        }
    }
    let hubs = [Hub::new(), Hub::new()];
    let mut readers = hubs.each_ref().map(|hub| hub.subscribe("ann").unwrap());
    let (woken, waker) = Wakes::new();
    let panics = Waker::from(Arc::new(Panics));
    for (reader, waker) in readers.iter_mut().zip([&panics, &waker]) {
        assert!(
            reader
                .poll_recv(&mut Context::from_waker(waker))
                .is_pending()
        );
    }
    let route = hubs.iter().try_fold(Route::new(), Route::bare_to).unwrap();
    let router = EventRouter::new();
    let routed = catch_unwind(AssertUnwindSafe(|| {
        router.route(&user(), &Said("x"), &route)
    }));
    assert!(routed.is_err());
    assert_eq!(woken.count(), 1);
    // The router goes on.
    route_all(&router, &route, &["y"]);
    for reader in &mut readers {
        assert_eq!(Way::Recv.read(reader), events(["x", "y"]));
    }
}

// ------------------------------------------------------------------------------------------------- order

#[test]
fn all_streams_agree_on_the_order() {
    let hub = || {
        Hub::builder()
            .retain_events(THREADS * EVENTS)
            .build()
            .unwrap()
    };
    let hubs = [hub(), hub()];
    let mut readers = hubs.each_ref().map(|hub| hub.subscribe("ann").unwrap());
    let route = Route::new()
        .bare_to(&hubs[0])
        .and_then(|it| it.wrapped_to(&hubs[1], "<", ">"))
        .unwrap();
    // One stream alone, and the streams the other way round: still the same order.
    let backwards = Route::new()
        .wrapped_to(&hubs[1], "<", ">")
        .and_then(|it| it.bare_to(&hubs[0]))
        .unwrap();
    let router = EventRouter::new();
    let orders = thread::scope(|scope| {
        for thread in 0..THREADS {
            let (router, routes) = (router.clone(), [&route, &backwards]);
            scope.spawn(move || {
                for number in 0..EVENTS {
                    let text = format!("{thread} {number}");
                    let route = routes[(thread + number) % 2];
                    let routed = router.route(&user(), &Said(&text), route).unwrap();
                    assert_eq!(routed.subscribers(), 2);
                }
            });
        }
        let [a, b] = readers.each_mut();
        let other = scope.spawn(move || read_exactly(b, THREADS * EVENTS));
        [read_exactly(a, THREADS * EVENTS), other.join().unwrap()]
    });
    let mut next = [0; THREADS];
    for (bare, wrapped) in orders[0].iter().zip(&orders[1]) {
        assert_eq!(wrapped, &format!("<{bare}>"));
        let (thread, number) = bare.split_once(' ').unwrap();
        let thread: usize = thread.parse().unwrap();
        assert_eq!(number, next[thread].to_string(), "each thread's own order");
        next[thread] += 1;
    }
    assert_eq!(next, [EVENTS; THREADS]);
    for reader in &mut readers {
        assert_eq!(Way::TryRecv.read(reader), [], "nothing more");
    }
}

/// What is published beside the router comes in between, and moves nothing.
#[test]
fn events_beside_the_router_come_in_between() {
    let hub = || Hub::builder().retain_events(4 * EVENTS).build().unwrap();
    let hubs = [hub(), hub()];
    let mut readers = hubs.each_ref().map(|hub| hub.subscribe("ann").unwrap());
    let route = hubs.iter().try_fold(Route::new(), Route::bare_to).unwrap();
    let router = EventRouter::new();
    thread::scope(|scope| {
        for thread in 0..2 {
            let (router, route) = (&router, &route);
            scope.spawn(move || {
                for number in 0..EVENTS {
                    let text = format!("{thread} {number}");
                    drop(router.route(&user(), &Said(&text), route).unwrap());
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..EVENTS {
                let _ = hubs[0].publish("ann", Event::text("beside")).unwrap();
            }
        });
    });
    let [mut a, b] = readers.each_mut().map(|reader| Way::RecvBatch.read(reader));
    a.retain(|got| got != &event("beside"));
    assert_eq!(a.len(), 2 * EVENTS);
    assert_eq!(a, b);
}

/// While streams close: what is refused is on none of them, and of what is in flight each stream's report says whether it is there.
#[test]
fn closing_amid_routes_hangs_nobody() {
    for _ in 0..EVENTS.div_ceil(20) {
        let hubs = [Hub::new(), Hub::new()];
        let mut readers = hubs.each_ref().map(|hub| hub.subscribe("ann").unwrap());
        let route = hubs.iter().try_fold(Route::new(), Route::bare_to).unwrap();
        let router = EventRouter::new();
        let told = thread::scope(|scope| {
            let routes = scope.spawn(|| {
                let mut told = [0, 0];
                while let Ok(routed) = router.route(&user(), &Said("x"), &route) {
                    for (told, stream) in told.iter_mut().zip(routed.streams()) {
                        *told += usize::from(stream.id().is_some());
                    }
                }
                told
            });
            hubs[1].close();
            routes.join().unwrap()
        });
        let got = Way::TryRecv.read(&mut readers[1]);
        assert_eq!(got.last(), Some(&Got::End));
        let lagged = |got: &Got| match got {
            Got::Lag(missed) => usize::try_from(missed.unwrap()).unwrap(),
            Got::Event(_) => 1,
            Got::End => 0,
        };
        assert_eq!(got.iter().map(lagged).sum::<usize>(), told[1]);
        let first: usize = Way::TryRecv.read(&mut readers[0]).iter().map(lagged).sum();
        assert_eq!(first, told[0]);
    }
}

#[test]
fn users_are_apart() {
    let hub = Broadcaster::<Said<'static>, u64>::default();
    let route = Route::new()
        .bare(&hub)
        .and_then(|it| it.wrapped(&hub, "(", ")"))
        .unwrap();
    let router = EventRouter::new();
    let mut tabs: Vec<_> = (0..300)
        .map(|user| hub.register(&user, "tab").unwrap())
        .collect();
    for user in 0..300 {
        assert_eq!(
            router
                .route(&user, &Said("x"), &route)
                .unwrap()
                .subscribers(),
            2
        );
    }
    for tab in &mut tabs {
        assert_eq!(Way::TryRecv.read(tab), events(["x", "(x)"]));
    }
}

// ------------------------------------------------------------------------------------------------- agents

#[cfg(feature = "protocols")]
mod agents {
    use super::{EVENTS, THREADS, Way, frame, read_exactly};
    use fanfare::protocol::{Timestamp, a2a, ag_ui, analytics, context, system};
    use fanfare::{AgentRouter, Broadcaster, EventBroadcasters, EventRouter, Hub, UserId};
    use std::thread;

    #[test]
    fn wrapped_is_what_the_context_event_is_as_json() {
        let streams = EventBroadcasters::new();
        let router: AgentRouter = EventRouter::over(streams.clone());
        let ann = UserId::from("ann");
        let mut all = streams.context.register(&ann, "tab").unwrap();
        let mut ag_ui_tab = streams.ag_ui.register(&ann, "tab").unwrap();
        let mut a2a_tab = streams.a2a.register(&ann, "tab").unwrap();
        let mut analytics_tab = streams.analytics.register(&ann, "tab").unwrap();
        let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();

        let step = ag_ui::Event::step_started("pl\u{e4}n \"x\"\n");
        let routed = router.route_ag_ui(&ann, &step).unwrap();
        assert_eq!((routed.streams().len(), routed.subscribers()), (2, 2));
        let bare = frame(ag_ui_tab.try_recv());
        assert_eq!(bare.data(), serde_json::to_string(&step).unwrap());
        let expected = serde_json::to_string(&context::Event::from(step.clone())).unwrap();
        let wrapped = frame(all.try_recv());
        assert_eq!(wrapped.data(), expected);
        assert_eq!(wrapped.as_sse(), format!("data: {expected}\n\n").as_bytes());
        let back: context::Event = serde_json::from_str(&wrapped.data()).unwrap();
        assert_eq!(back, context::Event::from(step));

        let said = serde_json::json!({
            "message": {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "hi"}]}
        });
        let said: a2a::StreamResponse = serde_json::from_value(said).unwrap();
        assert_eq!(router.route_a2a(&ann, &said).unwrap().subscribers(), 2);
        let bare = frame(a2a_tab.try_recv());
        assert_eq!(bare.data(), serde_json::to_string(&said).unwrap());
        let expected = serde_json::to_string(&context::Event::from(said)).unwrap();
        assert_eq!(frame(all.try_recv()).data(), expected);

        let updated = system::Event::from(system::ContextUpdated::new("c1").timestamp(at));
        assert_eq!(
            router.route_system(&ann, &updated).unwrap().streams().len(),
            1
        );
        let expected = serde_json::to_string(&context::Event::from(updated)).unwrap();
        assert_eq!(frame(all.try_recv()).data(), expected);

        let seen = serde_json::json!({"type": "PAGE_VIEW", "timestamp": "2026-01-01T00:00:00Z"});
        if let Ok(seen) = serde_json::from_value::<analytics::Event>(seen) {
            assert_eq!(
                router.route_analytics(&ann, &seen).unwrap().subscribers(),
                1
            );
            assert!(analytics_tab.try_recv().is_ok());
        }
        for tab in [&mut all, &mut ag_ui_tab, &mut a2a_tab, &mut analytics_tab] {
            assert_eq!(Way::TryRecv.read(tab), []);
        }
        assert_eq!(router.broadcasters().context.connection_count(&ann), 1);
    }

    #[test]
    fn both_streams_of_a_user_agree() {
        let hub = || {
            let hub = Hub::builder()
                .event_ids(false)
                .retain_events(2 * THREADS * EVENTS);
            hub.build_keyed::<u64>().unwrap()
        };
        let mut streams = EventBroadcasters::default();
        streams.ag_ui = Broadcaster::with_hub(hub());
        streams.context = Broadcaster::with_hub(hub());
        let router = EventRouter::over(streams.clone());
        let mut bare = streams.ag_ui.register(&1, "tab").unwrap();
        let mut all = streams.context.register(&1, "tab").unwrap();
        let (bare, all) = thread::scope(|scope| {
            for thread in 0..THREADS {
                let router = &router;
                scope.spawn(move || {
                    for number in 0..EVENTS {
                        let event = ag_ui::Event::step_started(format!("{thread} {number}"));
                        drop(router.route_ag_ui(&1, &event).unwrap());
                        if number % 10 == 0 {
                            let gone = system::Event::from(system::ContextDeleted::new("c"));
                            drop(router.route_system(&1, &gone).unwrap());
                        }
                    }
                });
            }
            let systems = THREADS * EVENTS.div_ceil(10);
            let all = scope.spawn(move || read_exactly(&mut all, THREADS * EVENTS + systems));
            (
                read_exactly(&mut bare, THREADS * EVENTS),
                all.join().unwrap(),
            )
        });
        let prefix = context::Protocol::AgUi.prefix();
        let unwrapped: Vec<_> = all
            .iter()
            .filter_map(|json| json.strip_prefix(prefix)?.strip_suffix(context::SUFFIX))
            .collect();
        assert_eq!(unwrapped, bare);
    }
}
