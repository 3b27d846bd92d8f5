//! What readers choose: filters, all but their own events, the newest of a kind.

#![allow(
    clippy::unwrap_used,
    reason = "in a test, helpers included, a panic is the report"
)]

mod common;

use std::cell::Cell;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::eventually;
use fanfare::{
    Conflation, EndReason, Event, EventId, Frame, Hub, Item, Lag, LagPolicy, ReaderId, Readiness,
    Snapshot, Subscription, TryRecvError,
};
use futures_util::{FutureExt as _, StreamExt as _};
use proptest::prelude::*;

fn hub() -> Hub {
    Hub::builder().event_ids(true).build().unwrap()
}

fn publish(hub: &Hub, text: &str) {
    let _ = hub.publish("a", Event::text(text).name("n")).unwrap();
}

fn is_even(frame: &Frame) -> bool {
    frame.data().parse::<u64>().unwrap() % 2 == 0
}

/// All ways to read, each until there is nothing more.
const WAYS: [fn(&mut Subscription) -> Vec<Read>; 6] = [
    by_try_recv,
    by_recv,
    by_stream,
    by_next_frame,
    by_for_each,
    by_ready,
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Read {
    Frame(String),
    Lagged(Option<u64>),
}

fn item(item: Item) -> Read {
    match item {
        Item::Frame(frame) => Read::Frame(frame.data().into_owned()),
        Item::Lagged(lag) => Read::Lagged(lag.missed()),
        _ => unreachable!("there is no other item"),
    }
}

fn by_try_recv(subscription: &mut Subscription) -> Vec<Read> {
    std::iter::from_fn(|| subscription.try_recv().ok().map(item)).collect()
}

fn by_recv(subscription: &mut Subscription) -> Vec<Read> {
    std::iter::from_fn(|| subscription.recv().now_or_never().flatten().map(item)).collect()
}

fn by_stream(subscription: &mut Subscription) -> Vec<Read> {
    std::iter::from_fn(|| subscription.next().now_or_never().flatten().map(item)).collect()
}

fn lagged(lag: Option<Lag>) -> impl Iterator<Item = Read> {
    lag.map(|lag| Read::Lagged(lag.missed())).into_iter()
}

fn by_next_frame(subscription: &mut Subscription) -> Vec<Read> {
    let mut read = Vec::new();
    while let Ok(mut batch) = subscription.try_batch() {
        let before = read.len();
        read.extend(lagged(batch.lag()));
        while let Some(frame) = batch.next_frame() {
            read.push(Read::Frame(frame.data().into_owned()));
        }
        assert!(read.len() > before, "a batch is not empty");
    }
    read
}

fn by_for_each(subscription: &mut Subscription) -> Vec<Read> {
    let mut read = Vec::new();
    while let Some(Some(mut batch)) = subscription.recv_batch().now_or_never() {
        let before = read.len();
        read.extend(lagged(batch.lag()));
        let told = batch.for_each(|frame| read.push(Read::Frame(frame.data().into_owned())));
        assert_eq!(
            read.len() - before,
            told + usize::from(batch.lag().is_some())
        );
        assert!(read.len() > before, "a batch is not empty");
    }
    read
}

fn by_ready(subscription: &mut Subscription) -> Vec<Read> {
    let mut read = Vec::new();
    loop {
        let mut cx = Context::from_waker(Waker::noop());
        match subscription.poll_ready(&mut cx) {
            Poll::Ready(Readiness::Readable) => {}
            _ => return read,
        }
        let mut batch = subscription.try_batch().unwrap();
        read.extend(lagged(batch.lag()));
        // One at a time: the rest stays.
        if let Some(frame) = batch.next_frame() {
            read.push(Read::Frame(frame.data().into_owned()));
        } else {
            assert!(batch.lag().is_some(), "what is readable gives something");
        }
    }
}

fn frames(texts: &[&str]) -> Vec<Read> {
    texts.iter().map(|&text| Read::Frame(text.into())).collect()
}

#[test]
fn a_filter_is_asked_once_for_each_event_in_every_way_of_reading() {
    for way in WAYS {
        let hub = hub();
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let mut subscription = hub.subscribe("a").unwrap().filter(move |frame| {
            count.fetch_add(1, Relaxed);
            is_even(frame)
        });
        for number in 0..100 {
            publish(&hub, &number.to_string());
        }
        let expected = (0..100).step_by(2).map(|it| Read::Frame(it.to_string()));
        assert_eq!(way(&mut subscription), expected.collect::<Vec<_>>());
        assert_eq!(asked.load(Relaxed), 100);
        assert_eq!(subscription.position().offset(), 100);
        hub.close();
        assert_eq!(way(&mut subscription), []);
        assert!(matches!(subscription.try_recv(), Err(TryRecvError::Closed)));
    }
}

#[test]
fn several_filters_all_must_want_it() {
    let hub = hub();
    let mut subscription = hub
        .subscribe("a")
        .unwrap()
        .filter(is_even)
        .filter(|frame| frame.data() != "2");
    for text in ["1", "2", "4"] {
        publish(&hub, text);
    }
    assert_eq!(by_try_recv(&mut subscription), frames(&["4"]));
}

struct Count(AtomicU64);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// A backlog of which nothing is wanted is passed once, and the reader parks.
#[test]
fn a_reader_that_wants_none_of_its_backlog_parks() {
    let hub = hub();
    let mut subscription = hub.subscribe("a").unwrap().filter(is_even);
    let count = Arc::new(Count(AtomicU64::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    for _ in 0..3 {
        publish(&hub, "1");
    }
    assert!(subscription.poll_ready(&mut cx).is_pending());
    assert_eq!(subscription.position().offset(), 3);
    assert!(matches!(
        subscription.try_batch().map(drop),
        Err(TryRecvError::Empty)
    ));
    assert!(matches!(subscription.try_recv(), Err(TryRecvError::Empty)));
    publish(&hub, "3");
    assert_eq!(count.0.load(Relaxed), 1);
    assert!(subscription.poll_recv(&mut cx).is_pending());
    publish(&hub, "4");
    assert_eq!(count.0.load(Relaxed), 2);
    assert_eq!(
        subscription.poll_ready(&mut cx),
        Poll::Ready(Readiness::Readable)
    );
    // Nothing was taken.
    assert_eq!(by_try_recv(&mut subscription), frames(&["4"]));
}

#[test]
fn a_filter_that_panics_skips_its_event_and_harms_nothing() {
    for conflated in [false, true] {
        for way in WAYS {
            let hub = hub();
            let mut other = hub.subscribe("a").unwrap();
            let mut subscription = hub.subscribe("a").unwrap().filter(|frame| {
                assert!(!frame.data().starts_with('p'), "a filter");
                true
            });
            if conflated {
                subscription = subscription.conflate(Conflation::ByKey);
            }
            for text in ["1", "p", "2", "p2", "p3", "3"] {
                publish(&hub, text);
            }
            let mut read = Vec::new();
            let mut panics = 0;
            loop {
                match catch_unwind(AssertUnwindSafe(|| subscription.try_recv())) {
                    Err(_) => panics += 1,
                    Ok(Ok(found)) => read.push(item(found)),
                    Ok(Err(_)) => break,
                }
            }
            assert_eq!((panics, &read), (3, &frames(&["1", "2", "3"])));
            assert_eq!(way(&mut other).len(), 6);
            publish(&hub, "4");
            assert_eq!(way(&mut subscription), frames(&["4"]));
        }
    }
}

#[test]
fn the_sender_is_left_out() {
    for way in WAYS {
        let hub = hub();
        let (one, two) = (ReaderId::unique(), ReaderId::unique());
        assert_ne!(one, two);
        let mut first = hub.subscribe("a").unwrap().reader(one).exclude_own();
        // In the other order too.
        let mut second = hub.subscribe("a").unwrap().exclude_own().reader(two);
        let mut third = hub.subscribe("a").unwrap().exclude_own();
        let own = third.reader_id();
        let mut all = hub.subscribe("a").unwrap().reader(one);
        for (text, sender) in [
            ("1", Some(one)),
            ("2", Some(two)),
            ("3", Some(own)),
            ("4", None),
        ] {
            let mut event = Event::text(text);
            if let Some(sender) = sender {
                event = event.sent_by(sender);
            }
            let _ = hub.publish("a", event).unwrap();
        }
        assert_eq!(way(&mut first), frames(&["2", "3", "4"]));
        assert_eq!(way(&mut second), frames(&["1", "3", "4"]));
        assert_eq!(way(&mut third), frames(&["1", "2", "4"]));
        assert_eq!(way(&mut all), frames(&["1", "2", "3", "4"]));
    }
}

/// Neither the key nor the sender is part of what is sent, and copies of the frame keep both.
#[test]
fn what_readers_choose_by_goes_with_the_frame_and_not_to_clients() {
    let sender = ReaderId::unique();
    let event = || Event::json(&[1]).name("n").key("k\n").sent_by(sender);
    let check = |frame: &Frame, ids: bool| {
        let sse = std::str::from_utf8(frame.as_sse()).unwrap();
        assert!(sse.ends_with("event: n\ndata: [1]\n\n"), "{sse:?}");
        assert_eq!(sse.starts_with("id: "), ids);
        assert_eq!(frame.id().is_some(), ids);
        assert_eq!(frame.len(), sse.len());
        assert_eq!(&frame.to_bytes()[..], frame.as_sse());
        assert_eq!(frame.payload(), Some(&b"[1]"[..]));
        assert_eq!(frame.name(), Some("n"));
        assert_eq!(frame.key(), Some("k\n"));
        assert_eq!(frame.sender(), Some(sender));
    };
    for ids in [false, true] {
        let hub: Hub = Hub::builder().event_ids(ids).build().unwrap();
        let mut readers = ["a", "b"].map(|key| hub.subscribe(key).unwrap());
        let _ = hub.publish_many(["a", "b"], event()).unwrap();
        let _ = hub.publish("a", event()).unwrap();
        let topic = hub.topic("b").unwrap();
        let frame = hub.encode(event()).unwrap();
        let _ = topic.publish_frame(&frame).unwrap();
        let _ = hub.publish_all(event()).unwrap();
        for reader in &mut readers {
            for _ in 0..3 {
                let Ok(Item::Frame(frame)) = reader.try_recv() else {
                    panic!("it was published");
                };
                check(&frame, ids);
            }
        }
    }
    let hub = hub();
    let long = "k".repeat(257);
    let error = hub.publish("a", Event::text("").key(&long)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "event key has 257 bytes; the limit is 256"
    );
    let frame = hub.encode(Event::text("a\nb").key(&long[..256])).unwrap();
    assert_eq!(frame.key(), Some(&long[..256]));
    assert_eq!((frame.data().as_ref(), frame.payload()), ("a\nb", None));
    assert_eq!(frame.sender(), None);
    let frame = hub
        .encode(Event::text("a").sent_by(sender).key(""))
        .unwrap();
    assert_eq!((frame.key(), frame.sender()), (None, Some(sender)));
}

#[test]
fn of_each_kind_the_newest_is_read_at_its_place() {
    for way in WAYS {
        let hub = hub();
        let mut names = hub.subscribe("a").unwrap().conflate(Conflation::ByName);
        let mut keys = hub.subscribe("a").unwrap().conflate(Conflation::ByKey);
        for (text, name, key) in [
            ("1", "x", "k"),
            ("2", "y", ""),
            ("3", "x", "l"),
            ("4", "", "k"),
            ("5", "", ""),
            ("6", "z", "l"),
        ] {
            let event = Event::text(text).name(name).key(key);
            let _ = hub.publish("a", event).unwrap();
        }
        assert_eq!(way(&mut names), frames(&["2", "3", "4", "5", "6"]));
        assert_eq!(names.conflated(), 1);
        assert_eq!(way(&mut keys), frames(&["2", "4", "5", "6"]));
        assert_eq!(keys.conflated(), 2);
        // One at a time nothing is left out.
        for text in ["7", "8"] {
            let _ = hub.publish("a", Event::text(text).name("x")).unwrap();
            assert_eq!(way(&mut names), frames(&[text]));
        }
    }
}

/// Item by item, the window is what was visible when it began; a batch begins with all that is visible.
#[test]
fn a_window_begins_when_the_last_one_was_read() {
    let hub = hub();
    let mut items = hub.subscribe("a").unwrap().conflate(Conflation::ByName);
    let mut batches = hub.subscribe("a").unwrap().conflate(Conflation::ByName);
    let event = |text, name| {
        let _ = hub.publish("a", Event::text(text).name(name)).unwrap();
    };
    event("1", "x");
    event("2", "y");
    assert_eq!(item(items.try_recv().unwrap()), Read::Frame("1".into()));
    {
        let mut batch = batches.try_batch().unwrap();
        assert_eq!(batch.next_frame().unwrap().data(), "1");
    }
    event("3", "y");
    assert_eq!(by_try_recv(&mut items), frames(&["2", "3"]));
    assert_eq!(by_for_each(&mut batches), frames(&["3"]));
    // A batch that has begun reads what was visible then.
    event("4", "x");
    let mut batch = batches.try_batch().unwrap();
    event("5", "x");
    assert_eq!(batch.next_frame().unwrap().data(), "4");
    assert!(batch.next_frame().is_none());
    drop(batch);
    assert_eq!(by_for_each(&mut batches), frames(&["5"]));
}

#[test]
fn what_filters_leave_out_supersedes_nothing() {
    let hub = hub();
    let mut subscription = hub
        .subscribe("a")
        .unwrap()
        .conflate(Conflation::ByName)
        .filter(is_even);
    for text in ["2", "3", "4", "5"] {
        publish(&hub, text);
    }
    assert_eq!(by_try_recv(&mut subscription), frames(&["4"]));
    assert_eq!(subscription.conflated(), 1);
}

#[test]
fn a_subscription_that_chooses_is_still_sent_and_shared() {
    fn assert_auto<T: Send + Sync>(_: &T) {}
    let hub = hub();
    let cell = Cell::new(0);
    let subscription = hub.subscribe("a").unwrap().filter(move |_| {
        cell.set(cell.get() + 1);
        true
    });
    assert_auto(&subscription);
}

// ---- against a model

#[derive(Debug, Clone)]
struct Made {
    number: u64,
    name: u8,
    key: u8,
    own: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Publish {
        name: u8,
        key: u8,
        own: bool,
    },
    /// Reads so many items.
    Items(usize),
    /// Reads so many frames of a batch.
    Batch(usize),
    /// Reads all batches.
    All,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4_u8, 0..4_u8, any::<bool>())
            .prop_map(|(name, key, own)| Step::Publish { name, key, own }),
        1 => (1..6_usize).prop_map(Step::Items),
        1 => (0..6_usize).prop_map(Step::Batch),
        1 => Just(Step::All),
    ];
    proptest::collection::vec(step, 1..120)
}

#[derive(Debug, Clone, Copy)]
struct Policy {
    modulus: Option<NonZeroU64>,
    exclude: bool,
    conflation: Option<Conflation>,
}

fn policies() -> impl Strategy<Value = Policy> {
    let conflation = prop_oneof![
        Just(None),
        Just(Some(Conflation::ByName)),
        Just(Some(Conflation::ByKey))
    ];
    (0..4_u64, any::<bool>(), conflation).prop_map(|(modulus, exclude, conflation)| Policy {
        modulus: NonZeroU64::new(modulus),
        exclude,
        conflation,
    })
}

/// A reader that has everything, and the policy run over it.
struct Model {
    policy: Policy,
    /// What is published and not read.
    backlog: Vec<Made>,
    /// What is left of a window.
    window: Vec<Made>,
    conflated: u64,
    read: Vec<u64>,
}

impl Model {
    fn wants(policy: Policy, made: &Made) -> bool {
        let filtered = policy.modulus.is_some_and(|it| made.number % it == 0);
        !(filtered || policy.exclude && made.own)
    }

    /// The window is what is left of it and the backlog.
    fn renew(&mut self) {
        let policy = self.policy;
        self.window.append(&mut self.backlog);
        self.window.retain(|made| Self::wants(policy, made));
        let kind = |made: &Made| match policy.conflation {
            None => 0,
            Some(Conflation::ByName) => made.name,
            Some(_) => made.key,
        };
        let all = self.window.clone();
        let mut at = 0;
        self.window.retain(|made| {
            at += 1;
            kind(made) == 0 || all[at..].iter().all(|newer| kind(newer) != kind(made))
        });
        self.conflated += (all.len() - self.window.len()) as u64;
    }

    fn items(&mut self, most: usize) {
        for _ in 0..most {
            if self.window.is_empty() {
                self.renew();
            }
            if self.window.is_empty() {
                return;
            }
            self.read.push(self.window.remove(0).number);
        }
    }

    fn batch(&mut self, most: usize) {
        self.renew();
        let most = most.min(self.window.len());
        self.read
            .extend(self.window.drain(..most).map(|it| it.number));
    }
}

proptest! {
    /// However it is read, a reader with policies gets what they leave of the plain reader's frames.
    #[test]
    fn policies_are_what_they_say(policy in policies(), steps in steps()) {
        let hub: Hub = Hub::builder().build().unwrap();
        let mut plain = hub.subscribe("a").unwrap();
        let own = ReaderId::unique();
        let mut chosen = hub.subscribe("a").unwrap().reader(own);
        if let Some(modulus) = policy.modulus {
            chosen = chosen.filter(move |frame| frame.data().parse::<u64>().unwrap() % modulus != 0);
        }
        if policy.exclude {
            chosen = chosen.exclude_own();
        }
        if let Some(conflation) = policy.conflation {
            chosen = chosen.conflate(conflation);
        }
        let mut model = Model {
            policy,
            backlog: Vec::new(),
            window: Vec::new(),
            conflated: 0,
            read: Vec::new(),
        };
        let mut read = Vec::new();
        let mut number = 0;
        let parse = |frame: &Frame| frame.data().parse::<u64>().unwrap();
        for step in steps.into_iter().chain([Step::All]) {
            // What the plain reader gets is what the policies are run over.
            while let Ok(Item::Frame(frame)) = plain.try_recv() {
                let part = |text: Option<&str>| text.map_or(0, |it| it.parse().unwrap());
                model.backlog.push(Made {
                    number: parse(&frame),
                    name: part(frame.name()),
                    key: part(frame.key()),
                    own: frame.sender() == Some(own),
                });
            }
            match step {
                Step::Publish { name, key, own: is_own } => {
                    number += 1;
                    let part = |part: u8| if part == 0 { String::new() } else { part.to_string() };
                    let (text, name, key) = (number.to_string(), part(name), part(key));
                    let mut event = Event::text(&text).name(&name).key(&key);
                    if is_own {
                        event = event.sent_by(own);
                    }
                    let _ = hub.publish("a", event).unwrap();
                }
                Step::Items(most) => {
                    for _ in 0..most {
                        match chosen.try_recv() {
                            Ok(Item::Frame(frame)) => read.push(parse(&frame)),
                            other => {
                                prop_assert!(other.is_err());
                                break;
                            }
                        }
                    }
                    model.items(most);
                }
                Step::Batch(most) => {
                    if let Ok(mut batch) = chosen.try_batch() {
                        for _ in 0..most {
                            match batch.next_frame() {
                                Some(frame) => read.push(parse(&frame)),
                                None => break,
                            }
                        }
                    }
                    model.batch(most);
                }
                Step::All => {
                    while let Ok(mut batch) = chosen.try_batch() {
                        prop_assert!(batch.for_each(|frame| read.push(parse(frame))) > 0);
                    }
                    model.batch(usize::MAX);
                }
            }
            prop_assert_eq!(&read, &model.read);
        }
        prop_assert_eq!(chosen.conflated(), model.conflated);
    }
}

// ---- control events

/// A hub that keeps little.
fn small() -> Hub {
    Hub::builder().retain_events(4).build().unwrap()
}

/// Publishes the numbers; those that `control` names are control events.
fn publish_numbers(hub: &Hub, numbers: std::ops::Range<u64>, control: impl Fn(u64) -> bool) {
    for number in numbers {
        let text = number.to_string();
        let event = Event::text(&text).name("n");
        let event = if control(number) {
            event.control()
        } else {
            event
        };
        let _ = hub.publish("a", event).unwrap();
    }
}

fn numbers(numbers: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Read> {
    let read = |number: u64| Read::Frame(number.to_string());
    numbers.into_iter().map(read)
}

/// What was missed, if that is told first. A number is an offset less one.
fn missed(read: &[Read]) -> u64 {
    match read.first() {
        Some(Read::Lagged(Some(missed))) => *missed,
        other => panic!("not a notice: {other:?}"),
    }
}

fn is_control(number: u64) -> bool {
    number % 20 == 3
}

#[test]
fn control_events_survive_a_lag() {
    for way in WAYS {
        let hub = small();
        let mut subscription = hub.subscribe("a").unwrap();
        publish_numbers(&hub, 0..200, is_control);
        let read = way(&mut subscription);
        let gap = missed(&read);
        assert!((100..200).contains(&gap), "{gap}");
        let expected: Vec<_> = [Read::Lagged(Some(gap))]
            .into_iter()
            .chain(numbers((0..gap).filter(|&it| is_control(it))))
            .chain(numbers(gap..200))
            .collect();
        assert_eq!(read, expected);
        assert_eq!(subscription.position().offset(), 200);
        // The next range that is missed has its own.
        publish_numbers(&hub, 200..400, |number| number == 210);
        let read = way(&mut subscription);
        let gap = 200 + missed(&read);
        assert_eq!(read[1..2], frames(&["210"]));
        assert_eq!(read[2..], numbers(gap..400).collect::<Vec<_>>());
    }
}

#[test]
fn a_reader_that_ends_by_lag_gets_them_before_the_end() {
    for way in WAYS {
        let hub = small();
        let mut subscription = hub
            .subscribe("a")
            .unwrap()
            .lag_policy(LagPolicy::Disconnect);
        publish_numbers(&hub, 0..200, is_control);
        let read = way(&mut subscription);
        let gap = missed(&read);
        let expected = numbers((0..gap).filter(|&it| is_control(it)));
        assert_eq!(read[1..], expected.collect::<Vec<_>>());
        assert!(matches!(subscription.try_recv(), Err(TryRecvError::Closed)));
        assert_eq!(subscription.end_reason(), Some(EndReason::Lagged));
        drop(subscription);
        assert_eq!(hub.stats().lagged, 1);
    }
}

#[test]
fn a_reader_that_skips_gets_them_retained_or_not() {
    for way in WAYS {
        let hub: Hub = Hub::builder().retain_events(100).build().unwrap();
        let mut subscription = hub
            .subscribe("a")
            .unwrap()
            .lag_policy(LagPolicy::SkipToLatest);
        publish_numbers(&hub, 0..400, is_control);
        let read = way(&mut subscription);
        assert_eq!(missed(&read), 399);
        let expected = numbers((0..399).filter(|&it| is_control(it))).chain(numbers([399]));
        assert_eq!(read[1..], expected.collect::<Vec<_>>());
    }
}

#[test]
fn what_a_reader_chooses_holds_for_them_too() {
    for way in WAYS {
        let hub = small();
        let own = ReaderId::unique();
        let mut subscription = hub
            .subscribe("a")
            .unwrap()
            .conflate(Conflation::ByName)
            .filter(|frame| {
                assert!(frame.data() != "23", "a filter");
                frame.data() != "43"
            });
        let mut none = hub.subscribe("a").unwrap().filter(|_| false);
        let mut other = hub.subscribe("a").unwrap().reader(own).exclude_own();
        let event = Event::text("own").control().sent_by(own);
        let _ = hub.publish("a", event).unwrap();
        publish_numbers(&hub, 1..200, is_control);
        let mut read = Vec::new();
        let mut panics = 0;
        while let Ok(found) = catch_unwind(AssertUnwindSafe(|| subscription.try_recv()))
            .unwrap_or_else(|_| {
                panics += 1;
                subscription.try_recv()
            })
        {
            read.push(item(found));
        }
        let gap = missed(&read);
        assert_eq!(panics, 1);
        // Control events pass, of the others the newest.
        let expected = [Read::Frame("own".into())]
            .into_iter()
            .chain(numbers(
                (0..gap).filter(|&it| is_control(it) && it != 23 && it != 43),
            ))
            .chain(numbers(
                (gap..200).filter(|&it| is_control(it) || it == 199),
            ));
        assert_eq!(read[1..], expected.collect::<Vec<_>>());
        assert_eq!(way(&mut none), read[..1]);
        let read = way(&mut other);
        assert_eq!(read[1], Read::Frame("3".into()));
    }
}

#[test]
fn the_newest_of_them_are_kept_within_bounds() {
    let hub = small();
    let mut subscription = hub.subscribe("a").unwrap();
    publish_numbers(&hub, 0..200, |_| true);
    let read = by_try_recv(&mut subscription);
    let gap = missed(&read);
    assert_eq!(read[1..], numbers(gap - 32..200).collect::<Vec<_>>());

    // The bytes count too, and one that is too large pushes out no other.
    let text = "x".repeat(20_000);
    for _ in 0..10 {
        let _ = hub.publish("a", Event::text(&text).control()).unwrap();
    }
    let large = "y".repeat(70_000);
    let _ = hub.publish("a", Event::text(&large).control()).unwrap();
    publish_numbers(&hub, 0..200, |_| false);
    let read = by_try_recv(&mut subscription);
    let controls = read.iter().filter(|it| **it == Read::Frame(text.clone()));
    assert_eq!(controls.count(), 3);
    assert!(!read.contains(&Read::Frame(large)));
}

/// A client that comes back after them is told of those behind its place, and of no others.
#[test]
fn who_comes_back_gets_those_after_its_place() {
    let hub: Hub = Hub::builder()
        .history(true)
        .retain_events(4)
        .build()
        .unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    publish_numbers(&hub, 0..1, |_| false);
    let Ok(Item::Frame(first)) = subscription.try_recv() else {
        panic!("it was published");
    };
    publish_numbers(&hub, 1..30, |number| number < 10);
    let Ok(Item::Lagged(_)) = subscription.try_recv() else {
        panic!("it lags");
    };
    let mut ids = Vec::new();
    while let Ok(Item::Frame(frame)) = subscription.try_recv() {
        ids.push(frame.id().unwrap());
        if !frame.is_control() {
            break;
        }
    }
    assert_eq!(ids.len(), 10);
    assert!(
        ids.is_sorted_by_key(|id| id.offset())
            && ids[0].offset() == first.id().unwrap().offset() + 1
    );
    let mut back = hub.subscribe_from("a", ids[6]).unwrap();
    let read = by_try_recv(&mut back);
    assert_eq!(read[1..3], frames(&["8", "9"]));
    assert_eq!(missed(&read) + 8, ids[9].offset() - 1);
    // Another life: all that it has missed of this one.
    let mut stranger = hub
        .subscribe_from("a", "0000000000000000-1".parse::<EventId>().unwrap())
        .unwrap();
    let read = by_try_recv(&mut stranger);
    assert_eq!(read[0], Read::Lagged(None));
    assert_eq!(read[1..3], frames(&["1", "2"]));
}

/// Without history they go when all have passed them, with history some time after the events.
#[test]
fn control_events_do_not_stay_for_ever() {
    for history in [false, true] {
        let hub: Hub = Hub::builder()
            .history(history)
            .retain_events(4)
            .retain_age(Duration::from_millis(200))
            .heartbeat(Duration::from_millis(60))
            .idle_after(Duration::from_millis(10))
            .build()
            .unwrap();
        let topic = hub.topic("a").unwrap();
        let mut subscription = hub.subscribe("a").unwrap();
        publish_numbers(&hub, 0..200, is_control);
        let epoch = subscription.position().epoch();
        while subscription.try_recv().is_ok() {}
        eventually("the control events to be forgotten", || {
            let first: EventId = format!("{epoch:016x}-1").parse().unwrap();
            let mut late = topic.subscribe_from(first).unwrap();
            drop(late.try_recv());
            !matches!(late.try_recv(), Ok(Item::Frame(frame)) if frame.is_control())
        });
    }
}

/// The frames of a snapshot come first and are not chosen among; what follows is.
#[test]
fn a_snapshot_is_read_as_it_is() {
    for way in WAYS {
        let hub = small();
        let state = ["1", "3"].map(|text| hub.encode(Event::text(text)).unwrap());
        let mut subscription = hub
            .subscribe_with_snapshot("a", |_| {
                let snapshot = Snapshot::new(state.to_vec());
                std::future::ready(Ok::<_, ()>(snapshot))
            })
            .now_or_never()
            .unwrap()
            .unwrap()
            .filter(is_even);
        publish_numbers(&hub, 0..4, |_| false);
        assert_eq!(way(&mut subscription), frames(&["1", "3", "0", "2"]));
    }
}

#[cfg(feature = "http-body")]
mod body {
    use super::*;
    use http_body_util::BodyExt as _;

    fn ready(body: &mut fanfare::SseBody) -> String {
        let mut all = Vec::new();
        while let Some(Some(Ok(frame))) = body.frame().now_or_never() {
            all.extend_from_slice(frame.data_ref().unwrap());
        }
        String::from_utf8(all).unwrap()
    }

    /// Connections that stand at the same place share their chunks; those that choose do not.
    #[test]
    fn each_connection_gets_what_it_chose() {
        let hub: Hub = Hub::builder().event_ids(false).build().unwrap();
        let own = ReaderId::unique();
        let subscribe = || hub.subscribe("a").unwrap();
        let mut bodies = [
            subscribe(),
            subscribe().filter(|frame| frame.name() == Some("x")),
            subscribe(),
            subscribe().reader(own).exclude_own(),
            subscribe().conflate(Conflation::ByName),
            subscribe().filter(|_| false),
            subscribe(),
        ]
        .map(|subscription| subscription.into_sse().into_body());
        for body in &mut bodies {
            assert_eq!(ready(body), ":\n\n", "the opening");
        }
        let _ = hub
            .publish("a", Event::text("1").name("x").sent_by(own))
            .unwrap();
        let _ = hub.publish("a", Event::text("2").name("y")).unwrap();
        let _ = hub.publish("a", Event::text("3").name("x")).unwrap();
        let (one, two, three) = (
            "event: x\ndata: 1\n\n",
            "event: y\ndata: 2\n\n",
            "event: x\ndata: 3\n\n",
        );
        let all = [one, two, three].concat();
        let expected = [
            all.clone(),
            [one, three].concat(),
            all.clone(),
            [two, three].concat(),
            [two, three].concat(),
            String::new(),
            all,
        ];
        for (body, expected) in bodies.iter_mut().zip(expected) {
            assert_eq!(ready(body), expected);
        }
    }

    /// The notice has no id then: who loses the connection among the control events comes back behind those that it has.
    #[test]
    fn a_body_sends_control_events_between_the_notice_and_what_is_retained() {
        for policy in [LagPolicy::Notify, LagPolicy::Disconnect] {
            let hub = small();
            let subscription = hub.subscribe("a").unwrap().lag_policy(policy);
            let mut body = subscription.into_sse().into_body();
            assert_eq!(ready(&mut body), ":\n\n", "the opening");
            publish_numbers(&hub, 0..200, is_control);
            let sent = ready(&mut body);
            let mut blocks = sent.split_terminator("\n\n");
            let notice = blocks.next().unwrap();
            let gap = notice
                .strip_prefix("event: lag\ndata: {\"missed\":")
                .unwrap();
            let gap: u64 = gap.strip_suffix('}').unwrap().parse().unwrap();
            let mut expected: Vec<_> = (0..gap).filter(|&it| is_control(it)).collect();
            if policy == LagPolicy::Notify {
                expected.extend(gap..200);
            }
            let data = |block: &str| {
                let (id, rest) = block.split_once('\n').unwrap();
                let (_, data) = rest.split_once("data: ").unwrap();
                let number: u64 = data.parse().unwrap();
                let (_, offset) = id.rsplit_once('-').unwrap();
                assert_eq!(offset, (number + 1).to_string());
                number
            };
            assert_eq!(blocks.map(data).collect::<Vec<_>>(), expected);
            let ended = matches!(body.frame().now_or_never(), Some(None));
            assert_eq!(ended, policy == LagPolicy::Disconnect);
        }
    }
}
