//! A hub that is drained, and connections that are old: who leaves when, what they have read by then, and what is said.
//! The clock goes by hand, but for the servers.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test a panic is the report, and threads are std's"
)]

mod common;

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{Wakes, block_on, eventually};
use fanfare::{
    DrainReport, EndReason, Event, Hub, HubBuilder, Item, PublishError, SubscribeError,
    Subscription,
};
use futures_util::future::FutureExt as _;

const WITHIN: Duration = Duration::from_secs(30);

fn hub() -> Hub {
    by_hand().build().unwrap()
}

fn by_hand() -> HubBuilder {
    Hub::builder().clock_by_hand()
}

fn ticks(hub: &Hub, time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(hub.tick().as_nanos())).unwrap()
}

fn publish(hub: &Hub, key: &str) {
    let _ = hub.publish(key, Event::text("on and on")).unwrap();
}

/// Reads what is there. Whether it has ended.
fn reads(subscription: &mut Subscription, waker: &Waker) -> bool {
    loop {
        match subscription.poll_recv(&mut Context::from_waker(waker)) {
            Poll::Ready(Some(Item::Frame(_))) => {}
            Poll::Ready(Some(other)) => panic!("{other:?}"),
            Poll::Ready(None) => return true,
            Poll::Pending => return false,
        }
    }
}

/// Has all of them parked, and then woken ones read. Who leaves is dropped.
struct Crowd(Vec<(std::sync::Arc<Wakes>, Waker, Subscription)>);

impl Crowd {
    fn new(hub: &Hub, topics: usize, each: usize) -> Self {
        let all = (0..topics * each).map(|number| {
            let (woken, waker) = Wakes::new();
            let mut subscription = hub.subscribe(&(number % topics).to_string()).unwrap();
            assert!(!reads(&mut subscription, &waker));
            (woken, waker, subscription)
        });
        Self(all.collect())
    }

    fn leaves(&mut self, reason: EndReason) -> usize {
        let before = self.0.len();
        self.0.retain_mut(|(woken, waker, subscription)| {
            let gone = woken.count() > 0 && reads(subscription, waker);
            assert!(!gone || subscription.end_reason() == Some(reason));
            !gone
        });
        before - self.0.len()
    }
}

#[test]
fn they_leave_one_after_the_other() {
    for (topics, each) in [(1, 3000), (1500, 2)] {
        let hub = hub();
        let mut crowd = Crowd::new(&hub, topics, each);
        let all = crowd.0.len();
        let mut drain = pin!(hub.drain(WITHIN).unwrap());
        let (told, waker) = Wakes::new();
        let mut cx = Context::from_waker(&waker);
        let time = ticks(&hub, WITHIN);
        let mut left = 0;
        for tick in 1..=time {
            assert!(drain.as_mut().poll(&mut cx).is_pending(), "at tick {tick}");
            hub.go_on(1);
            left += crowd.leaves(EndReason::Drained);
            let due =
                all * usize::try_from(tick).unwrap() * 5 / (usize::try_from(time).unwrap() * 4);
            assert!(
                left <= due + 64,
                "{left} have left at tick {tick}: {due} are due"
            );
            assert!(
                left >= due.min(all),
                "{left} have left at tick {tick}: {due} are due"
            );
            if left == all {
                break;
            }
        }
        hub.go_on(1);
        assert_eq!(told.count(), 1);
        let Poll::Ready(report) = drain.as_mut().poll(&mut cx) else {
            panic!("nobody is left")
        };
        assert_eq!((report.subscriptions, report.cut), (all, 0));
        assert!(hub.is_closed());
    }
}

#[test]
fn nobody_comes_in_and_what_is_there_is_read() {
    let hub = hub();
    let (_, waker) = Wakes::new();
    let mut reader = hub.subscribe("a").unwrap();
    let topic = hub.topic("a").unwrap();
    let drain = hub.drain(WITHIN).unwrap();
    assert!(hub.drain(WITHIN).is_none(), "it is under way");
    for refused in [hub.subscribe("a"), hub.subscribe("b"), topic.subscribe()] {
        let Err(SubscribeError::Draining { retry_after }) = refused else {
            panic!("{refused:?}")
        };
        assert!((1000..5000).contains(&retry_after.as_millis()));
    }
    // Publishing goes on, and whoever was asked to leave reads it first.
    hub.go_on(ticks(&hub, WITHIN) - 1);
    let mut read = 0;
    for _ in 0..200 {
        publish(&hub, "a");
    }
    while let Ok(Item::Frame(_)) = reader.try_recv() {
        read += 1;
    }
    assert_eq!(read, 200);
    assert!(reads(&mut reader, &waker));
    assert_eq!(reader.end_reason(), Some(EndReason::Drained));
    drop(reader);
    hub.go_on(1);
    assert_eq!(block_on(drain).cut, 0);
    let refused = hub.publish("a", Event::text("too late"));
    assert!(matches!(refused, Err(PublishError::Closed)));
}

