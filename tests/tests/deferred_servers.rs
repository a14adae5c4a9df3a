//! Servers that answer later: asynchronous handlers, and programs that poll. With a real broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use zmqv2_client::{RequestContext, RpcClient};
use zmqv2_proto::{Priority, Target};
use zmqv2_server::{
    AsyncMethods, AsyncRpcServer, PullListener, PullServer, PulledRequest, RpcServer, ServerError, Verdict, reply,
};
use zmqv2_tests::fork::fork_process;
use zmqv2_tests::{Cluster, Node, PATIENCE, eventually};

fn target(server: &str) -> Target {
    Target::topic("t").unwrap().with_server(server).unwrap()
}

fn client(node: &Node) -> RpcClient {
    node.client_with(Target::topic("t").unwrap(), |config| config.response_timeout = PATIENCE)
}

fn pull_server(node: &Node, server: &str, places: usize) -> PullServer {
    let builder = PullServer::builder(target(server)).config(node.config()).ipc_dir(&node.ipc_dir);
    let server = builder.places(places).start().unwrap();
    server.wait_ready(PATIENCE).unwrap();
    server
}

fn one(server: &PullServer) -> PulledRequest {
    server.poll(1, PATIENCE).pop().expect("a request")
}

fn context() -> RequestContext {
    RequestContext::new()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn ten_thousand_handlers_sleep_at_the_same_time_in_one_server() {
    const CALLS: usize = 10_000;
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let sleeping = Arc::new(AtomicUsize::new(0));
    let (wake, asleep) = tokio::sync::watch::channel(false);
    let count = Arc::clone(&sleeping);
    let methods = AsyncMethods::new()
        .method("sleep", move |number: usize| {
            let (count, mut asleep) = (Arc::clone(&count), asleep.clone());
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                while !*asleep.borrow_and_update() && asleep.changed().await.is_ok() {}
                Ok(number)
            }
        })
        .unwrap();
    let server = AsyncRpcServer::builder(target("s"), runtime.handle().clone()).endpoint(methods).places(CALLS);
    let server = server.config(node.config()).ipc_dir(&node.ipc_dir).start().unwrap();
    runtime.block_on(server.ready(PATIENCE)).unwrap();
    let mut calls = Vec::new();
    let client = RpcClient::builder(Target::topic("t").unwrap()).config(node.config()).ipc_dir(&node.ipc_dir);
    let client = client.timeout(2 * PATIENCE).max_outstanding(CALLS).build().unwrap();
    for number in 0..CALLS {
        calls.push(client.call_async::<usize>(&context(), "sleep", &number).unwrap());
    }
    eventually("all of them sleep", || sleeping.load(Ordering::SeqCst) == CALLS);
    let threads = threads();
    wake.send(true).unwrap();
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(call.wait().unwrap(), number);
    }
    // Those of the client and of the other tests of this process are counted, too.
    assert!(threads < 80, "{threads} threads");
    runtime.block_on(server.stop()).unwrap();
}

#[test]
fn a_request_that_a_program_drops_runs_at_another_server() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let (client, first) = (client(node), pull_server(node, "one", 4));
    let call = client.call_async::<String>(&context(), "where", &()).unwrap();
    let taken = one(&first);
    assert_eq!(taken.decode().unwrap().method.as_str(), "where");
    let other = pull_server(node, "two", 4);
    // While the first server drops it again and again, the second one gets it.
    drop(taken);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                drop(first.poll(1, Duration::from_millis(10)));
            }
        });
        one(&other).reply(&reply(&"two").unwrap());
        assert_eq!(call.wait().unwrap(), "two");
        stop.store(true, Ordering::SeqCst);
    });
    // What is not polled at a stop runs elsewhere, too.
    other.stop().unwrap();
    let cast = client.cast(&context(), "note", &()).unwrap();
    let mut polled = one(&first);
    polled.acknowledge();
    assert!(cast.wait(PATIENCE).unwrap().is_acked());
    polled.finish();
    let calls: Vec<_> = (0..4).map(|_| client.call_async::<u64>(&context(), "m", &()).unwrap()).collect();
    drop(one(&first));
    let third = pull_server(node, "three", 8);
    first.stop().unwrap();
    for _ in 0..4 {
        one(&third).reply(&reply(&3).unwrap());
    }
    assert!(calls.into_iter().all(|call| call.wait().unwrap() == 3));
}

