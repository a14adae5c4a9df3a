//! What a server does when its broker says that nobody waits for a call any more.

mod support;

use std::sync::Mutex;

use crossbeam_channel::{Receiver, Sender, unbounded};
use support::{Broker, LONG, SHORT, now, request};
use tempfile::TempDir;
use zmqv2_proto::{Flags, Header, Kind, Priority, Reason};
use zmqv2_server::{
    Cancellation, Handler, HandlerError, Methods, NotificationListener, Request, RpcServer, Target, reply,
};

/// What the methods report.
#[derive(Debug, PartialEq)]
enum Event {
    Quick(u32),
    Began,
    SawTheEnd,
}

/// The method `quick` ends at once, and `work` when it is cancelled, or after a long time.
fn server(dir: &TempDir, workers: usize) -> (RpcServer, Receiver<Event>) {
    let (sender, events) = unbounded();
    let (quick, work): (Sender<Event>, Sender<Event>) = (sender.clone(), sender);
    let methods = Methods::new()
        .method("quick", move |number: u32| Ok(quick.send(Event::Quick(number))?))
        .and_then(|methods| {
            methods.raw("work", move |incoming| {
                work.send(Event::Began)?;
                // Another thread looks.
                let end = now() + LONG;
                let cancellation = incoming.cancellation.clone();
                let seen = std::thread::spawn(move || watch(&cancellation, end)).join().unwrap_or(false);
                if !seen {
                    return reply("not cancelled");
                }
                work.send(Event::SawTheEnd)?;
                Err(HandlerError::new("t", "Cancelled", "nobody waits"))
            })
        })
        .unwrap();
    let target = Target::topic("t").unwrap().with_server("s").unwrap();
    (RpcServer::builder(target).ipc_dir(dir.path()).endpoint(methods).workers(workers).start().unwrap(), events)
}