#[test]
fn who_does_not_read_is_cut_at_the_deadline() {
    let hub = hub();
    let mut still = hub.subscribe("a").unwrap();
    let mut prompt = hub.subscribe("a").unwrap();
    publish(&hub, "a");
    let drain = hub.drain(WITHIN).unwrap();
    let mut drain = pin!(drain);
    hub.go_on(ticks(&hub, WITHIN) - 1);
    assert!(reads(&mut prompt, Waker::noop()));
    drop(prompt);
    assert!(drain.as_mut().now_or_never().is_none());
    hub.go_on(1);
    let DrainReport {
        subscriptions, cut, ..
    } = drain.now_or_never().unwrap();
    assert_eq!((subscriptions, cut), (2, 1));
    // Cut is not harsh: what it has not read is there.
    assert!(matches!(still.try_recv(), Ok(Item::Frame(_))));
    assert!(reads(&mut still, Waker::noop()));
}

#[test]
fn an_empty_hub_and_a_short_time_are_done_at_once() {
    let empty = hub();
    let drain = empty.drain(WITHIN).unwrap();
    empty.go_on(1);
    assert_eq!(block_on(drain).subscriptions, 0);

    let hub = hub();
    let reader = hub.subscribe("a").unwrap();
    let drain = hub.drain(Duration::ZERO).unwrap();
    hub.go_on(1);
    assert_eq!(block_on(drain).cut, 1);
    drop(reader);

    // Whether or not somebody waits for it.
    let hub = by_hand().build().unwrap();
    let reader = hub.subscribe("a").unwrap();
    drop(hub.drain(WITHIN));
    hub.go_on(ticks(&hub, WITHIN));
    assert!(hub.is_closed());
    drop(reader);
}

fn text(body: &mut std::pin::Pin<Box<fanfare::SseBody>>) -> Option<String> {
    let mut cx = Context::from_waker(Waker::noop());
    match http_body::Body::poll_frame(body.as_mut(), &mut cx) {
        Poll::Ready(Some(Ok(frame))) => {
            Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
        }
        Poll::Ready(None) | Poll::Pending => None,
        Poll::Ready(Some(Err(error))) => match error {},
    }
}

/// Whether a block is the notice of a reason, with a time to come back.
fn says(block: &str, reason: EndReason) -> bool {
    let Some(retry) = block
        .strip_prefix(&format!(": {reason}\nretry: "))
        .and_then(|rest| rest.strip_suffix("\n\n"))
    else {
        return false;
    };
    (1000..5000).contains(&retry.parse::<u64>().unwrap())
}

#[test]
fn a_body_ends_with_a_time_to_come_back() {
    let hub = hub();
    let mut body = Box::pin(hub.subscribe("a").unwrap().into_sse().into_body());
    assert_eq!(text(&mut body).as_deref(), Some(":\n\n"));
    publish(&hub, "a");
    drop(hub.drain(WITHIN));
    hub.go_on(ticks(&hub, WITHIN) - 1);
    assert!(text(&mut body).unwrap().ends_with("data: on and on\n\n"));
    let last = text(&mut body).unwrap();
    assert!(says(&last, EndReason::Drained), "{last}");
    assert_eq!(text(&mut body), None);
}

/// One topic after the other is read to its end, and then there is one notice for all.
#[test]
fn a_body_of_several_topics_ends_when_all_are_read() {
    let hub = hub();
    let sse = hub.subscribe("a").unwrap().into_sse();
    let mut body = Box::pin(sse.with(hub.subscribe("b").unwrap()).into_body());
    assert!(text(&mut body).is_some());
    let _ = hub.publish("b", Event::text("read me")).unwrap();
    let _drain = hub.drain(WITHIN).unwrap();
    hub.go_on(ticks(&hub, WITHIN) - 2);
    assert!(text(&mut body).unwrap().contains("data: read me"));
    assert!(says(&text(&mut body).unwrap(), EndReason::Drained));
    assert_eq!(text(&mut body), None);
}

