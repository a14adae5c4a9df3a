//! Why there is no connection to an address, and the sentence that says so. Pure: `transport` looks
//! at the place, and everybody who reports it uses the text from here.

use std::io::{Error, ErrorKind};

use crate::naming::Address;

/// Why there is no connection to the broker at an address.
///
/// [`explain`](Self::explain) gives the sentence for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoConnection {
    /// This user may not use the socket.
    NotPermitted,
    /// The directory of the socket does not exist.
    NoDirectory,
    /// There is no socket in the directory.
    NoSocket,
    /// Another kind of file is in the place of the socket.
    NotASocket,
    /// The socket is there, and no process listens to it.
    Abandoned,
    /// The host name does not resolve.
    UnknownName,
    /// The resolver has not answered in time.
    ResolverSilent,
    /// The host is there, and no program listens to the port.
    Refused,
    /// This machine has no way to the host.
    NoWay,
    /// Nothing has answered.
    Silent,
    /// A program accepts connections there, and does not answer as a broker does.
    NoAnswer,
    /// The program that listens there is too busy to accept another connection.
    Full,
    /// The operating system gave another reason.
    Other(ErrorKind),
    /// Nothing more is known.
    Unknown,
}

impl NoConnection {
    /// The cause of an error of the operating system, about the local socket at `address` or about
    /// a connection to it.
    #[must_use]
    pub fn from_error(address: &Address, error: &Error) -> Self {
        let local = matches!(address, Address::Ipc(_));
        match error.kind() {
            ErrorKind::PermissionDenied if local => Self::NotPermitted,
            ErrorKind::NotFound if local => Self::NoSocket,
            ErrorKind::ConnectionRefused if local => Self::Abandoned,
            ErrorKind::WouldBlock if local => Self::Full,
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Self::NoWay,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Silent,
            kind => Self::Other(kind),
        }
    }

    /// Whether the next attempt meets the same, until somebody corrects it. Otherwise a broker that
    /// starts is enough.
    #[must_use]
    pub fn persists(self) -> bool {
        matches!(self, Self::NotPermitted | Self::NotASocket | Self::UnknownName | Self::Other(_))
    }

    /// What is wrong at `address`, and what to do.
    #[must_use]
    pub fn explain(self, address: &Address) -> String {
        let (path, host) = match address {
            Address::Ipc(path) => (path.display().to_string(), String::new()),
            Address::Tcp(tcp) => (tcp.to_string(), tcp.host().to_owned()),
        };
        match self {
            Self::NotPermitted => format!(
                "permission denied: this user may not use {path}; run as the user of the broker, or change the rights \
                 of the socket and of its directory"
            ),
            Self::NoDirectory => {
                let dir = match address {
                    Address::Ipc(path) => path.parent().unwrap_or(path).display().to_string(),
                    Address::Tcp(_) => path,
                };
                format!("there is no directory {dir}; is zmqv2-broker running there, with the same rpc_zmq_ipc_dir?")
            }
            Self::NoSocket => {
                format!("there is no socket {path}; is zmqv2-broker running there, with the same rpc_zmq_ipc_dir?")
            }
            Self::NotASocket => format!("{path} is not a socket; check rpc_zmq_ipc_dir"),
            Self::Abandoned => "its broker has ended and left its socket; is zmqv2-broker running there?".to_owned(),
            Self::UnknownName => format!(
                "the name {host} does not resolve; correct the name in the directory, or the resolver of this machine"
            ),
            Self::ResolverSilent => {
                format!("the resolver of this machine has not answered in time where {host} is; check it")
            }
            Self::Refused => "connection refused; is zmqv2-broker running there?".to_owned(),
            Self::NoWay => "this machine has no route to the host; check its network".to_owned(),
            Self::Silent => "the host does not answer; is it up, and does a firewall drop connections?".to_owned(),
            Self::NoAnswer => "a program listens there, but does not answer as a broker of zmqv2 does".to_owned(),
            Self::Full => {
                "the program that listens there accepts no more connections; it hangs or is overloaded".to_owned()
            }
            Self::Other(kind) if host.is_empty() => format!("{kind}; check rpc_zmq_ipc_dir"),
            Self::Other(kind) => format!("{kind}; check the address in the directory"),
            Self::Unknown => "is zmqv2-broker running there?".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_own_sentence_and_says_what_to_look_at() {
        let ipc = Address::Ipc("/run/zmqv2/zmqv2-broker.sock".into());
        let tcp = Address::Tcp("node-7:9501".parse().unwrap());
        for (address, cause, parts) in [
            (&ipc, NoConnection::NotPermitted, ["permission denied", "/run/zmqv2/zmqv2-broker.sock"]),
            (&ipc, NoConnection::NoDirectory, ["there is no directory /run/zmqv2;", "rpc_zmq_ipc_dir"]),
            (&ipc, NoConnection::NoSocket, ["there is no socket /run/zmqv2/zmqv2-broker.sock", "running there"]),
            (&ipc, NoConnection::NotASocket, ["is not a socket", "rpc_zmq_ipc_dir"]),
            (&ipc, NoConnection::Abandoned, ["left its socket", "is zmqv2-broker running there?"]),
            (&ipc, NoConnection::Full, ["no more connections", "hangs"]),
            (&ipc, NoConnection::Other(ErrorKind::NotADirectory), ["not a directory", "rpc_zmq_ipc_dir"]),
            (&tcp, NoConnection::UnknownName, ["the name node-7 does not resolve", "resolver"]),
            (&tcp, NoConnection::ResolverSilent, ["node-7", "resolver"]),
            (&tcp, NoConnection::Refused, ["connection refused", "is zmqv2-broker running there?"]),
            (&tcp, NoConnection::NoWay, ["no route", "network"]),
            (&tcp, NoConnection::Silent, ["does not answer", "firewall"]),
            (&tcp, NoConnection::NoAnswer, ["a program listens there", "broker"]),
            (&tcp, NoConnection::Other(ErrorKind::AddrNotAvailable), ["address", "in the directory"]),
            (&tcp, NoConnection::Unknown, ["is zmqv2-broker running there?", ""]),
        ] {
            let text = cause.explain(address);
            assert!(parts.iter().all(|part| text.contains(part)), "{cause:?}: {text}");
        }
    }

    #[test]
    fn errors_of_the_system_are_read_by_the_kind_of_address() {
        let ipc = Address::Ipc("/s".into());
        let tcp = Address::Tcp("h:1".parse().unwrap());
        let of = |address: &Address, kind: ErrorKind| NoConnection::from_error(address, &kind.into());
        assert_eq!(of(&ipc, ErrorKind::PermissionDenied), NoConnection::NotPermitted);
        assert_eq!(of(&ipc, ErrorKind::NotFound), NoConnection::NoSocket);
        assert_eq!(of(&ipc, ErrorKind::ConnectionRefused), NoConnection::Abandoned);
        assert_eq!(of(&ipc, ErrorKind::WouldBlock), NoConnection::Full);
        assert_eq!(of(&tcp, ErrorKind::ConnectionRefused), NoConnection::Refused);
        assert_eq!(of(&tcp, ErrorKind::HostUnreachable), NoConnection::NoWay);
        assert_eq!(of(&tcp, ErrorKind::TimedOut), NoConnection::Silent);
        // A firewall of this machine can forbid a connection. The socket's rights are not the cause.
        let forbidden = of(&tcp, ErrorKind::PermissionDenied);
        assert_eq!(forbidden, NoConnection::Other(ErrorKind::PermissionDenied));
    }
}
