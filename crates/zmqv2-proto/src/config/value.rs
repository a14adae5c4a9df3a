//! How texts become numbers, spans, paths and matchmakers. An error here is only the problem; who
//! wrote the text and what is allowed is added where both are known.

use std::path::PathBuf;
use std::time::Duration;

use crate::address::TcpAddress;

use super::rundir::LONGEST_DIR_BYTES;
use super::settings::{MatchmakerKind, UrlChoice};
use super::spec::Accepted;

/// 2^32 milliseconds, the longest span on the wire, rounded down to seconds.
const MAX_SECONDS: u64 = 4_294_967;

/// A whole number from `min` to `max`.
pub(super) fn integer(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        let decimal = text.parse::<f64>().is_ok_and(f64::is_finite);
        return Err(if decimal { "not a whole number" } else { "not a number" }.to_owned());
    }
    // Whatever does not fit into u64 (a negative number too) is outside every range of the table.
    match text.parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err("out of range".to_owned()),
    }
}

/// A span in seconds: at least a millisecond (or zero where allowed), at most [`MAX_SECONDS`].
pub(super) fn seconds(text: &str, zero: bool) -> Result<Duration, String> {
    let text = text.trim();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    // Exponents, `inf` and `nan`, which a float may be, are more often a mistake than meant.
    let plain = unsigned.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = text.parse::<f64>().ok().filter(|_| plain);
    let number = number.ok_or("not a number of seconds")?;
    if number == 0.0 && zero {
        return Ok(Duration::ZERO);
    }
    match Duration::try_from_secs_f64(number) {
        Ok(span) if span < Duration::from_millis(1) => {
            Err(if number == 0.0 { "zero" } else { "below a millisecond" }.to_owned())
        }
        Ok(span) if span <= Duration::from_secs(MAX_SECONDS) => Ok(span),
        _ => Err("out of range".to_owned()),
    }
}

/// A host name, an IP literal, or `*`.
pub(super) fn host(text: &str) -> Result<String, String> {
    match TcpAddress::new(text, 0) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("not a host name or IP address".to_owned()),
    }
}

/// A path of any kind.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// The path of a daemon's file: the same in whatever directory the daemon was started.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = path(text)?;
    if path.is_absolute() { Ok(path) } else { Err("not an absolute path".to_owned()) }
}

/// A directory of sockets: the same in every process, and with room for the sockets' names.
pub(super) fn socket_dir(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        Err("not an absolute path".to_owned())
    } else if text.len() > LONGEST_DIR_BYTES {
        Err(format!("it has {} bytes", text.len()))
    } else {
        Ok(path)
    }
}

/// A matchmaker by its word, or by the class of the Python driver that had its place.
pub(super) fn matchmaker(text: &str) -> Result<(MatchmakerKind, Accepted), String> {
    for kind in [MatchmakerKind::Local, MatchmakerKind::Ring] {
        if text == kind.as_str() {
            return Ok((kind, Accepted::AsWritten));
        }
    }
    let class = text.rsplit_once('.').map(|(_, class)| class);
    let kind = match class {
        Some("MatchMakerLocalhost") => MatchmakerKind::Local,
        Some("MatchMakerRing") => MatchmakerKind::Ring,
        Some("MatchMakerRedis") => return Err(no_redis()),
        _ if text == "redis" => return Err(no_redis()),
        _ => return Err("not a matchmaker of this version".to_owned()),
    };
    Ok((kind, Accepted::Deprecated(kind.as_str())))
}

fn no_redis() -> String {
    "this version has no Redis matchmaker, it allows local and ring".to_owned()
}

