#![allow(clippy::all, missing_docs, clippy::disallowed_methods)]
use std::time::{Duration, Instant};
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use zmqv2_proto::transport::*;
use zmqv2_proto::Address;
fn main() {
    let n: usize = std::env::args().nth(1).map_or(4, |s| s.parse().unwrap());
    let secs: u64 = std::env::args().nth(2).map_or(20, |s| s.parse().unwrap());
    let dir = std::env::temp_dir().join(format!("scr{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let wt = Transport::new(TransportOptions::default());
    for i in 0..n {
        let mut w = wt.socket(Role::Worker).unwrap();
        w.bind(&Address::Ipc(dir.join(format!("{i}")))).unwrap();
        std::thread::spawn(move || {
            let mut frames = Vec::new();
            loop {
                if w.receive(&mut frames).unwrap() == Received::Message {
                    let f = std::mem::take(&mut frames);
                    w.send(f).unwrap();
                } else if !w.readiness().unwrap().readable {
                    w.wait(None, None).unwrap();
                }
            }
        });
    }
    let t = Transport::new(TransportOptions::default());
    let mut poll = Poll::new().unwrap();
    let links: Vec<Socket> = (0..n).map(|i| {
        let mut l = t.socket(Role::Link).unwrap();
        l.connect(&Address::Ipc(dir.join(format!("{i}")))).unwrap();
        for fd in l.fds() { poll.registry().register(&mut SourceFd(&fd), Token(i), Interest::READABLE).unwrap(); }
        l
    }).collect();
    let mut hot: Vec<usize> = (0..n).collect();
    let mut up = vec![false; n];
    let mut count = vec![0u64; n];
    let mut sent_at = vec![Instant::now(); n];
    let mut frames = Vec::new();
    let mut events = Events::with_capacity(64);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(secs) {
        let timeout = if hot.is_empty() { Some(Duration::from_secs(3)) } else { Some(Duration::ZERO) };
        poll.poll(&mut events, timeout).unwrap();
        if hot.is_empty() && events.is_empty() {
            println!("STALL counts {count:?} ages {:?}", sent_at.iter().map(|s| s.elapsed()).collect::<Vec<_>>());
            for (i, l) in links.iter().enumerate() { println!("{i} {:?}", l.readiness()); }
            std::process::exit(1);
        }
        for e in &events { if !hot.contains(&e.token().0) { hot.push(e.token().0); } }
        for i in std::mem::take(&mut hot) {
            let send = |l: &Socket| l.send([Frame::new(), Frame::from("head".as_bytes()), Frame::from("body".as_bytes())]).unwrap();
            loop {
                if links[i].receive(&mut frames).unwrap() == Received::Message {
                    count[i] += 1;
                    hot.push(i);
                    send(&links[i]);
                    sent_at[i] = Instant::now();
                    break;
                }
                let r = links[i].readiness().unwrap();
                if r.readable { continue; }
                if r.connection == Connection::Up && !up[i] { up[i] = true; hot.push(i); send(&links[i]); sent_at[i] = Instant::now(); }
                break;
            }
        }
    }
    println!("ok {count:?}");
    std::process::exit(0);
}
