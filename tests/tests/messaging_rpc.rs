//! Runs one suite of tests for calls, casts and fanouts with both drivers, modelled on the original
//! project's functional tests.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};
use zmqv2_proto::Failure;
use zmqv2_tests::legacy::Help;
use zmqv2_tests::messaging::Expected::{Differs, Pass};
use zmqv2_tests::messaging::{Driver, DriverCluster, Failed, Handler, Messaging, Running, SendOutcome, Setup, To};
use zmqv2_tests::notifications::NotificationLog;
use zmqv2_tests::{PATIENCE, eventually, now, suite, within};

suite! {
    a_call_reaches_one_of_several_servers: legacy Pass, zmqv2 Pass;
    a_call_to_a_named_server_reaches_that_one: legacy Pass, zmqv2 Pass;
    servers_of_one_node_have_names: legacy Differs {
        because: "a topic and a topic at a server are the same: the server's name must be the host's",
        with: "a server is not reached by a name of its own",
    }, zmqv2 Pass;
    fanout_and_direct_messages_mix: legacy Pass, zmqv2 Pass;
    a_fanout_reaches_every_server_of_a_node_once: legacy Pass, zmqv2 Pass;
    a_calls_own_timeout_holds: legacy Differs {
        because: "a call's own timeout is ignored, only rpc_response_timeout counts",
        with: "its own timeout",
    }, zmqv2 Pass;
    the_configured_timeout_holds: legacy Pass, zmqv2 Pass;
    a_remote_exception_of_an_allowed_module_comes_back_as_itself: legacy Pass, zmqv2 Pass;
    a_remote_exception_of_another_module_is_generic: legacy Pass, zmqv2 Pass;
    an_unknown_method_is_reported: legacy Pass, zmqv2 Pass;
    casts_reach_the_server_they_are_for: legacy Pass, zmqv2 Pass;
    casts_in_a_row_reach_different_servers: legacy Pass, zmqv2 Pass;
    many_clients_and_servers: legacy Pass, zmqv2 Pass;
    a_call_without_a_server_ends_before_its_timeout: legacy Differs {
        because: "the daemon keeps a call without a server, and reports nothing",
        with: "told in time",
    }, zmqv2 Pass;
    a_cast_is_acknowledged: legacy Differs {
        because: "PUSH has no return path",
        with: "the sender is told",
    }, zmqv2 Pass;
    a_fanout_reports_every_server: legacy Differs {
        because: "PUB has no return path",
        with: "the sender is told",
    }, zmqv2 Pass;
    a_cast_without_a_server_is_reported: legacy Differs {
        because: "PUSH has no return path",
        with: "the sender is told",
    }, zmqv2 Pass;
    a_cast_waits_for_a_server_that_comes_later: legacy Pass, zmqv2 Differs {
        because: "it is refused at once with NoRoute, so that its sender knows; with wait_for_ready it waits",
        with: "NoRoute",
    };
    every_reply_arrives: legacy Differs {
        because: "a reply that arrives before its SUB socket has joined is lost",
        with: "a reply is lost",
    }, zmqv2 Pass;
    a_call_that_its_caller_gave_up_never_runs: legacy Differs {
        because: "nothing expires: rpc_cast_timeout bounds the sending, not the message",
        with: "runs for nobody",
    }, zmqv2 Pass;
    a_full_backlog_is_reported: legacy Differs {
        because: "messages above rpc_zmq_topic_backlog are dropped, with a line in the daemon's log",
        with: "and nobody was told",
    }, zmqv2 Pass;
    exchanges_do_not_mix: legacy Differs {
        because: "there are no exchanges: a topic is the same in all of them",
        with: "of another exchange",
    }, zmqv2 Pass;
    topics_do_not_mix: legacy Pass, zmqv2 Pass;
    topics_with_dots_do_not_mix: legacy Differs {
        because: "everything after the first dot of a topic is taken for a host",
        with: "the server of a topic with a dot does not answer",
    }, zmqv2 Pass;
}

/// A server that returns its name, and logs its messages.
struct Server {
    name: String,
    ran: NotificationLog<Value>,
    _running: Box<dyn Running>,
}

