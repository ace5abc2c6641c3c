//! Moments and spans: local time for people, RFC 3339 in UTC for programs.

use std::cell::RefCell;

use jiff::{
    Span, SpanRelativeTo, Timestamp, ToSpan, Unit, Zoned,
    civil::{Date, DateTime},
    tz::TimeZone,
};
use maimo_core::clock;
use maimo_vault::journal::metadata::FileTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

thread_local! {
    /// By which time zone this thread shows times, if not the system's.
    static ZONE: RefCell<Option<TimeZone>> = const { RefCell::new(None) };
}

/// Returns the name of the user's time zone, if it has one.
pub(crate) fn zone_name() -> Option<String> {
    TimeZone::system().iana_name().map(str::to_owned)
}

/// Has this thread show times by the time zone of this name; by the system's where there is none.
pub(crate) fn show_in(name: Option<&str>) {
    let zone = name.and_then(|name| TimeZone::get(name).ok());
    ZONE.set(zone);
}

fn zone() -> TimeZone {
    let set = ZONE.with_borrow(Clone::clone);
    set.unwrap_or_else(TimeZone::system)
}

/// A moment to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(Timestamp);

impl Moment {
    /// Returns date and time of day where the user is.
    pub(crate) fn local(self) -> String {
        self.zoned(zone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// Returns the date where the user is.
    pub(crate) fn date(self) -> String {
        self.zoned(zone()).date().to_string()
    }

    /// Returns the date by UTC: that is how days are kept of which the moment is not.
    pub(crate) fn day(self) -> String {
        self.zoned(TimeZone::UTC).date().to_string()
    }

    /// Returns the seconds since 1970; 0 before that.
    pub(crate) fn seconds(self) -> u64 {
        u64::try_from(self.0.as_second()).unwrap_or(0)
    }

    /// Returns RFC 3339 in UTC.
    pub(crate) fn rfc3339(self) -> String {
        self.0.to_string()
    }

    fn zoned(self, zone: TimeZone) -> Zoned {
        self.0.to_zoned(zone)
    }
}

/// Beyond what a calendar can say there is only the last moment it can.
impl From<clock::Timestamp> for Moment {
    fn from(time: clock::Timestamp) -> Self {
        let millis = i64::try_from(time.0).ok();
        let time = millis.and_then(|millis| Timestamp::from_millisecond(millis).ok());
        Self(time.unwrap_or(Timestamp::MAX))
    }
}

impl From<FileTime> for Moment {
    fn from(time: FileTime) -> Self {
        let end = if time.seconds < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        };
        let nanos = time.nanos.min(999_999_999).cast_signed();
        Self(Timestamp::new(time.seconds, nanos).unwrap_or(end))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.rfc3339())
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// Moments before 1970 are none of this program's.
impl From<Moment> for clock::Timestamp {
    fn from(moment: Moment) -> Self {
        Self(u64::try_from(moment.0.as_millisecond()).unwrap_or(0))
    }
}

/// Reads a moment: `now`, RFC 3339, a local date and time, a date (its last moment), or a span with `ago`.
pub(crate) fn parse_moment(text: &str) -> Result<clock::Timestamp, String> {
    moment_at(text, &Zoned::now())
}

fn moment_at(text: &str, now: &Zoned) -> Result<clock::Timestamp, String> {
    let text = text.trim();
    let zone = now.time_zone();
    let moment = if text.eq_ignore_ascii_case("now") {
        now.timestamp()
    } else if let Ok(moment) = text.parse::<Timestamp>() {
        moment
    } else if let (true, Ok(date)) = (is_bare_date(text), text.parse::<Date>()) {
        let end = date.tomorrow().and_then(|date| date.to_zoned(zone.clone()));
        end.map_err(|error| error.to_string())?.timestamp() - 1.millisecond()
    } else if let Ok(time) = text.parse::<DateTime>() {
        let zoned = time.to_zoned(zone.clone());
        zoned.map_err(|error| error.to_string())?.timestamp()
    } else if let Ok(span) = text.parse::<Span>() {
        if span.is_positive() {
            return Err(format!(
                "`{text}` lies ahead; for the past say `{text} ago`"
            ));
        }
        let past = now.checked_add(span);
        past.map_err(|error| error.to_string())?.timestamp()
    } else {
        return Err(
            "not a time; say for example 2026-11-23, \"2026-11-23 18:00\", 2026-11-23T18:00:00Z or \"2 days ago\""
                .to_owned(),
        );
    };
    u64::try_from(moment.as_millisecond())
        .map(clock::Timestamp)
        .map_err(|_| "a time before 1970".to_owned())
}

/// A civil date parses out of a date and time too, and would lose the time of day.
fn is_bare_date(text: &str) -> bool {
    text.len() == 10 && !text.contains([':', 'T', 't'])
}

/// Reads a span such as `30 days`, `1y 6mo` or `P3M`, and returns it in milliseconds, back from now.
pub(crate) fn parse_span_ms(text: &str) -> Result<u64, String> {
    span_ms_at(text, &Zoned::now())
}

fn span_ms_at(text: &str, now: &Zoned) -> Result<u64, String> {
    let span: Span = text
        .trim()
        .parse()
        .map_err(|_| "not a duration; say for example 12h, \"30 days\" or 1y6mo".to_owned())?;
    if span.is_negative() {
        return Err("a duration is not negative".to_owned());
    }
    // Months and years are as long as the last ones were.
    let start = now.checked_sub(span).map_err(|error| error.to_string())?;
    let total = start
        .until((Unit::Millisecond, now))
        .and_then(|span| span.total((Unit::Millisecond, SpanRelativeTo::days_are_24_hours())))
        .map_err(|error| error.to_string())?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and a calendar's span in milliseconds is far below 2^53"
    )]
    Ok(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<String, String> {
        let now = "2026-11-23T12:00:00+01:00[+01:00]".parse().unwrap();
        moment_at(text, &now).map(|moment| Moment::from(moment).rfc3339())
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        for (text, moment) in [
            ("now", "2026-11-23T11:00:00Z"),
            ("2026-11-01T08:30:00Z", "2026-11-01T08:30:00Z"),
            ("2026-11-01T08:30:00+02:00", "2026-11-01T06:30:00Z"),
            ("2026-11-01 08:30", "2026-11-01T07:30:00Z"),
            ("2 days ago", "2026-11-21T11:00:00Z"),
            ("1h 30m ago", "2026-11-23T09:30:00Z"),
            ("1 month ago", "2026-10-23T11:00:00Z"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(moment), "{text}");
        }
    }

    #[test]
    fn a_date_is_its_last_moment() {
        assert_eq!(at("2026-11-01").as_deref(), Ok("2026-11-01T22:59:59.999Z"));
    }

    #[test]
    fn what_is_no_moment_of_the_past_is_refused() {
        assert!(at("2 days").unwrap_err().contains("2 days ago"));
        for text in ["", "yesterdayish", "2026-13-01", "1969-12-31T00:00:00Z"] {
            assert!(at(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_read_by_the_calendar() {
        let now = "2026-03-31T00:00:00Z[UTC]".parse().unwrap();
        let days = |text| span_ms_at(text, &now).map(|ms| ms / 86_400_000);
        assert_eq!(days("30 days"), Ok(30));
        assert_eq!(days("1mo"), Ok(31)); // from the last of February
        assert_eq!(days("1y"), Ok(365));
        assert_eq!(span_ms_at("90s", &now), Ok(90_000));
        assert!(span_ms_at("2 days ago", &now).is_err());
        assert!(span_ms_at("soon", &now).is_err());
    }
}
