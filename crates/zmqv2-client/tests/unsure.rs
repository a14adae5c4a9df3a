//! Messages while the directory cannot answer, has not answered yet, or may not know all servers.

mod support;

use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use support::{Act, Broker, Fixed, Seen, builder, dead_node, now, punctual};
use tempfile::TempDir;
use zmqv2_client::{CallError, Notifier, Outcome, RpcClient, RpcClientBuilder, SendError};
use zmqv2_matchmaker::{Health, Matchmaker, MatchmakerError, PlacedNode, Placement, Refreshed, Registration};
use zmqv2_proto::{Config, Node, Reason, RequestContext, TopicKey, control};

const LONG: Duration = Duration::from_secs(20);

fn context() -> RequestContext {
    RequestContext::new()
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The socket directory of a node, with a broker.
fn own_node(act: impl FnMut(&Seen) -> Act + Send + 'static) -> (TempDir, Broker) {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_at(&control::broker_socket(dir.path()).unwrap(), act);
    (dir, broker)
}

/// A broker that has no server.
fn without_server(seen: &Seen) -> Act {
    seen.refusal(Reason::NoRoute, "no server here")
}

fn at(directory: Arc<dyn Matchmaker>, dir: &TempDir) -> RpcClientBuilder {
    let mut config = Config::default();
    config.host = "own".parse().unwrap();
    builder([]).config(config).matchmaker(directory).ipc_dir(dir.path())
}

/// Whether it says that the directory failed, and that this may pass.
fn is_directory(error: &CallError) -> bool {
    let CallError::NotSent(error) = error else { return false };
    matches!(error, SendError::Directory { .. } | SendError::DirectorySilent { .. }) && error.may_pass()
}

#[test]
fn without_the_directory_a_server_of_this_node_takes_calls_and_casts() {
    let (dir, _broker) = own_node(Seen::good);
    let directory = Fixed::at([]);
    directory.fail();
    let client = at(directory.clone(), &dir).build().unwrap();
    for client in [client.prepare(), client.prepare().server("s1").unwrap(), client.prepare().wait_for_ready(true)] {
        assert_eq!(client.call::<i32>(&context(), "m", &7).unwrap(), 7);
        assert_eq!(client.call_async::<i32>(&context(), "m", &8).unwrap().wait().unwrap(), 8);
        assert!(client.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap().is_acked());
    }
    // The same while it knows some servers, but perhaps not all.
    directory.list(&[(dead_node("far"), &["s9"])]);
    directory.mark("it was restarted");
    let named = client.prepare().server("s1").unwrap();
    assert_eq!(named.call::<i32>(&context(), "m", &7).unwrap(), 7);
    assert!(named.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap().is_acked());
}

#[test]
fn a_server_that_nobody_knows_for_certain_is_directory_and_not_no_route() {
    let (dir, _broker) = own_node(without_server);
    let far = Broker::start(without_server);
    let directory = Fixed::at([]);
    let client = at(directory.clone(), &dir).build().unwrap();
    let named = client.prepare().server("s1").unwrap();
    type Change<'a> = &'a dyn Fn();
    let fails: Change<'_> = &|| directory.fail();
    let empty: Change<'_> = &|| {
        directory.set([]);
        directory.mark("it was restarted");
    };
    let other: Change<'_> = &|| {
        directory.list(&[(far.node("far"), &["s9"])]);
        directory.mark("it was restarted");
    };
    let stale: Change<'_> = &|| {
        directory.list(&[(far.node("far"), &["s1"])]);
        directory.mark("it was restarted");
    };
    for (change, reason) in
        [(fails, "gone"), (empty, "it was restarted"), (other, "it was restarted"), (stale, "it was")]
    {
        change();
        let error = named.call::<()>(&context(), "m", &()).unwrap_err();
        assert!(is_directory(&error), "{error}");
        let error = named.call_async::<()>(&context(), "m", &()).unwrap().wait().unwrap_err();
        assert!(is_directory(&error), "{error}");
        let outcome = named.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap();
        let Outcome::Directory { problem, .. } = outcome else { panic!("{outcome}") };
        assert!(problem.contains(reason), "{problem}");
        let error = client.call::<()>(&context(), "m", &()).unwrap_err();
        assert!(is_directory(&error), "{error}");
    }
    // A certain list.
    directory.list(&[(far.node("far"), &["s9"])]);
    assert_eq!(named.call::<()>(&context(), "m", &()).unwrap_err().reason(), Some(Reason::NoRoute));
    let outcome = named.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap();
    assert!(matches!(&outcome, Outcome::Refused { refusal, .. } if refusal.reason == Reason::NoRoute), "{outcome}");
}