impl Server {
    fn start(at: &dyn Messaging, to: &To, workers: usize) -> Self {
        let name = to.server.clone().expect("a name");
        let ran = NotificationLog::default();
        let (own, note) = (name.clone(), ran.clone());
        let handler: Handler = Arc::new(move |method, args| {
            note.add(args.clone());
            match method {
                "who" => Some(Ok(own.as_str().into())),
                "echo" => Some(Ok(args.clone())),
                "note" => Some(Ok(Value::Null)),
                "fail" => Some(Err(Box::new(Failure::new("nova.exception", "NoDisk", "the disk is full")))),
                "sleep" => {
                    let seconds = args["seconds"].as_f64().expect("a number");
                    zmqv2_tests::wait_until(now() + Duration::from_secs_f64(seconds));
                    Some(Ok("rested".into()))
                }
                _ => None,
            }
        });
        let running = at.serve(to, workers, handler);
        Self { name, ran, _running: running }
    }
}

fn t() -> To {
    To::topic("t")
}

/// A server of `t` at each of the nodes, with the name of its node.
fn servers(nodes: &DriverCluster, count: usize) -> Vec<Server> {
    (0..count).map(|n| Server::start(&*nodes.at(n), &t().at(nodes.host(n)), 2)).collect()
}

fn who(client: &dyn Messaging, to: &To) -> String {
    let answer = client.call(to, "who", &json!({}), None);
    let answer = answer.unwrap_or_else(|error| panic!("a call to server {:?} of {}: {error}", to.server, to.topic));
    answer.as_str().expect("a name").to_owned()
}

/// Sends fanouts until every server has had one. PUB drops messages that come before its
/// subscribers have joined.
fn warm_up(client: &dyn Messaging, to: &To, servers: &[Server]) {
    eventually("a fanout reaches all", || {
        client.fanout(to, "note", &json!("warm"));
        within(Duration::from_secs(2), || servers.iter().all(|server| server.ran.all().contains(&json!("warm"))))
    });
}

fn noted(server: &Server) -> Vec<Value> {
    server.ran.all().into_iter().filter(|args| *args != json!("warm")).collect()
}

fn a_call_reaches_one_of_several_servers(driver: Driver) {
    let nodes = DriverCluster::start(driver, 3, &["t"], &[]);
    let servers = servers(&nodes, 3);
    let client = nodes.at(0);
    let answered: BTreeSet<String> = (0..14).map(|_| who(&*client, &t())).collect();
    assert_eq!(answered.len(), 3, "all of them in turn");
    assert_eq!(servers.iter().map(|server| server.ran.len()).sum::<usize>(), 14, "each call runs once");
}

fn a_call_to_a_named_server_reaches_that_one(driver: Driver) {
    let nodes = DriverCluster::start(driver, 3, &["t"], &[]);
    let servers = servers(&nodes, 3);
    let client = nodes.at(0);
    for server in [&servers[1], &servers[0], &servers[2], &servers[1]] {
        assert_eq!(who(&*client, &t().at(&server.name)), server.name);
    }
    assert_eq!(servers.iter().map(|server| server.ran.len()).collect::<Vec<_>>(), [1, 2, 1]);
}

fn servers_of_one_node_have_names(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let node = nodes.at_with(0, Setup { response_timeout: Duration::from_secs(3), ..Setup::default() });
    let names = ["127.0.0.1", "127.0.0.2@backend.1"];
    let _servers: Vec<_> = names.iter().map(|name| Server::start(&*node, &t().at(name), 1)).collect();
    for name in names {
        for _ in 0..4 {
            let answer = node.call(&t().at(name), "who", &json!({}), None);
            assert_eq!(answer, Ok(name.into()), "a server is not reached by a name of its own");
        }
    }
}

fn fanout_and_direct_messages_mix(driver: Driver) {
    let nodes = DriverCluster::start(driver, 3, &["t"], &[]);
    let servers = servers(&nodes, 3);
    let client = nodes.at(1);
    warm_up(&*client, &t(), &servers);
    for round in 0..3 {
        client.fanout(&t(), "note", &json!({"all": round}));
        client.cast(&t().at(&servers[2].name), "note", &json!({"direct": round}));
        assert_eq!(who(&*client, &t().at(&servers[0].name)), servers[0].name);
    }
    let count = |server: &Server, key: &str| noted(server).iter().filter(|args| args.get(key).is_some()).count();
    eventually("every server has the fanouts, one the casts", || {
        servers.iter().all(|server| count(server, "all") == 3) && count(&servers[2], "direct") == 3
    });
    assert_eq!(servers.iter().map(|server| noted(server).len()).collect::<Vec<_>>(), [6, 3, 6], "and nothing twice");
}

