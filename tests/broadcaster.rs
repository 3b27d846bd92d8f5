//! Typed events to all connections of a user: who is connected, by which name, and what becomes of the others.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "in a test, helpers included, a panic is the report, and threads are std's"
)]

mod common;

use std::collections::{HashMap, HashSet};
use std::sync::Barrier;
use std::task::{Context, Waker};
use std::thread;
use std::time::Instant;

use common::{Got, WAYS, Wakes, Way, block_on, events, frame};
use fanfare::{
    Broadcaster, EndReason, EventError, Hub, LagPolicy, LastEventId, MAX_CONNECTION_ID_BYTES,
    Notices, Payload, Resumed, Snapshot, SnapshotError, Subscription, ToSse, TryRecvError, UserId,
};

const ROUNDS: usize = if cfg!(miri) { 100 } else { 10_000 };

/// A text.
struct Said(&'static str);

impl ToSse for Said {
    fn to_sse(&self) -> fanfare::Event<'_, impl Payload> {
        fanfare::Event::text(self.0)
    }
}

/// A number whose connections skip what they are too late for.
struct Level(u64);

impl ToSse for Level {
    const LAG_POLICY: LagPolicy = LagPolicy::SkipToLatest;

    fn to_sse(&self) -> fanfare::Event<'_, impl Payload> {
        fanfare::Event::json(&self.0).name("level")
    }
}

fn ann() -> UserId {
    UserId::from("ann")
}

fn bob() -> UserId {
    UserId::from("bob")
}

fn say(to: &Broadcaster<Said>, user: &UserId, text: &'static str) -> usize {
    to.broadcast(user, &Said(text)).unwrap().subscribers()
}

/// Whether it goes on: it has nothing to read.
fn is_live(subscription: &mut Subscription) -> bool {
    match subscription.try_recv() {
        Err(TryRecvError::Empty) => true,
        Err(TryRecvError::Closed) => false,
        Ok(item) => panic!("{item:?}"),
    }
}

/// Numbers without a pattern.
fn next_random(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    usize::try_from(*seed >> 40).unwrap()
}

// ------------------------------------------------------------------------------------------------- who is connected

#[test]
fn all_connections_of_a_user_get_it_and_no_others() {
    for way in WAYS {
        let broadcaster = Broadcaster::<Said>::new();
        let mut tabs = ["1", "2", "3"].map(|tab| broadcaster.register(&ann(), tab).unwrap());
        let mut other = broadcaster.register(&bob(), "1").unwrap();
        assert_eq!(say(&broadcaster, &ann(), "hello"), 3);
        assert_eq!(say(&broadcaster, &bob(), "you"), 1);
        assert_eq!(say(&broadcaster, &UserId::from("cid"), "nobody"), 0);
        for tab in &mut tabs {
            assert_eq!(way.read(tab), events(["hello"]), "{way:?}");
        }
        assert_eq!(way.read(&mut other), events(["you"]), "{way:?}");
    }
}

#[test]
fn counts_follow() {
    let broadcaster = Broadcaster::<Said>::new();
    let counts = || {
        let info = broadcaster.connection_info();
        assert_eq!(info.connections, broadcaster.total_connections());
        assert_eq!(info.users, broadcaster.connected_users().len());
        assert_eq!(broadcaster.hub().subscribers(), info.connections);
        (
            info.users,
            info.connections,
            broadcaster.connection_count(&ann()),
        )
    };
    assert_eq!(counts(), (0, 0, 0));
    let a1 = broadcaster.register(&ann(), "1").unwrap();
    let a2 = broadcaster.register(&ann(), "2").unwrap();
    let b1 = broadcaster.register(&bob(), "1").unwrap();
    assert_eq!(counts(), (2, 3, 2));
    let mut users = broadcaster.connected_users();
    users.sort();
    assert_eq!(users, [ann(), bob()]);
    drop(a1);
    assert_eq!(counts(), (2, 2, 1));
    drop(a2);
    assert_eq!(counts(), (1, 1, 0));
    assert_eq!(broadcaster.connected_users(), [bob()]);
    drop(b1);
    assert_eq!(counts(), (0, 0, 0));
    assert_eq!(broadcaster.hub().topics(), 0);
}

