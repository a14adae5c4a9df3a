//! Why a broker could not be reached. This looks once more, after the call has failed.

use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use zmqv2_proto::Address;
use zmqv2_proto::transport::{TransportError, check_reachable};

/// The longest wait for a resolver and for a connection.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is wrong at `address`, and what to do. This takes up to a second.
pub(crate) fn of(address: &Address) -> String {
    if let Err(TransportError::Connect { source, .. }) = check_reachable(address, PATIENCE) {
        return match address {
            Address::Ipc(path) if source.kind() == ErrorKind::PermissionDenied => format!(
                "{source}: this user may not use {}; run as the user of the broker, or change the rights of the socket",
                path.display()
            ),
            Address::Ipc(_) => format!("{source}; check rpc_zmq_ipc_dir"),
            Address::Tcp(_) => format!("{source}; correct the name in the directory, or the resolver of this machine"),
        };
    }
    match address {
        Address::Ipc(path) => of_socket(path),
        Address::Tcp(address) => {
            // It has been resolved within the patience, or the resolver is slow.
            let found = (address.host(), address.port()).to_socket_addrs();
            let Some(found) = found.ok().and_then(|mut all| all.next()) else {
                return "is zmqv2-broker running there?".to_owned();
            };
            match TcpStream::connect_timeout(&found, PATIENCE) {
                Ok(_) => "a program listens there, but not as a broker of zmqv2 does".to_owned(),
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    "it does not answer: is the host up, and does a firewall drop connections?".to_owned()
                }
                Err(error) => format!("{error}; is zmqv2-broker running there?"),
            }
        }
    }
}

fn of_socket(path: &Path) -> String {
    let dir = path.parent().unwrap_or(path);
    match UnixStream::connect(path) {
        Ok(_) => "a program listens there, but does not answer as a broker of zmqv2 does".to_owned(),
        Err(_) if !dir.exists() => {
            format!(
                "there is no directory {}; is zmqv2-broker running there, with the same rpc_zmq_ipc_dir?",
                dir.display()
            )
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            "its broker has died and left its socket; is zmqv2-broker running there?".to_owned()
        }
        Err(error) => format!("{error}; is zmqv2-broker running there?"),
    }
}