fn a_fanout_reaches_every_server_of_a_node_once(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let node = nodes.at(0);
    let servers: Vec<_> = ["a", "b", "c"].iter().map(|name| Server::start(&*node, &t().at(name), 2)).collect();
    warm_up(&*node, &t(), &servers);
    for number in 0..5 {
        node.fanout(&t(), "note", &json!(number));
    }
    for server in &servers {
        let numbers = || {
            let mut numbers: Vec<_> = noted(server).iter().filter_map(Value::as_u64).collect();
            numbers.sort_unstable();
            numbers
        };
        eventually("all are there", || numbers().len() >= 5);
        assert_eq!(numbers(), [0, 1, 2, 3, 4]);
    }
}

fn a_calls_own_timeout_holds(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let _server = Server::start(&*nodes.at(0), &t().at("s"), 2);
    let client = nodes.at(0);
    assert_eq!(who(&*client, &t()), "s");
    let started = now();
    let result = client.call(&t(), "sleep", &json!({"seconds": 5}), Some(Duration::from_millis(300)));
    assert_eq!(result, Err(Failed::Timeout), "its own timeout is over");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(who(&*client, &t()), "s", "the client can be used again at once");
}

fn the_configured_timeout_holds(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let _server = Server::start(&*nodes.at(0), &t().at("s"), 1);
    let client = nodes.at_with(0, Setup { response_timeout: Duration::from_secs(1), ..Setup::default() });
    let started = now();
    assert_eq!(client.call(&t(), "sleep", &json!({"seconds": 6}), None), Err(Failed::Timeout));
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
}

fn failing(driver: Driver, allowed: &[&str]) -> (String, Box<Failure>) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let _server = Server::start(&*nodes.at(0), &t().at("s"), 1);
    let allowed_modules = allowed.iter().map(|module| (*module).to_owned()).collect();
    let client = nodes.at_with(0, Setup { allowed_modules, ..Setup::default() });
    match client.call(&t(), "fail", &json!({}), None) {
        Err(Failed::Remote { class, failure }) => (class, failure),
        other => panic!("no remote error: {other:?}"),
    }
}

fn a_remote_exception_of_an_allowed_module_comes_back_as_itself(driver: Driver) {
    let (class, failure) = failing(driver, &["nova.exception"]);
    assert_eq!((class.as_str(), failure.message.as_str()), ("NoDisk", "the disk is full"));
}

fn a_remote_exception_of_another_module_is_generic(driver: Driver) {
    for allowed in [&[][..], &["nova", "exception"]] {
        let (class, failure) = failing(driver, allowed);
        assert_eq!(class, "RemoteError");
        let original = (failure.module.as_str(), failure.class.as_str(), failure.message.as_str());
        assert_eq!(original, ("nova.exception", "NoDisk", "the disk is full"), "it can still be read");
    }
}

fn an_unknown_method_is_reported(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let _server = Server::start(&*nodes.at(0), &t().at("s"), 1);
    match nodes.at(0).call(&t(), "nothing", &json!({}), None) {
        Err(Failed::Remote { failure, .. }) => {
            assert_eq!(
                (failure.class.as_str(), failure.module.as_str()),
                ("NoSuchMethod", "oslo_messaging.rpc.dispatcher")
            );
        }
        other => panic!("{other:?}"),
    }
}

fn casts_reach_the_server_they_are_for(driver: Driver) {
    let nodes = DriverCluster::start(driver, 3, &["t"], &[]);
    let servers = servers(&nodes, 3);
    let client = nodes.at(0);
    for number in 0..5 {
        for (n, server) in servers.iter().enumerate() {
            client.cast(&t().at(&server.name), "note", &json!({"for": n, "number": number}));
        }
    }
    for (n, server) in servers.iter().enumerate() {
        let ran = server.ran.wait(5);
        assert!(ran.len() == 5 && ran.iter().all(|args| args["for"] == n), "{ran:?}");
    }
}

