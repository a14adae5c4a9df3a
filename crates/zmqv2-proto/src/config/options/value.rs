//! Reads values from texts. An error names only the problem; the caller adds the source of the text
//! and the allowed values.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::naming::TcpAddress;

use crate::config::ipc_dir::LONGEST_DIR_BYTES;
use crate::config::options::spec::Accepted;
use crate::config::settings::{MatchmakerKind, Secret};

/// 2^32 milliseconds, the longest span on the wire, rounded down to seconds.
const MAX_SECONDS: u64 = 4_294_967;

/// A whole number from `min` to `max`.
pub(crate) fn integer(text: &str, min: u64, max: u64) -> Result<u64, String> {
    // Python reads 1_000 as 1000.
    let grouped = text.contains('_') && text.split('_').all(|part| !part.is_empty());
    let plain = if grouped { text.replace('_', "") } else { text.to_owned() };
    let text = plain.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        let decimal = text.parse::<f64>().is_ok_and(f64::is_finite);
        return Err(if decimal { "not a whole number" } else { "not a number" }.to_owned());
    }
    // A number that does not fit into u64 is outside every range of the table.
    match text.parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err("out of range".to_owned()),
    }
}

/// A span in seconds: at least a millisecond (or zero where allowed), at most [`MAX_SECONDS`].
pub(crate) fn seconds(text: &str, zero: bool) -> Result<Duration, String> {
    let text = text.trim();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    // Rust also reads `1e3`, `inf` and `nan` as floats; here they are probably mistakes.
    let plain = unsigned.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = text.parse::<f64>().ok().filter(|_| plain).ok_or("not a number of seconds")?;
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

/// A level of a log.
pub(crate) fn log_level(text: &str) -> Result<log::LevelFilter, String> {
    text.parse().map_err(|_| "not a level".to_owned())
}

/// A host name, an IP literal, or `*`.
pub(crate) fn host(text: &str) -> Result<String, String> {
    TcpAddress::new(text, 0).map(|_| text.to_owned()).map_err(|_| "not a host name or IP address".to_owned())
}

/// An address to bind: `*`, an IP literal (IPv6 with a zone too), a network interface, or a host name.
pub(crate) fn bind_address(text: &str) -> Result<String, String> {
    const PORT: &str = "a port belongs in rpc_zmq_port";
    if text.starts_with('[') && text.contains("]:") {
        return Err(PORT.to_owned());
    }
    let host = host(text)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    let (address, zone) = bare.split_once('%').map_or((bare, None), |(address, zone)| (address, Some(zone)));
    let v6 = address.parse::<std::net::Ipv6Addr>();
    let numeric = bare.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if zone.is_some_and(|zone| v6.is_err() || zone.is_empty() || zone.contains('%')) {
        Err("a % stands only between an IPv6 address and its zone, an interface such as eth0".to_owned())
    } else if let Some(name) = zone.and_then(|zone| zone.strip_prefix("25")).filter(|name| !is_number(name)) {
        Err(format!("%25 stands for % in URLs only; write {address}%{name}"))
    } else if zone.is_none() && v6.as_ref().is_ok_and(std::net::Ipv6Addr::is_unicast_link_local) {
        Err(format!("a link-local address needs its interface: write {address}%eth0 if it belongs to eth0"))
    } else if bare.contains(':') && v6.is_err() {
        Err(format!("not an IPv6 address, and {PORT}"))
    } else if (numeric && bare.parse::<std::net::Ipv4Addr>().is_err()) || (bare.contains('*') && bare != "*") {
        Err("not a host name or IP address".to_owned())
    } else {
        Ok(host)
    }
}

/// Whether every character is a digit. The number of an interface may begin with 25.
fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// The name of this node. Others connect to it, so it is no wildcard.
pub(crate) fn node_name<T: FromStr>(text: &str) -> Result<T, String> {
    if text == "*" { Err("other nodes cannot connect to it".to_owned()) } else { name(text) }
}

/// A name such as a node, a zone or an exchange.
pub(crate) fn name<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "not a name".to_owned())
}

/// A text that is never shown.
pub(crate) fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

/// A path of any kind.
pub(crate) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// A path that does not depend on the directory in which a daemon was started.
pub(crate) fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = path(text)?;
    if path.is_absolute() { Ok(path) } else { Err("not an absolute path".to_owned()) }
}

