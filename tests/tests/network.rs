//! Proves where brokers listen and how clients find them: IPv6, every interface, rings that change,
//! the node's own socket.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Map, Value, json};
use zmqv2_client::{CallError, RpcClient};
use zmqv2_proto::transport::{Frame, Received, Role, Transport, TransportOptions};
use zmqv2_proto::{Address, Header, Kind, MessageId, Reason, RequestContext, Target, Ttl};
use zmqv2_tests::kernel::tcp_connections_to;
use zmqv2_tests::{Cluster, Node, PATIENCE, Process, eventually, in_namespaces, now, skip};

/// Writes a ring with `topic` on `nodes`.
fn ring(topic: &str, nodes: &[&str]) -> Map<String, Value> {
    [(topic.to_owned(), json!(nodes))].into_iter().collect()
}

fn demo() -> Target {
    Target::topic("demo").unwrap()
}

fn echo(client: &RpcClient) -> Result<String, CallError> {
    let prepared = client.prepare().timeout(Duration::from_secs(10));
    prepared.call_detailed::<u64>(&RequestContext::new(), "echo", &7).map(|answered| {
        assert_eq!(answered.value, 7);
        answered.server.to_string()
    })
}

/// The port in the `ready` line of a broker.
fn port_of(broker: &Process) -> u16 {
    let line = broker.wait_for_line("ready");
    let address = line.split(", directory").next().unwrap_or_default();
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_else(|| panic!("no port in {line:?}"))
}

/// A broker at a port that it picks, which the ring need not name yet.
fn broker_anywhere(cluster: &Cluster, node: &Node, address: &str) -> (Process, u16) {
    cluster.write_ring(ring("demo", &[&format!("{}:1", node.host)]));
    let bind = format!("rpc_zmq_bind_address={address}");
    let broker = node.broker_with(&["--port", "0", "--set", &bind]);
    let port = port_of(&broker);
    (broker, port)
}

#[test]
fn ipv6_works_from_bind_to_reply_rg41() {
    if TcpListener::bind("[::1]:0").is_err() {
        return skip("ipv6_works_from_bind_to_reply_rg41", "this machine has no IPv6 loopback");
    }
    let cluster = Cluster::new(2, &["demo"]);
    let (near, far) = (cluster.node(0), cluster.node(1));
    let (broker, port) = broker_anywhere(&cluster, far, "::1");
    assert!(broker.wait_for_line("ready").contains(&format!("listens at tcp://[::1]:{port}")));
    assert!(TcpStream::connect((far.host.as_str(), port)).is_err(), "the bind address was ignored");
    let _server = far.serve("demo", "s1", &[]);
    let entry = format!("[::1]:{port}");
    cluster.write_ring(ring("demo", &[&entry]));
    let answer = near.tool(&["call", "demo", "echo", "7", "--verbose"]);
    assert_eq!((answer.code(), answer.stdout.as_str()), (0, "7\n"), "{answer:?}");
    let client = near.client(demo());
    assert_eq!(echo(&client).unwrap(), "s1");
    drop(broker);
    let finished = near.tool(&["call", "demo", "echo", "--timeout", "0.3"]);
    assert_eq!(finished.code(), 5);
    assert!(finished.stderr.contains(&format!("tcp://[::1]:{port}")), "{}", finished.stderr);
}