fn watch(cancellation: &Cancellation, end: std::time::Instant) -> bool {
    while !cancellation.is_cancelled() {
        if now() > end {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

fn body(method: &str, number: u32) -> Vec<u8> {
    Request::new(method.parse().unwrap(), &number).unwrap().encode().unwrap()
}

fn cancel(of: &Header) -> Header {
    let mut header = Header::new(Kind::Cancel, of.id);
    header.tag = of.tag;
    header
}

fn stop(server: RpcServer, mut broker: Broker) {
    let stopping = std::thread::spawn(move || server.stop().unwrap());
    let mut before = broker.release();
    // A sign of life is a credit of nothing.
    before.retain(|message| message.summary() != (Kind::Credit, 0, 0));
    assert!(before.is_empty(), "{before:?}");
    stopping.join().unwrap();
}

#[test]
fn a_handler_that_runs_sees_that_its_call_is_cancelled() {
    let dir = TempDir::new().unwrap();
    let (server, events) = server(&dir, 2);
    let broker = Broker::start(dir.path());
    assert!(broker.registration.cancels);
    let [first, second] = [1, 2].map(|tag| request(Kind::Call, tag));
    for call in [&first, &second] {
        broker.deliver(0, call, &body("work", 0));
        assert_eq!(events.recv_timeout(LONG), Ok(Event::Began));
    }
    let mut wrong = cancel(&first);
    wrong.tag = 9;
    broker.deliver(0, &wrong, &[]);
    broker.deliver(0, &cancel(&second), &[]);
    assert_eq!(events.recv_timeout(LONG), Ok(Event::SawTheEnd));
    let answer = broker.answer(0);
    assert_eq!((answer.summary(), answer.header.flags), ((Kind::Reply, 2, 1), Flags::FAILURE));
    assert_eq!(events.recv_timeout(SHORT).ok(), None, "the other one still runs");
    broker.deliver(0, &cancel(&first), &[]);
    assert_eq!(events.recv_timeout(LONG), Ok(Event::SawTheEnd));
    assert_eq!(broker.answer(0).summary(), (Kind::Reply, 1, 1));
    stop(server, broker);
}

#[test]
fn a_call_that_waits_at_the_server_goes_back_and_never_runs() {
    let dir = TempDir::new().unwrap();
    let (server, events) = server(&dir, 2);
    let broker = Broker::start(dir.path());
    let calls = [1, 2, 3].map(|tag| (request(Kind::Call, tag), body("quick", tag as u32)));
    let mut messages = calls.to_vec();
    messages.push((cancel(&calls[1].0), Vec::new()));
    broker.deliver_together(&messages);
    let mut answers: Vec<_> = (0..3).map(|_| broker.answer(0).summary()).collect();
    answers.sort_by_key(|(_, tag, _)| *tag);
    assert_eq!(answers, [(Kind::Reply, 1, 1), (Kind::Call, 2, 0), (Kind::Reply, 3, 1)]);
    let ran: Vec<_> = events.try_iter().collect();
    assert!(ran.len() == 2 && !ran.contains(&Event::Quick(2)), "{ran:?}");
    // Nothing is left of it.
    broker.deliver(0, &cancel(&calls[1].0), &[]);
    broker.deliver(0, &request(Kind::Call, 4), &body("quick", 4));
    assert_eq!(broker.answer(0).summary(), (Kind::Reply, 4, 1));
    stop(server, broker);
}

#[test]
fn a_handler_sees_its_deadline_even_on_a_socket_of_its_own() {
    for workers in [1, 2] {
        let dir = TempDir::new().unwrap();
        let (server, events) = server(&dir, workers);
        let broker = Broker::start(dir.path());
        assert_eq!(broker.registration.cancels, workers > 1);
        let mut call = request(Kind::Call, 1);
        call.ttl = zmqv2_proto::Ttl::from_millis(300);
        broker.deliver(0, &call, &body("work", 0));
        assert_eq!(events.recv_timeout(LONG), Ok(Event::Began));
        assert_eq!(events.recv_timeout(LONG), Ok(Event::SawTheEnd));
        assert_eq!(broker.answer(0).summary(), (Kind::Reply, 1, 1));
        stop(server, broker);
    }
}

#[test]
fn a_call_that_comes_again_is_wanted_again() {
    let dir = TempDir::new().unwrap();
    let (ended, ends) = unbounded::<()>();
    let (began, begins) = unbounded();
    let ends = Mutex::new(ends);
    let methods = Methods::new().raw("work", move |incoming| {
        began.send(())?;
        ends.lock().unwrap().recv_timeout(LONG)?;
        reply(&incoming.is_cancelled())
    });
    let target = Target::topic("t").unwrap().with_server("s").unwrap();
    let builder = RpcServer::builder(target).ipc_dir(dir.path()).endpoint(methods.unwrap());
    let server = builder.workers(2).start().unwrap();
    let broker = Broker::start(dir.path());
    let mut call = request(Kind::Call, 1);
    call.flags = Flags::MAY_REPEAT;
    broker.deliver(0, &call, &body("work", 0));
    begins.recv_timeout(LONG).unwrap();
    // The caller's connection is lost, and the caller sends the call again.
    let mut again = call.clone();
    again.tag = 2;
    broker.deliver_together(&[(cancel(&call), Vec::new()), (again, body("work", 0))]);
    // All workers are busy now, so that this one goes back.
    broker.deliver(0, &request(Kind::Call, 3), &body("work", 0));
    assert_eq!(broker.answer(0).summary(), (Kind::Call, 3, 0));
    ended.send(()).unwrap();
    let mut answers = [broker.answer(0), broker.answer(0)];
    answers.sort_by_key(|answer| answer.header.tag);
    assert_eq!(answers.each_ref().map(support::FromServer::summary), [(Kind::Reply, 1, 1), (Kind::Reply, 2, 1)]);
    assert!(answers.iter().all(|answer| answer.detail().contains("false")), "{answers:?}");
    stop(server, broker);
}

#[test]
fn a_cast_is_never_cancelled_once_it_is_acknowledged() {
    let dir = TempDir::new().unwrap();
    let (ended, ends) = unbounded::<bool>();
    let (release, released) = unbounded::<()>();
    let methods = Methods::new().raw("work", move |incoming| {
        released.recv_timeout(LONG)?;
        ended.send(incoming.is_cancelled())?;
        reply(&())
    });
    let target = Target::topic("t").unwrap().with_server("s").unwrap();
    let builder = RpcServer::builder(target).ipc_dir(dir.path()).endpoint(methods.unwrap());
    let server = builder.workers(2).start().unwrap();
    let broker = Broker::start(dir.path());
    let cast = request(Kind::Cast, 1);
    broker.deliver(0, &cast, &body("work", 0));
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, 1, 0));
    broker.deliver(0, &cancel(&cast), &[]);
    // A ping that comes later was read later.
    broker.deliver(0, &request(Kind::Call, 2), &body("oslo_rpc_server_ping", 0));
    assert_eq!(broker.answer(0).summary(), (Kind::Reply, 2, 1));
    release.send(()).unwrap();
    assert_eq!(ends.recv_timeout(LONG), Ok(false));
    assert_eq!(broker.answer(0).header.kind, Kind::Credit);
    stop(server, broker);
}

#[test]
fn a_cancellation_of_nothing_is_ignored_and_a_listener_takes_none() {
    let dir = TempDir::new().unwrap();
    let builder = NotificationListener::builder().topic("t").unwrap().ipc_dir(dir.path()).workers(2);
    let listener = builder.endpoint(Handler::new(Priority::Info, |_| ())).start().unwrap();
    let mut broker = Broker::start(dir.path());
    assert!(!broker.registration.cancels);
    broker.deliver(0, &cancel(&request(Kind::Notify, 1)), &[]);
    let mut broken = request(Kind::Call, 2);
    broken.ttl = zmqv2_proto::Ttl::from_millis(60_000);
    broker.deliver(0, &broken, b"{}");
    let answer = broker.answer(0);
    assert_eq!((answer.summary(), answer.header.reason), ((Kind::Refusal, 2, 1), Some(Reason::Malformed)));
    let stopping = std::thread::spawn(move || listener.stop().unwrap());
    broker.release();
    stopping.join().unwrap();
}