/// A directory of sockets: absolute, and short enough for the names of sockets.
pub(crate) fn socket_dir(text: &str) -> Result<PathBuf, String> {
    let path = absolute_path(text)?;
    if text.len() > LONGEST_DIR_BYTES { Err(format!("it has {} bytes", text.len())) } else { Ok(path) }
}

/// A matchmaker by its word, or by the class name in the legacy driver.
pub(crate) fn matchmaker(text: &str) -> Result<(MatchmakerKind, Accepted), String> {
    for kind in [MatchmakerKind::Local, MatchmakerKind::Ring, MatchmakerKind::Redis] {
        if text == kind.as_str() {
            return Ok((kind, Accepted::AsWritten));
        }
    }
    let class = text.rsplit_once('.').map(|(_, class)| class);
    let kind = match class {
        Some("MatchMakerLocalhost") => MatchmakerKind::Local,
        Some("MatchMakerRing") => MatchmakerKind::Ring,
        Some("MatchMakerRedis" | "RedisMatchMaker") => MatchmakerKind::Redis,
        _ => return Err("not a matchmaker of this version".to_owned()),
    };
    Ok((kind, Accepted::Deprecated(kind.as_str())))
}

/// The default port of a Sentinel.
const SENTINEL_PORT: u16 = 26379;

/// Addresses of Sentinels, separated by commas.
pub(crate) fn sentinels(text: &str) -> Result<Vec<TcpAddress>, String> {
    let address = |text: &str| {
        let address = TcpAddress::parse(text.trim(), SENTINEL_PORT).map_err(|error| error.to_string())?;
        if address.host() == "*" || address.port() == 0 {
            Err(format!("{address} is not an address"))
        } else {
            Ok(address)
        }
    };
    text.split(',').map(address).collect()
}

/// True or false, in the words of oslo.config.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

/// A text without white space.
pub(crate) fn word(text: &str) -> Result<String, String> {
    let wrong = text.is_empty() || text.chars().any(char::is_whitespace);
    if wrong { Err("not a name".to_owned()) } else { Ok(text.to_owned()) }
}

/// `text` for a message: shortened, and without the password of a URL.
pub(crate) fn shown(text: &str) -> String {
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
        assert_eq!((integer("1_000", 1, 1000), integer("0_600", 1, 1000)), (Ok(1000), Ok(600)));
        assert!(integer("1__0", 1, 64).is_err() && integer("_1", 1, 64).is_err() && integer("1_", 1, 64).is_err());
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
    fn an_address_to_bind_is_one_that_the_system_may_have() {
        for text in [
            "*",
            "::",
            "[::1]",
            "fe80::1%eth0",
            "[fe80::1%2]",
            "fe80::1%257",
            "eth0",
            "br-ex.100",
            "10.0.0.1",
            "node-7.site",
            "7a",
        ] {
            assert_eq!(bind_address(text), Ok(text.to_owned()));
        }
        for text in [
            "",
            "eth0:1",
            "10.0.0.1:9501",
            "[::1]:7",
            "fe80::1%",
            "fe80::1%a%b",
            "fe80::1",
            "[febf::1]",
            "fe80::1%25eth0",
            "[fe80::1%eth0]:9501",
            "h%eth0",
            "999.1.1.1",
            "10.0",
            "1::2::3",
            "*x",
        ] {
            assert!(bind_address(text).is_err(), "{text:?}");
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
            ("oslo_messaging._drivers.matchmaker_redis.MatchMakerRedis", "redis"),
        ] {
            let (kind, accepted) = matchmaker(text).unwrap();
            assert_eq!((kind.as_str(), accepted), (word, Accepted::Deprecated(word)));
        }
        assert_eq!(matchmaker("redis"), Ok((MatchmakerKind::Redis, Accepted::AsWritten)));
        assert!(matchmaker("MatchMakerRing").is_err());
    }

    #[test]
    fn sentinels_have_a_port_of_their_own_and_words_no_spaces() {
        let shown = |text| sentinels(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        assert_eq!(shown("a, b:1,[::1]"), Ok("a:26379 b:1 [::1]:26379".to_owned()));
        for text in ["", "a,", "a b", "*:1", "a:0"] {
            assert!(sentinels(text).is_err(), "{text:?}");
        }
        assert_eq!((boolean("True"), boolean("off")), (Ok(true), Ok(false)));
        assert!(boolean("maybe").is_err() && word("a b").is_err() && word("").is_err());
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        assert_eq!(shown("rabbit://me:pa@ss@host:5672/"), "rabbit://***@host:5672/");
        assert_eq!(shown(&"\u{e9}".repeat(200)).chars().count(), 103);
    }
}
