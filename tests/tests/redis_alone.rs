//! Proves that nodes start and serve their own clients while Redis cannot be used, and that others
//! are told what is missing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use zmqv2_tests::redis_server::{Redis, free_port, installed};
use zmqv2_tests::{Cluster, Finished, Node, Process, eventually, now, within};

/// How soon the status and the log say what is wrong.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// How much longer than promised a busy machine may take.
const SLACK: Duration = Duration::from_secs(5);

fn at(port: u16) -> Vec<String> {
    ["rpc_zmq_matchmaker=redis", "matchmaker_redis.host=127.0.0.1", "refresh_interval=1"]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("matchmaker_redis.port={port}")])
        .collect()
}

/// Accepts connections at a free port, and lets `serve` handle each.
fn fake(serve: impl Fn(TcpStream) + Send + Sync + Copy + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

/// Answers every command with this line.
fn answer_all(stream: TcpStream, line: &str) {
    let mut commands = BufReader::new(stream.try_clone().unwrap());
    let mut answers = stream;
    let mut text = String::new();
    while commands.read_line(&mut text).is_ok_and(|length| length > 0) {
        // A command begins with the number of its words.
        if text.starts_with('*') && answers.write_all(line.as_bytes()).is_err() {
            return;
        }
        text.clear();
    }
}

/// The line of the status that is about the directory.
fn shown(node: &Node) -> String {
    let status = node.tool(&["status"]).stdout;
    status.lines().find(|line| line.contains("directory redis")).unwrap_or_default().to_owned()
}

fn is_directory(ended: &Finished) {
    assert_eq!(ended.code(), 5, "{ended:?}");
    assert!(ended.stderr.lines().any(|line| line.starts_with("Directory")), "{ended:?}");
}

/// Two nodes with a broker. The first has a server and a listener.
struct Nodes {
    cluster: Cluster,
    brokers: Vec<Process>,
    listener: Process,
    _server: Process,
}

impl Nodes {
    fn start(settings: &[String]) -> Self {
        let cluster = Cluster::with_directory(2, settings);
        let brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
        let server = cluster.node(0).serve("t", "s", &[]);
        let listener = Process::start("listener", &mut cluster.node(0).command("zmqv2", &["listen", "events"])).ready();
        Self { cluster, brokers, listener, _server: server }
    }

    /// What must be true whatever is wrong with Redis. `problem`: what the status says.
    fn check(&self, problem: &str) {
        let (own, other) = (self.cluster.node(0), self.cluster.node(1));
        for arguments in [
            &["call", "t", "echo", "7"][..],
            &["call", "t", "echo", "7", "--server", "s"],
            &["call", "t", "echo", "7", "--wait-for-ready"],
            &["call", "t", "echo", "7", "--timeout", "3"],
        ] {
            let ended = own.tool(arguments);
            assert_eq!((ended.code(), ended.stdout.as_str()), (0, "7\n"), "{arguments:?}: {ended:?}");
        }
        let cast = own.tool(&["cast", "t", "echo", "7"]);
        assert!(cast.code() == 0 && cast.stdout.starts_with("acked by s"), "{cast:?}");
        assert_eq!(own.tool(&["ping", "t"]).code(), 0);
        // The listener gets it, and there may be others.
        let notified = own.tool(&["notify", "events", "e", "--timeout", "6"]);
        assert_eq!(notified.code(), 5, "{notified:?}");
        assert!(notified.stderr.lines().any(|line| line.starts_with("Incomplete")), "{notified:?}");
        assert!(notified.stdout.contains("accepted by pool default"), "{notified:?}");
        assert!(notified.stdout.contains("there may be other pools: "), "{notified:?}");
        self.listener.wait_for_output(1);
        // Nothing is believed to be complete, and nothing is refused for certain.
        is_directory(&own.tool(&["fanout", "t", "echo", "7", "--timeout", "8"]));
        is_directory(&own.tool(&["call", "t", "echo", "7", "--server", "s4", "--timeout", "8"]));
        is_directory(&other.tool(&["call", "t", "echo", "7", "--timeout", "8"]));
        is_directory(&other.tool(&["cast", "t", "echo", "7", "--timeout", "8"]));
        let waited = other.tool(&["call", "t", "echo", "7", "--timeout", "2", "--wait-for-ready"]);
        // At the end of its time, the broker of its own node may be the first to say so.
        if !(waited.code() == 4 && waited.stderr.starts_with("Expired: ")) {
            is_directory(&waited);
        }
        is_directory(&own.tool(&["topics"]));
        let is_shown = || shown(own).contains(problem);
        assert!(within(SHOWN_WITHIN + SLACK, is_shown), "no {problem:?} in {:?}", shown(own));
        let is_logged = |broker: &Process| broker.stderr().contains(problem);
        assert!(within(SLACK, || is_logged(&self.brokers[0])), "not in the log: {}", self.brokers[0].stderr());
    }
}

#[test]
fn nodes_start_and_serve_their_clients_while_redis_is_down_and_others_wait_for_it() {
    if !installed("nodes_start_and_serve_their_clients_while_redis_is_down_and_others_wait_for_it") {
        return;
    }
    // The port is taken by a Redis that is started later.
    let mut redis = Redis::start();
    redis.kill9();
    let nodes = Nodes::start(&at(redis.port()));
    nodes.check("refused");
    // A call of the other node waits until Redis is there.
    let waiting = ["call", "t", "echo", "7", "--wait-for-ready", "--timeout", "25"];
    let waiting = Process::start("a call", &mut nodes.cluster.node(1).command("zmqv2", &waiting));
    redis.restart();
    let back = now();
    assert_eq!(waiting.wait_for_output(1), ["7"]);
    println!("a call that waited was answered {:?} after the start of Redis", back.elapsed());
    // From now on everything is registered.
    let ended = nodes.cluster.node(1).tool(&["call", "t", "echo", "7", "--server", "s"]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    eventually("the status no longer says that it is down", || !shown(nodes.cluster.node(0)).contains("refused"));
}

#[test]
fn nodes_start_and_serve_their_clients_while_redis_is_mute() {
    let port = fake(|mut stream| while stream.read(&mut [0; 512]).is_ok_and(|length| length > 0) {});
    Nodes::start(&at(port)).check("no answer");
}

#[test]
fn nodes_start_and_serve_their_clients_while_redis_is_loading() {
    let port = fake(|stream| answer_all(stream, "-LOADING Redis is loading the dataset in memory\r\n"));
    Nodes::start(&at(port)).check("loading");
}

#[test]
fn nodes_start_and_serve_their_clients_while_redis_has_no_room_for_connections() {
    let port = fake(|mut stream| {
        let _ = stream.write_all(b"-ERR max number of clients reached\r\n");
    });
    Nodes::start(&at(port)).check("maxclients");
}

#[test]
fn nodes_start_and_serve_their_clients_while_redis_refuses_the_password() {
    if !installed("nodes_start_and_serve_their_clients_while_redis_refuses_the_password") {
        return;
    }
    let redis = Redis::start_with(&["--requirepass", "open sesame"]);
    let settings = [at(redis.port()), vec!["matchmaker_redis.password=sesame".to_owned()]].concat();
    let nodes = Nodes::start(&settings);
    nodes.check("user and password in [matchmaker_redis]");
    assert!(!nodes.brokers[0].stderr().contains("sesame"), "{}", nodes.brokers[0].stderr());
}

#[test]
fn an_option_that_is_certainly_wrong_ends_the_program() {
    let url = |url: &str| vec![format!("transport_url={url}")];
    let port = free_port();
    for (settings, word) in [
        (url("zmqv2+redis://a b:1"), "transport_url"),
        (url("zmqv2+mongo://a:1"), "transport_url"),
        ([at(port), vec!["matchmaker_redis.host=a b".to_owned()]].concat(), "host"),
        ([at(port), vec!["matchmaker_redis.user=me".to_owned()]].concat(), "correct user or password"),
        ([at(port), vec!["tls=true".to_owned(), "tls_ca_file=/nowhere/ca.pem".to_owned()]].concat(), "tls_ca_file"),
    ] {
        let cluster = Cluster::with_directory(1, &settings);
        for arguments in [&["broker"][..], &["broker", "--check-config"], &["call", "t", "echo"], &["topics"]] {
            let ended = cluster.node(0).tool(arguments);
            assert_eq!(ended.code(), 2, "{arguments:?} with {settings:?}: {ended:?}");
            assert!(ended.stderr.contains(word), "no {word:?} in {ended:?}");
        }
    }
    // Without asking Redis, which is not there.
    let cluster = Cluster::with_directory(1, &at(port));
    assert_eq!(cluster.node(0).tool(&["broker", "--check-config"]).code(), 0);
}
