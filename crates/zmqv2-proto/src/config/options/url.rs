//! The option `transport_url`.

use std::path::PathBuf;

use crate::naming::TcpAddress;

use crate::config::options::value;
use crate::config::settings::{MatchmakerKind, RedisChoice, Secret, UrlChoice};

/// A service may use several drivers, and its file names the one of the others.
const OTHER_DRIVER: &str = "not a transport of zmqv2; if other programs need this line, keep it and override it for zmqv2 alone: \
     set the environment variable OS_DEFAULT__TRANSPORT_URL=zmqv2://, or pass --set transport_url=zmqv2://";

/// The matchmaker a `transport_url` chooses; `None` leaves it to `rpc_zmq_matchmaker`.
pub(crate) fn transport_url(text: &str) -> Result<Option<UrlChoice>, String> {
    let (scheme, rest) = text.split_once("://").ok_or("not a URL")?;
    // The last ZeroMQ driver wrote zmq+redis:// and zmq+sentinel://.
    let renamed =
        scheme.strip_prefix("zmq+").map(|kind| format!("zmqv2+{}", if kind == "dummy" { "local" } else { kind }));
    let scheme = renamed.as_deref().unwrap_or(scheme);
    let bare = rest.is_empty() || rest == "/";
    let chosen = |kind| UrlChoice { kind, ring_file: None, redis: None };
    let redis = |choice| UrlChoice { redis: Some(choice), ..chosen(MatchmakerKind::Redis) };
    let tls = matches!(scheme, "zmqv2+rediss" | "zmqv2+sentinels");
    Ok(Some(match scheme {
        "zmqv2" | "zmq" if bare => return Ok(None),
        "zmqv2+local" if bare => chosen(MatchmakerKind::Local),
        "zmqv2+ring" if bare => chosen(MatchmakerKind::Ring),
        "zmqv2+ring" if rest.starts_with('/') => {
            UrlChoice { ring_file: Some(PathBuf::from(rest)), ..chosen(MatchmakerKind::Ring) }
        }
        "zmqv2+ring" => return Err("the path of the ring file must be absolute".to_owned()),
        // Only the scheme overrides options.
        "zmqv2+redis" if bare => chosen(MatchmakerKind::Redis),
        "zmqv2+rediss" if bare => redis(RedisChoice { tls, ..RedisChoice::default() }),
        "zmqv2+redis" | "zmqv2+rediss" => redis(RedisChoice { tls, ..server(rest)? }),
        "zmqv2+sentinel" | "zmqv2+sentinels" if rest.is_empty() || rest.starts_with('/') => {
            let scheme = if tls { "zmqv2+rediss" } else { "zmqv2+redis" };
            return Err(format!(
                "it names no Sentinels; for those of sentinel_hosts in [matchmaker_redis], write {scheme}://"
            ));
        }
        "zmqv2+sentinel" | "zmqv2+sentinels" => redis(RedisChoice { tls, ..sentinels(rest)? }),
        "zmqv2" | "zmq" | "zmqv2+local" => {
            return Err("a host or path has no meaning here: the matchmaker names the nodes".to_owned());
        }
        _ => return Err(OTHER_DRIVER.to_owned()),
    }))
}

/// Whether the URL may contain a password.
pub(crate) fn has_password(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}

/// `[user:password@]host[:port][/database]`.
fn server(rest: &str) -> Result<RedisChoice, String> {
    let (mut redis, hosts, path) = parts(rest)?;
    let (host, port) = match hosts.rsplit_once(':') {
        // An IPv6 literal without a port ends with its bracket.
        Some((host, port)) if !port.ends_with(']') => {
            let port = value::integer(port, 1, 65_535).map_err(|problem| format!("the port is {problem}"))?;
            (host, Some(port as u16))
        }
        _ => (hosts, None),
    };
    if !path.is_empty() {
        let number = value::integer(path, 0, 65_535).map_err(|problem| format!("the database is {problem}"))?;
        redis.database = Some(number as u16);
    }
    let address = TcpAddress::new(host, 0).map_err(|error| error.to_string())?;
    Ok(RedisChoice { host: Some(address.host().to_owned()), port, sentinels: Some(Vec::new()), ..redis })
}

/// `[user:password@]host[:port],.../group`.
fn sentinels(rest: &str) -> Result<RedisChoice, String> {
    let (mut redis, hosts, group) = parts(rest)?;
    redis.sentinels = Some(value::sentinels(hosts)?);
    redis.group = if group.is_empty() { None } else { Some(value::word(&decoded(group)?)?) };
    Ok(redis)
}