#[test]
fn a_star_binds_every_interface() {
    let cluster = Cluster::new(2, &["demo"]);
    let (near, far) = (cluster.node(0), cluster.node(1));
    let (_broker, port) = broker_anywhere(&cluster, far, "*");
    let _server = far.serve("demo", "s1", &[]);
    let mut addresses = vec![format!("{}:{port}", far.host), format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    if TcpListener::bind("[::1]:0").is_ok() {
        addresses.push(format!("[::1]:{port}"));
    }
    for address in &addresses {
        cluster.write_ring(ring("demo", &[address]));
        let answer = near.tool(&["call", "demo", "echo", "7"]);
        assert_eq!((answer.code(), answer.stdout.as_str()), (0, "7\n"), "{address}: {answer:?}");
    }
}

#[test]
fn a_host_name_is_an_address_to_bind() {
    let cluster = Cluster::new(1, &["demo"]);
    let (_broker, port) = broker_anywhere(&cluster, cluster.node(0), "localhost");
    TcpStream::connect(("localhost", port)).expect("it listens there");
    assert!(TcpStream::connect((cluster.node(0).host.as_str(), port)).is_err(), "and nowhere else");
}

#[test]
fn an_interface_is_an_address_to_bind_rg41() {
    let cluster = Cluster::new(1, &["demo"]);
    let (_broker, port) = broker_anywhere(&cluster, cluster.node(0), "lo");
    TcpStream::connect(("127.0.0.1", port)).expect("it listens there");
    assert!(TcpStream::connect((cluster.node(0).host.as_str(), port)).is_err(), "and nowhere else");
}

#[test]
fn a_link_local_address_with_a_zone_works_from_bind_to_reply_rg41() {
    // The ring of the second node names the first by its zone, which is an interface of the client.
    let script = r#"
        ip link set lo up; ip -6 addr add fe80::1/64 dev lo nodad
        mkdir /run/a /run/b; echo '{"demo": ["[fe80::1%lo]:9501"]}' >/run/ring
        R="--set rpc_zmq_matchmaker=ring --set ringfile=/run/ring"
        "$B" $R --ipc-dir /run/a --host a --bind 'fe80::1%lo' 2>/run/log & broker=$!
        until grep -q ^ready /run/log; do kill -0 $broker || { cat /run/log; exit 1; }; sleep 0.01; done
        "$Z" serve demo $R --ipc-dir /run/a --host a 2>/run/served & serve=$!
        until grep -q ^ready /run/served; do kill -0 $serve; sleep 0.01; done
        "$Z" call demo echo 7 $R --ipc-dir /run/b --host b
    "#;
    let Some(mut command) = in_namespaces(script) else {
        return skip("a_link_local_address_with_a_zone_works_from_bind_to_reply_rg41", "no namespaces (unshare) here");
    };
    let probe = in_namespaces("ip link set lo up; ip -6 addr add fe80::1/64 dev lo nodad");
    if !probe.is_some_and(|mut probe| probe.output().is_ok_and(|output| output.status.success())) {
        return skip("a_link_local_address_with_a_zone_works_from_bind_to_reply_rg41", "no IPv6 or no ip(8) here");
    }
    let finished = Process::run(&mut command);
    assert_eq!((finished.code(), finished.stdout.as_str()), (0, "7\n"), "{finished:?}");
}

#[test]
fn a_new_node_is_found_without_a_restart_rg18() {
    let cluster = Cluster::new(3, &["demo"]);
    let [near, one, two] = [0, 1, 2].map(|n| cluster.node(n));
    let _brokers = [one.broker(), two.broker()];
    let _servers = [one.serve("demo", "s1", &[]), two.serve("demo", "s2", &[])];
    cluster.write_ring(ring("demo", &[&one.host]));
    let client = near.client(demo());
    for _ in 0..6 {
        assert_eq!(echo(&client).unwrap(), "s1");
    }
    cluster.write_ring(ring("demo", &[&one.host, &two.host]));
    eventually("the new node gets calls", || echo(&client).unwrap() == "s2");
    cluster.write_ring(ring("demo", &[&two.host]));
    let mut row = 0;
    eventually("the node that was taken out gets no calls", || {
        row = if echo(&client).unwrap() == "s2" { row + 1 } else { 0 };
        row == 6
    });
}

#[test]
fn a_broken_edit_keeps_the_last_good_ring_and_says_so() {
    let cluster = Cluster::new(2, &["demo"]);
    let (near, far) = (cluster.node(0), cluster.node(1));
    cluster.write_ring(ring("demo", &[&far.host]));
    // Each renewal reads the ring, so the broker logs it soon.
    let broker = far.broker_with(&["--set", "matchmaker_heartbeat_freq=0.2"]);
    let _server = far.serve("demo", "s1", &[]);
    let client = near.client(demo());
    assert_eq!(echo(&client).unwrap(), "s1");

    cluster.write_ring_text("{\"demo\": [");
    let started = now();
    eventually("the broken file is complained about", || {
        assert_eq!(echo(&client).unwrap(), "s1", "the last good ring answers");
        broker.stderr().contains("the last good ring stays in use") && started.elapsed() > Duration::from_secs(2)
    });
    // A busy machine may make the broker warn of other things.
    let is_about_it = |line: &&str| line.contains("WARN") && line.contains("last good ring");
    let complaints: Vec<_> = broker.stderr().lines().filter(is_about_it).map(str::to_owned).collect();
    assert_eq!(complaints.len(), 1, "once, not at every look: {complaints:?}");
    assert!(complaints[0].contains("ring.json, line 1, column"), "{complaints:?}");
    // A new process has no earlier valid ring.
    let finished = near.tool(&["call", "demo", "echo"]);
    assert_eq!(finished.code(), 2, "{finished:?}");
    assert!(finished.stderr.contains("ring.json, line 1, column"), "{}", finished.stderr);
    cluster.write_ring(ring("demo", &[]));
    let no_route =
        |result| matches!(result, Err(CallError::Refused { refusal, .. }) if refusal.reason == Reason::NoRoute);
    eventually("the mended ring is used", || no_route(echo(&client)));
}

#[test]
fn a_client_reaches_its_own_node_over_the_local_socket() {
    let cluster = Cluster::new(2, &["demo"]);
    let (near, far) = (cluster.node(0), cluster.node(1));
    let _broker = far.broker();
    let _server = far.serve("demo", "s1", &[]);
    cluster.write_ring(ring("demo", &[&far.host]));
    let tcp: SocketAddr = format!("{}:9501", far.host).parse().unwrap();
    let own = far.client(demo());
    for _ in 0..20 {
        assert_eq!(echo(&own).unwrap(), "s1");
    }
    assert_eq!(tcp_connections_to(tcp), 0, "a call inside a node went over TCP");
    // The same count shows a client of another node.
    let other = near.client(demo());
    for _ in 0..20 {
        assert_eq!(echo(&other).unwrap(), "s1");
    }
    assert_eq!(tcp_connections_to(tcp), 1, "one caller at a time needs one connection, and keeps it");
    drop((own, other));
}

#[test]
fn a_broker_that_comes_back_on_another_port_is_found_rg31() {
    let cluster = Cluster::new(2, &["demo"]);
    let (near, far) = (cluster.node(0), cluster.node(1));
    let (mut broker, first) = broker_anywhere(&cluster, far, &far.host);
    let _server = far.serve("demo", "s1", &[]);
    let entry = |port: u16| format!("{}:{port}", far.host);
    cluster.write_ring(ring("demo", &[&entry(first)]));
    let client = near.client(demo());
    assert_eq!(echo(&client).unwrap(), "s1");

    broker.kill9();
    // Another process has the old port now, and never answers.
    let _squatter = TcpListener::bind((far.host.as_str(), first)).expect("the port is free again");
    let (_broker, second) = broker_anywhere(&cluster, far, &far.host);
    assert_ne!(first, second);
    cluster.write_ring(ring("demo", &[&entry(second)]));
    eventually("calls work again", || echo(&client).is_ok());
}

#[test]
fn another_protocol_version_is_refused_and_both_versions_are_named_rg37() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let _server = node.serve("demo", "s1", &[]);
    let transport = Transport::new(TransportOptions::default());
    let mut socket = transport.socket(Role::Req).unwrap();
    socket.connect(&Address::Tcp(node.host.parse().unwrap())).unwrap();
    let mut header = Header::new(Kind::Call, MessageId::random());
    header.key = Some(demo().key());
    header.ttl = Ttl::from(Duration::from_secs(5));
    let mut newer = header.encode();
    newer[2] = 2;
    let (mut sent, mut frames) = (false, Vec::new());
    let end_at = now() + PATIENCE;
    while socket.receive(&mut frames).unwrap() == Received::Nothing {
        if !sent && socket.readiness().unwrap().writable {
            socket.send([Frame::from(newer.clone()), Frame::from(&b"{}"[..])]).unwrap();
            sent = true;
        }
        assert!(now() < end_at, "no answer");
        if !socket.readiness().unwrap().readable {
            socket.wait(Some(Duration::from_millis(100)), None).unwrap();
        }
    }
    let answer = Header::decode(&frames[0]).unwrap();
    assert_eq!((answer.kind, answer.reason), (Kind::Refusal, Some(Reason::Malformed)));
    let detail = String::from_utf8_lossy(&frames[1]).into_owned();
    assert!(detail.contains("version 2") && detail.contains("version 1"), "{detail}");
    assert_eq!(node.status().counters["refused_malformed"], 1);
}
