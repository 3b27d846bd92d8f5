//! A point in time as text: RFC 3339.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrayvec::ArrayString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest text: nine digits of a second and an offset.
const MAX_LEN: usize = "2026-01-01T00:00:00.000000000+00:00".len();

/// A point in time as text, as [RFC 3339](https://www.rfc-editor.org/rfc/rfc3339) has it.
///
/// What is read is written again as it was. What is made of a [`SystemTime`] is UTC with a `Z`, and has nanoseconds, or
/// milliseconds where a protocol asks for them. It holds its text itself, without an allocation.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use fanfare::protocol::Timestamp;
///
/// let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5_000_000);
/// assert_eq!(Timestamp::nanos(time).as_str(), "2023-11-14T22:13:20.005000000Z");
/// assert_eq!(Timestamp::millis(time).as_str(), "2023-11-14T22:13:20.005Z");
/// assert!("tomorrow".parse::<Timestamp>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timestamp(ArrayString<MAX_LEN>);

impl Timestamp {
    /// Now, with nanoseconds.
    #[must_use]
    pub fn now() -> Self {
        Self::nanos(SystemTime::now())
    }

    /// Now, with milliseconds.
    #[must_use]
    pub fn now_millis() -> Self {
        Self::millis(SystemTime::now())
    }

    /// `time` with nanoseconds. Before the year 0 or after the year 9999 it is the nearest that has four digits.
    #[must_use]
    pub fn nanos(time: SystemTime) -> Self {
        let (seconds, nanos) = since_epoch(time);
        Self::of(seconds, 9, nanos)
    }

    /// `time` with milliseconds, the rest cut off. Before the year 0 or after the year 9999 it is the nearest that has four
    /// digits.
    #[must_use]
    pub fn millis(time: SystemTime) -> Self {
        let (seconds, nanos) = since_epoch(time);
        Self::of(seconds, 3, nanos / 1_000_000)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of(seconds: i64, digits: usize, fraction: u32) -> Self {
        let (year, month, day) = date(seconds.div_euclid(86_400));
        let of_day = seconds.rem_euclid(86_400);
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        let mut text = ArrayString::new();
        let written = fmt::Write::write_fmt(
            &mut text,
            format_args!(
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:0digits$}Z"
            ),
        );
        debug_assert!(written.is_ok(), "the year has four digits");
        Self(text)
    }
}

/// Seconds and nanoseconds since 1970, within the years that have four digits.
fn since_epoch(time: SystemTime) -> (i64, u32) {
    const FIRST: i64 = -62_167_219_200;
    const LAST: i64 = 253_402_300_799;
    let whole = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let (seconds, nanos) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (whole(after), after.subsec_nanos()),
        Err(error) => match (whole(error.duration()), error.duration().subsec_nanos()) {
            (before, 0) => (-before, 0),
            (before, nanos) => (-before - 1, 1_000_000_000 - nanos),
        },
    };
    match seconds {
        ..FIRST => (FIRST, 0),
        FIRST..=LAST => (seconds, nanos),
        _ => (LAST, 999_999_999),
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Years are counted from March here, so that the leap day is a year's last; 400 of them are 146,097 days.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

impl From<SystemTime> for Timestamp {
    /// With nanoseconds.
    fn from(time: SystemTime) -> Self {
        Self::nanos(time)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no [`Timestamp`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no RFC 3339 timestamp of at most {MAX_LEN} characters")]
pub struct ParseTimestampError {
    text: String,
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        let refuse = || ParseTimestampError {
            text: text.chars().take(2 * MAX_LEN).collect(),
        };
        if !is_rfc3339(text.as_bytes()) {
            return Err(refuse());
        }
        ArrayString::from(text).map(Self).map_err(|_| refuse())
    }
}

/// Whether a text has the form of RFC 3339, section 5.6. Whether the day exists is not looked at.
fn is_rfc3339(text: &[u8]) -> bool {
    fn matches(text: &[u8], form: &[u8]) -> bool {
        let fits = |(&byte, &form)| match form {
            b'9' => u8::is_ascii_digit(&byte),
            b'T' => matches!(byte, b'T' | b't' | b' '),
            b'+' => matches!(byte, b'+' | b'-'),
            other => byte == other,
        };
        text.len() == form.len() && text.iter().zip(form).all(fits)
    }
    let Some((time, rest)) = text.split_at_checked("2026-01-01T00:00:00".len()) else {
        return false;
    };
    let rest = match rest {
        [b'.', fraction @ ..] => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit());
            match digits.count() {
                0 => return false,
                digits => &fraction[digits..],
            }
        }
        rest => rest,
    };
    matches(time, b"9999-99-99T99:99:99")
        && (matches!(rest, b"Z" | b"z") || matches(rest, b"+99:99"))
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = super::wire::Key::deserialize(deserializer)?;
        text.0.parse().map_err(serde::de::Error::custom)
    }
}
