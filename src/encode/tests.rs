//! Several forms of one event: what is made by pieces is what would be encoded whole.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::event_id::EventId;

/// What is known of a frame, with an id written into it if there is room for one.
fn parts(made: Result<Frame, EncodeError>) -> Result<impl PartialEq + std::fmt::Debug, String> {
    let mut frame = made.map_err(|error| error.to_string())?;
    let before = frame.as_sse().to_vec();
    frame.stamp(EventId::new(u64::MAX, 17));
    Ok((
        before,
        frame.as_sse().to_vec(),
        frame.id(),
        frame.name().map(str::to_owned),
        frame.payload().map(<[u8]>::to_vec),
        frame.data().into_owned(),
        frame.data_len(),
        frame.retained_bytes(),
    ))
}

/// Both ways to make one form of an event with nothing around it, for all limits that matter.
fn check<P: Payload + Copy>(event: Event<'_, P>) {
    let size = encode(event, usize::MAX, false).map_or(0, |frame| frame.data_len());
    for limit in [usize::MAX, size + 1, size, size.saturating_sub(1), 0] {
        for ids in [false, true] {
            let formed = Forms::of(event).and_then(|mut forms| forms.frame(("", ""), limit, ids));
            assert_eq!(
                parts(formed),
                parts(encode(event, limit, ids)),
                "limit {limit}, ids {ids}"
            );
        }
    }
}

/// Miri takes seconds for what otherwise takes microseconds, and has no files.
fn config() -> ProptestConfig {
    if cfg!(miri) {
        ProptestConfig {
            cases: 4,
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    } else {
        ProptestConfig::default()
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[\r\n: ad\u{feff}\u{2028}]{0,20}"]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_form_with_nothing_around_it_is_the_event(
        text in any_text(),
        name in prop_oneof![Just(String::new()), any::<String>(), "[a-z]{255,258}"],
    ) {
        check(Event::text(&text).name(&name));
        check(Event::json(&text).name(&name));
        let json = serde_json::json!({ "text": text, "list": [1, null] });
        let raw = RawValue::from_string(format!("{json:#}")).expect("JSON");
        check(Event::raw_json(&raw).name(&name));
        check(Event::json(&raw));
    }

    /// The prefix goes to the first line, the suffix to the last: as if the text had them.
    #[test]
    fn a_form_with_something_around_it_is_the_event_of_the_whole(
        text in any_text(),
        around in prop::collection::vec(("[^\r\n]{0,9}", "[^\r\n]{0,9}", any::<bool>(), 0..40_usize), 1..6),
    ) {
        let event = Event::text(&text).name("n");
        let mut forms = Forms::of(event).expect("no limit");
        // One after the other, larger and smaller ones, also after one that was refused.
        for (prefix, suffix, ids, limit) in &around {
            let whole = format!("{prefix}{text}{suffix}");
            let whole = Event::text(&whole).name("n");
            for limit in [*limit, usize::MAX] {
                let formed = forms.frame((prefix, suffix), limit, *ids);
                prop_assert_eq!(parts(formed), parts(encode(whole, limit, *ids)));
            }
        }
    }
}

/// A serializer that encodes finds the thread's buffer taken, and makes its own.
#[test]
fn a_serializer_may_encode() {
    struct Nested;
    impl serde::Serialize for Nested {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut inner = Forms::of(Event::text("inner")).expect("no limit");
            let inner = inner.frame(("<", ">"), 7, false).expect("seven bytes");
            serializer.serialize_str(&inner.data())
        }
    }
    let mut forms = Forms::of(Event::json(&Nested)).expect("no limit");
    let frame = forms.frame(("[", "]"), 100, false).expect("short");
    assert_eq!(frame.data(), r#"["<inner>"]"#);
}
