//! Proves that no request runs after its time to live, however long it was on the way: through a
//! broker that was stopped, and through a network that was cut (P6).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use zmqv2_client::{Notifier, RpcClient};
use zmqv2_proto::{Priority, RequestContext, Target};
use zmqv2_server::{Methods, NotificationListener, RpcServer};
use zmqv2_tests::notifications::started;
use zmqv2_tests::relay::Relay;
use zmqv2_tests::{Cluster, Node, PATIENCE, Process, eventually, now, wait_until};

/// The time to live of what is sent into the trouble.
const TTL: Duration = Duration::from_secs(1);
/// The trouble lasts this long, from the first message on.
const TROUBLE: Duration = Duration::from_millis(2_500);
/// How many of each pattern are sent.
const EACH: u64 = 10;
/// A request that has begun in time may note that a little later, on a busy machine.
const SLACK: Duration = Duration::from_millis(300);

/// What ran, and when.
type Log = Arc<Mutex<Vec<(u64, Instant)>>>;

/// A server and a listener that note what they run.
struct Receivers {
    ran: Log,
    _rpc: RpcServer,
    _listener: NotificationListener,
}

impl Receivers {
    fn start(node: &Node) -> Self {
        let ran = Log::default();
        let (by_call, by_notice) = (Arc::clone(&ran), Arc::clone(&ran));
        let run = move |number: u64| {
            by_call.lock().unwrap().push((number, now()));
            Ok(number)
        };
        let target = Target::topic("t").unwrap().with_server("s1").unwrap();
        let builder = RpcServer::builder(target).config(node.config()).ipc_dir(&node.ipc_dir);
        let rpc = builder.endpoint(Methods::new().method("run", run).unwrap()).workers(2).start().unwrap();
        rpc.wait_ready(PATIENCE).unwrap();
        let note = move |notice: &zmqv2_server::Notice| {
            by_notice.lock().unwrap().push((notice.payload().unwrap(), now()));
        };
        let listener = started(node.listener_builder("n", "pool").workers(1).on(Priority::Info, note));
        Self { ran, _rpc: rpc, _listener: listener }
    }
}

/// A node behind an address, and a client and a notifier of another node, or of the same one.
struct Scene {
    cluster: Cluster,
    broker: Process,
    receivers: Receivers,
    client: RpcClient,
    notifier: Notifier,
}

impl Scene {
    /// `behind`: where others reach the node.
    fn new(far: bool, behind: impl FnOnce(&Node) -> String) -> Self {
        let cluster = Cluster::new(2, &[]);
        let node = cluster.node(1);
        let address = behind(node);
        let entry = json!([{"node": node.host, "address": address, "servers": ["s1"]}]);
        let pool = json!([{"node": node.host, "address": address, "servers": ["pool"]}]);
        cluster.write_ring_text(&json!({"t": entry, "n.info": pool}).to_string());
        let broker = node.broker();
        let receivers = Receivers::start(node);
        let near = if far { cluster.node(0) } else { node };
        let client = near.client_with(Target::topic("t").unwrap(), |config| config.cast_timeout = TTL);
        let notifier = near.notifier_with(&["n"], |config| config.cast_timeout = TTL);
        let scene = Self { cluster, broker, receivers, client, notifier };
        // Connects every socket that is used later.
        let patient = scene.client.prepare().timeout(PATIENCE);
        patient.call::<u64>(&RequestContext::new(), "run", &u64::MAX).unwrap();
        patient.call_async::<u64>(&RequestContext::new(), "run", &u64::MAX).unwrap().wait().unwrap();
        let notified = scene.notifier.info(&RequestContext::new(), "said", &u64::MAX).unwrap();
        assert!(notified.wait(PATIENCE).unwrap().all_taken_over());
        scene
    }

    fn node(&self) -> &Node {
        self.cluster.node(1)
    }

    fn counter(&self, name: &str) -> u64 {
        self.node().status().counters[name]
    }

