//! Addresses of brokers and sockets.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::naming::{NodeName, Zone, serde_as_text};

/// The longest path of a Unix socket on Linux, in bytes (`sun_path` without its final NUL).
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// The default port of a broker (option `rpc_zmq_port`).
pub(crate) const DEFAULT_PORT: u16 = 9501;

/// The error for a text or path that is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAddress {
    /// The text is not `HOST`, `HOST:PORT` or `[IPV6]:PORT`.
    #[error("invalid address {0:?}: write HOST, HOST:PORT, or [IPV6]:PORT with a port from 0 to 65535")]
    Text(String),
    /// The path is too long for a Unix socket.
    #[error(
        "socket path {path:?} has {length} bytes, the operating system allows {MAX_SOCKET_PATH_BYTES}: choose a shorter rpc_zmq_ipc_dir"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// The path's length in bytes.
        length: usize,
    },
}

/// A TCP address: host name, IPv4 or IPv6 literal, or `*`, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TcpAddress {
    host: Arc<str>,
    port: u16,
}

impl TcpAddress {
    /// An address from its parts; `host` may be an IPv6 literal with or without brackets.
    ///
    /// # Errors
    /// [`InvalidAddress::Text`] when `host` cannot be part of an address.
    pub fn new(host: impl AsRef<str>, port: u16) -> Result<Self, InvalidAddress> {
        let given = host.as_ref();
        let host = given.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(given);
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%' | '*');
        if host.is_empty() || host.len() > 253 || !host.chars().all(legal) {
            return Err(InvalidAddress::Text(given.chars().take(60).collect()));
        }
        Ok(Self { host: host.into(), port })
    }

    /// Reads `HOST`, `HOST:PORT`, `IPV6` or `[IPV6]:PORT`; without a port, `default_port`.
    ///
    /// # Errors
    /// [`InvalidAddress::Text`] when `text` is none of these.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, InvalidAddress> {
        let wrong = || InvalidAddress::Text(text.chars().take(60).collect());
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(wrong()),
            }
        } else {
            match text.split_once(':') {
                Some((_, rest)) if rest.contains(':') => (text, None),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = match port {
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
            None => default_port,
        };
        Self::new(host, port)
    }

    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 0 in a bind address picks a free one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the socket must allow IPv6: always, except for an IPv4 literal.
    #[must_use]
    pub fn may_be_ipv6(&self) -> bool {
        self.host.parse::<std::net::Ipv4Addr>().is_err()
    }
}

impl fmt::Display for TcpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

serde_as_text!(TcpAddress, address => &address.to_string());

impl FromStr for TcpAddress {
    type Err = InvalidAddress;
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        Self::parse(text, DEFAULT_PORT)
    }
}

/// The address of a socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP, between nodes.
    Tcp(TcpAddress),
    /// The path of a Unix socket, inside a node.
    Ipc(PathBuf),
}

impl Address {
    /// The address of the Unix socket at `path`.
    ///
    /// # Errors
    /// [`InvalidAddress::PathTooLong`] above 107 bytes. libzmq notices the limit only after it has
    /// removed the file.
    pub fn ipc(path: impl AsRef<Path>) -> Result<Self, InvalidAddress> {
        let path = path.as_ref();
        let length = path.as_os_str().len();
        if length > MAX_SOCKET_PATH_BYTES {
            return Err(InvalidAddress::PathTooLong { path: path.to_owned(), length });
        }
        Ok(Self::Ipc(path.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Ipc(path) => write!(f, "ipc://{}", path.display()),
        }
    }
}

/// A node: its name in the directory and the TCP address of its broker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// The name (option `rpc_zmq_host` of its broker).
    pub name: NodeName,
    /// The address of its broker.
    pub address: TcpAddress,
    /// The zone of the node (option `rpc_zmq_zone` of its broker), if any.
    pub zone: Option<Zone>,
}

impl Node {
    /// A node from its parts, without a zone.
    #[must_use]
    pub fn new(name: NodeName, address: TcpAddress) -> Self {
        Self { name, address, zone: None }
    }

    /// The same node in this zone, or in none.
    #[must_use]
    pub fn in_zone(mut self, zone: Option<Zone>) -> Self {
        self.zone = zone;
        self
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, shown) in [
            ("h", "h:9501"),
            ("h:1", "h:1"),
            ("::1", "[::1]:9501"),
            ("[::1]", "[::1]:9501"),
            ("[fe80::1%lo]:7", "[fe80::1%lo]:7"),
            ("*:0", "*:0"),
        ] {
            assert_eq!(text.parse::<TcpAddress>().unwrap().to_string(), shown);
        }
        for text in ["", ":1", "h:", "h:x", "h:65536", "h:-1", "h:+1", "[::1", "[::1]x", "a b", "h/x:1"] {
            assert!(text.parse::<TcpAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_long_socket_path_names_itself_and_the_limit() {
        let error = Address::ipc(format!("/{}", "d".repeat(200))).unwrap_err().to_string();
        assert!(error.contains("201 bytes") && error.contains("107"), "{error}");
    }
}
