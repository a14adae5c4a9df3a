//! Proves that a handler that runs sees it when nobody waits for its result any more: its caller has
//! dropped the handle, has timed out, was closed, has gone to another node, or was killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use zmqv2_client::RpcClient;
use zmqv2_proto::{RequestContext, Target};
use zmqv2_server::{HandlerError, Methods, RpcServer, reply};
use zmqv2_tests::{Cluster, Node, PATIENCE, Process, now};

/// A handler sees it within a second. This is more, because a test may share the machine.
const SOON: Duration = Duration::from_secs(5);
/// The timeout of calls that do not time out.
const LONG: Duration = Duration::from_secs(600);

/// What the method `work` reports.
#[derive(Debug, PartialEq)]
enum Event {
    Began,
    /// It saw the cancellation, before or after its deadline.
    Cancelled {
        in_time: bool,
    },
}

/// Servers of the topic `t` whose method `work` ends when it is cancelled. The first `patient` runs
/// in all wait for that, and later ones end at once.
struct Servers {
    servers: Vec<RpcServer>,
    events: Receiver<Event>,
}

impl Servers {
    fn start(nodes: &[Node], workers: usize, patient: usize) -> Self {
        let ((report, events), runs) = (unbounded(), Arc::new(AtomicUsize::new(0)));
        let server = |(number, node): (usize, &Node)| {
            let (report, runs) = (report.clone(), Arc::clone(&runs));
            let methods = Methods::new().raw("work", move |incoming| {
                if runs.fetch_add(1, Ordering::SeqCst) >= patient {
                    return reply("done");
                }
                report.send(Event::Began)?;
                let give_up = now() + PATIENCE;
                while !incoming.is_cancelled() {
                    if now() > give_up {
                        return reply("not cancelled");
                    }
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                report.send(Event::Cancelled { in_time: now() < incoming.deadline })?;
                Err(HandlerError::new("tests", "Cancelled", "nobody waits for it"))
            });
            let target = Target::topic("t").unwrap().with_server(format!("s{number}")).unwrap();
            let server = RpcServer::builder(target).config(node.config()).ipc_dir(&node.ipc_dir);
            let server = server.endpoint(methods.unwrap()).workers(workers).start().unwrap();
            server.wait_ready(PATIENCE).unwrap();
            server
        };
        Self { servers: nodes.iter().enumerate().map(server).collect(), events }
    }

    fn began(&self) -> Instant {
        assert_eq!(self.events.recv_timeout(PATIENCE), Ok(Event::Began));
        now()
    }

    /// The run that has begun sees the cancellation soon after `since`, before its deadline.
    fn cancelled_in_time(&self, since: Instant) {
        self.cancelled(since, |in_time| in_time);
    }

    /// The run that has begun sees the cancellation soon after `since`. At the deadline the caller and
    /// the server give up at the same moment, so either one may be the first.
    fn cancelled(&self, since: Instant, allowed: impl Fn(bool) -> bool) {
        let event = self.events.recv_timeout(PATIENCE);
        assert!(matches!(event, Ok(Event::Cancelled { in_time }) if allowed(in_time)), "{event:?}");
        let took = now() - since;
        assert!(took < SOON, "it took {took:?}");
    }

    fn stop(self) {
        self.servers.iter().for_each(|server| server.stop().unwrap());
    }
}

fn client(node: &Node) -> RpcClient {
    node.client(Target::topic("t").unwrap())
}

fn call(client: &RpcClient) -> zmqv2_client::CallHandle<String> {
    client.call_async(&RequestContext::new(), "work", &()).unwrap()
}

#[test]
fn a_dropped_handle_a_closed_client_and_a_killed_caller_cancel_what_runs() {
    let cluster = Cluster::new(2, &["t"]);
    let node = cluster.node(0);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let servers = Servers::start(&cluster.nodes()[..1], 2, usize::MAX);
    // Callers of this node, and of another one.
    for node in cluster.nodes() {
        let patient = client(node).prepare().timeout(LONG);
        let handle = call(&patient);
        servers.began();
        let since = now();
        drop(handle);
        servers.cancelled_in_time(since);

        let handle = call(&patient);
        servers.began();
        let since = now();
        assert_eq!(patient.close(Duration::from_millis(10)).open, 1);
        servers.cancelled_in_time(since);
        handle.wait().unwrap_err();

        let words = ["call", "t", "work", "null", "--timeout", "600"];
        let mut caller = Process::start("caller", &mut node.command("zmqv2", &words));
        servers.began();
        let since = now();
        caller.kill9();
        servers.cancelled_in_time(since);
    }
    // It has begun, so it is not counted as one that did not run.
    assert_eq!(node.status().counters["cancelled"], 0);
    servers.stop();
}

#[test]
fn a_caller_that_times_out_cancels_what_runs() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    // A server with one worker has a socket that takes nothing while a handler runs.
    for workers in [1, 2] {
        let servers = Servers::start(cluster.nodes(), workers, usize::MAX);
        let hasty = client(node).prepare().timeout(Duration::from_secs(1));
        let handle = call(&hasty);
        servers.began();
        handle.wait().unwrap_err();
        servers.cancelled(now(), |_| true);
        // Alone, over a socket of its own.
        hasty.call::<String>(&RequestContext::new(), "work", &()).unwrap_err();
        servers.began();
        servers.cancelled(now(), |_| true);
        servers.stop();
    }
}

#[test]
fn a_retry_at_another_node_cancels_the_run_at_the_first_one() {
    let cluster = Cluster::new(2, &["t"]);
    let node = cluster.node(0);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    for concurrent in [false, true] {
        let servers = Servers::start(cluster.nodes(), 2, 1);
        // Each attempt has two seconds, and the call a minute.
        let client = client(node).prepare().timeout(Duration::from_secs(60)).retry(29);
        let answer = match concurrent {
            true => call(&client).wait(),
            false => client.call(&RequestContext::new(), "work", &()),
        };
        assert_eq!(answer.unwrap(), "done");
        servers.began();
        servers.cancelled_in_time(now());
        servers.stop();
    }
}

#[test]
fn a_retry_at_the_same_server_does_not_cancel_its_first_run() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    for concurrent in [false, true] {
        let methods = Methods::new().raw("work", |incoming| {
            // Longer than the first attempt.
            let end = now() + Duration::from_secs(3);
            while now() < end {
                if incoming.is_cancelled() {
                    return Err(HandlerError::new("tests", "Cancelled", "nobody waits for it"));
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
            reply("done")
        });
        let target = Target::topic("t").unwrap().with_server("s").unwrap();
        let server = RpcServer::builder(target).config(node.config()).ipc_dir(&node.ipc_dir);
        let server = server.endpoint(methods.unwrap()).workers(4).start().unwrap();
        server.wait_ready(PATIENCE).unwrap();
        let client = client(node).prepare().timeout(Duration::from_secs(60)).retry(29);
        let answer = match concurrent {
            true => call(&client).wait(),
            false => client.call(&RequestContext::new(), "work", &()),
        };
        assert_eq!(answer.unwrap(), "done");
        server.stop().unwrap();
    }
}