/// The others are asked as soon as one leaves, also if another one gives something at this moment.
#[test]
fn the_topics_of_a_body_leave_together() {
    let hub = by_hand().max_connection_age(WITHIN).build().unwrap();
    let a = hub.subscribe("a").unwrap();
    hub.go_on(ticks(&hub, WITHIN / 2));
    let b = hub.subscribe("b").unwrap();
    let mut body = Box::pin(a.into_sse().with(b).into_body());
    assert!(text(&mut body).is_some());
    // The first is old, the second is not.
    hub.go_on(ticks(&hub, WITHIN / 2) + 12);
    publish(&hub, "b");
    assert!(text(&mut body).unwrap().contains("data: on and on"));
    let last = text(&mut body).unwrap();
    assert!(says(&last, EndReason::Aged), "{last}");
    assert_eq!(text(&mut body), None);
    drop(body);
    assert_eq!(hub.subscribers(), 0);
}

/// A topic that is closed ends for itself, also where its last events are not wanted.
#[test]
fn a_closed_topic_does_not_end_the_others() {
    let hub = hub();
    let wants = |frame: &fanfare::Frame| frame.data() == "x";
    let sse = hub.subscribe("a").unwrap().filter(wants).into_sse();
    let mut body = Box::pin(sse.with(hub.subscribe("b").unwrap()).into_body());
    assert!(text(&mut body).is_some());
    let a = hub.topic("a").unwrap();
    for data in ["x", "y"] {
        let _ = a.publish(Event::text(data)).unwrap();
    }
    a.close();
    assert!(text(&mut body).unwrap().contains("data: x"));
    let _ = hub.publish("b", Event::text("and on")).unwrap();
    assert!(text(&mut body).unwrap().contains("data: and on"));
}

#[test]
fn who_is_old_leaves() {
    const AGE: Duration = Duration::from_secs(100);
    const EACH: usize = 500;
    let hub = by_hand().max_connection_age(AGE).build().unwrap();
    let mut crowd = Crowd::new(&hub, 1, EACH);
    hub.go_on(ticks(&hub, AGE * 9 / 10) - 1);
    assert_eq!(crowd.leaves(EndReason::Aged), 0);
    let young = Crowd::new(&hub, 1, 1);
    // In the last tenth, and not at once. A round of the clock is some ticks.
    let mut left = 0;
    let step = ticks(&hub, AGE / 50);
    for part in 1..=5 {
        hub.go_on(step);
        left += crowd.leaves(EndReason::Aged);
        assert!(
            left <= EACH * part / 5 + EACH / 6,
            "{left} in {part} fifths"
        );
        assert!(
            left + EACH / 2 >= EACH * part / 5,
            "{left} in {part} fifths"
        );
    }
    hub.go_on(2 * step);
    left += crowd.leaves(EndReason::Aged);
    assert_eq!(left, EACH);
    assert_eq!(hub.subscribers(), 1, "one came later");
    drop(young);
    // A place that was an old one's is as good as new.
    let mut next = hub.subscribe("0").unwrap();
    hub.go_on(ticks(&hub, AGE / 2));
    assert!(!reads(&mut next, Waker::noop()));
}

/// A time that one may not run over, in ticks of a hub.
fn go_on_for(hub: &Hub, time: Duration) {
    hub.go_on(ticks(hub, time));
}

/// What cannot notice the close by itself is told of otherwise.
#[test]
fn who_is_left_is_given_up() {
    let hub = hub();
    let mut still = hub.subscribe("a").unwrap();
    let mut prompt = hub.subscribe("a").unwrap();
    let (left, gone) = (still.evicted(), prompt.evicted());
    publish(&hub, "a");
    let drain = hub.drain(WITHIN).unwrap();
    hub.go_on(ticks(&hub, WITHIN) - 1);
    assert!(reads(&mut prompt, Waker::noop()));
    drop(prompt);
    let mut left = pin!(left);
    assert!(left.as_mut().now_or_never().is_none());
    hub.go_on(1);
    assert_eq!(block_on(drain).cut, 1);
    // It was woken, and has a moment to read.
    assert!(left.as_mut().now_or_never().is_none());
    hub.go_on(2);
    assert_eq!((left.now_or_never(), block_on(gone)), (Some(true), false));
    drop(still);
}

/// Whoever is behind at the deadline, and reads, is not taken for one that does not.
#[test]
fn who_reads_to_the_end_is_not_given_up() {
    let hub = hub();
    let mut behind = hub.subscribe("a").unwrap();
    let evicted = behind.evicted();
    publish(&hub, "a");
    let drain = hub.drain(WITHIN).unwrap();
    go_on_for(&hub, WITHIN);
    assert_eq!(block_on(drain).cut, 1);
    hub.go_on(1);
    assert!(reads(&mut behind, Waker::noop()));
    hub.go_on(5);
    drop(behind);
    assert!(!block_on(evicted));
}