#[test]
fn a_message_that_waits_goes_to_a_server_that_becomes_known_later() {
    let (dir, _broker) = own_node(without_server);
    let far = Broker::start(Seen::good);
    let directory = Fixed::at([]);
    directory.fail();
    let patient = at(directory.clone(), &dir).wait_for_ready(true).build().unwrap();
    let named = patient.prepare().server("s1").unwrap();
    let casts = [&patient, &named].map(|client| client.cast(&context(), "m", &()).unwrap());
    let calls = [&patient, &named].map(|client| client.call_async::<i32>(&context(), "m", &7).unwrap());
    let blocking = [&patient, &named].map(|client| {
        let client = client.clone();
        std::thread::spawn(move || client.call::<i32>(&context(), "m", &7))
    });
    let brief = named.prepare().timeout(millis(300));
    let (error, _) = punctual(millis(300), || brief.call::<()>(&context(), "m", &()).unwrap_err());
    assert!(is_directory(&error), "{error}");
    assert!(casts.iter().all(|cast| cast.outcome().is_none()) && calls.iter().all(|call| !call.is_done()));
    // Not certain, but enough.
    directory.list(&[(far.node("far"), &["s1"])]);
    directory.mark("it was restarted");
    assert!(casts.iter().all(|cast| cast.wait(LONG).unwrap().is_acked()));
    calls.into_iter().for_each(|call| assert_eq!(call.wait().unwrap(), 7));
    blocking.into_iter().for_each(|call| assert_eq!(call.join().unwrap().unwrap(), 7));
}

/// A directory that answers when it is told to.
#[derive(Debug)]
struct Mute {
    go: Mutex<mpsc::Receiver<()>>,
    known: Mutex<Option<Arc<Placement>>>,
    node: Node,
}

impl Matchmaker for Mute {
    fn name(&self) -> &'static str {
        "mute"
    }
    fn resolve_all(&self, _: &TopicKey) -> Result<Arc<Placement>, MatchmakerError> {
        if let Some(known) = self.known.lock().unwrap().clone() {
            return Ok(known);
        }
        let _ = self.go.lock().unwrap().recv();
        let answer = Arc::new(Placement::new(vec![PlacedNode::unlisted(self.node.clone())]));
        *self.known.lock().unwrap() = Some(Arc::clone(&answer));
        Ok(answer)
    }
    fn known(&self, _: &TopicKey) -> Option<Arc<Placement>> {
        self.known.lock().unwrap().clone()
    }
    fn register(&self, _: &Registration, _: Duration) -> Result<(), MatchmakerError> {
        Ok(())
    }
    fn withdraw(&self, _: &Registration) -> Result<(), MatchmakerError> {
        Ok(())
    }
    fn refresh(&self) -> Result<Refreshed, MatchmakerError> {
        Ok(Refreshed::Unchanged)
    }
    fn generation(&self) -> u64 {
        0
    }
    fn health(&self) -> Health {
        Health::Ok
    }
}

/// A client whose directory has not answered, and what makes it answer.
fn with_mute_directory(dir: &TempDir, node: Node) -> (RpcClient, mpsc::Sender<()>) {
    let (go, told) = mpsc::channel();
    let mute = Mute { go: Mutex::new(told), known: Mutex::default(), node };
    (at(Arc::new(mute), dir).build().unwrap(), go)
}

#[test]
fn a_directory_that_does_not_answer_delays_no_server_of_this_node() {
    let (dir, _broker) = own_node(Seen::good);
    let (client, _go) = with_mute_directory(&dir, dead_node("far"));
    let started = now();
    let brief = client.prepare().timeout(millis(600));
    assert_eq!(brief.call::<i32>(&context(), "m", &7).unwrap(), 7);
    assert!(brief.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap().is_acked());
    let named = client.prepare().server("s1").unwrap();
    assert_eq!(named.call::<i32>(&context(), "m", &7).unwrap(), 7);
    assert!(named.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap().is_acked());
    assert!(started.elapsed() < LONG / 2, "{:?}", started.elapsed());
}

