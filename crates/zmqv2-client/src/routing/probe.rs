//! Probes whether a broker is there, without a message: libzmq greets everyone who connects.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use zmqv2_proto::Address;
use zmqv2_proto::transport::connect_local;

use crate::clock;

/// A broker that does not greet within this time is gone or hangs. A stopped process cannot greet,
/// although the kernel still accepts its connections.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The first byte of a ZMTP greeting.
const GREETING: u8 = 0xff;

/// Whether something that speaks ZMTP is at this address. This takes up to one second; over TCP
/// another one to connect, and the time to resolve the name.
pub(crate) fn is_there(address: &Address) -> bool {
    let greeting = match address {
        Address::Tcp(address) => (address.host(), address.port()).to_socket_addrs().and_then(|addresses| {
            let stream = connect(addresses)?;
            stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
            first_byte(stream)
        }),
        Address::Ipc(path) => connect_local(path).and_then(|stream| {
            stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
            first_byte(stream)
        }),
    };
    log::debug!("probed {address}, which could not be reached before: {greeting:?}");
    greeting.is_ok_and(|byte| byte == GREETING)
}

/// Connects to the first of these addresses that accepts.
fn connect(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let by = clock::now() + PROBE_TIMEOUT;
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        let left = by.saturating_duration_since(clock::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

fn first_byte(mut stream: impl Read) -> io::Result<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

    use super::*;

    #[test]
    fn only_a_peer_that_sends_a_greeting_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().to_string().parse().unwrap());
        let greeting = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&[GREETING, 0]).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP").unwrap();
            listener
        });
        assert!(is_there(&address));
        assert!(!is_there(&address), "another protocol");
        let listener = greeting.join().unwrap();
        assert!(!is_there(&address), "the kernel takes the connection, and nobody says anything");
        drop(listener);
        assert!(!is_there(&address));
        assert!(!is_there(&Address::Ipc("/nowhere/broker.sock".into())));
    }

    #[test]
    fn the_first_address_that_accepts_is_used_and_no_other_is_tried() {
        let [first, second] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        // No other test chooses a port of this host, so nobody takes it.
        let nobody = TcpListener::bind("127.98.7.6:0").unwrap().local_addr().unwrap();
        let at = [nobody, first.local_addr().unwrap(), second.local_addr().unwrap()];
        assert_eq!(connect(at.into_iter()).unwrap().peer_addr().unwrap(), at[1]);
        second.set_nonblocking(true).unwrap();
        assert_eq!(second.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(connect([].into_iter()).is_err());
    }

    #[test]
    fn a_local_socket_with_a_full_backlog_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.sock");
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 1).unwrap();
        let mut taken = Vec::new();
        let refused = loop {
            match connect_local(&path) {
                Ok(stream) => taken.push(stream),
                Err(error) => break error,
            }
            assert!(taken.len() < 100, "as many as wait");
        };
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(!is_there(&Address::Ipc(path)));
    }
}
