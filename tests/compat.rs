//! Connections with channels of their own: forwarded to, and gone when either side is.

use std::time::Duration;

use bytes::Bytes;
use fanfare::compat::{ConnectionGuard, EventSender, RegisterSender as _, SSE_BUFFER};
use fanfare::protocol::ag_ui::Event;
use fanfare::{AgUiBroadcaster, EndReason, EventError, Hub, UserId};
use tokio::sync::mpsc;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

fn ann() -> UserId {
    UserId::from("ann")
}

fn registered(
    broadcaster: &AgUiBroadcaster,
    room: usize,
) -> (ConnectionGuard, mpsc::Receiver<Bytes>) {
    let (sender, receiver) = mpsc::channel(room);
    let guard = broadcaster
        .register_sender(&ann(), "tab", sender)
        .expect("registered");
    (guard, receiver)
}

async fn next(receiver: &mut mpsc::Receiver<Bytes>) -> Option<String> {
    let message = timeout(SOON, receiver.recv()).await.expect("in time")?;
    Some(String::from_utf8(message.to_vec()).expect("text"))
}

async fn until(what: impl Fn() -> bool) {
    timeout(SOON, async {
        while !what() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("in time");
}

#[tokio::test]
async fn events_come_in_order_and_end_with_the_guard() {
    let broadcaster = AgUiBroadcaster::new();
    let (guard, mut receiver) = registered(&broadcaster, 2);
    assert_eq!(guard.connection_id(), "tab");
    assert_eq!(guard.user(), &ann());
    for step in 0..100 {
        let event = Event::step_started(step.to_string());
        let sent = broadcaster.broadcast(&ann(), &event).expect("open");
        assert_eq!(sent.subscribers(), 1);
    }
    for step in 0..100 {
        let block = next(&mut receiver).await.expect("an event");
        assert_eq!(
            block,
            format!("data: {{\"type\":\"STEP_STARTED\",\"stepName\":\"{step}\"}}\n\n")
        );
    }
    drop(guard);
    assert_eq!(broadcaster.connection_count(&ann()), 0);
    assert_eq!(
        next(&mut receiver).await.as_deref(),
        Some(": this connection was unregistered\n\n")
    );
    assert_eq!(next(&mut receiver).await, None);
    until(|| broadcaster.hub().subscribers() == 0).await;
}

#[tokio::test]
async fn goes_when_the_receiver_goes() {
    let broadcaster = AgUiBroadcaster::new();
    let (guard, receiver) = registered(&broadcaster, 2);
    drop(receiver);
    until(|| broadcaster.connection_count(&ann()) == 0).await;
    drop(guard);
}

#[tokio::test]
async fn a_newer_one_replaces_it_also_while_its_channel_is_full() {
    let broadcaster = AgUiBroadcaster::new();
    let (older, mut older_receiver) = registered(&broadcaster, 1);
    for step in ["a", "b", "c"] {
        let event = Event::step_started(step);
        broadcaster
            .broadcast(&ann(), &event)
            .map(drop)
            .expect("open");
    }
    until(|| older_receiver.len() == 1).await;
    let (newer, mut newer_receiver) = registered(&broadcaster, SSE_BUFFER);
    until(|| broadcaster.hub().subscribers() == 1).await;
    assert!(
        next(&mut older_receiver)
            .await
            .expect("sent before")
            .contains("\"a\"")
    );
    assert_eq!(next(&mut older_receiver).await, None);
    // The older guard has no say any more.
    drop(older);
    assert_eq!(broadcaster.connection_count(&ann()), 1);
    let event = Event::step_started("d");
    broadcaster
        .broadcast(&ann(), &event)
        .map(drop)
        .expect("open");
    assert!(
        next(&mut newer_receiver)
            .await
            .expect("an event")
            .contains("\"d\"")
    );
    drop(newer);
}

/// A receiver that is not read stands still, however its task waits.
#[tokio::test]
async fn one_whose_channel_stays_full_is_given_up() {
    let hub = Hub::builder()
        .evict_after(Duration::from_millis(20))
        .build_keyed()
        .expect("limits");
    let broadcaster = AgUiBroadcaster::with_hub(hub);
    let (mut guard, mut receiver) = registered(&broadcaster, 1);
    let moves_on = async {
        loop {
            let event = Event::step_started("on");
            broadcaster
                .broadcast(&ann(), &event)
                .map(drop)
                .expect("open");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = moves_on => {}
        ended = timeout(SOON, guard.ended()) => assert_eq!(ended, Ok(EndReason::Evicted)),
    }
    assert_eq!(broadcaster.total_connections(), 0);
    assert_eq!(broadcaster.hub().stats().evicted, 1);
    assert!(next(&mut receiver).await.is_some());
    assert_eq!(next(&mut receiver).await, None);
}

/// At the deadline of a drain one that is not read ends too, also in a hub that gives nobody up.
#[tokio::test]
async fn one_whose_channel_stays_full_ends_with_a_drain() {
    let broadcaster = AgUiBroadcaster::new();
    let (mut guard, mut receiver) = registered(&broadcaster, 1);
    for step in ["a", "b", "c"] {
        let event = Event::step_started(step);
        broadcaster
            .broadcast(&ann(), &event)
            .map(drop)
            .expect("open");
    }
    until(|| receiver.len() == 1).await;
    let drain = broadcaster.hub().drain(Duration::from_millis(300));
    let report = drain.expect("the first one").await;
    assert_eq!(report.cut, 1);
    let ended = timeout(SOON, guard.ended()).await;
    assert_eq!(ended, Ok(EndReason::Drained));
    assert_eq!(broadcaster.total_connections(), 0);
    assert!(next(&mut receiver).await.is_some());
}

#[tokio::test]
async fn axum_events_carry_name_id_and_data() {
    let hub = fanfare::Hub::builder().build_keyed().expect("valid");
    let broadcaster = AgUiBroadcaster::with_hub(hub);
    let (sender, mut receiver) = mpsc::channel(SSE_BUFFER);
    let sender: EventSender = sender;
    let guard = broadcaster
        .register_sender(&ann(), "tab", sender)
        .expect("registered");
    let sent = broadcaster.broadcast(&ann(), &Event::step_started("plan"));
    let id = sent.expect("open").id().expect("an id");
    let event = timeout(SOON, receiver.recv()).await.expect("in time");
    let event = format!("{:?}", event.expect("an event").expect("never fails"));
    assert!(event.contains(&id.to_string()), "{event}");
    assert!(event.contains("STEP_STARTED"), "{event}");
    drop(guard);
}

#[test]
fn outside_a_runtime_nothing_is_registered() {
    let broadcaster = AgUiBroadcaster::new();
    let (sender, _receiver) = mpsc::channel::<Bytes>(1);
    let refused = broadcaster.register_sender(&ann(), "tab", sender);
    assert!(matches!(refused, Err(EventError::NoRuntime)));
    assert_eq!(broadcaster.connection_count(&ann()), 0);
}