#[test]
fn a_message_for_another_node_waits_for_a_slow_directory_within_its_time() {
    let (dir, own) = own_node(without_server);
    let far = Broker::start(Seen::good);
    let (client, go) = with_mute_directory(&dir, far.node("far"));
    let brief = client.prepare().timeout(millis(700));
    let (error, _) = punctual(millis(700), || brief.call::<()>(&context(), "m", &()).unwrap_err());
    assert!(matches!(error, CallError::NotSent(SendError::DirectorySilent { .. })), "{error}");
    let (outcome, _) = punctual(millis(700), || brief.cast(&context(), "m", &()).unwrap().wait(LONG).unwrap());
    assert!(matches!(outcome, Outcome::Directory { .. }), "{outcome}");
    assert!(own.requests() > 0, "the broker of this node was asked meanwhile");
    let named = client.prepare().server("s1").unwrap();
    let casts: Vec<_> = [&client, &named, &named].map(|client| client.cast(&context(), "m", &()).unwrap()).into();
    let call = std::thread::spawn(move || named.call::<i32>(&context(), "m", &7));
    go.send(()).unwrap();
    assert!(casts.iter().all(|cast| cast.wait(LONG).unwrap().is_acked()));
    assert_eq!(call.join().unwrap().unwrap(), 7);
}

#[test]
fn a_fanout_to_a_list_that_may_be_incomplete_says_so() {
    let far = Broker::start(|seen| seen.acks("far", &["s1"], 0));
    let (dir, _broker) = own_node(without_server);
    let directory = Fixed::listing(&[(far.node("far"), &["s1"])]);
    let client = at(directory.clone(), &dir).build().unwrap();
    let report = client.fanout(&context(), "m", &()).unwrap().wait(LONG).unwrap();
    assert!(report.all_acked() && report.may_be_incomplete().is_none());
    directory.mark("renewals are refused");
    let report = client.fanout(&context(), "m", &()).unwrap().wait(LONG).unwrap();
    assert_eq!((report.acked(), report.results.len()), (1, 1));
    assert!(!report.all_acked() && !report.all_taken_over(), "there may be servers that did not get it");
    assert_eq!(report.may_be_incomplete(), Some("renewals are refused"));
    assert!(report.to_string().contains("accepted by 1 of 1"), "{report}");
    assert!(report.to_string().contains("there may be others: renewals are refused"), "{report}");
    // Nothing is known.
    directory.set([]);
    directory.mark("renewals are refused");
    let error = client.fanout(&context(), "m", &()).unwrap_err();
    assert!(matches!(&error, SendError::Directory { .. } if error.may_pass()), "{error}");
    // It waits, and what it then finds may be incomplete as well.
    let patient = client.prepare().wait_for_ready(true);
    let brief = patient.prepare().timeout(millis(200));
    let report = brief.fanout(&context(), "m", &()).unwrap().wait(LONG).unwrap();
    assert_eq!((report.not_found(), report.results.len()), (1, 1), "{report:#}");
    let handle = patient.fanout(&context(), "m", &()).unwrap();
    directory.list(&[(far.node("far"), &["s1"])]);
    directory.mark("a failover");
    let report = handle.wait(LONG).unwrap();
    assert_eq!((report.acked(), report.may_be_incomplete()), (1, Some("a failover")), "{report:#}");
}

#[test]
fn a_notification_is_kept_at_this_node_if_the_directory_cannot_name_the_listeners() {
    let (dir, _broker) = own_node(|seen| Act::Several(vec![seen.word(zmqv2_proto::Kind::Stored, "own", "", 0)]));
    let far = Broker::start(|seen| Act::Several(vec![seen.word(zmqv2_proto::Kind::Ack, "far", "audit", 0)]));
    let directory = Fixed::listing(&[(far.node("far"), &["audit"])]);
    let build = |dir: &Path| {
        let notifier = Notifier::builder("compute.node-7").matchmaker(directory.clone()).timeout(LONG).ipc_dir(dir);
        notifier.build().unwrap()
    };
    let notifier = build(dir.path());
    let report = notifier.info(&context(), "e", &()).unwrap().wait(LONG).unwrap();
    assert!(report.all_acked() && report.may_be_incomplete().is_none());
    directory.mark("a failover");
    let report = notifier.info(&context(), "e", &()).unwrap().wait(LONG).unwrap();
    assert_eq!((report.acked(), report.all_taken_over(), report.may_be_incomplete()), (1, false, Some("a failover")));
    directory.fail();
    let report = notifier.info(&context(), "e", &()).unwrap().wait(LONG).unwrap();
    assert_eq!((report.stored(), report.all_taken_over()), (1, false));
    assert!(report.may_be_incomplete().unwrap().contains("gone"), "{report}");
    // Without a broker of this node, nobody can keep it.
    let nobody = tempfile::tempdir().unwrap();
    let error = build(nobody.path()).info(&context(), "e", &()).unwrap_err();
    assert!(matches!(&error, SendError::Directory { .. } if error.may_pass()), "{error}");
}
