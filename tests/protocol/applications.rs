//! Analytics, system, context and CLI events.

use fanfare::protocol::{a2a, ag_ui, analytics, cli, context, system};

use crate::{error, same};

const AT: &str = "2026-01-02T03:04:05.000000006Z";

#[test]
fn analytics_write_null_for_what_is_not_known() {
    let at = AT.parse::<fanfare::protocol::Timestamp>().unwrap();
    for (event, rest) in [
        (
            analytics::SessionStarted::new("s", true)
                .country("NZ")
                .timestamp(at)
                .into(),
            r#""type":"SESSION_STARTED","timestamp":"AT","session_id":"s","is_bot":true,"device_type":null,"browser":null,"os":null,"country":"NZ","referrer_source":null"#,
        ),
        (
            analytics::SessionEnded::new("s", 5, 2, 3)
                .timestamp(at)
                .into(),
            r#""type":"SESSION_ENDED","timestamp":"AT","session_id":"s","duration_ms":5,"page_count":2,"request_count":3"#,
        ),
        (
            analytics::PageView::new("s", "/")
                .user_id("u")
                .timestamp(at)
                .into(),
            r#""type":"PAGE_VIEW","timestamp":"AT","session_id":"s","page_url":"/","user_id":"u","content_id":null,"referrer":null"#,
        ),
        (
            analytics::EngagementUpdate::new("s", "/", 80, 1_000, 3)
                .timestamp(at)
                .into(),
            r#""type":"ENGAGEMENT_UPDATE","timestamp":"AT","session_id":"s","page_url":"/","scroll_depth":80,"time_on_page_ms":1000,"click_count":3"#,
        ),
        (
            analytics::RealTimeStats::new(1, 2, 3, 4, 5)
                .timestamp(at)
                .into(),
            r#""type":"REAL_TIME_STATS","timestamp":"AT","active_sessions":1,"active_users":2,"requests_per_minute":3,"page_views_last_5m":4,"bot_requests_last_5m":5"#,
        ),
        (
            analytics::Heartbeat::new().timestamp(at).into(),
            r#""type":"HEARTBEAT","timestamp":"AT""#,
        ),
    ] {
        let event: analytics::Event = event;
        let json = format!(
            "{{{}}}",
            rest.replace("AT\"", &format!("{AT}\""))
                .replace(&format!("HEARTBE{AT}"), "HEARTBEAT")
        );
        assert_eq!(serde_json::to_string(&event).unwrap(), json);
        assert_eq!(same::<analytics::Event>(&json), event);
    }
    let absent =
        format!(r#"{{"type":"PAGE_VIEW","timestamp":"{AT}","session_id":"s","page_url":"/"}}"#);
    let read: analytics::Event = serde_json::from_str(&absent).unwrap();
    assert_eq!(
        read,
        analytics::PageView::new("s", "/").timestamp(at).into()
    );
    same::<analytics::Event>(&format!(r#"{{"type":"SCROLL","timestamp":"{AT}"}}"#));
    assert_eq!(
        error::<analytics::Event>(r#"{"type":"HEARTBEAT"}"#),
        "HEARTBEAT: missing field `timestamp`"
    );
    assert_eq!(
        error::<analytics::Event>(r#"{"type":"HEARTBEAT","timestamp":"noon"}"#),
        "HEARTBEAT: timestamp: `noon` is no RFC 3339 timestamp of at most 35 characters"
    );
}

#[test]
fn system_events_are_in_camel_case_and_their_items_in_snake_case() {
    for rest in [
        r#""type":"CONTEXT_CREATED","timestamp":"2026-01-01T00:00:00Z","contextId":"c","name":"n""#,
        r#""type":"CONTEXT_UPDATED","timestamp":"2026-01-01T00:00:00Z","contextId":"c","name":"n""#,
        r#""type":"CONTEXT_UPDATED","timestamp":"2026-01-01T00:00:00Z","contextId":"c""#,
        r#""type":"CONTEXT_DELETED","timestamp":"2026-01-01T00:00:00Z","contextId":"c""#,
        r#""type":"CONTEXTS_SNAPSHOT","timestamp":"2026-01-01T00:00:00Z","contexts":[{"context_id":"c","name":"n","created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00.5Z","message_count":1,"task_count":2}]"#,
        r#""type":"CONNECTED","timestamp":"2026-01-01T00:00:00Z","connectionId":"k""#,
        r#""type":"HEARTBEAT","timestamp":"2026-01-01T00:00:00Z""#,
    ] {
        let json = format!("{{{rest}}}");
        let event = same::<system::Event>(&json);
        assert!(!matches!(event, system::Event::Other(_)));
        assert_eq!(serde_json::to_string(&event).unwrap(), json);
    }
    let now = serde_json::to_value(system::Event::from(system::Connected::new("k"))).unwrap();
    let digits = now["timestamp"].as_str().unwrap().len();
    assert_eq!(digits, "2026-01-01T00:00:00.000000000Z".len());
}

#[test]
fn output_of_a_program() {
    for (event, json) in [
        (cli::Event::started(7), r#"{"type":"started","pid":7}"#),
        (
            cli::Event::stdout("a\nb"),
            r#"{"type":"stdout","data":"a\nb"}"#,
        ),
        (cli::Event::stderr(""), r#"{"type":"stderr","data":""}"#),
        (
            cli::Event::exit_code(-1),
            r#"{"type":"exit_code","code":-1}"#,
        ),
        (
            cli::Event::error("lost"),
            r#"{"type":"error","message":"lost"}"#,
        ),
    ] {
        assert_eq!(serde_json::to_string(&event).unwrap(), json);
        assert_eq!(same::<cli::Event>(json), event);
    }
    same::<cli::Event>(r#"{"type":"paused","why":1}"#);
}

#[test]
fn a_context_event_wraps_the_bytes_of_the_bare_one() {
    let ag_ui = ag_ui::Event::text_message_content("m", "d");
    let status = a2a::TaskStatus::new(a2a::TaskState::Working);
    let a2a = a2a::StreamResponse::from(a2a::StatusUpdate::new("t", "c", status));
    let system = system::Event::from(system::ContextDeleted::new("c"));
    for (event, bare) in [
        (
            context::Event::from(ag_ui.clone()),
            serde_json::to_string(&ag_ui),
        ),
        (
            context::Event::from(a2a.clone()),
            serde_json::to_string(&a2a),
        ),
        (
            context::Event::from(system.clone()),
            serde_json::to_string(&system),
        ),
    ] {
        let json = serde_json::to_string(&event).unwrap();
        let prefix = event.protocol().prefix();
        assert_eq!(json, [prefix, &bare.unwrap(), context::SUFFIX].concat());
        assert_eq!(same::<context::Event>(&json), event);
        let reversed = json.replace(r#""protocol":"#, r#""after":0,"protocol":"#);
        assert_eq!(
            serde_json::from_str::<context::Event>(&reversed).unwrap(),
            event
        );
    }
    assert_eq!(error::<context::Event>("{}"), "missing field `protocol`");
    assert_eq!(
        error::<context::Event>(r#"{"protocol":"smtp","event":{}}"#),
        "protocol: unknown variant `smtp`, expected one of `agui`, `a2a`, `system`"
    );
    assert_eq!(
        error::<context::Event>(r#"{"protocol":"agui","event":{"type":"RUN_ERROR"}}"#),
        "event: RUN_ERROR: missing field `message`"
    );
}
