//! A relay of TCP connections that can hold back what it should forward, like a network that is cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use super::gate::Gate;

/// Forwards connections to an address while its gate is open. It forwards everything that came
/// before the gate opened, as a network does after a cut.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    gate: Arc<Gate>,
}

impl Relay {
    /// A relay to `target`, with an open gate. It lives until the process ends.
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let gate = Gate::new(true);
        let (theirs, target) = (Arc::clone(&gate), target.to_owned());
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&target) else { continue };
                let pairs = [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))];
                for (from, to) in pairs {
                    let (from, to, gate) = (from.expect("a stream"), to.expect("a stream"), Arc::clone(&theirs));
                    let _ = to.set_nodelay(true);
                    std::thread::spawn(move || forward(from, to, &gate));
                }
            }
        });
        Self { address, gate }
    }

    /// Where to connect, as `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Nothing passes from now on.
    pub fn cut(&self) {
        self.gate.close();
    }

    pub fn heal(&self) {
        self.gate.open();
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, gate: &Gate) {
    let mut bytes = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        gate.pass();
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    gate.pass();
    let _ = to.shutdown(Shutdown::Write);
}
