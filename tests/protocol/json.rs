//! Free-form JSON, objects and timestamps.

use std::time::{Duration, SystemTime};

use fanfare::protocol::{Json, Object, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{error, same};

#[test]
fn json_stays_as_it_was_but_for_white_space() {
    let read = |text: &str| text.parse::<Json>().unwrap();
    for text in [
        "null",
        "123456789012345678901234567890",
        "0.1000000000000000055511151231257827",
        "1.0",
        "-0",
        "1e400",
        r#"{"b":1,"a":2,"b":3}"#,
        r#""\u00e9 \\\" { } , : \n""#,
        r#"["a b",{"c d":"\\"}]"#,
    ] {
        assert_eq!(read(text).get(), text);
        assert_eq!(serde_json::to_string(&read(text)).unwrap(), text);
    }
    let spaced = " { \"a b\" : [ 1 ,\r\n\t2 ] , \"c\\\" \" : \" x \" } ";
    assert_eq!(read(spaced).get(), r#"{"a b":[1,2],"c\" ":" x "}"#);
    assert!("{".parse::<Json>().is_err());
    assert!("1 2".parse::<Json>().is_err());
}

#[test]
fn json_is_equal_by_its_text() {
    assert_eq!(
        Json::from(json!({"a": 1})),
        r#"{ "a": 1 }"#.parse().unwrap()
    );
    assert_ne!(Json::from(1), "1.0".parse().unwrap());
    assert!(Json::null().is_null() && Json::from(Value::Null).is_null());
    assert_eq!(Json::from("a\"b").get(), r#""a\"b""#);
    assert!(Json::from(true).read::<bool>().unwrap());
    assert!(Json::from("a").read::<u8>().is_err());
    assert_eq!(Json::from(0.5).get(), "0.5");
    assert!(Json::from(f64::NAN).is_null());
}

#[test]
fn a_map_with_keys_that_are_no_strings_is_no_json() {
    let map = std::collections::BTreeMap::from([(vec![1], 1)]);
    let refused = Json::new(&map).unwrap_err();
    assert_eq!(refused.to_string(), "key must be a string");
}

#[test]
fn an_object_keeps_its_order_and_what_it_read_twice() {
    let mut object: Object = serde_json::from_str(r#"{"b":1,"a":null,"b":2}"#).unwrap();
    assert_eq!(object.to_string(), r#"{"b":1,"a":null,"b":2}"#);
    assert_eq!(object.get("b").unwrap().get(), "2");
    assert!(object.get("a").unwrap().is_null());
    assert_eq!(object.remove("b").unwrap().get(), "2");
    assert_eq!(object.remove("b"), None);
    object.insert("a", "x");
    object.insert("c", 3);
    assert_eq!(object.to_string(), r#"{"a":"x","c":3}"#);
    assert_eq!(
        Object::from_value(&json!({"a": "x", "c": 3})).unwrap(),
        object
    );
    assert_eq!(Object::from([("a", "x")]).len(), 1);
    assert!(error::<Object>("[1]").contains("expected an object"));
    assert!(Object::from_value(&[1]).is_err());
}

#[test]
fn timestamps_are_written_as_rfc_3339_has_them() {
    let at = |seconds, nanos| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
    for (time, text) in [
        (at(0, 0), "1970-01-01T00:00:00.000000000Z"),
        (
            at(951_782_399, 999_999_999),
            "2000-02-28T23:59:59.999999999Z",
        ),
        (at(951_782_400, 0), "2000-02-29T00:00:00.000000000Z"),
        (at(4_107_542_400, 1), "2100-03-01T00:00:00.000000001Z"),
        (at(253_402_300_799, 5), "9999-12-31T23:59:59.000000005Z"),
        (at(253_402_300_800, 0), "9999-12-31T23:59:59.999999999Z"),
        (
            SystemTime::UNIX_EPOCH - Duration::from_nanos(1),
            "1969-12-31T23:59:59.999999999Z",
        ),
        (
            SystemTime::UNIX_EPOCH - Duration::from_secs(62_167_219_200),
            "0000-01-01T00:00:00.000000000Z",
        ),
    ] {
        assert_eq!(Timestamp::nanos(time).as_str(), text);
    }
    assert_eq!(
        Timestamp::millis(at(1_700_000_000, 5_999_999)).as_str(),
        "2023-11-14T22:13:20.005Z"
    );
    assert!(Timestamp::now().as_str().ends_with('Z'));
}

#[test]
fn timestamps_are_read_as_they_are() {
    for text in [
        "2026-01-01T00:00:00Z",
        "2026-01-01t00:00:00z",
        "2026-01-01T00:00:00.1Z",
        "2026-01-01T00:00:00.123456789+05:30",
        "2026-01-01 00:00:00-00:00",
    ] {
        assert_eq!(same::<Timestamp>(&format!("\"{text}\"")).as_str(), text);
    }
    for text in [
        "",
        "2026",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00+0530",
        "2026-01-01T00:00:00.1234567890123456789Z",
        "2026-01-01T00:00:0é",
        "1700000000000",
    ] {
        let error = error::<Timestamp>(&format!("\"{text}\""));
        assert!(
            error.starts_with(&format!("`{text}` is no RFC 3339")),
            "{error}"
        );
    }
}

/// Any JSON.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // `Value` reads other fractions to the last digit but one.
        any::<i32>().prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(".{0,8}", inner, 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_makes_the_way(value in any_json()) {
        let compact = serde_json::to_string(&value).unwrap();
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let json: Json = pretty.parse().unwrap();
        prop_assert_eq!(json.get(), &compact);
        prop_assert_eq!(&Json::from(value.clone()), &json);
        prop_assert_eq!(json.read::<Value>().unwrap(), value);
    }

    #[test]
    fn a_time_is_what_it_was(seconds in 0_u64..253_402_300_800, nanos in 0_u32..1_000_000_000) {
        let text = Timestamp::nanos(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)).to_string();
        let field = |range: std::ops::Range<usize>| text[range].parse::<u64>().unwrap();
        // Day by day from 1970, by the calendar's own rules.
        let leap = |year: u64| year.is_multiple_of(400) || year.is_multiple_of(4) && !year.is_multiple_of(100);
        let months = |year| [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let (year, month) = (field(0..4), field(5..7));
        let mut days: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
        days += months(year)[..usize::try_from(month - 1).unwrap()].iter().sum::<u64>();
        days += field(8..10) - 1;
        let again = days * 86_400 + field(11..13) * 3_600 + field(14..16) * 60 + field(17..19);
        prop_assert_eq!((again, field(20..29)), (seconds, u64::from(nanos)));
    }
}
