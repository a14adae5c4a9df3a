//! Reads the clocks. No other file of this crate does.

use std::time::Instant;

/// The time, for deadlines and idle sockets.
#[expect(
    clippy::disallowed_methods,
    reason = "the client drives its own calls: everything else gets `now` as an argument"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time in UTC as a notification carries it for people: `2015-06-12 10:11:12.123456`.
pub(crate) fn timestamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S.%6f").to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_timestamp_has_six_digits_of_a_second_and_no_zone() {
        let shown = super::timestamp();
        let shape: String = shown.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00 00:00:00.000000", "{shown}");
        let read = jiff::fmt::strtime::parse("%Y-%m-%d %H:%M:%S.%6f %z", format!("{shown} +0000")).unwrap();
        let age = jiff::Timestamp::now().duration_since(read.to_timestamp().unwrap());
        assert!(age.as_secs().abs() < 60, "{shown}");
    }
}