#[test]
fn connections_tell_their_names_and_since_when() {
    let broadcaster = Broadcaster::<Said>::new();
    assert!(broadcaster.connections(&ann()).is_empty());
    let before = Instant::now();
    let _one = broadcaster.register(&ann(), "tab-1").unwrap();
    let between = Instant::now();
    let _two = broadcaster.register(&ann(), "").unwrap();
    let after = Instant::now();
    let mut all = broadcaster.connections(&ann());
    all.sort_by_key(|connected| connected.since);
    assert_eq!(
        all.iter().map(|it| &*it.id).collect::<Vec<_>>(),
        ["tab-1", ""]
    );
    assert!(before <= all[0].since && all[0].since <= between);
    assert!(between <= all[1].since && all[1].since <= after);
    // A newer one of the same name is another connection.
    let _one = broadcaster.register(&ann(), "tab-1").unwrap();
    let again = broadcaster.connections(&ann());
    let again = again.iter().find(|it| &*it.id == "tab-1").unwrap();
    assert!(again.since >= after && again != &all[0]);
}

#[test]
fn any_type_is_a_key() {
    let rooms = Broadcaster::<Said, u64>::default();
    let mut seven = rooms.register(&7, "a").unwrap();
    assert_eq!(rooms.broadcast(&7, &Said("x")).unwrap().subscribers(), 1);
    assert_eq!(rooms.broadcast(&8, &Said("y")).unwrap().subscribers(), 0);
    assert_eq!(Way::TryRecv.read(&mut seven), events(["x"]));

    let pairs = Broadcaster::<Said, (String, u8)>::default();
    let key = ("tenant".to_owned(), 1);
    let _one = pairs.register(&key, "a").unwrap();
    assert_eq!(pairs.connected_users(), [key]);
}

