//! Proves for workers that share a socket, and for workers with a socket each: they run as many
//! requests at a time as there are workers, and lose none.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use zmqv2_client::RpcClient;
use zmqv2_proto::{RequestContext, Target};
use zmqv2_server::{Methods, RpcServer, WorkerSockets};
use zmqv2_tests::gate::Gate;
use zmqv2_tests::kernel::tcp_connections_to;
use zmqv2_tests::{Cluster, Node, PATIENCE, assert_undelayed, eventually, now};

const WORKERS: usize = 16;
const BOTH: [WorkerSockets; 2] = [WorkerSockets::Shared, WorkerSockets::Own];

/// A server whose handlers wait for each other, for a gate, or not at all.
struct GatedServer {
    rpc: RpcServer,
    gate: Arc<Gate>,
    ran: Arc<AtomicUsize>,
}

impl GatedServer {
    fn start(node: &Node, workers: usize, sockets: WorkerSockets) -> Self {
        let (barrier, gate) = (Barrier::new(WORKERS), Gate::new(false));
        let ran = Arc::new(AtomicUsize::new(0));
        let (passed, runs) = (Arc::clone(&gate), Arc::clone(&ran));
        let methods = Methods::new()
            .method("meet", move |(): ()| {
                barrier.wait();
                Ok(())
            })
            .unwrap()
            .method("hold", move |(): ()| {
                passed.pass();
                runs.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
            .unwrap()
            .method("echo", |number: u64| Ok(number))
            .unwrap();
        let target = Target::topic("t").unwrap().with_server("s").unwrap();
        let builder = RpcServer::builder(target).config(node.config()).ipc_dir(&node.ipc_dir).endpoint(methods);
        let server = builder.workers(workers).worker_sockets(sockets).start().unwrap();
        server.wait_ready(PATIENCE).unwrap();
        Self { rpc: server, gate, ran }
    }
}

fn client(node: &Node) -> RpcClient {
    node.client(Target::topic("t").unwrap())
}

fn context() -> RequestContext {
    RequestContext::new()
}

fn echo_of(client: &RpcClient, number: u64) -> u64 {
    client.call(&context(), "echo", &number).unwrap()
}

/// Runs a check on servers of both kinds, with this many workers.
fn each_kind(workers: usize, check: impl Fn(WorkerSockets, &Node, &GatedServer, &RpcClient)) {
    for sockets in BOTH {
        let cluster = Cluster::new(1, &["t"]);
        let node = cluster.node(0);
        let _broker = node.broker();
        let server = GatedServer::start(node, workers, sockets);
        check(sockets, node, &server, &client(node));
        server.rpc.stop().unwrap();
    }
}

/// Each request waits until all of them run. If one had to wait for another to end, it would wait
/// for ever.
#[test]
fn as_many_requests_run_at_a_time_as_there_are_workers() {
    each_kind(WORKERS, |sockets, _, _, client| {
        for round in 0..5 {
            let calls: Vec<_> =
                (0..WORKERS).map(|_| client.call_async::<()>(&context(), "meet", &()).unwrap()).collect();
            for call in calls {
                let outcome = call.wait();
                assert!(outcome.is_ok(), "{sockets:?}, round {round}: {outcome:?}");
            }
            // Quick calls in between, which one worker can run alone.
            assert!((0..100).all(|number| echo_of(client, number) == number));
        }
    });
}

#[test]
fn slow_handlers_delay_no_call_that_another_worker_can_take_p10() {
    each_kind(4, |sockets, _, server, client| {
        // All workers but one are busy, one after the other.
        let mut held = Vec::new();
        for busy in 1..4 {
            held.push(client.cast(&context(), "hold", &()).unwrap());
            eventually("one more is busy", || server.gate.waiting() == busy);
            let took = (0..100).map(|number| {
                let call = now();
                assert_eq!(echo_of(client, number), number);
                call.elapsed()
            });
            println!("{sockets:?}, {busy} busy");
            assert_undelayed(took.collect());
            assert_eq!(server.gate.waiting(), busy, "the busy workers are busy all the time");
        }
        server.gate.open();
        assert!(held.into_iter().all(|cast| cast.wait(PATIENCE).unwrap().is_acked()));
        server.rpc.stop().unwrap();
        assert_eq!(server.ran.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn a_server_that_stops_runs_what_it_has_acknowledged() {
    each_kind(WORKERS, |sockets, node, server, client| {
        let casts: Vec<_> = (0..WORKERS).map(|_| client.cast(&context(), "hold", &()).unwrap()).collect();
        assert!(casts.into_iter().all(|cast| cast.wait(PATIENCE).unwrap().is_acked()));
        std::thread::scope(|scope| {
            let stop = scope.spawn(|| server.rpc.stop());
            eventually("it takes nothing more", || {
                node.status().topics.iter().all(|topic| topic.servers.iter().all(|server| server.withdrawing))
            });
            server.gate.open();
            stop.join().unwrap().unwrap();
        });
        assert_eq!(server.ran.load(Ordering::SeqCst), WORKERS, "{sockets:?}");
    });
}

/// Workers with a socket each are not checked here: the new broker does not know that one of them
/// is busy.
#[test]
fn a_server_works_on_with_the_next_broker_whatever_it_was_doing() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let mut broker = node.broker();
    let server = GatedServer::start(node, 32, WorkerSockets::Shared);
    // After this the losses with the broker are known.
    let patient = |config: &mut zmqv2_proto::Config| config.cast_timeout = Duration::from_secs(3);
    let client = node.client_with(Target::topic("t").unwrap(), patient);
    for round in 1..=3 {
        let held = client.call_async::<()>(&context(), "hold", &()).unwrap();
        let quick: Vec<_> = (0..200).map(|n| client.cast(&context(), "echo", &n).unwrap()).collect();
        eventually("one is held", || server.gate.waiting() >= round);
        broker.kill9();
        broker = node.broker();
        // The server itself may not know yet that its broker was killed.
        eventually("it is registered again", || node.status().topics.iter().any(|topic| !topic.servers.is_empty()));
        assert!((0..200).all(|number| echo_of(&client, number) == number));
        // Each has some outcome.
        assert!(quick.into_iter().all(|cast| cast.wait(PATIENCE).is_some()));
        drop(held);
    }
    server.gate.open();
    server.rpc.stop().unwrap();
}

/// The connections of blocking calls (decision 0016): each handler waits for all others, so all
/// calls are in flight at once.
#[test]
fn calls_of_many_threads_share_connections_and_a_closed_client_calls_on() {
    let cluster = Cluster::new(2, &["t"]);
    let (here, there) = (cluster.node(1), cluster.node(0));
    let _broker = there.broker();
    let server = GatedServer::start(there, WORKERS, WorkerSockets::Shared);
    let client = client(here);
    let all_call = || {
        std::thread::scope(|scope| {
            let call = || client.call::<()>(&context(), "meet", &());
            let calls: Vec<_> = (0..WORKERS).map(|_| scope.spawn(call)).collect();
            calls.into_iter().for_each(|call| call.join().unwrap().unwrap());
        });
    };
    let connections = || tcp_connections_to(SocketAddr::new(there.host.parse().unwrap(), 9501));
    all_call();
    assert!((1..=2).contains(&connections()), "{} connections", connections());
    // There is no other server to move a call to.
    client.close(PATIENCE);
    all_call();
    assert!(connections() >= WORKERS, "{} connections", connections());
    server.rpc.stop().unwrap();
}
