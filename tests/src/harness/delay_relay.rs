//! A relay of TCP connections to a server far away.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::{now, wait_until};

/// Forwards connections, and delays everything in both directions. It counts how often the client of
/// each connection has waited for an answer.
#[derive(Debug)]
pub struct DelayRelay {
    port: u16,
    connections: Arc<Mutex<Vec<Arc<Waits>>>>,
}

#[derive(Debug, Default)]
struct Waits {
    count: AtomicUsize,
    /// Since the last question, the server has answered.
    answered: AtomicBool,
}

impl DelayRelay {
    /// A relay to this port of this machine. It lives until the process ends.
    pub fn start(to: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        let connections = Arc::<Mutex<Vec<Arc<Waits>>>>::default();
        let all = Arc::clone(&connections);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let waits = Arc::new(Waits { answered: AtomicBool::new(true), ..Waits::default() });
                all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&waits));
                let both = [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))];
                for (asks, (from, to)) in [true, false].into_iter().zip(both) {
                    let (from, to) = (from.expect("a stream"), to.expect("a stream"));
                    let _ = to.set_nodelay(true);
                    let waits = Arc::clone(&waits);
                    forward(from, to, delay, move || waits.note(asks));
                }
            }
        });
        Self { port, connections }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How often the client of each connection has waited for an answer, in the order of the
    /// connections.
    pub fn waits(&self) -> Vec<usize> {
        let all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|waits| waits.count.load(Ordering::SeqCst)).collect()
    }
}

impl Waits {
    fn note(&self, asks: bool) {
        if self.answered.swap(!asks, Ordering::SeqCst) && asks {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Forwards bytes in two threads, so that bytes on their way do not delay those behind them.
fn forward(mut from: TcpStream, mut to: TcpStream, delay: Duration, note: impl Fn() + Send + 'static) {
    let (on_the_way, arriving) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            note();
            if on_the_way.send((now() + delay, bytes[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        for (at, bytes) in arriving {
            wait_until(at);
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