#[test]
fn a_user_id_is_found_by_its_text() {
    let broadcaster = Broadcaster::<Said>::new();
    let _tab = broadcaster.register(&ann(), "1").unwrap();
    assert_eq!(broadcaster.hub().subscribers_of("ann"), 1);
    assert_eq!(HashMap::from([(ann(), 1)]).get("ann"), Some(&1));
    assert_eq!(serde_json::to_string(&ann()).unwrap(), r#""ann""#);
    assert_eq!(serde_json::from_str::<UserId>(r#""ann""#).unwrap(), ann());
    assert_eq!(
        (ann().as_str().len(), UserId::from(String::from("ann"))),
        (3, ann())
    );
}

// ------------------------------------------------------------------------------------------------- replaced and gone

#[test]
fn a_newer_one_of_the_same_name_replaces_it() {
    for way in WAYS {
        let broadcaster = Broadcaster::<Said>::new();
        let mut older = broadcaster.register(&ann(), "tab").unwrap();
        // The same name of another user, and another name of this one, are others.
        let mut others = [(bob(), "tab"), (ann(), "tab-2")]
            .map(|(user, tab)| broadcaster.register(&user, tab).unwrap());
        assert_eq!(say(&broadcaster, &ann(), "unread"), 2);
        let mut newer = broadcaster.register(&ann(), "tab").unwrap();
        assert_eq!(way.read(&mut older), [Got::End], "{way:?}");
        assert_eq!(older.end_reason(), Some(EndReason::Replaced));
        assert_eq!(broadcaster.connection_count(&ann()), 2);
        assert_eq!(broadcaster.total_connections(), 3);
        assert_eq!(
            (
                broadcaster.stats().replaced,
                broadcaster.stats().unregistered
            ),
            (1, 0)
        );
        let _ = say(&broadcaster, &ann(), "now");
        assert_eq!(way.read(&mut newer), events(["now"]), "{way:?}");
        assert_eq!(way.read(&mut others[0]), []);
        assert_eq!(way.read(&mut others[1]), events(["unread", "now"]));
    }
}

#[test]
fn the_drop_of_an_older_one_does_not_take_the_newer_one() {
    let broadcaster = Broadcaster::<Said>::new();
    let mut generations: Vec<_> = (0..20)
        .map(|_| broadcaster.register(&ann(), "tab").unwrap())
        .collect();
    let mut newest = generations.pop().unwrap();
    assert_eq!(
        broadcaster.hub().subscribers(),
        20,
        "the ended ones are not read yet"
    );
    for older in generations {
        drop(older);
        assert_eq!(broadcaster.connection_count(&ann()), 1);
    }
    assert_eq!(say(&broadcaster, &ann(), "x"), 1);
    assert_eq!(Way::Recv.read(&mut newest), events(["x"]));
    assert!(broadcaster.unregister(&ann(), "tab"));
    assert!(!is_live(&mut newest));
    assert_eq!(broadcaster.stats().replaced, 19);
}

#[test]
fn who_waits_is_woken_when_it_is_replaced_or_unregistered() {
    let broadcaster = Broadcaster::<Said>::new();
    for reason in [EndReason::Replaced, EndReason::Unregistered] {
        let mut tab = broadcaster.register(&ann(), "tab").unwrap();
        let (woken, waker) = Wakes::new();
        assert!(tab.poll_recv(&mut Context::from_waker(&waker)).is_pending());
        let newer = if reason == EndReason::Replaced {
            Some(broadcaster.register(&ann(), "tab").unwrap())
        } else {
            assert!(broadcaster.unregister(&ann(), "tab"));
            None
        };
        assert_eq!(woken.count(), 1, "{reason:?}");
        assert!(block_on(tab.recv()).is_none());
        assert_eq!(tab.end_reason(), Some(reason));
        drop(newer);
    }
}

#[test]
fn unregistering() {
    let broadcaster = Broadcaster::<Said>::new();
    assert!(!broadcaster.unregister(&ann(), "tab"));
    let mut tab = broadcaster.register(&ann(), "tab").unwrap();
    assert!(!broadcaster.unregister(&ann(), "other"));
    assert!(!broadcaster.unregister(&bob(), "tab"));
    let _ = say(&broadcaster, &ann(), "unread");
    assert!(broadcaster.unregister(&ann(), "tab"));
    assert!(!broadcaster.unregister(&ann(), "tab"));
    assert_eq!(broadcaster.connection_info().connections, 0);
    assert_eq!(Way::Recv.read(&mut tab), [Got::End]);
    assert_eq!(tab.end_reason(), Some(EndReason::Unregistered));
    // The name is free, and the older one's drop is none of the newer one's business.
    let mut newer = broadcaster.register(&ann(), "tab").unwrap();
    drop(tab);
    assert_eq!(broadcaster.connection_count(&ann()), 1);
    assert!(is_live(&mut newer));
    let stats = broadcaster.stats();
    assert_eq!((stats.replaced, stats.unregistered), (0, 1));
}

#[test]
fn an_end_handle_ends_a_connection_and_its_drop_unregisters_it() {
    let broadcaster = Broadcaster::<Said>::new();
    let mut tab = broadcaster.register(&ann(), "tab").unwrap();
    let handle = tab.end_handle();
    assert!(handle.end(EndReason::Requested));
    assert_eq!(
        broadcaster.connection_count(&ann()),
        1,
        "until it is dropped"
    );
    let _newer = broadcaster.register(&ann(), "tab").unwrap();
    assert!(!is_live(&mut tab));
    assert_eq!(
        tab.end_reason(),
        Some(EndReason::Requested),
        "the first reason stands"
    );
    drop(tab);
    assert_eq!(broadcaster.connection_count(&ann()), 1);
}

/// No runtime, on any thread, amid a panic.
#[test]
fn dropping_it_anywhere_unregisters() {
    let broadcaster = Broadcaster::<Said>::new();
    let tab = broadcaster.register(&ann(), "tab").unwrap();
    thread::spawn(move || drop(tab)).join().unwrap();
    assert_eq!(broadcaster.connection_count(&ann()), 0);
    let tab = broadcaster.register(&ann(), "tab").unwrap();
    let panicked = thread::spawn(move || {
        let _tab = tab;
        panic!("as it was told");
    });
    assert!(panicked.join().is_err());
    assert_eq!(broadcaster.total_connections(), 0);
    // The broadcaster may go first.
    let mut tab = broadcaster.register(&ann(), "tab").unwrap();
    drop(broadcaster);
    assert!(!is_live(&mut tab), "the hub went with it");
    assert_eq!(tab.end_reason(), Some(EndReason::TopicClosed));
}

#[cfg(feature = "axum")]
#[test]
fn a_body_is_a_connection_until_it_is_dropped() {
    use axum::response::IntoResponse as _;

    let broadcaster = Broadcaster::<Said>::new();
    let body = broadcaster
        .register(&ann(), "1")
        .unwrap()
        .into_sse()
        .into_body();
    let response = broadcaster
        .register(&ann(), "2")
        .unwrap()
        .into_sse()
        .into_response();
    let sse = broadcaster.register(&bob(), "3").unwrap().into_sse();
    assert_eq!(broadcaster.total_connections(), 3);
    drop(body);
    assert_eq!(broadcaster.total_connections(), 2);
    drop(response);
    assert_eq!(broadcaster.connection_count(&ann()), 0);
    drop(sse);
    assert_eq!(broadcaster.total_connections(), 0);
}

#[cfg(feature = "axum")]
#[test]
fn the_client_of_an_older_connection_is_told_by_a_comment() {
    use http_body_util::BodyExt as _;

    let broadcaster = Broadcaster::<Said>::new();
    let older = broadcaster
        .register(&ann(), "tab")
        .unwrap()
        .into_sse()
        .into_body();
    let _ = say(&broadcaster, &ann(), "unread");
    let _newer = broadcaster.register(&ann(), "tab").unwrap();
    let all = block_on(older.collect()).unwrap().to_bytes();
    assert_eq!(
        std::str::from_utf8(&all).unwrap(),
        ":\n\n: this connection was replaced by a newer one with the same id\n\n"
    );
}

// ------------------------------------------------------------------------------------------------- hubs and limits

#[test]
fn ids_are_off_unless_the_hub_has_them() {
    let plain = Broadcaster::<Said>::new();
    let mut tab = plain.register(&ann(), "tab").unwrap();
    let published = plain.broadcast(&ann(), &Said("x")).unwrap();
    assert!(
        published.id().is_some(),
        "where it stands is known all the same"
    );
    let got = frame(tab.try_recv());
    assert_eq!((got.id(), got.as_sse()), (None, &b"data: x\n\n"[..]));

    let hub = Hub::builder().history(true).build_keyed().unwrap();
    let with_ids = Broadcaster::<Said>::with_hub(hub);
    let first = with_ids.broadcast(&ann(), &Said("kept")).unwrap();
    let second = with_ids.broadcast(&ann(), &Said("too")).unwrap();
    let mut tab = with_ids.register_from(&ann(), "tab", first.id()).unwrap();
    assert_eq!(tab.resumed(), Resumed::Continued);
    assert_eq!(with_ids.connection_count(&ann()), 1);
    let got = frame(tab.try_recv());
    assert_eq!((got.id(), &*got.data()), (second.id(), "too"));
    let strange = LastEventId::parse(b"4711");
    let newer = with_ids.register_from(&ann(), "tab", strange).unwrap();
    assert_eq!(newer.resumed(), Resumed::Unknown);
    assert!(!is_live(&mut tab), "replaced");
}

#[test]
fn to_all_users_at_once() {
    let broadcaster = Broadcaster::<Said>::new();
    let none = broadcaster.broadcast_all(&Said("nobody")).unwrap();
    assert_eq!((none.topics(), none.subscribers()), (0, 0));
    let mut tabs = [(ann(), "1"), (ann(), "2"), (bob(), "1")]
        .map(|(user, tab)| broadcaster.register(&user, tab).unwrap());
    let sent = broadcaster.broadcast_all(&Said("lunch")).unwrap();
    assert_eq!((sent.topics(), sent.subscribers()), (2, 3));
    let frames = tabs.each_mut().map(|tab| frame(tab.try_recv()));
    for one in &frames {
        assert_eq!(one.as_sse(), b"data: lunch\n\n");
        assert_eq!(
            one.as_sse().as_ptr(),
            frames[0].as_sse().as_ptr(),
            "one frame for all"
        );
    }
}

#[test]
fn a_topic_handle_publishes_and_tells_whether_anybody_listens() {
    let broadcaster = Broadcaster::<Said>::new();
    let topic = broadcaster.topic(&ann()).unwrap();
    let mut interest = topic.interest();
    let tab = broadcaster.register(&ann(), "tab").unwrap();
    block_on(interest.subscribed()).unwrap();
    assert_eq!(topic.publish(Said("x").to_sse()).unwrap().subscribers(), 1);
    drop(tab);
    block_on(interest.deserted(std::time::Duration::ZERO));
}

#[test]
fn who_cannot_keep_up_is_closed() {
    let hub = Hub::builder()
        .event_ids(false)
        .retain_events(4)
        .build_keyed()
        .unwrap();
    let broadcaster = Broadcaster::<Said>::with_hub(hub);
    let mut slow = broadcaster.register(&ann(), "slow").unwrap();
    for _ in 0..100 {
        let _ = say(&broadcaster, &ann(), "x");
    }
    let got = Way::Recv.read(&mut slow);
    assert!(
        matches!(got[..], [Got::Lag(Some(1..)), Got::End]),
        "{got:?}"
    );
    assert_eq!(slow.end_reason(), Some(EndReason::Lagged));
    // It takes a fresh start by the same name.
    let mut fresh = broadcaster.register(&ann(), "slow").unwrap();
    drop(slow);
    assert_eq!(broadcaster.stats().lagged, 1, "counted with its drop");
    assert_eq!(say(&broadcaster, &ann(), "y"), 1);
    assert_eq!(Way::Recv.read(&mut fresh), events(["y"]));
}

#[cfg(feature = "axum")]
#[test]
fn lag_is_told_by_a_comment_and_the_stream_ends() {
    use http_body_util::BodyExt as _;

    let hub = Hub::builder()
        .event_ids(false)
        .retain_events(4)
        .build_keyed()
        .unwrap();
    let broadcaster = Broadcaster::<Said>::with_hub(hub);
    let slow = broadcaster
        .register(&ann(), "slow")
        .unwrap()
        .into_sse()
        .into_body();
    for _ in 0..100 {
        let _ = say(&broadcaster, &ann(), "x");
    }
    let all = block_on(slow.collect()).unwrap().to_bytes();
    let all = std::str::from_utf8(&all).unwrap();
    assert!(all.starts_with(":\n\n: lag, "), "{all}");
    assert!(
        all.ends_with(" events missed\n: this connection fell too far behind\n\n"),
        "{all}"
    );
    assert!(!all.contains("data"), "{all}");
    assert_eq!(broadcaster.stats().lagged, 1);
}

#[test]
fn the_lag_policy_is_the_events_or_the_handles() {
    fn overrun(levels: &Broadcaster<Level>) -> Vec<Got> {
        let mut slow = levels.register(&ann(), "slow").unwrap();
        for number in 0..100 {
            let _ = levels.broadcast(&ann(), &Level(number)).unwrap();
        }
        Way::TryRecv.read(&mut slow)
    }
    let hub = Hub::builder()
        .event_ids(false)
        .retain_events(4)
        .build_keyed()
        .unwrap();
    let levels = Broadcaster::<Level>::with_hub(hub);
    assert_eq!(overrun(&levels), [Got::Lag(Some(99)), common::event(99)]);
    // Through this handle only.
    let notify = levels.clone().lag_policy(LagPolicy::Notify);
    let got = overrun(&notify);
    assert!(
        matches!(got[0], Got::Lag(Some(1..99))) && got.len() > 2,
        "{got:?}"
    );
    assert_eq!(got.last(), Some(&common::event(99)));
    assert_eq!(overrun(&levels).len(), 2);
    assert_eq!(
        overrun(&levels.lag_policy(LagPolicy::Disconnect)).last(),
        Some(&Got::End)
    );
    assert_eq!(
        Said::LAG_POLICY,
        LagPolicy::Disconnect,
        "unless it says otherwise"
    );
    assert_eq!(Notices::default(), Notices::Events, "a plain subscription");
}

#[test]
fn names_have_a_limit() {
    let user = ann();
    let broadcaster = Broadcaster::<Said>::new();
    let longest = "x".repeat(MAX_CONNECTION_ID_BYTES);
    let _tab = broadcaster.register(&ann(), &longest).unwrap();
    let too_long = format!("{longest}x");
    let limit = MAX_CONNECTION_ID_BYTES;
    let refused = |error| matches!(error, EventError::ConnectionIdTooLong { limit: l, len } if l == limit && len == limit + 1);
    assert!(refused(
        broadcaster.register(&ann(), &too_long).unwrap_err()
    ));
    let resumed = broadcaster.register_from(&ann(), &too_long, LastEventId::none());
    assert!(refused(resumed.unwrap_err()));
    let mut asked = false;
    let taken = broadcaster.register_with_snapshot(&user, &too_long, |_| {
        asked = true;
        std::future::ready(Ok::<_, ()>(Snapshot::default()))
    });
    let error = block_on(taken).unwrap_err();
    assert_eq!(
        error,
        SnapshotError::ConnectionIdTooLong {
            limit,
            len: limit + 1
        }
    );
    assert!(!asked, "refused before anybody is asked");
    assert_eq!(broadcaster.total_connections(), 1);
    assert_eq!(broadcaster.hub().subscribers(), 1);
    assert!(!broadcaster.unregister(&ann(), &too_long));
}

#[test]
fn a_closed_hub_refuses() {
    let user = ann();
    let broadcaster = Broadcaster::<Said>::new();
    let mut tab = broadcaster.register(&ann(), "tab").unwrap();
    let _ = say(&broadcaster, &ann(), "before");
    broadcaster.hub().close();
    let closed = |error| matches!(error, EventError::Closed);
    assert!(closed(broadcaster.register(&ann(), "tab").unwrap_err()));
    let resumed = broadcaster.register_from(&ann(), "tab", LastEventId::none());
    assert!(closed(resumed.unwrap_err()));
    assert!(closed(
        broadcaster.broadcast(&ann(), &Said("x")).unwrap_err()
    ));
    assert!(closed(
        broadcaster.broadcast(&bob(), &Said("x")).unwrap_err()
    ));
    assert!(closed(broadcaster.broadcast_all(&Said("x")).unwrap_err()));
    assert!(closed(broadcaster.topic(&ann()).unwrap_err()));
    let taken = broadcaster.register_with_snapshot(&user, "tab", |_| {
        std::future::ready(Ok::<_, ()>(Snapshot::default()))
    });
    assert_eq!(block_on(taken).unwrap_err(), SnapshotError::Closed);
    // What was refused has replaced nobody, and what was published before is read.
    assert_eq!(
        Way::Recv.read(&mut tab),
        [common::event("before"), Got::End]
    );
    assert_eq!(tab.end_reason(), Some(EndReason::TopicClosed));
    assert_eq!(
        (
            broadcaster.total_connections(),
            broadcaster.stats().replaced
        ),
        (1, 0)
    );
    drop(tab);
    assert_eq!(broadcaster.total_connections(), 0);
}

#[test]
fn what_is_too_large_is_refused() {
    let hub = Hub::builder().max_event_bytes(4).build_keyed().unwrap();
    let broadcaster = Broadcaster::<Said>::with_hub(hub);
    let mut tab = broadcaster.register(&ann(), "tab").unwrap();
    assert_eq!(say(&broadcaster, &ann(), "four"), 1);
    for refused in [
        broadcaster.broadcast(&ann(), &Said("fives")).map(drop),
        broadcaster.broadcast_all(&Said("fives")).map(drop),
        broadcaster.encode(&Said("fives")).map(drop),
    ] {
        assert!(matches!(refused, Err(EventError::Encode(_))));
    }
    assert_eq!(Way::Recv.read(&mut tab), events(["four"]));
    assert_eq!(
        broadcaster.encode(&Said("four")).unwrap().as_sse(),
        b"data: four\n\n"
    );
}

#[test]
fn clones_share_everything_but_the_policy() {
    let broadcaster = Broadcaster::<Said>::new();
    let clone = broadcaster.clone();
    let mut older = broadcaster.register(&ann(), "tab").unwrap();
    let _newer = clone.register(&ann(), "tab").unwrap();
    assert!(!is_live(&mut older));
    assert_eq!(broadcaster.total_connections(), 1);
    assert_eq!(clone.stats(), broadcaster.stats());
    assert!(format!("{clone:?}").contains("Broadcaster"));
}

// ------------------------------------------------------------------------------------------------- snapshots

#[test]
fn a_snapshot_comes_first_and_the_connection_is_registered_behind_it() {
    let user = ann();
    let broadcaster = Broadcaster::<Said>::new();
    let mut older = broadcaster.register(&ann(), "tab").unwrap();
    let taken = broadcaster.register_with_snapshot(&user, "tab", |_| {
        assert_eq!(broadcaster.stats().replaced, 0, "not yet");
        let _ = say(&broadcaster, &ann(), "meanwhile");
        let state = broadcaster.encode(&Said("state"));
        async move { state.map(|state| Snapshot::new(vec![state])) }
    });
    let mut newer = block_on(taken).unwrap();
    assert!(!is_live(&mut older), "replaced");
    let _ = say(&broadcaster, &ann(), "later");
    assert_eq!(
        Way::Recv.read(&mut newer),
        events(["state", "meanwhile", "later"])
    );
}

#[test]
fn a_registration_that_is_cancelled_or_fails_did_nothing() {
    let user = ann();
    let broadcaster = Broadcaster::<Said>::new();
    let mut older = broadcaster.register(&ann(), "tab").unwrap();
    {
        let never = broadcaster.register_with_snapshot(&user, "tab", |_| {
            std::future::pending::<Result<Snapshot, ()>>()
        });
        let mut never = std::pin::pin!(never);
        let poll = never.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending());
        assert_eq!(broadcaster.hub().subscribers(), 2);
        assert_eq!(broadcaster.connection_count(&ann()), 1);
    }
    let failed =
        broadcaster.register_with_snapshot(&user, "tab", |_| std::future::ready(Err("no state")));
    assert_eq!(
        block_on(failed).unwrap_err(),
        SnapshotError::Snapshot("no state")
    );
    assert_eq!(broadcaster.hub().subscribers(), 1);
    assert!(is_live(&mut older));
    assert_eq!(broadcaster.stats().replaced, 0);
}

// ------------------------------------------------------------------------------------------------- threads

/// Two threads register, replace, drop and unregister the same few names.
#[test]
fn counts_are_exact_when_all_is_quiet() {
    let broadcaster = Broadcaster::<Said>::new();
    let users = ["ann", "bob"].map(UserId::from);
    let names = ["1", "2", "3"];
    let quiet = Barrier::new(2);
    let work = |mut seed: u64| {
        let mut held = Vec::<Subscription>::new();
        let mut registered = 0_u64;
        quiet.wait();
        for _ in 0..ROUNDS {
            let user = &users[next_random(&mut seed) % users.len()];
            let name = names[next_random(&mut seed) % names.len()];
            match next_random(&mut seed) % 4 {
                0 | 1 => {
                    held.push(broadcaster.register(user, name).unwrap());
                    registered += 1;
                }
                2 if !held.is_empty() => {
                    let one = next_random(&mut seed) % held.len();
                    drop(held.swap_remove(one));
                }
                _ => drop(broadcaster.unregister(user, name)),
            }
        }
        (held, registered)
    };
    let (mut held, registered) = thread::scope(|scope| {
        let other = scope.spawn(|| work(2));
        let (mut held, mut registered) = work(1);
        let (others, by_other) = other.join().unwrap();
        held.extend(others);
        registered += by_other;
        (held, registered)
    });
    assert_eq!(broadcaster.hub().subscribers(), held.len());
    let live = held
        .iter_mut()
        .filter_map(|it| is_live(it).then_some(()))
        .count();
    let count = |user| broadcaster.connection_count(user);
    assert_eq!(users.iter().map(count).sum::<usize>(), live);
    assert_eq!(broadcaster.total_connections(), live);
    let info = broadcaster.connection_info();
    assert_eq!(
        (info.connections, info.users),
        (live, users.iter().filter(|it| count(it) > 0).count())
    );
    for user in &users {
        let names: HashSet<_> = broadcaster
            .connections(user)
            .into_iter()
            .map(|it| it.id)
            .collect();
        assert_eq!(names.len(), count(user), "each name once");
    }
    let stats = broadcaster.stats();
    assert!(stats.replaced + stats.unregistered + live as u64 <= registered);
    // The ended ones first: none of them takes a live one along.
    held.sort_by_key(|it| it.end_reason().is_none());
    let mut left = live;
    for subscription in held {
        left -= usize::from(subscription.end_reason().is_none());
        drop(subscription);
        assert_eq!(broadcaster.total_connections(), left);
    }
    assert_eq!(
        (info_of(&broadcaster), broadcaster.hub().topics()),
        ((0, 0), 0)
    );
}

fn info_of(broadcaster: &Broadcaster<Said>) -> (usize, usize) {
    let info = broadcaster.connection_info();
    (info.users, info.connections)
}

/// However they race, the one whose `register` returned last is the one that stays, or each is told that it is not.
#[test]
fn of_those_who_register_one_name_at_once_one_stays() {
    let broadcaster = Broadcaster::<Said>::new();
    for _ in 0..ROUNDS / 20 {
        let begin = Barrier::new(3);
        let register = || {
            begin.wait();
            broadcaster.register(&ann(), "tab").unwrap()
        };
        let mut all = thread::scope(|scope| {
            let others = [scope.spawn(register), scope.spawn(register)];
            let mine = register();
            let [a, b] = others.map(|other| other.join().unwrap());
            [mine, a, b]
        });
        let live = all.each_mut().map(is_live);
        assert_eq!(live.iter().filter(|live| **live).count(), 1, "{live:?}");
        assert_eq!(info_of(&broadcaster), (1, 1));
        assert_eq!(broadcaster.hub().subscribers(), 3);
    }
    assert_eq!(info_of(&broadcaster), (0, 0));
}

/// A connection that goes on gets all events between its first and its last, whoever is replaced beside it.
#[test]
fn events_are_whole_while_others_come_and_go() {
    let hub = Hub::builder()
        .event_ids(false)
        .retain_events(1 << 15)
        .build_keyed()
        .unwrap();
    let broadcaster = Broadcaster::<Level>::with_hub(hub).lag_policy(LagPolicy::Disconnect);
    let mut steady = broadcaster.register(&ann(), "steady").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..ROUNDS as u64 {
                let sent = broadcaster.broadcast(&ann(), &Level(number)).unwrap();
                assert!(sent.subscribers() >= 1);
            }
        });
        scope.spawn(|| {
            let mut last = None;
            for _ in 0..ROUNDS / 10 {
                last = Some(broadcaster.register(&ann(), "tab").unwrap());
            }
            drop(last);
        });
        for number in 0..ROUNDS as u64 {
            match block_on(steady.recv()) {
                Some(fanfare::Item::Frame(frame)) => assert_eq!(frame.data(), number.to_string()),
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(info_of_levels(&broadcaster), (1, 1));
}

fn info_of_levels(broadcaster: &Broadcaster<Level>) -> (usize, usize) {
    let info = broadcaster.connection_info();
    (info.users, info.connections)
}

/// A gap that is told only by a comment stays a gap: the client keeps its id, and the server sees it when it comes back.
#[cfg(feature = "http-body")]
#[test]
fn a_connection_that_lagged_comes_back_with_its_gap() {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    let hub = Hub::builder().history(true).retain_events(64);
    let pings = Broadcaster::<Said>::with_hub(hub.build_keyed().unwrap());
    let seen = pings.broadcast(&ann(), &Said("seen")).unwrap().id();
    let subscription = pings.register_from(&ann(), "tab", seen).unwrap();
    assert_eq!(subscription.resumed(), fanfare::Resumed::Continued);
    for _ in 0..1000 {
        let _ = pings.broadcast(&ann(), &Said("missed")).unwrap();
    }
    let mut body = subscription.into_sse().prime(false).into_body();
    let mut all = String::new();
    while let Some(frame) = body.frame().now_or_never().unwrap() {
        let chunk = frame.unwrap().into_data().unwrap();
        all.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    drop(body);
    let lag = all.strip_prefix(":\n\n: lag, ").unwrap();
    assert!(
        lag.ends_with(" events missed\n: this connection fell too far behind\n\n"),
        "{all}"
    );
    assert!(!all.contains("id:"), "{all}");
    assert_eq!(pings.stats().lagged, 1);
    let again = pings.register_from(&ann(), "tab", seen).unwrap();
    assert!(matches!(again.resumed(), fanfare::Resumed::Gap { missed } if missed > 800));
}
