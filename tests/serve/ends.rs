//! Every way in which a stream on the reactor ends, as it is told and counted.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use fanfare::{
    AdoptError, CloseReason, EndReason, Envelope, Event, Hub, LagPolicy, Reactor, ReactorBuilder,
    Sse,
};

use crate::common::{BOUND, eventually};

struct Setting {
    reactor: Reactor,
    reasons: mpsc::Receiver<CloseReason>,
    hub: Hub,
    client: TcpStream,
    // Dropped last: where connections are tasks, they are tasks of this runtime.
    _runtime: tokio::runtime::Runtime,
}

/// A client that has its stream.
fn setting() -> Setting {
    setting_with(LagPolicy::Notify, |reactor| {
        reactor.stall_timeout(Duration::from_millis(50))
    })
}

fn setting_with(
    policy: LagPolicy,
    set_up: impl FnOnce(ReactorBuilder) -> ReactorBuilder,
) -> Setting {
    let sse = |hub: &Hub| hub.subscribe("a").unwrap().lag_policy(policy).into_sse();
    setting_of(sse, set_up)
}

fn setting_of(
    sse: impl FnOnce(&Hub) -> Sse,
    set_up: impl FnOnce(ReactorBuilder) -> ReactorBuilder,
) -> Setting {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let inside = runtime.enter();
    let (reasons_in, reasons) = mpsc::channel();
    let reactor = set_up(Reactor::builder())
        .send_buffer_bytes(4096)
        .on_close(move |closed| {
            // A test that has seen enough does not listen any more.
            let _ = reasons_in.send(closed.reason);
        })
        .build()
        .unwrap();
    drop(inside);
    let hub = Hub::builder()
        .history(true)
        .heartbeat(Duration::from_millis(60))
        .build()
        .unwrap();
    let (client, socket) = pair();
    reactor.adopt(socket, "the head\n", sse(&hub)).unwrap();
    let mut setting = Setting {
        reactor,
        reasons,
        hub,
        client,
        _runtime: runtime,
    };
    let mut head = [0; 9];
    setting.client.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"the head\n");
    setting
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(BOUND)).unwrap();
    (client, listener.accept().unwrap().0)
}

impl Setting {
    #[track_caller]
    fn ends(&self, expected: CloseReason) {
        assert_eq!(self.reasons.recv_timeout(BOUND).unwrap(), expected);
        eventually("the end of its subscription", || {
            self.hub.subscribers() == 0
        });
        eventually("its last count", || self.reactor.connections() == 0);
        let stats = self.reactor.stats();
        let counts = [
            (CloseReason::TopicClosed, stats.topic_closed),
            (CloseReason::PeerClosed, stats.closed_by_peer),
            (CloseReason::PeerReset, stats.reset_by_peer),
            (CloseReason::Stalled, stats.stalled),
            (CloseReason::Idle, stats.idle),
            (CloseReason::Lagged, stats.lagged),
            (CloseReason::TooMuchInput, stats.too_much_input),
            (CloseReason::Shutdown, stats.shut_down),
        ];
        let ended = matches!(expected, CloseReason::Ended(_));
        assert_eq!(stats.ended, u64::from(ended));
        let lagged = expected == CloseReason::Lagged;
        eventually("the hub's count", || {
            self.hub.stats().lagged == u64::from(lagged)
        });
        assert_eq!(stats.adopted, 1);
        for (reason, count) in counts {
            assert_eq!(count, u64::from(reason == expected), "{reason:?}");
        }
    }
}

#[test]
fn the_topic_ends() {
    let mut setting = setting();
    assert!(setting.hub.publish("a", Event::text("last")).is_ok());
    setting.hub.close();
    let mut rest = String::new();
    setting.client.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("data: last\n\n"), "{rest:?}");
    setting.ends(CloseReason::TopicClosed);
}

#[test]
fn the_client_goes() {
    let setting = setting();
    setting.client.shutdown(std::net::Shutdown::Both).unwrap();
    setting.ends(CloseReason::PeerClosed);
}

#[test]
fn the_client_takes_nothing() {
    let setting = setting();
    let text = "x".repeat(64 * 1024);
    // What the two sockets hold is the system's choice; in the end they are full.
    eventually("the end", || {
        assert!(setting.hub.publish("a", Event::text(&text)).is_ok());
        setting.reactor.connections() == 0
    });
    setting.ends(CloseReason::Stalled);
}

/// A full socket keeps the reader standing while the log goes on.
#[test]
fn the_client_comes_too_late() {
    let mut setting = setting_with(LagPolicy::Disconnect, |reactor| reactor);
    let text = "x".repeat(64 * 1024);
    for _ in 0..1000 {
        assert!(setting.hub.publish("a", Event::text(&text)).is_ok());
    }
    let mut all = String::new();
    setting.client.read_to_string(&mut all).unwrap();
    let told = all.lines().rev().nth(1).unwrap();
    assert!(told.starts_with("data: {\"missed\":"), "{told:?}");
    setting.ends(CloseReason::Lagged);
}

