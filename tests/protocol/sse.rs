//! What the events become in a hub.

use fanfare::protocol::{a2a, ag_ui, analytics, cli, context, system};
use fanfare::{Event, Frame, Hub, Item, Payload};

/// The frame of an event in a hub that gives ids.
fn frame<P: Payload>(event: Event<'_, P>) -> Frame {
    let hub = Hub::builder().history(true).build().unwrap();
    let mut subscription = hub.subscribe("a").unwrap();
    let _ = hub.publish("a", event).unwrap();
    match subscription.try_recv().unwrap() {
        Item::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

#[test]
fn events_of_ag_ui_are_data_alone() {
    let event = ag_ui::Event::text_message_content("m", "line\nline");
    let frame = frame(event.to_event());
    assert_eq!(
        frame.data(),
        r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"line\nline"}"#
    );
    assert_eq!((frame.name(), frame.id()), (None, None));
    let event = context::Event::from(event);
    assert_eq!(self::frame(event.to_event()).id(), None);
}

#[test]
fn only_output_of_programs_is_named() {
    let status = a2a::TaskStatus::new(a2a::TaskState::Working);
    let response = a2a::StreamResponse::from(a2a::StatusUpdate::new("t", "c", status));
    assert_eq!(frame(response.to_event()).name(), None);
    assert_eq!(frame(a2a::V0_3(&response).to_event()).name(), None);
    assert_eq!(
        frame(system::Event::from(system::Heartbeat::new()).to_event()).name(),
        None
    );
    assert_eq!(
        frame(analytics::Event::from(analytics::Heartbeat::new()).to_event()).name(),
        None
    );
    assert_eq!(
        frame(cli::Event::stdout("x").to_event()).name(),
        Some("cli")
    );
}

#[test]
fn an_event_that_cannot_be_written_is_not_published() {
    let hub = Hub::new();
    let event = ag_ui::Event::text_message_end("m").timestamp(i64::MAX);
    let refused = hub.publish("a", event.to_event()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "event payload could not be serialized: timestamp: 9223372036854775807 is not an integer between -(2^53 - 1) and 2^53 - 1"
    );
}

#[test]
fn json_that_was_read_with_line_breaks_is_one_line() {
    let event: ag_ui::Event =
        serde_json::from_str("{\"type\":\"FUTURE\",\n\r\"a\" : [1,\n2]}").unwrap();
    assert_eq!(
        frame(event.to_event()).data(),
        r#"{"type":"FUTURE","a":[1,2]}"#
    );
}