/// Drops a subscription when it is woken.
struct Goes(std::sync::Mutex<Option<Subscription>>);

impl std::task::Wake for Goes {
    fn wake(self: std::sync::Arc<Self>) {
        let subscription = self.0.lock().unwrap().take();
        drop(subscription);
    }
}

/// Whoever is told may let go of the subscription at once, or ask the hub for anything.
#[test]
fn who_is_given_up_may_go_at_once() {
    let hub = hub();
    let mut left = Vec::new();
    for _ in 0..50 {
        let mut subscription = hub.subscribe("a").unwrap();
        publish(&hub, "a");
        let mut evicted = Box::pin(subscription.evicted());
        let goes = std::sync::Arc::new(Goes(std::sync::Mutex::new(Some(subscription))));
        let waker = Waker::from(goes);
        let mut cx = Context::from_waker(&waker);
        assert!(evicted.as_mut().poll(&mut cx).is_pending());
        left.push(evicted);
    }
    let drain = hub.drain(WITHIN).unwrap();
    go_on_for(&hub, WITHIN);
    assert_eq!(block_on(drain).cut, 50);
    hub.go_on(2);
    assert_eq!(hub.subscribers(), 0);
}

/// A waiting reader that may read only so much looks often enough to leave in a short drain.
#[test]
fn who_waits_for_its_rate_leaves_a_short_drain() {
    let hub = hub();
    let one = std::num::NonZeroU32::new(1).unwrap();
    let slow = (0..20).map(|_| {
        let subscription = hub.subscribe("a").unwrap();
        let (woken, waker) = common::Wakes::new();
        (
            subscription.max_rate(one, Duration::from_secs(3600)),
            woken,
            waker,
        )
    });
    let mut slow: Vec<_> = slow.collect();
    publish(&hub, "a");
    publish(&hub, "a");
    for (subscription, _, waker) in &mut slow {
        assert!(!reads(subscription, waker));
    }
    let drain = hub.drain(Duration::from_secs(1)).unwrap();
    let mut drain = pin!(drain);
    for _ in 0..ticks(&hub, Duration::from_secs(1)) {
        let before: Vec<_> = slow.iter().map(|(_, woken, _)| woken.count()).collect();
        hub.go_on(1);
        let mut before = before.into_iter();
        // Who was woken reads.
        slow.retain_mut(|(subscription, woken, waker)| {
            before.next() == Some(woken.count()) || !reads(subscription, waker)
        });
    }
    hub.go_on(1);
    let report = drain.as_mut().now_or_never().unwrap();
    assert_eq!((report.subscriptions, report.cut), (20, 0));
}

// ---------------------------------------------------------------------------------------------------- servers

/// A clock whose ticks are short.
fn quick() -> HubBuilder {
    Hub::builder()
        .heartbeat(Duration::from_millis(600))
        .idle_after(Duration::from_millis(200))
}

/// Streams over HTTP from `address`: what each has got when the server ends it.
fn clients(address: std::net::SocketAddr, count: usize) -> Vec<std::thread::JoinHandle<String>> {
    use std::io::{Read as _, Write as _};
    let client = move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(common::BOUND)).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        all
    };
    (0..count).map(|_| std::thread::spawn(client)).collect()
}

/// What a hub that serves is drained with, beside the server that is told to stop.
async fn drained(hub: &Hub, count: usize, mut stop: impl AsyncFnMut()) -> DrainReport {
    while hub.subscribers() < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    publish(hub, "a");
    let drain = hub.drain(Duration::from_millis(500)).unwrap();
    stop().await;
    drain.await
}

#[tokio::test(flavor = "multi_thread")]
async fn axum_shuts_down_gracefully() {
    const CLIENTS: usize = 20;
    let hub = quick().build().unwrap();
    let events = hub.clone();
    let route = axum::routing::get(async move || events.subscribe("a").map(Subscription::into_sse));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let app = axum::Router::new().route("/", route);
    let server = tokio::spawn(async move {
        let signal = async { drop(stopped.await) };
        axum::serve(listener, app)
            .with_graceful_shutdown(signal)
            .await
    });
    let clients = clients(address, CLIENTS);
    let mut stop = Some(stop);
    let report = drained(&hub, CLIENTS, async || drop(stop.take())).await;
    assert_eq!((report.subscriptions, report.cut), (CLIENTS, 0));
    server.await.unwrap().unwrap();
    for client in clients {
        let all = client.join().unwrap();
        assert!(all.contains("data: on and on\n\n"), "{all}");
        let notice = format!(": {}\nretry: ", EndReason::Drained);
        assert!(all.contains(&notice), "{all}");
    }
}

