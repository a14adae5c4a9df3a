//! What a worker of an RPC server does with each kind of message.

mod support;

use crossbeam_channel::{Receiver, unbounded};
use support::{Broker, LONG, SHORT, body, delivery, request};
use tempfile::TempDir;
use zmqv2_proto::{Flags, Kind, Priority, Reason};
use zmqv2_server::{Config, Methods, Request, RpcServer, Target};

/// A server of one worker, and what its method `run` gets.
fn server(dir: &TempDir) -> (RpcServer, Receiver<u32>) {
    let (ran, runs) = unbounded();
    let methods = Methods::new().method("run", move |number: u32| Ok(ran.send(number)?)).unwrap();
    let target = Target::topic("t").unwrap().with_server("s").unwrap();
    (RpcServer::builder(target).ipc_dir(dir.path()).endpoint(methods).workers(1).start().unwrap(), runs)
}

fn run(number: u32) -> Vec<u8> {
    Request::new("run".parse().unwrap(), &number).unwrap().encode().unwrap()
}

fn stop(server: RpcServer, mut broker: Broker) {
    let stopping = std::thread::spawn(move || server.stop().unwrap());
    assert!(broker.release().is_empty());
    stopping.join().unwrap();
}

#[test]
fn an_exchange_that_the_target_names_wins_over_the_configured_one() {
    let plain = Target::topic("t").unwrap().with_server("s").unwrap();
    for (target, key) in [(plain.clone(), "nova/t"), (plain.with_exchange("openstack").unwrap(), "openstack/t")] {
        let dir = TempDir::new().unwrap();
        let mut config = Config::default();
        config.control_exchange = "nova".parse().unwrap();
        let builder = RpcServer::builder(target).config(config).ipc_dir(dir.path());
        let server = builder.endpoint(Methods::new()).workers(1).start().unwrap();
        let broker = Broker::start(dir.path());
        assert_eq!(broker.header.key.as_ref().unwrap().as_str(), key);
        assert_eq!(server.target().key().as_str(), key);
        stop(server, broker);
    }
}

#[test]
fn a_copy_of_a_fanout_is_a_cast() {
    let dir = TempDir::new().unwrap();
    let (server, runs) = server(&dir);
    let mut broker = Broker::start(dir.path());
    for (kind, number) in [(Kind::Cast, 7), (Kind::Fanout, 8)] {
        broker.deliver(0, &request(kind, number.into()), &run(number));
        assert_eq!(broker.answer(0).summary(), (Kind::Ack, number.into(), 0));
        assert_eq!(runs.recv_timeout(LONG), Ok(number));
        let credit = broker.next();
        assert_eq!(credit.summary(), (Kind::Credit, 0, 1));
        assert_eq!(credit.header.id.as_bytes(), broker.registration.instance.as_bytes());
    }
    stop(server, broker);
}

#[test]
fn a_fanout_that_comes_again_runs_once() {
    let dir = TempDir::new().unwrap();
    let (server, runs) = server(&dir);
    let mut broker = Broker::start(dir.path());
    let mut header = request(Kind::Fanout, 1);
    header.flags = Flags::MAY_REPEAT;
    broker.deliver(0, &header, &run(1));
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, 1, 0));
    assert_eq!(broker.next().header.kind, Kind::Credit);
    header.tag = 2;
    broker.deliver(0, &header, &run(1));
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, 2, 1));
    assert_eq!((runs.recv_timeout(LONG), runs.recv_timeout(SHORT).ok()), (Ok(1), None));
    stop(server, broker);
}

#[test]
fn a_notification_is_refused_clearly_rg39() {
    let dir = TempDir::new().unwrap();
    let (server, _runs) = server(&dir);
    let broker = Broker::start(dir.path());
    broker.deliver(0, &delivery(3), &body(Priority::Info, "e"));
    let refusal = broker.answer(0);
    assert_eq!((refusal.summary(), refusal.header.reason), ((Kind::Refusal, 3, 1), Some(Reason::Malformed)));
    assert!(refusal.detail().contains("a notification goes to a listener"), "{}", refusal.detail());
    stop(server, broker);
}