    /// Sends some of each pattern into the trouble, which then ends. Returns how many were sent.
    /// None of them may run.
    fn check(&self, end_trouble: impl FnOnce()) -> u64 {
        let (context, started) = (RequestContext::new(), now());
        let hasty = self.client.prepare().timeout(TTL);
        let calls: Vec<_> = (0..EACH).map(|n| hasty.call_async::<u64>(&context, "run", &n).unwrap()).collect();
        let casts: Vec<_> = (0..EACH).map(|n| self.client.cast(&context, "run", &(100 + n)).unwrap()).collect();
        let fanouts: Vec<_> = (0..EACH).map(|n| self.client.fanout(&context, "run", &(200 + n)).unwrap()).collect();
        let hasty_notifier = self.notifier.clone().time_to_live(TTL);
        let notices: Vec<_> = (0..EACH).map(|n| hasty_notifier.info(&context, "said", &(300 + n)).unwrap()).collect();
        // Alone: over a socket of its own.
        hasty.call::<u64>(&context, "run", &400_u64).unwrap_err();
        calls.into_iter().for_each(|call| assert!(call.wait().is_err()));
        casts.iter().for_each(|cast| assert!(!cast.wait(PATIENCE).unwrap().is_acked()));
        fanouts.iter().for_each(|fanout| drop(fanout.wait(PATIENCE).unwrap()));
        notices.iter().for_each(|notice| drop(notice.wait(PATIENCE).unwrap()));
        let ended = now();
        wait_until(started + TROUBLE);
        end_trouble();
        // Comes after all of the others.
        let patient = self.client.prepare().timeout(PATIENCE);
        patient.call_async::<u64>(&context, "run", &u64::MAX).unwrap().wait().unwrap();
        eventually("a call succeeds alone", || patient.call::<u64>(&context, "run", &u64::MAX).is_ok());
        let ran = self.receivers.ran.lock().unwrap();
        let late: Vec<_> = ran.iter().filter(|(n, at)| *n != u64::MAX && *at > ended + SLACK).map(|(n, _)| n).collect();
        assert!(late.is_empty(), "{} ran after their time: {late:?}", late.len());
        4 * EACH + 1
    }
}

/// Waits until the broker has dropped all of them.
fn all_expired(scene: &Scene, before: u64, sent: u64) {
    let expired = || scene.counter("expired") - before;
    eventually("all are counted as expired", || expired() >= sent);
}

#[test]
fn nothing_runs_that_expired_while_the_broker_was_stopped() {
    for far in [false, true] {
        let scene = Scene::new(far, |node| format!("{}:9501", node.host));
        let before = scene.counter("expired");
        scene.broker.signal(Signal::STOP);
        let sent = scene.check(|| scene.broker.signal(Signal::CONT));
        all_expired(&scene, before, sent);
    }
}

#[test]
fn nothing_runs_that_expired_in_a_network_that_was_cut() {
    let mut relay = None;
    let scene = Scene::new(true, |node| relay.insert(Relay::start(&format!("{}:9501", node.host))).address());
    let relay = relay.unwrap();
    let before = scene.counter("expired");
    relay.cut();
    let sent = scene.check(|| relay.heal());
    all_expired(&scene, before, sent);
    // A client that connects into the cut sends nothing: it has not heard of the broker yet.
    let requests = |scene: &Scene| scene.counter("requests");
    let before = requests(&scene);
    relay.cut();
    let late = scene.cluster.node(0).client(Target::topic("t").unwrap()).prepare().timeout(TTL);
    let async_call = late.call_async::<Value>(&RequestContext::new(), "run", &500).unwrap();
    let error = late.call::<Value>(&RequestContext::new(), "run", &501).unwrap_err();
    assert!(!error.may_have_run(), "{error}");
    assert!(!async_call.wait().unwrap_err().may_have_run());
    relay.heal();
    eventually("a call succeeds", || late.call::<Value>(&RequestContext::new(), "run", &u64::MAX).is_ok());
    let ran = scene.receivers.ran.lock().unwrap();
    assert!(ran.iter().all(|(n, _)| !(500..=501).contains(n)));
    drop(ran);
    assert!(requests(&scene) > before);
}