#[cfg(all(unix, feature = "reactor"))]
#[test]
fn a_reactor_sees_its_connections_off() {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use fanfare::{CloseReason, Reactor};

    const CONNECTIONS: usize = 300;
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&reasons);
    let reactor = Reactor::builder()
        .shards(2)
        .on_close(move |closed| {
            note.lock()
                .unwrap()
                .push((closed.reason, std::time::Instant::now()));
        })
        .build()
        .unwrap();
    let hub = quick().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = |at: usize| {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(common::BOUND)).unwrap();
        client.write_all(b"").unwrap();
        let (server, _) = listener.accept().unwrap();
        let mut sse = hub.subscribe("a").unwrap().into_sse();
        if at.is_multiple_of(3) {
            sse = sse.with(hub.subscribe("b").unwrap());
        }
        reactor.adopt(server, "", sse).unwrap();
        client
    };
    let mut clients: Vec<_> = (0..CONNECTIONS).map(connect).collect();
    publish(&hub, "a");
    let drain = hub.drain(Duration::from_secs(2)).unwrap();
    let report = block_on(drain);
    assert_eq!(report.cut, 0, "{report:?}");
    eventually("all to be gone", || reactor.connections() == 0);
    let reasons = reasons.lock().unwrap();
    let drained = CloseReason::Ended(EndReason::Drained);
    assert!(
        reasons.iter().all(|&(reason, _)| reason == drained),
        "{reasons:?}"
    );
    assert_eq!(reasons.len(), CONNECTIONS);
    let (first, last) = (reasons[0].1, reasons[CONNECTIONS - 1].1);
    assert!(last - first > Duration::from_millis(500), "all at once");
    for client in &mut clients {
        let mut all = String::new();
        client.read_to_string(&mut all).unwrap();
        assert!(all.contains("data: on and on\n\n"), "{all}");
        let at = all.rfind(": ").and_then(|_| all.find(": this server"));
        assert!(
            at.is_some_and(|at| says(&all[at..], EndReason::Drained)),
            "{all}"
        );
    }
}

/// Those who read for themselves leave one after the other, however many a reactor reads for.
#[cfg(all(unix, feature = "reactor"))]
#[test]
fn a_drain_is_spread_beside_a_reactor() {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    let reactor = fanfare::Reactor::builder().shards(1).build().unwrap();
    let hub = hub();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = || {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let sse = hub.subscribe("a").unwrap().into_sse();
        reactor.adopt(server, "", sse).unwrap();
        client
    };
    let clients: Vec<_> = (0..100).map(|_| connect()).collect();
    // With the opening the shard reads for them.
    for mut client in &clients {
        client.set_read_timeout(Some(common::BOUND)).unwrap();
        assert!(client.read(&mut [0; 64]).unwrap() > 0);
    }
    let mut crowd = Crowd::new(&hub, 1, 10);
    let drain = hub.drain(WITHIN).unwrap();
    // An eighth of the time in which they are asked.
    go_on_for(&hub, WITHIN / 10);
    assert!(crowd.leaves(EndReason::Drained) <= 2, "all at once");
    go_on_for(&hub, WITHIN * 8 / 10);
    assert!(crowd.leaves(EndReason::Drained) >= 8, "in time");
    go_on_for(&hub, WITHIN / 10 + hub.tick());
    drop((block_on(drain), clients));
}

/// On a reactor too who is old leaves.
#[cfg(all(unix, feature = "reactor"))]
#[test]
fn a_reactor_has_the_old_leave() {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    let reactor = fanfare::Reactor::builder()
        .shards(1)
        .stall_timeout(Duration::from_secs(1))
        .build()
        .unwrap();
    let hub = Hub::builder()
        .max_connection_age(Duration::from_secs(1))
        .build()
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(common::BOUND)).unwrap();
    let (server, _) = listener.accept().unwrap();
    let sse = hub.subscribe("a").unwrap().into_sse();
    reactor.adopt(server, "", sse).unwrap();
    publish(&hub, "a");
    let mut all = String::new();
    client.read_to_string(&mut all).unwrap();
    let at = all.find(": this connection").unwrap();
    assert!(says(&all[at..], EndReason::Aged), "{all}");
    eventually("it to be counted out", || hub.subscribers() == 0);
}
