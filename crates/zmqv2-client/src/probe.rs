//! Looks whether a broker is there, without a message: by what libzmq says to everybody who connects.

use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use zmqv2_proto::Address;

/// Who does not greet within this is not there, or hangs: a machine takes connections for a process that is stopped.
const WITHIN: Duration = Duration::from_secs(1);

/// The first byte of a greeting in ZMTP.
const GREETING: u8 = 0xff;

/// Whether somebody who speaks ZMTP is at this address. Takes up to a second, and as long as the name's resolution takes.
pub(crate) fn is_there(address: &Address) -> bool {
    let greeting = match address {
        Address::Tcp(address) => (address.host(), address.port()).to_socket_addrs().and_then(|addresses| {
            let connected = addresses.map(|address| TcpStream::connect_timeout(&address, WITHIN));
            let stream = connected.reduce(Result::or).unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))?;
            stream.set_read_timeout(Some(WITHIN))?;
            first_byte(stream)
        }),
        Address::Ipc(path) => UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(WITHIN))?;
            first_byte(stream)
        }),
    };
    log::debug!("a look at {address}, which could not be reached before: {greeting:?}");
    greeting.is_ok_and(|byte| byte == GREETING)
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

    use super::*;

    #[test]
    fn only_who_greets_is_there() {
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
}