fn casts_in_a_row_reach_different_servers(driver: Driver) {
    let nodes = DriverCluster::start(driver, 3, &["t"], &[]);
    let servers = servers(&nodes, 3);
    let client = nodes.at(0);
    for number in 0..9 {
        client.cast(&t(), "note", &json!(number));
    }
    for server in &servers {
        assert_eq!(server.ran.wait(3).len(), 3, "{}", server.name);
    }
}

fn many_clients_and_servers(driver: Driver) {
    let nodes = DriverCluster::start(driver, 4, &["t"], &[]);
    let servers = servers(&nodes, 4);
    let call_all = |n: usize| {
        let client = nodes.at(n % 4);
        for number in 0..10 {
            let args = json!({"client": n, "number": number});
            assert_eq!(client.call(&t(), "echo", &args, None), Ok(args), "the reply to this call");
        }
    };
    std::thread::scope(|scope| {
        for n in 0..8 {
            scope.spawn(move || call_all(n));
        }
    });
    let ran: Vec<_> = servers.iter().map(|server| server.ran.len()).collect();
    assert!(ran.iter().sum::<usize>() == 80 && ran.iter().all(|count| *count >= 10), "{ran:?}");
}

fn a_call_without_a_server_ends_before_its_timeout(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let client = nodes.at_with(0, Setup { response_timeout: Duration::from_secs(3), ..Setup::default() });
    let started = now();
    let result = client.call(&t(), "who", &json!({}), None);
    assert!(
        matches!(result, Err(Failed::NotAnswered(_))),
        "the caller is told in time that nobody is there: {result:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

fn a_cast_is_acknowledged(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let server = Server::start(&*nodes.at(0), &t().at("s"), 1);
    let outcome = nodes.at(0).cast(&t(), "note", &json!(1));
    assert_eq!(server.ran.wait(1), [1]);
    assert_eq!(outcome, SendOutcome::Accepted, "the sender is told that a server has it");
}

fn a_fanout_reports_every_server(driver: Driver) {
    let nodes = DriverCluster::start(driver, 2, &["t"], &[]);
    let servers = servers(&nodes, 2);
    let client = nodes.at(0);
    warm_up(&*client, &t(), &servers);
    let outcome = client.fanout(&t(), "note", &json!(1));
    assert_eq!(outcome, [SendOutcome::Accepted, SendOutcome::Accepted], "the sender is told of every server");
}

fn a_cast_without_a_server_is_reported(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let outcome = nodes.at(0).cast(&t(), "note", &json!(1));
    assert_eq!(outcome, SendOutcome::Failed("NoRoute".to_owned()), "the sender is told that nobody is there");
}

fn a_cast_waits_for_a_server_that_comes_later(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let outcome = nodes.at(0).cast(&t(), "note", &json!(1));
    assert!(!matches!(outcome, SendOutcome::Failed(_)), "{outcome:?}");
    let server = Server::start(&*nodes.at(0), &t().at("s"), 1);
    assert_eq!(server.ran.wait(1), [1]);
}

fn every_reply_arrives(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let _server = Server::start(&*nodes.at(0), &t().at("s"), 2);
    let (response_timeout, help) = (Duration::from_secs(2), Help::default());
    let client = nodes.at_with(0, Setup { response_timeout, help, ..Setup::default() });
    for number in 0..2_000 {
        let result = client.call(&t(), "echo", &json!(number), None);
        assert_eq!(result, Ok(json!(number)), "a reply is lost");
    }
}

fn a_call_that_its_caller_gave_up_never_runs(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let server = Server::start(&*nodes.at(0), &t().at("s"), 1);
    let client = nodes.at_with(0, Setup { response_timeout: Duration::from_millis(500), ..Setup::default() });
    let busy = client.call(&t(), "sleep", &json!({"seconds": 4}), None);
    assert_eq!(busy, Err(Failed::Timeout));
    // The only worker is busy for three seconds more.
    let given_up = client.call(&t(), "note", &json!("given up"), None);
    assert!(given_up.is_err(), "{given_up:?}");
    // When this has run, the messages before it would have run.
    let patient = nodes.at(0);
    eventually("the server is free again", || who_or_nobody(&*patient) == Some("s".to_owned()));
    assert!(!server.ran.all().contains(&json!("given up")), "it runs for nobody");
}

fn who_or_nobody(client: &dyn Messaging) -> Option<String> {
    client.call(&t(), "who", &json!({}), None).ok()?.as_str().map(str::to_owned)
}

/// A server whose handlers wait for a signal before they end.
fn gated(at: &dyn Messaging) -> (NotificationLog<Value>, Sender<()>, Box<dyn Running>) {
    let (open, gate): (Sender<()>, Receiver<()>) = channel();
    let ran: NotificationLog<Value> = NotificationLog::default();
    let (note, gate) = (ran.clone(), std::sync::Mutex::new(gate));
    let handler: Handler = Arc::new(move |_, args| {
        note.add(args.clone());
        // An error means that the gate stays open.
        let _ = gate.lock().unwrap().recv_timeout(PATIENCE);
        Some(Ok(Value::Null))
    });
    (ran, open, at.serve(&t().at("s"), 1, handler))
}

fn a_full_backlog_is_reported(driver: Driver) {
    const SENT: usize = 5_000;
    let nodes = DriverCluster::start(driver, 1, &["t"], &["rpc_zmq_topic_backlog=50"]);
    let client = nodes.at(0);
    let (ran, open, _server) = gated(&*client);
    client.cast(&t(), "note", &json!("first"));
    ran.wait(1);
    // The server stays busy until the backlog has been full: a sender learns it, or all messages
    // are sent and the daemon has logged it. Outcomes of messages in the backlog come when the
    // server is free again.
    let (failed, sent) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let full = std::thread::scope(|scope| {
        for n in 0..100 {
            let (client, failed, sent) = (&client, &failed, &sent);
            scope.spawn(move || {
                for number in n * 50..n * 50 + 50 {
                    if let SendOutcome::Failed(_) = client.cast(&t(), "note", &json!(number)) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let dropped = || nodes.process(0).stderr().contains("dropping message");
        let full = within(PATIENCE, || {
            failed.load(Ordering::Relaxed) > 0 || (sent.load(Ordering::Relaxed) == SENT && dropped())
        });
        drop(open);
        full
    });
    assert!(full, "the backlog was never full");
    let failed = failed.into_inner();
    // This message is the last. The messages before it have run, or never will.
    eventually("the server is free again", || {
        client.cast(&t(), "note", &json!("last"));
        ran.all().contains(&json!("last"))
    });
    let ran = ran.all().iter().filter(|args| args.is_number()).count();
    assert_eq!(ran + failed, SENT, "{} have not run, and nobody was told", SENT - ran - failed);
}

fn exchanges_do_not_mix(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["t"], &[]);
    let node = nodes.at(0);
    let _servers = ["blue", "red"].map(|name| Server::start(&*node, &t().within(name).at(name), 1));
    for name in ["blue", "red", "red", "blue", "blue", "red"] {
        assert_eq!(who(&*node, &t().within(name)), name, "the answer of another exchange");
    }
}

fn topics_do_not_mix(driver: Driver) {
    let nodes = DriverCluster::start(driver, 1, &["apples", "pears"], &[]);
    topics(&nodes, ["apples", "pears"], "the server of a topic does not answer");
}

fn topics_with_dots_do_not_mix(driver: Driver) {
    // The name after the dot is this node's own, so nothing asks the network for a name.
    let mut nodes = DriverCluster::start(driver, 2, &[], &[]);
    let names = [0, 1].map(|n| format!("fruit.{}", nodes.host(n)));
    for name in &names {
        nodes.place(name, &[0]);
    }
    topics(&nodes, [&names[0], &names[1]], "the server of a topic with a dot does not answer");
}

fn topics(nodes: &DriverCluster, names: [&str; 2], otherwise: &str) {
    let node = nodes.at_with(0, Setup { response_timeout: Duration::from_secs(2), ..Setup::default() });
    let _servers = names.map(|name| Server::start(&*node, &To::topic(name).at(name), 1));
    for _ in 0..3 {
        for name in names {
            let answer = node.call(&To::topic(name), "who", &json!({}), None);
            assert_eq!(answer, Ok(name.into()), "{otherwise}: {name}");
        }
    }
}
