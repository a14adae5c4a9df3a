//! Looks at an address without libzmq, which only tries again and again and does not say why. A
//! resolver and a connection may take long: they have threads of their own.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::naming::{Address, TcpAddress};
use crate::no_connection::NoConnection;
use crate::transport::TransportError;

/// The longest time that an observation waits for a connection over TCP.
const OBSERVED_FOR: Duration = Duration::from_millis(500);

/// Checks that `address` can lead somewhere, and returns the address for
/// [`Socket::connect`](crate::transport::Socket::connect): a host name is resolved, because libzmq
/// would do that in the thread that serves all its connections. A local socket that does not exist
/// yet is no error. Waits at most `patience` for the resolver.
///
/// # Errors
/// [`TransportError::Unreachable`]: this user may not use the socket, the path is no socket, or the
/// name does not resolve in time.
pub fn check_reachable(address: &Address, patience: Duration) -> Result<Address, TransportError> {
    let unreachable = |cause| TransportError::Unreachable { address: address.clone(), cause };
    if !needs_resolver(address) {
        return check_local(address).map(|()| address.clone()).map_err(unreachable);
    }
    let (sender, receiver) = mpsc::channel();
    resolve(address.clone(), move |found| drop(sender.send(found)))
        .map_err(|source| TransportError::Connect { address: address.clone(), source })?;
    receiver.recv_timeout(patience).unwrap_or(Err(NoConnection::ResolverSilent)).map_err(unreachable)
}

/// Whether the address has a host name, so that [`resolve`] must find the host before a connection.
#[must_use]
pub fn needs_resolver(address: &Address) -> bool {
    match address {
        Address::Ipc(_) => false,
        Address::Tcp(tcp) => !tcp.host().contains([':', '*']) && tcp.host().parse::<IpAddr>().is_err(),
    }
}

/// Resolves the host name of an address in a thread of its own, because the resolver of the system
/// has no bound. `done` gets the same address with a number for the name.
///
/// # Errors
/// There is no thread.
pub fn resolve(address: Address, done: impl FnOnce(Result<Address, NoConnection>) + Send + 'static) -> io::Result<()> {
    let look = move || done(resolved(&address));
    std::thread::Builder::new().name("zmqv2-resolver".to_owned()).spawn(look).map(drop)
}

fn resolved(address: &Address) -> Result<Address, NoConnection> {
    let Address::Tcp(tcp) = address else { return Ok(address.clone()) };
    let found = (tcp.host(), tcp.port()).to_socket_addrs().ok().and_then(|mut all| all.next());
    // The system orders them, so that the first one is the most likely to work.
    let host = match found.ok_or(NoConnection::UnknownName)? {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        other => other.ip().to_string(),
    };
    TcpAddress::new(host, tcp.port()).map(Address::Tcp).map_err(|_| NoConnection::UnknownName)
}

/// Looks at a local socket, without a connection. One that does not exist yet is no error, and an
/// address of another machine neither.
///
/// # Errors
/// Why there can be no connection.
pub fn check_local(address: &Address) -> Result<(), NoConnection> {
    let Address::Ipc(path) = address else { return Ok(()) };
    let failed = |error: io::Error| NoConnection::from_error(address, &error);
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(NoConnection::NotASocket),
        Ok(_) => {}
    }
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).map_err(|error| failed(error.into()))
}