/// The matchmaker a `transport_url` chooses; `None` leaves it to `rpc_zmq_matchmaker`.
pub(super) fn transport_url(text: &str) -> Result<Option<UrlChoice>, String> {
    let (scheme, rest) = text.split_once("://").ok_or("not a URL")?;
    let bare = rest.is_empty() || rest == "/";
    let chosen = |kind| Some(UrlChoice { kind, ring_file: None });
    match scheme {
        "zmqv2" | "zmq" if bare => Ok(None),
        "zmqv2+local" if bare => Ok(chosen(MatchmakerKind::Local)),
        "zmqv2+ring" if bare => Ok(chosen(MatchmakerKind::Ring)),
        "zmqv2+ring" if rest.starts_with('/') => {
            let ring_file = Some(PathBuf::from(rest));
            Ok(Some(UrlChoice { kind: MatchmakerKind::Ring, ring_file }))
        }
        "zmqv2+ring" => Err("the path of the ring file must be absolute".to_owned()),
        "zmqv2" | "zmq" | "zmqv2+local" => {
            Err("a host or path has no meaning here, the matchmaker names the nodes".to_owned())
        }
        _ => Err("not a transport of this version".to_owned()),
    }
}

/// `text` as it may be shown in a message: shortened, and without the password a URL can carry.
pub(super) fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 100;
    let masked = match (text.split_once("://"), text.rfind('@')) {
        (Some((scheme, _)), Some(at)) if at > scheme.len() => {
            format!("{scheme}://***{}", &text[at..])
        }
        _ => text.to_owned(),
    };
    let mut shown: String = masked.chars().take(SHOWN_CHARS).collect();
    if shown.len() < masked.len() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_say_what_is_wrong_with_them() {
        assert_eq!(integer(" 9501 ", 0, 65535), Ok(9501));
        assert_eq!(integer("+1", 1, 64), Ok(1));
        for (text, problem) in [
            ("95x1", "not a number"),
            ("", "not a number"),
            ("-", "not a number"),
            ("inf", "not a number"),
            ("1.5", "not a whole number"),
            ("65536", "out of range"),
            ("-1", "out of range"),
            ("99999999999999999999999999", "out of range"),
        ] {
            assert_eq!(integer(text, 0, 65535), Err(problem.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn seconds_are_whole_or_decimal() {
        assert_eq!(seconds("60", false), Ok(Duration::from_secs(60)));
        assert_eq!(seconds("0.25", false), Ok(Duration::from_millis(250)));
        assert_eq!(seconds("4294967", false), Ok(Duration::from_secs(4_294_967)));
        assert_eq!(seconds("0", true), Ok(Duration::ZERO));
        let endless = "9".repeat(400);
        for text in ["0", "0.0001", "-1", "4294968", "inf", "nan", "1e3", "", ".", "5s", &endless] {
            assert!(seconds(text, false).is_err(), "{text:?}");
        }
    }

    #[test]
    fn dotted_class_names_still_choose_a_matchmaker() {
        for (text, word) in [
            ("oslo_messaging._drivers.matchmaker_ring.MatchMakerRing", "ring"),
            ("oslo.messaging._drivers.matchmaker.MatchMakerLocalhost", "local"),
        ] {
            let (kind, accepted) = matchmaker(text).unwrap();
            assert_eq!((kind.as_str(), accepted), (word, Accepted::Deprecated(word)));
        }
        for text in ["redis", "oslo_messaging._drivers.matchmaker_redis.MatchMakerRedis"] {
            assert!(matchmaker(text).unwrap_err().contains("allows local and ring"));
        }
        assert!(matchmaker("MatchMakerRing").is_err());
    }

    #[test]
    fn a_transport_url_chooses_a_matchmaker() {
        for text in ["zmqv2://", "zmq://", "zmq:///"] {
            assert_eq!(transport_url(text), Ok(None));
        }
        let url = transport_url("zmqv2+ring:///srv/ring.json").unwrap().unwrap();
        assert_eq!(url.ring_file, Some(PathBuf::from("/srv/ring.json")));
        assert_eq!(transport_url("zmqv2+local://").unwrap().unwrap().kind, MatchmakerKind::Local);
        for text in ["", "zmq", "rabbit://h", "zmq+redis://h", "zmq://h", "zmqv2+ring://x.json"] {
            assert!(transport_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        assert_eq!(shown("rabbit://me:pa@ss@host:5672/"), "rabbit://***@host:5672/");
        assert_eq!(shown(&"\u{e9}".repeat(200)).chars().count(), 103);
    }
}