#[test]
fn every_place_comes_back_after_the_broker_was_killed() {
    const PLACES: usize = 3;
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let mut broker = node.broker();
    let (client, server) = (client(node), pull_server(node, "s", PLACES));
    let lost: Vec<_> = (0..2 * PLACES).map(|_| client.call_async::<u64>(&context(), "m", &()).unwrap()).collect();
    let mut open = Vec::new();
    while open.len() < PLACES {
        open.extend(server.poll(PLACES, PATIENCE));
    }
    broker.kill9();
    drop(broker);
    let _broker = node.broker();
    eventually("it is registered again", || server.is_ready());
    drop(open);
    drop(lost);
    for number in 0..4 * PLACES as u64 {
        let call = client.call_async::<u64>(&context(), "m", &number).unwrap();
        loop {
            // The requests of the lost calls may come first.
            let request = one(&server);
            let asked = request.decode().unwrap().args::<u64>().ok();
            request.reply(&reply(&asked).unwrap());
            if asked == Some(number) {
                break;
            }
        }
        assert_eq!(call.wait().unwrap(), number);
    }
}

#[test]
fn a_broker_delivers_a_notification_until_a_program_has_ended_it() {
    let cluster = Cluster::new(1, &["n.info"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let topic = Target::topic("n").unwrap();
    let listener = PullListener::builder().target(topic, Priority::Info).config(node.config()).ipc_dir(&node.ipc_dir);
    let listener = listener.places(2).start().unwrap();
    listener.wait_ready(PATIENCE).unwrap();
    let client = node.client(Target::topic("n").unwrap());
    let notifier = client.notifier("p").topics(["n"]).unwrap();
    let handle = notifier.info(&context(), "event", &7).unwrap();
    let one = || listener.poll(1, PATIENCE).pop().expect("a notification");
    let first = one();
    let (id, delivery) = (first.id(), first.delivery());
    drop(first);
    let second = one();
    assert_eq!((second.id(), second.delivery()), (id, delivery + 1));
    assert_eq!(second.decode().unwrap().payload::<u64>().unwrap(), 7);
    second.end(Verdict::Handled);
    assert!(handle.wait(PATIENCE).unwrap().all_taken_over());
    listener.stop().unwrap();
    assert!(listener.poll(1, Duration::ZERO).is_empty());
}

#[test]
fn a_child_that_was_forked_leaves_everything_to_its_parent() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let (client, server) = (client(node), pull_server(node, "s", 8));
    let calls: Vec<_> = (0..8).map(|_| client.call_async::<u64>(&context(), "m", &()).unwrap()).collect();
    let mut open = Vec::new();
    while open.len() < 7 {
        open.extend(server.poll(7 - open.len(), PATIENCE));
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // It has the server's locks most of the time.
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                drop(server.poll(1, Duration::ZERO));
            }
        });
        for number in 0..40 {
            match fork_process() {
                Some(child) => child.wait(),
                None => {
                    // What is dropped here must not go back, and nothing may wait for a thread of the
                    // parent.
                    let nothing = server.poll(1, PATIENCE).is_empty();
                    open.truncate(number % 7);
                    for request in std::mem::take(&mut open) {
                        request.reply(&reply(&1).unwrap());
                    }
                    std::process::exit(i32::from(!nothing || server.stop().is_ok()));
                }
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    for request in open {
        request.reply(&reply(&2).unwrap());
    }
    one(&server).reply(&reply(&2).unwrap());
    assert!(calls.into_iter().all(|call| call.wait().unwrap() == 2));
}

/// Blocking servers keep the bound for threads: each worker is one.
#[test]
fn places_above_the_bound_for_threads_need_a_server_that_answers_later() {
    let builder = RpcServer::builder(target("s")).endpoint(zmqv2_server::Methods::new()).workers(10_000);
    assert!(matches!(builder.start().unwrap_err(), ServerError::Workers(10_000)));
}
