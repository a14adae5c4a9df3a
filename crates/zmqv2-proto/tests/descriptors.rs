//! A process that has used up its descriptors: what it opens fails with an error, what connects to
//! it is refused, and all goes on when descriptors are free again. One test, because the limit
//! counts for the whole process.

#![cfg(all(feature = "zmq", target_os = "linux"))]

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use zmqv2_proto::Address;
use zmqv2_proto::transport::{
    Connection, Frame, Role, Socket, Transport, TransportError, TransportOptions, refused_connections,
};

#[expect(clippy::disallowed_methods, reason = "a test is its own driver")]
fn now() -> Instant {
    Instant::now()
}

/// Files until none can be opened any more.
fn use_up() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

fn eventually(what: &str, mut met: impl FnMut() -> bool) {
    let end_at = now() + Duration::from_secs(20);
    while !met() {
        assert!(now() < end_at, "not in time: {what}");
        std::thread::yield_now();
    }
}

fn is_up(socket: &Socket) -> bool {
    socket.readiness().unwrap().connection == Connection::Up
}

#[test]
fn a_process_without_descriptors_goes_on() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let transport = Transport::new(TransportOptions::default());
    let mut server = transport.socket(Role::Router).unwrap();
    server.bind(&Address::ipc(&path).unwrap()).unwrap();

    // Connections of another process, of which this one has not a single descriptor left to accept
    // the second one.
    let mut files = use_up();
    let before = refused_connections().local;
    eventually("the connection is refused", || {
        // libzmq closes the descriptor of the context's first socket on a thread of its own, perhaps
        // only now.
        files.extend(use_up());
        drop(files.pop());
        let first = UnixStream::connect(&path);
        let end_at = now() + Duration::from_millis(200);
        while now() < end_at && refused_connections().local == before {
            std::thread::yield_now();
        }
        drop(first);
        refused_connections().local > before
    });
    files.extend(use_up());

    // Neither a socket nor a context can be opened.
    let error = transport.socket(Role::Dealer).unwrap_err();
    assert!(matches!(&error, TransportError::Open { .. }) && error.to_string().contains("ulimit -n"), "{error}");
    let other = Transport::new(TransportOptions::default());
    assert!(matches!(other.socket(Role::Rep), Err(TransportError::Open { .. })));

    // With a few left, a connection could still use up the last one.
    files.truncate(files.len() - 12);
    let mut early = transport.socket(Role::Dealer).unwrap();
    early.connect(&Address::ipc(&path).unwrap()).unwrap();
    let before = refused_connections().local;
    eventually("its attempts are refused", || refused_connections().local > before + 1);
    assert!(!is_up(&early));

    // Free again: the same sockets connect, and new ones can be opened.
    drop(files);
    eventually("it is connected", || is_up(&early));
    early.send([Frame::from("hello".as_bytes())]).unwrap();
    let mut frames = Vec::new();
    eventually("a message arrives", || {
        server.receive(&mut frames).unwrap();
        server.readiness().unwrap();
        frames.len() == 2
    });
    assert!(other.socket(Role::Rep).is_ok());
}
