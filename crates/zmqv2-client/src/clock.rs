//! Reads the clocks. No other file of this crate does.

use std::time::{Instant, SystemTime};

/// The time, for deadlines and idle sockets.
#[expect(
    clippy::disallowed_methods,
    reason = "the client drives its own calls: everything else gets `now` as an argument"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time in UTC as a notification carries it for people: `2015-06-12 10:11:12.123456`.
#[expect(clippy::disallowed_methods, reason = "people read it, and nothing is decided by it")]
pub(crate) fn timestamp() -> String {
    utc(SystemTime::now())
}

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The date and time of `at` in UTC. A time before 1970 counts as the beginning of 1970.
fn utc(at: SystemTime) -> String {
    let since_1970 = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (mut days, of_day) = (since_1970.as_secs() / DAY_SECONDS, since_1970.as_secs() % DAY_SECONDS);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let of_year = if is_leap(year) { 366 } else { 365 };
        if days < of_year {
            break;
        }
        (days, year) = (days - of_year, year + 1);
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for of_month in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < of_month {
            break;
        }
        (days, month) = (days - of_month, month + 1);
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let micros = since_1970.subsec_micros();
    format!("{year:04}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02}.{micros:06}", days + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the timestamp shows this clock")]
    fn a_timestamp_has_six_digits_of_a_second_and_no_zone() {
        let before = SystemTime::now();
        let shown = timestamp();
        let after = SystemTime::now();
        let shape: String = shown.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00 00:00:00.000000", "{shown}");
        // The texts are in the order of the times.
        assert!(utc(before) <= shown && shown <= utc(after), "{shown}");
    }

    /// As `date --utc --date=@SECONDS '+%F %T'` writes them.
    #[test]
    fn a_date_is_right_around_the_ends_of_months_and_in_leap_years() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00"),
            (31_535_999, "1970-12-31 23:59:59"),
            (68_169_600, "1972-02-29 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (978_220_800, "2000-12-31 00:00:00"),
            (1_700_000_000, "2023-11-14 22:13:20"),
            (4_107_542_399, "2100-02-28 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(1_999);
            assert_eq!(utc(at), format!("{expected}.000001"));
        }
    }
}
