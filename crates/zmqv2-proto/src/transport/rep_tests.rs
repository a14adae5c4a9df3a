//! A REP socket answers every request, however fast they come.

use std::time::{Duration, Instant};

use crate::naming::{Address, TcpAddress};
use crate::transport::{Connection, Frame, Received, Role, Transport, TransportOptions};

const REQUESTS: usize = 5_000;

#[expect(clippy::disallowed_methods, reason = "a test is its own driver")]
fn now() -> Instant {
    Instant::now()
}

/// On a busy machine, the next request is always there before the worker looks for it, so it never
/// sleeps. Here, all requests are there at once.
#[test]
fn a_worker_that_never_sleeps_loses_no_answer() {
    let [here, there] = [(); 2].map(|()| Transport::new(TransportOptions::default()));
    let mut worker = there.socket(Role::Rep).unwrap();
    let address = worker.bind(&Address::Tcp(TcpAddress::new("127.0.0.1", 0).unwrap())).unwrap();
    let mut link = here.socket(Role::Dealer).unwrap();
    link.connect(&address).unwrap();
    let (end, mut frames) = (now() + Duration::from_secs(20), Vec::new());
    while link.readiness().unwrap().connection != Connection::Up {
        assert!(now() < end, "no connection");
        link.wait(Some(Duration::from_millis(100)), None).unwrap();
    }
    let server = std::thread::spawn(move || {
        let mut frames = Vec::new();
        for answered in 0..REQUESTS {
            while worker.receive(&mut frames).unwrap() == Received::Nothing {
                assert!(now() < end, "{answered} requests came");
                if !worker.readiness().unwrap().readable {
                    worker.wait(Some(Duration::from_millis(100)), None).unwrap();
                }
            }
            worker.send(frames.drain(..)).unwrap();
        }
        // Kept until the answers are read, because its end would drop them.
        worker
    });
    for n in 0..REQUESTS {
        link.send([Frame::new(), Frame::from(&n.to_le_bytes()[..])]).unwrap();
    }
    for n in 0..REQUESTS {
        while link.receive(&mut frames).unwrap() == Received::Nothing {
            assert!(now() < end, "answer {n} was lost");
            if !link.readiness().unwrap().readable {
                link.wait(Some(Duration::from_millis(100)), None).unwrap();
            }
        }
        assert_eq!(&frames[1][..], n.to_le_bytes(), "an answer before this one was lost");
    }
    drop(server.join());
}
