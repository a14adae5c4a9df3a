//! Finds before a connection what libzmq would only try again and again, without saying why.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::naming::Address;
use crate::transport::TransportError;

/// Checks that `address` can lead somewhere. A local socket that does not exist yet is no error. A
/// host name must resolve within `patience`; a resolver that is slower decides nothing.
///
/// # Errors
/// [`TransportError::Connect`]: this user may not use the socket, the path is no socket, or the name
/// does not resolve.
pub fn check_reachable(address: &Address, patience: Duration) -> Result<(), TransportError> {
    let checked = match address {
        Address::Ipc(path) => check_socket(path),
        Address::Tcp(tcp) => check_name(tcp.host(), patience),
    };
    checked.map_err(|source| TransportError::Connect { address: address.clone(), source })
}

fn check_socket(path: &std::path::Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => return Err(io::Error::other("it is not a socket")),
        Ok(_) => {}
    }
    Ok(accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?)
}

fn check_name(host: &str, patience: Duration) -> io::Result<()> {
    if host.contains([':', '*']) || host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let (sender, receiver) = mpsc::channel();
    let name = host.to_owned();
    // The resolver of the system has no bound, so a thread waits for it.
    std::thread::Builder::new().name("resolver".to_owned()).spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs().map(drop);
        let _ = sender.send(found);
    })?;
    let found = receiver.recv_timeout(patience).unwrap_or(Ok(()));
    found.map_err(|error| io::Error::other(format!("the name {host} does not resolve: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::Address;

    #[test]
    fn what_leads_nowhere_is_named_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let check = |address: Address| check_reachable(&address, Duration::from_secs(20));
        let ipc = |path: &std::path::Path| check(Address::ipc(path).unwrap()).map_err(|error| error.to_string());
        assert!(ipc(&file).unwrap_err().contains("it is not a socket"));
        assert!(ipc(&file.join("x")).unwrap_err().contains("Not a directory"));
        assert_eq!(ipc(&dir.path().join("absent")), Ok(()));
        let bound = dir.path().join("bound");
        let _listener = std::os::unix::net::UnixListener::bind(&bound).unwrap();
        assert_eq!(ipc(&bound), Ok(()));
        let tcp = |text: &str| check(Address::Tcp(text.parse().unwrap())).map_err(|error| error.to_string());
        assert_eq!((tcp("127.0.0.1:1"), tcp("[::1]:1")), (Ok(()), Ok(())));
        assert!(tcp("no-such-host.invalid:1").unwrap_err().contains("no-such-host.invalid does not resolve"));
    }
}