/// User and password, hosts, and the path without its slash.
fn parts(rest: &str) -> Result<(RedisChoice, &str, &str), String> {
    // The last `@` ends the login. A password with an unescaped @ or / is refused below.
    let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut redis = RedisChoice::default();
    if let Some(login) = login {
        if login.contains(['@', '/']) {
            return Err("write @ as %40 and / as %2F in user and password".to_owned());
        }
        let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
        redis.user = if user.is_empty() { None } else { Some(value::word(&decoded(user)?)?) };
        redis.password = password.map(|password| decoded(password).map(Secret::new)).transpose()?;
    }
    Ok((redis, hosts, path))
}

/// A text in which `%41` stands for `A`.
fn decoded(text: &str) -> Result<String, String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or("a % stands before two hexadecimal digits")?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    if text.chars().any(char::is_control) { Err("it has a control character".to_owned()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_url_chooses_a_matchmaker() {
        for text in ["zmqv2://", "zmq://", "zmq:///"] {
            assert_eq!(transport_url(text), Ok(None));
        }
        let url = transport_url("zmqv2+ring:///srv/ring.json").unwrap().unwrap();
        assert_eq!(url.ring_file, Some(PathBuf::from("/srv/ring.json")));
        assert_eq!(transport_url("zmqv2+local://").unwrap().unwrap().kind, MatchmakerKind::Local);
        let bare = transport_url("zmqv2+redis://").unwrap().unwrap();
        assert_eq!((bare.kind, bare.redis), (MatchmakerKind::Redis, None));
        for text in ["", "zmq", "rabbit://h", "zmq+x://h", "zmq://h", "zmqv2+ring://x.json"] {
            assert!(transport_url(text).is_err(), "{text}");
        }
    }

    fn redis(text: &str) -> RedisChoice {
        let url = transport_url(text).unwrap().unwrap();
        assert_eq!(url.kind, MatchmakerKind::Redis);
        url.redis.unwrap()
    }

    #[test]
    fn redis_is_named_with_all_that_it_takes() {
        let full = redis("zmqv2+redis://me:p%40ss%2f@h:7000/3");
        let plain = RedisChoice {
            user: Some("me".into()),
            password: Some(Secret::new("p@ss/")),
            host: Some("h".into()),
            port: Some(7000),
            database: Some(3),
            sentinels: Some(Vec::new()),
            ..RedisChoice::default()
        };
        assert_eq!(full, plain);
        let secure = redis("zmqv2+rediss://:pw@[::1]");
        assert_eq!((secure.host.as_deref(), secure.port, secure.tls, secure.user), (Some("::1"), None, true, None));
        assert_eq!(redis("zmqv2+redis://[::1]:1/").port, Some(1));
        for text in
            ["h:0", "h:x", "h/x", "h/99999", "a/b@h", "a@b@h", "u:%4@h", "u:%zz@h", "u:%ff@h", "u:%0a@h", "a b", "*?"]
        {
            assert!(transport_url(&format!("zmqv2+redis://{text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_of_the_last_driver_are_read() {
        for kind in
            ["redis://", "redis://:pw@h:7000/", "rediss://h", "sentinel://h1:1,h2/g", "ring:///r.json", "local://"]
        {
            let old = transport_url(&format!("zmq+{kind}")).unwrap();
            assert!(old.is_some() && old == transport_url(&format!("zmqv2+{kind}")).unwrap(), "{kind}");
        }
        assert_eq!(transport_url("zmq+dummy://").unwrap().unwrap().kind, MatchmakerKind::Local);
    }

    #[test]
    fn sentinels_are_named_with_their_group() {
        let choice = redis("zmqv2+sentinel://u:p@h1:1,h2/mymaster");
        let hosts: Vec<_> = choice.sentinels.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["h1:1", "h2:26379"]);
        assert_eq!((choice.group.as_deref(), choice.host, choice.tls), (Some("mymaster"), None, false));
        assert!(redis("zmqv2+sentinels://h1").tls);
        assert!(transport_url("zmqv2+sentinel://h1,/g").is_err());
        for (scheme, instead) in [("zmqv2+sentinel", "zmqv2+redis://"), ("zmqv2+sentinels", "zmqv2+rediss://")] {
            for rest in ["", "/", "/group"] {
                let refused = transport_url(&format!("{scheme}://{rest}")).unwrap_err();
                assert!(refused.starts_with("it names no Sentinels") && refused.ends_with(instead), "{refused}");
            }
        }
    }
}