/// Signs of life are none of the topic's.
#[test]
fn nothing_is_published() {
    let mut setting = setting_with(LagPolicy::Disconnect, |reactor| {
        reactor
            .stall_timeout(Duration::from_millis(500))
            .idle_timeout(Duration::from_millis(300))
    });
    assert!(setting.hub.publish("a", Event::text("last")).is_ok());
    let mut all = String::new();
    setting.client.read_to_string(&mut all).unwrap();
    assert!(all.contains("data: last\n\n:\n\n"), "{all:?}");
    setting.ends(CloseReason::Idle);
}

#[test]
fn the_client_does_not_stop_talking() {
    let mut setting = setting();
    let text = [b'x'; 1024];
    eventually("the end", || {
        drop(setting.client.write_all(&text));
        setting.reactor.connections() == 0
    });
    setting.ends(CloseReason::TooMuchInput);
}

#[test]
fn the_reactor_is_shut_down() {
    let mut setting = setting();
    setting.reactor.shutdown();
    drop(setting.client.read_to_end(&mut Vec::new()));
    setting.ends(CloseReason::Shutdown);
    let sse = setting.hub.subscribe("a").unwrap().into_sse();
    let refused = setting.reactor.adopt(pair().1, "", sse);
    assert!(matches!(refused, Err(AdoptError::ShutDown)), "{refused:?}");
}

/// In sync, and behind with an event in the middle: nothing new begins, and the client learns why.
#[test]
fn it_is_ended_from_outside() {
    for behind in [false, true] {
        let (mut handle, reason) = (None, EndReason::Replaced);
        let mut setting = setting_of(
            |hub| {
                let mut subscription = hub.subscribe("a").unwrap();
                handle = Some(subscription.end_handle());
                subscription.into_sse()
            },
            |reactor| reactor,
        );
        let handle = handle.unwrap();
        let text = "x".repeat(512 * 1024);
        if behind {
            assert!(setting.hub.publish("a", Event::text(&text)).is_ok());
            // The first of it: the rest has no room yet.
            let mut some = [0; 100];
            setting.client.read_exact(&mut some).unwrap();
            assert!(setting.hub.publish("a", Event::text(&text)).is_ok());
        }
        assert!(handle.end(reason));
        let mut rest = String::new();
        setting.client.read_to_string(&mut rest).unwrap();
        assert!(
            rest.ends_with(&format!("\n\n: {reason}\n\n")),
            "{}",
            rest.len()
        );
        assert_eq!(rest.len() > text.len(), behind);
        assert!(rest.len() < 2 * text.len(), "the second one was not begun");
        setting.ends(CloseReason::Ended(reason));
        assert!(!handle.end(reason), "it is gone");
    }
}

#[test]
fn it_was_ended_before_it_came() {
    let mut setting = setting_of(
        |hub| {
            let mut subscription = hub.subscribe("a").unwrap();
            assert!(subscription.end_handle().end(EndReason::Unregistered));
            subscription.into_sse().with(hub.subscribe("b").unwrap())
        },
        |reactor| reactor,
    );
    let mut rest = String::new();
    setting.client.read_to_string(&mut rest).unwrap();
    let notice = format!(": {}\n\n", EndReason::Unregistered);
    assert!(rest.ends_with(&notice), "{rest:?}");
    setting.ends(CloseReason::Ended(EndReason::Unregistered));
}

/// Each topic in its own envelope, small and large, until the topics end.
#[test]
fn what_came_before_the_end_was_wrapped() {
    let mut setting = setting_of(
        |hub| {
            let envelope = |id| Envelope::new(format!("{{\"id\":{id},\"is\":"), "}").unwrap();
            let first = hub.subscribe("a").unwrap().envelope(envelope(1));
            let second = hub.subscribe("b").unwrap().envelope(envelope(2));
            first.into_sse().with(second)
        },
        |reactor| reactor,
    );
    let mut expected = Vec::new();
    for number in 0..300 {
        let text = if number == 100 {
            "x".repeat(100_000)
        } else {
            number.to_string()
        };
        for (id, key) in [(1, "a"), (2, "b")] {
            assert!(setting.hub.publish(key, Event::json(&text)).is_ok());
            expected.push(format!("data: {{\"id\":{id},\"is\":\"{text}\"}}"));
        }
    }
    setting.hub.close();
    let mut rest = String::new();
    setting.client.read_to_string(&mut rest).unwrap();
    for id in [1, 2] {
        let of_topic = |line: &&str| line.starts_with(&format!("data: {{\"id\":{id},"));
        let got = rest.lines().filter(of_topic);
        let all = expected.iter().map(String::as_str).filter(of_topic);
        assert!(got.eq(all), "topic {id}");
    }
    setting.ends(CloseReason::TopicClosed);
}