/// Connects to a local socket without waiting. A full backlog is an error.
///
/// # Errors
/// The operating system's reason.
pub fn connect_local(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Finds why libzmq has no connection to an address.
#[derive(Debug)]
pub struct Observation(Observed);

#[derive(Debug)]
enum Observed {
    Local(Address),
    /// A thread of its own connects.
    Remote(mpsc::Receiver<NoConnection>),
    Known(NoConnection),
}

impl Observation {
    /// Begins. For an address of another machine, a thread looks, for half a second and the time of
    /// the resolver.
    #[must_use]
    pub fn begin(address: &Address) -> Self {
        if let Address::Ipc(_) = address {
            return Self(Observed::Local(address.clone()));
        }
        let (sender, receiver) = mpsc::channel();
        let address = address.clone();
        let look = move || {
            // Perhaps nobody wants to know any more.
            let _ = sender.send(look_at_host(&address));
        };
        let started = std::thread::Builder::new().name("zmqv2-observer".to_owned()).spawn(look).map(drop);
        Self(started.map_or(Observed::Known(NoConnection::Unknown), |()| Observed::Remote(receiver)))
    }

    /// The cause, as far as it is known. This never waits.
    #[must_use]
    pub fn cause(&mut self) -> NoConnection {
        let cause = match &self.0 {
            Observed::Local(address) => return look_at_socket(address),
            Observed::Remote(receiver) => match receiver.try_recv() {
                Ok(cause) => cause,
                Err(_) => return NoConnection::Silent,
            },
            Observed::Known(cause) => *cause,
        };
        self.0 = Observed::Known(cause);
        cause
    }

    /// Whether a thread has begun to look and has not said yet what it saw.
    #[must_use]
    pub fn is_pending(&mut self) -> bool {
        self.cause() == NoConnection::Silent && matches!(self.0, Observed::Remote(_))
    }
}

/// Why there is no connection to a local socket. This does not wait.
fn look_at_socket(address: &Address) -> NoConnection {
    let Address::Ipc(path) = address else { return NoConnection::Unknown };
    if let Err(cause) = check_local(address) {
        return cause;
    }
    match connect_local(path) {
        Ok(_) => NoConnection::NoAnswer,
        Err(error) => match NoConnection::from_error(address, &error) {
            NoConnection::NoSocket if !path.parent().is_some_and(Path::exists) => NoConnection::NoDirectory,
            cause => cause,
        },
    }
}

fn look_at_host(address: &Address) -> NoConnection {
    let Address::Tcp(tcp) = address else { return NoConnection::Unknown };
    let found = (tcp.host(), tcp.port()).to_socket_addrs().ok().and_then(|mut all| all.next());
    let Some(found) = found else { return NoConnection::UnknownName };
    match TcpStream::connect_timeout(&found, OBSERVED_FOR) {
        Ok(_) => NoConnection::NoAnswer,
        Err(error) => NoConnection::from_error(address, &error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn tcp(text: &str) -> Address {
        Address::Tcp(text.parse().unwrap())
    }

    fn ipc(path: PathBuf) -> Address {
        Address::Ipc(path)
    }

    #[test]
    fn what_leads_nowhere_is_named_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let check = |address: &Address| {
            check_reachable(address, LONG).map_err(|error| match error {
                TransportError::Unreachable { cause, .. } => cause,
                other => panic!("{other}"),
            })
        };
        assert_eq!(check(&ipc(file.clone())), Err(NoConnection::NotASocket));
        assert_eq!(check(&ipc(file.join("x"))), Err(NoConnection::Other(ErrorKind::NotADirectory)));
        let absent = ipc(dir.path().join("absent"));
        assert_eq!(check(&absent), Ok(absent.clone()));
        let bound = ipc(dir.path().join("bound"));
        let _listener = UnixListener::bind(dir.path().join("bound")).unwrap();
        assert_eq!(check(&bound), Ok(bound.clone()));
        for literal in ["127.0.0.1:1", "[::1]:1", "[fe80::1%lo]:1"] {
            assert_eq!(check(&tcp(literal)), Ok(tcp(literal)));
        }
        assert_eq!(check(&tcp("no-such-host.invalid:1")), Err(NoConnection::UnknownName));
    }

    #[test]
    fn a_name_becomes_a_number() {
        let found = check_reachable(&tcp("localhost:7"), LONG).unwrap();
        assert!([tcp("127.0.0.1:7"), tcp("[::1]:7")].contains(&found), "{found}");
    }

    #[test]
    fn an_observation_tells_what_is_wrong_with_a_local_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.sock");
        let cause = |path: &Path| Observation::begin(&ipc(path.to_owned())).cause();
        assert_eq!(cause(&dir.path().join("none/broker.sock")), NoConnection::NoDirectory);
        assert_eq!(cause(&path), NoConnection::NoSocket);
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(cause(&path), NoConnection::NoAnswer);
        drop(listener);
        assert_eq!(cause(&path), NoConnection::Abandoned);
    }

    #[test]
    fn an_observation_tells_what_is_wrong_with_a_host() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp(&listener.local_addr().unwrap().to_string());
        assert_eq!(look_at_host(&address), NoConnection::NoAnswer);
        drop(listener);
        assert_eq!(look_at_host(&address), NoConnection::Refused);
        assert_eq!(look_at_host(&tcp("no-such-host.invalid:1")), NoConnection::UnknownName);
    }
}
