//! A handler that stops or drops its own server does not wait for itself.

mod support;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crossbeam_channel::unbounded;
use support::{Broker, LONG, body, delivery, now, request};
use tempfile::TempDir;
use zmqv2_proto::{Kind, Priority};
use zmqv2_server::{Config, Methods, NotificationListener, Request, RpcServer, ServerError, Target, WorkerSockets};

fn call(method: &str) -> Vec<u8> {
    Request::new(method.parse().unwrap(), &()).unwrap().encode().unwrap()
}

fn target() -> Target {
    Target::topic("t").unwrap().with_server("s").unwrap()
}

#[test]
fn a_handler_that_stops_or_drops_its_server_ends_at_once_and_its_answer_is_sent() {
    for (workers, drops) in [(1, false), (1, true), (4, false), (4, true)] {
        let dir = TempDir::new().unwrap();
        let own = Arc::new(OnceLock::<Mutex<Option<Arc<RpcServer>>>>::new());
        let handle = Arc::clone(&own);
        let methods = Methods::new().method("stop", move |(): ()| {
            let server = handle.wait().lock().unwrap().take().unwrap();
            let started = now();
            if !drops {
                server.stop()?;
            }
            drop(server);
            assert!(started.elapsed() < LONG / 2, "it has waited for itself");
            Ok("stopping")
        });
        let builder = RpcServer::builder(target()).ipc_dir(dir.path()).endpoint(methods.unwrap()).workers(workers);
        let builder = builder.worker_sockets(WorkerSockets::Own);
        let server = Arc::new(builder.start().unwrap());
        let mut broker = Broker::start(dir.path());
        own.set(Mutex::new(Some(Arc::clone(&server)))).unwrap();
        // If the handler drops the server, it has the last copy.
        let server = (!drops).then_some(server);
        let socket = 0;
        broker.deliver(socket, &request(Kind::Call, 1), &call("stop"));
        let answer = broker.answer(socket);
        assert_eq!(answer.header.kind, Kind::Reply, "{workers} workers: {}", answer.detail());
        assert!(answer.detail().contains("stopping"));
        assert_eq!(broker.next().header.kind, Kind::Withdraw);
        broker.withdrawn();
        if let Some(server) = server {
            server.stop().unwrap();
        }
    }
}

#[test]
fn a_handler_that_stops_its_listener_ends_at_once() {
    let dir = TempDir::new().unwrap();
    let own = Arc::new(OnceLock::<Arc<NotificationListener>>::new());
    let handle = Arc::clone(&own);
    let builder = NotificationListener::builder().topic("t").unwrap().ipc_dir(dir.path()).workers(1);
    let builder = builder.on(Priority::Info, move |_| handle.wait().stop().unwrap());
    let listener = Arc::new(builder.start().unwrap());
    let mut broker = Broker::start(dir.path());
    assert!(own.set(Arc::clone(&listener)).is_ok());
    broker.deliver(0, &delivery(1), &body(Priority::Info, "e"));
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, 1, 0));
    let mut kinds = [broker.next().header.kind, broker.next().header.kind];
    kinds.sort_by_key(|kind| *kind as u8);
    assert_eq!(kinds, [Kind::Withdraw, Kind::Handled]);
    broker.withdrawn();
    listener.stop().unwrap();
}

#[test]
fn a_bounded_stop_names_the_handlers_that_still_run() {
    let dir = TempDir::new().unwrap();
    let ((ran, runs), (go_on, wait)) = (unbounded(), unbounded::<()>());
    let methods = Methods::new().method("slow", move |(): ()| {
        ran.send(()).unwrap();
        let _ = wait.recv_timeout(LONG);
        Ok(())
    });
    let mut config = Config::default();
    config.drain_timeout = Duration::from_millis(50);
    let builder = RpcServer::builder(target()).config(config).ipc_dir(dir.path()).endpoint(methods.unwrap());
    let server = builder.workers(3).worker_sockets(WorkerSockets::Own).start().unwrap();
    let broker = Broker::start(dir.path());
    for worker in [0, 2] {
        broker.deliver(worker, &request(Kind::Call, 1), &call("slow"));
    }
    for _ in 0..2 {
        runs.recv_timeout(LONG).unwrap();
    }
    let error = server.stop().unwrap_err();
    let ServerError::Unfinished { workers: 2, ref handlers, .. } = error else { panic!("{error}") };
    assert_eq!(*handlers, ["slow", "slow"]);
    assert!(error.to_string().ends_with("2 handlers were still running after 50ms: slow, slow"), "{error}");
    drop(go_on);
}
